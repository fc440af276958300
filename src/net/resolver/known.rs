//! What is known of hosts: answers, proofs, and addresses that did not work. Time is an argument.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::ResolveError;
use super::ladder::RungId;
use super::last_good::{self, Proof};

/// Hosts that are remembered; beyond that the one asked for longest ago is forgotten. More than
/// [`last_good::MAX_HOSTS`], because WhatsApp's media servers have many names.
pub(super) const MAX_HOSTS: usize = 16;

/// Addresses per host that are remembered as not working.
const MAX_SHUNNED: usize = 16;

/// How long an answer is used, whatever its TTL says: below, one connection would ask several times;
/// above, a host that moves is found too late.
const LEAST_TTL: Duration = Duration::from_secs(30);
const LONGEST_TTL: Duration = Duration::from_secs(3600);

/// How long a proved address is used without asking, so that a reconnect costs no look-up. At least
/// this, even if the TTL is shorter: that TLS succeeded there says more than any answer.
const LEAST_FRESH: Duration = Duration::from_secs(300);

/// How long it is believed that a host has no address: a record that was just made must not stay
/// invisible, and a filter that was just removed must not stay in the way.
const ABSENT_FOR: Duration = Duration::from_secs(15);

/// After a look-up that found nothing, what was good before is used at once for so long (RFC 8767
/// §5, "failure recheck timer").
const RECHECK_AFTER: Duration = Duration::from_secs(30);

/// How long an address is avoided at which TLS for the host failed. Whoever gives it out meanwhile
/// is asked again in vain.
const DISPROVED_FOR: Duration = Duration::from_secs(600);

/// How long an address is avoided that refused, or was silent though it once was good: it may be the
/// line's fault.
const UNREACHABLE_FOR: Duration = Duration::from_secs(30);

/// How long others are tried before an address that was silent and has never been good: a censor's address
/// that swallows everything would cost seconds at every connection. Whoever gives it out is still asked
/// again, and if nobody gives a better one it is tried.
const NEVER_ANSWERED_FOR: Duration = Duration::from_secs(60 * 60);

/// Who gave an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Rung(RungId),
    HostsFile,
    LastGood(String),
    Pinned,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rung(rung) => write!(f, "{rung}"),
            Self::HostsFile => f.write_str("hosts file"),
            Self::LastGood(source) => f.write_str(source),
            Self::Pinned => f.write_str("pinned"),
        }
    }
}

/// Why an address is avoided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shunned {
    Unreachable,
    NeverAnswered,
    Disproved,
}

#[derive(Debug, Default)]
pub(super) struct Known {
    /// The one used last is at the end.
    hosts: Vec<Host>,
}

#[derive(Debug)]
pub(super) struct Host {
    name: String,
    /// What the hosts file says.
    stated: Vec<IpAddr>,
    /// The last answer, who gave it, and until when it is used.
    answer: Option<(Vec<IpAddr>, RungId, Instant)>,
    ttl: Duration,
    /// Proved addresses, the newest first, and until when each is fresh.
    proofs: Vec<(IpAddr, String, Option<Instant>)>,
    shunned: Vec<(IpAddr, Shunned, Instant)>,
    absent: Option<(ResolveError, Instant)>,
    failed: Option<(ResolveError, Instant)>,
    /// Searches in a row that found nothing.
    in_vain: usize,
}

impl Known {
    /// What was kept by the process before; none of it is fresh.
    pub(super) fn load(&mut self, proofs: Vec<Proof>) {
        for proof in proofs {
            let host = self.host(&proof.host);
            if host.proofs.len() < last_good::MAX_ADDRESSES {
                host.proofs.push((proof.address, proof.source, None));
            }
        }
    }

    pub(super) fn host(&mut self, name: &str) -> &mut Host {
        match self.hosts.iter().position(|host| host.name == name) {
            Some(place) => self.hosts[place..].rotate_left(1),
            None => {
                if self.hosts.len() >= MAX_HOSTS {
                    self.hosts.remove(0);
                }
                self.hosts.push(Host {
                    name: name.to_owned(),
                    stated: Vec::new(),
                    answer: None,
                    ttl: LEAST_TTL,
                    proofs: Vec::new(),
                    shunned: Vec::new(),
                    absent: None,
                    failed: None,
                    in_vain: 0,
                });
            }
        }
        let last = self.hosts.len() - 1;
        &mut self.hosts[last]
    }

    /// Another network: its servers may answer otherwise. What was proved stays proved.
    pub(super) fn network_changed(&mut self) {
        for host in &mut self.hosts {
            host.answer = None;
            host.absent = None;
            host.failed = None;
            host.in_vain = 0;
            host.shunned.retain(|shunned| shunned.1 == Shunned::Disproved);
        }
    }

    #[cfg(test)]
    pub(super) fn hosts(&self) -> usize {
        self.hosts.len()
    }
}

impl Host {
    /// Addresses that the hosts file gives, as it reads now; those that did not work are left out.
    pub(super) fn stated(&mut self, addresses: Vec<IpAddr>, now: Instant) -> Vec<IpAddr> {
        self.stated = addresses;
        self.stated.iter().copied().filter(|address| !self.is_shunned(*address, now)).collect()
    }

