//! whatsapp-rust's transport: one WebSocket per connection, over TLS or plain.
//!
//! One task owns the socket; `send` and `disconnect` only talk to it through channels. So a
//! caller that is cancelled cannot leave half a frame behind, and a socket that ends takes
//! everything with it. When whatsapp-rust does not take events, the socket is not read, and
//! TCP makes WhatsApp wait. It takes them whatever waits inside of it, so it is given none while that is
//! too much: see [`backlog`](super::backlog).

use std::convert::Infallible;
use std::future::pending;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use async_trait::async_trait;
use async_tungstenite::tungstenite::client::IntoClientRequest;
use async_tungstenite::tungstenite::http::{
    HeaderValue,
    header::{ORIGIN, RETRY_AFTER},
};
use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use async_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use async_tungstenite::tungstenite::{self, Message};
use async_tungstenite::{WebSocketReceiver, WebSocketSender, WebSocketStream, client_async_with_config};
use bytes::Bytes;
use futures_lite::future::or;
use futures_rustls::rustls::ClientConfig;
use smol::io::{AsyncRead, AsyncWrite};
use smol::stream::StreamExt;
use wacore::net::{DisconnectReason, Transport, TransportEvent, TransportFactory, WHATSAPP_WEB_ORIGIN};
use wacore::stats::TransportResourceReport;
use whatsapp_rust::anyhow;

use super::activity::Activity;
use super::backlog::Backlog;
use super::endpoint::Endpoint;
use crate::clock;
use crate::executor::Executor;
use crate::net::Resolver;
use crate::net::deadline::within;
use crate::net::dial::{self, DialError};

/// Time for a connection: name, TCP, TLS, WebSocket. Just below the 20 s after which
/// whatsapp-rust gives up with an error that says less than ours.
const CONNECT_DEADLINE: Duration = Duration::from_secs(19);

/// Buffers of the WebSocket in bytes; tungstenite's default is 128 KiB each.
const READ_BUFFER_BYTES: usize = 8 * 1024;
const WRITE_BUFFER_BYTES: usize = 8 * 1024;

/// Longest message in either direction, in bytes. The longest that a text bot meets are answers
/// about groups and bundles of pre-keys, some hundred KiB; the protocol's own bound of 16 MiB is
/// more than the box can spare. A longer one ends the connection.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// What may wait in the WebSocket's write buffer: one message, because the next is taken only
/// when it is on its way, and some pongs. tungstenite's default is no limit.
const WRITE_BACKLOG_BYTES: usize = MAX_MESSAGE_BYTES + WRITE_BUFFER_BYTES + 4 * 1024;

/// Events that wait for whatsapp-rust. When there is no room, the socket is not read. More would slip past
/// the count of what lies inside.
pub const EVENT_QUEUE: usize = 1;

/// Sends that wait for the socket. Beyond that, senders wait.
const SEND_QUEUE: usize = 8;

/// Time for one message to be taken by the kernel. whatsapp-rust calls a connection dead after
/// 20 s without an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

/// A connection on which nothing comes for so long is half-open: whatsapp-rust pings after 15 to 30 s
/// without data and waits 20 s for the answer. It counts by the wall clock, which may be set back;
/// this counts by the monotonic one.
const LONGEST_SILENCE: Duration = Duration::from_secs(55);

/// Longest `Retry-After` header that is read, in bytes.
const MAX_RETRY_AFTER_BYTES: usize = 16;

/// Time for the farewell: what is queued, our Close frame and the peer's.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why there is no connection, or nothing can be sent on it.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("{url} did not become a WebSocket ({source}); check the address, and who answers in its place")]
    Upgrade { url: String, source: Box<tungstenite::Error> },
    #[error("no WebSocket to {url} within {} s; check the network", CONNECT_DEADLINE.as_secs())]
    Timeout { url: String },
    #[error("a message of {bytes} bytes was not sent; the limit is {MAX_MESSAGE_BYTES}")]
    TooLong { bytes: usize },
    #[error("the message was not sent ({source}); the connection ends")]
    Write { source: Box<tungstenite::Error> },
    #[error("the message was not sent within {} s; the connection ends", WRITE_TIMEOUT.as_secs())]
    WriteTimeout,
    #[error("the message was not sent: the connection has ended")]
    Closed,
}

