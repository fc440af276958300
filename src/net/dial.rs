//! Connections by host name: whichever address works first (RFC 8305), and TLS as the proof that it
//! is the right one.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_rustls::client::TlsStream;
use futures_rustls::rustls::ClientConfig;
use rustix::net::sockopt;
use smol::net::TcpStream;

use super::Resolver;
use super::deadline::within;
use super::in_flight::{InFlight, Next};
use super::resolver::ResolveError;
use super::segment::{self, SILENT_AFTER, Size};
use super::stream::Stream;
use super::tls::{self, TlsError};
use crate::clock;

/// Time for one address until it accepts. A SYN lost twice is repeated after 1 s and 3 s, so it
/// still gets through.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(4);

/// The next address is tried when the one before has not accepted within this time (RFC 8305 §5).
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

// The same when the one before has accepted and TLS is under way: SILENT_AFTER.

/// Addresses that are tried once more with small segments in one race: so many silent handshakes speak for
/// a line that swallows large packets.
const SMALL_TRIED: usize = 2;

/// Sockets at once.
const MOST_SOCKETS: usize = 4;

/// Addresses that are tried in one go.
const MOST_TRIED: usize = 16;

/// Time for names, TCP and TLS together, all addresses included; whatever is built on it has its
/// own limit.
pub const DIAL_DEADLINE: Duration = Duration::from_secs(18);

/// A silent connection is probed after this time, and dropped after [`KEEPALIVE_PROBES`] without
/// an answer. WhatsApp's own pings are faster; this is for whatever stops them.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;

/// Sent data that stays unacknowledged for so long ends the connection, in milliseconds. The
/// kernel would try for a quarter of an hour.
const UNACKNOWLEDGED_LIMIT_MS: u32 = 45_000;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("no way to `{host}` port {port} from here ({tried}); check cable, Wi-Fi and router")]
    NoNetwork { host: String, port: u16, tried: String },
    /// `others` says why there was no further address to try.
    #[error("no connection to `{host}` port {port} ({tried}); check the network. Further: {others}")]
    Unreachable { host: String, port: u16, tried: String, others: ResolveError },
    #[error(
        "no connection to `{host}` port {port} within {} s ({tried}); check the network",
        DIAL_DEADLINE.as_secs()
    )]
    Timeout { host: String, port: u16, tried: String },
}

/// Connects to `host`, without TLS.
pub async fn connect(resolver: &Resolver, host: &str, port: u16) -> Result<Stream, DialError> {
    dial(resolver, &Plain, host, port).await
}

/// Connects to `host` with TLS; its certificate must be valid for that name. An address where it is
/// not is reported to the resolver, and others are tried, also those that only other rungs know.
pub async fn connect_tls(
    resolver: &Resolver,
    tls: &Arc<ClientConfig>,
    host: &str,
    port: u16,
) -> Result<TlsStream<Stream>, DialError> {
    tls::server_name(host)?;
    dial(resolver, &Tls { config: tls, host }, host, port).await
}

/// What is put on a TCP connection.
trait Layer: Sync {
    type Stream: Send;
    /// Whether success proves that the address belongs to the host.
    const PROVES: bool;

    fn put_on(&self, stream: Stream) -> impl Future<Output = Result<Self::Stream, TlsError>> + Send;
}

struct Plain;

impl Layer for Plain {
    type Stream = Stream;
    const PROVES: bool = false;

    async fn put_on(&self, stream: Stream) -> Result<Stream, TlsError> {
        Ok(stream)
    }
}

struct Tls<'a> {
    config: &'a Arc<ClientConfig>,
    host: &'a str,
}

impl Layer for Tls<'_> {
    type Stream = TlsStream<Stream>;
    const PROVES: bool = true;

    async fn put_on(&self, stream: Stream) -> Result<Self::Stream, TlsError> {
        tls::handshake(self.config, self.host, stream).await
    }
}

/// What is wrong with an address.
#[derive(Debug)]
enum Failure {
    /// Nothing: the box itself has no way out.
    Line(String),
    /// It refused, or hung up.
    Unreachable(String),
    /// It said nothing, from the beginning or since it had `accepted`; in `small` packets either.
    Silent { accepted: bool, small: bool },
    /// It is not the host's.
    Disproved(String),
}

