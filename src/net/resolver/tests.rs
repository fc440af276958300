use super::*;

use futures_lite::future::{or, yield_now};
use hickory_resolver::proto::op::{Message, MessageType, OpCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA};
use hickory_resolver::proto::rr::{RData, Record};
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::{TcpListener, UdpSocket};

const SOON: Duration = Duration::from_secs(30);

/// How a DNS server of a test answers.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Answers,
    Denies,
    Refuses,
    Silent,
    /// Says over UDP that the answer is longer, and gives it over TCP.
    Truncates,
    OnlyIpv6,
    Garbage,
}

const V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);

/// A DNS server on loopback, UDP and TCP on the same port. Every query is reported.
async fn server(
    executor: Executor,
    manner: Manner,
) -> (SocketAddr, async_channel::Receiver<(&'static str, RecordType)>) {
    let (udp, tcp) = loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            break (udp, tcp);
        }
    };
    let address = udp.local_addr().unwrap();
    let (report, reported) = async_channel::unbounded();
    let over_udp = report.clone();
    executor
        .spawn(async move {
            let mut buffer = [0; 1500];
            loop {
                let (length, from) = udp.recv_from(&mut buffer).await.unwrap();
                if let Some(answer) = answer(&buffer[..length], manner, "udp", &over_udp) {
                    udp.send_to(&answer, from).await.unwrap();
                }
            }
        })
        .detach();
    executor
        .spawn(async move {
            loop {
                let (mut stream, _) = tcp.accept().await.unwrap();
                let report = report.clone();
                let talk = async move {
                    loop {
                        let mut length = [0; 2];
                        stream.read_exact(&mut length).await?;
                        let mut query = vec![0; u16::from_be_bytes(length).into()];
                        stream.read_exact(&mut query).await?;
                        if let Some(answer) = answer(&query, manner, "tcp", &report) {
                            stream.write_all(&(answer.len() as u16).to_be_bytes()).await?;
                            stream.write_all(&answer).await?;
                        }
                    }
                };
                executor.spawn(async move { drop::<io::Result<()>>(talk.await) }).detach();
            }
        })
        .detach();
    (address, reported)
}

