//! Plain DNS servers and DNS over TLS, asked by hickory-resolver.
//!
//! Each question gets resolvers of its own for its one server, which end with it: a resolver that is
//! kept keeps its connections, and with each a task that reads it. What is to be kept is in
//! [`known`](super::known).
//!
//! What hickory (0.26.3) does not do is here, around it:
//!
//! - TCP beside UDP that is silent or fails. Its option `try_tcp_on_error` is read nowhere; it goes
//!   to TCP by itself only after an answer that was cut short.
//! - Taking the part of an answer that was cut short when TCP is blocked. It drops it
//!   (`PoolState::try_send`).
//! - One connection for both families. Asked for A and AAAA at once, it connects twice
//!   (`NameServer::connected_mut_client`), and would make two TLS handshakes.
//! - Saying why there is no connection. Its `most_specific` prefers "no connections available" to
//!   the error of the system.
//! - Sending a datagram again at a pace for slow lines. It does so every 333 ms, which no option of
//!   a resolver changes.
//!
//! What it does on its own account: it follows aliases (CNAME) whose address an answer leaves out;
//! it denies names in `invalid` and `onion` without asking; and without EDNS it reads 512 bytes of a
//! datagram, so that a server that sends more is asked over TCP.

use std::future::Future;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_rustls::rustls::ClientConfig;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ProtocolConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::tcp::TcpClientStream;
use hickory_resolver::net::udp::UdpClientStream;
use hickory_resolver::net::xfer::DnsExchange;
use hickory_resolver::net::{DnsError, DnsHandle, NetError};
use hickory_resolver::proto::op::{DnsRequest, DnsResponse, ResponseCode};
use hickory_resolver::proto::rr::Name;
use hickory_resolver::{ConnectionProvider, PoolContext};
use smol::lock::OnceCell;
use smol::stream::{Stream, StreamExt};

use super::message::{Answer, Family, Patience, Replies, Reply, reply};
use crate::executor::Executor;
use crate::net::dns_runtime::{ConnectError, DnsRuntime};
use crate::net::in_flight::{InFlight, Next};
use crate::net::segment::Segments;

/// No limit of its own: whoever asks has one, which is shorter.
const LONG: Duration = Duration::from_secs(60);

/// Hickory sends a datagram again whenever it has been silent for so long, in milliseconds: one in
/// ten is lost on a bad mobile line, where answers take up to a second.
const REPEAT_AFTER_MS: u64 = 1000;

/// How often it sends a datagram.
const DATAGRAMS: u8 = 3;

/// TCP is tried beside UDP once that has been silent for so long: some networks let only TCP pass.
/// And when a part of the answer is there already, so long is waited for all of it.
const TCP_AFTER: Duration = Duration::from_secs(2);

const SILENT: &str = "was silent";
const PART_ONLY: &str = "gave a part of the answer only";

/// Ranks of the two ways.
const UDP: usize = 0;
const TCP: usize = 1;

type Resolver = hickory_resolver::Resolver<Connections>;

/// Asks `server` over UDP, and over TCP where UDP does not do (RFC 7766). Whoever calls sets the
/// limit.
pub(super) async fn ask(
    executor: Executor,
    segments: &Segments,
    server: SocketAddr,
    name: &Name,
) -> Result<Answer, String> {
    let runtime = DnsRuntime { executor, tls: None, segments: segments.clone() };
    let connections = || Connections::new(runtime.clone());
    let over_udp = connections();
    let mut ways = InFlight::new();
    ways.add(UDP, ask_for_both(server, &[ProtocolConfig::Udp, ProtocolConfig::Tcp], over_udp.clone(), name));
    let mut tcp_tried = false;
    let mut failures: Vec<(&str, String)> = Vec::new();
    loop {
        let next = ways.next(TCP_AFTER).await;
        let part = over_udp.part();
        match (next, &part) {
            (Next::Done(_, Ok(answer)), _) => return Ok(answer),
            // What failed then is hickory's attempt with TCP.
            (Next::Done(UDP, Err(_)), Some(_)) => failures.push(("UDP", PART_ONLY.into())),
            (Next::Done(way, Err(reason)), _) => {
                failures.push((if way == UDP { "UDP" } else { "TCP" }, reason));
            }
            (Next::Time, Some(_)) if tcp_tried => {
                failures = vec![("UDP", PART_ONLY.into()), ("TCP", SILENT.into())];
                ways = InFlight::new();
            }
            (Next::Time, _) => {}
        }
        if !tcp_tried {
            tcp_tried = true;
            ways.add(TCP, ask_for_both(server, &[ProtocolConfig::Tcp], connections(), name));
        } else if ways.is_empty() {
            return part.unwrap_or_default().conclude().map_err(|_| together(&failures));
        }
    }
}

