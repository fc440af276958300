//! A home line: the bot's side and the internet as two network namespaces, under every weather.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Stdio;
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use testbed::baileys::PATIENCE;
use testbed::dns::{self, Transport};
use testbed::interrupt::wait_until;
use testbed::line::{HOME, Line, Publication, ROUTER};
use testbed::proxy::{Tls, Whom};
use testbed::{Authority, DnsServer, Options, WhatsApp, proxy};

const WHATSAPP: Ipv4Addr = Ipv4Addr::new(157, 240, 0, 60);
const RESOLVER: Ipv4Addr = Ipv4Addr::new(1, 1, 1, 1);
const HTTPS: u16 = 443;

/// How long a test looks at something that must not come; far above the line's round trip.
const IN_VAIN: Duration = Duration::from_millis(300);

/// A server on the internet that sends back what it gets.
fn start_echo(line: &Line, address: SocketAddr) {
    let listener = line.internet(|| TcpListener::bind(address).unwrap()).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut buffer = [0; 64];
                while let Ok(read @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..read]).is_err() {
                        return;
                    }
                }
            });
        }
    });
}

fn dial(line: &Line, to: SocketAddr, deadline: Duration) -> std::io::Result<TcpStream> {
    let stream = line.at_home(|| TcpStream::connect_timeout(&to, deadline)).unwrap()?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Whether `text` comes back before the deadline.
fn echoes(stream: &mut TcpStream, text: &str, deadline: Duration) -> std::io::Result<()> {
    stream.set_read_timeout(Some(deadline))?;
    stream.write_all(text.as_bytes())?;
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back)?;
    assert_eq!(back, text.as_bytes());
    Ok(())
}

fn line_with_echo() -> (Line, SocketAddr) {
    let line = Line::new().unwrap();
    let address = SocketAddr::new(line.host(WHATSAPP).unwrap(), HTTPS);
    start_echo(&line, address);
    (line, address)
}

fn did_not_come<T: std::fmt::Debug>(outcome: std::io::Result<T>) {
    let error = outcome.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock), "{error}");
}

#[test]
fn what_is_lost_in_a_black_hole_arrives_when_it_heals() {
    let (line, server) = line_with_echo();
    let mut open = dial(&line, server, PATIENCE).unwrap();
    echoes(&mut open, "halo", PATIENCE).unwrap();
    assert_eq!(open.local_addr().unwrap().ip(), IpAddr::V4(HOME));

    line.black_hole(true).unwrap();
    did_not_come(echoes(&mut open, "satu", IN_VAIN));
    did_not_come(dial(&line, server, IN_VAIN));
    line.heal().unwrap();
    open.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut late = [0; 4];
    open.read_exact(&mut late).unwrap();
    assert_eq!(&late, b"satu");
}

#[test]
fn swallowed_first_packets_stop_new_connections_alone() {
    let (line, server) = line_with_echo();
    let mut open = dial(&line, server, PATIENCE).unwrap();
    line.swallow_syn(true).unwrap();
    did_not_come(dial(&line, server, IN_VAIN));
    echoes(&mut open, "halo", PATIENCE).unwrap();
    line.swallow_syn(false).unwrap();
    dial(&line, server, PATIENCE).unwrap();
}

#[test]
fn large_packets_vanish_in_both_directions_until_the_interface_makes_smaller_ones() {
    let (line, server) = line_with_echo();
    let large = "x".repeat(20_000);
    line.swallow_larger_than(1400).unwrap();
    let mut open = dial(&line, server, PATIENCE).unwrap();
    echoes(&mut open, "halo", PATIENCE).unwrap();
    did_not_come(echoes(&mut open, &large, IN_VAIN));
    line.set_mtu(1280).unwrap();
    echoes(&mut dial(&line, server, PATIENCE).unwrap(), &large, PATIENCE).unwrap();
    line.set_mtu(1500).unwrap();
    line.heal().unwrap();
    echoes(&mut dial(&line, server, PATIENCE).unwrap(), &large, PATIENCE).unwrap();
}

