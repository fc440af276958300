use super::ladder::judge;
use super::message::Answer;
use super::*;

use std::fs;
use std::io;

use futures_lite::future::{or, yield_now};
use hickory_resolver::proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use smol::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use smol::net::{TcpListener, UdpSocket};

use crate::net::test_authority::Authority;
use crate::net::tls;

const SOON: Duration = Duration::from_secs(40);
const NAME: &str = "web.example.com";

const GOOD: [u8; 4] = [157, 240, 1, 60];
const BETTER: [u8; 4] = [157, 240, 1, 61];
const PRIVATE: [u8; 4] = [10, 10, 10, 10];
const V6: Ipv6Addr = Ipv6Addr::new(0x2a03, 0x2880, 0, 0, 0, 0, 0, 7);

/// How a DNS server of a test answers.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Gives([u8; 4]),
    Late(Duration),
    Denies,
    /// The name exists and has no address.
    Empty,
    Fails,
    Refuses,
    Silent,
    /// Says over UDP that the answer is longer, and gives it over TCP.
    Truncates,
    /// The same, with a part of the answer and without TCP.
    TruncatesForGood,
    /// The same, without any part of the answer.
    TruncatesWithoutPart,
    OnlyIpv6,
    Both,
    /// As DNS64 does behind a prefix of the network's own.
    Translates,
    /// The same address for every name, also for the one that announces the prefix.
    GivesOneForAll,
    Garbage,
    WrongNumber,
    SilentOverUdp,
}

use Manner::*;

type Queries = async_channel::Receiver<(&'static str, RecordType)>;
type Report = async_channel::Sender<(&'static str, RecordType)>;

/// A DNS server on loopback, UDP and TCP on the same port. Every query is reported.
async fn server(executor: Executor, manner: Manner) -> (SocketAddr, Queries) {
    let (udp, tcp) = loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            break (udp, tcp);
        }
    };
    let address = udp.local_addr().unwrap();
    let (report, reported) = async_channel::unbounded();
    let over_udp = report.clone();
    let serve = async move {
        let mut buffer = [0; 1500];
        loop {
            let (length, from) = udp.recv_from(&mut buffer).await.unwrap();
            let (query, udp, report) = (buffer[..length].to_vec(), udp.clone(), over_udp.clone());
            let respond = async move {
                if let Some(answer) = answer(&query, manner, "udp", &report).await {
                    udp.send_to(&answer, from).await.unwrap();
                }
            };
            executor.spawn(respond).detach();
        }
    };
    executor.spawn(serve).detach();
    if !matches!(manner, TruncatesForGood | TruncatesWithoutPart) {
        let serve = async move {
            loop {
                let (stream, _) = tcp.accept().await.unwrap();
                let talk = framed(stream, manner, "tcp", report.clone());
                executor.spawn(async move { drop(talk.await) }).detach();
            }
        };
        executor.spawn(serve).detach();
    }
    (address, reported)
}

async fn framed(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    manner: Manner,
    protocol: &'static str,
    report: Report,
) -> io::Result<()> {
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length).await?;
        let mut query = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut query).await?;
        if let Some(answer) = answer(&query, manner, protocol, &report).await {
            stream.write_all(&(answer.len() as u16).to_be_bytes()).await?;
            stream.write_all(&answer).await?;
        }
    }
}

/// Answers as Cloudflare does with HTTP/1.1.
async fn http(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    manner: Manner,
    report: Report,
) -> io::Result<()> {
    let mut read = Vec::new();
    loop {
        let Some(end) = read.windows(4).position(|w| w == b"\r\n\r\n") else {
            let mut byte = [0];
            stream.read_exact(&mut byte).await?;
            read.push(byte[0]);
            continue;
        };
        let head = String::from_utf8(read.drain(..end + 4).collect()).unwrap();
        assert!(head.starts_with("POST /dns-query HTTP/1.1\r\nHost: 127.0.0."), "{head}");
        let length = head.split("Content-Length: ").nth(1).unwrap().split("\r\n").next().unwrap();
        let mut query = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut query).await?;
        if let Some(answer) = answer(&query, manner, "https", &report).await {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", answer.len());
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&answer).await?;
            stream.flush().await?;
        }
    }
}

async fn answer(query: &[u8], manner: Manner, protocol: &'static str, report: &Report) -> Option<Vec<u8>> {
    let query = Message::from_vec(query).unwrap();
    let asked = query.queries[0].clone();
    // A test that has seen enough has gone.
    let _ = report.try_send((protocol, asked.query_type()));
    let mut message = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.metadata.recursion_available = true;
    message.add_query(asked.clone());
    let give = |message: &mut Message, data: RData| {
        if data.record_type() == asked.query_type() {
            message.add_answer(Record::from_rdata(asked.name().clone(), 60, data));
        }
    };
    let v4 = |[a, b, c, d]: [u8; 4]| RData::A(A::new(a, b, c, d));
    let v6 = |address: &str| RData::AAAA(AAAA(address.parse().unwrap()));
    match manner {
        Silent => return None,
        SilentOverUdp if protocol == "udp" => return None,
        Garbage => return Some(vec![0xff; 40]),
        Denies => message.metadata.response_code = ResponseCode::NXDomain,
        Fails => message.metadata.response_code = ResponseCode::ServFail,
        Refuses => message.metadata.response_code = ResponseCode::Refused,
        Empty => {}
        Truncates if protocol == "udp" => message.metadata.truncation = true,
        TruncatesWithoutPart => message.metadata.truncation = true,
        TruncatesForGood => {
            message.metadata.truncation = true;
            give(&mut message, v4(GOOD));
        }
        Translates if asked.name().to_ascii() == nat64::NAME => {
            give(&mut message, v4([192, 0, 0, 170]));
            give(&mut message, v6("fd00:64::192.0.0.170"));
        }
        Translates | GivesOneForAll => give(&mut message, v6("fd00:64::157.240.1.60")),
        OnlyIpv6 => give(&mut message, RData::AAAA(AAAA(V6))),
        Both => {
            give(&mut message, RData::AAAA(AAAA(V6)));
            give(&mut message, v4(GOOD));
        }
        Gives(address) => give(&mut message, v4(address)),
        Late(time) => {
            clock::sleep(time).await;
            give(&mut message, v4(GOOD));
        }
        WrongNumber => {
            message.metadata.id ^= 1;
            give(&mut message, v4(GOOD));
        }
        Truncates | SilentOverUdp => give(&mut message, v4(GOOD)),
    }
    Some(message.to_vec().unwrap())
}