impl TransportError {
    /// The status of a server that answered, but not with a WebSocket, and after how long it wants to
    /// be asked again (`Retry-After` in seconds, RFC 9110 §10.2.3; the form with a date is not read,
    /// the box's clock may be wrong).
    pub fn server_wish(&self) -> Option<(u16, Option<Duration>)> {
        let Self::Upgrade { source, .. } = self else { return None };
        let tungstenite::Error::Http(response) = &**source else { return None };
        let after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .filter(|text| text.len() <= MAX_RETRY_AFTER_BYTES)
            .and_then(|seconds| seconds.trim().parse().ok())
            .map(Duration::from_secs);
        Some((response.status().as_u16(), after))
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Opens WebSockets to one endpoint.
#[derive(Clone)]
pub struct WebSocketFactory {
    pub executor: Executor,
    pub resolver: Resolver,
    pub tls: Arc<ClientConfig>,
    pub endpoint: Endpoint,
    /// Told of everything that comes.
    pub activity: Activity,
    /// Asked before anything is handed over.
    pub backlog: Backlog,
}

#[async_trait]
impl TransportFactory for WebSocketFactory {
    async fn create_transport(&self) -> anyhow::Result<(Arc<dyn Transport>, Receiver<TransportEvent>)> {
        let (transport, events) = self.open().await?;
        Ok((Arc::new(transport), events))
    }
}

impl WebSocketFactory {
    /// Connects, and starts the task that owns the connection. The first event is `Connected`.
    pub async fn open(&self) -> Result<(WebSocketTransport, Receiver<TransportEvent>), TransportError> {
        let (socket, local) = within(CONNECT_DEADLINE, Box::pin(self.connect()))
            .await
            .unwrap_or_else(|| Err(TransportError::Timeout { url: self.endpoint.url().to_owned() }))?;
        let (outgoing, to_send) = async_channel::bounded(SEND_QUEUE);
        let (events, received) = async_channel::bounded(EVENT_QUEUE);
        let (stop, stopped) = async_channel::bounded(1);
        let (alive, ended) = async_channel::bounded(1);
        // There is room: the channel is new, and its receiver is still here.
        let _ = events.try_send(TransportEvent::Connected);
        self.backlog.begin();
        let (activity, backlog) = (self.activity.clone(), self.backlog.clone());
        let connection = Connection { to_send, events, stopped, activity, backlog };
        let task = async move {
            connection.run(socket).await;
            drop(alive);
        };
        self.executor.spawn(task).detach();
        Ok((WebSocketTransport { outgoing, stop, ended, local }, received))
    }

    async fn connect(&self) -> Result<(WebSocketStream<Box<dyn Stream>>, Option<IpAddr>), TransportError> {
        let endpoint = &self.endpoint;
        let upgrade =
            |source| TransportError::Upgrade { url: endpoint.url().to_owned(), source: Box::new(source) };
        let mut request = endpoint.url().into_client_request().map_err(upgrade)?;
        request.headers_mut().insert(ORIGIN, HeaderValue::from_static(WHATSAPP_WEB_ORIGIN));
        let (host, port) = (endpoint.host(), endpoint.port());
        let (stream, local): (Box<dyn Stream>, _) = if endpoint.tls() {
            let stream = dial::connect_tls(&self.resolver, &self.tls, host, port).await?;
            let local = stream.get_ref().0.local_addr();
            (Box::new(stream), local)
        } else {
            let stream = dial::connect(&self.resolver, host, port).await?;
            let local = stream.local_addr();
            (Box::new(stream), local)
        };
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(WRITE_BUFFER_BYTES)
            .max_write_buffer_size(WRITE_BACKLOG_BYTES)
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES));
        let (socket, _) = client_async_with_config(request, stream, Some(config)).await.map_err(upgrade)?;
        Ok((socket, local.ok().map(|local| local.ip())))
    }
}

struct Outgoing {
    data: Bytes,
    done: Sender<Result<(), TransportError>>,
}

/// One open WebSocket. Dropping it disconnects.
pub struct WebSocketTransport {
    outgoing: Sender<Outgoing>,
    /// Closed, not sent to: tells the task to end.
    stop: Sender<Infallible>,
    /// Closed when the task has ended.
    ended: Receiver<Infallible>,
    local: Option<IpAddr>,
}

impl WebSocketTransport {
    /// The address of this box that the connection was made from.
    pub fn local_address(&self) -> Option<IpAddr> {
        self.local
    }
}

#[async_trait]
impl Transport for WebSocketTransport {
    /// Returns when the kernel has taken the whole message. A caller that goes away before has
    /// either sent nothing or will have sent the whole message.
    async fn send(&self, data: Bytes) -> anyhow::Result<()> {
        if data.len() > MAX_MESSAGE_BYTES {
            return Err(TransportError::TooLong { bytes: data.len() }.into());
        }
        let (done, written) = async_channel::bounded(1);
        self.outgoing.send(Outgoing { data, done }).await.map_err(|_| TransportError::Closed)?;
        Ok(written.recv().await.unwrap_or(Err(TransportError::Closed))?)
    }

    /// Sends what is queued and a Close frame, and returns when the socket is closed, after
    /// [`CLOSE_TIMEOUT`] at the latest. The event channel is closed then, behind a `Disconnected`
    /// event if there was room for it. Calling it again changes nothing.
    async fn disconnect(&self) {
        self.stop.close();
        self.outgoing.close();
        // The task keeps to the limit itself; this one is for an executor that no longer runs.
        let _ = within(CLOSE_TIMEOUT * 2, self.ended.recv()).await;
    }

    /// The WebSocket's buffers, as configured. TLS does not say what it holds.
    fn resource_report(&self) -> Option<TransportResourceReport> {
        if self.ended.is_closed() {
            return Some(TransportResourceReport::default());
        }
        Some(TransportResourceReport {
            read_buffer_bytes: Some(READ_BUFFER_BYTES as u64),
            write_buffer_bytes: Some(WRITE_BUFFER_BYTES as u64),
            tls_state_bytes: None,
        })
    }
}

