//! What was measured, as JSON and as a table for people.

use std::fmt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde::Serialize;

use super::baileys;
use super::process::Snapshot;

/// Aims of the project for bot-kjp.
const AIM_RESIDENT_MB: f64 = 10.0;
const AIM_TIMES_LESS_MEMORY: f64 = 20.0;
const AIM_TIMES_LESS_CPU: f64 = 10.0;

pub(super) const KIB_PER_MB: f64 = 1_000_000.0 / 1024.0;

/// What both bots went through.
#[derive(Debug, Serialize)]
pub(super) struct Plan {
    pub registrations: usize,
    pub customers: usize,
    pub idle_seconds: u64,
    /// bot-kjp's pacing; the Baileys bot has none.
    pub per_chat_per_second: u32,
    pub total_per_second: u32,
}

/// One bot's figures. Memory in MB (10^6 bytes), times in seconds unless the name says otherwise.
#[derive(Debug, Serialize)]
pub(super) struct Measurement {
    bot: &'static str,
    rows_stored: usize,
    connected_mb: f64,
    connected_anonymous_mb: f64,
    idle_mb: f64,
    idle_anonymous_mb: f64,
    loaded_mb: f64,
    peak_mb: f64,
    threads_idle: u64,
    threads_loaded: u64,
    idle_cpu_seconds: f64,
    load_cpu_seconds: f64,
    cpu_seconds_per_1000: f64,
    load_seconds: f64,
    registrations_per_second: f64,
    latency_p50_ms: f64,
    latency_p99_ms: f64,
    latency_max_ms: f64,
    written_bytes_per_registration: f64,
}

impl Measurement {
    /// From the three moments: connected, after the idle time, after the load.
    pub(super) fn new(
        bot: &'static str,
        rows: usize,
        took: Duration,
        mut latencies: Vec<Duration>,
        [connected, idle, loaded]: [Snapshot; 3],
    ) -> Self {
        let mb = |kib: u64| kib as f64 / KIB_PER_MB;
        latencies.sort();
        let latency = |share| quantile(&latencies, share).as_secs_f64() * 1000.0;
        let load_cpu = loaded.cpu_seconds - idle.cpu_seconds;
        let written = loaded.written_bytes.saturating_sub(idle.written_bytes);
        Self {
            bot,
            rows_stored: rows,
            connected_mb: mb(connected.resident_kib),
            connected_anonymous_mb: mb(connected.anonymous_kib),
            idle_mb: mb(idle.resident_kib),
            idle_anonymous_mb: mb(idle.anonymous_kib),
            loaded_mb: mb(loaded.resident_kib),
            peak_mb: mb(loaded.peak_kib),
            threads_idle: idle.threads,
            threads_loaded: loaded.threads,
            idle_cpu_seconds: idle.cpu_seconds_of_living_threads - connected.cpu_seconds_of_living_threads,
            load_cpu_seconds: load_cpu,
            cpu_seconds_per_1000: load_cpu * 1000.0 / rows as f64,
            load_seconds: took.as_secs_f64(),
            registrations_per_second: rows as f64 / took.as_secs_f64(),
            latency_p50_ms: latency(0.5),
            latency_p99_ms: latency(0.99),
            latency_max_ms: latency(1.0),
            written_bytes_per_registration: written as f64 / rows as f64,
        }
    }
}

/// The smallest value that at least `share` of all values do not exceed (nearest rank).
pub(super) fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

#[derive(Debug, Serialize)]
pub(super) struct Machine {
    processor: String,
    cores: usize,
    memory_mb: u64,
    kernel: String,
}

impl Machine {
    pub(super) fn this() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let after = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once(':').map_or("unknown", |(_, value)| value.trim()).to_owned()
        };
        let memory = after(&read("/proc/meminfo"), "MemTotal");
        let kib: u64 = memory.split(' ').next().and_then(|kib| kib.parse().ok()).unwrap_or(0);
        Self {
            processor: after(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(0, Into::into),
            memory_mb: kib * 1024 / 1_000_000,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, cores, memory_mb, kernel } = self;
        write!(formatter, "{processor}, {cores} cores, {memory_mb} MB, Linux {kernel}")
    }
}