/// A DNS server over HTTPS or TLS, with a certificate for `subject`.
async fn encrypted(
    executor: Executor,
    authority: &Authority,
    kind: Kind,
    manner: Manner,
    subject: &str,
) -> (SocketAddr, Queries) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = authority.server(subject);
    let (report, reported) = async_channel::unbounded();
    let serve = async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // Nagle's algorithm would hold the second answer back.
            stream.set_nodelay(true).unwrap();
            let (acceptor, report) = (acceptor.clone(), report.clone());
            let talk = async move {
                let stream = acceptor.accept(stream).await?;
                match kind {
                    Kind::Https => http(stream, manner, report).await,
                    _ => framed(stream, manner, "tls", report).await,
                }
            };
            executor.spawn(async move { drop(talk.await) }).detach();
        }
    };
    executor.spawn(serve).detach();
    (address, reported)
}

fn options() -> Options {
    Options {
        order: vec![Kind::System, Kind::Https, Kind::Tls, Kind::Public],
        resolv_conf: "/nonexistent/resolv.conf".into(),
        hosts: "/nonexistent/hosts".into(),
        https: vec![],
        tls_servers: vec![],
        public: vec![],
        private: vec![],
        pinned: vec![],
    }
}

fn resolver(executor: Executor, options: Options) -> Resolver {
    Resolver::new(executor, options, &tls::client_config(None).unwrap(), last_good::Nothing)
}

/// A resolver with some plain servers of the kind `Public`.
fn public(executor: Executor, servers: &[SocketAddr]) -> Resolver {
    resolver(executor, Options { public: servers.to_vec(), ..options() })
}

/// Remembers nothing but what it was given.
struct Kept(Vec<Proof>, Arc<Mutex<Vec<Proof>>>);

impl LastGood for Kept {
    fn load(&self) -> Vec<Proof> {
        self.0.clone()
    }

    fn keep(&self, proof: &Proof) {
        self.1.lock().unwrap().push(proof.clone());
    }
}

fn kept(address: [u8; 4]) -> Kept {
    let proof = Proof { host: NAME.into(), address: address.into(), source: "system 192.0.2.1:53".into() };
    Kept(vec![proof], Arc::default())
}

fn run<T>(test: impl AsyncFnOnce(Executor) -> T) -> T {
    run_within(SOON, test)
}

fn run_within<T>(time: Duration, test: impl AsyncFnOnce(Executor) -> T) -> T {
    let executor = crate::executor::new();
    let result = smol::block_on(executor.run(within(time, Box::pin(test(executor)))));
    result.expect("the test did not end in time")
}

async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let begin = clock::now();
    let result = work.await;
    (result, clock::since(begin))
}

/// What this thread, on which everything of a test runs, has had of the processor.
fn cpu_time() -> Duration {
    let statistics = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(statistics.split(' ').next().unwrap().parse().unwrap())
}

fn condition(resolver: &Resolver, server: SocketAddr) -> Condition {
    resolver.health().into_iter().find(|health| health.server == server).unwrap().condition
}

// What one server's answer is worth.

#[test]
fn a_name_is_found_and_remembered() {
    run(async |executor| {
        let (address, queries) = server(executor, Gives(GOOD)).await;
        let resolver = public(executor, &[address]);
        for _ in 0..3 {
            assert_eq!(resolver.lookup(NAME).await.unwrap(), [IpAddr::from(GOOD)]);
        }
        assert_eq!(resolver.clone().lookup("WEB.example.com.").await.unwrap(), [IpAddr::from(GOOD)]);
        assert_eq!(queries.len(), 2, "one question for each family was enough");
        assert_eq!(condition(&resolver, address), Condition::Good);
    });
}

#[test]
fn both_families_are_asked_for() {
    run(async |executor| {
        let (both, _queries) = server(executor, Both).await;
        assert_eq!(public(executor, &[both]).lookup(NAME).await.unwrap(), [IpAddr::from(GOOD), V6.into()]);
        let (six, _queries) = server(executor, OnlyIpv6).await;
        assert_eq!(public(executor, &[six]).lookup(NAME).await.unwrap(), [IpAddr::from(V6)]);
    });
}

#[test]
fn an_address_behind_the_prefix_that_the_network_announces_is_no_lie() {
    run(async |executor| {
        let translated: IpAddr = "fd00:64::157.240.1.60".parse().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let resolv_conf = folder.path().join("resolv.conf");
        let system = |server: SocketAddr| {
            fs::write(&resolv_conf, format!("nameserver [{}]:{}\n", server.ip(), server.port())).unwrap();
            resolver(executor, Options { resolv_conf: resolv_conf.clone(), ..options() })
        };
        let (dns64, _queries) = server(executor, Translates).await;
        let resolver = system(dns64);
        assert_eq!(resolver.lookup(NAME).await.unwrap(), [translated]);
        assert_eq!(condition(&resolver, dns64), Condition::Good);
        assert_eq!(resolver.ask_each(NAME).await.unwrap()[0].answer, Ok(vec![translated]));

        let (liar, _queries) = server(executor, GivesOneForAll).await;
        let resolver = system(liar);
        let error = resolver.lookup(NAME).await.unwrap_err();
        assert!(matches!(error, ResolveError::Private { .. }), "{error}");
        assert!(matches!(condition(&resolver, liar), Condition::Lying { .. }));
        // Others than the network's own servers have no prefix to announce.
        let error = public(executor, &[dns64]).lookup(NAME).await.unwrap_err();
        assert!(matches!(error, ResolveError::Private { .. }), "{error}");
    });
}

