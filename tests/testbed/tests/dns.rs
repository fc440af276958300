//! The DNS server as resolvers see it, honest and with each fault.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use smol::Async;
use testbed::DnsServer;
use testbed::baileys::PATIENCE;
use testbed::dns::{Fault, Options, Scope, Transport};

const HOST: &str = "web.whatsapp.com";
const ADDRESS: Ipv4Addr = Ipv4Addr::new(157, 240, 0, 60);

/// How long a test waits for an answer that must not come; far above a loopback's round trip.
const IN_VAIN: Duration = Duration::from_millis(200);

fn server() -> DnsServer {
    let server = DnsServer::start(Options::default()).unwrap();
    server.set_host(HOST, &[ADDRESS.into()], 60).unwrap();
    server
}

fn question(name: &str) -> Message {
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(Name::from_ascii(format!("{name}.")).unwrap(), RecordType::A));
    query
}

/// One datagram and the answer to it, with whoever sent that.
fn ask_udp(
    server: &DnsServer,
    query: &Message,
    deadline: Duration,
) -> std::io::Result<(Vec<u8>, SocketAddr)> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_read_timeout(Some(deadline))?;
    socket.send_to(&query.to_vec().unwrap(), server.address(Transport::Udp).unwrap())?;
    let mut answer = [0; 4096];
    let (length, from) = socket.recv_from(&mut answer)?;
    Ok((answer[..length].to_vec(), from))
}

fn over_udp(server: &DnsServer, name: &str) -> Message {
    Message::from_vec(&ask_udp(server, &question(name), PATIENCE).unwrap().0).unwrap()
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat()
}

fn over_tcp(server: &DnsServer, name: &str, deadline: Duration) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server.address(Transport::Tcp).unwrap())?;
    stream.set_read_timeout(Some(deadline))?;
    stream.write_all(&framed(&question(name).to_vec().unwrap()))?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// Sends bytes inside TLS for `name` and reads until the server has said `enough`.
fn inside_tls(
    server: &DnsServer,
    transport: Transport,
    name: &str,
    request: &[u8],
    enough: impl Fn(&[u8]) -> bool,
) -> Result<Vec<u8>> {
    let connector = server.authority().connector()?;
    let address = server.address(transport)?;
    smol::block_on(async {
        let tcp = Async::<TcpStream>::connect(address).await.context("connecting")?;
        let mut tls = connector.connect(name.to_owned().try_into()?, tcp).await.context("shaking hands")?;
        tls.write_all(request).await?;
        tls.flush().await?;
        let mut answer = Vec::new();
        let mut chunk = [0; 4096];
        while !enough(&answer) {
            let read = tls.read(&mut chunk).await.context("reading")?;
            ensure!(read > 0, "the server closed after {answer:?}");
            answer.extend_from_slice(&chunk[..read]);
        }
        Ok(answer)
    })
}

fn over_tls(server: &DnsServer, name: &str) -> Result<Message> {
    let request = framed(&question(name).to_vec()?);
    let whole = |bytes: &[u8]| {
        bytes.len() >= 2 && bytes.len() - 2 == usize::from(u16::from_be_bytes([bytes[0], bytes[1]]))
    };
    Ok(Message::from_vec(&inside_tls(server, Transport::Tls, "1.1.1.1", &request, whole)?[2..])?)
}

/// Status line and body of a request to the HTTPS side.
fn https(server: &DnsServer, request: &[u8]) -> Result<(String, Vec<u8>)> {
    let parts = |bytes: &[u8]| {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
        let body = &bytes[end + 4..];
        (body.len() == length.parse::<usize>().ok()?).then(|| (head.clone(), body.to_vec()))
    };
    let answer = inside_tls(server, Transport::Https, "9.9.9.9", request, |bytes| parts(bytes).is_some())?;
    let (head, body) = parts(&answer).context("no whole answer")?;
    Ok((head.lines().next().unwrap_or_default().to_owned(), body))
}

