//! The server: its sockets, and what becomes of a question.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, FutureExt};
use futures_rustls::TlsAcceptor;
use hickory_proto::op::{Message, ResponseCode};
use smol::Async;
use smol::net::TcpStream;

use super::fault::{Fate, Fault, Faults, Scope, Transport};
use super::https;
use super::journal::{Asked, Journal};
use super::zone::{Zone, about_another_name, datagram_limit, empty_answer, lie, plain};
use crate::authority::Authority;
use crate::listeners::{Listeners, Open, Running, Spawner, TcpDoor, UdpDoor, serve_each};

/// Ports of DNS (RFC 1035), DNS over TLS (RFC 7858) and HTTPS.
const PLAIN_PORT: u16 = 53;
const TLS_PORT: u16 = 853;
const HTTPS_PORT: u16 = 443;

/// Names that the certificate is good for besides the addresses that the server listens on: the
/// public resolvers, by address and by name, and this machine.
const NAMES: [&str; 8] = [
    "one.one.one.one",
    "dns.google",
    "dns.quad9.net",
    "1.1.1.1",
    "8.8.8.8",
    "9.9.9.9",
    "localhost",
    "127.0.0.1",
];

/// A name that nobody dials.
const ANOTHER_NAME: &str = "another.example";

/// Addresses that one server listens on.
const MAX_ADDRESSES: usize = 64;

/// Bytes of a datagram that are read; a question is far shorter.
const MAX_QUESTION: usize = 4096;

/// A connection on which nothing comes for this long is closed.
const IDLE: Duration = Duration::from_secs(30);

/// A free UDP port may be taken over TCP; how often another one is tried.
const PORT_TRIES: usize = 20;

/// What comes instead of a DNS message.
const GARBAGE: &[u8] = b"\xff\xfe this is no DNS message";

/// The start of a TLS record that never goes on.
const TORN_RECORD: &[u8] = &[0x16, 0x03, 0x03];

/// TTL of a lie that does not say its own: what Indonesia's censors send.
const TTL_OF_LIES: u32 = 1;

/// How a server starts.
#[derive(Debug, Clone)]
pub struct Options {
    /// Addresses for plain DNS, each over UDP and TCP; port 0 takes a free one.
    pub plain: Vec<SocketAddr>,
    /// Addresses for DNS over TLS.
    pub tls: Vec<SocketAddr>,
    /// Addresses for DNS over HTTPS.
    pub https: Vec<SocketAddr>,
    /// Who signs the certificates; an authority of its own when absent.
    pub authority: Option<Authority>,
    /// What the dice of [`Fault::Drop`] start from.
    pub seed: u64,
}

impl Default for Options {
    /// Everything on free ports of this machine.
    fn default() -> Options {
        let free = vec![(Ipv4Addr::LOCALHOST, 0).into()];
        Options { plain: free.clone(), tls: free.clone(), https: free, authority: None, seed: 0 }
    }
}

impl Options {
    /// A public resolver: everything on the usual ports of these addresses.
    pub fn resolver(addresses: &[IpAddr]) -> Options {
        let on = |port| addresses.iter().map(|address| SocketAddr::new(*address, port)).collect();
        Options { tls: on(TLS_PORT), https: on(HTTPS_PORT), ..Options::router(addresses) }
    }

    /// A home router or a provider's resolver: plain DNS alone, on port 53.
    pub fn router(addresses: &[IpAddr]) -> Options {
        let plain = addresses.iter().map(|address| SocketAddr::new(*address, PLAIN_PORT)).collect();
        Options { plain, tls: Vec::new(), https: Vec::new(), ..Options::default() }
    }
}

/// A running server. It stops when this is dropped.
pub struct DnsServer {
    listeners: Listeners,
    endpoints: Vec<(Transport, SocketAddr)>,
    shared: Arc<Shared>,
    authority: Authority,
}