#[test]
fn a_truncated_answer_is_fetched_over_tcp_or_taken_as_it_is() {
    run(async |executor| {
        let (address, queries) = server(executor, Truncates).await;
        assert_eq!(public(executor, &[address]).lookup(NAME).await.unwrap(), [IpAddr::from(GOOD)]);
        assert!(std::iter::from_fn(|| queries.try_recv().ok()).any(|(protocol, _)| protocol == "tcp"));
        let (address, _queries) = server(executor, TruncatesForGood).await;
        assert_eq!(public(executor, &[address]).lookup(NAME).await.unwrap(), [IpAddr::from(GOOD)]);
    });
}

#[test]
fn a_network_that_lets_only_tcp_pass_is_enough() {
    run(async |executor| {
        let (address, _queries) = server(executor, SilentOverUdp).await;
        assert_eq!(public(executor, &[address]).lookup(NAME).await.unwrap(), [IpAddr::from(GOOD)]);
    });
}

#[test]
fn an_answer_after_four_seconds_from_the_only_server_that_works_is_one() {
    run(async |executor| {
        let (first, _queries) = server(executor, Silent).await;
        let (late, _queries) = server(executor, Late(Duration::from_secs(4))).await;
        let resolver = public(executor, &[first, late]);
        assert_eq!(resolver.lookup(NAME).await.unwrap(), [IpAddr::from(GOOD)]);
    });
}

#[test]
fn an_answer_with_another_number_is_nobodys_answer() {
    run(async |executor| {
        let (forging, _queries) = server(executor, WrongNumber).await;
        let (honest, _queries) = server(executor, Gives(BETTER)).await;
        let resolver = public(executor, &[forging, honest]);
        assert_eq!(resolver.lookup(NAME).await.unwrap(), [IpAddr::from(BETTER)]);
    });
}

#[test]
fn the_ttl_of_the_records_is_handed_on() {
    run(async |executor| {
        let authority = Authority::new();
        let name = host_name(NAME).unwrap();
        let (plain, _queries) = server(executor, Both).await;
        let (tls, _queries) = encrypted(executor, &authority, Kind::Tls, Both, "127.0.0.1").await;
        for answer in [
            hickory::ask(executor, &Segments::default(), plain, &name).await,
            hickory::ask_over_tls(executor, &authority.client(), &Segments::default(), tls, &name).await,
        ] {
            let addresses = vec![IpAddr::from(GOOD), V6.into()];
            assert_eq!(answer, Ok(Answer::Addresses { addresses, ttl: Duration::from_secs(60) }));
        }
    });
}

#[test]
fn each_failure_of_a_plain_server_is_told_in_words_of_its_own() {
    run(async |executor| {
        let closed = SocketAddr::from(([127, 0, 0, 1], 1));
        let said = async |manner| {
            let (address, _queries) = server(executor, manner).await;
            let answer =
                hickory::ask(executor, &Segments::default(), address, &host_name(NAME).unwrap()).await;
            judge(answer, &[], &[], &[]).to_string()
        };
        assert_eq!(said(Denies).await, "said that the name does not exist");
        assert_eq!(said(Empty).await, "said that the name has no address");
        assert_eq!(said(Fails).await, "answered \"Server Failure\"");
        assert_eq!(said(Refuses).await, "answered \"Query Refused\"");
        assert_eq!(
            said(TruncatesWithoutPart).await,
            "gave a part of the answer only over UDP and could not be reached (Connection refused (os error 111)) \
             over TCP"
        );
        assert_eq!(
            hickory::ask(executor, &Segments::default(), closed, &host_name(NAME).unwrap())
                .await
                .unwrap_err(),
            "could not be reached (Connection refused (os error 111))"
        );
    });
}

/// Over one connection, because each handshake costs round trips and, on the server, patience.
#[test]
fn a_question_over_tls_takes_one_connection() {
    run(async |executor| {
        let authority = Authority::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = authority.server("127.0.0.1");
        let (report, reported) = async_channel::unbounded();
        let (connected, connections) = async_channel::unbounded();
        let serve = async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connected.try_send(()).unwrap();
                let stream = acceptor.accept(stream).await.unwrap();
                let talk = framed(stream, Both, "tls", report.clone());
                executor.spawn(async move { drop(talk.await) }).detach();
            }
        };
        executor.spawn(serve).detach();
        let name = host_name(NAME).unwrap();
        hickory::ask_over_tls(executor, &authority.client(), &Segments::default(), address, &name)
            .await
            .unwrap();
        assert_eq!((connections.len(), reported.len()), (1, 2));
    });
}

/// Runs in a process of its own, because the other tests open files too.
#[test]
fn look_ups_in_vain_leave_neither_sockets_nor_tasks() {
    const ALONE: &str = "BOT_KJP_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let test = "net::resolver::tests::look_ups_in_vain_leave_neither_sockets_nor_tasks";
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let output = child.args(["--exact", "--nocapture", test]).env(ALONE, "1").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{output:?}");
        return;
    }
    run_within(5 * SOON, async |executor| {
        let authority = Authority::new();
        let closed = SocketAddr::from(([127, 0, 0, 1], 1));
        let (failing, _queries) = server(executor, Fails).await;
        let (part, _queries) = server(executor, TruncatesWithoutPart).await;
        let (silent, _queries) = server(executor, Silent).await;
        let (tls, _queries) = encrypted(executor, &authority, Kind::Tls, Fails, "127.0.0.1").await;
        let (tls_wrong, _queries) = encrypted(executor, &authority, Kind::Tls, Fails, "127.0.0.2").await;
        let (tls_silent, _queries) = encrypted(executor, &authority, Kind::Tls, Silent, "127.0.0.1").await;
        let resolver = |executor, public: &[SocketAddr], tls_servers: &[SocketAddr]| {
            let (public, tls_servers) = (public.to_vec(), tls_servers.to_vec());
            let options = Options { public, tls_servers, ..options() };
            Resolver::new(executor, options, &authority.client(), last_good::Nothing)
        };
        // What the resolver starts runs apart from the servers, so that it can be seen to end.
        let apart = crate::executor::new();
        let hasty = resolver(apart, &[closed, failing, part], &[tls, tls_wrong]);
        let patient = resolver(apart, &[silent], &[tls_silent]);
        let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
        let in_vain = async {
            hasty.lookup(NAME).await.unwrap_err();
            let before = descriptors();
            for n in 0..500 {
                hasty.lookup(&format!("{n}.example.com")).await.unwrap_err();
            }
            let waiting: Vec<_> = (0..10)
                .map(|n| {
                    let patient = patient.clone();
                    executor.spawn(async move { patient.lookup(&format!("{n}.example.com")).await })
                })
                .collect();
            for look_up in waiting {
                look_up.await.unwrap_err();
            }
            // The servers notice a moment later that nobody is there any more.
            let deadline = clock::now() + Duration::from_secs(30);
            while clock::now() < deadline && (descriptors() > before || !apart.is_empty()) {
                clock::sleep(Duration::from_millis(20)).await;
            }
            (before, descriptors(), apart.is_empty())
        };
        let (before, after, no_task) = apart.run(in_vain).await;
        assert!(after <= before, "{before} descriptors before, {after} after");
        assert!(no_task, "a task is left");
    });
}