fn posted(name: &str) -> Vec<u8> {
    let message = question(name).to_vec().unwrap();
    let head = format!(
        "POST /dns-query HTTP/1.1\r\nhost: 9.9.9.9\r\ncontent-type: application/dns-message\r\n\
         content-length: {}\r\n\r\n",
        message.len()
    );
    [head.as_bytes(), &message].concat()
}

fn over_https(server: &DnsServer, name: &str) -> Result<Message> {
    let (status, body) = https(server, &posted(name))?;
    ensure!(status == "HTTP/1.1 200 Test", "{status}");
    Ok(Message::from_vec(&body)?)
}

/// Asks over one transport, whichever it is.
fn over(transport: Transport, server: &DnsServer, name: &str) -> Result<Message> {
    match transport {
        Transport::Udp => Ok(Message::from_vec(&ask_udp(server, &question(name), PATIENCE)?.0)?),
        Transport::Tcp => Ok(Message::from_vec(&over_tcp(server, name, PATIENCE)?)?),
        Transport::Tls => over_tls(server, name),
        Transport::Https => over_https(server, name),
    }
}

fn addresses(answer: &Message) -> Vec<IpAddr> {
    let data = answer.answers.iter().filter_map(|record| match record.data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        _ => None,
    });
    data.collect()
}

#[test]
fn all_transports_give_the_same_answers_and_are_counted() {
    let server = server();
    for transport in Transport::ALL {
        assert_eq!(addresses(&over(transport, &server, HOST).unwrap()), [IpAddr::V4(ADDRESS)]);
        let unknown = over(transport, &server, "nowhere.example").unwrap();
        assert_eq!(unknown.metadata.response_code, ResponseCode::NXDomain);
        assert_eq!(server.queries().over(transport), 2);
    }
    // RFC 8484's other way of asking, and what it says to nonsense.
    let text = BASE64_URL_SAFE_NO_PAD.encode(question(HOST).to_vec().unwrap());
    let get = |path: &str| https(&server, format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes());
    let (_, body) = get(&format!("/dns-query?dns={text}")).unwrap();
    assert_eq!(addresses(&Message::from_vec(&body).unwrap()), [IpAddr::V4(ADDRESS)]);
    assert_eq!(get("/elsewhere").unwrap().0, "HTTP/1.1 404 Test");
    assert_eq!(get("/dns-query?dns=!").unwrap().0, "HTTP/1.1 400 Test");

    let journal = server.queries();
    assert_eq!(
        (journal.total(), journal.about("WEB.whatsapp.com."), journal.about("nowhere.example")),
        (9, 5, 4)
    );
    assert_eq!(journal.connections(Transport::Https), 5);
    let last = journal.last().last().unwrap();
    assert_eq!((last.transport, last.name.as_str(), last.kind.as_str()), (Transport::Https, HOST, "A"));
}

#[test]
fn each_wrong_answer_is_given_over_each_transport() {
    let server = server();
    let private: IpAddr = "10.10.10.10".parse().unwrap();
    for transport in Transport::ALL {
        let with = |fault: Fault| {
            server.set_fault(Scope::over(transport).about(HOST), fault).unwrap();
            let answer = over(transport, &server, HOST);
            server.clear_faults().unwrap();
            answer
        };
        let code = |fault| with(fault).unwrap().metadata.response_code;
        assert_eq!(code(Fault::Nxdomain), ResponseCode::NXDomain);
        assert_eq!(code(Fault::Servfail), ResponseCode::ServFail);
        assert_eq!(code(Fault::Refused), ResponseCode::Refused);
        let empty = with(Fault::Empty).unwrap();
        assert_eq!((empty.metadata.response_code, empty.answers.len()), (ResponseCode::NoError, 0));
        let alias = Some("blocked.example".to_owned());
        let lie = with(Fault::Lie { addresses: vec![private], alias, ttl: None }).unwrap();
        assert_eq!((addresses(&lie), lie.answers.len(), lie.answers[0].ttl), (vec![private], 2, 1));
        let other = with(Fault::WrongQuestion).unwrap();
        assert_eq!(other.queries[0].name.to_ascii(), "another.example.");
        assert!(with(Fault::Garbage).is_err());
        // Another name and another transport are answered well.
        server.set_fault(Scope::over(transport).about("other.example"), Fault::Servfail).unwrap();
        assert_eq!(addresses(&over(transport, &server, HOST).unwrap()), [IpAddr::V4(ADDRESS)]);
        server.clear_faults().unwrap();
    }
}

