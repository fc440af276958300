//! Host names to addresses, on lines where DNS is slow, silent, or lies.
//!
//! Everything that dials asks here. What is known without asking comes first: `/etc/hosts`, whose
//! private addresses are believed, and addresses at which TLS for the name has just succeeded. Then
//! the ladder: the system's servers, DNS over HTTPS, DNS over TLS, public servers, as the settings
//! order them. The rungs overlap in time ([`ladder`]), and no single one is believed when it denies a
//! name or gives an address that cannot be; nor is the hosts file when nothing answers at its address,
//! which may be years old. If nobody knows, what was good once is used (RFC 8767), and then what the
//! settings pin.
//!
//! Plain servers and DNS over TLS are asked by hickory-resolver ([`hickory`]), one server at a time;
//! which of them, when, and what their answers are worth is decided here. Its own pool of servers
//! gives all of them together the time of one question, so that behind a silent first server the
//! second is never asked. DNS over HTTPS ([`https`]) is ours, because hickory's needs tokio.
//!
//! An answer is a claim; TLS is the proof. Whoever dials reports back ([`Resolver::proved`],
//! [`Resolver::disproved`], [`Resolver::unreachable`], [`Resolver::silent`]), and asks again beyond
//! what did not work. What never answered is tried last for an hour.
//!
//! What this does not do: DNSSEC (a liar between us and the server is found out by TLS), search
//! domains, names without TLS proof beyond their TTL.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_rustls::rustls::ClientConfig;
use hickory_resolver::proto::rr::Name;
use smol::lock::OnceCell;

use self::known::{Known, Shunned, Source};
use self::ladder::{Rung, is_acceptable};
use self::last_good::{LastGood, Proof};
use self::search::Outcome;
use self::system::Stamp;
use super::deadline::within;
use super::rung::{Condition, Health, Kind};
use super::segment::Segments;
use crate::clock;
use crate::executor::Executor;

mod hickory;
mod http_response;
mod https;
mod known;
mod ladder;
pub mod last_good;
mod message;
mod nat64;
mod probe;
mod public_address;
mod search;
mod system;

pub use ladder::RungId;
pub use search::Asked;
pub use system::HostsLine;

/// Time for a whole look-up: half of the 20 s that whatsapp-rust gives a connection attempt.
pub const LOOKUP_DEADLINE: Duration = Duration::from_secs(10);

/// When an address was good once, nobody waits longer than this for a better one (RFC 8767 §5,
/// "client response timer"). The search goes on for those who come later.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(1800);

/// The same when there is only what the settings pin, which may be years old: by then everybody
/// has been asked.
const PINNED_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a host name has no address.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ResolveError {
    #[error("`{host}` is not a host name; check the address in the configuration")]
    BadName { host: String },
    #[error("`{host}` does not exist ({said}); check its spelling in the configuration")]
    NotFound { host: String, said: String },
    #[error(
        "no usable address for `{host}` ({said}); if it is a server of your own network, list its address in \
         `network.private_addresses`, otherwise the network's DNS is lying: ask its operator, or allow more \
         ways in `network.dns`"
    )]
    Private { host: String, said: String },
    #[error(
        "no address for `{host}` ({said}); check the network, and whether it lets DNS pass, or set `network.pinned`"
    )]
    NoAnswer { host: String, said: String },
    #[error(
        "nobody to ask for `{host}`: {resolv_conf} names no server and `network.dns` allows no other way; \
         check the network, or extend `network.dns`"
    )]
    NobodyToAsk { host: String, resolv_conf: String },
    #[error("no other address of `{host}` is known")]
    NoOther { host: String },
}