// The ladder.

#[test]
fn a_server_without_a_good_answer_is_followed_by_the_next_and_passed_over_afterwards() {
    run(async |executor| {
        for bad in [
            Silent,
            Fails,
            Garbage,
            Denies,
            Empty,
            Gives(PRIVATE),
            Gives([0, 0, 0, 0]),
            Gives([127, 0, 0, 1]),
        ] {
            let (first, asked) = server(executor, bad).await;
            let (second, _queries) = server(executor, Gives(GOOD)).await;
            let resolver = public(executor, &[first, second]);
            let (found, took) = timed(resolver.lookup(NAME)).await;
            assert_eq!(found.unwrap(), [IpAddr::from(GOOD)]);
            assert!(took < Duration::from_secs(2), "{took:?}");
            assert!(!asked.is_empty(), "the first was asked first");
            match condition(&resolver, first) {
                Condition::Failing { .. } => assert!(matches!(bad, Silent | Fails | Garbage)),
                Condition::Lying { reason } => {
                    assert!(!matches!(bad, Silent | Fails | Garbage));
                    assert!(reason.contains(NAME), "{reason}");
                }
                other => panic!("{other:?}"),
            }
            let before = asked.len();
            resolver.lookup("other.example.com").await.unwrap();
            let repeated = if bad == Silent { 4 } else { 0 };
            assert!(asked.len() <= before + repeated, "it was asked again");
        }
    });
}

#[test]
fn kinds_are_asked_in_the_order_of_the_settings() {
    run(async |executor| {
        let folder = tempfile::tempdir().unwrap();
        let resolv_conf = folder.path().join("resolv.conf");
        let (system, system_asked) = server(executor, Gives(GOOD)).await;
        let (other, other_asked) = server(executor, Gives(BETTER)).await;
        fs::write(&resolv_conf, format!("nameserver [127.0.0.1]:{}\n", system.port())).unwrap();
        let with = |order: &[Kind]| {
            let (order, resolv_conf) = (order.to_vec(), resolv_conf.clone());
            resolver(executor, Options { order, resolv_conf, public: vec![other], ..options() })
        };
        let found = async |order: &[Kind]| with(order).lookup(NAME).await.unwrap();
        assert_eq!(found(&[Kind::System, Kind::Public]).await, [IpAddr::from(GOOD)]);
        assert!(other_asked.is_empty());
        while system_asked.try_recv().is_ok() {}
        assert_eq!(found(&[Kind::Public, Kind::System]).await, [IpAddr::from(BETTER)]);
        assert_eq!(found(&[Kind::Public]).await, [IpAddr::from(BETTER)]);
        assert!(system_asked.is_empty());
    });
}

#[test]
fn with_everybody_silent_the_look_up_is_bounded_and_each_is_named() {
    run(async |executor| {
        let folder = tempfile::tempdir().unwrap();
        let resolv_conf = folder.path().join("resolv.conf");
        let mut all = Vec::new();
        for _ in 0..12 {
            all.push(server(executor, Silent).await.0);
        }
        let lines: String =
            all[..3].iter().map(|s| format!("nameserver [127.0.0.1]:{}\n", s.port())).collect();
        fs::write(&resolv_conf, lines).unwrap();
        let (https, tls_servers, public) = (all[3..6].to_vec(), all[6..9].to_vec(), all[9..].to_vec());
        let resolver = resolver(executor, Options { resolv_conf, https, tls_servers, public, ..options() });
        let before = cpu_time();
        let (error, took) = timed(resolver.lookup(NAME)).await;
        // In a debug build and with the servers of this test; an hour has 130 look-ups at most.
        let cpu = cpu_time() - before;
        assert!(cpu < Duration::from_millis(70), "{cpu:?}");
        assert!(took <= LOOKUP_DEADLINE + Duration::from_millis(500), "{took:?}");
        let text = error.unwrap_err().to_string();
        for (server, kind) in all.iter().zip(["system", "https", "tls", "public"].iter().flat_map(|k| [k; 3]))
        {
            assert!(text.contains(&format!("{kind} {server} was silent for ")), "{text}");
        }
        assert!(text.contains("check the network"), "{text}");
        assert!(!text.contains('\n'));
    });
}