#[test]
fn resets_end_open_connections_and_refuse_new_ones() {
    let (line, server) = line_with_echo();
    let mut open = dial(&line, server, PATIENCE).unwrap();
    line.reset_connections(true).unwrap();
    assert_eq!(echoes(&mut open, "halo", PATIENCE).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(dial(&line, server, PATIENCE).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    line.heal().unwrap();
    echoes(&mut dial(&line, server, PATIENCE).unwrap(), "halo", PATIENCE).unwrap();
}

#[test]
fn ports_and_hosts_are_closed_or_swallowed_one_by_one() {
    let (line, server) = line_with_echo();
    let other = SocketAddr::new(line.host(RESOLVER).unwrap(), 853);
    start_echo(&line, other);
    line.refuse(HTTPS).unwrap();
    assert_eq!(dial(&line, server, PATIENCE).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let unreachable = line.at_home(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect(server)?;
        socket.send(b"halo")?;
        socket.recv(&mut [0; 8])
    });
    assert_eq!(unreachable.unwrap().unwrap_err().kind(), ErrorKind::ConnectionRefused);
    dial(&line, other, PATIENCE).unwrap();

    line.heal().unwrap();
    line.swallow_port(853).unwrap();
    did_not_come(dial(&line, other, IN_VAIN));
    dial(&line, server, PATIENCE).unwrap();
    line.heal().unwrap();
    line.swallow_host(WHATSAPP.into()).unwrap();
    did_not_come(dial(&line, server, IN_VAIN));
    dial(&line, other, PATIENCE).unwrap();
}

#[test]
fn a_lossy_line_loses_its_share_in_both_directions() {
    const SENT: usize = 100;
    let line = Line::new().unwrap();
    let server = SocketAddr::new(line.host(RESOLVER).unwrap(), 53);
    let echo = line.internet(|| UdpSocket::bind(server).unwrap()).unwrap();
    let client = line.at_home(|| UdpSocket::bind((HOME, 0)).unwrap()).unwrap();
    client.connect(server).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let arrived = std::thread::spawn(move || {
        let mut arrived = 0;
        loop {
            let mut datagram = [0; 8];
            let (length, from) = echo.recv_from(&mut datagram).unwrap();
            arrived += 1;
            echo.send_to(&datagram[..length], from).unwrap();
            if &datagram[..length] == b"last" {
                return arrived - 1;
            }
        }
    });
    line.loss(20).unwrap();
    for _ in 0..SENT {
        client.send(b"next").unwrap();
    }
    // What was in time to be lost has been.
    line.loss(0).unwrap();
    client.send(b"last").unwrap();
    let mut back = 0;
    loop {
        let mut datagram = [0; 8];
        let length = client.recv(&mut datagram).unwrap();
        if &datagram[..length] == b"last" {
            break;
        }
        back += 1;
    }
    let arrived = arrived.join().unwrap();
    assert!((1..SENT).contains(&arrived), "{arrived} of {SENT} arrived");
    assert!((1..=arrived).contains(&back), "{back} of {arrived} came back");
    assert!(line.loss(101).is_err());
}

#[test]
fn a_pulled_cable_is_seen_at_home_and_the_connection_survives_it() {
    let (line, server) = line_with_echo();
    let mut stream = dial(&line, server, PATIENCE).unwrap();
    let carrier = || {
        let output = line.command("ip").args(["-o", "link", "show", "eth0"]).output().unwrap();
        !String::from_utf8(output.stdout).unwrap().contains("NO-CARRIER")
    };
    assert!(carrier());
    line.down().unwrap();
    wait_until("the carrier to go", PATIENCE, || Ok((!carrier()).then_some(()))).unwrap();
    did_not_come(echoes(&mut stream, "halo", IN_VAIN));
    line.up().unwrap();
    wait_until("the carrier to come", PATIENCE, || Ok(carrier().then_some(()))).unwrap();
    let mut late = [0; 4];
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.read_exact(&mut late).unwrap();
    assert_eq!(&late, b"halo");
}

#[test]
fn a_new_address_strands_the_old_connection() {
    let (line, server) = line_with_echo();
    let mut old = dial(&line, server, PATIENCE).unwrap();
    let new = Ipv4Addr::new(192, 168, 1, 77);
    line.change_address(new).unwrap();
    assert_eq!(line.address(), new);
    assert!(echoes(&mut old, "halo", IN_VAIN).is_err());
    let fresh = dial(&line, server, PATIENCE).unwrap();
    assert_eq!(fresh.local_addr().unwrap().ip(), IpAddr::V4(new));
    assert!(line.change_address(Ipv4Addr::new(10, 0, 0, 1)).is_err());
}

#[test]
fn programs_at_home_see_the_line_alone_and_end_with_whoever_started_them() {
    let line = Line::new().unwrap();
    let links = line.command("ip").args(["-o", "link"]).output().unwrap();
    let links = String::from_utf8(links.stdout).unwrap();
    let names: Vec<&str> =
        links.lines().filter_map(|link| link.split(": ").nth(1)?.split('@').next()).collect();
    assert_eq!(names, ["lo", "eth0"]);

    let start = || {
        let child = line.command("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap();
        // Before that it is still on its way into the namespace, without its death signal.
        let name = format!("/proc/{}/comm", child.id());
        let running = || Ok((std::fs::read_to_string(&name)? == "sleep\n").then_some(()));
        wait_until("the program to run", PATIENCE, running).unwrap();
        child
    };
    let mut orphan = std::thread::scope(|scope| scope.spawn(start).join().unwrap());
    wait_until("the orphan to end", PATIENCE, || Ok(orphan.try_wait()?)).unwrap();

    let path = line.resolv_conf("nameserver 192.168.1.1\n").unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "nameserver 192.168.1.1\n");
    drop(line);
    assert!(!path.exists());
}

#[test]
fn the_test_s_servers_stand_on_their_real_addresses_and_ports() {
    let authority = Authority::new().unwrap();
    let line = Line::new().unwrap();
    for address in [WHATSAPP, RESOLVER] {
        line.host(address).unwrap();
    }
    let (whatsapp, resolver, router) = line
        .internet(|| {
            let whatsapp = WhatsApp::start(Options {
                address: (WHATSAPP, HTTPS).into(),
                tls: true,
                authority: Some(authority.clone()),
                ..Options::default()
            });
            let resolver = DnsServer::start(dns::Options {
                authority: Some(authority.clone()),
                ..dns::Options::resolver(&[RESOLVER.into()])
            });
            let router = DnsServer::start(dns::Options::router(&[ROUTER.into()]));
            (whatsapp.unwrap(), resolver.unwrap(), router.unwrap())
        })
        .unwrap();
    assert_eq!(resolver.address(Transport::Https).unwrap(), (RESOLVER, HTTPS).into());
    // It can die and come back inside, though it is told so from here.
    router.die().unwrap();
    router.come_back().unwrap();

    let connector = authority.connector().unwrap();
    for (address, name) in [
        ((WHATSAPP, HTTPS), "web.whatsapp.com"),
        ((RESOLVER, HTTPS), "1.1.1.1"),
        ((RESOLVER, 853), "one.one.one.one"),
    ] {
        let stream = dial(&line, address.into(), PATIENCE).unwrap();
        smol::block_on(async {
            let stream = smol::Async::new(stream).unwrap();
            let name = name.to_owned().try_into().unwrap();
            let mut tls = connector.connect(name, stream).await.unwrap();
            tls.close().await.unwrap();
        });
    }
    dial(&line, (ROUTER, 53).into(), PATIENCE).unwrap();
    assert_eq!(whatsapp.connections(), 1);
}

#[test]
fn a_server_outside_the_line_is_published_on_it_and_refuses_and_comes_back_there() {
    let authority = Authority::new().unwrap();
    let line = Line::new().unwrap();
    let address = SocketAddr::new(line.host(Ipv4Addr::new(104, 18, 0, 10)).unwrap(), HTTPS);
    // It stays where the test is: PostgreSQL and PostgREST behind a gateway, for example.
    let outside = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = outside.local_addr().unwrap();
    let publication = Publication {
        server,
        at: address,
        tls: Some(Tls { authority: authority.clone(), names: vec!["project.supabase.co".into()] }),
    };
    let proxy = line.publish(publication).unwrap();
    proxy.set_fault(Whom::New, &proxy::Fault::Refuse).unwrap();
    assert_eq!(dial(&line, address, PATIENCE).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    proxy.clear_faults().unwrap();

    let stream = dial(&line, address, PATIENCE).unwrap();
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = outside.accept().unwrap();
        let mut question = [0; 4];
        stream.read_exact(&mut question).unwrap();
        stream.write_all(&question).unwrap();
    });
    let connector = authority.connector().unwrap();
    smol::block_on(async {
        let stream = smol::Async::new(stream).unwrap();
        let mut tls = connector.connect("project.supabase.co".try_into().unwrap(), stream).await.unwrap();
        tls.write_all(b"halo").await.unwrap();
        tls.flush().await.unwrap();
        let mut back = [0; 4];
        tls.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"halo");
    });
    serving.join().unwrap();
}
