//! Blocking HTTP/1.1 for the worker thread: ureq on our names, our dialling and our TLS.
//!
//! ureq's connector and resolver interfaces are marked as unversioned, so an update of ureq may
//! need a change here, and only here.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::{block_on, poll_once};
use futures_rustls::rustls::ClientConfig;
use smol::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver as ResolveUri};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};
use ureq::{Agent, Error};

use super::Resolver;
use super::deadline::within;
use super::dial::{self, DIAL_DEADLINE};
use super::segment::Segments;
use crate::clock;

/// Time for one request altogether, from the look-up to the last byte of the body. It bounds how
/// long a call can hold the worker thread. A caller may set less per request.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// An idle connection is closed after this time: Supabase's batches come closer together, and
/// home routers forget connections after minutes.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// Idle connections kept. The worker makes one call at a time.
pub const IDLE_CONNECTIONS: usize = 1;

/// Buffers of one connection in bytes; TLS has as much again.
pub const INPUT_BUFFER_BYTES: usize = 16 * 1024;
pub const OUTPUT_BUFFER_BYTES: usize = 8 * 1024;

/// Longest response head that is accepted, in bytes.
const MAX_HEAD_BYTES: usize = 32 * 1024;

/// An HTTP client for the worker thread. Every status is a response and no redirect is followed:
/// a portal that redirects us must be seen, not obeyed. No cookies, no compression, and proxies
/// from the environment are ignored. How much of a body is read is the caller's to limit
/// (ureq's default is 10 MB).
///
/// Its look-ups need the executor to be running on another thread, so it must not be used on the
/// executor's own.
pub fn agent(resolver: &Resolver, tls: &Arc<ClientConfig>) -> Agent {
    let config = Config::builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .user_agent("")
        .accept_encoding("")
        .timeout_global(Some(CALL_TIMEOUT))
        .timeout_connect(Some(DIAL_DEADLINE))
        .max_idle_connections(IDLE_CONNECTIONS)
        .max_idle_connections_per_host(IDLE_CONNECTIONS)
        .max_idle_age(IDLE_TIMEOUT)
        .input_buffer_size(INPUT_BUFFER_BYTES)
        .output_buffer_size(OUTPUT_BUFFER_BYTES)
        .max_response_header_size(MAX_HEAD_BYTES)
        .build();
    let dialler = Dialler { resolver: resolver.clone(), tls: tls.clone() };
    Agent::with_parts(config, dialler, NoLookUp)
}

/// Leaves the look-up to the [`Dialler`], who asks again when the addresses are no good.
#[derive(Debug)]
struct NoLookUp;

impl ResolveUri for NoLookUp {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let mut nowhere = self.empty();
        // ureq wants at least one.
        nowhere.push(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        Ok(nowhere)
    }
}

/// Connects as everything here does ([`dial`]): names, several addresses at once, TLS as the proof.
struct Dialler {
    resolver: Resolver,
    tls: Arc<ClientConfig>,
}

impl fmt::Debug for Dialler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dialler")
    }
}

