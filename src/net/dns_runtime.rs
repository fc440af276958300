//! What hickory needs from a runtime (timers, sockets, tasks), on our executor.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use hickory_resolver::net::runtime::{DnsTcpStream, DnsUdpSocket, RuntimeProvider, Spawn, Time};
use smol::Async;
use smol::io::{AsyncRead, AsyncWrite};
use smol::net::TcpStream;

use super::deadline::within;
use crate::clock;
use crate::executor::Executor;

/// For TCP connections that hickory sets no limit for. Its own default, which it does not export.
const TCP_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone, Copy)]
pub(super) struct DnsRuntime(pub(super) Executor);

impl RuntimeProvider for DnsRuntime {
    type Handle = Self;
    type Timer = DnsTimer;
    type Udp = DnsUdp;
    type Tcp = DnsTcp;

    fn create_handle(&self) -> Self {
        *self
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        _bind: Option<SocketAddr>,
        limit: Option<Duration>,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<DnsTcp>>>> {
        Box::pin(async move {
            let limit = limit.unwrap_or(TCP_CONNECT_TIMEOUT);
            let stream = within(limit, TcpStream::connect(server)).await.ok_or(io::ErrorKind::TimedOut)??;
            stream.set_nodelay(true)?;
            Ok(DnsTcp(stream))
        })
    }

    fn bind_udp(
        &self,
        local: SocketAddr,
        _server: SocketAddr,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<DnsUdp>>>> {
        Box::pin(async move { Ok(DnsUdp(Async::<UdpSocket>::bind(local)?)) })
    }
}

impl Spawn for DnsRuntime {
    fn spawn_bg(&mut self, future: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(future).detach();
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

impl DnsUdpSocket for DnsUdp {
    type Time = DnsTimer;

    fn poll_recv_from(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        loop {
            match self.0.get_ref().recv_from(buf) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => ready!(self.0.poll_readable(cx))?,
                done => return Poll::Ready(done),
            }
        }
    }

    fn poll_send_to(&self, cx: &mut Context<'_>, buf: &[u8], target: SocketAddr) -> Poll<io::Result<usize>> {
        loop {
            match self.0.get_ref().send_to(buf, target) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => ready!(self.0.poll_writable(cx))?,
                done => return Poll::Ready(done),
            }
        }
    }
}

pub(super) struct DnsTcp(TcpStream);

impl DnsTcpStream for DnsTcp {
    type Time = DnsTimer;
}

impl AsyncRead for DnsTcp {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for DnsTcp {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}
