//! The port: plain or TLS, HTTP or WebSocket, and WhatsApp's frames on the latter.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use async_tungstenite::tungstenite::Message;
use async_tungstenite::tungstenite::handshake::derive_accept_key;
use async_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use async_tungstenite::{WebSocketReceiver, WebSocketSender, WebSocketStream};
use futures_lite::{AsyncRead, AsyncWrite, AsyncWriteExt, FutureExt, StreamExt};
use futures_rustls::TlsAcceptor;
use smol::net::{TcpListener, TcpStream};
use wacore::framing::{FrameDecoder, encode_frame};
use wacore_binary::consts::WA_CONN_HEADER;
use wacore_binary::{Node, OwnedNodeRef, marshal, util};

use super::faults::HandshakeFault;
use super::noise::{AfterHello, Finished, Sender, ServerKeys};
use super::world::{Hub, Outgoing, SocketId, World};
use crate::authority::Authority;
use crate::http::{Request, answer};

/// First byte of a TLS connection.
const TLS_HANDSHAKE: u8 = 0x16;

/// Start of the optional edge routing prologue: this, 3 bytes of length, so many bytes.
const ROUTING_PROLOGUE: [u8; 3] = [0xED, 0x00, 0x01];

/// Time for a client to read the last stanza before its socket is closed. Baileys loses a stanza
/// that comes in one go with the close.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What `/sw.js` answers: clients read their version's last part out of it.
const SERVICE_WORKER: &str = r#"self.__swData={"client_revision":1026131876};"#;

/// TLS of the port, and who signed its certificate.
pub struct Tls {
    pub acceptor: TlsAcceptor,
    pub authority: Authority,
}

/// What all connections share.
pub struct Port {
    pub hub: Hub,
    pub keys: ServerKeys,
    pub tls: Option<Tls>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}
type Connection = Box<dyn Stream>;

/// Accepts connections until the listener fails.
pub async fn listen(port: Arc<Port>, listener: TcpListener, executor: Arc<smol::Executor<'static>>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let refused = port.hub.enter(|world| {
                    world.connections += 1;
                    world.faults.refuses_connection()
                });
                if refused {
                    log::info!("refused a connection");
                    continue;
                }
                let port = port.clone();
                executor
                    .spawn(async move {
                        if let Err(ended) = serve(&port, stream).await {
                            log::debug!("a connection ended: {ended:#}");
                        }
                    })
                    .detach();
            }
            Err(failed) => {
                // Out of file descriptors, for example; others may close theirs.
                log::error!("could not accept a connection: {failed}");
                smol::Timer::after(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Runs the world's timers as they come due.
pub async fn run_timers(port: Arc<Port>, wake: async_channel::Receiver<()>) {
    loop {
        let due = port.hub.enter(|world| {
            world.run_timers();
            world.next_due()
        });
        let woken = async { wake.recv().await.is_ok() };
        let alive = match due {
            Some(due) => {
                let slept = async {
                    smol::Timer::at(due).await;
                    true
                };
                slept.or(woken).await
            }
            None => woken.await,
        };
        if !alive {
            return;
        }
    }
}

async fn serve(port: &Port, stream: TcpStream) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Ok(());
    }
    let mut connection: Connection = match &port.tls {
        Some(tls) if first[0] == TLS_HANDSHAKE => {
            Box::new(tls.acceptor.accept(stream).await.context("in the TLS handshake")?)
        }
        _ => Box::new(stream),
    };
    let Some(request) = Request::read(&mut connection).await? else { return Ok(()) };
    let upgrade = request.header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket"));
    match upgrade && request.path.starts_with("/ws/chat") {
        true => serve_websocket(port, connection, request).await,
        false => serve_http(port, connection, request).await,
    }
}

