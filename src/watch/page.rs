//! The status page: `/health` and `/metrics` over HTTP/1.1, read only.
//!
//! Small on purpose. One request per connection, GET and HEAD, bounded in bytes, time and number. A
//! page that a web site makes some browser in the house ask for (DNS rebinding) is refused by its
//! `Host`, which must be an address or `localhost`. Nobody's numbers are on it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};
use smol::lock::Semaphore;
use smol::net::{TcpListener, TcpStream};

use crate::clock;
use crate::executor::Executor;
use crate::net::deadline::within;

/// Longest head of a request, in bytes. A browser's has about 1,000.
const MAX_HEAD_BYTES: usize = 8 * 1024;

/// Most header fields of a request.
const MAX_HEADERS: usize = 64;

/// Connections at a time; more wait in the kernel's queue. Each may hold a head and an answer, some
/// 24 KiB together.
const MAX_CONNECTIONS: usize = 8;

/// Time for one connection altogether.
const TIME: Duration = Duration::from_secs(10);

/// Part of it in which the client may read what is left after the answer.
const LINGER: Duration = Duration::from_secs(1);

/// Between two tries to get the port, and after a connection that could not be accepted (too many
/// open files).
const BIND_AGAIN: Duration = Duration::from_secs(60);
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// What is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    Health,
    Metrics,
}

/// An answer to be sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub content_type: &'static str,
    pub body: String,
}

impl Answer {
    fn plain(status: u16, body: &str) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: format!("{body}\n") }
    }
}

/// What the beginning of a connection says.
#[derive(Debug, PartialEq, Eq)]
enum Head {
    Incomplete,
    Request { resource: Resource, head_only: bool },
    Refused { status: u16, reason: &'static str, head_only: bool },
}

/// Serves for ever. A port that cannot be had is no reason to stop: people register all the same.
pub async fn serve<F>(executor: Executor, listen: SocketAddr, resource: F)
where
    F: Fn(Resource) -> Answer + Send + Sync + 'static,
{
    let resource = Arc::new(resource);
    let listener = bind(listen).await;
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let place = places.acquire_arc().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let resource = resource.clone();
                let connection = async move {
                    // Who is too slow or goes away gets no answer; that concerns nobody else.
                    if let Some(Err(error)) = within(TIME, Box::pin(converse(stream, &*resource))).await {
                        crate::logging::debug!("watch: a connection to the status page ended early: {error}");
                    }
                    drop(place);
                };
                executor.spawn(connection).detach();
            }
            Err(error) => {
                crate::logging::debug!("watch: a connection to the status page was not accepted: {error}");
                clock::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// The listening socket, as soon as it can be had; says once that it cannot.
async fn bind(listen: SocketAddr) -> TcpListener {
    let mut told = false;
    loop {
        match TcpListener::bind(listen).await {
            Ok(listener) => {
                log::info!("watch: the status page is at http://{listen}/health");
                return listener;
            }
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    log::warn!(
                        "watch: no status page, {listen} cannot be used ({error}); tried again every minute. \
                         Set health.listen to another address if it stays so"
                    );
                }
            }
        }
        clock::sleep(BIND_AGAIN).await;
    }
}

async fn converse(mut stream: TcpStream, resource: &impl Fn(Resource) -> Answer) -> io::Result<()> {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    let (answer, head_only) = loop {
        let read = stream.read(&mut piece).await?;
        if read == 0 {
            return Ok(());
        }
        head.extend_from_slice(&piece[..read]);
        match judge(&head) {
            Head::Incomplete if head.len() >= MAX_HEAD_BYTES => {
                break (Answer::plain(431, "request too large"), false);
            }
            Head::Incomplete => {}
            Head::Request { resource: wanted, head_only } => break (resource(wanted), head_only),
            Head::Refused { status, reason, head_only } => break (Answer::plain(status, reason), head_only),
        }
    };
    drop(head);
    stream.write_all(response_head(&answer).as_bytes()).await?;
    if !head_only {
        stream.write_all(answer.body.as_bytes()).await?;
    }
    stream.flush().await?;
    stream.shutdown(std::net::Shutdown::Write)?;
    // Closing with bytes unread would reset the connection, and the client might lose the answer.
    let rest = async { while stream.read(&mut piece).await.is_ok_and(|read| read > 0) {} };
    within(LINGER, rest).await;
    Ok(())
}