#[test]
fn a_name_that_nobody_knows_does_not_exist_and_is_not_asked_for_again_at_once() {
    run(async |executor| {
        let (one, asked) = server(executor, Denies).await;
        let (other, _queries) = server(executor, Empty).await;
        let resolver = public(executor, &[one, other]);
        let error = resolver.lookup(NAME).await.unwrap_err();
        assert!(matches!(error, ResolveError::NotFound { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(&format!("public {one} said that the name does not exist")), "{text}");
        assert!(text.contains(&format!("public {other} said that the name has no address")), "{text}");
        assert_eq!(condition(&resolver, one), Condition::Good, "who knows better?");
        let before = asked.len();
        resolver.lookup(NAME).await.unwrap_err();
        assert_eq!(asked.len(), before);
    });
}

#[test]
fn private_addresses_are_refused_with_advice_and_taken_when_the_settings_list_them() {
    run(async |executor| {
        let (address, _queries) = server(executor, Gives(PRIVATE)).await;
        let error = public(executor, &[address]).lookup(NAME).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("10.10.10.10") && text.contains("network.private_addresses"), "{text}");
        let private = vec![PRIVATE.into()];
        let resolver = resolver(executor, Options { public: vec![address], private, ..options() });
        assert_eq!(resolver.lookup(NAME).await.unwrap(), [IpAddr::from(PRIVATE)]);
    });
}

#[test]
fn with_every_rung_lying_or_dead_the_error_says_in_one_line_what_each_did_and_what_to_do() {
    run(async |executor| {
        let (denying, _queries) = server(executor, Denies).await;
        let (private, _queries) = server(executor, Gives(PRIVATE)).await;
        let (failing, _queries) = server(executor, Fails).await;
        let closed = SocketAddr::from(([127, 0, 0, 1], 1));
        let options = Options { https: vec![closed], public: vec![denying, private, failing], ..options() };
        let text = resolver(executor, options).lookup(NAME).await.unwrap_err().to_string();
        assert_eq!(
            text,
            format!(
                "no usable address for `web.example.com` (https {closed} could not be reached (Connection refused \
                 (os error 111)); public {denying} said that the name does not exist; public {private} gave the \
                 private address 10.10.10.10; public {failing} answered \"Server Failure\"); if it is a server of \
                 your own network, list its address in `network.private_addresses`, otherwise the network's DNS \
                 is lying: ask its operator, or allow more ways in `network.dns`"
            )
        );
    });
}

#[test]
fn without_anybody_to_ask_the_error_says_so() {
    run(async |executor| {
        let error = resolver(executor, options()).lookup(NAME).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("/nonexistent/resolv.conf") && text.contains("network.dns"), "{text}");
    });
}

#[test]
fn the_system_s_file_is_followed_and_another_network_gets_another_chance() {
    run(async |executor| {
        let folder = tempfile::tempdir().unwrap();
        let resolv_conf = folder.path().join("resolv.conf");
        let resolver = resolver(executor, Options { resolv_conf: resolv_conf.clone(), ..options() });
        let servers = || resolver.health().iter().map(|h| h.server.to_string()).collect::<Vec<_>>();
        assert_eq!(servers(), [""; 0], "no file: the box has just booted");
        resolver.lookup(NAME).await.unwrap_err();
        let (failing, asked) = server(executor, Denies).await;
        fs::write(&resolv_conf, format!("nameserver [127.0.0.1]:{}\n", failing.port())).unwrap();
        assert_eq!(servers(), [failing.to_string()]);
        resolver.lookup(NAME).await.unwrap_err();
        assert!(!asked.is_empty());
        let (good, _queries) = server(executor, Gives(GOOD)).await;
        fs::write(&resolv_conf, format!("# roamed\nnameserver [127.0.0.1]:{}\n", good.port())).unwrap();
        assert_eq!(
            resolver.lookup(NAME).await.unwrap(),
            [IpAddr::from(GOOD)],
            "the denial was the old network's"
        );
        fs::write(&resolv_conf, b"nameserver\nnameserver fe80::1%eth0\nnameserver x\n\xff\xfe\0\n").unwrap();
        assert_eq!(servers(), [""; 0], "garbage");
        fs::remove_file(&resolv_conf).unwrap();
        assert_eq!(servers(), [""; 0]);
    });
}

// Encrypted rungs.

#[test]
fn dns_over_https_and_over_tls_work_to_an_address_with_a_certificate_for_it() {
    run(async |executor| {
        let authority = Authority::new();
        for kind in [Kind::Https, Kind::Tls] {
            let (address, queries) = encrypted(executor, &authority, kind, Both, "127.0.0.1").await;
            let (https, tls_servers) =
                if kind == Kind::Https { (vec![address], vec![]) } else { (vec![], vec![address]) };
            let options = Options { https, tls_servers, ..options() };
            let resolver = Resolver::new(executor, options, &authority.client(), last_good::Nothing);
            assert_eq!(resolver.lookup(NAME).await.unwrap(), [IpAddr::from(GOOD), V6.into()]);
            assert_eq!(queries.try_recv().unwrap().0, kind.name());
        }
    });
}

#[test]
fn a_certificate_for_another_address_is_refused() {
    run(async |executor| {
        let authority = Authority::new();
        for kind in [Kind::Https, Kind::Tls] {
            let (address, queries) = encrypted(executor, &authority, kind, Gives(GOOD), "127.0.0.2").await;
            let (https, tls_servers) =
                if kind == Kind::Https { (vec![address], vec![]) } else { (vec![], vec![address]) };
            let options = Options { https, tls_servers, ..options() };
            let resolver = Resolver::new(executor, options, &authority.client(), last_good::Nothing);
            let text = resolver.lookup(NAME).await.unwrap_err().to_string();
            assert!(text.contains("certificate"), "{text}");
            assert!(queries.is_empty());
            assert!(matches!(condition(&resolver, address), Condition::Failing { .. }));
        }
    });
}

#[test]
fn a_portal_on_the_https_port_is_no_dns_server() {
    run(async |executor| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serve = async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.write_all(b"HTTP/1.1 302 Found\r\nLocation: http://portal/\r\n\r\n").await;
            }
        };
        executor.spawn(serve).detach();
        let (good, _queries) = server(executor, Gives(GOOD)).await;
        let resolver = resolver(executor, Options { https: vec![address], public: vec![good], ..options() });
        assert_eq!(resolver.lookup(NAME).await.unwrap(), [IpAddr::from(GOOD)]);
        assert!(matches!(condition(&resolver, address), Condition::Failing { .. }));
    });
}

// Proof, disproof, and what was good once.

#[test]
fn a_proved_address_is_kept_and_needs_no_look_up() {
    run(async |executor| {
        let (address, queries) = server(executor, Gives(GOOD)).await;
        let kept = kept(BETTER);
        let proofs = kept.1.clone();
        let options = Options { public: vec![address], ..options() };
        let resolver = Resolver::new(executor, options, &tls::client_config(None).unwrap(), kept);
        assert_eq!(
            resolver.lookup(NAME).await.unwrap(),
            [IpAddr::from(GOOD)],
            "what is only kept is asked again"
        );
        resolver.proved(NAME, GOOD.into());
        let proof = Proof { host: NAME.into(), address: GOOD.into(), source: format!("public {address}") };
        assert_eq!(*proofs.lock().unwrap(), [proof]);
        let before = queries.len();
        assert_eq!(resolver.lookup(NAME).await.unwrap(), [IpAddr::from(GOOD)]);
        assert_eq!(queries.len(), before);
    });
}