/// What the task has of a connection, beside the socket.
struct Connection {
    to_send: Receiver<Outgoing>,
    events: Sender<TransportEvent>,
    stopped: Receiver<Infallible>,
    activity: Activity,
    backlog: Backlog,
}

impl Connection {
    async fn run(self, socket: WebSocketStream<Box<dyn Stream>>) {
        let (sender, receiver) = socket.split();
        // Whichever half ends first ends the connection: an error, the peer's end, or the time
        // for the farewell.
        let halves = or(self.read(receiver), self.write(sender));
        let overdue = async {
            self.wait_for_stop().await;
            clock::sleep(CLOSE_TIMEOUT).await;
            DisconnectReason::Unknown
        };
        let reason = or(halves, overdue).await;
        // Whoever waits for a queued send hears of it by losing the other end of `done`.
        self.to_send.close();
        while self.to_send.try_recv().is_ok() {}
        self.report(TransportEvent::Disconnected(reason)).await;
    }

    /// Resolves once whatsapp-rust has disconnected or dropped the transport.
    async fn wait_for_stop(&self) {
        if let Ok(never) = self.stopped.recv().await {
            match never {}
        }
    }

    /// Queues `event`, waiting for room until the connection is told to stop. False: nobody
    /// wants events any more.
    async fn report(&self, event: TransportEvent) -> bool {
        or(async { self.events.send(event).await.is_ok() }, async {
            self.wait_for_stop().await;
            false
        })
        .await
    }

    async fn read(&self, mut receiver: WebSocketReceiver<Box<dyn Stream>>) -> DisconnectReason {
        // Pings are answered by tungstenite while it reads.
        loop {
            let next = within(LONGEST_SILENCE, receiver.next()).await;
            let Some(message) = next else {
                let seconds = LONGEST_SILENCE.as_secs();
                return DisconnectReason::ReadError(format!(
                    "nothing came for {seconds} s: the line is dead"
                ));
            };
            let Some(message) = message else { return DisconnectReason::StreamEnded };
            self.activity.stanza(clock::now());
            match message {
                Ok(Message::Binary(data)) => {
                    or(self.backlog.room(), self.wait_for_stop()).await;
                    let wanted = self.report(TransportEvent::DataReceived(data)).await;
                    if !wanted && !self.stopped.is_closed() {
                        return DisconnectReason::Unknown;
                    }
                }
                Ok(Message::Close(frame)) => {
                    self.to_send.close();
                    // The next read sends the answer and waits for the end of the stream.
                    let _ = within(CLOSE_TIMEOUT, receiver.next()).await;
                    return match frame {
                        Some(CloseFrame { code, reason }) => DisconnectReason::ServerClose {
                            code: Some(code.into()),
                            reason: reason.as_str().to_owned(),
                        },
                        None => DisconnectReason::ServerClose { code: None, reason: String::new() },
                    };
                }
                // WhatsApp sends binary messages only.
                Ok(_) => {}
                Err(error) => return read_failure(error),
            }
        }
    }

    async fn write(&self, mut sender: WebSocketSender<Box<dyn Stream>>) -> DisconnectReason {
        while let Ok(Outgoing { data, done }) = self.to_send.recv().await {
            let sent = match within(WRITE_TIMEOUT, sender.send(Message::Binary(data))).await {
                Some(Ok(())) => Ok(()),
                Some(Err(source)) => Err(TransportError::Write { source: Box::new(source) }),
                None => Err(TransportError::WriteTimeout),
            };
            let failure = sent.as_ref().err().map(ToString::to_string);
            let peer_closes = matches!(&sent, Err(TransportError::Write { source }) if is_closing(source));
            // Whoever sent it may have gone away.
            let _ = done.try_send(sent);
            match failure {
                None => {}
                // The other half knows how and why.
                Some(_) if peer_closes => return pending().await,
                Some(failure) => return DisconnectReason::ReadError(failure),
            }
        }
        // Disconnected by us. The other half waits for the peer's Close, within CLOSE_TIMEOUT.
        let farewell = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        match sender.close(Some(farewell)).await {
            Ok(()) => pending().await,
            // The peer's Close frame was read before: the other half knows the reason.
            Err(error) if is_closing(&error) => pending().await,
            Err(_) => DisconnectReason::Unknown,
        }
    }
}

/// Whether a message could not be written because the peer has sent its Close frame.
fn is_closing(error: &tungstenite::Error) -> bool {
    use tungstenite::error::ProtocolError;
    matches!(
        error,
        tungstenite::Error::ConnectionClosed
            | tungstenite::Error::AlreadyClosed
            | tungstenite::Error::Protocol(ProtocolError::SendAfterClosing)
    )
}

/// An end without a Close frame is how WhatsApp recycles connections, and no failure.
fn read_failure(error: tungstenite::Error) -> DisconnectReason {
    use tungstenite::error::ProtocolError;
    match error {
        tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            DisconnectReason::StreamEnded
        }
        error => DisconnectReason::ReadError(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