fn response_head(answer: &Answer) -> String {
    let reason = match answer.status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    };
    let allow = if answer.status == 405 { "Allow: GET, HEAD\r\n" } else { "" };
    format!(
        "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{allow}Cache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
        answer.status,
        answer.content_type,
        answer.body.len(),
    )
}

/// What `bytes`, all that has come so far, ask for.
fn judge(bytes: &[u8]) -> Head {
    let refused = |status, reason| Head::Refused { status, reason, head_only: false };
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD_BYTES => {}
        Ok(httparse::Status::Complete(_)) => return refused(431, "request too large"),
        Ok(httparse::Status::Partial) => return Head::Incomplete,
        Err(httparse::Error::TooManyHeaders) => return refused(431, "too many header fields"),
        Err(httparse::Error::Version) => return refused(505, "HTTP/1.1 only"),
        Err(_) => return refused(400, "not an HTTP request"),
    }
    let head_only = request.method == Some("HEAD");
    let refused = |status, reason| Head::Refused { status, reason, head_only };
    let mut hosts = request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case("host"));
    // HTTP/1.0 needs none (RFC 9112 §3.2), and no browser speaks it.
    match (hosts.next(), hosts.next(), request.version) {
        (None, _, Some(0)) => {}
        (Some(host), None, _) if is_our_host(host.value) => {}
        (Some(_), None, _) => return refused(403, "ask for an IP address or localhost"),
        _ => return refused(400, "exactly one Host field is needed"),
    }
    let path = request.path.unwrap_or_default();
    let resource = match path.split('?').next() {
        Some("/health") => Resource::Health,
        Some("/metrics") => Resource::Metrics,
        _ => return refused(404, "there are /health and /metrics"),
    };
    match request.method {
        Some("GET" | "HEAD") => Head::Request { resource, head_only },
        _ => refused(405, "GET or HEAD"),
    }
}

