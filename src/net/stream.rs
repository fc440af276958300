//! A TCP connection, watched by the reactor of the thread that made it.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use smol::Async;
use smol::io::{AsyncRead, AsyncWrite};
use smol::net::TcpStream;

use crate::reactor;

/// Made of a connection once that is made.
#[derive(Debug)]
pub enum Stream {
    /// On the executor's thread, which waits for it itself.
    Watched(reactor::Stream),
    /// On the worker's thread, and in tests under smol: async-io waits for it.
    Unwatched(TcpStream),
}

impl Stream {
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        let Some(reactor) = reactor::current() else { return Ok(Self::Unwatched(stream)) };
        let shared = Arc::<Async<std::net::TcpStream>>::from(stream);
        match Arc::try_unwrap(shared) {
            Ok(only) => Ok(Self::Watched(reactor.watch(only.into_inner()?)?)),
            Err(_) => Err(io::Error::other("somebody else holds the new connection")),
        }
    }

    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Watched(stream) => stream.get_ref().peer_addr(),
            Self::Unwatched(stream) => stream.peer_addr(),
        }
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Watched(stream) => stream.get_ref().local_addr(),
            Self::Unwatched(stream) => stream.local_addr(),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Watched(stream) => stream.get_ref().as_fd(),
            Self::Unwatched(stream) => stream.as_fd(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Watched(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unwatched(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Watched(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unwatched(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Watched(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
            Self::Unwatched(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Watched(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unwatched(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Watched(stream) => Pin::new(stream).poll_close(cx),
            Self::Unwatched(stream) => Pin::new(stream).poll_close(cx),
        }
    }
}
