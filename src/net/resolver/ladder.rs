//! The rules of the ladder, without sockets: who is asked when, what an answer is worth, and what
//! is thought of whoever gave it.

use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::message::Answer;
use super::nat64::Prefix;
use super::public_address::is_public;
use crate::net::rung::{Condition, Health, Kind};

/// A rung that has been silent for so long is no longer waited for alone: the next is asked beside
/// it. Answers over a bad mobile line take up to a second.
pub(super) const STEP: Duration = Duration::from_secs(1);

/// Every rung is asked within this time, so that half of a look-up is left to the last of them:
/// on a line that loses packets an answer takes some seconds.
const START_WINDOW: Duration = Duration::from_secs(5);

/// Servers of one kind that one look-up asks. More are taken when those before have failed.
const SERVERS_PER_LOOKUP: usize = 3;

/// A rung that failed or lied is asked after the others for so long, and then gets its place back:
/// a provider's server that was restarted should not be passed over for hours.
const DEMOTED_FOR: Duration = Duration::from_secs(180);

/// Which rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RungId {
    pub kind: Kind,
    pub server: SocketAddr,
}

impl fmt::Display for RungId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.name(), self.server)
    }
}

/// A rung and what is thought of it.
#[derive(Debug, Clone)]
pub(super) struct Rung {
    pub(super) id: RungId,
    condition: Condition,
    since: Instant,
    demoted_until: Option<Instant>,
    /// The host and the address of it that it lied about, until that turns out to be true.
    blamed_for: Option<(String, IpAddr)>,
}

impl Rung {
    pub(super) fn new(id: RungId, now: Instant) -> Self {
        Self { id, condition: Condition::Unknown, since: now, demoted_until: None, blamed_for: None }
    }

    pub(super) fn health(&self) -> Health {
        let RungId { kind, server } = self.id;
        Health { kind, server, condition: self.condition.clone(), since: self.since }
    }

    fn is_demoted(&self, now: Instant) -> bool {
        self.demoted_until.is_some_and(|until| now < until)
    }

    /// Another network: whatever was wrong may be so no more.
    pub(super) fn forgive(&mut self) {
        self.demoted_until = None;
    }

    /// TLS for `host` failed at an address that it gave.
    pub(super) fn blame(&mut self, host: &str, address: IpAddr, why: &str, now: Instant) {
        let reason = format!("gave {address} for `{host}`, where TLS failed: {why}");
        self.set(Condition::Lying { reason }, now);
        self.blamed_for = Some((host.to_owned(), address));
    }

    /// An address that it gave never answered. That may be the line's fault, so nothing is held against it
    /// but its turn: others are asked first for a while, lest it gives the next address of the kind.
    pub(super) fn doubt(&mut self, now: Instant) {
        self.demoted_until = Some(now + DEMOTED_FOR);
    }

    /// TLS for `host` succeeded at `address` after all.
    pub(super) fn absolve(&mut self, host: &str, address: IpAddr, now: Instant) {
        if self.blamed_for.as_ref().is_some_and(|blamed| blamed.0 == host && blamed.1 == address) {
            self.set(Condition::Good, now);
        }
    }

    /// Notes `condition`, and logs it if it is another one than before.
    pub(super) fn set(&mut self, condition: Condition, now: Instant) {
        self.demoted_until = match condition {
            Condition::Unknown | Condition::Good => None,
            Condition::Failing { .. } | Condition::Lying { .. } => Some(now + DEMOTED_FOR),
        };
        let changed = std::mem::discriminant(&self.condition) != std::mem::discriminant(&condition);
        if changed {
            match (&self.condition, &condition) {
                (_, Condition::Failing { reason }) => log::warn!("dns: {} is failing: it {reason}", self.id),
                (_, Condition::Lying { reason }) => log::warn!("dns: {} is lying: it {reason}", self.id),
                (Condition::Unknown, _) => crate::logging::debug!("dns: {} is good", self.id),
                _ => log::info!("dns: {} is good again", self.id),
            }
            self.since = now;
        }
        self.condition = condition;
        self.blamed_for = None;
    }
}

