//! The proxy with real sockets on both sides, honest and with each fault.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use testbed::baileys::PATIENCE;
use testbed::interrupt::wait_until;
use testbed::proxy::{Direction, Fault, Options, Tls, When, Whom};
use testbed::{Authority, Proxy};

/// How long a test waits for what must not come; far above a loopback's round trip.
const IN_VAIN: Duration = Duration::from_millis(200);

/// A server that sends back what it gets.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..read]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn proxy() -> Proxy {
    Proxy::start(Options::to(echo())).unwrap()
}

fn dial(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn echoes(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes)?;
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back)?;
    assert_eq!(back, bytes);
    Ok(())
}

/// A connection through which something has come already.
fn open(proxy: &Proxy) -> TcpStream {
    let mut stream = dial(proxy);
    echoes(&mut stream, b"halo").unwrap();
    stream
}

fn is_silent(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(IN_VAIN)).unwrap();
    let error = stream.read(&mut [0]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
}

#[test]
fn everything_passes_and_is_counted_and_an_end_is_passed_on() {
    let proxy = proxy();
    let mut stream = dial(&proxy);
    let bytes: Vec<u8> = (0..100_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let mut writer = stream.try_clone().unwrap();
    let sent = bytes.clone();
    let writing = std::thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    writing.join().unwrap();
    assert_eq!(back, bytes);
    wait_until("the end", PATIENCE, || Ok((proxy.counts().open == 0).then_some(()))).unwrap();
    let counts = proxy.counts();
    assert_eq!((counts.accepted, counts.bytes_to_server, counts.bytes_to_client), (1, 100_000, 100_000));
}

#[test]
fn a_delay_is_latency_in_one_direction_and_no_bottleneck() {
    let proxy = proxy();
    let mut stream = open(&proxy);
    let delay = Fault::Delay { ms: 100, direction: Some(Direction::ToClient) };
    proxy.set_fault(Whom::Open, &delay).unwrap();
    let begun = Instant::now();
    for number in 0..50 {
        stream.write_all(&[number]).unwrap();
    }
    let mut back = [0; 50];
    stream.read_exact(&mut back).unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(100));
    assert!(begun.elapsed() < Duration::from_millis(50 * 100), "each byte waited for the one before");
}

#[test]
fn a_throttle_and_a_drip_slow_everything_down() {
    let proxy = proxy();
    let throttle = Fault::Throttle { bytes_per_second: 10_000, direction: Some(Direction::ToServer) };
    proxy.set_fault(Whom::New, &throttle).unwrap();
    let begun = Instant::now();
    echoes(&mut dial(&proxy), &[7; 3000]).unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(250), "{:?}", begun.elapsed());
    proxy.clear_faults().unwrap();

    proxy.set_fault(Whom::All, &Fault::Drip { ms: 10 }).unwrap();
    let begun = Instant::now();
    echoes(&mut dial(&proxy), &[7; 20]).unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(190), "{:?}", begun.elapsed());
}

#[test]
fn connections_are_cut_and_reset_at_once() {
    let proxy = proxy();
    let mut stream = open(&proxy);
    proxy.set_fault(Whom::Open, &Fault::Cut { when: When::now() }).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "a proper end");
    let mut stream = open(&proxy);
    proxy.set_fault(Whom::Open, &Fault::Reset { when: When::now() }).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    open(&proxy);
}

#[test]
fn connections_end_after_so_many_bytes_or_so_much_time() {
    let proxy = proxy();
    // As within a handshake: exactly so many bytes come.
    proxy.set_fault(Whom::New, &Fault::Cut { when: When::from_server(5) }).unwrap();
    let mut stream = dial(&proxy);
    stream.write_all(b"halo semua").unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    assert_eq!(back, b"halo ");
    proxy.clear_faults().unwrap();

    proxy.set_fault(Whom::New, &Fault::Reset { when: When::from_client(8) }).unwrap();
    let mut stream = open(&proxy);
    let failed = echoes(&mut stream, b"halo semua").unwrap_err();
    assert!(matches!(failed.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{failed}");
    proxy.clear_faults().unwrap();

    let mut stream = open(&proxy);
    let when = When::after(Duration::from_millis(50));
    let begun = Instant::now();
    proxy.set_fault(Whom::Open, &Fault::Reset { when }).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(begun.elapsed() >= Duration::from_millis(50));
}

#[test]
fn a_half_open_connection_goes_on_when_the_faults_are_cleared() {
    let proxy = proxy();
    let mut stream = open(&proxy);
    proxy.set_fault(Whom::Open, &Fault::HalfOpen { when: When::now() }).unwrap();
    stream.write_all(b"satu").unwrap();
    is_silent(&mut stream);
    assert_eq!(proxy.counts().open, 1);
    // New ones were not meant.
    open(&proxy);
    proxy.clear_faults().unwrap();
    let mut late = [0; 4];
    stream.read_exact(&mut late).unwrap();
    assert_eq!(&late, b"satu");
}

#[test]
fn a_black_hole_takes_connections_and_never_dials() {
    let proxy = proxy();
    proxy.set_fault(Whom::New, &Fault::BlackHole).unwrap();
    let mut stream = dial(&proxy);
    stream.write_all(b"halo").unwrap();
    is_silent(&mut stream);
    let counts = proxy.counts();
    assert_eq!((counts.accepted, counts.open, counts.bytes_to_server), (1, 1, 0));
}

#[test]
fn a_refusal_leaves_open_connections_and_ends_on_the_same_port() {
    let proxy = proxy();
    let mut stream = open(&proxy);
    proxy.set_fault(Whom::All, &Fault::Refuse).unwrap();
    let refused = TcpStream::connect(proxy.address()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    echoes(&mut stream, b"masih").unwrap();
    proxy.clear_faults().unwrap();
    open(&proxy);
}

#[test]
fn a_dead_server_behind_resets_the_client() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = taken.local_addr().unwrap();
    drop(taken);
    let proxy = Proxy::start(Options::to(dead)).unwrap();
    let failed = dial(&proxy).read(&mut [0]).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::ConnectionReset);
    assert_eq!(proxy.counts().failed_dials, 1);
}

#[test]
fn tls_can_end_at_the_proxy() {
    let authority = Authority::new().unwrap();
    let names = vec!["project.supabase.co".to_owned()];
    let tls = Some(Tls { authority: authority.clone(), names });
    let proxy = Proxy::start(Options { tls, ..Options::to(echo()) }).unwrap();
    let connector = authority.connector().unwrap();
    smol::block_on(async {
        let tcp = smol::Async::<TcpStream>::connect(proxy.address()).await.unwrap();
        let name = "project.supabase.co".try_into().unwrap();
        let mut stream = connector.connect(name, tcp).await.unwrap();
        stream.write_all(b"halo").await.unwrap();
        stream.flush().await.unwrap();
        let mut back = [0; 4];
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"halo");
    });
    assert_eq!(proxy.counts().bytes_to_server, 4);
}