#[test]
fn with_dns_dead_what_was_good_once_is_there_within_two_seconds_and_then_at_once() {
    run(async |executor| {
        let (address, queries) = server(executor, Silent).await;
        let options = Options { public: vec![address], ..options() };
        let resolver = Resolver::new(executor, options, &tls::client_config(None).unwrap(), kept(GOOD));
        let (found, took) = timed(resolver.lookup(NAME)).await;
        assert_eq!(found.unwrap(), [IpAddr::from(GOOD)]);
        assert!(took < Duration::from_secs(3), "{took:?}");
        // The search goes on in the background until it has failed.
        while !matches!(condition(&resolver, address), Condition::Failing { .. }) {
            clock::sleep(Duration::from_millis(50)).await;
        }
        let before = queries.len();
        let (found, took) = timed(resolver.lookup(NAME)).await;
        assert_eq!(found.unwrap(), [IpAddr::from(GOOD)]);
        assert!(took < Duration::from_millis(500), "{took:?}");
        assert_eq!(queries.len(), before, "asked again too soon");
    });
}

#[test]
fn a_denial_of_what_was_proved_is_a_lie() {
    run(async |executor| {
        let (address, _queries) = server(executor, Denies).await;
        let options = Options { public: vec![address], ..options() };
        let resolver = Resolver::new(executor, options, &tls::client_config(None).unwrap(), kept(GOOD));
        assert_eq!(resolver.lookup(NAME).await.unwrap(), [IpAddr::from(GOOD)]);
        assert!(matches!(condition(&resolver, address), Condition::Lying { .. }));
    });
}

#[test]
fn what_the_settings_pin_is_used_when_nobody_answers_or_all_deny() {
    run(async |executor| {
        let pinned = vec![("Web.Example.com".to_owned(), IpAddr::from(GOOD))];
        for manner in [Denies, Silent] {
            let (address, _queries) = server(executor, manner).await;
            let options = Options { public: vec![address], pinned: pinned.clone(), ..options() };
            let (found, took) = timed(resolver(executor, options).lookup(NAME)).await;
            assert_eq!(found.unwrap(), [IpAddr::from(GOOD)]);
            assert!(took < Duration::from_secs(6), "{took:?}");
        }
        let (address, _queries) = server(executor, Gives(BETTER)).await;
        let options = Options { public: vec![address], pinned, ..options() };
        assert_eq!(resolver(executor, options).lookup(NAME).await.unwrap(), [IpAddr::from(BETTER)]);
    });
}

#[test]
fn a_disproved_address_makes_its_giver_a_liar_and_sends_the_next_look_up_to_others() {
    run(async |executor| {
        let (liar, _queries) = server(executor, Gives(BETTER)).await;
        let (honest, _queries) = server(executor, Gives(GOOD)).await;
        let resolver = public(executor, &[liar, honest]);
        assert_eq!(resolver.lookup(NAME).await.unwrap(), [IpAddr::from(BETTER)]);
        resolver.disproved(NAME, BETTER.into(), "the certificate is not valid for the name");
        let Condition::Lying { reason } = condition(&resolver, liar) else { panic!("no liar") };
        assert!(reason.contains("157.240.1.61") && reason.contains("certificate"), "{reason}");
        assert_eq!(resolver.lookup(NAME).await.unwrap(), [IpAddr::from(GOOD)]);
        // The liar is not asked first any more for another name either.
        assert_eq!(resolver.lookup("other.example.com").await.unwrap(), [IpAddr::from(GOOD)]);
    });
}

#[test]
fn when_everybody_gives_what_did_not_work_it_is_given_again_but_not_within_the_same_attempt() {
    run(async |executor| {
        let (one, _queries) = server(executor, Gives(GOOD)).await;
        let (other, _queries) = server(executor, Gives(GOOD)).await;
        let resolver = public(executor, &[one, other]);
        resolver.lookup(NAME).await.unwrap();
        resolver.disproved(NAME, GOOD.into(), "cut");
        let error = resolver.lookup_beyond(NAME, &[GOOD.into()], clock::now()).await.unwrap_err();
        assert!(error.to_string().contains(&format!("public {other} gave 157.240.1.60, where")), "{error}");
        for server in [one, other] {
            assert!(matches!(condition(&resolver, server), Condition::Lying { .. }), "as far as can be seen");
        }
        assert_eq!(resolver.lookup(NAME).await.unwrap(), [IpAddr::from(GOOD)]);
        resolver.proved(NAME, GOOD.into());
        for server in [one, other] {
            assert_eq!(condition(&resolver, server), Condition::Good);
        }
        let (found, took) = timed(resolver.lookup(NAME)).await;
        assert_eq!(found.unwrap(), [IpAddr::from(GOOD)]);
        assert!(took < Duration::from_millis(100));
    });
}

#[test]
fn an_authenticated_server_ends_the_search_for_a_better_address() {
    run(async |executor| {
        let authority = Authority::new();
        let (https, _queries) = encrypted(executor, &authority, Kind::Https, Gives(GOOD), "127.0.0.1").await;
        let (silent, asked) = server(executor, Silent).await;
        let options = Options { https: vec![https], public: vec![silent], ..options() };
        let resolver = Resolver::new(executor, options, &authority.client(), last_good::Nothing);
        resolver.lookup(NAME).await.unwrap();
        resolver.unreachable(NAME, GOOD.into());
        let (found, took) = timed(resolver.lookup(NAME)).await;
        assert_eq!(found.unwrap(), [IpAddr::from(GOOD)]);
        assert!(took < Duration::from_secs(1) && asked.is_empty(), "{took:?}");
    });
}

