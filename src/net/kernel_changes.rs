//! What the kernel says about the network (rtnetlink(7)): links that come up, addresses that come
//! and go, a new default route. So the line's return is noticed when it happens, and a connection
//! whose address is gone is not waited for.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
use smol::Async;

/// Multicast groups (linux/rtnetlink.h): links, IPv4 and IPv6 addresses, IPv4 and IPv6 routes.
const GROUPS: u32 = 0x1 | 0x10 | 0x100 | 0x40 | 0x400;

/// Longest datagram that is read, in bytes; the kernel fills at most 32 KiB, and cuts what is longer
/// at a message's end only for dumps, which are not asked for. One change has some hundred bytes.
const DATAGRAM_BYTES: usize = 8 * 1024;

/// Links whose state is remembered; a box has two or three.
const MAX_LINKS: usize = 64;

/// Something that concerns connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A link came up, an address or a default route is new: what failed before may work now.
    Better,
    /// This address is no longer ours.
    AddressGone(IpAddr),
}

/// Listens for changes.
pub struct KernelChanges {
    socket: Async<OwnedFd>,
    links: Links,
    buffer: Box<[u8; DATAGRAM_BYTES]>,
    waiting: Vec<Change>,
}

impl KernelChanges {
    /// # Errors
    /// When the kernel gives no such socket (a sandbox without `AF_NETLINK`). Without it the line's
    /// return is noticed a little later, by the DNS probe.
    pub fn listen() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // No protocol means NETLINK_ROUTE.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
        Ok(Self {
            socket: Async::new_nonblocking(socket)?,
            links: Links::default(),
            buffer: Box::new([0; DATAGRAM_BYTES]),
            waiting: Vec::new(),
        })
    }

    /// The next change.
    pub async fn next(&mut self) -> io::Result<Change> {
        loop {
            if let Some(change) = self.waiting.pop() {
                return Ok(change);
            }
            let buffer = &mut self.buffer[..];
            let read = loop {
                match recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
                    Ok((read, _)) => break read,
                    Err(Errno::AGAIN) => self.socket.readable().await?,
                    Err(Errno::INTR) => {}
                    // So much happened that something was dropped.
                    Err(Errno::NOBUFS) => return Ok(Change::Better),
                    Err(error) => return Err(error.into()),
                }
            };
            self.waiting = changes(&buffer[..read], &mut self.links);
            self.waiting.reverse();
        }
    }
}

/// Which links carry a signal.
#[derive(Debug, Default)]
struct Links(HashMap<i32, bool>);

impl Links {
    /// Whether link `index` has come up since it was heard of last. The first word of a link is no
    /// change: the kernel repeats the state of a link whenever anything about it changes.
    fn came_up(&mut self, index: i32, running: bool) -> bool {
        if self.0.len() >= MAX_LINKS && !self.0.contains_key(&index) {
            self.0.clear();
        }
        self.0.insert(index, running) == Some(false) && running
    }
}

// linux/rtnetlink.h, linux/if.h, linux/if_addr.h
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const IFF_LOOPBACK: u32 = 0x8;
const IFF_RUNNING: u32 = 0x40;
const RT_SCOPE_LINK: u8 = 253;
const RTN_UNICAST: u8 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const HEADER_BYTES: usize = 16;

/// The changes in one datagram. What cannot be read is skipped.
fn changes(datagram: &[u8], links: &mut Links) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut rest = datagram;
    while let (Some(length), Some(kind)) = (u32_at(rest, 0), u16_at(rest, 4)) {
        let length = length as usize;
        let Some(body) = rest.get(HEADER_BYTES..length) else { break };
        changes.extend(change(kind, body, links));
        // Messages are aligned to four bytes.
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    changes
}