impl Failure {
    fn of_tcp(error: &io::Error) -> Self {
        use io::ErrorKind::{
            AddrNotAvailable, HostUnreachable, NetworkDown, NetworkUnreachable, PermissionDenied,
        };
        match error.kind() {
            AddrNotAvailable | HostUnreachable | NetworkDown | NetworkUnreachable | PermissionDenied => {
                Self::Line(error.to_string())
            }
            io::ErrorKind::TimedOut => Self::Silent { accepted: false, small: false },
            _ => Self::Unreachable(error.to_string()),
        }
    }

    fn of_tls(error: TlsError) -> Self {
        match error {
            // A certificate for the name that is not valid now: whoever has it has the right address,
            // and the clock is wrong.
            TlsError::Handshake { source, .. } if tls::is_about_time(&source) => {
                Self::Unreachable(format!("{source}; check the clock"))
            }
            TlsError::Handshake { source, .. } if source.kind() != io::ErrorKind::TimedOut => {
                Self::Disproved(source.to_string())
            }
            TlsError::Timeout { .. } | TlsError::Handshake { .. } => {
                Self::Silent { accepted: true, small: false }
            }
            error => Self::Unreachable(error.to_string()),
        }
    }
}

async fn dial<L: Layer>(
    resolver: &Resolver,
    layer: &L,
    host: &str,
    port: u16,
) -> Result<L::Stream, DialError> {
    let begun = clock::now();
    let end = begun + DIAL_DEADLINE;
    let mut tried: Vec<IpAddr> = Vec::new();
    let mut failures: Vec<(SocketAddr, Failure)> = Vec::new();
    let timeout = |failures: &[_]| DialError::Timeout { host: host.to_owned(), port, tried: told(failures) };
    loop {
        let rest = end.saturating_duration_since(clock::now());
        let addresses = match within(rest, Box::pin(resolver.lookup_beyond(host, &tried, begun))).await {
            Some(Ok(addresses)) => addresses,
            Some(Err(error)) if tried.is_empty() => return Err(error.into()),
            Some(Err(others)) => {
                let tried = told(&failures);
                return Err(DialError::Unreachable { host: host.to_owned(), port, tried, others });
            }
            None => return Err(timeout(&failures)),
        };
        let addresses = interleave(&addresses, MOST_TRIED - tried.len());
        tried.extend(&addresses);
        let race = Race { resolver, layer, host, port, end };
        if let Some(stream) = race.run(&addresses, &mut failures).await {
            return Ok(stream);
        }
        if clock::now() >= end || tried.len() >= MOST_TRIED {
            return Err(timeout(&failures));
        }
        if failures.iter().all(|(_, failure)| matches!(failure, Failure::Line(_))) {
            return Err(DialError::NoNetwork { host: host.to_owned(), port, tried: told(&failures) });
        }
    }
}

/// At most `most` of the addresses: IPv4 and IPv6 in turn, each in the resolver's order. IPv4 begins
/// because home lines in Indonesia often have an IPv6 that leads nowhere.
fn interleave(addresses: &[IpAddr], most: usize) -> Vec<IpAddr> {
    let (mut v4, mut v6) = (
        addresses.iter().filter(|address| address.is_ipv4()),
        addresses.iter().filter(|address| address.is_ipv6()),
    );
    let mut mixed = Vec::new();
    while mixed.len() < addresses.len().min(most) {
        mixed.extend(v4.next());
        mixed.extend(v6.next());
    }
    mixed.truncate(most);
    mixed
}

fn told(failures: &[(SocketAddr, Failure)]) -> String {
    if failures.is_empty() {
        return "nothing was tried".into();
    }
    let all = failures.iter().map(|(address, failure)| match failure {
        Failure::Line(reason) | Failure::Unreachable(reason) => format!("{address}: {reason}"),
        Failure::Disproved(reason) => format!("{address}: no TLS for the name, {reason}"),
        Failure::Silent { accepted: false, .. } => format!("{address}: silent"),
        Failure::Silent { small: false, .. } => format!("{address}: silent during the TLS handshake"),
        Failure::Silent { .. } => format!("{address}: silent during the TLS handshake, in small packets too"),
    });
    all.collect::<Vec<_>>().join(", ")
}

/// Several addresses at once, of which one has to work.
struct Race<'a, L> {
    resolver: &'a Resolver,
    layer: &'a L,
    host: &'a str,
    port: u16,
    end: Instant,
}

