//! The cheapest way to see whether the line is back: one datagram.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::Duration;

use hickory_proto::rr::Name;

use super::message::{Answer, Question, gather};
use super::plain::{Datagrams, socket_to};
use super::{Resolver, host_name, key};
use crate::clock;
use crate::net::deadline::within;
use crate::net::rung::Kind;

/// Wait for the answer. Asked every few seconds, a lost datagram does not matter.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

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
            gather(&question, &mut Datagrams(&socket)).await.answer.ok()
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
