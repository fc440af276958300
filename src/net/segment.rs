//! Lines on which large packets vanish: how that is overcome, and for how long it is remembered.
//!
//! Between a modem that wraps packets (PPPoE) and a firewall that drops ICMP, packets above some size are
//! lost and nobody is told (RFC 2923 §2.1). TCP connects and the ClientHello arrives, and the server's
//! certificates, which fill whole packets, never come. What the server sends is bound by the segment size
//! that the SYN announces, so this must be set before connecting: afterwards the kernel takes it and does
//! nothing. It binds what is sent from here too.

use std::io;
use std::net::{SocketAddr, TcpStream as StdTcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use smol::Async;
use smol::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};

/// A small segment, in bytes: with the headers of TCP and IPv6 it fits into 1,280 bytes, which every line
/// with IPv6 must carry (RFC 8200 §5), and which no usual tunnel undercuts.
const SMALL_BYTES: u32 = 1200;

/// A handshake that has been silent for so long may be one whose large packets vanish; three round trips
/// and a computation take a second on a slow line.
pub const SILENT_AFTER: Duration = Duration::from_millis(2500);

/// How long every connection begins with small segments once they alone got through. Each costs a few
/// bytes more; finding it out anew costs [`SILENT_AFTER`].
const REMEMBERED_FOR: Duration = Duration::from_secs(60 * 60);

/// How large the segments of a connection may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// As the interface allows.
    Usual,
    Small,
}

/// Whether large packets vanish here, as far as is known; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Segments(Arc<Mutex<Option<Instant>>>);

impl Segments {
    /// How a connection begins at `now`.
    pub fn size(&self, now: Instant) -> Size {
        let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if until.is_some_and(|until| now < until) { Size::Small } else { Size::Usual }
    }

    /// Large packets seem to vanish: `what` says why, to follow "large packets seem to vanish on this line".
    pub fn large_vanish(&self, what: &str, now: Instant) {
        let before = self.size(now);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(now + REMEMBERED_FOR);
        if before == Size::Usual {
            log::warn!(
                "net: large packets seem to vanish on this line ({what}); connections use small ones for {} \
                 minutes. Set the MTU of the modem (WAN, PPPoE) to 1400",
                REMEMBERED_FOR.as_secs() / 60
            );
        }
    }

    /// A large request was never answered, which has likelier causes; small segments can do no harm.
    pub fn large_may_vanish(&self, now: Instant) {
        crate::logging::debug!(
            "net: a large request was never answered; connections use small packets for a while"
        );
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(now + REMEMBERED_FOR);
    }

    /// Another network.
    pub fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Connects to `address` with such segments. Sets no limit.
pub async fn connect(address: SocketAddr, size: Size) -> io::Result<TcpStream> {
    if size == Size::Usual {
        return TcpStream::connect(address).await;
    }
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    socket.set_tcp_mss(SMALL_BYTES)?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => return Err(error),
        _ => {}
    }
    let stream = Async::new(StdTcpStream::from(socket))?;
    stream.writable().await?;
    match stream.get_ref().take_error()? {
        Some(error) => Err(error),
        None => Ok(stream.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn what_was_found_out_holds_for_an_hour_on_this_network() {
        let (segments, now) = (Segments::default(), clock::now());
        assert_eq!(segments.size(now), Size::Usual);
        segments.clone().large_vanish("a test", now);
        assert_eq!(segments.size(now + REMEMBERED_FOR / 2), Size::Small);
        assert_eq!(segments.size(now + REMEMBERED_FOR), Size::Usual);
        segments.forget();
        assert_eq!(segments.size(now), Size::Usual);
        segments.large_may_vanish(now);
        assert_eq!(segments.size(now), Size::Small);
    }

    /// What the kernel has made of it, on the loopback interface with its packets of 64 KiB.
    #[test]
    fn a_connection_with_small_segments_says_so_in_its_first_packet() {
        smol::block_on(async {
            for listen in ["127.0.0.1:0", "[::1]:0"] {
                let listener = smol::net::TcpListener::bind(listen).await.unwrap();
                let address = listener.local_addr().unwrap();
                for (size, small) in [(Size::Small, true), (Size::Usual, false)] {
                    let here = connect(address, size).await.unwrap();
                    let (there, _) = listener.accept().await.unwrap();
                    for end in [&here, &there] {
                        let bytes = socket2::SockRef::from(end).tcp_mss().unwrap();
                        assert_eq!(bytes <= SMALL_BYTES, small, "{bytes} at {listen}");
                    }
                }
            }
        });
    }

    #[test]
    fn a_refusal_is_an_error_with_small_segments_too() {
        smol::block_on(async {
            let listener = smol::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            drop(listener);
            let error = connect(address, Size::Small).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        });
    }
}