impl<L: Layer> Race<'_, L> {
    async fn run(
        &self,
        addresses: &[IpAddr],
        failures: &mut Vec<(SocketAddr, Failure)>,
    ) -> Option<L::Stream> {
        let size = self.resolver.segments().size(clock::now());
        let progress = Mutex::new(Progress::default());
        let mut waiting = addresses.iter();
        let mut in_flight = InFlight::new();
        let mut next_start = clock::now();
        loop {
            let now = clock::now();
            if now >= self.end {
                for address in lock(&progress).silent(now) {
                    self.resolver.silent(self.host, address);
                }
                let silent = |address: &IpAddr| {
                    let silent = Failure::Silent { accepted: false, small: false };
                    (SocketAddr::new(*address, self.port), silent)
                };
                failures.extend(
                    addresses
                        .iter()
                        .filter(|ip| failures.iter().all(|(f, _)| f.ip() != **ip))
                        .map(silent)
                        .collect::<Vec<_>>(),
                );
                return None;
            }
            let (small, may_be_small, busy_until) = {
                let progress = lock(&progress);
                let last = waiting.len() == 0;
                let hope = L::PROVES && size == Size::Usual;
                let small = hope.then(|| progress.small_next(last, now)).flatten();
                (small, hope && progress.may_need_small(), progress.busy_until)
            };
            let room = in_flight.len() < MOST_SOCKETS && (waiting.len() > 0 || small.is_some());
            // Whoever has accepted is given time for TLS before another is troubled.
            let start = busy_until.map_or(next_start, |until: Instant| next_start.max(until));
            if room && now >= start {
                let next = small.map(|address| (address, Size::Small));
                if let Some((address, size)) = next.or_else(|| waiting.next().map(|ip| (*ip, size))) {
                    let place = lock(&progress).begin(address, size, now);
                    in_flight.add(place, self.attempt(place, address, size, small.is_some(), &progress));
                    next_start = now + NEXT_ADDRESS_AFTER;
                    continue;
                }
            }
            if in_flight.is_empty() && !room {
                return None;
            }
            let until = match (room, may_be_small) {
                (true, _) => start,
                // Somebody may accept meanwhile, and then say nothing.
                (false, true) => now + NEXT_ADDRESS_AFTER,
                (false, false) => self.end,
            };
            match in_flight.next(until.min(self.end).saturating_duration_since(now)).await {
                Next::Time => {}
                Next::Done(place, Ok(stream)) => {
                    self.won(&lock(&progress), place);
                    return Some(stream);
                }
                Next::Done(place, Err(failure)) => {
                    let address = lock(&progress).end(place, &failure);
                    match &failure {
                        Failure::Line(_) => {}
                        Failure::Unreachable(_) => self.resolver.unreachable(self.host, address),
                        Failure::Silent { .. } => self.resolver.silent(self.host, address),
                        Failure::Disproved(why) => self.resolver.disproved(self.host, address, why),
                    }
                    failures.push((SocketAddr::new(address, self.port), failure));
                    next_start = clock::now();
                }
            }
        }
    }

    /// Notes what the success of one attempt says of the others.
    fn won(&self, progress: &Progress, place: usize) {
        if !L::PROVES {
            return;
        }
        let (now, winner) = (clock::now(), &progress.attempts[place]);
        if progress.needed_small(place) {
            let what =
                format!("{} finished TLS in small ones only", SocketAddr::new(winner.address, self.port));
            self.resolver.segments().large_vanish(&what, now);
        } else {
            for address in progress.silent(now).into_iter().filter(|address| *address != winner.address) {
                self.resolver.silent(self.host, address);
            }
        }
        self.resolver.proved(self.host, winner.address);
    }

    /// `beside`: the same address is being tried with usual segments.
    async fn attempt(
        &self,
        place: usize,
        address: IpAddr,
        size: Size,
        beside: bool,
        progress: &Mutex<Progress>,
    ) -> Result<L::Stream, Failure> {
        let silent = |accepted| Failure::Silent { accepted, small: size == Size::Small };
        let stream = within(ADDRESS_TIMEOUT, segment::connect((address, self.port).into(), size))
            .await
            .ok_or_else(|| silent(false))?
            .map_err(|error| Failure::of_tcp(&error))?;
        tune(&stream).map_err(|error| Failure::of_tcp(&error))?;
        let stream = Stream::new(stream).map_err(|error| Failure::of_tcp(&error))?;
        lock(progress).accepted(place, clock::now());
        // An attempt beside another ends with it, so that a further address has not to wait longer.
        let limit = if beside { tls::HANDSHAKE_TIMEOUT - SILENT_AFTER } else { tls::HANDSHAKE_TIMEOUT };
        let done = within(limit, Box::pin(self.layer.put_on(stream))).await;
        match done.ok_or_else(|| silent(true))?.map_err(Failure::of_tls) {
            Err(Failure::Silent { accepted, .. }) => Err(silent(accepted)),
            done => done,
        }
    }
}