fn change(kind: u16, body: &[u8], links: &mut Links) -> Option<Change> {
    match kind {
        RTM_NEWLINK => {
            let (index, flags) = (u32_at(body, 4)?, u32_at(body, 8)?);
            let came_up = links.came_up(index.cast_signed(), flags & IFF_RUNNING != 0);
            (came_up && flags & IFF_LOOPBACK == 0).then_some(Change::Better)
        }
        // Addresses of the link or the host itself lead nowhere.
        RTM_NEWADDR => (*body.get(3)? < RT_SCOPE_LINK).then_some(Change::Better),
        RTM_DELADDR => address(body).map(Change::AddressGone),
        RTM_NEWROUTE => (*body.get(1)? == 0 && *body.get(7)? == RTN_UNICAST).then_some(Change::Better),
        _ => None,
    }
}

/// The address of an `ifaddrmsg`: the local one if both ends of a point-to-point link are named.
fn address(body: &[u8]) -> Option<IpAddr> {
    let mut rest = body.get(8..)?;
    let mut found = None;
    while let (Some(length), Some(kind)) = (u16_at(rest, 0), u16_at(rest, 2)) {
        let value = rest.get(4..usize::from(length))?;
        match kind {
            IFA_LOCAL => return ip(value),
            IFA_ADDRESS => found = ip(value),
            _ => {}
        }
        rest = rest.get(usize::from(length).next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
        _ => None,
    }
}

/// Netlink speaks in the machine's own byte order.
fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER_BYTES + body.len()).unwrap();
        let mut message = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 10], body].concat();
        message.resize(message.len().next_multiple_of(4), 0);
        message
    }

    fn link(index: u32, flags: u32) -> Vec<u8> {
        let body = [&[0; 4][..], &index.to_ne_bytes(), &flags.to_ne_bytes(), &[0; 4]].concat();
        message(RTM_NEWLINK, &body)
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).unwrap();
        [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat()
    }

    fn address(kind: u16, scope: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
        message(kind, &[&[2, 24, 0, scope, 1, 0, 0, 0][..], &attributes.concat()].concat())
    }

    fn read(datagrams: &[Vec<u8>]) -> Vec<Change> {
        let mut links = Links::default();
        datagrams.iter().flat_map(|datagram| changes(datagram, &mut links)).collect()
    }

    #[test]
    fn a_link_that_comes_up_is_better_and_one_that_stays_up_is_nothing() {
        let (down, up) = (link(2, 1), link(2, 1 | IFF_RUNNING));
        assert_eq!(read(std::slice::from_ref(&up)), []);
        assert_eq!(read(&[up.clone(), down.clone(), up.clone(), up]), [Change::Better]);
        let (down, up) = (link(1, 9), link(1, 9 | IFF_RUNNING));
        assert_eq!(read(&[down, up]), [], "the loopback leads nowhere");
    }

    #[test]
    fn addresses_come_and_go() {
        let ours = attribute(IFA_LOCAL, &[192, 168, 1, 2]);
        let peer = attribute(IFA_ADDRESS, &[192, 168, 1, 1]);
        let gone = address(RTM_DELADDR, 0, &[peer, ours.clone()]);
        let new = address(RTM_NEWADDR, 0, std::slice::from_ref(&ours));
        let both = [gone, new].concat();
        assert_eq!(read(&[both]), [Change::AddressGone([192, 168, 1, 2].into()), Change::Better]);
        assert_eq!(read(&[address(RTM_NEWADDR, RT_SCOPE_LINK, &[ours])]), []);
    }

    #[test]
    fn only_a_default_route_counts() {
        let route = |bits: u8, kind: u8| message(RTM_NEWROUTE, &[2, bits, 0, 0, 254, 4, 0, kind, 0, 0, 0, 0]);
        assert_eq!(read(&[route(24, RTN_UNICAST)]), []);
        assert_eq!(read(&[route(0, 6)]), [], "a blackhole is no way out");
        assert_eq!(read(&[route(0, RTN_UNICAST)]), [Change::Better]);
    }

    #[test]
    fn the_kernel_gives_us_a_socket() {
        KernelChanges::listen().expect("AF_NETLINK");
    }

    proptest! {
        #[test]
        fn no_datagram_panics_or_hangs(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 14u16..30) {
            changes(&bytes, &mut Links::default());
            changes(&message(kind, &bytes), &mut Links::default());
        }
    }
}
