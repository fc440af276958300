//! One search: the rungs are asked as the schedule says, until one gives a good answer.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::proto::rr::Name;

use super::ladder::{self, RungId, STEP, Said, Schedule, condition_after, judge};
use super::message::Answer;
use super::{LOOKUP_DEADLINE, ResolveError, Resolver, State, hickory, host_name, https, nat64};
use crate::clock;
use crate::net::deadline::within;
use crate::net::in_flight::{InFlight, Next};
use crate::net::rung::Kind;

/// Time for one rung, with TCP after UDP or a TLS handshake: an answer that takes four seconds is
/// still one.
const RUNG_DEADLINE: Duration = Duration::from_secs(5);

/// Time for the network to announce the prefix of its translated addresses: the server has just answered.
const PREFIX_WITHIN: Duration = Duration::from_secs(2);

/// Once somebody has given an address, though one that did not work, others have so long to give a
/// better one.
const BETTER_WITHIN: Duration = Duration::from_secs(3);

/// Questions under way at once in [`Resolver::ask_each`].
const ASKED_AT_ONCE: usize = 12;

/// How a search ended.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    Found(Vec<IpAddr>),
    /// Nobody gave a good answer; `useless` are addresses that did not work a moment ago.
    Nothing {
        useless: Vec<IpAddr>,
        error: ResolveError,
    },
}

/// What one rung answered to [`Resolver::ask_each`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub rung: RungId,
    pub took: Duration,
    /// Addresses that a name can have, or in words what came instead, to follow the server's name.
    pub answer: Result<Vec<IpAddr>, String>,
}

impl Resolver {
    /// Asks until somebody gives a good answer, and remembers what came of it.
    pub(super) async fn search(&self, host: &str, key: &str, name: &Name) -> Outcome {
        let (rungs, lanes, shunned) = {
            let mut state = self.state();
            let now = clock::now();
            let rungs: Vec<RungId> = state.rungs.iter().map(|rung| rung.id).collect();
            let in_vain = state.known.host(key).in_vain();
            let lanes = ladder::thinned(ladder::lanes(&state.rungs, now), in_vain);
            (rungs, lanes, state.known.host(key).shunned(now))
        };
        if rungs.is_empty() {
            let resolv_conf = self.resolv_conf().display().to_string();
            let error = ResolveError::NobodyToAsk { host: host.to_owned(), resolv_conf };
            return self.ended(key, Vec::new(), Vec::new(), error);
        }

        let begin = clock::now();
        let mut end = begin + LOOKUP_DEADLINE;
        let mut schedule = Schedule::new(lanes);
        let mut asked = InFlight::new();
        let mut asking = Vec::new();
        let mut said: Vec<(RungId, Said)> = Vec::new();
        let mut useless: Vec<IpAddr> = Vec::new();
        loop {
            let now = clock::now();
            if now >= end {
                break;
            }
            for place in schedule.due(now) {
                asking.push((place, now));
                // By its place, so that of answers that come together the preferred one counts.
                asked.add(place, self.ask(rungs[place], name));
            }
            let next_due = schedule.next_due(now);
            if asked.is_empty() && next_due.is_none() {
                break;
            }
            let rest = end.saturating_duration_since(now);
            let Next::Done(place, answer) = asked.next(next_due.map_or(rest, |due| due.min(rest))).await
            else {
                continue;
            };
            schedule.ended(place);
            asking.retain(|(other, _)| *other != place);
            let rung = rungs[place];
            let judged = judge(answer, &self.shared.options.private, &self.prefixes_of(rung.kind), &shunned);
            crate::logging::debug!("dns: {rung} {judged} ({key})");
            match &judged {
                Said::Found { addresses, ttl } => {
                    let (addresses, ttl) = (addresses.clone(), *ttl);
                    said.push((rung, judged));
                    self.silent_for(&rungs, &asking, &mut said);
                    return self.found(key, rung, addresses, ttl, &said);
                }
                Said::Useless { addresses } => {
                    end = end.min(clock::now() + BETTER_WITHIN);
                    useless.extend(
                        addresses.iter().filter(|address| !useless.contains(address)).collect::<Vec<_>>(),
                    );
                    if matches!(rung.kind, Kind::Https | Kind::Tls) {
                        // Whoever answers here is who was asked, so the address is the right one,
                        // and nobody has a better one.
                        end = begin;
                    }
                }
                _ => {}
            }
            said.push((rung, judged));
        }
        self.silent_for(&rungs, &asking, &mut said);
        let error = nothing(host, &said);
        self.ended(key, said, useless, error)
    }

    /// Adds those that were waited for in vain.
    fn silent_for(
        &self,
        rungs: &[RungId],
        asking: &[(usize, std::time::Instant)],
        said: &mut Vec<(RungId, Said)>,
    ) {
        for (place, since) in asking {
            let waited = clock::since(*since);
            // Before, it is not silence.
            if waited >= STEP {
                let reason = format!("was silent for {:.1} s", waited.as_secs_f32());
                said.push((rungs[*place], Said::Failed { reason }));
            }
        }
    }

    fn found(
        &self,
        key: &str,
        rung: RungId,
        addresses: Vec<IpAddr>,
        ttl: Duration,
        said: &[(RungId, Said)],
    ) -> Outcome {
        let mut state = self.state();
        let truth = format!("{rung} gave {}", ladder::list(&addresses));
        self.note(&mut state, key, said, Some(&truth));
        state.known.host(key).found(&addresses, rung, ttl, clock::now());
        Outcome::Found(addresses)
    }