async fn serve_http(port: &Port, mut connection: Connection, mut request: Request) -> anyhow::Result<()> {
    const JSON: &str = "application/json";
    const TEXT: &str = "text/plain; charset=utf-8";
    let stream = &mut connection;
    match (request.method.as_str(), request.path.clone()) {
        ("GET", path) if path == "/" => answer(stream, "200 OK", TEXT, b"ready\n").await,
        ("GET", path) if path == "/sw.js" => {
            answer(stream, "200 OK", "text/javascript", SERVICE_WORKER.as_bytes()).await
        }
        ("POST", path) if path == "/admin/mock-phone/scan-qr" => {
            let body = request.body(stream).await?;
            let text = String::from_utf8_lossy(&body);
            match port.hub.enter(|world| world.scan_qr(&text, None)) {
                Ok(_) => answer(stream, "200 OK", TEXT, b"scanned\n").await,
                Err(refusal) => {
                    answer(stream, "404 Not Found", TEXT, format!("{refusal:#}\n").as_bytes()).await
                }
            }
        }
        ("POST", path) if path.starts_with("/mms/") => {
            if request.parameter("resume") == Some("1") {
                let known = port.hub.enter(|world| world.media.probe(&path));
                return answer(stream, "200 OK", JSON, known.as_bytes()).await;
            }
            let body = request.body(stream).await?;
            match port.hub.enter(|world| world.media.store(&path, body)) {
                Some(stored) => answer(stream, "200 OK", JSON, stored.as_bytes()).await,
                None => answer(stream, "507 Insufficient Storage", TEXT, b"").await,
            }
        }
        ("GET", path) => match port.hub.enter(|world| world.media.fetch(&path)) {
            Some(body) => answer(stream, "200 OK", "application/octet-stream", &body).await,
            None => answer(stream, "404 Not Found", TEXT, b"").await,
        },
        _ => answer(stream, "405 Method Not Allowed", TEXT, b"").await,
    }
}

async fn serve_websocket(port: &Port, mut connection: Connection, request: Request) -> anyhow::Result<()> {
    let key = request.header("sec-websocket-key").context("a WebSocket request has no key")?;
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
         sec-websocket-accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    );
    connection.write_all(head.as_bytes()).await?;
    let config = WebSocketConfig::default().read_buffer_size(16 * 1024).write_buffer_size(16 * 1024);
    let websocket =
        WebSocketStream::from_partially_read(connection, request.rest, Role::Server, Some(config)).await;
    let (mut sender, receiver) = websocket.split();
    let mut frames = Frames { receiver, decoder: FrameDecoder::new(), prologue: Some(Vec::new()) };

    let Some(finished) = handshake(port, &mut sender, &mut frames).await? else { return Ok(()) };
    let (out, outgoing) = World::socket_queue();
    let id = port.hub.enter(|world| world.client_arrived(out, &finished))?;
    let Finished { mut receive, send, .. } = finished;
    let reading = async {
        while let Some(frame) = frames.next().await? {
            let plain = receive.open(frame).context("decrypting a frame")?;
            let stanza: Node = OwnedNodeRef::new(util::unpack_bytes(plain)?)?.to_owned_node();
            if let Some(id) = id {
                port.hub.enter(|world| world.on_stanza(id, stanza));
            }
        }
        Ok(())
    };
    let ended = reading.or(write(sender, send, outgoing)).await;
    if let Some(id) = id {
        port.hub.enter(|world| world.socket_ended(id));
    }
    log_end(id, &ended);
    ended
}

fn log_end(id: Option<SocketId>, ended: &anyhow::Result<()>) {
    if let (Some(id), Err(why)) = (id, ended) {
        log::debug!("socket {id} ended: {why:#}");
    }
}

/// The Noise handshake. `None` when a fault or the client ended it.
async fn handshake(
    port: &Port,
    sender: &mut WebSocketSender<Connection>,
    frames: &mut Frames,
) -> anyhow::Result<Option<Finished>> {
    let Some(hello) = frames.next().await? else { return Ok(None) };
    match port.hub.enter(|world| world.faults.on_handshake()) {
        Some(HandshakeFault::Refuse) => return Ok(None),
        Some(HandshakeFault::Stall) => {
            log::info!("stalls a handshake");
            while frames.next().await?.is_some() {}
            return Ok(None);
        }
        None => {}
    }
    let (answer, next) = port.keys.answer_hello(&hello, &mut rand::rng())?;
    sender.send(Message::binary(encode_frame(&answer, None)?)).await?;
    let waiting = match next {
        AfterHello::Finish(waiting) => waiting,
        AfterHello::Nothing(finished) => return Ok(Some(*finished)),
    };
    let Some(finish) = frames.next().await? else { return Ok(None) };
    waiting.finish(&finish).map(Some)
}