/// Whom to ask, and what to believe. See the settings of section `network`.
#[derive(Debug, Clone)]
pub struct Options {
    /// Kinds in the order in which they are asked; what is missing is never asked.
    pub order: Vec<Kind>,
    /// Names the system's servers; read again when it changes.
    pub resolv_conf: PathBuf,
    /// hosts(5): names that need no asking as long as their addresses work; read at each look-up.
    pub hosts: PathBuf,
    pub https: Vec<SocketAddr>,
    pub tls_servers: Vec<SocketAddr>,
    pub public: Vec<SocketAddr>,
    /// Private addresses that a name may lead to.
    pub private: Vec<IpAddr>,
    /// What is used when nobody knows an address.
    pub pinned: Vec<(String, IpAddr)>,
}

/// Handle to the resolver; clones share what it knows.
#[derive(Clone)]
pub struct Resolver {
    shared: Arc<Shared>,
}

struct Shared {
    executor: Executor,
    options: Options,
    /// Asked instead of what `resolv_conf` names.
    fixed: Option<Vec<SocketAddr>>,
    /// For the encrypted rungs. `None`: there are none.
    tls: Option<Arc<ClientConfig>>,
    last_good: Box<dyn LastGood>,
    state: Mutex<State>,
    probes: AtomicUsize,
    /// What the rungs and whoever dials learn of the line.
    segments: Segments,
}

#[derive(Default)]
struct State {
    /// In the order of the settings, each once.
    rungs: Vec<Rung>,
    stamp: Option<Option<Stamp>>,
    known: Known,
    /// What the network announces for its translation of addresses.
    nat64: Vec<nat64::Prefix>,
    /// Searches under way, by host. As many as there are callers.
    flights: Vec<(String, Flight, Instant)>,
}

/// The outcome of a search, once it is there.
type Flight = Arc<OnceCell<Outcome>>;

impl Resolver {
    /// `executor` has to be running while a look-up waits, on whichever thread that is.
    pub fn new(
        executor: Executor,
        options: Options,
        tls: &Arc<ClientConfig>,
        last_good: impl LastGood + 'static,
    ) -> Self {
        Self::build(executor, options, None, Some(tls.clone()), Box::new(last_good))
    }

    /// Asks these servers over UDP and TCP, and nobody else; names may lead to this machine. For
    /// tests.
    pub fn with_servers(executor: Executor, servers: &[SocketAddr]) -> Self {
        let options = Options {
            order: vec![Kind::System],
            resolv_conf: PathBuf::new(),
            hosts: PathBuf::new(),
            https: Vec::new(),
            tls_servers: Vec::new(),
            public: Vec::new(),
            private: vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            pinned: Vec::new(),
        };
        Self::build(executor, options, Some(servers.to_vec()), None, Box::new(last_good::Nothing))
    }

    fn build(
        executor: Executor,
        mut options: Options,
        fixed: Option<Vec<SocketAddr>>,
        tls: Option<Arc<ClientConfig>>,
        last_good: Box<dyn LastGood>,
    ) -> Self {
        for (host, _) in &mut options.pinned {
            *host = key(host);
        }
        for address in &mut options.private {
            *address = address.to_canonical();
        }
        let mut state = State::default();
        state.known.load(last_good.load());
        let (state, probes, segments) = (Mutex::new(state), AtomicUsize::new(0), Segments::default());
        Self {
            shared: Arc::new(Shared { executor, options, fixed, tls, last_good, state, probes, segments }),
        }
    }

    /// Whether large packets get through, for whoever dials.
    pub fn segments(&self) -> &Segments {
        &self.shared.segments
    }