    /// Addresses that need no look-up: fresh proofs, then an answer that still holds.
    pub(super) fn ready(&self, now: Instant) -> Vec<IpAddr> {
        let fresh = self.proofs.iter().filter(|proof| proof.2.is_some_and(|until| now < until));
        let mut ready: Vec<IpAddr> = fresh.map(|proof| proof.0).collect();
        let answer = self.answer.iter().filter(|(_, _, until)| now < *until);
        for address in answer.flat_map(|(addresses, _, _)| addresses) {
            if !ready.contains(address) {
                ready.push(*address);
            }
        }
        ready.retain(|address| !self.is_shunned(*address, now));
        ready
    }

    /// Addresses that were good once, those that did not work a moment ago at the end.
    pub(super) fn last_good(&self, now: Instant) -> Vec<IpAddr> {
        let mut all: Vec<IpAddr> = self.proofs.iter().map(|proof| proof.0).collect();
        all.sort_by_key(|address| self.shunned_as(*address, now));
        all
    }

    pub(super) fn is_shunned(&self, address: IpAddr, now: Instant) -> bool {
        self.shunned_as(address, now).is_some()
    }

    pub(super) fn is_disproved(&self, address: IpAddr, now: Instant) -> bool {
        self.shunned_as(address, now) == Some(Shunned::Disproved)
    }

    fn shunned_as(&self, address: IpAddr, now: Instant) -> Option<Shunned> {
        self.shunned.iter().find(|(ip, _, until)| *ip == address && now < *until).map(|(_, why, _)| *why)
    }

    pub(super) fn shunned(&self, now: Instant) -> Vec<IpAddr> {
        self.shunned.iter().filter(|(_, _, until)| now < *until).map(|(address, _, _)| *address).collect()
    }

    /// Why the host is taken to have no address at all.
    pub(super) fn absent(&self, now: Instant) -> Option<&ResolveError> {
        self.absent.as_ref().filter(|(_, until)| now < *until).map(|(error, _)| error)
    }

    /// Whether a look-up has found nothing just now.
    pub(super) fn has_just_failed(&self, now: Instant) -> bool {
        self.failed.as_ref().is_some_and(|(_, at)| now.saturating_duration_since(*at) < RECHECK_AFTER)
    }

    /// How many searches in a row have found nothing.
    pub(super) fn in_vain(&self) -> usize {
        self.in_vain
    }

    /// Why a look-up that ended after `since` found nothing.
    pub(super) fn failed_since(&self, since: Instant) -> Option<&ResolveError> {
        self.failed.as_ref().filter(|(_, at)| *at >= since).map(|(error, _)| error)
    }

    pub(super) fn found(&mut self, addresses: &[IpAddr], rung: RungId, ttl: Duration, now: Instant) {
        self.ttl = ttl.clamp(LEAST_TTL, LONGEST_TTL);
        self.answer = Some((addresses.to_vec(), rung, now + self.ttl));
        self.absent = None;
        self.failed = None;
        self.in_vain = 0;
    }

    pub(super) fn not_found(&mut self, error: &ResolveError, now: Instant) {
        self.failed = Some((error.clone(), now));
        self.in_vain = self.in_vain.saturating_add(1);
        self.absent = match error {
            ResolveError::NotFound { .. } => Some((error.clone(), now + ABSENT_FOR)),
            // Whoever was silent may answer now.
            _ => None,
        };
    }

    /// Who gave `address`.
    pub(super) fn source(&self, address: IpAddr) -> Option<Source> {
        let answer = self.answer.iter().find(|(addresses, _, _)| addresses.contains(&address));
        let proof = self.proofs.iter().find(|proof| proof.0 == address);
        answer
            .map(|(_, rung, _)| Source::Rung(*rung))
            .or_else(|| self.stated.contains(&address).then_some(Source::HostsFile))
            .or_else(|| proof.map(|(_, source, _)| Source::LastGood(source.clone())))
    }

    /// Notes that TLS for the host succeeded at `address`, which `source` gave. True: for the first
    /// time in this process.
    pub(super) fn proved(&mut self, address: IpAddr, source: &str, now: Instant) -> bool {
        self.shunned.retain(|shunned| shunned.0 != address);
        let fresh = self.ttl.max(LEAST_FRESH);
        let before = self.proofs.iter().position(|proof| proof.0 == address);
        let before = before.map(|place| self.proofs.remove(place));
        self.proofs.insert(0, (address, source.to_owned(), Some(now + fresh)));
        self.proofs.truncate(last_good::MAX_ADDRESSES);
        before.is_none_or(|(_, _, fresh)| fresh.is_none())
    }

    /// Whether TLS for the host has ever succeeded at `address`, as far as is known.
    pub(super) fn was_proved(&self, address: IpAddr) -> bool {
        self.proofs.iter().any(|proof| proof.0 == address)
    }

