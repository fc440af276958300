use super::*;
use std::net::Ipv4Addr;

use crate::net::tls;

use async_tungstenite::tungstenite::handshake::server::{Request, Response};
use async_tungstenite::{accept_async, accept_hdr_async};
use futures_lite::future::{poll_once, yield_now, zip};
use futures_rustls::TlsAcceptor;
use futures_rustls::rustls::ServerConfig;
use futures_rustls::rustls::pki_types::PrivateKeyDer;
use smol::net::{TcpListener, TcpStream};
use whatsapp_rust::anyhow::Result as AnyResult;

const SOON: Duration = Duration::from_secs(20);

type Socket = WebSocketStream<TcpStream>;

/// A listener on loopback, and a factory that connects to it.
async fn server(executor: Executor) -> (TcpListener, WebSocketFactory) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("ws://127.0.0.1:{}/ws/chat", listener.local_addr().unwrap().port());
    let factory = WebSocketFactory {
        executor,
        resolver: Resolver::with_servers(executor, &[]),
        tls: tls::client_config(None).unwrap(),
        endpoint: Endpoint::parse(&url).unwrap(),
        activity: Activity::default(),
        backlog: Backlog::default(),
    };
    (listener, factory)
}

async fn accept(listener: &TcpListener) -> Socket {
    accept_async(listener.accept().await.unwrap().0).await.unwrap()
}

/// Both ends of a fresh connection, the `Connected` event taken.
async fn pair(executor: Executor) -> (Socket, WebSocketTransport, Receiver<TransportEvent>) {
    let (listener, factory) = server(executor).await;
    let (socket, opened) = zip(accept(&listener), factory.open()).await;
    let (transport, events) = opened.unwrap();
    assert!(matches!(events.recv().await.unwrap(), TransportEvent::Connected));
    (socket, transport, events)
}

fn run<T>(test: impl AsyncFnOnce(Executor) -> T) -> T {
    let executor = crate::executor::new();
    let result = crate::executor::run(executor, within(SOON, Box::pin(test(executor)))).unwrap();
    result.expect("the test did not end in time")
}

async fn data(events: &Receiver<TransportEvent>) -> Bytes {
    match events.recv().await.unwrap() {
        TransportEvent::DataReceived(data) => data,
        event => panic!("{event:?}"),
    }
}

/// The reason of the end, after which the channel is closed.
async fn end(events: &Receiver<TransportEvent>) -> DisconnectReason {
    loop {
        if let TransportEvent::Disconnected(reason) = events.recv().await.unwrap() {
            assert!(events.recv().await.is_err(), "an event after the end");
            return reason;
        }
    }
}

fn cause(result: AnyResult<()>) -> TransportError {
    result.unwrap_err().downcast().unwrap()
}

async fn echo(mut socket: WebSocketStream<impl AsyncRead + AsyncWrite + Unpin>) {
    while let Some(Ok(message)) = socket.next().await {
        if message.is_binary() {
            socket.send(message).await.unwrap();
        }
    }
}

#[test]
fn messages_go_both_ways_and_whatsapps_origin_is_named() {
    run(async |executor| {
        let (listener, factory) = server(executor).await;
        #[allow(clippy::result_large_err)] // the callback's type is async-tungstenite's
        let origin = |request: &Request, response: Response| {
            assert_eq!(request.headers()[ORIGIN], WHATSAPP_WEB_ORIGIN);
            assert_eq!(request.uri().path(), "/ws/chat");
            Ok(response)
        };
        let accepted = async { accept_hdr_async(listener.accept().await.unwrap().0, origin).await };
        let (socket, opened) = zip(accepted, factory.create_transport()).await;
        executor.spawn(echo(socket.unwrap())).detach();
        let (transport, events) = opened.unwrap();
        assert!(matches!(events.recv().await.unwrap(), TransportEvent::Connected));
        for length in [0, 1, 125, 126, 9_000, 70_000, 1_000_000] {
            let message = Bytes::from(vec![length as u8; length]);
            transport.send(message.clone()).await.unwrap();
            assert_eq!(data(&events).await, message);
        }
    });
}

