//! What both bots did in the outages, as JSON and as a table for people.

use std::path::Path;

use serde::Serialize;

use super::super::report::{KIB_PER_MB, Machine, date, versions};
use super::wire::Sent;
use super::{DeadDns, Scenario};

/// What both bots went through.
#[derive(Debug, Serialize)]
pub struct Plan {
    pub dns: DeadDns,
    pub dns_delay_ms: u128,
    pub outage_seconds: u64,
    pub customers: usize,
    pub baileys_wait_ms: u128,
}

/// One bot in one outage. Times in seconds.
#[derive(Debug, Serialize)]
pub struct Endured {
    pub bot: &'static str,
    pub scenario: Scenario,
    pub outage: Outage,
    /// VmRSS before the outage.
    pub start_kib: u64,
    /// VmHWM from then on.
    pub peak_kib: u64,
    /// VmRSS after the last answer.
    pub end_kib: u64,
    /// From the cut until it was logged in again; absent when it never was.
    pub online_after_cut_seconds: Option<f64>,
    /// The same from the healing; 0 when it was back before.
    pub online_after_healing_seconds: Option<f64>,
    pub registrations: Registrations,
    /// When its process ended, which nobody had asked it to; nothing starts it again.
    pub ended_after_cut_seconds: Option<f64>,
}

/// From the cut to the healing.
#[derive(Debug, Serialize)]
pub struct Outage {
    /// By the bot's own count.
    pub tries: u64,
    pub sent: Sent,
    /// Questions about WhatsApp's name at the DNS servers.
    pub questions_that_arrived: u64,
    /// TCP connections at WhatsApp's server.
    pub connections_that_arrived: u64,
    pub cpu_seconds: f64,
}

#[derive(Debug, Serialize)]
pub struct Registrations {
    pub sent: usize,
    pub answered_in_the_outage: usize,
    pub answered: usize,
    pub stored: usize,
    /// Absent when one was never answered; 0 when all were answered before.
    pub last_answer_after_healing_seconds: Option<f64>,
}

impl Endured {
    /// It came back, and nothing was lost.
    pub fn is_whole(&self) -> bool {
        let Registrations { sent, answered, stored, .. } = self.registrations;
        let is_there = self.ended_after_cut_seconds.is_none() && self.online_after_cut_seconds.is_some();
        is_there && answered == sent && stored == sent
    }
}

/// Everything that was found out.
#[derive(Debug, Serialize)]
pub struct Report {
    /// UTC
    date: String,
    machine: Machine,
    versions: Vec<String>,
    plan: Plan,
    endured: Vec<Endured>,
}

impl Report {
    pub fn new(plan: Plan, endured: Vec<Endured>, bot: Option<&Path>) -> Self {
        Self { date: date(), machine: Machine::this(), versions: versions(bot), plan, endured }
    }

    /// At most 100 columns.
    pub fn table(&self) -> String {
        let Plan { dns, dns_delay_ms, outage_seconds, customers, baileys_wait_ms } = &self.plan;
        let dead = match dns {
            DeadDns::Nxdomain => format!("says NXDOMAIN after {dns_delay_ms} ms"),
            DeadDns::Silence => "never answers".to_owned(),
        };
        let mut text = format!(
            "\nStorm of {}\n  {}\n  {}\n\n\
             Outages of {outage_seconds} s, in which {customers} customers register people. Each bot has a line \
             of its own\nand its outage at the same time as the other one. Dead DNS {dead}:\n  \
             dns   the connection is cut and all DNS is dead; WhatsApp can be reached\n  \
             wan   the connection is cut and the router's DNS is dead; nothing gets beyond the router\n  \
             line  no packet passes, not even to the router\n\
             The Baileys bot connects again {baileys_wait_ms} ms after a connection ended.\n\n",
            self.date,
            self.machine,
            self.versions.join("\n  "),
        );
        text.push_str(&self.row("outage", &|endured| endured.scenario.name().to_owned()));
        text.push_str(&self.row("", &|endured| endured.bot.split(' ').next().unwrap_or_default().to_owned()));
        for (name, shown) in ROWS {
            text.push_str(&self.row(name, &|endured| shown(endured, *outage_seconds as f64)));
        }
        for Endured { bot, scenario, ended_after_cut_seconds, .. } in &self.endured {
            if let Some(seconds) = ended_after_cut_seconds {
                let outage = scenario.name();
                text.push_str(&format!(
                    "{bot}, outage {outage}: its process ended by itself after {seconds:.0} s\n"
                ));
            }
        }
        text
    }

    fn row(&self, name: &str, value: &dyn Fn(&Endured) -> String) -> String {
        let mut line = format!("  {name:<38}");
        for endured in &self.endured {
            line.push_str(&format!("{:>10}", value(endured)));
        }
        line.push('\n');
        line
    }
}

type Shown = fn(&Endured, f64) -> String;