/// Asks `server` over TLS; its certificate must be valid for its address. Whoever calls sets the
/// limit.
pub(super) async fn ask_over_tls(
    executor: Executor,
    tls: &Arc<ClientConfig>,
    segments: &Segments,
    server: SocketAddr,
    name: &Name,
) -> Result<Answer, String> {
    let runtime = DnsRuntime { executor, tls: Some(tls.clone()), segments: segments.clone() };
    let connections = Connections::new(runtime);
    ask_for_both(server, &[ProtocolConfig::Tcp], connections, name).await
}

/// The IPv6 addresses that `server` gives for `name`, over UDP or TCP; none if it fails. Whoever calls sets
/// the limit.
pub(super) async fn ask_for_ipv6(
    executor: Executor,
    segments: &Segments,
    server: SocketAddr,
    name: &str,
) -> Vec<Ipv6Addr> {
    let connections = Connections::new(DnsRuntime { executor, tls: None, segments: segments.clone() });
    let protocols = [ProtocolConfig::Udp, ProtocolConfig::Tcp];
    let (Ok(resolver), Ok(name)) = (resolver(server, &protocols, connections), Name::from_ascii(name)) else {
        return Vec::new();
    };
    match understand(resolver.lookup(name, Family::V6.record_type()).await, Family::V6) {
        Reply::Answer(Answer::Addresses { addresses, .. }) => {
            let v6 = |address: IpAddr| match address {
                IpAddr::V6(address) => Some(address),
                IpAddr::V4(_) => None,
            };
            addresses.into_iter().filter_map(v6).collect()
        }
        _ => Vec::new(),
    }
}

/// The reasons, each once, to follow the server's name.
fn together(failures: &[(&str, String)]) -> String {
    match failures {
        [(_, reason), rest @ ..] if rest.iter().all(|(_, other)| other == reason) => reason.clone(),
        _ => failures
            .iter()
            .map(|(way, reason)| format!("{reason} over {way}"))
            .collect::<Vec<_>>()
            .join(" and "),
    }
}

/// Asks for both families of addresses at once.
async fn ask_for_both(
    server: SocketAddr,
    protocols: &[ProtocolConfig],
    connections: Connections,
    name: &Name,
) -> Result<Answer, String> {
    let resolver =
        resolver(server, protocols, connections).map_err(|error| format!("cannot be asked ({error})"))?;
    let mut asked = InFlight::new();
    for (rank, family) in Family::BOTH.into_iter().enumerate() {
        let answer = resolver.lookup(name.clone(), family.record_type());
        asked.add(rank, async move { understand(answer.await, family) });
    }
    let mut replies = Replies::default();
    loop {
        let limit = match replies.patience() {
            Patience::Enough => break,
            Patience::AtMost(limit) => limit,
            Patience::NoEnd => LONG,
        };
        match asked.next(limit).await {
            Next::Done(rank, reply) => replies.take(Family::BOTH[rank], reply),
            Next::Time => break,
        }
    }
    replies.conclude()
}

fn resolver(
    server: SocketAddr,
    protocols: &[ProtocolConfig],
    connections: Connections,
) -> Result<Resolver, NetError> {
    let connect_over = |protocol: &ProtocolConfig| {
        let mut config = ConnectionConfig::new(protocol.clone());
        config.port = server.port();
        config
    };
    let server = NameServerConfig::new(server.ip(), true, protocols.iter().map(connect_over).collect());
    let mut options = ResolverOpts::default();
    options.timeout = LONG;
    options.attempts = 0;
    options.num_concurrent_reqs = 1;
    // Cheap routers trip over it.
    options.edns0 = false;
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    options.os_port_selection = true;
    let config = ResolverConfig::from_name_servers(vec![server]);
    Resolver::builder_with_config(config, connections).with_options(options).build()
}

fn understand(answer: Result<Lookup, NetError>, family: Family) -> Reply {
    let code = match answer {
        Ok(lookup) => return reply(lookup.message(), family),
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => none.response_code,
        Err(NetError::Dns(DnsError::ResponseCode(code))) => code,
        Err(error) => return Reply::Failed(words(&error)),
    };
    match code {
        ResponseCode::NoError => Reply::Answer(Answer::NoAddress),
        ResponseCode::NXDomain => Reply::Answer(Answer::NoSuchName),
        code => Reply::Failed(format!("answered \"{code}\"")),
    }
}

