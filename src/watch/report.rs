//! The state of every part in one place, as `/health` gives it and `bot-kjp status` reads it.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::facts::Facts;
use super::warning::{self, Condition, Severity, Warning};
use super::wording;
use crate::logging::mask_numbers;
use crate::net::rung;
use crate::supabase::sync;

/// Overall state. A machine needs no more than this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Healthy,
    /// The bot does its work; somebody should know something.
    Warned,
    /// Something needs help: people are not served, or what they sent does not reach its place.
    Unhealthy,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub state: State,
    pub version: String,
    /// Seconds since 1970 UTC by the box's clock.
    pub time: i64,
    pub uptime_seconds: u64,
    /// Whether the dead man's switch would be fed now.
    pub promise_kept: bool,
    pub parts: Vec<Part>,
    pub warnings: Vec<Shown>,
}

/// How one part stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// `whatsapp`, `dns`, `supabase`, `queues`, `disk`, `memory`, `process` or `clock`.
    pub part: String,
    /// Stable, for machines.
    pub code: String,
    pub since_seconds: Option<u64>,
    /// The last error, in English.
    pub error: Option<String>,
    /// In Indonesian.
    pub message: String,
    /// What to do, in Indonesian.
    pub action: Option<String>,
}

/// A visible warning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    pub code: String,
    /// `warning` or `unhealthy`.
    pub severity: String,
    pub since_seconds: u64,
    pub error: Option<String>,
    pub message: String,
    pub action: String,
}

impl Report {
    pub fn new(facts: &Facts, conditions: &[Condition], visible: &[Warning]) -> Self {
        let ago = |since: Instant| facts.now.saturating_duration_since(since).as_secs();
        Self {
            state: match warning::worst(visible) {
                None => State::Healthy,
                Some(Severity::Warning) => State::Warned,
                Some(Severity::Unhealthy) => State::Unhealthy,
            },
            version: env!("CARGO_PKG_VERSION").to_owned(),
            time: facts.unix,
            uptime_seconds: ago(facts.started),
            promise_kept: facts.promise_kept(),
            parts: parts(facts, conditions, visible),
            warnings: visible
                .iter()
                .map(|warning| Shown {
                    code: warning.cause.code().to_owned(),
                    severity: warning.cause.warnable().severity.name().to_owned(),
                    since_seconds: ago(warning.since),
                    error: warning.error.as_deref().map(without_numbers),
                    message: wording::sentence(warning.cause, &warning.detail),
                    action: wording::action(warning.cause, &warning.detail).to_owned(),
                })
                .collect(),
        }
    }

    /// The answer's status: 503 while something needs help, so that a monitor need not read JSON.
    pub const fn http_status(&self) -> u16 {
        match self.state {
            State::Healthy | State::Warned => 200,
            State::Unhealthy => 503,
        }
    }
}

/// Errors are written without personal numbers; the last word is spoken here all the same, because
/// this page is read by others.
fn without_numbers(text: &str) -> String {
    mask_numbers(text).into_owned()
}

fn parts(facts: &Facts, conditions: &[Condition], visible: &[Warning]) -> Vec<Part> {
    let ago = |since: Instant| facts.now.saturating_duration_since(since).as_secs();
    // What holds for a part gives its code, even while it is too young or a consequence.
    let part = |name: &str, prefixes: &[&str], well: String, message: String, since: Option<Instant>| {
        let belongs = |code: &str| prefixes.iter().any(|prefix| code.starts_with(prefix));
        let holding = conditions.iter().find(|condition| belongs(condition.cause.code()));
        let shown = visible.iter().find(|warning| belongs(warning.cause.code()));
        Part {
            part: name.to_owned(),
            code: holding.map_or(well, |condition| condition.cause.code().to_owned()),
            since_seconds: since.map(ago),
            error: holding.and_then(|condition| condition.error.as_deref()).map(without_numbers),
            message,
            action: shown.map(|warning| wording::action(warning.cause, &warning.detail).to_owned()),
        }
    };
    let standing = &facts.whatsapp;
    let well = format!("whatsapp.{}", standing.phase.name());
    let mut whatsapp =
        part("whatsapp", &["whatsapp."], well, wording::whatsapp(standing).to_owned(), Some(standing.since));
    if whatsapp.error.is_none() {
        // Why the connection before this one ended.
        whatsapp.error = standing.last_end.as_ref().map(|end| without_numbers(&end.detail));
    }
    let mut parts = vec![whatsapp];
    parts.extend(facts.dns.iter().map(|rung| {
        let error = Some(warning::reason_of(rung)).filter(|reason| !reason.is_empty());
        Part {
            part: "dns".to_owned(),
            code: format!("dns.{}.{}", rung.kind.name(), condition_name(&rung.condition)),
            since_seconds: Some(ago(rung.since)),
            error: error.as_deref().map(without_numbers),
            message: format!("{} ({})", wording::rung(rung.kind, &rung.condition), rung.server.ip()),
            action: None,
        }
    }));
    let supabase = facts.supabase.as_ref();
    let well = if supabase.is_some() { "supabase.working" } else { "supabase.off" };
    let trouble_since = supabase.and_then(|standing| match standing {
        sync::Standing::Working => None,
        sync::Standing::Retrying { since, .. }
        | sync::Standing::NeedsOperator { since, .. }
        | sync::Standing::Broken { since, .. } => Some(*since),
    });
    parts.push(part("supabase", &["supabase."], well.to_owned(), wording::supabase(supabase), trouble_since));
    let ok = |name: &str| format!("{name}.ok");
    parts.push(part("queues", &["sync.", "outbox."], ok("queues"), wording::queues(facts), None));
    parts.push(part("disk", &["disk.", "ledger."], ok("disk"), wording::disk(facts), None));
    parts.push(part("memory", &["memory."], ok("memory"), wording::memory(facts), None));
    parts.push(part("process", &["process."], ok("process"), wording::process(facts), Some(facts.started)));
    parts.push(part("clock", &["clock."], ok("clock"), wording::clock(facts), None));
    parts
}