/// Name and value of each line of the table.
const ROWS: [(&str, Shown); 20] = [
    ("tries in the outage, by its own count", |e, _| e.outage.tries.to_string()),
    ("  tries per minute", |e, seconds| format!("{:.1}", e.outage.tries as f64 * 60.0 / seconds)),
    ("  packets sent", |e, _| e.outage.sent.packets.to_string()),
    ("  DNS questions sent over UDP", |e, _| e.outage.sent.dns_datagrams.to_string()),
    ("  connections to DNS tried (SYN)", |e, _| e.outage.sent.dns_syns.to_string()),
    ("  questions for its name that arrived", |e, _| e.outage.questions_that_arrived.to_string()),
    ("  connections to WhatsApp tried (SYN)", |e, _| e.outage.sent.whatsapp_syns.to_string()),
    ("  connections arrived at WhatsApp", |e, _| e.outage.connections_that_arrived.to_string()),
    ("  CPU time", |e, _| format!("{:.2} s", e.outage.cpu_seconds)),
    ("  of one core", |e, seconds| format!("{:.2} %", e.outage.cpu_seconds * 100.0 / seconds)),
    ("memory before the outage (VmRSS)", |e, _| megabytes(e.start_kib)),
    ("memory, peak since then (VmHWM)", |e, _| megabytes(e.peak_kib)),
    ("memory after the last answer", |e, _| megabytes(e.end_kib)),
    ("online again after the cut", |e, _| seconds(e.online_after_cut_seconds)),
    ("online again after the healing", |e, _| seconds_after_healing(e.online_after_healing_seconds)),
    ("registrations sent in the outage", |e, _| e.registrations.sent.to_string()),
    ("  answered in the outage", |e, _| e.registrations.answered_in_the_outage.to_string()),
    ("  answered in the end", |e, _| e.registrations.answered.to_string()),
    ("  stored", |e, _| e.registrations.stored.to_string()),
    ("  last answer after the healing", |e, _| {
        seconds_after_healing(e.registrations.last_answer_after_healing_seconds)
    }),
];

fn megabytes(kib: u64) -> String {
    format!("{:.1} MB", kib as f64 / KIB_PER_MB)
}

fn seconds(seconds: Option<f64>) -> String {
    seconds.map_or("never".to_owned(), |seconds| format!("{seconds:.1} s"))
}

fn seconds_after_healing(after: Option<f64>) -> String {
    if after == Some(0.0) { "before it".to_owned() } else { seconds(after) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endured(bot: &'static str, scenario: Scenario) -> Endured {
        Endured {
            bot,
            scenario,
            outage: Outage {
                tries: 123,
                sent: Sent { packets: 9_999_999, dns_datagrams: 7, dns_syns: 6, whatsapp_syns: 5 },
                questions_that_arrived: 4,
                connections_that_arrived: 3,
                cpu_seconds: 1.5,
            },
            start_kib: 10_000,
            peak_kib: 1_000_000,
            end_kib: 11_000,
            online_after_cut_seconds: Some(2.34),
            online_after_healing_seconds: Some(0.0),
            registrations: Registrations {
                sent: 20,
                answered_in_the_outage: 20,
                answered: 20,
                stored: 20,
                last_answer_after_healing_seconds: Some(0.0),
            },
            ended_after_cut_seconds: None,
        }
    }

    fn table(endured: Vec<Endured>) -> String {
        let plan = Plan {
            dns: DeadDns::Nxdomain,
            dns_delay_ms: 20,
            outage_seconds: 300,
            customers: 5,
            baileys_wait_ms: 0,
        };
        Report::new(plan, endured, None).table()
    }

    #[test]
    fn three_outages_of_two_bots_fit_on_a_screen() {
        let bots = ["bot-kjp", "Baileys bot"];
        let all = Scenario::ALL.iter().flat_map(|scenario| bots.map(|bot| endured(bot, *scenario)));
        let table = table(all.collect());
        assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
        let row = |name: &str| {
            let line = table.lines().find(|line| line.trim().starts_with(name));
            line.unwrap_or_default().split_whitespace().rev().take(6).collect::<Vec<&str>>()
        };
        assert_eq!(row("outage"), ["line", "line", "wan", "wan", "dns", "dns"]);
        assert_eq!(row("tries per minute"), ["24.6"; 6]);
        assert_eq!(row("of one core"), ["%", "0.50", "%", "0.50", "%", "0.50"]);
    }

    #[test]
    fn who_came_back_in_the_outage_is_not_said_to_have_taken_no_time() {
        let table = table(vec![endured("bot-kjp", Scenario::Dns)]);
        assert!(table.contains("before it") && !table.contains(" 0.0 s"), "{table}");
    }

    #[test]
    fn a_bot_that_never_came_back_or_lost_somebody_is_not_whole() {
        assert!(endured("bot-kjp", Scenario::Line).is_whole());
        let mut away = endured("bot-kjp", Scenario::Line);
        away.online_after_cut_seconds = None;
        let mut forgetful = endured("bot-kjp", Scenario::Line);
        forgetful.registrations.stored = 19;
        assert!(!away.is_whole() && !forgetful.is_whole());
        assert!(table(vec![away]).contains("never"));
        let mut dead = endured("Baileys bot", Scenario::Dns);
        dead.ended_after_cut_seconds = Some(300.0);
        assert!(!dead.is_whole());
        let table = table(vec![dead]);
        assert!(
            table.contains("Baileys bot, outage dns: its process ended by itself after 300 s"),
            "{table}"
        );
    }
}