/// Whether a `Host` field is an IP address or `localhost`, with or without a port. A name of
/// anybody else's choosing can be made to lead here.
fn is_our_host(value: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(value) else { return false };
    let host = host.trim();
    if host.parse::<SocketAddr>().is_ok() || host.parse::<IpAddr>().is_ok() {
        return true;
    }
    if let Some(v6) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return v6.parse::<IpAddr>().is_ok();
    }
    let name = host.split_once(':').map_or(
        host,
        |(name, port)| {
            if port.parse::<u16>().is_ok() { name } else { host }
        },
    );
    name.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor;
    use futures_lite::future::or;
    use proptest::prelude::*;

    fn request(line: &str, host: &str) -> Head {
        judge(format!("{line}\r\nHost: {host}\r\n\r\n").as_bytes())
    }

    fn status(head: &Head) -> u16 {
        match head {
            Head::Incomplete => 0,
            Head::Request { .. } => 200,
            Head::Refused { status, .. } => *status,
        }
    }

    #[test]
    fn get_and_head_are_answered_and_nothing_else() {
        let health = |head_only| Head::Request { resource: Resource::Health, head_only };
        assert_eq!(request("GET /health HTTP/1.1", "127.0.0.1:8788"), health(false));
        assert_eq!(request("HEAD /health?x=y HTTP/1.1", "127.0.0.1"), health(true));
        for (line, expected) in [
            ("GET /metrics HTTP/1.1", 200),
            ("GET / HTTP/1.1", 404),
            ("GET /health/ HTTP/1.1", 404),
            ("GET http://127.0.0.1/health HTTP/1.1", 404),
            ("POST /health HTTP/1.1", 405),
            ("DELETE /metrics HTTP/1.1", 405),
            ("GET /health HTTP/2.0", 505),
            ("GET /health", 400),
            ("\u{1}\u{2}", 400),
        ] {
            assert_eq!(status(&request(line, "127.0.0.1")), expected, "{line:?}");
        }
    }

    #[test]
    fn a_name_that_could_lead_anywhere_is_refused() {
        for host in ["127.0.0.1", "192.168.1.9:8788", "[::1]:8788", "[::1]", "localhost", "LOCALHOST:8788"] {
            assert_eq!(status(&request("GET /health HTTP/1.1", host)), 200, "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8788", "", "localhost:x"]
        {
            assert_eq!(status(&request("GET /health HTTP/1.1", host)), 403, "{host}");
        }
        assert_eq!(status(&judge(b"GET /health HTTP/1.0\r\n\r\n")), 200);
        assert_eq!(status(&judge(b"GET /health HTTP/1.1\r\n\r\n")), 400);
        let twice = b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n";
        assert_eq!(status(&judge(twice)), 400);
    }

    #[test]
    fn a_head_without_end_is_cut_off() {
        let fields = "X: y\r\n".repeat(MAX_HEADERS + 1);
        let many = format!("GET /health HTTP/1.1\r\n{fields}\r\n");
        assert_eq!(status(&judge(many.as_bytes())), 431);
        let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(MAX_HEAD_BYTES));
        assert_eq!(status(&judge(long.as_bytes())), 431);
    }

    /// Sends `bytes` to a server of its own and returns all that comes back.
    fn exchange(bytes: &[u8]) -> String {
        let executor = executor::new();
        let answer = async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let server = executor.spawn(async move {
                let (stream, _) = listener.accept().await.unwrap();
                let health =
                    |_| Answer { status: 503, content_type: "application/json", body: "{}".to_owned() };
                let _ = converse(stream, &health).await;
            });
            let mut client = TcpStream::connect(address).await.unwrap();
            // A server that has seen enough may close before it has read everything.
            let _ = client.write_all(bytes).await;
            let _ = client.shutdown(std::net::Shutdown::Write);
            let mut answer = Vec::new();
            let _ = client.read_to_end(&mut answer).await;
            server.await;
            String::from_utf8_lossy(&answer).into_owned()
        };
        let too_long = async {
            clock::sleep(Duration::from_secs(30)).await;
            panic!("the server hangs")
        };
        smol::block_on(executor.run(or(answer, too_long)))
    }

    #[test]
    fn an_answer_is_complete_and_closes_the_connection() {
        let answer = exchange(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
        assert!(answer.contains("\r\nContent-Length: 2\r\n") && answer.contains("\r\nConnection: close\r\n"));
        assert!(answer.ends_with("\r\n\r\n{}"));
        let answer = exchange(b"HEAD /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert!(answer.contains("\r\nContent-Length: 2\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
        let answer = exchange(b"POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody");
        assert!(answer.contains("\r\nAllow: GET, HEAD\r\n"), "{answer}");
    }

    #[test]
    fn a_flood_of_a_head_gets_an_answer_or_an_end() {
        let answer = exchange(&vec![b'A'; 64 * 1024]);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }

    #[test]
    fn a_port_in_use_is_waited_for_and_no_more() {
        smol::block_on(async {
            let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let waiting = bind(taken.local_addr().unwrap());
            assert!(within(Duration::from_millis(50), waiting).await.is_none());
        });
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = judge(&bytes);
        }

        #[test]
        fn nothing_like_a_request_makes_the_parser_panic(
            text in "(GET|HEAD|POST|/health|/metrics|HTTP/1\\.[01]|Host: |localhost|[ :?\r\n]|\\PC){0,24}",
        ) {
            let _ = judge(text.as_bytes());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn no_bytes_make_the_server_panic_or_hang(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            let answer = exchange(&bytes);
            prop_assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 "));
        }
    }
}
