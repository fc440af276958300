//! DNS over HTTPS (RFC 8484), to servers that are known by their address. Hickory's own needs tokio.
//!
//! The certificate must be valid for the address: so whoever answers is who was asked, which no
//! rung of plain DNS can say. Connections are not kept: the bot asks for a name a few times a day.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_rustls::rustls::ClientConfig;
use hickory_resolver::proto::rr::Name;
use smol::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use super::http_response::{Response, parse};
use super::message::{Answer, Question, Source, gather};
use crate::net::dns_runtime::connect_tls;
use crate::net::segment::Segments;

/// Longest response over HTTPS with its head, in bytes. Answers have some hundred.
const MAX_RESPONSE_BYTES: usize = 16 * 1024;

/// Asks `server` for both families of addresses with HTTP/1.1. Whoever calls sets the limit.
///
/// Both questions are sent at once (RFC 9112 §9.3.2), so that the second costs no round trip.
pub(super) async fn ask(
    tls: &Arc<ClientConfig>,
    segments: &Segments,
    server: SocketAddr,
    name: &Name,
) -> Result<Answer, String> {
    let question = Question::for_https(name);
    let mut stream = connect_tls(tls, segments, server).await.map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    for message in question.messages() {
        let head = format!(
            "POST /dns-query HTTP/1.1\r\nHost: {server}\r\nAccept: application/dns-message\r\n\
             Content-Type: application/dns-message\r\nContent-Length: {}\r\n\r\n",
            message.len(),
            server = authority(server),
        );
        bytes.extend_from_slice(head.as_bytes());
        bytes.extend_from_slice(&message);
    }
    let sent = async {
        stream.write_all(&bytes).await?;
        stream.flush().await
    };
    sent.await.map_err(|error| broken_off(&error))?;
    gather(&question, &mut Responses { stream, read: Vec::new() }).await
}

fn broken_off(error: &io::Error) -> String {
    format!("broke off ({error})")
}

/// The server as HTTP names it: without the usual port.
fn authority(server: SocketAddr) -> String {
    match (server, server.port()) {
        (SocketAddr::V4(server), 443) => server.ip().to_string(),
        (SocketAddr::V6(server), 443) => format!("[{}]", server.ip()),
        _ => server.to_string(),
    }
}

/// The bodies of the responses on a connection.
struct Responses<S> {
    stream: S,
    read: Vec<u8>,
}

impl<S: AsyncRead + Unpin + Send> Source for Responses<S> {
    async fn next(&mut self) -> Result<Vec<u8>, String> {
        loop {
            match parse(&self.read)? {
                Response::Complete { status: 200, body, length } => {
                    self.read.drain(..length);
                    return Ok(body);
                }
                Response::Complete { status, .. } => {
                    return Err(format!("answered with HTTP status {status}"));
                }
                Response::Incomplete => {}
            }
            if self.read.len() >= MAX_RESPONSE_BYTES {
                return Err("answered with too long an HTTP response".into());
            }
            let mut buffer = [0; 2048];
            match self.stream.read(&mut buffer).await {
                Ok(0) => return Err("closed the connection without an answer".into()),
                Ok(length) => self.read.extend_from_slice(&buffer[..length]),
                Err(error) => return Err(broken_off(&error)),
            }
        }
    }
}
