//! Host names to addresses: `/etc/hosts`, then DNS servers strictly in the given order.
//!
//! The servers form a ladder with one hickory resolver per rung. Hickory's own pool gives all its
//! servers together the time of one query, so that behind a silent first server the second is
//! never asked (0.26.3), and by default it prefers whichever answers fastest, which in Indonesia
//! is the provider's hijacking one.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hickory_resolver::config::{
    NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts, ServerOrderingStrategy,
};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, lookup::Lookup};

use super::deadline::within;
use super::dns_runtime::DnsRuntime;
use crate::executor::Executor;

/// Servers asked when the system names none: Cloudflare, Google, Quad9.
const PUBLIC_SERVERS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(1, 1, 1, 1), Ipv4Addr::new(8, 8, 8, 8), Ipv4Addr::new(9, 9, 9, 9)];

/// Servers that are asked, as in resolv.conf(5): more would not fit into [`LOOKUP_DEADLINE`].
pub const MAX_SERVERS: usize = 3;

/// Time for one query to one server; hickory repeats the datagram within it.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);

/// Time for one server, in which it may need UDP and TCP, A and AAAA.
const SERVER_TIMEOUT: Duration = Duration::from_secs(3);

/// Time for a whole look-up: half of the 20 s that whatsapp-rust gives a connection attempt.
pub const LOOKUP_DEADLINE: Duration = Duration::from_secs(10);

/// Answers cached per server. The bot asks for two names.
const CACHED_ANSWERS: u64 = 32;

/// How long a name is taken as non-existing at most, whatever the server says: a record that was
/// just made must not stay invisible for hours.
const LONGEST_NEGATIVE_TTL: Duration = Duration::from_secs(60);

/// How much of `resolv.conf` and of `hosts` is read, in bytes. Hosts files against advertising
/// have more, and would be held in memory.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// Handle to the resolver; clones share cache and connections.
#[derive(Clone)]
pub struct Resolver {
    shared: Arc<Shared>,
}

struct Shared {
    executor: Executor,
    source: Source,
    ladder: Mutex<Ladder>,
}

enum Source {
    System { resolv_conf: PathBuf, hosts: PathBuf },
    Fixed(Vec<SocketAddr>),
}

/// What the servers and hosts were read from, to notice that DHCP wrote new ones.
#[derive(Clone, Copy, Default, PartialEq)]
struct Stamps {
    resolv_conf: Option<(SystemTime, u64)>,
    hosts: Option<(SystemTime, u64)>,
}

#[derive(Clone, Default)]
struct Ladder {
    stamps: Stamps,
    hosts: Arc<Hosts>,
    rungs: Vec<Rung>,
}

#[derive(Clone)]
struct Rung {
    server: SocketAddr,
    resolver: Arc<hickory_resolver::Resolver<DnsRuntime>>,
}

/// Why a host name has no address.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    #[error("`{host}` is not a host name; check the address in the configuration")]
    BadName { host: String },
    #[error("{server} says that `{host}` does not exist; check its spelling in the configuration")]
    NotFound { host: String, server: SocketAddr },
    #[error("no DNS server could be asked for `{host}` ({tried}); check the network and /etc/resolv.conf")]
    NoAnswer { host: String, tried: String },
    #[error("DNS had no answer for `{host}` within {} s; check the network", LOOKUP_DEADLINE.as_secs())]
    Timeout { host: String },
}

impl Resolver {
    /// Follows `/etc/resolv.conf` and `/etc/hosts`, also when they change. If they name no server
    /// that can be used, public ones are asked.
    ///
    /// `executor` has to be running while a look-up waits, on whichever thread that is.
    pub fn system(executor: Executor) -> Self {
        Self::from_files(executor, "/etc/resolv.conf", "/etc/hosts")
    }

    /// Like [`Resolver::system`], from other files.
    pub fn from_files(
        executor: Executor,
        resolv_conf: impl Into<PathBuf>,
        hosts: impl Into<PathBuf>,
    ) -> Self {
        Self::new(executor, Source::System { resolv_conf: resolv_conf.into(), hosts: hosts.into() })
    }

    /// Asks these servers (at most [`MAX_SERVERS`]) in this order, and no file.
    pub fn with_servers(executor: Executor, servers: &[SocketAddr]) -> Self {
        Self::new(executor, Source::Fixed(servers.to_vec()))
    }

    fn new(executor: Executor, source: Source) -> Self {
        let ladder = Mutex::new(Ladder::default());
        Self { shared: Arc::new(Shared { executor, source, ladder }) }
    }

    /// The addresses of `host`: never empty, IPv4 if there are any, else IPv6. Addresses
    /// themselves (`127.0.0.1`, `::1`, `[::1]`) and `localhost` need no server.
    pub async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse() {
            return Ok(vec![address]);
        }
        if bare.eq_ignore_ascii_case("localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let mut name = host_name(bare)?;
        // A full name: the search domains of an office network have no say in where we connect.
        name.set_fqdn(true);
        within(LOOKUP_DEADLINE, Box::pin(self.climb(host, name)))
            .await
            .unwrap_or_else(|| Err(ResolveError::Timeout { host: host.to_owned() }))
    }

