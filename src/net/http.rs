//! Blocking HTTP/1.1 for the worker thread: ureq on our resolver and our TLS.
//!
//! ureq's connector and resolver interfaces are marked as unversioned, so an update of ureq may
//! need a change here, and only here.

use std::fmt;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_rustls::rustls::{ClientConfig, ClientConnection, StreamOwned};
use ureq::config::Config;
use ureq::http::Uri;
use ureq::http::uri::Scheme;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver as ResolveUri};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, TcpConnector, Transport,
    TransportAdapter,
};
use ureq::{Agent, Error};

use super::Resolver;
use super::deadline::within;
use super::resolver::LOOKUP_DEADLINE;
use super::tls::{self, TlsError};

/// Time for TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

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

/// Addresses of one host that ureq has room for.
const MAX_ADDRESSES: usize = 16;

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
        .timeout_resolve(Some(LOOKUP_DEADLINE))
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .max_idle_connections(IDLE_CONNECTIONS)
        .max_idle_connections_per_host(IDLE_CONNECTIONS)
        .max_idle_age(IDLE_TIMEOUT)
        .input_buffer_size(INPUT_BUFFER_BYTES)
        .output_buffer_size(OUTPUT_BUFFER_BYTES)
        .max_response_header_size(MAX_HEAD_BYTES)
        .build();
    let connector = ().chain(TcpConnector::default()).chain(SharedTls(tls.clone()));
    Agent::with_parts(config, connector, HostResolver(resolver.clone()))
}

struct HostResolver(Resolver);

impl fmt::Debug for HostResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HostResolver")
    }
}

impl ResolveUri for HostResolver {
    fn resolve(&self, uri: &Uri, _: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let host = uri.host().ok_or_else(|| Error::BadUri("no host".into()))?;
        let port = match uri.port_u16() {
            Some(port) => port,
            None if uri.scheme() == Some(&Scheme::HTTPS) => 443,
            None => 80,
        };
        let addresses = smol::block_on(within(*timeout.after, self.0.lookup(host)))
            .ok_or(Error::Timeout(timeout.reason))?
            .map_err(|e| Error::Other(Box::new(e)))?;
        let mut resolved = self.empty();
        for address in addresses.into_iter().take(MAX_ADDRESSES) {
            resolved.push(SocketAddr::new(address, port));
        }
        Ok(resolved)
    }
}

/// TLS with the process's one configuration; ureq's own connector would build a second one, and
/// could not combine Mozilla's roots with a file.
struct SharedTls(Arc<ClientConfig>);

impl fmt::Debug for SharedTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedTls")
    }
}

impl<In: Transport> Connector<In> for SharedTls {
    type Out = Either<In, TlsTransport>;

    fn connect(&self, details: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        let Some(transport) = chained else { return Ok(None) };
        if !details.needs_tls() || transport.is_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let host = details.uri.host().unwrap_or_default();
        let name = tls::server_name(host).map_err(|e| Error::Other(Box::new(e)))?;
        let mut connection = ClientConnection::new(self.0.clone(), name)?;
        let mut socket = TransportAdapter::new(transport.boxed(), details.current_time.clone());
        socket.set_timeout(details.timeout);
        connection.complete_io(&mut socket).map_err(|source| {
            Error::Other(Box::new(TlsError::Handshake { host: host.to_owned(), source }))
        })?;
        let buffers =
            LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Either::B(TlsTransport { buffers, stream: StreamOwned::new(connection, socket) })))
    }
}

struct TlsTransport {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsTransport")
    }
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.sock.set_timeout(timeout);
        self.stream.write_all(&self.buffers.output()[..amount])?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.sock.set_timeout(timeout);
        let read = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}