fn answer(
    query: &[u8],
    manner: Manner,
    protocol: &'static str,
    report: &async_channel::Sender<(&'static str, RecordType)>,
) -> Option<Vec<u8>> {
    let query = Message::from_vec(query).unwrap();
    let asked = query.queries[0].clone();
    report.try_send((protocol, asked.query_type())).unwrap();
    let mut message = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.metadata.recursion_available = true;
    message.add_query(asked.clone());
    let v4 = Record::from_rdata(asked.name().clone(), 60, RData::A(A(V4)));
    let v6 = Record::from_rdata(asked.name().clone(), 60, RData::AAAA(AAAA(V6)));
    match manner {
        Manner::Silent => return None,
        Manner::Garbage => return Some(vec![0xff; 40]),
        Manner::Denies => message.metadata.response_code = ResponseCode::NXDomain,
        Manner::Refuses => message.metadata.response_code = ResponseCode::ServFail,
        Manner::Truncates if protocol == "udp" => message.metadata.truncation = true,
        Manner::OnlyIpv6 if asked.query_type() == RecordType::A => {}
        Manner::OnlyIpv6 => drop(message.add_answer(v6)),
        Manner::Answers | Manner::Truncates => drop(message.add_answer(v4)),
    }
    Some(message.to_vec().unwrap())
}

fn run<T>(test: impl AsyncFnOnce(Executor) -> T) -> T {
    let executor = crate::executor::new();
    let result = smol::block_on(executor.run(within(SOON, Box::pin(test(executor)))));
    result.expect("the test did not end in time")
}

#[test]
fn a_name_is_found_and_remembered() {
    run(async |executor| {
        let (address, queries) = server(executor, Manner::Answers).await;
        let resolver = Resolver::with_servers(executor, &[address]);
        for _ in 0..3 {
            assert_eq!(resolver.lookup("web.example.com").await.unwrap(), [V4]);
        }
        assert_eq!(resolver.clone().lookup("WEB.example.com.").await.unwrap(), [V4]);
        assert_eq!(queries.try_recv().unwrap(), ("udp", RecordType::A));
        assert!(queries.is_empty(), "one query was enough");
    });
}

#[test]
fn a_name_that_does_not_exist_is_a_typed_error_and_no_other_server_is_asked() {
    run(async |executor| {
        let (denying, _queries) = server(executor, Manner::Denies).await;
        let (other, asked) = server(executor, Manner::Answers).await;
        let resolver = Resolver::with_servers(executor, &[denying, other]);
        let error = resolver.lookup("nowhere.example.com").await.unwrap_err();
        assert!(matches!(&error, ResolveError::NotFound { server, .. } if *server == denying), "{error}");
        assert!(error.to_string().contains("nowhere.example.com"));
        assert!(asked.is_empty());
    });
}

#[test]
fn a_server_without_an_answer_is_followed_by_the_next() {
    run(async |executor| {
        for bad in [Manner::Silent, Manner::Refuses, Manner::Garbage] {
            let (first, asked) = server(executor, bad).await;
            let (second, _queries) = server(executor, Manner::Answers).await;
            let resolver = Resolver::with_servers(executor, &[first, second]);
            assert_eq!(resolver.lookup("web.example.com").await.unwrap(), [V4]);
            assert!(!asked.is_empty(), "the first was asked first");
        }
    });
}

#[test]
fn when_all_servers_are_silent_each_is_named_and_the_look_up_is_bounded() {
    run(async |executor| {
        let (first, _queries) = server(executor, Manner::Silent).await;
        let (second, _queries) = server(executor, Manner::Silent).await;
        let (third, _queries) = server(executor, Manner::Silent).await;
        let resolver = Resolver::with_servers(executor, &[first, second, third]);
        let lookup = within(LOOKUP_DEADLINE + Duration::from_secs(1), resolver.lookup("web.example.com"));
        let error = lookup.await.expect("longer than the deadline").unwrap_err();
        let text = error.to_string();
        for server in [first, second, third] {
            assert!(text.contains(&server.to_string()), "{text}");
        }
    });
}

#[test]
fn a_truncated_answer_is_fetched_over_tcp() {
    run(async |executor| {
        let (address, queries) = server(executor, Manner::Truncates).await;
        let resolver = Resolver::with_servers(executor, &[address]);
        assert_eq!(resolver.lookup("web.example.com").await.unwrap(), [V4]);
        assert_eq!(queries.recv().await.unwrap().0, "udp");
        assert_eq!(queries.recv().await.unwrap().0, "tcp");
    });
}

#[test]
fn ipv6_is_asked_for_only_when_there_is_no_ipv4() {
    run(async |executor| {
        let (address, queries) = server(executor, Manner::OnlyIpv6).await;
        let resolver = Resolver::with_servers(executor, &[address]);
        assert_eq!(resolver.lookup("six.example.com").await.unwrap(), [V6]);
        assert_eq!(queries.try_recv().unwrap().1, RecordType::A);
        assert_eq!(queries.try_recv().unwrap().1, RecordType::AAAA);
    });
}

#[test]
fn many_look_ups_at_once_share_one_query() {
    run(async |executor| {
        let (address, queries) = server(executor, Manner::Answers).await;
        let resolver = Resolver::with_servers(executor, &[address]);
        let tasks: Vec<_> = (0..100)
            .map(|_| {
                let resolver = resolver.clone();
                executor.spawn(async move { resolver.lookup("web.example.com").await })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), [V4]);
        }
        assert_eq!(queries.len(), 1);
    });
}

#[test]
fn a_look_up_from_another_thread_works_while_the_executor_runs() {
    run(async |executor| {
        let (address, _queries) = server(executor, Manner::Answers).await;
        let resolver = Resolver::with_servers(executor, &[address]);
        let found = crate::worker::run(move || smol::block_on(resolver.lookup("web.example.com"))).await;
        assert_eq!(found.unwrap().unwrap(), [V4]);
    });
}