    async fn climb(&self, host: &str, name: Name) -> Result<Vec<IpAddr>, ResolveError> {
        let ladder = self.ladder();
        for record_type in [RecordType::A, RecordType::AAAA] {
            let query = Query::query(name.clone(), record_type);
            if let Some(found) = ladder.hosts.lookup_static_host(&query) {
                return Ok(addresses(&found));
            }
        }
        let mut tried = Vec::new();
        for rung in &ladder.rungs {
            match within(SERVER_TIMEOUT, rung.ask(&name)).await {
                Some(Ok(found)) if found.is_empty() => {
                    return Err(ResolveError::NotFound { host: host.to_owned(), server: rung.server });
                }
                Some(Ok(found)) => return Ok(found),
                Some(Err(error)) => tried.push(format!("{}: {error}", rung.server)),
                None => tried.push(format!("{}: silent", rung.server)),
            }
        }
        Err(ResolveError::NoAnswer { host: host.to_owned(), tried: tried.join(", ") })
    }

    /// The ladder as the files want it now.
    fn ladder(&self) -> Ladder {
        let mut ladder = self.shared.ladder.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = self.shared.source.stamps();
        if ladder.rungs.is_empty() || ladder.stamps != stamps {
            let servers = self.shared.source.servers();
            if servers != ladder.rungs.iter().map(|r| r.server).collect::<Vec<_>>() {
                log::info!("dns: servers={servers:?}");
                ladder.rungs = servers.iter().filter_map(|s| Rung::new(self.shared.executor, *s)).collect();
            }
            ladder.hosts = Arc::new(self.shared.source.hosts());
            ladder.stamps = stamps;
        }
        ladder.clone()
    }
}

impl Source {
    fn stamps(&self) -> Stamps {
        match self {
            Self::System { resolv_conf, hosts } => {
                Stamps { resolv_conf: stamp(resolv_conf), hosts: stamp(hosts) }
            }
            Self::Fixed(_) => Stamps::default(),
        }
    }

    fn servers(&self) -> Vec<SocketAddr> {
        let mut servers = match self {
            Self::Fixed(servers) => servers.clone(),
            Self::System { resolv_conf, .. } => match read_start(resolv_conf) {
                Ok(text) => name_servers(&text),
                Err(error) => {
                    log::info!("dns: {} was not read ({error})", resolv_conf.display());
                    Vec::new()
                }
            },
        };
        servers.truncate(MAX_SERVERS);
        if servers.is_empty() {
            servers.extend(PUBLIC_SERVERS.map(|ip| SocketAddr::new(ip.into(), 53)));
        }
        servers
    }

    fn hosts(&self) -> Hosts {
        let mut hosts = Hosts::default();
        if let Self::System { hosts: file, .. } = self
            && let Ok(text) = read_start(file)
            && let Err(error) = hosts.read_hosts_conf(text.as_bytes())
        {
            log::warn!("dns: {} was not understood ({error})", file.display());
        }
        hosts
    }
}

impl Rung {
    fn new(executor: Executor, server: SocketAddr) -> Option<Self> {
        let mut config = NameServerConfig::udp_and_tcp(server.ip());
        for connection in &mut config.connections {
            connection.port = server.port();
        }
        let mut options = ResolverOpts::default();
        options.timeout = QUERY_TIMEOUT;
        // The datagram is repeated within the timeout; a second round belongs to the next server.
        options.attempts = 0;
        options.cache_size = CACHED_ANSWERS;
        options.num_concurrent_reqs = 1;
        options.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
        options.use_hosts_file = ResolveHosts::Never;
        options.negative_max_ttl = Some(LONGEST_NEGATIVE_TTL);
        options.try_tcp_on_error = true;
        let config = ResolverConfig::from_name_servers(vec![config]);
        let builder = hickory_resolver::Resolver::builder_with_config(config, DnsRuntime(executor));
        match builder.with_options(options).build() {
            Ok(resolver) => Some(Self { server, resolver: Arc::new(resolver) }),
            Err(error) => {
                log::warn!("dns: {server} cannot be used ({error})");
                None
            }
        }
    }

    /// Asks for IPv4 and, only when the name has none, for IPv6. Empty: there is no such name.
    async fn ask(&self, name: &Name) -> Result<Vec<IpAddr>, NetError> {
        for record_type in [RecordType::A, RecordType::AAAA] {
            match self.resolver.lookup(name.clone(), record_type).await {
                Ok(answer) => {
                    let found = addresses(&answer);
                    if !found.is_empty() {
                        return Ok(found);
                    }
                }
                Err(NetError::Dns(DnsError::NoRecordsFound(none))) => match none.response_code {
                    ResponseCode::NXDomain => return Ok(Vec::new()),
                    ResponseCode::NoError => {}
                    code => return Err(NetError::Dns(DnsError::ResponseCode(code))),
                },
                Err(error) => return Err(error),
            }
        }
        Ok(Vec::new())
    }
}

/// The DNS name of a host, in ASCII: international names stand in their `xn--` form.
fn host_name(host: &str) -> Result<Name, ResolveError> {
    let fits = |label: &str| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let labels = host.strip_suffix('.').unwrap_or(host);
    match Name::from_ascii(host) {
        Ok(name) if labels.split('.').all(fits) => Ok(name),
        _ => Err(ResolveError::BadName { host: host.to_owned() }),
    }
}

fn addresses(answer: &Lookup) -> Vec<IpAddr> {
    answer.answers().iter().filter_map(|record| record.data.ip_addr()).collect()
}

fn stamp(file: &Path) -> Option<(SystemTime, u64)> {
    let metadata = fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// The beginning of `file`, with what is no UTF-8 replaced.
fn read_start(file: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(file)?.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The `nameserver` lines of resolv.conf(5) that hold an address; everything else is skipped.
fn name_servers(resolv_conf: &str) -> Vec<SocketAddr> {
    let servers = resolv_conf.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let address = words.next().filter(|w| *w == "nameserver").and(words.next())?;
        Some(SocketAddr::new(address.parse().ok()?, 53))
    });
    servers.take(MAX_SERVERS).collect()
}

#[cfg(test)]
mod tests;