/// Look-ups in vain after which only one server of each kind is asked.
const ASK_FEWER_AFTER: usize = 3;

/// Who is asked, as places in `rungs`, which are in the order of the settings: a lane for each kind,
/// and behind these a lane for each kind's demoted servers.
pub(super) fn lanes(rungs: &[Rung], now: Instant) -> Vec<Vec<usize>> {
    let mut lanes: Vec<(bool, Kind, Vec<usize>)> = Vec::new();
    let places = |demoted| (0..rungs.len()).filter(move |place| rungs[*place].is_demoted(now) == demoted);
    for (demoted, place) in places(false).map(|p| (false, p)).chain(places(true).map(|p| (true, p))) {
        let kind = rungs[place].id.kind;
        let of_kind = lanes.iter().filter(|lane| lane.1 == kind).map(|lane| lane.2.len()).sum::<usize>();
        if of_kind >= SERVERS_PER_LOOKUP {
            continue;
        }
        match lanes.iter_mut().find(|lane| (lane.0, lane.1) == (demoted, kind)) {
            Some(lane) => lane.2.push(place),
            None => lanes.push((demoted, kind, vec![place])),
        }
    }
    lanes.into_iter().map(|(_, _, places)| places).collect()
}

/// The same with one server of each lane, in turn, after `in_vain` look-ups in a row that found
/// nothing: in a long outage asking everybody again and again only costs.
pub(super) fn thinned(lanes: Vec<Vec<usize>>, in_vain: usize) -> Vec<Vec<usize>> {
    if in_vain < ASK_FEWER_AFTER {
        return lanes;
    }
    let one = |lane: Vec<usize>| Some(vec![*lane.get(in_vain.checked_rem(lane.len())?)?]);
    lanes.into_iter().filter_map(one).collect()
}

/// When which rung of a look-up is asked.
///
/// A lane opens when the one before it has had no good answer for a step, or has nobody left to
/// ask. In an open lane the next server is asked when the one before has failed, or has been silent
/// for a step. Nobody who was asked is cut off by that. So a liar or a refusal costs no time, and
/// nine silent servers cost no more than five.
#[derive(Debug)]
pub(super) struct Schedule {
    lanes: Vec<Lane>,
    step: Duration,
}

#[derive(Debug)]
struct Lane {
    waiting: VecDeque<usize>,
    asked: Vec<usize>,
    opened: Option<Instant>,
    last_start: Option<Instant>,
}

impl Schedule {
    pub(super) fn new(lanes: Vec<Vec<usize>>) -> Self {
        let longest = lanes.iter().map(Vec::len).max().unwrap_or_default();
        let steps = u32::try_from(lanes.len() + longest).unwrap_or(u32::MAX).saturating_sub(2).max(1);
        let lane = |places: Vec<usize>| Lane {
            waiting: places.into(),
            asked: Vec::new(),
            opened: None,
            last_start: None,
        };
        Self { lanes: lanes.into_iter().map(lane).collect(), step: STEP.min(START_WINDOW / steps) }
    }

    /// Whom to ask now; they are taken to be asked then.
    pub(super) fn due(&mut self, now: Instant) -> Vec<usize> {
        let mut due = Vec::new();
        if let Some(first) = self.lanes.first_mut() {
            first.opened.get_or_insert(now);
        }
        for at in 0..self.lanes.len() {
            if self.opens(at).is_none_or(|opens| opens > now) {
                break;
            }
            let step = self.step;
            let lane = &mut self.lanes[at];
            lane.opened.get_or_insert(now);
            if lane.next_start(step).is_some_and(|start| start <= now)
                && let Some(place) = lane.waiting.pop_front()
            {
                lane.asked.push(place);
                lane.last_start = Some(now);
                due.push(place);
            }
        }
        due
    }

    /// When [`due`](Self::due) has something next, unless an answer comes before.
    pub(super) fn next_due(&self, now: Instant) -> Option<Duration> {
        let moments = (0..self.lanes.len()).filter_map(|at| match self.lanes[at].opened {
            Some(_) => self.lanes[at].next_start(self.step),
            None => self.opens(at),
        });
        moments.min().map(|moment| moment.saturating_duration_since(now))
    }

