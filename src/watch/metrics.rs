//! The same facts for Prometheus, in its text format 0.0.4.
//!
//! Written by hand: it is a page of code, and every label here comes from a closed set.

use std::fmt::{Display, Write as _};
use std::time::Instant;

use super::facts::Facts;
use super::report::condition_name;
use super::warning::{Cause, Warning, worst};
use crate::ledger::process_start::Cause as Start;
use crate::net::rung::Kind;
use crate::supabase::sync;
use crate::whatsapp::connection::standing::Phase;

pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const PHASES: [Phase; 7] = [
    Phase::Offline,
    Phase::Resolving,
    Phase::Connecting,
    Phase::Handshake,
    Phase::Syncing,
    Phase::Online,
    Phase::Pairing,
];

const SUPABASE_STATES: [&str; 5] = ["off", "working", "retrying", "refused", "broken"];

/// The page with all metrics.
pub fn page(facts: &Facts, visible: &[Warning]) -> String {
    let mut page = Page(String::with_capacity(8 * 1024));
    let age = |since: Option<Instant>| since.map(|at| facts.now.saturating_duration_since(at).as_secs_f64());

    page.gauge("build_info", "Version of the bot.");
    page.sample("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.one_gauge("uptime_seconds", "Time since the process started.", age(Some(facts.started)));
    page.one_counter("cpu_seconds_total", "CPU time of the process.", Some(facts.cpu.as_secs_f64()));
    page.gauge("restarts_last_hour", "Restarts that nobody asked for, by what became of the process before.");
    for cause in Start::ALL.into_iter().filter(|cause| cause.is_unwanted()) {
        page.sample("restarts_last_hour", &[("cause", cause.code())], facts.restarts.of(cause));
    }
    page.gauge("start", "Why this process was started.");
    for cause in Start::ALL {
        page.sample("start", &[("cause", cause.code())], u8::from(facts.start == Some(cause)));
    }
    let memory = facts.memory;
    page.one_gauge("resident_memory_bytes", "Memory of the process (VmRSS).", memory.map(|m| m.resident));
    page.one_gauge(
        "anonymous_memory_bytes",
        "Heap and stacks of the process (RssAnon).",
        memory.map(|m| m.anonymous),
    );
    page.one_gauge("heap_bytes", "Heap in use (builds for the test bed).", memory.and_then(|m| m.heap));
    let disk = facts.storage.disk;
    page.one_gauge("disk_free_bytes", "Space left for the data folder.", disk.map(|d| d.free));
    page.one_gauge("disk_size_bytes", "Size of the data folder's disk.", disk.map(|d| d.total));
    page.one_gauge(
        "disk_closed",
        "So little space that registrations are refused.",
        Some(u8::from(facts.storage.closed)),
    );
    page.one_gauge(
        "disk_read_only",
        "The data folder's disk is read-only.",
        disk.map(|d| u8::from(d.read_only)),
    );
    page.one_gauge("clock_wrong", "The box's clock is wrong.", Some(u8::from(facts.clock_error().is_some())));

    let standing = &facts.whatsapp;
    page.gauge("whatsapp_phase", "Where the connection to WhatsApp is.");
    for phase in PHASES {
        page.sample("whatsapp_phase", &[("phase", phase.name())], u8::from(phase == standing.phase));
    }
    page.one_gauge("whatsapp_paired", "There is a session.", Some(u8::from(standing.paired)));
    page.one_counter("whatsapp_attempts_total", "Tries to connect since the start.", Some(standing.attempts));
    page.one_counter("whatsapp_logins_total", "Connections that reached login.", Some(standing.logins));
    page.one_gauge("whatsapp_failures", "Failed tries in a row.", Some(standing.failures));
    page.one_gauge(
        "whatsapp_attempts_last_hour",
        "Tries of the last hour.",
        Some(standing.attempts_last_hour),
    );
    page.one_gauge(
        "whatsapp_attempts_limit",
        "Tries that one hour may have.",
        Some(standing.attempts_per_hour),
    );
    page.one_gauge("whatsapp_storm", "The limit holds the next try back.", Some(u8::from(standing.storm)));
    page.one_gauge(
        "whatsapp_down_seconds",
        "Time without messages going in and out; 0 while they do.",
        Some(age(standing.down_since).unwrap_or(0.0)),
    );
    page.one_gauge(
        "whatsapp_last_stanza_age_seconds",
        "Time since anything came from WhatsApp.",
        age(standing.last_stanza),
    );
    page.one_gauge(
        "whatsapp_last_message_age_seconds",
        "Time since anybody's message came.",
        age(standing.last_message),
    );

    page.gauge("dns_servers", "Servers of the DNS ladder by how they last answered.");
    for kind in [Kind::System, Kind::Https, Kind::Tls, Kind::Public] {
        for condition in ["unknown", "good", "failing", "lying"] {
            let is = |rung: &&crate::net::rung::Health| {
                rung.kind == kind && condition_name(&rung.condition) == condition
            };
            let count = facts.dns.iter().filter(is).count();
            page.sample("dns_servers", &[("rung", kind.name()), ("condition", condition)], count);
        }
    }

    let supabase = match &facts.supabase {
        None => "off",
        Some(sync::Standing::Working) => "working",
        Some(sync::Standing::Retrying { .. }) => "retrying",
        Some(sync::Standing::NeedsOperator { .. }) => "refused",
        Some(sync::Standing::Broken { .. }) => "broken",
    };
    page.gauge("supabase_state", "How the way to Supabase stands.");
    for state in SUPABASE_STATES {
        page.sample("supabase_state", &[("state", state)], u8::from(state == supabase));
    }

    let queues = &facts.queues;
    page.one_gauge("backlog_messages", "Messages read and not durable yet.", Some(queues.backlog));
    page.one_gauge("inbox_waiting", "Deliveries not processed yet.", Some(queues.inbox));
    page.one_gauge("outbox_waiting", "Replies on their way.", Some(queues.outbox.waiting));
    let (chats, longest) =
        queues.replies.map_or((0, 0), |replies| (replies.chats, replies.longest.as_secs()));
    page.one_gauge("outbox_chats_waiting", "Chats that wait for a reply.", Some(chats));
    page.one_gauge("outbox_longest_wait_seconds", "How long the first of them has waited.", Some(longest));
    page.one_gauge("outbox_failed", "Replies given up, kept for 30 days.", Some(queues.outbox.failed));
    let refusals = &facts.refusals;
    page.one_gauge("outbox_parked", "Replies that wait until WhatsApp lets them in.", Some(refusals.parked));
    page.gauge("outbox_given_up", "Replies given up, by what was wrong; the rest of them for other reasons.");
    page.sample("outbox_given_up", &[("reason", "refused")], refusals.given_up);
    page.sample("outbox_given_up", &[("reason", "no_phone")], refusals.without_phone);
    page.one_gauge("people_refused", "People refused a reply within a day.", Some(refusals.people));
    page.one_gauge(
        "first_replies_paused",
        "First replies wait, because WhatsApp refused several of them.",
        Some(u8::from(refusals.paused_until.is_some_and(|until| until > facts.unix))),
    );
    page.gauge("registrations", "Registrations on this box by how far they are on the way to Supabase.");
    for (state, rows) in [
        ("pending", queues.sync.pending),
        ("confirmed", queues.sync.confirmed),
        ("duplicate", queues.sync.duplicate),
        ("parked", queues.sync.parked),
    ] {
        page.sample("registrations", &[("state", state)], rows);
    }
    page.one_gauge(
        "oldest_unsynced_age_seconds",
        "Age of the oldest row that Supabase does not have; 0 if it has all.",
        Some(facts.oldest_unsynced().unwrap_or_default().as_secs()),
    );

    page.one_gauge(
        "promise_kept",
        "The dead man's switch would be fed.",
        Some(u8::from(facts.promise_kept())),
    );
    page.one_gauge(
        "unhealthy",
        "Something needs help: /health answers 503.",
        Some(u8::from(worst(visible) == Some(super::warning::Severity::Unhealthy))),
    );
    page.gauge("warning", "Warnings that are visible.");
    for cause in Cause::ALL {
        let shown = visible.iter().any(|warning| warning.cause == *cause);
        page.sample("warning", &[("code", cause.code())], u8::from(shown));
    }
    page.0
}

/// Writes samples. Names, labels and help are ours and need no escaping.
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP bot_kjp_{name} {help}\n# TYPE bot_kjp_{name} {kind}");
    }

    fn gauge(&mut self, name: &str, help: &str) {
        self.family(name, "gauge", help);
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.0, "bot_kjp_{name}");
        for (place, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"{text}\"", if place == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// A family with one sample; left out if there is no value.
    fn one_gauge(&mut self, name: &str, help: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.gauge(name, help);
            self.sample(name, &[], value);
        }
    }

    fn one_counter(&mut self, name: &str, help: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.family(name, "counter", help);
            self.sample(name, &[], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::facts::tests::well;
    use super::*;

    #[test]
    fn every_line_is_what_prometheus_reads() {
        let page = page(&well(), &[]);
        let (mut families, mut samples) = (BTreeSet::new(), BTreeSet::new());
        let mut family = "";
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(families.insert(name), "{name} twice");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                family = name;
            } else if !line.starts_with("# HELP ") {
                let (series, value) = line.rsplit_once(' ').unwrap();
                assert!(samples.insert(series), "{series} twice");
                value.parse::<f64>().unwrap();
                let name = series.split('{').next().unwrap();
                assert_eq!(name, family, "{line}");
                assert!(name.starts_with("bot_kjp_"), "{line}");
                assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{line}");
                assert_eq!(series.contains('{'), series.ends_with("\"}"), "{line}");
            }
        }
        assert!(page.ends_with('\n') && page.len() < 16 * 1024, "{} bytes", page.len());
    }

    #[test]
    fn a_state_set_has_exactly_one_state() {
        let page = page(&well(), &[]);
        for (set, state) in [
            ("whatsapp_phase", "phase=\"online\""),
            ("supabase_state", "state=\"working\""),
            ("start", "cause=\"asked\""),
        ] {
            let on: Vec<_> = page
                .lines()
                .filter(|line| line.starts_with(&format!("bot_kjp_{set}{{")) && line.ends_with(" 1"))
                .collect();
            assert_eq!(on, [format!("bot_kjp_{set}{{{state}}} 1")]);
        }
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let mut facts = well();
        facts.memory = None;
        facts.whatsapp.last_message = None;
        let page = page(&facts, &[]);
        assert!(!page.contains("resident_memory") && !page.contains("last_message_age"));
    }
}