#[test]
fn an_address_that_an_authenticated_server_confirms_is_nobodys_lie() {
    run(async |executor| {
        let authority = Authority::new();
        let (plain, _queries) = server(executor, Gives(GOOD)).await;
        let (https, _queries) = encrypted(executor, &authority, Kind::Https, Gives(GOOD), "127.0.0.1").await;
        let order = vec![Kind::Public, Kind::Https];
        let options = Options { order, https: vec![https], public: vec![plain], ..options() };
        let resolver = Resolver::new(executor, options, &authority.client(), last_good::Nothing);
        resolver.lookup(NAME).await.unwrap();
        resolver.disproved(NAME, GOOD.into(), "the connection was reset");
        assert!(matches!(condition(&resolver, plain), Condition::Lying { .. }));
        resolver.lookup_beyond(NAME, &[GOOD.into()], clock::now()).await.unwrap_err();
        assert_eq!(condition(&resolver, plain), Condition::Good);
        assert!(!matches!(condition(&resolver, https), Condition::Lying { .. }));
    });
}

// Many at once, other threads, and what needs no server.

#[test]
fn many_look_ups_at_once_share_one_search() {
    run(async |executor| {
        let (address, queries) = server(executor, Gives(GOOD)).await;
        let resolver = public(executor, &[address]);
        let tasks: Vec<_> = (0..100)
            .map(|_| {
                let resolver = resolver.clone();
                executor.spawn(async move { resolver.lookup(NAME).await })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), [IpAddr::from(GOOD)]);
        }
        assert_eq!(queries.len(), 2);
        assert!(resolver.state().flights.is_empty());
    });
}

#[test]
fn many_names_leave_bounded_traces() {
    run(async |executor| {
        let (address, _queries) = server(executor, Gives(GOOD)).await;
        let resolver = public(executor, &[address]);
        for n in 0..100 {
            resolver.lookup(&format!("{n}.example.com")).await.unwrap();
        }
        let state = resolver.state();
        assert_eq!((state.known.hosts(), state.flights.len()), (known::MAX_HOSTS, 0));
    });
}

#[test]
fn a_look_up_from_another_thread_works_while_the_executor_runs() {
    run(async |executor| {
        let (address, _queries) = server(executor, Gives(GOOD)).await;
        let resolver = public(executor, &[address]);
        let found = crate::worker::run(move || smol::block_on(resolver.lookup(NAME))).await;
        assert_eq!(found.unwrap().unwrap(), [IpAddr::from(GOOD)]);
    });
}

/// A look-up that nobody waits for any more must not stop those that come later.
#[test]
fn a_cancelled_look_up_leaves_the_resolver_usable() {
    run(async |executor| {
        let (address, _queries) = server(executor, Gives(GOOD)).await;
        let resolver = public(executor, &[address]);
        for _ in 0..20 {
            or(async { drop(resolver.lookup(NAME).await) }, yield_now()).await;
        }
        assert_eq!(resolver.lookup(NAME).await.unwrap(), [IpAddr::from(GOOD)]);
    });
}

#[test]
fn addresses_and_localhost_need_no_server_and_nonsense_is_refused() {
    run(async |executor| {
        let (address, queries) = server(executor, Gives(GOOD)).await;
        let resolver = public(executor, &[address]);
        let one = async |host| resolver.lookup(host).await.unwrap();
        assert_eq!(one("192.0.2.1").await, [Ipv4Addr::new(192, 0, 2, 1)]);
        assert_eq!(one("2a03:2880::7").await, [V6]);
        assert_eq!(one("[2a03:2880::7]").await, [V6]);
        assert_eq!(one("LocalHost").await[0], Ipv4Addr::LOCALHOST);
        assert_eq!(one("web.localhost.").await[0], Ipv4Addr::LOCALHOST);
        let long = "x".repeat(64);
        for nonsense in ["", ".", "a..b", "with space", &long] {
            let error = resolver.lookup(nonsense).await.unwrap_err();
            assert!(matches!(error, ResolveError::BadName { .. }), "{nonsense:?}: {error}");
        }
        assert!(queries.is_empty());
    });
}

#[test]
fn the_hosts_file_is_trusted_and_its_changes_count_at_once() {
    run(async |executor| {
        let folder = tempfile::tempdir().unwrap();
        let hosts = folder.path().join("hosts");
        fs::write(&hosts, "# comment\n192.168.1.9 box.example.com box\n").unwrap();
        let resolver = resolver(executor, Options { hosts: hosts.clone(), ..options() });
        assert_eq!(resolver.lookup("box.example.com").await.unwrap(), [Ipv4Addr::new(192, 168, 1, 9)]);
        assert_eq!(resolver.lookup("box").await.unwrap(), [Ipv4Addr::new(192, 168, 1, 9)]);
        fs::write(&hosts, "192.168.1.10 box.example.com # moved\n").unwrap();
        assert_eq!(resolver.lookup("box.example.com").await.unwrap(), [Ipv4Addr::new(192, 168, 1, 10)]);
    });
}

#[test]
fn a_line_of_the_hosts_file_that_leads_nowhere_is_followed_by_the_ladder() {
    run(async |executor| {
        let (address, queries) = server(executor, Gives(GOOD)).await;
        let folder = tempfile::tempdir().unwrap();
        let hosts = folder.path().join("hosts");
        let options = Options { hosts: hosts.clone(), public: vec![address], ..options() };
        let stale = IpAddr::from(BETTER);
        for because in ["silence", "refusal", "another certificate"] {
            let resolver = resolver(executor, options.clone());
            fs::write(&hosts, format!("{stale} {NAME}\n")).unwrap();
            assert_eq!(resolver.lookup(NAME).await.unwrap(), [stale], "it comes first");
            assert!(queries.is_empty());
            match because {
                "silence" => resolver.silent(NAME, stale),
                "refusal" => resolver.unreachable(NAME, stale),
                _ => resolver.disproved(NAME, stale, because),
            }
            assert_eq!(resolver.lookup(NAME).await.unwrap(), [IpAddr::from(GOOD)], "{because}");
            assert_eq!(queries.len(), 2);
            while queries.try_recv().is_ok() {}
            assert_eq!(condition(&resolver, address), Condition::Good, "nobody else is blamed");
            // Proved after all, it is followed again.
            resolver.proved(NAME, stale);
            assert_eq!(resolver.lookup(NAME).await.unwrap(), [stale]);
        }
    });
}