    /// Notes that a rung that was asked has answered, but nothing good.
    pub(super) fn ended(&mut self, place: usize) {
        for lane in &mut self.lanes {
            lane.asked.retain(|asked| *asked != place);
        }
    }

    /// When the lane opens or has opened, if that can be said yet.
    fn opens(&self, at: usize) -> Option<Instant> {
        if let Some(opened) = self.lanes[at].opened {
            return Some(opened);
        }
        let before = &self.lanes[at.checked_sub(1)?];
        let opened = before.opened?;
        Some(if before.is_exhausted() { opened } else { opened + self.step })
    }
}

impl Lane {
    fn is_exhausted(&self) -> bool {
        self.waiting.is_empty() && self.asked.is_empty()
    }

    fn next_start(&self, step: Duration) -> Option<Instant> {
        self.waiting.front()?;
        let opened = self.opened?;
        Some(match self.last_start {
            Some(last) if !self.asked.is_empty() => last + step,
            _ => opened,
        })
    }
}

/// What an answer is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    Found {
        addresses: Vec<IpAddr>,
        ttl: Duration,
    },
    /// Only addresses at which the host was not found a moment ago.
    Useless {
        addresses: Vec<IpAddr>,
    },
    /// Only addresses that no host on the internet has.
    Private {
        addresses: Vec<IpAddr>,
    },
    NoSuchName,
    NoAddress,
    Failed {
        reason: String,
    },
}

/// Judges an answer: `allowed` are private addresses that a name may have, `nat64` prefixes behind which a
/// public address may stand, `shunned` addresses that did not work.
pub(super) fn judge(
    answer: Result<Answer, String>,
    allowed: &[IpAddr],
    nat64: &[Prefix],
    shunned: &[IpAddr],
) -> Said {
    let (addresses, ttl) = match answer {
        Ok(Answer::Addresses { addresses, ttl }) => (addresses, ttl),
        Ok(Answer::NoSuchName) => return Said::NoSuchName,
        Ok(Answer::NoAddress) => return Said::NoAddress,
        Err(reason) => return Said::Failed { reason },
    };
    let (possible, private): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|ip| is_acceptable(*ip, allowed, nat64));
    if possible.is_empty() {
        return Said::Private { addresses: private };
    }
    let (useless, good): (Vec<_>, Vec<_>) = possible.into_iter().partition(|ip| shunned.contains(ip));
    match good.is_empty() {
        true => Said::Useless { addresses: useless },
        false => Said::Found { addresses: good, ttl },
    }
}

pub(super) fn is_acceptable(address: IpAddr, allowed: &[IpAddr], nat64: &[Prefix]) -> bool {
    let translated = |prefix: &Prefix| match address {
        IpAddr::V6(address) => prefix.ipv4(address).is_some_and(|behind| is_public(behind.into())),
        IpAddr::V4(_) => false,
    };
    // Connecting to the unspecified address leads to this machine, whatever the settings allow.
    !address.to_canonical().is_unspecified()
        && (is_public(address) || allowed.contains(&address.to_canonical()) || nat64.iter().any(translated))
}

/// What `id` said, to follow its name: "said that it does not exist".
impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found { addresses, .. } => write!(f, "gave {}", list(addresses)),
            Self::Useless { addresses } => write!(f, "gave {}, where it is not found", list(addresses)),
            Self::Private { addresses } => write!(f, "gave the private address {}", list(addresses)),
            Self::NoSuchName => f.write_str("said that the name does not exist"),
            Self::NoAddress => f.write_str("said that the name has no address"),
            Self::Failed { reason } => f.write_str(reason),
        }
    }
}