    fn ended(
        &self,
        key: &str,
        said: Vec<(RungId, Said)>,
        useless: Vec<IpAddr>,
        error: ResolveError,
    ) -> Outcome {
        let mut state = self.state();
        let now = clock::now();
        let known = state.known.host(key);
        known.not_found(&error, now);
        let truth = known.last_good(now).first().map(|address| format!("it was at {address}"));
        self.note(&mut state, key, &said, truth.as_deref());
        Outcome::Nothing { useless, error }
    }

    /// Notes what is to be thought of those who answered.
    fn note(&self, state: &mut State, key: &str, said: &[(RungId, Said)], truth: Option<&str>) {
        let now = clock::now();
        for (id, said) in said {
            let known = state.known.host(key);
            let disproved = match said {
                Said::Useless { addresses } => addresses.iter().find(|ip| known.is_disproved(**ip, now)),
                _ => None,
            };
            if let Some(address) = disproved
                && matches!(id.kind, Kind::Https | Kind::Tls)
            {
                // The address is right, so something on the way there cuts TLS.
                for rung in &mut state.rungs {
                    rung.absolve(key, *address, now);
                }
                continue;
            }
            let Some(rung) = state.rungs.iter_mut().find(|rung| rung.id == *id) else { continue };
            if let Some(address) = disproved {
                rung.blame(key, *address, "as with the same answer before", now);
            } else if let Some(condition) = condition_after(key, said, truth) {
                rung.set(condition, now);
            }
        }
    }

    /// Asks one rung, within its deadline.
    async fn ask(&self, rung: RungId, name: &Name) -> Result<Answer, String> {
        let RungId { kind, server } = rung;
        let (executor, segments) = (self.shared.executor, &self.shared.segments);
        let tls = || self.shared.tls.as_ref().ok_or_else(|| "cannot be asked without TLS".to_owned());
        let answer = async {
            match kind {
                Kind::System => {
                    let answer = hickory::ask(executor, segments, server, name).await;
                    self.learn_prefixes(server, &answer).await;
                    answer
                }
                Kind::Public => hickory::ask(executor, segments, server, name).await,
                Kind::Https => https::ask(tls()?, segments, server, name).await,
                Kind::Tls => hickory::ask_over_tls(executor, tls()?, segments, server, name).await,
            }
        };
        within(RUNG_DEADLINE, Box::pin(answer))
            .await
            .unwrap_or_else(|| Err(format!("was silent for {} s", RUNG_DEADLINE.as_secs())))
    }

    /// Asks the network's own server which prefix its translated addresses have, if `answer` holds addresses
    /// that need one to be believed.
    async fn learn_prefixes(&self, server: SocketAddr, answer: &Result<Answer, String>) {
        let Ok(Answer::Addresses { addresses, .. }) = answer else { return };
        let translated = |ip: &IpAddr| ip.is_ipv6() && !self.shared.is_acceptable(*ip);
        if !addresses.iter().any(translated) {
            return;
        }
        let (executor, segments) = (self.shared.executor, &self.shared.segments);
        let announced = hickory::ask_for_ipv6(executor, segments, server, nat64::NAME);
        let prefixes = within(PREFIX_WITHIN, Box::pin(announced)).await;
        self.state().nat64 = nat64::prefixes(&prefixes.unwrap_or_default());
    }

    /// Prefixes that may stand in answers of a rung: what the network makes, its own servers give.
    fn prefixes_of(&self, kind: Kind) -> Vec<nat64::Prefix> {
        match kind {
            Kind::System => self.state().nat64.clone(),
            Kind::Https | Kind::Tls | Kind::Public => Vec::new(),
        }
    }

    /// Asks every rung now for `host`, to see what it answers and how fast. Changes nothing in what
    /// is thought of it. In the order of the settings.
    pub async fn ask_each(&self, host: &str) -> Result<Vec<Asked>, ResolveError> {
        let name = host_name(host)?;
        let rungs: Vec<RungId> = self.current().rungs.iter().map(|rung| rung.id).collect();
        let mut waiting = rungs.iter().copied().enumerate();
        let mut asked = InFlight::new();
        let mut answers = Vec::new();
        loop {
            while asked.len() < ASKED_AT_ONCE
                && let Some((place, rung)) = waiting.next()
            {
                let name = &name;
                asked.add(place, async move {
                    let begin = clock::now();
                    let answer = self.ask(rung, name).await;
                    (answer, clock::since(begin))
                });
            }
            if asked.is_empty() {
                break;
            }
            if let Next::Done(place, (answer, took)) = asked.next(RUNG_DEADLINE).await {
                let prefixes = self.prefixes_of(rungs[place].kind);
                let answer = match judge(answer, &self.shared.options.private, &prefixes, &[]) {
                    Said::Found { addresses, .. } => Ok(addresses),
                    other => Err(other.to_string()),
                };
                answers.push((place, Asked { rung: rungs[place], took, answer }));
            }
        }
        answers.sort_by_key(|(place, _)| *place);
        Ok(answers.into_iter().map(|(_, asked)| asked).collect())
    }
}

/// Why nobody's answer is of use.
fn nothing(host: &str, all: &[(RungId, Said)]) -> ResolveError {
    let host = host.to_owned();
    let said = match all {
        [] => "nobody answered".to_owned(),
        _ => all.iter().map(|(rung, said)| format!("{rung} {said}")).collect::<Vec<_>>().join("; "),
    };
    if all.iter().any(|(_, said)| matches!(said, Said::Private { .. })) {
        ResolveError::Private { host, said }
    } else if !all.is_empty()
        && all.iter().all(|(_, said)| matches!(said, Said::NoSuchName | Said::NoAddress))
    {
        ResolveError::NotFound { host, said }
    } else {
        ResolveError::NoAnswer { host, said }
    }
}
