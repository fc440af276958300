//! What hickory needs from a runtime (timers, sockets, tasks), on our executor.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use futures_rustls::client::TlsStream;
use futures_rustls::rustls::ClientConfig;
use hickory_resolver::net::runtime::{DnsTcpStream, DnsUdpSocket, RuntimeProvider, Spawn, Time};
use smol::Async;
use smol::io::{AsyncRead, AsyncWrite};
use smol::net::TcpStream;

use super::deadline::within;
use super::in_flight::{InFlight, Next};
use super::segment::{self, SILENT_AFTER, Segments, Size};
use super::tls::{self, TlsError};
use crate::clock;
use crate::executor::Executor;

/// For TCP connections that hickory sets no limit for. Its own default, which it does not export.
const TCP_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no connection to a DNS server, to follow its name.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("could not be reached ({0})")]
    Unreachable(io::Error),
    // Whoever reads it knows which server is meant.
    #[error("does not speak TLS as itself ({0})")]
    Handshake(io::Error),
    #[error("{0}")]
    Tls(TlsError),
}

impl From<ConnectError> for io::Error {
    fn from(error: ConnectError) -> Self {
        let kind = match &error {
            ConnectError::Unreachable(source) | ConnectError::Handshake(source) => source.kind(),
            ConnectError::Tls(_) => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

/// Connects to `server`, whose certificate must be valid for its address. If that says nothing once it has
/// accepted, with small segments beside it.
pub(super) async fn connect_tls(
    tls: &Arc<ClientConfig>,
    segments: &Segments,
    server: SocketAddr,
) -> Result<TlsStream<TcpStream>, ConnectError> {
    let size = segments.size(clock::now());
    let stream = connect(server, size).await?;
    let mut ways = InFlight::new();
    ways.add(FIRST, secure(tls, server, stream));
    let mut limit = SILENT_AFTER;
    loop {
        match ways.next(limit).await {
            Next::Done(SMALL, Ok(stream)) => {
                segments.large_vanish(&format!("{server} finished TLS in small ones only"), clock::now());
                return Ok(stream);
            }
            // The first says why there is no connection.
            Next::Done(SMALL, Err(_)) if !ways.is_empty() => {}
            Next::Done(_, done) => return done,
            Next::Time if ways.len() == 1 && size == Size::Usual && limit == SILENT_AFTER => {
                ways.add(SMALL, async { secure(tls, server, connect(server, Size::Small).await?).await });
                limit = tls::HANDSHAKE_TIMEOUT;
            }
            // It has a limit of its own.
            Next::Time => limit = tls::HANDSHAKE_TIMEOUT,
        }
    }
}

const FIRST: usize = 0;
const SMALL: usize = 1;

async fn secure(
    tls: &Arc<ClientConfig>,
    server: SocketAddr,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, ConnectError> {
    tls::handshake(tls, &server.ip().to_string(), stream).await.map_err(|error| match error {
        TlsError::Handshake { source, .. } => ConnectError::Handshake(source),
        error => ConnectError::Tls(error),
    })
}

async fn connect(server: SocketAddr, size: Size) -> Result<TcpStream, ConnectError> {
    let stream = segment::connect(server, size).await.map_err(ConnectError::Unreachable)?;
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

#[derive(Clone)]
pub(super) struct DnsRuntime {
    pub(super) executor: Executor,
    /// With it, what hickory takes for TCP connections are TLS connections, which makes its DNS over
    /// TCP (RFC 7766) DNS over TLS (RFC 7858). Its own DNS over TLS needs tokio.
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) segments: Segments,
}

impl RuntimeProvider for DnsRuntime {
    type Handle = Self;
    type Timer = DnsTimer;
    type Udp = DnsUdp;
    type Tcp = DnsTcp;

    fn create_handle(&self) -> Self {
        self.clone()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        _bind: Option<SocketAddr>,
        limit: Option<Duration>,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<DnsTcp>>>> {
        let (tls, segments) = (self.tls.clone(), self.segments.clone());
        let connect = Box::pin(async move {
            Ok(match tls {
                Some(tls) => DnsTcp::Encrypted(Box::new(connect_tls(&tls, &segments, server).await?)),
                None => DnsTcp::Plain(connect(server, segments.size(clock::now())).await?),
            })
        });
        Box::pin(async move {
            let limit = limit.unwrap_or(TCP_CONNECT_TIMEOUT);
            within(limit, connect).await.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
        })
    }

    /// Hickory does not want the socket connected, for systems on which one cannot name the server
    /// again when sending. On Linux one can, and only a connected socket hears that nobody listens.
    fn bind_udp(
        &self,
        local: SocketAddr,
        server: SocketAddr,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<DnsUdp>>>> {
        Box::pin(async move {
            let socket = UdpSocket::bind(local).map_err(ConnectError::Unreachable)?;
            socket.connect(server).map_err(ConnectError::Unreachable)?;
            Ok(DnsUdp(Async::new(socket).map_err(ConnectError::Unreachable)?))
        })
    }
}

impl Spawn for DnsRuntime {
    fn spawn_bg(&mut self, future: impl Future<Output = ()> + Send + 'static) {
        self.executor.spawn(future).detach();
    }
}

pub(super) struct DnsTimer;

#[async_trait]
impl Time for DnsTimer {
    async fn delay_for(duration: Duration) {
        clock::sleep(duration).await;
    }

    async fn timeout<F: 'static + Future + Send>(limit: Duration, future: F) -> io::Result<F::Output> {
        within(limit, future).await.ok_or_else(|| io::ErrorKind::TimedOut.into())
    }
}

pub(super) struct DnsUdp(Async<UdpSocket>);

impl DnsUdp {
    /// A result of a system call. `None`: not yet.
    fn done<T>(result: io::Result<T>) -> Option<io::Result<T>> {
        match result {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => Some(Err(ConnectError::Unreachable(error).into())),
            Ok(done) => Some(Ok(done)),
        }
    }
}

impl DnsUdpSocket for DnsUdp {
    type Time = DnsTimer;

    fn poll_recv_from(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        loop {
            match Self::done(self.0.get_ref().recv_from(buf)) {
                Some(done) => return Poll::Ready(done),
                None => ready!(self.0.poll_readable(cx))?,
            }
        }
    }

    fn poll_send_to(&self, cx: &mut Context<'_>, buf: &[u8], target: SocketAddr) -> Poll<io::Result<usize>> {
        loop {
            match Self::done(self.0.get_ref().send_to(buf, target)) {
                Some(done) => return Poll::Ready(done),
                None => ready!(self.0.poll_writable(cx))?,
            }
        }
    }
}

pub(super) enum DnsTcp {
    Plain(TcpStream),
    Encrypted(Box<TlsStream<TcpStream>>),
}

impl DnsTcpStream for DnsTcp {
    type Time = DnsTimer;
}

impl AsyncRead for DnsTcp {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Encrypted(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for DnsTcp {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Encrypted(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Encrypted(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_close(cx),
            Self::Encrypted(stream) => Pin::new(stream).poll_close(cx),
        }
    }
}
