//! The cheapest way to see whether the line is back: one datagram, on a socket of its own. Hickory
//! would send more of them, and one for each family.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::Ordering;
use std::time::Duration;

use hickory_resolver::proto::rr::Name;
use smol::Async;

use super::message::{Answer, Question, Source, gather};
use super::{Resolver, host_name, key};
use crate::clock;
use crate::net::deadline::within;
use crate::net::rung::Kind;

/// Wait for the answer. Asked every few seconds, a lost datagram does not matter.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest datagram that is read, in bytes. Without EDNS, which cheap routers trip over, a server
/// sends no more than 512.
const MAX_DATAGRAM_BYTES: usize = 1500;

impl Resolver {
    /// Whether a plain DNS server, and which, gives an address of `host` that can be: exactly one
    /// datagram, to the system's and the public servers in turn. Costs next to nothing, changes
    /// nothing in what is thought of the server, and asks for an IPv4 address only.
    ///
    /// `None` if the settings allow no plain DNS, or `host` is no name.
    pub async fn probe(&self, host: &str) -> Option<(SocketAddr, bool)> {
        let name = host_name(host).ok().filter(|_| host.parse::<IpAddr>().is_err())?;
        let server = self.next_plain_server()?;
        Some((server, self.answers(server, host, &name).await))
    }

    async fn answers(&self, server: SocketAddr, host: &str, name: &Name) -> bool {
        let question = Question::new(name);
        let [message, _] = question.messages();
        let answer = async {
            let socket = socket_to(server).ok()?;
            socket.send(&message).await.ok()?;
            gather(&question, &mut Datagrams(&socket)).await.ok()
        };
        let Some(Some(Answer::Addresses { addresses, .. })) = within(PROBE_TIMEOUT, Box::pin(answer)).await
        else {
            return false;
        };
        let mut state = self.state();
        let known = state.known.host(&key(host));
        let now = clock::now();
        addresses.iter().any(|ip| self.shared.is_acceptable(*ip) && !known.is_disproved(*ip, now))
    }

    fn next_plain_server(&self) -> Option<SocketAddr> {
        let state = self.current();
        let of = |kind| -> Vec<SocketAddr> {
            state.rungs.iter().filter(|rung| rung.id.kind == kind).map(|rung| rung.id.server).collect()
        };
        let (system, public) = (of(Kind::System), of(Kind::Public));
        let turn = self.shared.probes.fetch_add(1, Ordering::Relaxed);
        let (first, second) = if turn.is_multiple_of(2) { (system, public) } else { (public, system) };
        let servers = if first.is_empty() { second } else { first };
        servers.get((turn / 2).checked_rem(servers.len())?).copied()
    }
}

/// A socket on a port that nobody can guess, which takes datagrams of `server` only.
fn socket_to(server: SocketAddr) -> io::Result<Async<UdpSocket>> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    Async::new(socket)
}

struct Datagrams<'a>(&'a Async<UdpSocket>);

impl Source for Datagrams<'_> {
    async fn next(&mut self) -> Result<Vec<u8>, String> {
        let mut buffer = [0; MAX_DATAGRAM_BYTES];
        let length = self.0.recv(&mut buffer).await.map_err(|error| error.to_string())?;
        Ok(buffer[..length].to_vec())
    }
}