pub(super) fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What is to be thought of a rung after it `said` something of `host`; `None`: as before.
/// `truth` is who is known to know better, and what.
pub(super) fn condition_after(host: &str, said: &Said, truth: Option<&str>) -> Option<Condition> {
    Some(match said {
        Said::Found { .. } => Condition::Good,
        // It may be the line's fault; see `Rung::blame`.
        Said::Useless { .. } => return None,
        Said::Failed { reason } => Condition::Failing { reason: reason.clone() },
        Said::Private { addresses } => {
            Condition::Lying { reason: format!("gave the private address {} for `{host}`", list(addresses)) }
        }
        Said::NoSuchName | Said::NoAddress => match truth {
            Some(truth) => Condition::Lying { reason: format!("{said} (`{host}`), but {truth}") },
            None => Condition::Good,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn rungs(kinds: &[(Kind, u8)]) -> Vec<Rung> {
        let rung = |kind, n| {
            let server = SocketAddr::from((Ipv4Addr::new(192, 0, 2, n), 53));
            Rung::new(RungId { kind, server }, crate::clock::now())
        };
        kinds.iter().flat_map(|(kind, count)| (0..*count).map(|n| rung(*kind, n))).collect()
    }

    const ALL: [(Kind, u8); 4] = [(Kind::System, 3), (Kind::Https, 3), (Kind::Tls, 3), (Kind::Public, 3)];

    fn failing() -> Condition {
        Condition::Failing { reason: "was silent".into() }
    }

    /// Plays a schedule in which everybody is silent: when whom was asked, in seconds.
    fn silent(mut schedule: Schedule) -> Vec<(f32, usize)> {
        let begin = crate::clock::now();
        let mut now = begin;
        let mut asked = Vec::new();
        loop {
            for place in schedule.due(now) {
                asked.push(((now - begin).as_secs_f32(), place));
            }
            match schedule.next_due(now) {
                Some(wait) => now += wait.max(Duration::from_millis(1)),
                None => return asked,
            }
        }
    }

    #[test]
    fn kinds_overlap_so_that_everybody_is_asked_in_half_the_time_of_a_look_up() {
        let rungs = rungs(&ALL);
        let asked = silent(Schedule::new(lanes(&rungs, crate::clock::now())));
        let by_second = |second: f32| {
            let mut places: Vec<_> =
                asked.iter().filter(|(at, _)| (at - second).abs() < 0.1).map(|(_, place)| *place).collect();
            places.sort_unstable();
            places
        };
        assert_eq!(by_second(0.0), [0]);
        assert_eq!(by_second(1.0), [1, 3]);
        assert_eq!(by_second(2.0), [2, 4, 6]);
        assert_eq!(by_second(3.0), [5, 7, 9]);
        assert_eq!(by_second(5.0), [11]);
        assert_eq!(asked.len(), 12);
    }

    #[test]
    fn failures_cost_no_time_and_the_order_is_kept() {
        let rungs = rungs(&ALL);
        let now = crate::clock::now();
        let mut schedule = Schedule::new(lanes(&rungs, now));
        for place in 0..12 {
            assert_eq!(schedule.due(now), [place]);
            schedule.ended(place);
        }
        assert_eq!((schedule.due(now), schedule.next_due(now)), (vec![], None));
    }

    #[test]
    fn whoever_failed_is_asked_after_the_others_for_a_while() {
        let now = crate::clock::now();
        let mut rungs = rungs(&[(Kind::System, 2), (Kind::Https, 2)]);
        rungs[0].set(failing(), now);
        rungs[2].set(failing(), now);
        assert_eq!(lanes(&rungs, now), [vec![1], vec![3], vec![0], vec![2]]);
        assert_eq!(lanes(&rungs, now + DEMOTED_FOR), [vec![0, 1], vec![2, 3]]);
        rungs[0].set(Condition::Good, now);
        rungs[2].forgive();
        assert_eq!(lanes(&rungs, now), [vec![0, 1], vec![2, 3]]);
        rungs[0].doubt(now);
        assert_eq!(lanes(&rungs, now), [vec![1], vec![2, 3], vec![0]]);
        assert_eq!(rungs[0].health().condition, Condition::Good, "only its turn is lost");
    }

    #[test]
    fn of_many_servers_of_a_kind_those_that_work_are_asked() {
        let now = crate::clock::now();
        let mut rungs = rungs(&[(Kind::Https, 8)]);
        rungs[0].set(failing(), now);
        rungs[1].set(failing(), now);
        assert_eq!(lanes(&rungs, now), [[2, 3, 4]]);
        assert_eq!(thinned(lanes(&rungs, now), 2), [[2, 3, 4]]);
        let later = [3, 4, 5, 6].map(|in_vain| thinned(lanes(&rungs, now), in_vain));
        assert_eq!(later, [2, 3, 4, 2].map(|place| vec![vec![place]]));
    }

    proptest::proptest! {
        #[test]
        fn whatever_the_health_everybody_due_is_asked_once_and_early_enough(
            counts in proptest::collection::vec(0u8..9, 4),
            bad in proptest::collection::vec(proptest::bool::ANY, 36),
        ) {
            let kinds = [Kind::System, Kind::Https, Kind::Tls, Kind::Public];
            let mut rungs = rungs(&kinds.into_iter().zip(counts.clone()).collect::<Vec<_>>());
            let now = crate::clock::now();
            for (rung, bad) in rungs.iter_mut().zip(bad) {
                if bad {
                    rung.set(failing(), now);
                }
            }
            let asked = silent(Schedule::new(lanes(&rungs, now)));
            let mut places: Vec<_> = asked.iter().map(|(_, place)| *place).collect();
            places.sort_unstable();
            places.dedup();
            let expected: usize = counts.iter().map(|n| SERVERS_PER_LOOKUP.min(usize::from(*n))).sum();
            proptest::prop_assert_eq!((places.len(), asked.len()), (expected, expected));
            let last = asked.iter().map(|(at, _)| *at).fold(0.0, f32::max);
            proptest::prop_assert!(last <= START_WINDOW.as_secs_f32() + 0.2, "{} s", last);
        }
    }

    #[test]
    fn an_answer_is_worth_its_usable_addresses() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let answer = |all: &[&str]| {
            Ok(Answer::Addresses { addresses: all.iter().map(|a| ip(a)).collect(), ttl: STEP })
        };
        let judged = |all: &[&str]| judge(answer(all), &[ip("192.168.1.9")], &[], &[ip("1.2.3.4")]);
        assert_eq!(
            judged(&["10.0.0.1", "1.2.3.4", "5.6.7.8"]),
            Said::Found { addresses: vec![ip("5.6.7.8")], ttl: STEP }
        );
        assert_eq!(judged(&["192.168.1.9"]), Said::Found { addresses: vec![ip("192.168.1.9")], ttl: STEP });
        assert_eq!(judged(&["192.168.1.8"]), Said::Private { addresses: vec![ip("192.168.1.8")] });
        assert_eq!(judged(&["1.2.3.4", "0.0.0.0"]), Said::Useless { addresses: vec![ip("1.2.3.4")] });
    }

    #[test]
    fn what_stands_behind_the_networks_own_prefix_is_worth_what_it_stands_for() {
        let prefixes = super::super::nat64::prefixes(&["fd00:64::192.0.0.170".parse().unwrap()]);
        let acceptable = |text: &str| is_acceptable(text.parse().unwrap(), &[], &prefixes);
        assert!(acceptable("fd00:64::157.240.0.60"));
        for private in ["fd00:64::192.168.1.1", "fd00:64::0.0.0.0", "fd00:65::157.240.0.60", "10.0.0.1"] {
            assert!(!acceptable(private), "{private}");
        }
        assert!(!is_acceptable("fd00:64::157.240.0.60".parse().unwrap(), &[], &[]), "nobody announced it");
    }

    #[test]
    fn a_denial_is_a_lie_only_when_somebody_knows_better() {
        assert_eq!(condition_after("a.example", &Said::NoSuchName, None), Some(Condition::Good));
        let lie = condition_after("a.example", &Said::NoSuchName, Some("https 1.1.1.1:443 gave 5.6.7.8"));
        let Some(Condition::Lying { reason }) = lie else { panic!("{lie:?}") };
        assert_eq!(
            reason,
            "said that the name does not exist (`a.example`), but https 1.1.1.1:443 gave 5.6.7.8"
        );
        let private = Said::Private { addresses: vec!["10.10.10.10".parse().unwrap()] };
        assert!(matches!(condition_after("a.example", &private, None), Some(Condition::Lying { .. })));
    }
}