impl Connector for Dialler {
    type Out = Connection;

    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<Connection>, Error> {
        let tls = details.needs_tls();
        let host = details.uri.host().ok_or_else(|| Error::BadUri("no host".into()))?;
        let port = details.uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let dialled = async {
            let stream: Box<dyn Stream> = if tls {
                Box::new(dial::connect_tls(&self.resolver, &self.tls, host, port).await?)
            } else {
                Box::new(dial::connect(&self.resolver, host, port).await?)
            };
            Ok(stream)
        };
        let stream = block_on(within(*details.timeout.after, Box::pin(dialled)))
            .ok_or(Error::Timeout(details.timeout.reason))?
            .map_err(|error: dial::DialError| Error::Other(Box::new(error)))?;
        let buffers =
            LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        let segments = self.resolver.segments().clone();
        Ok(Some(Connection { buffers, segments, unanswered: 0, stream, tls }))
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for S {}

/// A request with more bytes than fit into small segments, unanswered until its time is over, may have been
/// lost because it was sent in large packets: a line can swallow them in one direction alone.
const LARGE_BYTES: usize = 1400;

/// A connection on which the worker thread waits.
struct Connection {
    buffers: LazyBuffers,
    segments: Segments,
    /// Bytes sent since something was read last.
    unanswered: usize,
    stream: Box<dyn Stream>,
    tls: bool,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}

impl Transport for Connection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let output = &self.buffers.output()[..amount];
        self.unanswered = self.unanswered.saturating_add(amount);
        let sent = async {
            self.stream.write_all(output).await?;
            self.stream.flush().await
        };
        let sent = wait(timeout, sent);
        self.look_at(&sent);
        sent
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let read = wait(timeout, self.stream.read(self.buffers.input_append_buf()));
        self.look_at(&read);
        let read = read?;
        self.unanswered = 0;
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    /// Between two requests nothing is to be read, so anything else than waiting is the end.
    fn is_open(&mut self) -> bool {
        let mut byte = [0];
        block_on(poll_once(self.stream.read(&mut byte))).is_none()
    }

    fn is_tls(&self) -> bool {
        self.tls
    }
}

impl Connection {
    /// Notes when a large request has vanished.
    fn look_at<T>(&self, done: &Result<T, Error>) {
        let silent = match done {
            Ok(_) => false,
            Err(Error::Timeout(_)) => true,
            Err(Error::Io(error)) => error.kind() == io::ErrorKind::TimedOut,
            Err(_) => false,
        };
        if silent && self.unanswered > LARGE_BYTES {
            self.segments.large_may_vanish(clock::now());
        }
    }
}

fn wait<T>(timeout: NextTimeout, work: impl Future<Output = io::Result<T>>) -> Result<T, Error> {
    let done = block_on(within(*timeout.after, work));
    Ok(done.ok_or(Error::Timeout(timeout.reason))??)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::resolver::last_good::{LastGood, Proof};
    use crate::net::resolver::{Options, Resolver};
    use crate::net::rung::Kind;
    use crate::net::segment::Size;
    use crate::net::test_authority::Authority;
    use crate::worker;
    use smol::net::TcpListener;
    use std::sync::Mutex;

    struct Proofs(Arc<Mutex<Vec<Proof>>>);

    impl LastGood for Proofs {
        fn load(&self) -> Vec<Proof> {
            let address = Ipv4Addr::LOCALHOST.into();
            vec![Proof { host: "base.example.com".into(), address, source: "system".into() }]
        }

        fn keep(&self, proof: &Proof) {
            self.0.lock().unwrap().push(proof.clone());
        }
    }

    #[test]
    fn requests_use_what_was_good_once_prove_it_again_and_share_a_connection() {
        let executor = crate::executor::new();
        let authority = Authority::new();
        let (tls, acceptor) = (authority.client(), authority.server("base.example.com"));
        let test = async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let serve = async move {
                let (stream, _) = listener.accept().await.unwrap();
                let mut stream = acceptor.accept(stream).await.unwrap();
                for _ in 0..2 {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let mut byte = [0];
                        stream.read_exact(&mut byte).await.unwrap();
                        head.push(byte[0]);
                    }
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
                    stream.flush().await.unwrap();
                }
            };
            executor.spawn(serve).detach();
            let proofs = Arc::<Mutex<Vec<Proof>>>::default();
            // DNS is dead: nobody listens there.
            let options = Options {
                order: vec![Kind::Public],
                resolv_conf: "/nonexistent".into(),
                hosts: "/nonexistent".into(),
                https: vec![],
                tls_servers: vec![],
                public: vec![([127, 0, 0, 1], 1).into()],
                private: vec![],
                pinned: vec![],
            };
            let agent = agent(&Resolver::new(executor, options, &tls, Proofs(proofs.clone())), &tls);
            for _ in 0..2 {
                let (agent, url) = (agent.clone(), format!("https://base.example.com:{port}/"));
                let body = worker::run(move || agent.get(url).call()?.into_body().read_to_string()).await;
                assert_eq!(body.unwrap().unwrap(), "ok");
            }
            let proofs = proofs.lock().unwrap();
            assert_eq!(proofs.len(), 1, "one connection for both");
            assert_eq!(proofs[0].address, Ipv4Addr::LOCALHOST);
        };
        let done = executor.run(within(Duration::from_secs(30), Box::pin(test)));
        smol::block_on(done).expect("not done in time");
    }

    #[test]
    fn a_large_request_that_is_never_answered_makes_the_connections_after_it_careful() {
        let executor = crate::executor::new();
        let test = async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let swallow = async move {
                let mut all = Vec::new();
                while let Ok((stream, _)) = listener.accept().await {
                    all.push(stream);
                }
            };
            executor.spawn(swallow).detach();
            let resolver = Resolver::with_servers(executor, &[]);
            let agent = agent(&resolver, &crate::net::tls::client_config(None).unwrap());
            // A small one may have been swallowed by anybody.
            for (bytes, size) in [(10, Size::Usual), (2 * LARGE_BYTES, Size::Small)] {
                let (agent, url) = (agent.clone(), format!("http://127.0.0.1:{port}/"));
                let limit = Some(Duration::from_millis(300));
                let call = move || {
                    let request = agent.post(url).config().timeout_global(limit).build();
                    request.send(vec![b'x'; bytes]).map(drop)
                };
                assert!(worker::run(call).await.unwrap().is_err());
                assert_eq!(resolver.segments().size(clock::now()), size, "{bytes} bytes");
            }
        };
        let done = executor.run(within(Duration::from_secs(30), Box::pin(test)));
        smol::block_on(done).expect("not done in time");
    }
}