#[test]
fn addresses_and_localhost_need_no_server_and_nonsense_is_refused() {
    run(async |executor| {
        let (address, queries) = server(executor, Manner::Answers).await;
        let resolver = Resolver::with_servers(executor, &[address]);
        let one = async |host| resolver.lookup(host).await.unwrap();
        assert_eq!(one("192.0.2.1").await, [Ipv4Addr::new(192, 0, 2, 1)]);
        assert_eq!(one("2001:db8::7").await, [V6]);
        assert_eq!(one("[2001:db8::7]").await, [V6]);
        assert_eq!(one("LocalHost").await[0], Ipv4Addr::LOCALHOST);
        let long = "x".repeat(64);
        for nonsense in ["", ".", "a..b", "with space", &long] {
            let error = resolver.lookup(nonsense).await.unwrap_err();
            assert!(matches!(error, ResolveError::BadName { .. }), "{nonsense:?}: {error}");
        }
        assert!(queries.is_empty());
    });
}

#[test]
fn the_hosts_file_comes_first_and_changes_count_at_once() {
    run(async |executor| {
        let folder = tempfile::tempdir().unwrap();
        let (resolv_conf, hosts) = (folder.path().join("resolv.conf"), folder.path().join("hosts"));
        std::fs::write(&hosts, "# comment\n192.0.2.9 box.example.com box\n").unwrap();
        let resolver = Resolver::from_files(executor, &resolv_conf, &hosts);
        assert_eq!(resolver.lookup("box.example.com").await.unwrap(), [Ipv4Addr::new(192, 0, 2, 9)]);
        assert_eq!(resolver.lookup("box").await.unwrap(), [Ipv4Addr::new(192, 0, 2, 9)]);
        std::fs::write(&hosts, "192.0.2.10 box.example.com # moved\n").unwrap();
        assert_eq!(resolver.lookup("box.example.com").await.unwrap(), [Ipv4Addr::new(192, 0, 2, 10)]);
    });
}

#[test]
fn the_system_s_servers_are_followed_and_without_any_the_public_ones_are_asked() {
    let executor = crate::executor::new();
    let folder = tempfile::tempdir().unwrap();
    let resolv_conf = folder.path().join("resolv.conf");
    let resolver = Resolver::from_files(executor, &resolv_conf, "/nonexistent");
    let servers = || resolver.ladder().rungs.iter().map(|r| r.server.to_string()).collect::<Vec<_>>();
    let public = ["1.1.1.1:53", "8.8.8.8:53", "9.9.9.9:53"];
    assert_eq!(servers(), public, "no file: the box has just booted");
    let dhcp =
        "# from DHCP\ndomain home\nnameserver 192.0.2.53\n nameserver\t2001:db8::53 \noptions ndots:5\n";
    std::fs::write(&resolv_conf, dhcp).unwrap();
    assert_eq!(servers(), ["192.0.2.53:53", "[2001:db8::53]:53"]);
    std::fs::write(&resolv_conf, b"nameserver\nnameserver fe80::1%eth0\nnameserver x\n\xff\xfe\0\n").unwrap();
    assert_eq!(servers(), public, "garbage");
    let many: String = (1..99).map(|n| format!("nameserver 192.0.2.{n}\n")).collect();
    std::fs::write(&resolv_conf, many).unwrap();
    assert_eq!(servers().len(), MAX_SERVERS);
    std::fs::remove_file(&resolv_conf).unwrap();
    assert_eq!(servers(), public);
}

proptest::proptest! {
    #[test]
    fn no_resolv_conf_is_too_strange(text in "(?s).{0,400}|(nameserver[ \t]*[0-9a-f.:%]{0,20}\n){0,9}") {
        let servers = name_servers(&text);
        proptest::prop_assert!(servers.len() <= MAX_SERVERS);
        proptest::prop_assert!(servers.iter().all(|s| s.port() == 53));
    }
}

/// A look-up that nobody waits for any more must not stop those that come later.
#[test]
fn a_cancelled_look_up_leaves_the_resolver_usable() {
    run(async |executor| {
        let (address, _queries) = server(executor, Manner::Answers).await;
        let resolver = Resolver::with_servers(executor, &[address]);
        for _ in 0..20 {
            or(async { drop(resolver.lookup("web.example.com").await) }, yield_now()).await;
        }
        assert_eq!(resolver.lookup("web.example.com").await.unwrap(), [V4]);
    });
}