/// A stable word for a rung's condition.
pub(super) const fn condition_name(condition: &rung::Condition) -> &'static str {
    match condition {
        rung::Condition::Unknown => "unknown",
        rung::Condition::Good => "good",
        rung::Condition::Failing { .. } => "failing",
        rung::Condition::Lying { .. } => "lying",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::facts::tests::well;
    use super::super::warning::{Sightings, conditions, visible};
    use super::*;
    use crate::net::rung::Kind;
    use crate::whatsapp::connection::standing::{LastEnd, Phase};

    fn report(facts: &Facts) -> Report {
        let conditions = conditions(facts);
        let sightings = Sightings::default().after(&conditions, facts.now);
        Report::new(facts, &conditions, &visible(&conditions, &sightings, facts.now))
    }

    #[test]
    fn every_part_is_there_and_well() {
        let report = report(&well());
        assert_eq!((report.state, report.http_status()), (State::Healthy, 200));
        assert!(report.promise_kept);
        let codes: Vec<_> = report.parts.iter().map(|part| part.code.as_str()).collect();
        assert_eq!(
            codes,
            [
                "whatsapp.online",
                "supabase.working",
                "queues.ok",
                "disk.ok",
                "memory.ok",
                "process.ok",
                "clock.ok"
            ]
        );
    }

    #[test]
    fn a_warning_is_200_and_what_needs_help_is_503() {
        let mut facts = well();
        let since = facts.now.checked_sub(Duration::from_secs(600)).unwrap();
        facts.dns = vec![
            rung::Health {
                kind: Kind::System,
                server: "192.0.2.1:53".parse().unwrap(),
                condition: rung::Condition::Lying { reason: "private address".into() },
                since,
            },
            rung::Health {
                kind: Kind::Https,
                server: "1.1.1.1:443".parse().unwrap(),
                condition: rung::Condition::Good,
                since,
            },
        ];
        let warned = report(&facts);
        assert_eq!((warned.state, warned.http_status()), (State::Warned, 200));
        assert_eq!(warned.warnings[0].code, "dns.system.lying");
        assert!(warned.warnings[0].message.starts_with("DNS dari ISP menjawab salah"));
        assert_eq!(warned.parts[1].code, "dns.system.lying");
        assert_eq!(warned.parts[2].code, "dns.https.good");

        facts.whatsapp.enter(Phase::Offline, since);
        let unhealthy = report(&facts);
        assert_eq!((unhealthy.state, unhealthy.http_status()), (State::Unhealthy, 503));
        assert_eq!(unhealthy.parts[0].code, "whatsapp.offline");
        assert!(unhealthy.parts[0].action.is_some());
    }

    #[test]
    fn no_number_of_a_person_gets_onto_the_page() {
        let mut facts = well();
        let detail = "stream error for 6280000000001@s.whatsapp.net".to_owned();
        facts.whatsapp.last_end = Some(LastEnd { code: "lost", detail, at: facts.now });
        facts.whatsapp.enter(Phase::Offline, facts.started);
        let json = serde_json::to_string(&report(&facts)).unwrap();
        assert!(!json.contains("6280000000001") && json.contains("*********0001"), "{json}");
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        let report = report(&well());
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    }
}