#[test]
fn a_wrong_transaction_id_or_port_is_sent_as_an_attacker_would() {
    let server = server();
    let query = question(HOST);
    server.set_fault_times(Scope::over(Transport::Udp), Fault::WrongId, 1).unwrap();
    let (answer, from) = ask_udp(&server, &query, PATIENCE).unwrap();
    assert_ne!(Message::from_vec(&answer).unwrap().metadata.id, query.metadata.id);
    assert_eq!(from, server.address(Transport::Udp).unwrap());
    server.set_fault_times(Scope::over(Transport::Udp), Fault::WrongPort, 1).unwrap();
    let (answer, from) = ask_udp(&server, &query, PATIENCE).unwrap();
    assert_eq!(Message::from_vec(&answer).unwrap().metadata.id, query.metadata.id);
    assert_ne!(from, server.address(Transport::Udp).unwrap());
    // Both were for one question.
    let (answer, from) = ask_udp(&server, &query, PATIENCE).unwrap();
    assert_eq!(Message::from_vec(&answer).unwrap().metadata.id, query.metadata.id);
    assert_eq!(from, server.address(Transport::Udp).unwrap());
}

#[test]
fn a_truncated_answer_is_whole_over_tcp_on_the_same_port() {
    let server = server();
    server.set_fault(Scope::everywhere(), Fault::Truncate).unwrap();
    let short = over_udp(&server, HOST);
    assert!(short.metadata.truncation && short.answers.is_empty());
    assert_eq!(server.address(Transport::Udp).unwrap(), server.address(Transport::Tcp).unwrap());
    assert_eq!(addresses(&over(Transport::Tcp, &server, HOST).unwrap()), [IpAddr::V4(ADDRESS)]);
    // Also without a fault, when it is too long for a datagram.
    server.clear_faults().unwrap();
    let many: Vec<IpAddr> = (1..=100).map(|last| Ipv4Addr::new(157, 240, 1, last).into()).collect();
    server.set_host("many.example", &many, 60).unwrap();
    assert!(over_udp(&server, "many.example").metadata.truncation);
    assert_eq!(addresses(&over(Transport::Tcp, &server, "many.example").unwrap()), many);
}

#[test]
fn silence_and_delay_keep_the_asker_waiting() {
    let server = server();
    server.set_fault(Scope::everywhere(), Fault::Silence).unwrap();
    let timed_out =
        |error: std::io::Error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
    assert!(timed_out(ask_udp(&server, &question(HOST), IN_VAIN).unwrap_err()));
    assert!(timed_out(over_tcp(&server, HOST, IN_VAIN).unwrap_err()));
    server.wait_for("the silent questions", PATIENCE, |asked| (asked.total() == 2).then_some(())).unwrap();
    server.clear_faults().unwrap();
    server.set_fault(Scope::over(Transport::Https), Fault::Delay { ms: 100 }).unwrap();
    let begun = Instant::now();
    over_https(&server, HOST).unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(100));
}

#[test]
fn a_fifth_of_the_questions_can_be_lost() {
    let server = server();
    server.set_fault(Scope::over(Transport::Udp), Fault::Drop { percent: 20 }).unwrap();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let query = question(HOST).to_vec().unwrap();
    let mut answered = 0;
    socket.set_nonblocking(true).unwrap();
    for sent in 1..=200 {
        socket.send_to(&query, server.address(Transport::Udp).unwrap()).unwrap();
        server.wait_for("the question", PATIENCE, |asked| (asked.total() == sent).then_some(())).unwrap();
    }
    let until = Instant::now() + PATIENCE;
    // The dice are loaded: seed 0 loses the same questions each time.
    while answered < 140 && Instant::now() < until {
        match socket.recv(&mut [0; 512]) {
            Ok(_) => answered += 1,
            Err(_) => std::thread::yield_now(),
        }
    }
    assert_eq!(answered, 140, "too many were lost");
    assert_eq!(server.queries().over(Transport::Udp), 200, "lost ones count too");
}