impl DnsServer {
    /// Starts a server on a thread of its own.
    ///
    /// # Errors
    /// When an address cannot be listened on.
    pub fn start(options: Options) -> anyhow::Result<DnsServer> {
        let all = [&options.plain, &options.tls, &options.https];
        let count: usize = all.iter().map(|addresses| addresses.len()).sum();
        ensure!((1..=MAX_ADDRESSES).contains(&count), "a DNS server has 1 to {MAX_ADDRESSES} addresses");
        let authority = options.authority.map_or_else(Authority::new, Ok)?;
        let mut names = NAMES.map(str::to_owned).to_vec();
        let encrypted = options.tls.iter().chain(&options.https).map(|address| address.ip().to_string());
        for name in encrypted {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let shared = Arc::new(Shared {
            tls: Certificates::new(&authority, &names, &["dot"])?,
            https: Certificates::new(&authority, &names, &["http/1.1"])?,
            changed: Condvar::new(),
            state: Mutex::new(State {
                zone: Zone::default(),
                faults: Faults::new(options.seed),
                journal: Journal::default(),
                dead: false,
            }),
        });

        let mut endpoints = Vec::new();
        let mut open: Vec<Open> = Vec::new();
        for address in options.plain {
            let (udp, tcp) = bind_plain(address)?;
            endpoints.push((Transport::Udp, udp.address()));
            open.push(udp_endpoint(shared.clone(), udp));
            endpoints.push((Transport::Tcp, tcp.address()));
            open.push(tcp_endpoint(shared.clone(), Transport::Tcp, tcp));
        }
        let encrypted = [(Transport::Tls, options.tls), (Transport::Https, options.https)];
        for (transport, address) in encrypted
            .into_iter()
            .flat_map(|(transport, addresses)| addresses.into_iter().map(move |address| (transport, address)))
        {
            let door = TcpDoor::bind(address)?;
            endpoints.push((transport, door.address()));
            open.push(tcp_endpoint(shared.clone(), transport, door));
        }
        let listeners = Listeners::start("dns-server", open)?;
        log::info!("the DNS server listens on {endpoints:?}");
        Ok(DnsServer { listeners, endpoints, shared, authority })
    }

    /// The addresses of one transport.
    pub fn addresses(&self, transport: Transport) -> Vec<SocketAddr> {
        let of = self.endpoints.iter().filter(|(over, _)| *over == transport);
        of.map(|(_, address)| *address).collect()
    }

    /// The first address of one transport.
    ///
    /// # Errors
    /// When it has none.
    pub fn address(&self, transport: Transport) -> anyhow::Result<SocketAddr> {
        let first = self.addresses(transport).first().copied();
        first.with_context(|| format!("the server does not speak {}", transport.as_str()))
    }

    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Gives a host these addresses for `ttl` seconds each, in place of what it had.
    ///
    /// # Errors
    /// When the name can be none, or the zone is full.
    pub fn set_host(&self, host: &str, addresses: &[IpAddr], ttl: u32) -> anyhow::Result<()> {
        self.shared.enter(|state| state.zone.set(host, addresses, ttl))
    }

    /// Makes a host another name (CNAME) of `of`.
    ///
    /// # Errors
    /// As [`DnsServer::set_host`].
    pub fn set_alias(&self, host: &str, of: &str, ttl: u32) -> anyhow::Result<()> {
        self.shared.enter(|state| state.zone.set_alias(host, of, ttl))
    }

    /// There is no such host any more.
    pub fn forget_host(&self, host: &str) {
        self.shared.enter(|state| state.zone.forget(host));
    }

    /// Puts a fault there, until it is cleared. All is done on return.
    ///
    /// # Errors
    /// When it cannot happen there, or too many are on.
    pub fn set_fault(&self, scope: Scope, fault: Fault) -> anyhow::Result<()> {
        self.put_fault(scope, fault, None)
    }

    /// The same, for the next so many questions or connections.
    ///
    /// # Errors
    /// As [`DnsServer::set_fault`].
    pub fn set_fault_times(&self, scope: Scope, fault: Fault, times: u32) -> anyhow::Result<()> {
        self.put_fault(scope, fault, Some(times))
    }

    pub(crate) fn put_fault(&self, scope: Scope, fault: Fault, times: Option<u32>) -> anyhow::Result<()> {
        log::info!("DNS fault {fault:?} at {scope:?}, times: {times:?}");
        self.shared.enter(|state| state.faults.set(scope, fault, times))?;
        self.listen_as_told()
    }

    /// Ends all faults.
    ///
    /// # Errors
    /// When an address was taken by somebody else meanwhile.
    pub fn clear_faults(&self) -> anyhow::Result<()> {
        self.shared.enter(|state| state.faults.clear());
        self.listen_as_told()
    }

    /// Stops to listen on all addresses, as if the machine's server had died.
    ///
    /// # Errors
    /// None that a test can cause.
    pub fn die(&self) -> anyhow::Result<()> {
        self.shared.enter(|state| state.dead = true);
        self.listen_as_told()
    }

    /// Undoes [`DnsServer::die`], on the same addresses. Faults stay as they were.
    ///
    /// # Errors
    /// When an address was taken by somebody else meanwhile.
    pub fn come_back(&self) -> anyhow::Result<()> {
        self.shared.enter(|state| state.dead = false);
        self.listen_as_told()
    }

    fn listen_as_told(&self) -> anyhow::Result<()> {
        let wanted = self.shared.enter(|state| {
            let endpoints = self.endpoints.iter();
            endpoints
                .map(|(transport, address)| !state.dead && state.faults.listens(*transport, address.ip()))
                .collect()
        });
        self.listeners.listen_on(wanted)
    }

    /// What was asked so far.
    pub fn queries(&self) -> Journal {
        self.shared.enter(|state| state.journal.clone())
    }

    /// Waits until `wanted` finds something in what was asked.
    ///
    /// # Errors
    /// When it does not before the deadline.
    pub fn wait_for<T>(
        &self,
        what: &str,
        deadline: Duration,
        wanted: impl Fn(&Journal) -> Option<T>,
    ) -> anyhow::Result<T> {
        let until = Instant::now() + deadline;
        let mut state = self.shared.lock();
        loop {
            if let Some(found) = wanted(&state.journal) {
                return Ok(found);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("waited {deadline:?} in vain for {what}; {} questions came", state.journal.total());
            }
            let woken = self.shared.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// UDP and TCP on the same port, which a client that got a truncated answer expects.
fn bind_plain(address: SocketAddr) -> anyhow::Result<(UdpDoor, TcpDoor)> {
    let mut tries = 0;
    loop {
        let udp = UdpDoor::bind(address)?;
        match TcpDoor::bind(udp.address()) {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(_) if address.port() == 0 && tries < PORT_TRIES => tries += 1,
            Err(failed) => return Err(failed),
        }
    }
}

/// What all endpoints share.
struct Shared {
    tls: Certificates,
    https: Certificates,
    state: Mutex<State>,
    /// Something was asked.
    changed: Condvar,
}

struct State {
    zone: Zone,
    faults: Faults,
    journal: Journal,
    dead: bool,
}

/// The right certificate, and two wrong ones.
struct Certificates {
    right: TlsAcceptor,
    of_another_authority: TlsAcceptor,
    for_another_name: TlsAcceptor,
}

impl Certificates {
    fn new(authority: &Authority, names: &[String], protocols: &[&str]) -> anyhow::Result<Certificates> {
        Ok(Certificates {
            right: authority.acceptor(names, protocols)?,
            of_another_authority: Authority::new()?.acceptor(names, protocols)?,
            for_another_name: authority.acceptor(&[ANOTHER_NAME.to_owned()], protocols)?,
        })
    }
}

/// What goes back.
enum Reply {
    Message {
        bytes: Vec<u8>,
        from_another_port: bool,
    },
    /// HTTPS alone.
    Status(u16),
    Nothing,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let done = act(&mut self.lock());
        self.changed.notify_all();
        done
    }

    /// Takes a question and gives what goes back, when it is due.
    async fn reply(&self, transport: Transport, server: SocketAddr, bytes: &[u8]) -> anyhow::Result<Reply> {
        let query = Message::from_vec(bytes).ok();
        let question = query.as_ref().and_then(|query| query.queries.first());
        let name = question.map(|question| plain(&question.name.to_ascii())).unwrap_or_default();
        let kind = question.map(|question| question.query_type.to_string()).unwrap_or_default();
        let (fate, truth) = self.enter(|state| {
            let fate = state.faults.on_question(transport, server.ip(), &name);
            let truth = query.as_ref().map(|query| state.zone.answer(query));
            state.journal.note(Asked { at: Instant::now(), transport, server, name, kind });
            (fate, truth)
        });
        let Fate { delay, lost, answer } = fate;
        if lost {
            return Ok(Reply::Nothing);
        }
        if !delay.is_zero() {
            smol::Timer::after(delay).await;
        }
        let (Some(query), Some(truth)) = (query, truth) else {
            log::debug!("a question over {} cannot be read", transport.as_str());
            return Ok(Reply::Nothing);
        };
        let mut from_another_port = false;
        let mut message = match answer {
            None => truth,
            Some(Fault::Nxdomain) => empty_answer(&query, ResponseCode::NXDomain),
            Some(Fault::Servfail) => empty_answer(&query, ResponseCode::ServFail),
            Some(Fault::Refused) => empty_answer(&query, ResponseCode::Refused),
            Some(Fault::Empty) => empty_answer(&query, ResponseCode::NoError),
            Some(Fault::Lie { addresses, alias, ttl }) => {
                lie(&query, &addresses, alias.as_deref(), ttl.unwrap_or(TTL_OF_LIES))
            }
            Some(Fault::Truncate) => truth.truncate(),
            Some(Fault::WrongId) => {
                let mut wrong = truth;
                wrong.metadata.id = wrong.metadata.id.wrapping_add(1);
                wrong
            }
            Some(Fault::WrongQuestion) => about_another_name(truth)?,
            Some(Fault::WrongPort) => {
                from_another_port = true;
                truth
            }
            Some(Fault::Garbage) => {
                return Ok(Reply::Message { bytes: GARBAGE.to_vec(), from_another_port });
            }
            Some(Fault::HttpStatus { status }) => return Ok(Reply::Status(status)),
            Some(other) => bail!("{other:?} is no answer to a question"),
        };
        if transport == Transport::Udp && message.to_vec()?.len() > datagram_limit(&query) {
            message = message.truncate();
        }
        Ok(Reply::Message { bytes: message.to_vec()?, from_another_port })
    }
}

fn udp_endpoint(shared: Arc<Shared>, mut door: UdpDoor) -> Open {
    Box::new(move |spawner| {
        let socket = door.open()?;
        Ok(spawner.spawn(serve_udp(shared.clone(), door.address(), socket, spawner.clone())))
    })
}

async fn serve_udp(
    shared: Arc<Shared>,
    address: SocketAddr,
    socket: Arc<Async<UdpSocket>>,
    spawner: Spawner,
) {
    let running = Running::default();
    let mut datagram = [0; MAX_QUESTION];
    loop {
        let (length, client) = match socket.recv_from(&mut datagram).await {
            Ok(received) => received,
            Err(failed) => {
                // An earlier answer came back as unreachable.
                log::debug!("reading a datagram: {failed}");
                continue;
            }
        };
        let (shared, socket, question) = (shared.clone(), socket.clone(), datagram[..length].to_vec());
        running.add(spawner.spawn(async move {
            let answered = async {
                let reply = shared.reply(Transport::Udp, address, &question).await?;
                let Reply::Message { bytes, from_another_port } = reply else { return Ok(()) };
                if from_another_port {
                    Async::<UdpSocket>::bind((address.ip(), 0))?.send_to(&bytes, client).await?;
                } else {
                    socket.send_to(&bytes, client).await?;
                }
                anyhow::Ok(())
            };
            if let Err(failed) = answered.await {
                log::debug!("answering {client}: {failed:#}");
            }
        }));
    }
}

fn tcp_endpoint(shared: Arc<Shared>, transport: Transport, mut door: TcpDoor) -> Open {
    Box::new(move |spawner| {
        let listener = door.open()?;
        let (shared, address) = (shared.clone(), door.address());
        let serve = move |stream| serve_connection(shared.clone(), transport, address, stream);
        Ok(spawner.spawn(serve_each(listener, spawner.clone(), Running::default(), serve)))
    })
}

async fn serve_connection(
    shared: Arc<Shared>,
    transport: Transport,
    address: SocketAddr,
    mut stream: TcpStream,
) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let fault = shared.enter(|state| {
        state.journal.note_connection(transport);
        state.faults.on_connection(transport, address.ip())
    });
    if fault == Some(Fault::Stall) {
        return read_to_end(&mut stream).await;
    }
    let certificates = match transport {
        Transport::Tls => &shared.tls,
        Transport::Https => &shared.https,
        Transport::Tcp | Transport::Udp => {
            if fault == Some(Fault::Cut) {
                stream.read(&mut [0; MAX_QUESTION]).await?;
                return Ok(());
            }
            return serve_stream(&shared, transport, address, &mut stream).await;
        }
    };
    let acceptor = match fault {
        Some(Fault::Cut) => {
            stream.read(&mut [0; MAX_QUESTION]).await?;
            stream.write_all(TORN_RECORD).await?;
            return Ok(());
        }
        Some(Fault::WrongAuthority) => &certificates.of_another_authority,
        Some(Fault::WrongName) => &certificates.for_another_name,
        _ => &certificates.right,
    };
    let mut stream = acceptor.accept(stream).await.context("in the TLS handshake")?;
    match transport {
        Transport::Https => serve_https(&shared, address, &mut stream).await,
        _ => serve_stream(&shared, transport, address, &mut stream).await,
    }
}

/// Messages with two bytes of length in front (RFC 1035 §4.2.2), one after the other.
async fn serve_stream(
    shared: &Shared,
    transport: Transport,
    address: SocketAddr,
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> anyhow::Result<()> {
    loop {
        let mut length = [0; 2];
        let next = async { anyhow::Ok(stream.read_exact(&mut length).await.is_ok()) };
        if !next.or(idle()).await? {
            return Ok(());
        }
        let mut question = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut question).await.context("reading a question")?;
        // A status belongs to HTTPS, and an answer that is lost leaves the connection open.
        if let Reply::Message { bytes, .. } = shared.reply(transport, address, &question).await? {
            let length = u16::try_from(bytes.len()).context("the answer is too long")?;
            stream.write_all(&[&length.to_be_bytes()[..], &bytes].concat()).await?;
            stream.flush().await?;
        }
    }
}

async fn serve_https(
    shared: &Shared,
    address: SocketAddr,
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> anyhow::Result<()> {
    loop {
        let next = async { https::read(stream).await };
        let Some(question) = next.or(idle()).await? else { return Ok(()) };
        let answer = match question.message {
            Ok(message) => match shared.reply(Transport::Https, address, &message).await? {
                Reply::Message { bytes, .. } => Ok(bytes),
                Reply::Status(status) => Err(status),
                Reply::Nothing => return read_to_end(stream).await,
            },
            Err(status) => Err(status),
        };
        https::write(stream, answer.as_deref().map_err(|status| *status), question.last).await?;
        if question.last {
            return Ok(());
        }
    }
}

/// Ends a connection on which nothing comes.
async fn idle<T: Default>() -> anyhow::Result<T> {
    smol::Timer::after(IDLE).await;
    Ok(T::default())
}

/// Never says a word, until the client goes.
async fn read_to_end(stream: &mut (impl AsyncRead + Unpin)) -> anyhow::Result<()> {
    let mut buffer = [0; MAX_QUESTION];
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}