/// What went wrong, to follow the server's name.
fn words(error: &NetError) -> String {
    match error {
        NetError::Msg(words) => words.clone(),
        NetError::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<ConnectError>()) => {
            error.to_string()
        }
        NetError::Io(error) => format!("broke off ({error})"),
        NetError::Timeout => SILENT.into(),
        NetError::Truncated => PART_ONLY.into(),
        NetError::Proto(error) => format!("gave no proper answer ({error})"),
        error => format!("gave no answer ({error})"),
    }
}

/// The error in our words, which hickory hands on as they are: of an error of the network it would
/// say "no connections available".
fn in_words(error: NetError) -> NetError {
    match error {
        NetError::Busy | NetError::Timeout | NetError::Msg(_) => error,
        _ => NetError::Msg(words(&error)),
    }
}

/// How hickory connects to the server of one question.
#[derive(Clone)]
struct Connections {
    runtime: DnsRuntime,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// The one connection over TCP or TLS, or why there is none.
    stream: OnceCell<Result<DnsExchange<DnsRuntime>, NetError>>,
    /// What there was of answers over UDP that were cut short.
    part: Mutex<Option<Replies>>,
}

impl Connections {
    fn new(runtime: DnsRuntime) -> Self {
        Self { runtime, shared: Arc::default() }
    }

    /// What there is of answers that were cut short, which is better than none. `None`: none was.
    fn part(&self) -> Option<Replies> {
        self.shared.part.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ConnectionProvider for Connections {
    type Conn = Connection;
    type FutureConn = Pin<Box<dyn Future<Output = Result<Connection, NetError>> + Send>>;
    type RuntimeProvider = DnsRuntime;

    fn new_connection(
        &self,
        ip: IpAddr,
        config: &ConnectionConfig,
        context: &PoolContext,
    ) -> Result<Self::FutureConn, NetError> {
        let server = SocketAddr::new(ip, config.port);
        let Self { runtime, shared } = self.clone();
        let (timeout, os_port_selection) = (context.options.timeout, context.options.os_port_selection);
        Ok(match config.protocol {
            ProtocolConfig::Udp => Box::pin(async move {
                let exchange = UdpClientStream::builder(server, runtime)
                    .with_timeout(Some(timeout))
                    .with_os_port_selection(os_port_selection)
                    .with_retry_interval_floor(REPEAT_AFTER_MS)
                    .with_max_retries(DATAGRAMS)
                    .exchange();
                Ok(Connection { exchange, is_stream: false, shared })
            }),
            ProtocolConfig::Tcp => Box::pin(async move {
                let connect = || TcpClientStream::exchange(server, None, timeout, None, runtime);
                let exchange = shared.stream.get_or_init(connect).await.clone().map_err(in_words)?;
                Ok(Connection { exchange, is_stream: true, shared })
            }),
        })
    }

    fn runtime_provider(&self) -> &DnsRuntime {
        &self.runtime
    }
}

/// A connection to the server, or for UDP what makes a socket for each datagram.
#[derive(Clone)]
struct Connection {
    exchange: DnsExchange<DnsRuntime>,
    is_stream: bool,
    shared: Arc<Shared>,
}

impl Connection {
    /// Looks after answers that say that they were cut short, which hickory drops.
    fn look_at(&self, response: &mut DnsResponse) {
        if !response.metadata.truncation {
            return;
        }
        if self.is_stream {
            // What a stream carries is never cut short, whatever the message says.
            response.metadata.truncation = false;
            return;
        }
        let mut part = self.shared.part.lock().unwrap_or_else(PoisonError::into_inner);
        let part = part.get_or_insert_default();
        let family = response.queries.first().and_then(|query| Family::of(query.query_type()));
        if let Some(family) = family
            && let addresses @ Reply::Answer(Answer::Addresses { .. }) = reply(response, family)
        {
            part.take(family, addresses);
        }
    }
}

impl DnsHandle for Connection {
    type Response = Pin<Box<dyn Stream<Item = Result<DnsResponse, NetError>> + Send>>;
    type Runtime = DnsRuntime;

    fn send(&self, request: DnsRequest) -> Self::Response {
        let connection = self.clone();
        Box::pin(self.exchange.send(request).map(move |mut answer| {
            if let Ok(response) = &mut answer {
                connection.look_at(response);
            }
            answer.map_err(in_words)
        }))
    }
}