    /// The addresses of `host`, the best first; never empty. Addresses themselves (`127.0.0.1`,
    /// `::1`, `[::1]`), `localhost` and the names below it (RFC 6761 §6.3) need no server.
    pub async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        self.lookup_beyond(host, &[], clock::now()).await
    }

    /// Like [`lookup`](Self::lookup), for addresses other than those that were `tried` since `since`:
    /// a search that has ended in vain meanwhile is not repeated.
    pub async fn lookup_beyond(
        &self,
        host: &str,
        tried: &[IpAddr],
        since: Instant,
    ) -> Result<Vec<IpAddr>, ResolveError> {
        let untried = |mut addresses: Vec<IpAddr>| {
            addresses.retain(|address| !tried.contains(address));
            Some(addresses).filter(|addresses| !addresses.is_empty())
        };
        let no_other = || ResolveError::NoOther { host: host.to_owned() };
        if let Some(addresses) = self.without_asking(host) {
            return untried(addresses).ok_or_else(no_other);
        }
        let name = host_name(host)?;
        let key = key(host);
        let stated = self.stated(&key);

        let (flight, fallback, patience) = {
            let mut state = self.current();
            let now = clock::now();
            let known = state.known.host(&key);
            if let Some(addresses) =
                untried(known.stated(stated.clone(), now)).or_else(|| untried(known.ready(now)))
            {
                return Ok(addresses);
            }
            let hopeful = |all: Vec<IpAddr>| {
                untried(all.into_iter().filter(|address| !known.is_shunned(*address, now)).collect())
            };
            let (fallback, patience) = match hopeful(known.last_good(now)) {
                Some(addresses) => (Some(addresses), RESPONSE_TIMEOUT),
                None => (hopeful(self.pinned(&key)), PINNED_TIMEOUT),
            };
            if let Some(addresses) = &fallback
                && known.has_just_failed(now)
            {
                return Ok(addresses.clone());
            }
            if let Some(error) = known.absent(now) {
                let last_good = known.last_good(now);
                return untried(last_good)
                    .or_else(|| untried(self.pinned(&key)))
                    .or_else(|| untried(stated))
                    .ok_or_else(|| error.clone());
            }
            if fallback.is_none()
                && let Some(error) = known.failed_since(since)
            {
                return Err(error.clone());
            }
            let (flight, started) = self.join_or_start(&mut state, host, &key, name);
            // Who asks again while the same search goes on has waited already.
            (flight, fallback, patience.saturating_sub(now.saturating_duration_since(started)))
        };

        let outcome = match &fallback {
            // The search keeps its own time; this is for an executor that no longer runs.
            None => within(LOOKUP_DEADLINE * 2, flight.wait()).await.cloned(),
            Some(_) => within(patience, flight.wait()).await.cloned(),
        };
        let (useless, error) = match outcome {
            None => (Vec::new(), None),
            Some(Outcome::Found(addresses)) => match untried(addresses) {
                Some(addresses) => return Ok(addresses),
                None => (Vec::new(), None),
            },
            Some(Outcome::Nothing { useless, error }) => (useless, Some(error)),
        };
        // At last what did not work a moment ago: it may have been the line's fault.
        fallback
            .or_else(|| untried(useless))
            .or_else(|| untried(self.state().known.host(&key).last_good(clock::now())))
            .or_else(|| untried(self.pinned(&key)))
            .or_else(|| untried(stated))
            .ok_or_else(|| error.unwrap_or_else(no_other))
    }

    /// Joins the search for `host` that is under way, or starts one. It goes on if nobody waits any
    /// more: whoever comes next finds its result.
    fn join_or_start(&self, state: &mut State, host: &str, key: &str, name: Name) -> (Flight, Instant) {
        if let Some((_, flight, started)) = state.flights.iter().find(|(other, ..)| other == key) {
            return (flight.clone(), *started);
        }
        let (flight, started) = (Flight::default(), clock::now());
        state.flights.push((key.to_owned(), flight.clone(), started));
        let (resolver, done) = (self.clone(), flight.clone());
        let (host, key) = (host.to_owned(), key.to_owned());
        let search = async move {
            let outcome = resolver.search(&host, &key, &name).await;
            resolver.state().flights.retain(|(other, ..)| *other != key);
            // Nobody else sets it.
            let _ = done.set(outcome).await;
        };
        self.shared.executor.spawn(search).detach();
        (flight, started)
    }

    /// TLS for `host` succeeded at `address`: it is the right one, and whoever gave it is honest.
    pub fn proved(&self, host: &str, address: IpAddr) {
        if self.without_asking(host).is_some() {
            return;
        }
        let key = key(host);
        let mut state = self.state();
        let now = clock::now();
        let source = match state.known.host(&key).source(address) {
            Some(source) => source,
            None if self.pinned(&key).contains(&address) => Source::Pinned,
            // Of an answer that has been replaced since.
            None => Source::LastGood("dns".into()),
        };
        if let Source::Rung(rung) = source {
            self.think(&mut state, rung, Condition::Good);
        }
        for rung in &mut state.rungs {
            rung.absolve(&key, address, now);
        }
        let source = source.to_string();
        state.known.host(&key).proved(address, &source, now);
        drop(state);
        self.shared.last_good.keep(&Proof { host: key, address, source });
    }

    /// TLS for `host` failed at `address`, so whoever gave it lied; `why` says how it failed. The
    /// address is avoided for a while.
    pub fn disproved(&self, host: &str, address: IpAddr, why: &str) {
        if self.without_asking(host).is_some() {
            return;
        }
        let key = key(host);
        let mut state = self.state();
        let now = clock::now();
        let known = state.known.host(&key);
        let source = known.source(address);
        let again = known.is_shunned(address, now);
        known.shun(address, Shunned::Disproved, now);
        match source {
            Some(Source::Rung(id)) => {
                if let Some(rung) = state.rungs.iter_mut().find(|rung| rung.id == id) {
                    rung.blame(&key, address, why, now);
                }
            }
            Some(Source::HostsFile) if !again => {
                self.blame_hosts_file(&key, address, &format!("TLS failed: {why}"));
            }
            _ => {}
        }
    }

    /// No connection to `address` of `host`: nobody's lie, but others are tried first for a while.
    pub fn unreachable(&self, host: &str, address: IpAddr) {
        self.did_not_work(host, address, Shunned::Unreachable, "nobody takes connections");
    }

    /// `address` of `host` said nothing at all, or nothing more once it had accepted. If it has never been
    /// good, others are tried first for an hour; and for some minutes whoever gave it is asked after others.
    pub fn silent(&self, host: &str, address: IpAddr) {
        self.did_not_work(host, address, Shunned::NeverAnswered, "nobody answers");
    }

    fn did_not_work(&self, host: &str, address: IpAddr, why: Shunned, words: &str) {
        if self.without_asking(host).is_some() {
            return;
        }
        let key = key(host);
        let mut state = self.state();
        let now = clock::now();
        let known = state.known.host(&key);
        // What was good once, or stands in the settings, is not given up because of a bad hour.
        let trusted = known.was_proved(address) || self.pinned(&key).contains(&address);
        let why = if trusted { Shunned::Unreachable } else { why };
        let source = known.source(address);
        let again = known.is_shunned(address, now);
        known.shun(address, why, now);
        match source {
            Some(Source::Rung(id)) if why == Shunned::NeverAnswered => {
                if let Some(rung) = state.rungs.iter_mut().find(|rung| rung.id == id) {
                    rung.doubt(now);
                }
            }
            Some(Source::HostsFile) if !again => self.blame_hosts_file(&key, address, words),
            _ => {}
        }
    }

    /// Says which line leads nowhere: nobody else will find it.
    fn blame_hosts_file(&self, key: &str, address: IpAddr, why: &str) {
        for line in self.hosts_lines(key).iter().filter(|line| line.address == address) {
            log::warn!(
                "dns: {} line {} gives {address} for `{key}`, where {why}; others are asked. Remove that line",
                self.hosts_file().display(),
                line.number
            );
        }
    }

    /// The file of names that need no asking.
    pub fn hosts_file(&self) -> &Path {
        &self.shared.options.hosts
    }

    /// What the hosts file says of `host` now, also what leads nowhere.
    pub fn hosts_lines(&self, host: &str) -> Vec<HostsLine> {
        let hosts = system::read_start(self.hosts_file()).unwrap_or_default();
        system::hosts_lines(&hosts, &key(host))
    }

    /// The addresses that the hosts file gives for `key`.
    fn stated(&self, key: &str) -> Vec<IpAddr> {
        let lines = self.hosts_lines(key).into_iter();
        lines.filter(HostsLine::is_address).map(|line| line.address).collect()
    }

    /// How every rung stands, in the order of the settings.
    pub fn health(&self) -> Vec<Health> {
        self.current().rungs.iter().map(Rung::health).collect()
    }

    /// Addresses that no server is asked for.
    fn without_asking(&self, host: &str) -> Option<Vec<IpAddr>> {
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse() {
            return Some(vec![address]);
        }
        let key = key(bare);
        let local = key == "localhost" || key.ends_with(".localhost");
        local.then(|| vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()])
    }

    fn pinned(&self, key: &str) -> Vec<IpAddr> {
        let pinned = self.shared.options.pinned.iter();
        pinned.filter(|(host, _)| host == key).map(|(_, address)| *address).collect()
    }

    /// Notes what is thought of a rung, if it still is one.
    fn think(&self, state: &mut State, rung: RungId, condition: Condition) {
        if let Some(rung) = state.rungs.iter_mut().find(|other| other.id == rung) {
            rung.set(condition, clock::now());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of it is whole before anything can panic.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, with the rungs as the system's file wants them now.
    fn current(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        let stamp = system::stamp(&self.shared.options.resolv_conf);
        if state.stamp != Some(stamp) {
            let first = state.stamp.replace(stamp).is_none();
            let rungs = self.shared.rungs(&state.rungs);
            let servers: Vec<_> = rungs.iter().map(|rung| rung.id.to_string()).collect();
            if first {
                log::info!("dns: asking {}", servers.join(", "));
            } else {
                log::info!("dns: {} changed, asking {}", self.resolv_conf().display(), servers.join(", "));
                state.known.network_changed();
                state.nat64.clear();
                self.shared.segments.forget();
            }
            state.rungs = rungs;
        }
        state
    }

    fn resolv_conf(&self) -> &Path {
        &self.shared.options.resolv_conf
    }
}

impl Shared {
    /// All rungs; those that there were `before` keep their health, but nothing is held against them.
    fn rungs(&self, before: &[Rung]) -> Vec<Rung> {
        let now = clock::now();
        let mut rungs: Vec<Rung> = Vec::new();
        for kind in &self.options.order {
            let servers = match kind {
                Kind::System => self.system_servers(),
                Kind::Https => self.options.https.clone(),
                Kind::Tls => self.options.tls_servers.clone(),
                Kind::Public => self.options.public.clone(),
            };
            for server in servers {
                let id = RungId { kind: *kind, server };
                if rungs.iter().any(|rung| rung.id == id) {
                    continue;
                }
                let mut rung =
                    before.iter().find(|rung| rung.id == id).cloned().unwrap_or_else(|| Rung::new(id, now));
                rung.forgive();
                rungs.push(rung);
            }
        }
        rungs
    }

    fn system_servers(&self) -> Vec<SocketAddr> {
        if let Some(fixed) = &self.fixed {
            return fixed.clone();
        }
        match system::read_start(&self.options.resolv_conf) {
            Ok(text) => system::name_servers(&text),
            Err(error) => {
                log::info!("dns: {} was not read ({error})", self.options.resolv_conf.display());
                Vec::new()
            }
        }
    }

    fn is_acceptable(&self, address: IpAddr) -> bool {
        is_acceptable(address, &self.options.private, &[])
    }
}

/// How a host is called in memory and in the ledger: names differ neither by case nor by a dot at
/// the end.
fn key(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// The DNS name of a host, in ASCII: international names stand in their `xn--` form. It is a full
/// name: the search domains of an office network have no say in where we connect.
fn host_name(host: &str) -> Result<Name, ResolveError> {
    let fits = |label: &str| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let labels = host.strip_suffix('.').unwrap_or(host);
    match Name::from_ascii(host) {
        Ok(mut name) if labels.split('.').all(fits) => {
            name.set_fqdn(true);
            Ok(name)
        }
        _ => Err(ResolveError::BadName { host: host.to_owned() }),
    }
}

#[cfg(test)]
mod tests;
