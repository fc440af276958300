//! The whole network room at work in one process, which never has more than three threads:
//! executor, reactor, worker.
//!
//! A program of its own without the test harness, whose threads would be counted too.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_tungstenite::accept_async;
use bot_kjp::clock;
use bot_kjp::executor::{self, Executor};
use bot_kjp::net::deadline::within;
use bot_kjp::net::{Resolver, http, tls};
use bot_kjp::whatsapp::activity::Activity;
use bot_kjp::whatsapp::backlog::Backlog;
use bot_kjp::whatsapp::endpoint::Endpoint;
use bot_kjp::whatsapp::http_client::{VERSION_PAGE, WebClient};
use bot_kjp::whatsapp::kept_answers::KeptAnswers;
use bot_kjp::whatsapp::runtime::SmolRuntime;
use bot_kjp::whatsapp::transport::WebSocketFactory;
use bytes::Bytes;
use futures_lite::future::{yield_now, zip};
use hickory_resolver::proto::op::{Message, MessageType, OpCode};
use hickory_resolver::proto::rr::rdata::A;
use hickory_resolver::proto::rr::{RData, Record};
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::{TcpListener, UdpSocket};
use smol::stream::StreamExt;
use wacore::net::{HttpClient, HttpRequest, Transport, TransportEvent};
use wacore::runtime::Runtime;

const MOST_THREADS: usize = 3;

/// Executor and reactor.
const THREADS_AT_REST: usize = 2;

/// Looks at `/proc`, a few microseconds each, until a thread that has been joined must be gone.
const GONE_AFTER_LOOKS: usize = 1000;

const DEADLINE: Duration = Duration::from_secs(60);

fn main() {
    let executor = executor::new();
    let all = async {
        let work = executor.spawn(work(executor));
        while !work.is_finished() {
            assert_few_threads();
            clock::sleep(Duration::from_micros(200)).await;
        }
        work.await;
        // The worker thread ends a moment after its result arrives.
        while threads() > THREADS_AT_REST {
            yield_now().await;
        }
    };
    executor::run(executor, within(DEADLINE, all)).unwrap().expect("not done in time");
    println!("at most {MOST_THREADS} threads while at work, {THREADS_AT_REST} at rest: ok");
}

/// The kernel counts a thread that has been joined for some microseconds more, so only what
/// persists counts.
fn assert_few_threads() {
    let mut counts = (0..GONE_AFTER_LOOKS).map(|_| threads());
    assert!(counts.any(|count| count <= MOST_THREADS), "{} threads", threads());
}

fn threads() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("Threads:")).unwrap();
    line.trim().parse().unwrap()
}

/// Twenty rounds of name, WebSocket, HTTP and a blocking job, three of each at a time.
async fn work(executor: Executor) {
    let dns = name_server(executor).await;
    let socket_port = echo_server(executor).await;
    let web_port = web_server(executor).await;
    let resolver = Resolver::with_servers(executor, &[dns]);
    let tls = tls::client_config(None).unwrap();
    for _ in 0..20 {
        let round = || async {
            let sockets = WebSocketFactory {
                executor,
                resolver: resolver.clone(),
                tls: tls.clone(),
                endpoint: endpoint(socket_port),
                activity: Activity::default(),
                backlog: Backlog::default(),
            };
            let web = WebClient {
                agent: http::agent(&resolver, &tls),
                endpoint: endpoint(web_port),
                answers: Arc::new(Nothing),
            };
            let jobs = async {
                let (done, finished) = async_channel::bounded(1);
                let job = move || {
                    assert_few_threads();
                    done.send_blocking(()).unwrap();
                };
                SmolRuntime(executor).spawn_blocking(Box::new(job)).await;
                finished.recv().await.unwrap();
            };
            zip(zip(talk(sockets), ask(web)), jobs).await;
        };
        zip(round(), zip(round(), round())).await;
    }
}

async fn talk(sockets: WebSocketFactory) {
    let (transport, events) = sockets.open().await.unwrap();
    assert!(matches!(events.recv().await.unwrap(), TransportEvent::Connected));
    let message = Bytes::from(vec![7; 50_000]);
    transport.send(message.clone()).await.unwrap();
    let TransportEvent::DataReceived(echo) = events.recv().await.unwrap() else { panic!("no data") };
    assert_eq!(echo, message);
    transport.disconnect().await;
}

async fn ask(web: WebClient) {
    let page = web.execute(HttpRequest::get(VERSION_PAGE)).await.unwrap();
    assert_eq!(page.body, b"client_revision:1234567890");
}

/// A store that keeps nothing, so that only the server's page can be the answer.
struct Nothing;

#[async_trait::async_trait]
impl KeptAnswers for Nothing {
    fn kept(&self, _: &str) -> Option<Vec<u8>> {
        None
    }

    async fn keep(&self, _: &str, _: &[u8]) {}
}

fn endpoint(port: u16) -> Endpoint {
    Endpoint::parse(&format!("ws://server.example.com:{port}/ws/chat")).unwrap()
}

/// Every name is 127.0.0.1.
async fn name_server(executor: Executor) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let serve = async move {
        let mut buffer = [0; 1500];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            let query = Message::from_vec(&buffer[..length]).unwrap();
            let asked = query.queries[0].clone();
            let mut answer = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
            let data = RData::A(A(Ipv4Addr::LOCALHOST));
            answer.add_answer(Record::from_rdata(asked.name().clone(), 1, data));
            answer.add_query(asked);
            socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        }
    };
    executor.spawn(serve).detach();
    address
}

async fn echo_server(executor: Executor) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let talk = async move {
                let mut socket = accept_async(stream).await.unwrap();
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_binary() {
                        socket.send(message).await.unwrap();
                    }
                }
            };
            executor.spawn(talk).detach();
        }
    };
    executor.spawn(serve).detach();
    port
}

async fn web_server(executor: Executor) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let talk = async move {
                let mut head = Vec::new();
                let mut buffer = [0; 1024];
                while !head.ends_with(b"\r\n\r\n") {
                    let read = stream.read(&mut buffer).await.unwrap();
                    head.extend_from_slice(&buffer[..read]);
                }
                let page = b"HTTP/1.1 200 OK\r\nContent-Length: 26\r\nConnection: close\r\n\r\nclient_revision:1234567890";
                stream.write_all(page).await.unwrap();
                stream.close().await.unwrap();
            };
            executor.spawn(talk).detach();
        }
    };
    executor.spawn(serve).detach();
    port
}