/// Versions of the bots: of bot-kjp when there is one, and of Baileys when it is installed.
pub(super) fn versions(bot: Option<&Path>) -> Vec<String> {
    let output = bot.and_then(|bot| Command::new(bot).arg("--version").output().ok());
    let ours = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    ours.into_iter().chain(baileys::versions().ok()).collect()
}

/// Now, in UTC.
pub(super) fn date() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// Everything that was found out.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// UTC
    date: String,
    machine: Machine,
    versions: Vec<String>,
    plan: Plan,
    bots: Vec<Measurement>,
}

impl Report {
    pub(super) fn new(plan: Plan, bots: Vec<Measurement>, bot: Option<&Path>) -> Self {
        Self { date: date(), machine: Machine::this(), versions: versions(bot), plan, bots }
    }

    /// At most 100 columns.
    pub(super) fn table(&self) -> String {
        let Plan { registrations, customers, idle_seconds, per_chat_per_second, total_per_second } =
            &self.plan;
        let mut text = format!(
            "\nBench of {}\n  {}\n  {}\n\
             \n{registrations} registrations by {customers} customers at once, each waiting for its answer; \
             before that {idle_seconds} s idle.\n\
             Server and phones run on the same machine. Pacing of bot-kjp at its maximum: \
             {per_chat_per_second} replies\nper second to one chat, {total_per_second} to all; \
             the Baileys bot has none. Both sync each registration\n\
             to disk (SQLite, synchronous=FULL); bot-kjp its Signal sessions and replies too, Baileys does not.\n\n",
            self.date,
            self.machine,
            self.versions.join("\n  "),
        );
        text.push_str(&self.row("", &|m| m.bot.to_owned(), None));
        for (name, unit, value) in ROWS {
            let shown = |m: &Measurement| {
                let value = value(m);
                let decimals = if value >= 100.0 || value.fract() == 0.0 { 0 } else { 2 };
                format!("{value:.decimals$} {unit}").trim_end().to_owned()
            };
            let ratio = match self.bots.as_slice() {
                [ours, theirs] if value(ours) > 0.0 => Some(format!("{:.1}", value(theirs) / value(ours))),
                _ => None,
            };
            text.push_str(&self.row(name, &shown, ratio.as_deref()));
        }
        text.push_str(&self.aims());
        text
    }

    fn row(&self, name: &str, value: &dyn Fn(&Measurement) -> String, ratio: Option<&str>) -> String {
        let mut line = format!("  {name:<36}");
        for bot in &self.bots {
            line.push_str(&format!("{:>16}", value(bot)));
        }
        match ratio {
            Some(ratio) => line.push_str(&format!("{ratio:>11} ×")),
            None if name.is_empty() && self.bots.len() == 2 => line.push_str("  Baileys/kjp"),
            None => {}
        }
        line.push('\n');
        line
    }

    /// Measured against the aims, whatever comes out.
    fn aims(&self) -> String {
        let Some(ours) = self.bots.iter().find(|bot| bot.bot == "bot-kjp") else {
            return String::new();
        };
        let line =
            |met: bool, text: String| format!("  {} {text}\n", if met { "met:    " } else { "NOT met:" });
        let mut text = String::from("\nAims\n");
        text.push_str(&line(
            ours.idle_mb <= AIM_RESIDENT_MB,
            format!(
                "at most {AIM_RESIDENT_MB} MB resident: {:.2} MB idle, {:.2} MB peak",
                ours.idle_mb, ours.peak_mb
            ),
        ));
        if let Some(theirs) = self.bots.iter().find(|bot| bot.bot != "bot-kjp") {
            let memory = theirs.idle_mb / ours.idle_mb;
            let cpu = theirs.cpu_seconds_per_1000 / ours.cpu_seconds_per_1000;
            text.push_str(&line(
                memory >= AIM_TIMES_LESS_MEMORY,
                format!("{AIM_TIMES_LESS_MEMORY} times less memory: {memory:.1} times (idle)"),
            ));
            text.push_str(&line(
                cpu >= AIM_TIMES_LESS_CPU,
                format!("{AIM_TIMES_LESS_CPU} times fewer CPU seconds: {cpu:.1} times (per registration)"),
            ));
        }
        text
    }
}

