//! DNS over UDP, and over TCP where UDP does not do (RFC 7766).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use futures_lite::future::{or, pending};
use smol::Async;
use smol::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use smol::net::TcpStream;

use super::message::{Answer, Gathered, Question, Source, gather};
use crate::clock;
use crate::net::in_flight::{InFlight, Next};

/// The datagrams are sent again after these waits; one in ten is lost on a bad mobile line.
const REPEAT_AFTER: [Duration; 2] = [Duration::from_millis(1000), Duration::from_millis(1500)];

/// TCP is tried beside UDP once that has been silent for so long: some networks let only TCP pass.
const TCP_AFTER: Duration = Duration::from_secs(2);

/// Longest datagram that is read, in bytes. Without EDNS, which cheap routers trip over, a server
/// sends no more than 512.
const MAX_DATAGRAM_BYTES: usize = 1500;

/// Ranks of the two ways.
const UDP: usize = 0;
const TCP: usize = 1;

/// No limit of its own: whoever asks has one, which is shorter.
const LONG: Duration = Duration::from_secs(60);

/// Asks `server`. Whoever calls sets the limit.
pub(super) async fn ask(server: SocketAddr, question: &Question) -> Result<Answer, String> {
    let mut ways = InFlight::new();
    ways.add(UDP, over_udp(server, question));
    let mut tcp_tried = false;
    let mut failures: Vec<(&str, String)> = Vec::new();
    // An answer that was cut short: better than none.
    let mut short = None;
    loop {
        match ways.next(if tcp_tried { LONG } else { TCP_AFTER }).await {
            Next::Done(UDP, Gathered { answer, truncated: true }) => {
                failures.push(("UDP", "gave a part of the answer only".into()));
                short = answer.ok().filter(|answer| matches!(answer, Answer::Addresses { .. }));
            }
            Next::Done(_, Gathered { answer: Ok(answer), .. }) => return Ok(answer),
            Next::Done(way, Gathered { answer: Err(reason), .. }) => {
                failures.push((if way == UDP { "UDP" } else { "TCP" }, reason));
            }
            Next::Time => {}
        }
        if !tcp_tried {
            tcp_tried = true;
            ways.add(TCP, over_tcp(server, question));
        } else if ways.is_empty() {
            return short.ok_or_else(|| together(&failures));
        }
    }
}

/// The reasons, each once, to follow the server's name.
fn together(failures: &[(&str, String)]) -> String {
    match failures {
        [(_, reason), rest @ ..] if rest.iter().all(|(_, other)| other == reason) => reason.clone(),
        _ => failures
            .iter()
            .map(|(way, reason)| format!("{reason} over {way}"))
            .collect::<Vec<_>>()
            .join(" and "),
    }
}

async fn over_udp(server: SocketAddr, question: &Question) -> Gathered {
    let socket = match socket_to(server) {
        Ok(socket) => socket,
        Err(error) => return failed(unreachable(&error)),
    };
    let messages = question.messages();
    let send = async {
        for message in &messages {
            socket.send(message).await?;
        }
        io::Result::Ok(())
    };
    if let Err(error) = send.await {
        return failed(unreachable(&error));
    }
    let repeat = async {
        for wait in REPEAT_AFTER {
            clock::sleep(wait).await;
            for message in &messages {
                // A real failure shows when the answer is read.
                let _ = socket.send(message).await;
            }
        }
        pending().await
    };
    or(gather(question, &mut Datagrams(&socket)), repeat).await
}

/// A socket on a port that nobody can guess, which takes datagrams of `server` only.
pub(super) fn socket_to(server: SocketAddr) -> io::Result<Async<UdpSocket>> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    Async::new(socket)
}

pub(super) struct Datagrams<'a>(pub(super) &'a Async<UdpSocket>);

impl Source for Datagrams<'_> {
    async fn next(&mut self) -> Result<Vec<u8>, String> {
        let mut buffer = [0; MAX_DATAGRAM_BYTES];
        let length = self.0.recv(&mut buffer).await.map_err(|error| unreachable(&error))?;
        Ok(buffer[..length].to_vec())
    }
}

async fn over_tcp(server: SocketAddr, question: &Question) -> Gathered {
    match TcpStream::connect(server).await {
        Ok(stream) => over_stream(stream, question).await,
        Err(error) => failed(unreachable(&error)),
    }
}

/// Asks over a stream, where each message follows its length.
pub(super) async fn over_stream(
    mut stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    question: &Question,
) -> Gathered {
    let mut bytes = Vec::new();
    for message in question.messages() {
        // A question has some 300 bytes at most.
        bytes.extend_from_slice(&u16::try_from(message.len()).unwrap_or_default().to_be_bytes());
        bytes.extend_from_slice(&message);
    }
    let sent = async {
        stream.write_all(&bytes).await?;
        stream.flush().await
    };
    match sent.await {
        // What the stream carries is never cut short, whatever the message says.
        Ok(()) => Gathered { truncated: false, ..gather(question, &mut Lengths(stream)).await },
        Err(error) => failed(broken_off(&error)),
    }
}

struct Lengths<S>(S);

impl<S: AsyncRead + Unpin + Send> Source for Lengths<S> {
    async fn next(&mut self) -> Result<Vec<u8>, String> {
        let mut length = [0; 2];
        self.0.read_exact(&mut length).await.map_err(|error| broken_off(&error))?;
        let mut message = vec![0; u16::from_be_bytes(length).into()];
        self.0.read_exact(&mut message).await.map_err(|error| broken_off(&error))?;
        Ok(message)
    }
}

pub(super) fn unreachable(error: &io::Error) -> String {
    format!("could not be reached ({error})")
}

pub(super) fn broken_off(error: &io::Error) -> String {
    format!("broke off ({error})")
}

fn failed(reason: String) -> Gathered {
    Gathered { answer: Err(reason), truncated: false }
}