    pub(super) fn shun(&mut self, address: IpAddr, why: Shunned, now: Instant) {
        let time = match why {
            Shunned::Unreachable => UNREACHABLE_FOR,
            Shunned::NeverAnswered => NEVER_ANSWERED_FOR,
            Shunned::Disproved => DISPROVED_FOR,
        };
        self.shunned.retain(|(ip, _, until)| *ip != address && now < *until);
        if self.shunned.len() >= MAX_SHUNNED {
            self.shunned.remove(0);
        }
        self.shunned.push((address, why, now + time));
    }

    #[cfg(test)]
    fn entries(&self) -> usize {
        self.proofs.len() + self.shunned.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::rung::Kind;

    const RUNG: RungId = RungId {
        kind: Kind::System,
        server: std::net::SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 53),
    };

    fn ip(n: u8) -> IpAddr {
        IpAddr::from([1, 2, 3, n])
    }

    #[test]
    fn an_answer_is_used_within_bounds_whatever_its_ttl() {
        let now = crate::clock::now();
        let mut known = Known::default();
        for (ttl, used) in [(0, LEAST_TTL), (100, Duration::from_secs(100)), (1 << 30, LONGEST_TTL)] {
            let host = known.host("a");
            host.found(&[ip(1)], RUNG, Duration::from_secs(ttl), now);
            assert_eq!(host.ready(now + used - LEAST_TTL / 2), [ip(1)]);
            assert!(host.ready(now + used).is_empty());
        }
    }

    #[test]
    fn a_proved_address_needs_no_look_up_for_minutes_and_is_never_forgotten_by_age() {
        let now = crate::clock::now();
        let mut known = Known::default();
        let host = known.host("a");
        host.found(&[ip(1), ip(2)], RUNG, Duration::ZERO, now);
        assert!(host.proved(ip(2), "system", now) && !host.proved(ip(2), "system", now));
        assert_eq!(host.ready(now), [ip(2), ip(1)], "the proved one first");
        assert_eq!(host.ready(now + LEAST_FRESH - LEAST_TTL), [ip(2)]);
        assert!(host.ready(now + LEAST_FRESH).is_empty());
        assert_eq!(host.last_good(now + Duration::from_secs(40_000_000)), [ip(2)]);
        host.proved(ip(1), "system", now);
        assert_eq!(host.last_good(now), [ip(1), ip(2)], "the newest first");
    }

    #[test]
    fn an_address_that_did_not_work_is_put_last_until_it_is_proved_again() {
        let now = crate::clock::now();
        let mut known = Known::default();
        let host = known.host("a");
        host.proved(ip(1), "x", now);
        host.proved(ip(2), "x", now);
        host.proved(ip(3), "x", now);
        host.shun(ip(3), Shunned::Disproved, now);
        host.shun(ip(2), Shunned::Unreachable, now);
        assert_eq!((host.ready(now), host.last_good(now)), (vec![ip(1)], vec![ip(1), ip(2), ip(3)]));
        assert_eq!(host.ready(now + UNREACHABLE_FOR), [ip(2), ip(1)]);
        host.proved(ip(3), "x", now);
        assert_eq!(host.last_good(now)[0], ip(3));
    }

    #[test]
    fn what_never_answered_comes_last_for_an_hour_and_what_the_hosts_file_says_comes_first() {
        let now = crate::clock::now();
        let mut known = Known::default();
        let host = known.host("a");
        host.found(&[ip(1), ip(2)], RUNG, LONGEST_TTL * 2, now);
        host.shun(ip(1), Shunned::NeverAnswered, now);
        let (later, after) = (now + NEVER_ANSWERED_FOR - LEAST_TTL, now + NEVER_ANSWERED_FOR);
        assert_eq!((host.ready(later), host.is_shunned(ip(1), after)), (vec![ip(2)], false));
        assert_eq!(host.stated(vec![ip(1), ip(9)], now), [ip(9)]);
        assert_eq!(host.source(ip(9)), Some(Source::HostsFile));
        assert_eq!(host.source(ip(1)), Some(Source::Rung(RUNG)), "who answered so too can be judged");
        assert!(!host.was_proved(ip(1)));
        host.proved(ip(1), "x", now);
        assert!(host.was_proved(ip(1)) && !host.is_shunned(ip(1), now));
        // A line that was mended counts at once.
        assert!(host.stated(vec![], now).is_empty());
        assert_eq!(host.source(ip(9)), None);
        known.network_changed();
        assert!(!known.host("a").is_shunned(ip(1), now));
    }

    #[test]
    fn nothing_grows_without_bound() {
        let now = crate::clock::now();
        let mut known = Known::default();
        for n in 0..1000u32 {
            let host = known.host(&format!("{n}.example"));
            for n in 0..=255 {
                host.proved(ip(n), "x", now);
                host.shun(ip(n), Shunned::Disproved, now);
            }
            assert!(host.entries() <= MAX_SHUNNED + last_good::MAX_ADDRESSES);
        }
        assert_eq!(known.hosts(), MAX_HOSTS);
        assert_eq!(
            known.host("999.example").last_good(now).len(),
            last_good::MAX_ADDRESSES,
            "the last is kept"
        );
    }
}