/// A certificate authority's PEM and a server configuration with a certificate for `name`.
fn certificate(name: &str) -> (String, TlsAcceptor) {
    let issued = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
    let ring = Arc::new(futures_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key)
        .unwrap();
    (issued.cert.pem(), TlsAcceptor::from(Arc::new(config)))
}

fn trusting(pem: &str) -> Arc<ClientConfig> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, pem).unwrap();
    tls::client_config(Some(&file)).unwrap()
}

#[test]
fn messages_go_both_ways_over_tls() {
    run(async |executor| {
        let (pem, acceptor) = certificate("localhost");
        let (listener, mut factory) = server(executor).await;
        let port = listener.local_addr().unwrap().port();
        factory.endpoint = Endpoint::parse(&format!("wss://localhost:{port}/ws/chat")).unwrap();
        factory.tls = trusting(&pem);
        let serve = async move {
            let stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
            echo(accept_async(stream).await.unwrap()).await;
        };
        executor.spawn(serve).detach();
        let (transport, events) = factory.open().await.unwrap();
        assert!(matches!(events.recv().await.unwrap(), TransportEvent::Connected));
        for length in [1, 20_000, 300_000] {
            let message = Bytes::from(vec![7; length]);
            transport.send(message.clone()).await.unwrap();
            assert_eq!(data(&events).await, message);
        }
        transport.disconnect().await;
        end(&events).await;
    });
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused() {
    run(async |executor| {
        for (name, trusted) in [("localhost", false), ("elsewhere.example", true)] {
            let (pem, acceptor) = certificate(name);
            let (listener, mut factory) = server(executor).await;
            let port = listener.local_addr().unwrap().port();
            factory.endpoint = Endpoint::parse(&format!("wss://localhost:{port}/")).unwrap();
            if trusted {
                factory.tls = trusting(&pem);
            }
            let serve = async move {
                let refused = acceptor.accept(listener.accept().await.unwrap().0).await;
                assert!(refused.is_err());
            };
            let serving = executor.spawn(serve);
            let error = factory.open().await.map(drop).unwrap_err();
            let TransportError::Dial(DialError::Unreachable { host, tried, .. }) = &error else {
                panic!("{error}")
            };
            assert_eq!(host, "localhost");
            assert!(tried.contains("no TLS for the name") && tried.contains("certificate"), "{tried}");
            serving.await;
        }
    });
}

#[test]
fn a_server_that_is_no_websocket_is_a_typed_error() {
    run(async |executor| {
        let (listener, factory) = server(executor).await;
        let serve = async {
            use smol::io::{AsyncReadExt, AsyncWriteExt};
            let mut stream = listener.accept().await.unwrap().0;
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await.unwrap();
            stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            stream
        };
        let (_stream, opened) = zip(serve, factory.open()).await;
        let error = opened.map(drop).unwrap_err();
        assert!(matches!(error, TransportError::Upgrade { .. }), "{error}");
        assert!(error.to_string().contains("403"), "{error}");
    });
}

#[test]
fn a_peer_that_sends_faster_than_we_read_has_to_wait_and_nothing_is_lost() {
    const FRAMES: u32 = 10_000;
    const FRAME_BYTES: usize = 4096; // 40 MB altogether: more than the kernel's buffers take
    run(async |executor| {
        let (mut socket, transport, events) = pair(executor).await;
        let (stalled, stall) = async_channel::bounded(1);
        let sending = executor.spawn(async move {
            for n in 0..FRAMES {
                let mut frame = n.to_be_bytes().to_vec();
                frame.resize(FRAME_BYTES, 0);
                let mut send = Box::pin(socket.send(Message::binary(frame)));
                if within(Duration::from_millis(300), &mut send).await.is_none() {
                    let _ = stalled.try_send(n);
                    send.await.unwrap();
                }
            }
            socket
        });
        let sent = stall.recv().await.expect("40 MB were taken from a peer that nobody listens to");
        assert!(sent < FRAMES);
        assert_eq!(events.len(), EVENT_QUEUE, "the queue is full, and no fuller");
        for n in 0..FRAMES {
            let frame = data(&events).await;
            assert_eq!(frame[..4], n.to_be_bytes());
            assert_eq!(frame.len(), FRAME_BYTES);
        }
        drop(transport);
        drop(sending.await);
    });
}

#[test]
fn disconnecting_twice_sends_one_close_frame_and_ends_the_events() {
    run(async |executor| {
        let (mut socket, transport, events) = pair(executor).await;
        let seen = executor.spawn(async move {
            let mut seen = Vec::new();
            while let Some(Ok(message)) = socket.next().await {
                seen.push(message);
            }
            seen
        });
        transport.send(Bytes::from_static(b"last words")).await.unwrap();
        zip(transport.disconnect(), transport.disconnect()).await;
        transport.disconnect().await;
        end(&events).await;
        let seen = seen.await;
        assert_eq!(seen[0].clone().into_data(), &b"last words"[..]);
        let Message::Close(Some(frame)) = &seen[1] else { panic!("{seen:?}") };
        assert_eq!(frame.code, CloseCode::Normal);
        assert_eq!(seen.len(), 2);
        assert!(matches!(cause(transport.send(Bytes::new()).await), TransportError::Closed));
        assert_eq!(transport.resource_report().unwrap().total_bytes(), 0);
    });
}

#[test]
fn a_peer_that_vanishes_ends_the_connection_and_its_task() {
    run(async |executor| {
        let (socket, transport, events) = pair(executor).await;
        drop(socket);
        let reason = end(&events).await;
        assert!(matches!(reason, DisconnectReason::StreamEnded | DisconnectReason::ReadError(_)), "{reason}");
        assert!(matches!(cause(transport.send(Bytes::from_static(b"x")).await), TransportError::Closed));
        while !executor.is_empty() {
            yield_now().await;
        }
    });
}

#[test]
fn the_peers_close_frame_is_reported_with_its_code() {
    run(async |executor| {
        let (mut socket, transport, events) = pair(executor).await;
        let frame = CloseFrame { code: CloseCode::Restart, reason: "maintenance".into() };
        socket.close(Some(frame)).await.unwrap();
        // A message on the way must not hide the peer's reason.
        let _ = poll_once(transport.send(Bytes::from_static(b"late"))).await;
        let peer = executor.spawn(async move { while let Some(Ok(_)) = socket.next().await {} });
        let reason = end(&events).await;
        let DisconnectReason::ServerClose { code, reason } = reason else { panic!("{reason}") };
        assert_eq!((code, &*reason), (Some(1012), "maintenance"));
        peer.await;
    });
}

#[test]
fn a_message_beyond_the_limit_ends_the_connection_and_names_the_limit() {
    run(async |executor| {
        let (mut socket, _transport, events) = pair(executor).await;
        executor
            .spawn(async move {
                let _ = socket.send(Message::binary(vec![0; MAX_MESSAGE_BYTES + 1])).await;
                echo(socket).await;
            })
            .detach();
        let DisconnectReason::ReadError(error) = end(&events).await else { panic!("no read error") };
        assert!(error.contains(&MAX_MESSAGE_BYTES.to_string()), "{error}");
    });
}

#[test]
fn a_message_beyond_the_limit_is_not_sent() {
    run(async |executor| {
        let (socket, transport, events) = pair(executor).await;
        executor.spawn(echo(socket)).detach();
        let long = Bytes::from(vec![0; MAX_MESSAGE_BYTES + 1]);
        assert!(matches!(cause(transport.send(long).await), TransportError::TooLong { .. }));
        let longest = Bytes::from(vec![1; MAX_MESSAGE_BYTES]);
        transport.send(longest.clone()).await.unwrap();
        assert_eq!(data(&events).await, longest);
    });
}

#[test]
fn pings_are_answered() {
    run(async |executor| {
        let (mut socket, _transport, _events) = pair(executor).await;
        socket.send(Message::Ping(Bytes::from_static(b"there?"))).await.unwrap();
        let answer = socket.next().await.unwrap().unwrap();
        assert_eq!(answer, Message::Pong(Bytes::from_static(b"there?")));
    });
}

#[test]
fn a_peer_that_takes_nothing_cannot_hold_a_disconnect_up() {
    run(async |executor| {
        let (socket, transport, events) = pair(executor).await;
        let transport = Arc::new(transport);
        let stuck: Vec<_> = (0..20)
            .map(|_| {
                let transport = transport.clone();
                executor.spawn(async move { transport.send(Bytes::from(vec![0; MAX_MESSAGE_BYTES])).await })
            })
            .collect();
        // 80 MB do not fit into the kernel's buffers: sooner or later the queue stays full.
        while transport.outgoing.len() < SEND_QUEUE {
            yield_now().await;
        }
        let before = crate::clock::now();
        transport.disconnect().await;
        assert!(clock::since(before) < CLOSE_TIMEOUT * 2, "{:?}", clock::since(before));
        end(&events).await;
        let mut failed = 0;
        for send in stuck {
            failed += usize::from(send.await.is_err());
        }
        assert!(failed >= SEND_QUEUE, "{failed}");
        drop(socket);
    });
}

#[test]
fn a_full_event_queue_cannot_hold_a_disconnect_up() {
    run(async |executor| {
        let (mut socket, transport, events) = pair(executor).await;
        for _ in 0..EVENT_QUEUE + 5 {
            socket.send(Message::binary(vec![1])).await.unwrap();
        }
        while events.len() < EVENT_QUEUE {
            yield_now().await;
        }
        let peer = executor.spawn(async move { while let Some(Ok(_)) = socket.next().await {} });
        transport.disconnect().await;
        for _ in 0..EVENT_QUEUE {
            data(&events).await;
        }
        assert!(events.recv().await.is_err(), "closed");
        peer.await;
    });
}

#[test]
fn a_dropped_transport_closes_its_socket_and_leaves_no_task() {
    run(async |executor| {
        let (mut socket, transport, events) = pair(executor).await;
        drop((transport, events));
        let message = socket.next().await.unwrap().unwrap();
        assert!(message.is_close(), "{message}");
        while socket.next().await.is_some() {}
        while !executor.is_empty() {
            yield_now().await;
        }
    });
}

#[test]
fn cancelled_sends_are_whole_or_absent_and_keep_the_order() {
    const SENDS: u32 = 400;
    run(async |executor| {
        let (mut socket, transport, _events) = pair(executor).await;
        let reader = executor.spawn(async move {
            let mut seen = Vec::new();
            while let Some(Ok(message)) = socket.next().await {
                if !message.is_binary() {
                    continue;
                }
                let message = message.into_data();
                let n = u32::from_be_bytes(message[..4].try_into().unwrap());
                assert_eq!(message.len(), length(n), "half a message");
                assert!(message[4..].iter().all(|b| *b == n as u8), "mixed messages");
                seen.push(n);
                // Now and then the reader is slow, so that writes block half-way.
                if n.is_multiple_of(7) {
                    crate::clock::sleep(Duration::from_millis(2)).await;
                }
            }
            seen
        });
        let mut acknowledged = Vec::new();
        for n in 0..SENDS {
            let mut message = n.to_be_bytes().to_vec();
            message.resize(length(n), n as u8);
            let mut send = Box::pin(transport.send(Bytes::from(message)));
            // Cancelled after 0 to 5 polls; every eighth is let through.
            let patience = if n % 8 == 7 { u32::MAX } else { (n * 31) % 6 };
            for _ in 0..patience {
                if let Some(sent) = poll_once(&mut send).await {
                    sent.unwrap();
                    acknowledged.push(n);
                    break;
                }
                yield_now().await;
            }
        }
        transport.disconnect().await;
        let seen = reader.await;
        assert!(seen.is_sorted_by(|a, b| a < b), "out of order or twice: {seen:?}");
        assert!(acknowledged.len() >= SENDS as usize / 8);
        for n in &acknowledged {
            assert!(seen.binary_search(n).is_ok(), "{n} was acknowledged but never arrived");
        }
        assert!(seen.len() > acknowledged.len(), "no send was cancelled after it was queued");
    });

    /// From a few bytes to more than the socket takes at once.
    fn length(n: u32) -> usize {
        8 + (n as usize * 7919) % 200_000
    }
}

#[test]
fn a_connection_under_way_needs_little_memory() {
    run(async |executor| {
        let (_listener, factory) = server(executor).await;
        // Unboxed, every layer would hold its own copy of the look-up's 7 KB: 23 KB together.
        assert!(size_of_val(&factory.open()) < 1024);
        assert!(size_of_val(&factory.connect()) < 8 * 1024);
    });
}