/// Writes what the world has for this socket.
async fn write(
    mut websocket: WebSocketSender<Connection>,
    mut noise: Sender,
    outgoing: async_channel::Receiver<Outgoing>,
) -> anyhow::Result<()> {
    while let Ok(next) = outgoing.recv().await {
        match next {
            Outgoing::Stanza(stanza) => {
                let frame = encode_frame(&noise.seal(&marshal(&stanza)?)?, None)?;
                websocket.send(Message::binary(frame)).await?;
            }
            Outgoing::Close => {
                // A client that reads the last stanza closes by itself.
                smol::Timer::after(LAST_WORDS).await;
                websocket.close(None).await?;
                return Ok(());
            }
            Outgoing::Drop => return Ok(()),
        }
    }
    bail!("the client did not read what was written")
}

/// The client's frames, whatever WebSocket messages they came in.
struct Frames {
    receiver: WebSocketReceiver<Connection>,
    decoder: FrameDecoder,
    /// What came before the first frame, until that is complete.
    prologue: Option<Vec<u8>>,
}

impl Frames {
    /// `None` when the client closed.
    async fn next(&mut self) -> anyhow::Result<Option<bytes::BytesMut>> {
        loop {
            if self.prologue.is_none()
                && let Some(frame) = self.decoder.decode_frame()
            {
                return Ok(Some(frame));
            }
            match self.receiver.next().await {
                Some(Ok(Message::Binary(bytes))) => self.feed(&bytes)?,
                Some(Ok(Message::Close(_))) | None => return Ok(None),
                Some(Ok(_)) => {}
                Some(Err(failed)) => return Err(failed).context("reading from a client"),
            }
        }
    }

    fn feed(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let Some(prologue) = &mut self.prologue else {
            self.decoder.feed(bytes);
            return Ok(());
        };
        prologue.extend_from_slice(bytes);
        if let Some(length) = prologue_length(prologue)? {
            let rest = prologue.split_off(length);
            self.prologue = None;
            self.decoder.feed(&rest);
        }
        Ok(())
    }
}

/// Bytes in front of the first frame: the routing prologue, if any, and "WA" with versions.
/// `None` while it is incomplete.
fn prologue_length(bytes: &[u8]) -> anyhow::Result<Option<usize>> {
    let mut at = 0;
    if bytes.starts_with(&ROUTING_PROLOGUE) {
        let Some(length) = bytes.get(3..6) else { return Ok(None) };
        at = 6 + length.iter().fold(0, |number, byte| number << 8 | usize::from(*byte));
    }
    let Some(header) = bytes.get(at..at + WA_CONN_HEADER.len()) else { return Ok(None) };
    ensure!(header == WA_CONN_HEADER, "a client speaks another protocol version: {header:?}");
    Ok(Some(at + WA_CONN_HEADER.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prologue_is_found_with_and_without_routing() {
        assert_eq!(prologue_length(b"WA\x06").unwrap(), None);
        assert_eq!(prologue_length(b"WA\x06\x03abc").unwrap(), Some(4));
        assert_eq!(prologue_length(b"\xed\x00\x01\x00\x00\x02rrWA\x06\x03").unwrap(), Some(12));
        assert_eq!(prologue_length(b"\xed\x00\x01\x00").unwrap(), None);
        assert!(prologue_length(b"GET / HTTP/1.1").is_err());
    }

    #[test]
    fn the_service_worker_names_a_version_that_clients_find() {
        assert_eq!(wacore::version::parse_sw_js(SERVICE_WORKER), Some((2, 3000, 1_026_131_876)));
    }

    proptest::proptest! {
        #[test]
        fn a_prologue_is_the_same_however_it_is_cut(routing in proptest::collection::vec(0u8.., 0..300), cut in 0usize..310) {
            let length = u32::try_from(routing.len()).unwrap().to_be_bytes();
            let bytes = [&ROUTING_PROLOGUE[..], &length[1..], &routing, &WA_CONN_HEADER, b"frame"].concat();
            let whole = 6 + routing.len() + WA_CONN_HEADER.len();
            let cut = cut.min(bytes.len());
            let expected = (cut >= whole).then_some(whole);
            proptest::prop_assert_eq!(prologue_length(&bytes[..cut]).unwrap(), expected);
        }

        #[test]
        fn no_first_bytes_panic(bytes in proptest::collection::vec(0u8.., 0..64)) {
            let _ = prologue_length(&bytes);
        }
    }
}