#[test]
fn the_hosts_file_is_the_last_resort_too() {
    run(async |executor| {
        let (address, _queries) = server(executor, Denies).await;
        let folder = tempfile::tempdir().unwrap();
        let hosts = folder.path().join("hosts");
        fs::write(&hosts, format!("192.168.1.9 {NAME}\n")).unwrap();
        let resolver = resolver(executor, Options { hosts, public: vec![address], ..options() });
        let own = IpAddr::from([192, 168, 1, 9]);
        // A server of one's own that is being restarted.
        resolver.lookup(NAME).await.unwrap();
        resolver.unreachable(NAME, own);
        for _ in 0..2 {
            assert_eq!(resolver.lookup(NAME).await.unwrap(), [own]);
        }
    });
}

#[test]
fn the_unspecified_address_is_none_wherever_it_stands() {
    run(async |executor| {
        let (address, _queries) = server(executor, Gives(GOOD)).await;
        let folder = tempfile::tempdir().unwrap();
        let hosts = folder.path().join("hosts");
        fs::write(&hosts, format!("0.0.0.0 {NAME}\n:: {NAME}\n")).unwrap();
        let with = |public: SocketAddr, private: Vec<IpAddr>| {
            resolver(executor, Options { hosts: hosts.clone(), public: vec![public], private, ..options() })
        };
        let resolver = with(address, vec![]);
        assert_eq!(resolver.lookup(NAME).await.unwrap(), [IpAddr::from(GOOD)]);
        let lines = resolver.hosts_lines(NAME);
        assert_eq!(lines.iter().map(|line| line.number).collect::<Vec<_>>(), [1, 2], "the doctor names them");
        let (address, _queries) = server(executor, Gives([0, 0, 0, 0])).await;
        let error = with(address, vec![Ipv4Addr::UNSPECIFIED.into()]).lookup(NAME).await.unwrap_err();
        assert!(matches!(error, ResolveError::Private { .. }), "{error}");
    });
}

#[test]
fn whoever_gave_an_address_that_never_answers_is_asked_after_the_others() {
    run(async |executor| {
        let (poisoned, asked) = server(executor, Gives(GOOD)).await;
        let (honest, _queries) = server(executor, Gives(BETTER)).await;
        let resolver = public(executor, &[poisoned, honest]);
        assert_eq!(resolver.lookup(NAME).await.unwrap(), [IpAddr::from(GOOD)]);
        while asked.try_recv().is_ok() {}
        resolver.silent(NAME, GOOD.into());
        assert_eq!(resolver.lookup(NAME).await.unwrap(), [IpAddr::from(BETTER)]);
        assert!(asked.is_empty(), "it would give the next of its kind");
        assert_eq!(condition(&resolver, poisoned), Condition::Good, "it may have been the line's fault");
        // Nobody knows a better one: so it is tried.
        let resolver = public(executor, &[poisoned]);
        resolver.lookup(NAME).await.unwrap();
        resolver.silent(NAME, GOOD.into());
        assert_eq!(resolver.lookup(NAME).await.unwrap(), [IpAddr::from(GOOD)]);
    });
}

// For the doctor and for the watch on a line that is down.

#[test]
fn the_doctor_sees_what_each_rung_answers() {
    run(async |executor| {
        let authority = Authority::new();
        let (https, _queries) = encrypted(executor, &authority, Kind::Https, Gives(GOOD), "127.0.0.1").await;
        let (denying, _queries) = server(executor, Denies).await;
        let (private, _queries) = server(executor, Gives(PRIVATE)).await;
        let options = Options { https: vec![https], public: vec![denying, private], ..options() };
        let resolver = Resolver::new(executor, options, &authority.client(), last_good::Nothing);
        let asked = resolver.ask_each(NAME).await.unwrap();
        let answers: Vec<_> = asked.iter().map(|asked| (asked.rung.server, asked.answer.clone())).collect();
        assert_eq!(
            answers,
            [
                (https, Ok(vec![GOOD.into()])),
                (denying, Err("said that the name does not exist".into())),
                (private, Err("gave the private address 10.10.10.10".into())),
            ]
        );
        assert!(resolver.health().iter().all(|health| health.condition == Condition::Unknown));
    });
}

#[test]
fn a_probe_is_one_datagram_to_the_plain_servers_in_turn() {
    run(async |executor| {
        let (one, one_asked) = server(executor, Gives(GOOD)).await;
        let (other, other_asked) = server(executor, Silent).await;
        let resolver = public(executor, &[one, other]);
        let mut results = Vec::new();
        for _ in 0..4 {
            results.push(resolver.probe(NAME).await.unwrap());
        }
        results.sort_unstable();
        let mut expected = [(one, true), (one, true), (other, false), (other, false)];
        expected.sort_unstable();
        assert_eq!(results, expected);
        assert_eq!((one_asked.len(), other_asked.len()), (2, 2));
        assert!(resolver.health().iter().all(|health| health.condition == Condition::Unknown));
    });
}

#[test]
fn a_probe_believes_no_liar() {
    run(async |executor| {
        for manner in [Denies, Empty, Fails, Gives(PRIVATE), WrongNumber, Garbage] {
            let (address, _queries) = server(executor, manner).await;
            assert_eq!(public(executor, &[address]).probe(NAME).await, Some((address, false)));
        }
        let only_https = Options { https: vec![([127, 0, 0, 1], 1).into()], ..options() };
        assert_eq!(resolver(executor, only_https).probe(NAME).await, None, "nobody to ask");
        let (address, _queries) = server(executor, Gives(GOOD)).await;
        let resolver = public(executor, &[address]);
        resolver.silent(NAME, GOOD.into());
        assert_eq!(
            resolver.probe(NAME).await,
            Some((address, true)),
            "the line was down, the answer is right"
        );
        resolver.disproved(NAME, GOOD.into(), "wrong certificate");
        assert_eq!(resolver.probe(NAME).await, Some((address, false)));
    });
}