type Value = fn(&Measurement) -> f64;

/// Name, unit and value of each line of the table.
const ROWS: [(&str, &str, Value); 18] = [
    ("registrations stored", "", |m| m.rows_stored as f64),
    ("memory, connected (VmRSS)", "MB", |m| m.connected_mb),
    ("  of it heap and stacks (RssAnon)", "MB", |m| m.connected_anonymous_mb),
    ("memory, after the idle time", "MB", |m| m.idle_mb),
    ("  of it heap and stacks", "MB", |m| m.idle_anonymous_mb),
    ("memory, after the load", "MB", |m| m.loaded_mb),
    ("memory, peak (VmHWM)", "MB", |m| m.peak_mb),
    ("threads, idle", "", |m| m.threads_idle as f64),
    ("threads, after the load", "", |m| m.threads_loaded as f64),
    ("CPU while idle", "ms", |m| m.idle_cpu_seconds * 1000.0),
    ("CPU under load", "s", |m| m.load_cpu_seconds),
    ("CPU per 1,000 registrations", "s", |m| m.cpu_seconds_per_1000),
    ("time under load", "s", |m| m.load_seconds),
    ("registrations per second", "", |m| m.registrations_per_second),
    ("latency, median", "ms", |m| m.latency_p50_ms),
    ("latency, 99 %", "ms", |m| m.latency_p99_ms),
    ("latency, longest", "ms", |m| m.latency_max_ms),
    ("written to disk per registration", "bytes", |m| m.written_bytes_per_registration),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(resident_kib: u64, cpu_seconds: f64) -> Snapshot {
        let living = cpu_seconds + 0.001;
        Snapshot { resident_kib, cpu_seconds, cpu_seconds_of_living_threads: living, ..Snapshot::default() }
    }

    fn measurement(bot: &'static str, kib: u64, cpu: f64) -> Measurement {
        let latencies = (1..=100).rev().map(Duration::from_millis).collect();
        let moments = [snapshot(kib, 1.0), snapshot(kib, 1.0), snapshot(kib, 1.0 + cpu)];
        Measurement::new(bot, 500, Duration::from_secs(10), latencies, moments)
    }

    fn report(bots: Vec<Measurement>) -> Report {
        let plan = Plan {
            registrations: 500,
            customers: 20,
            idle_seconds: 30,
            per_chat_per_second: 1000,
            total_per_second: 1000,
        };
        Report::new(plan, bots, None)
    }

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let m = measurement("bot-kjp", 1024, 1.0);
        assert_eq!((m.latency_p50_ms, m.latency_p99_ms, m.latency_max_ms), (50.0, 99.0, 100.0));
        assert_eq!(quantile(&[], 0.5), Duration::ZERO);
    }

    #[test]
    fn cpu_and_rate_count_the_load_only() {
        let m = measurement("bot-kjp", 1024, 2.0);
        assert!((m.cpu_seconds_per_1000 - 4.0).abs() < 1e-9, "{m:?}");
        assert!((m.registrations_per_second - 50.0).abs() < 1e-9, "{m:?}");
        assert!(m.idle_cpu_seconds.abs() < 1e-9, "{m:?}");
    }

    #[test]
    fn the_table_judges_each_aim_by_what_was_measured() {
        let table =
            report(vec![measurement("bot-kjp", 8_000, 1.0), measurement("Baileys bot", 200_000, 5.0)])
                .table();
        assert!(table.contains("met:     at most 10 MB resident: 8.19 MB idle"), "{table}");
        assert!(table.contains("met:     20 times less memory: 25.0 times"), "{table}");
        assert!(table.contains("NOT met: 10 times fewer CPU seconds: 5.0 times"), "{table}");
        assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
    }

    #[test]
    fn a_bot_measured_alone_has_no_ratios() {
        let table = report(vec![measurement("Baileys bot", 200_000, 5.0)]).table();
        assert!(!table.contains('×') && !table.contains("Aims"), "{table}");
    }
}