#[test]
fn a_dead_server_refuses_and_comes_back_on_the_same_addresses() {
    let server = server();
    let before: Vec<SocketAddr> = Transport::ALL.iter().flat_map(|over| server.addresses(*over)).collect();
    let mut open = TcpStream::connect(server.address(Transport::Tcp).unwrap()).unwrap();
    server.die().unwrap();
    for transport in [Transport::Tcp, Transport::Tls, Transport::Https] {
        let refused = TcpStream::connect(server.address(transport).unwrap()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{transport:?}");
    }
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(server.address(Transport::Udp).unwrap()).unwrap();
    socket.send(&question(HOST).to_vec().unwrap()).unwrap();
    assert_eq!(socket.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    open.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(open.read(&mut [0]).unwrap_or(0), 0, "what was open is cut");

    server.come_back().unwrap();
    let after: Vec<SocketAddr> = Transport::ALL.iter().flat_map(|over| server.addresses(*over)).collect();
    assert_eq!(before, after);
    for transport in Transport::ALL {
        over(transport, &server, HOST).unwrap();
    }
    // One transport alone.
    server.set_fault(Scope::over(Transport::Tls), Fault::Refuse).unwrap();
    assert!(over_tls(&server, HOST).is_err());
    over_https(&server, HOST).unwrap();
    server.clear_faults().unwrap();
    over_tls(&server, HOST).unwrap();
}

#[test]
fn connections_are_stalled_cut_and_given_wrong_certificates() {
    let server = server();
    for transport in [Transport::Tls, Transport::Https] {
        let failure = |fault| {
            server.set_fault_times(Scope::over(transport), fault, 1).unwrap();
            format!("{:#}", over(transport, &server, HOST).unwrap_err())
        };
        assert!(failure(Fault::Cut).contains("shaking hands"));
        assert!(failure(Fault::WrongAuthority).contains("UnknownIssuer"));
        let name = failure(Fault::WrongName);
        assert!(name.contains("not valid for"), "{name}");
        // Each happened once.
        over(transport, &server, HOST).unwrap();
    }
    server.set_fault_times(Scope::over(Transport::Tcp), Fault::Cut, 1).unwrap();
    assert!(over_tcp(&server, HOST, PATIENCE).is_err());
    server.set_fault(Scope::over(Transport::Tls), Fault::Stall).unwrap();
    let mut stream = TcpStream::connect(server.address(Transport::Tls).unwrap()).unwrap();
    stream.set_read_timeout(Some(IN_VAIN)).unwrap();
    stream.write_all(&[0x16, 0x03, 0x01]).unwrap();
    let silent = stream.read(&mut [0]).unwrap_err();
    assert!(matches!(silent.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{silent}");
    server.set_fault(Scope::over(Transport::Https), Fault::HttpStatus { status: 503 }).unwrap();
    assert_eq!(https(&server, &posted(HOST)).unwrap().0, "HTTP/1.1 503 Test");
}

#[test]
fn a_fault_on_one_address_leaves_the_others_alone() {
    let free = |last| SocketAddr::from(([127, 0, 0, last], 0));
    let server = DnsServer::start(Options { plain: vec![free(1), free(2)], ..Options::default() }).unwrap();
    server.set_host(HOST, &[ADDRESS.into()], 60).unwrap();
    server.set_fault(Scope::over(Transport::Udp).at([127, 0, 0, 1].into()), Fault::Refused).unwrap();
    let code = |address: SocketAddr| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send_to(&question(HOST).to_vec().unwrap(), address).unwrap();
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer).unwrap();
        Message::from_vec(&answer[..length]).unwrap().metadata.response_code
    };
    let codes: Vec<ResponseCode> = server.addresses(Transport::Udp).into_iter().map(code).collect();
    assert_eq!(codes, [ResponseCode::Refused, ResponseCode::NoError]);
}