fn lock(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How the attempts of a race stand. Time is an argument.
#[derive(Debug, Default)]
struct Progress {
    attempts: Vec<Attempt>,
    /// Nobody else is troubled until then.
    busy_until: Option<Instant>,
}

#[derive(Debug)]
struct Attempt {
    address: IpAddr,
    size: Size,
    begun: Instant,
    accepted: Option<Instant>,
    /// `Some(true)`: it accepted, and said nothing until it was given up.
    ended: Option<bool>,
}

impl Attempt {
    /// Whether it has accepted and then been silent for long.
    fn is_mute(&self, now: Instant) -> bool {
        let silent_since = |at: Instant| now.saturating_duration_since(at) >= SILENT_AFTER;
        self.ended.unwrap_or_else(|| self.accepted.is_some_and(silent_since))
    }
}

impl Progress {
    /// Returns the attempt's place.
    fn begin(&mut self, address: IpAddr, size: Size, now: Instant) -> usize {
        self.attempts.push(Attempt { address, size, begun: now, accepted: None, ended: None });
        self.attempts.len() - 1
    }

    fn accepted(&mut self, place: usize, now: Instant) {
        self.attempts[place].accepted = Some(now);
        let address = self.attempts[place].address;
        // One that is tried beside another of the same address keeps nobody waiting.
        if self.attempts[..place].iter().all(|other| other.address != address) {
            self.busy_until = Some(now + SILENT_AFTER);
        }
    }

    /// Returns whose attempt it was.
    fn end(&mut self, place: usize, failure: &Failure) -> IpAddr {
        self.busy_until = None;
        let attempt = &mut self.attempts[place];
        attempt.ended = Some(matches!(failure, Failure::Silent { accepted: true, .. }));
        attempt.address
    }

    /// The address to try once more with small segments: two have accepted and said nothing since, or one
    /// has and there is no other left (`last`). One such address may be a censor's; that two are is less
    /// likely than that their certificates do not come through.
    fn small_next(&self, last: bool, now: Instant) -> Option<IpAddr> {
        let of = |size| self.attempts.iter().filter(move |attempt| attempt.size == size);
        let mute: Vec<IpAddr> =
            of(Size::Usual).filter(|attempt| attempt.is_mute(now)).map(|attempt| attempt.address).collect();
        if of(Size::Small).count() >= SMALL_TRIED || (mute.len() < SMALL_TRIED && !last) {
            return None;
        }
        mute.into_iter().find(|address| of(Size::Small).all(|small| small.address != *address))
    }

    /// Whether [`small_next`](Self::small_next) may name somebody later, without anything being done by then.
    fn may_need_small(&self) -> bool {
        let under_way = |attempt: &Attempt| attempt.size == Size::Usual && attempt.ended.is_none();
        let small = self.attempts.iter().filter(|attempt| attempt.size == Size::Small).count();
        small < SMALL_TRIED && self.attempts.iter().any(under_way)
    }

    /// Whether the attempt at `place` did with small segments what the same address did not with usual ones.
    fn needed_small(&self, place: usize) -> bool {
        let winner = &self.attempts[place];
        let usual = |other: &&Attempt| {
            other.size == Size::Usual && other.address == winner.address && other.ended != Some(false)
        };
        winner.size == Size::Small && self.attempts.iter().any(|other| usual(&other))
    }

    /// Addresses under way that have been silent for so long that they will hardly answer.
    fn silent(&self, now: Instant) -> Vec<IpAddr> {
        let silent = |attempt: &&Attempt| {
            let for_long = now.saturating_duration_since(attempt.begun) >= ADDRESS_TIMEOUT;
            attempt.ended.is_none() && (for_long || attempt.is_mute(now))
        };
        self.attempts.iter().filter(silent).map(|attempt| attempt.address).collect()
    }
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)?;
    sockopt::set_tcp_user_timeout(stream, UNACKNOWLEDGED_LIMIT_MS)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::{self, Executor};
    use crate::net::resolver::{Options, last_good};
    use crate::net::rung::Condition;
    use crate::net::test_authority::Authority;
    use futures_lite::AsyncReadExt as _;
    use futures_rustls::TlsAcceptor;
    use futures_rustls::rustls::HandshakeKind;
    use smol::net::TcpListener;
    use std::collections::HashMap;

    const NAME: &str = "web.example.com";

    fn run<T>(test: impl AsyncFnOnce(Executor) -> T) -> T {
        let executor = executor::new();
        let result =
            executor::run(executor, within(Duration::from_secs(40), Box::pin(test(executor)))).unwrap();
        result.expect("the test did not end in time")
    }

    /// A resolver whose hosts file gives [`NAME`] these addresses.
    fn knowing(executor: Executor, addresses: &[&str]) -> (Resolver, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let hosts = folder.path().join("hosts");
        let lines: String = addresses.iter().map(|address| format!("{address} {NAME}\n")).collect();
        std::fs::write(&hosts, lines).unwrap();
        let options = Options {
            order: vec![],
            resolv_conf: "/nonexistent".into(),
            hosts,
            https: vec![],
            tls_servers: vec![],
            public: vec![],
            private: vec![],
            pinned: vec![],
        };
        let resolver =
            Resolver::new(executor, options, &tls::client_config(None).unwrap(), last_good::Nothing);
        (resolver, folder)
    }

    #[test]
    fn a_connection_notices_a_dead_peer() {
        run(async |executor| {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let resolver = Resolver::with_servers(executor, &[]);
            let port = listener.local_addr().unwrap().port();
            let stream = connect(&resolver, "127.0.0.1", port).await.unwrap();
            assert!(sockopt::tcp_nodelay(&stream).unwrap());
            assert!(sockopt::socket_keepalive(&stream).unwrap());
            assert_eq!(sockopt::tcp_keepidle(&stream).unwrap(), KEEPALIVE_IDLE);
            assert_eq!(sockopt::tcp_user_timeout(&stream).unwrap(), UNACKNOWLEDGED_LIMIT_MS);
        });
    }

    #[test]
    fn an_address_that_refuses_or_leads_nowhere_costs_next_to_nothing() {
        run(async |executor| {
            let listener = TcpListener::bind("127.0.0.5:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            // Nobody listens at the first; the second is a documentation address, silent or without a
            // route; so is the IPv6 one.
            let (resolver, _folder) =
                knowing(executor, &["127.0.0.6", "192.0.2.1", "2001:db8::1", "127.0.0.5"]);
            let begin = clock::now();
            let stream = connect(&resolver, NAME, port).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap().ip().to_string(), "127.0.0.5");
            assert!(clock::since(begin) < Duration::from_secs(2), "{:?}", clock::since(begin));
        });
    }

    #[test]
    fn a_listener_whose_queue_is_full_delays_the_next_address_by_a_quarter_of_a_second_only() {
        run(async |executor| {
            let listener = TcpListener::bind("127.0.0.5:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            // A listener that never accepts: its queue of one is full after two connections.
            let deaf =
                rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None)
                    .unwrap();
            rustix::net::bind(&deaf, &SocketAddr::from(([127, 0, 0, 6], port))).unwrap();
            rustix::net::listen(&deaf, 0).unwrap();
            let mut filling = Vec::new();
            while let Some(Ok(stream)) =
                within(Duration::from_millis(200), TcpStream::connect(("127.0.0.6", port))).await
            {
                filling.push(stream);
            }
            let (resolver, _folder) = knowing(executor, &["127.0.0.6", "127.0.0.5"]);
            let begin = clock::now();
            let stream = connect(&resolver, NAME, port).await.unwrap();
            let took = clock::since(begin);
            assert_eq!(stream.peer_addr().unwrap().ip().to_string(), "127.0.0.5");
            assert!((NEXT_ADDRESS_AFTER..Duration::from_millis(1000)).contains(&took), "{took:?}");
        });
    }

    #[test]
    fn families_take_turns_and_ipv4_begins() {
        let ips = |all: &[&str]| all.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>();
        let mixed = interleave(&ips(&["2a00::1", "2a00::2", "1.0.0.1", "1.0.0.2", "1.0.0.3"]), 9);
        assert_eq!(mixed, ips(&["1.0.0.1", "2a00::1", "1.0.0.2", "2a00::2", "1.0.0.3"]));
        assert_eq!(interleave(&ips(&["2a00::1", "2a00::2"]), 1), ips(&["2a00::1"]));
        assert_eq!(interleave(&[], 9), ips(&[]));
    }

    #[test]
    fn a_refusal_names_host_port_and_cause() {
        run(async |executor| {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            drop(listener);
            let resolver = Resolver::with_servers(executor, &[]);
            let error = connect(&resolver, "127.0.0.1", port).await.unwrap_err();
            assert!(matches!(error, DialError::Unreachable { .. }), "{error}");
            let text = error.to_string();
            assert!(text.contains(&port.to_string()) && text.contains("refused"), "{text}");
        });
    }

    /// A DNS server that gives `address` for every name.
    async fn dns(executor: Executor, address: [u8; 4]) -> SocketAddr {
        use hickory_resolver::proto::op::{Message, MessageType, OpCode};
        use hickory_resolver::proto::rr::{RData, Record, RecordType, rdata::A};
        let socket = smol::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let server = socket.local_addr().unwrap();
        let serve = async move {
            let mut buffer = [0; 1500];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
                let query = Message::from_vec(&buffer[..length]).unwrap();
                let asked = query.queries[0].clone();
                let mut answer = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
                if asked.query_type() == RecordType::A {
                    let [a, b, c, d] = address;
                    let data = RData::A(A::new(a, b, c, d));
                    answer.add_answer(Record::from_rdata(asked.name().clone(), 60, data));
                }
                answer.add_query(asked);
                socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
            }
        };
        executor.spawn(serve).detach();
        server
    }

    /// Finishes TLS with whoever comes.
    fn greet(executor: Executor, listener: TcpListener, acceptor: TlsAcceptor) {
        let serve = async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                drop(acceptor.accept(stream).await);
            }
        };
        executor.spawn(serve).detach();
    }

    #[test]
    fn every_connection_shakes_hands_whole_so_that_certificates_prove_that_large_packets_arrive() {
        run(async |executor| {
            let authority = Authority::new();
            let tls = authority.client();
            let listener = TcpListener::bind("127.0.0.5:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            greet(executor, listener, authority.server(NAME));
            let (resolver, _folder) = knowing(executor, &["127.0.0.5"]);
            for _ in 0..2 {
                let mut stream = connect_tls(&resolver, &tls, NAME, port).await.unwrap();
                // The server hangs up; its session tickets have come by then.
                let _ = stream.read_to_end(&mut Vec::new()).await;
                assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
            }
        });
    }

    #[test]
    fn an_address_that_accepts_and_then_says_nothing_or_hangs_up_is_followed_by_the_next() {
        run(async |executor| {
            let authority = Authority::new();
            let tls = authority.client();
            let good = TcpListener::bind("127.0.0.5:0").await.unwrap();
            let port = good.local_addr().unwrap().port();
            greet(executor, good, authority.server(NAME));
            let _silent = TcpListener::bind(("127.0.0.6", port)).await.unwrap();
            let cut = TcpListener::bind(("127.0.0.9", port)).await.unwrap();
            executor.spawn(async move { while cut.accept().await.is_ok() {} }).detach();
            for (bad, least, most) in [("127.0.0.6", SILENT_AFTER, 4), ("127.0.0.9", Duration::ZERO, 1)] {
                let (resolver, _folder) = knowing(executor, &[bad, "127.0.0.5"]);
                let begin = clock::now();
                let stream = connect_tls(&resolver, &tls, NAME, port).await.unwrap();
                let took = clock::since(begin);
                assert_eq!(stream.get_ref().0.peer_addr().unwrap().ip().to_string(), "127.0.0.5");
                assert!((least..Duration::from_secs(most)).contains(&took), "{bad}: {took:?}");
            }
        });
    }

    const MUTE: Failure = Failure::Silent { accepted: true, small: false };

    #[test]
    fn small_segments_are_for_two_addresses_that_fell_silent_in_tls_or_for_the_only_one() {
        let [a, b, c] = [1, 2, 3].map(|last| IpAddr::from([127, 0, 0, last]));
        let begin = clock::now();
        let at = |seconds: f32| begin + Duration::from_secs_f32(seconds);
        let mut progress = Progress::default();
        assert_eq!((progress.begin(a, Size::Usual, at(0.0)), progress.may_need_small()), (0, true));
        // Not accepted: that is no handshake.
        assert_eq!(progress.small_next(true, at(9.0)), None);
        progress.accepted(0, at(0.1));
        assert_eq!(progress.busy_until, Some(at(0.1) + SILENT_AFTER));
        assert_eq!(progress.small_next(true, at(2.0)), None, "a slow line takes a second");
        assert_eq!(progress.small_next(true, at(2.7)), Some(a), "there is nobody else");
        assert_eq!(progress.small_next(false, at(2.7)), None, "another is to be tried first");
        progress.begin(b, Size::Usual, at(2.7));
        progress.accepted(1, at(2.8));
        assert_eq!(progress.end(1, &MUTE), b);
        assert_eq!(progress.busy_until, None);
        assert_eq!(progress.small_next(false, at(2.9)), Some(a));
        progress.begin(a, Size::Small, at(2.9));
        assert_eq!(progress.small_next(false, at(2.9)), Some(b));
        let small = progress.begin(b, Size::Small, at(3.0));
        // Whoever else falls silent is not tried a second time.
        progress.begin(c, Size::Usual, at(3.0));
        progress.end(4, &MUTE);
        assert_eq!((progress.small_next(true, at(9.0)), progress.may_need_small()), (None, false));
        assert!(progress.needed_small(small) && !progress.needed_small(0));
        assert_eq!(progress.silent(at(3.0)), [a], "of those under way");
        assert_eq!(progress.silent(at(9.0)), [a, a, b]);
    }

    #[test]
    fn an_address_that_refuses_says_nothing_of_packets() {
        let address = IpAddr::from([127, 0, 0, 1]);
        let mut progress = Progress::default();
        progress.begin(address, Size::Usual, clock::now());
        progress.accepted(0, clock::now());
        progress.end(0, &Failure::Disproved("another name".into()));
        assert_eq!(progress.small_next(true, clock::now() + DIAL_DEADLINE), None);
        let small = progress.begin(address, Size::Small, clock::now());
        assert!(!progress.needed_small(small), "it had answered in usual ones");
    }

    /// A censor's address takes connections and says nothing, and only one server tells the truth.
    #[test]
    fn an_address_that_never_answers_costs_one_handshake_and_is_not_tried_again() {
        run(async |executor| {
            let authority = Authority::new();
            let tls = authority.client();
            let honest = TcpListener::bind("127.0.0.7:0").await.unwrap();
            let port = honest.local_addr().unwrap().port();
            let censor = TcpListener::bind(("127.0.0.8", port)).await.unwrap();
            greet(executor, honest, authority.server(NAME));
            let (came, tried) = async_channel::unbounded();
            let swallow = async move {
                let mut all = Vec::new();
                while let Ok((stream, _)) = censor.accept().await {
                    all.push(stream);
                    came.try_send(()).unwrap();
                }
            };
            executor.spawn(swallow).detach();
            let liar = dns(executor, [127, 0, 0, 8]).await;
            let truthful = dns(executor, [127, 0, 0, 7]).await;
            let options = Options {
                order: vec![crate::net::rung::Kind::Public],
                resolv_conf: "/nonexistent".into(),
                hosts: "/nonexistent".into(),
                https: vec![],
                tls_servers: vec![],
                public: vec![liar, truthful],
                private: vec!["127.0.0.7".parse().unwrap(), "127.0.0.8".parse().unwrap()],
                pinned: vec![],
            };
            let resolver = Resolver::new(executor, options, &tls, last_good::Nothing);
            let begin = clock::now();
            let stream = connect_tls(&resolver, &tls, NAME, port).await.unwrap();
            let took = clock::since(begin);
            assert_eq!(stream.get_ref().0.peer_addr().unwrap().ip().to_string(), "127.0.0.7");
            assert!(took < tls::HANDSHAKE_TIMEOUT + Duration::from_secs(2), "{took:?}");
            assert_eq!(tried.len(), 2, "with usual segments, and with small ones");
            assert!(resolver.health().iter().all(|rung| !matches!(rung.condition, Condition::Lying { .. })));
            assert_eq!(resolver.segments().size(clock::now()), Size::Usual, "nothing was learned of packets");

            let begin = clock::now();
            connect_tls(&resolver, &tls, NAME, port).await.unwrap();
            assert!(clock::since(begin) < SILENT_AFTER, "{:?}", clock::since(begin));
            assert_eq!(tried.len(), 2);
        });
    }

    #[test]
    fn a_certificate_that_has_expired_is_the_clocks_fault_and_nobodys_lie() {
        run(async |executor| {
            let authority = Authority::new();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            greet(executor, listener, authority.server_until(NAME, 2020));
            let resolver = Resolver::with_servers(executor, &[dns(executor, [127, 0, 0, 1]).await]);
            let error = connect_tls(&resolver, &authority.client(), NAME, port).await.map(drop).unwrap_err();
            assert!(error.to_string().contains("check the clock"), "{error}");
            assert_eq!(resolver.health()[0].condition, Condition::Good);
        });
    }

    /// Nobody has told the time in this process.
    #[test]
    fn a_certificate_that_is_not_valid_yet_is_no_reason_to_stay_away_while_nobody_has_told_the_time() {
        run(async |executor| {
            let authority = Authority::new();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            greet(executor, listener, authority.server_between(NAME, 4000, 4001));
            let resolver = Resolver::with_servers(executor, &[dns(executor, [127, 0, 0, 1]).await]);
            connect_tls(&resolver, &authority.client(), NAME, port).await.map(drop).unwrap();
            // For another name it is as good as any other.
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            greet(executor, listener, authority.server_between("another.example", 4000, 4001));
            let error = connect_tls(&resolver, &authority.client(), NAME, port).await.map(drop).unwrap_err();
            assert!(error.to_string().contains("no TLS for the name"), "{error}");
        });
    }

    #[test]
    fn an_address_with_a_wrong_certificate_leads_to_the_other_servers_answer_and_names_the_liar() {
        run(async |executor| {
            let authority = Authority::new();
            let tls = authority.client();
            let honest = TcpListener::bind("127.0.0.7:0").await.unwrap();
            let port = honest.local_addr().unwrap().port();
            let block_page = TcpListener::bind(("127.0.0.8", port)).await.unwrap();
            greet(executor, honest, authority.server(NAME));
            greet(executor, block_page, authority.server("block.example"));
            let liar = dns(executor, [127, 0, 0, 8]).await;
            let truthful = dns(executor, [127, 0, 0, 7]).await;
            let with = |public: &[SocketAddr]| {
                let options = Options {
                    order: vec![crate::net::rung::Kind::Public],
                    resolv_conf: "/nonexistent".into(),
                    hosts: "/nonexistent".into(),
                    https: vec![],
                    tls_servers: vec![],
                    public: public.to_vec(),
                    private: vec!["127.0.0.7".parse().unwrap(), "127.0.0.8".parse().unwrap()],
                    pinned: vec![],
                };
                Resolver::new(executor, options, &tls, last_good::Nothing)
            };

            let resolver = with(&[liar, truthful]);
            let stream = connect_tls(&resolver, &tls, NAME, port).await.unwrap();
            assert_eq!(stream.get_ref().0.peer_addr().unwrap().ip().to_string(), "127.0.0.7");
            let health: HashMap<_, _> =
                resolver.health().into_iter().map(|health| (health.server, health.condition)).collect();
            let Condition::Lying { reason } = &health[&liar] else { panic!("{health:?}") };
            assert!(reason.contains("127.0.0.8") && reason.contains("certificate"), "{reason}");
            assert_eq!(health[&truthful], Condition::Good);

            let error = connect_tls(&with(&[liar]), &tls, NAME, port).await.map(drop).unwrap_err();
            let text = error.to_string();
            for part in ["127.0.0.8", "certificate", &liar.to_string(), "check"] {
                assert!(text.contains(part), "{part}: {text}");
            }
            assert!(!text.contains('\n'), "{text}");
        });
    }
}
