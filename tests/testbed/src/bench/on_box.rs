//! `testbed bench box`: what bot-kjp takes of an emulated box, read inside it.
//!
//! A Debian for arm64 with systemd and 256 MB, the unit as it is installed, the bot connected to the
//! test bed and at rest. Memory and threads are what they would be on a real box with the same
//! kernel. Times are counted in instructions, at half a billion in a second, which is less than one
//! core of such a box does: a time that keeps the aim here keeps it there, and what else this machine
//! does changes nothing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lexopt::prelude::*;
use serde::Serialize;

use super::process::field;
use super::report::date;
use crate::bot::{link_code, that_knows_the_test_bed};
use crate::interrupt::{self, wait_until};
use crate::machine::{Begin, Disk, HOST, Hardware, Init, Machine, Parts};
use crate::{Handset, Options, WhatsApp};

const HELP: &str = "\
Measures bot-kjp on an emulated box: a Debian for arm64 with systemd, the bot connected and at rest.

testbed bench box --bot PATH [--idle SECONDS] [--json]

  --bot PATH          bot-kjp for aarch64 as it is shipped; a copy of it is made to know the test bed
  --idle SECONDS      how long the connected bot is watched doing nothing (default 90, at least 60)
  --json              print JSON instead of the table";

/// A connected bot does something twice a minute (keepalive), so a shorter look says nothing.
const SHORTEST_IDLE: Duration = Duration::from_secs(60);
const IDLE: Duration = Duration::from_secs(90);

/// After logging in, for work that the connection itself brings (key upload, first sync).
const SETTLE: Duration = Duration::from_secs(20);

/// Starts that are measured; the slowest counts.
const STARTS: usize = 3;

/// How long each step may take on a busy machine: install, link, log in.
const STEP: Duration = Duration::from_secs(180);

const AIM_RESIDENT_MB: f64 = 8.0;
const AIM_ANONYMOUS_MB: f64 = 4.0;
const AIM_START_SECONDS: f64 = 2.0;
const AIM_CPU_PERCENT: f64 = 0.2;
const AIM_THREADS: f64 = 2.0;
const AIM_FILE_MB: f64 = 7.0;

/// Where the pairing writes what it shows.
const PAIRING: &str = "/run/pairing";

struct Arguments {
    bot: PathBuf,
    idle: Duration,
    json: bool,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Measurement {
    /// UTC
    date: String,
    version: String,
    kernel: String,
    idle_seconds: u64,
    connected_mb: f64,
    connected_anonymous_mb: f64,
    peak_mb: f64,
    /// From the start of the process until systemd hears that it is ready; the slowest.
    start_seconds: f64,
    idle_cpu_percent: f64,
    idle_threads: u64,
    file_mb: f64,
}

/// The program; `arguments` are those behind `testbed bench box`.
///
/// # Errors
/// When the box does not boot or the bot does not connect.
pub(super) fn run(arguments: lexopt::Parser) -> Result<()> {
    let Some(arguments) = parse(arguments)? else {
        println!("{HELP}");
        return Ok(());
    };
    interrupt::watch()?;
    let measurement = measure(&arguments)?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&measurement)?);
    } else {
        print!("{measurement}");
    }
    Ok(())
}

fn parse(mut parser: lexopt::Parser) -> Result<Option<Arguments>> {
    let (mut bot, mut idle, mut json) = (None::<PathBuf>, IDLE, false);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("bot") => bot = Some(parser.value()?.into()),
            Long("idle") => idle = Duration::from_secs(parser.value()?.parse()?),
            Long("json") => json = true,
            Short('h') | Long("help") => return Ok(None),
            other => bail!("{}\n\n{HELP}", other.unexpected()),
        }
    }
    ensure!(idle >= SHORTEST_IDLE, "--idle must be at least {} seconds", SHORTEST_IDLE.as_secs());
    let bot = bot.context("--bot PATH is missing")?;
    Ok(Some(Arguments { bot, idle, json }))
}

fn measure(arguments: &Arguments) -> Result<Measurement> {
    let server = WhatsApp::start(Options::default())?;
    let operator = server.phone("Operator")?;
    let parts = Parts::find()?;
    let disk = Disk::debian(&parts)?;
    disk.write(&that_knows_the_test_bed(&arguments.bot)?, "/root", "bot-kjp", 0o755)?;
    progress("the box boots");
    let (first, file) = (parts.first(), disk.path());
    let hardware = Hardware {
        parts: &parts,
        init: Init::Systemd,
        first: &first,
        disk: &file,
        ports: &[],
        counts_instructions: true,
        clock: None,
        seed: true,
        begin: Begin::SwitchedOn,
    };
    let machine = Machine::start(&hardware)?;
    machine.wait_booted()?;
    wait_until("systemd to have started everything", STEP, || {
        Ok((machine.run("systemctl is-system-running")?.text.trim() == "running").then_some(()))
    })?;

    progress("the bot is installed and linked");
    let config = format!(
        "[whatsapp]\nurl = 'ws://{HOST}:{}/ws/chat'\n[network]\ndns = ['system']\n",
        server.address().port()
    );
    machine.print("mkdir -p /etc/bot-kjp")?;
    machine.write("/etc/bot-kjp/config.toml", config.as_bytes(), 0o644)?;
    machine.print("/root/bot-kjp install")?;
    link(&machine, &operator)?;

    let mut start_seconds = 0.0_f64;
    for n in 1..=STARTS {
        progress(&format!("start {n} of {STARTS}"));
        machine.print("systemctl restart bot-kjp")?;
        start_seconds = start_seconds.max(seconds_until_ready(&machine)?);
        server.wait_online(operator.number(), STEP)?;
    }
    interrupt::pause(SETTLE)?;
    progress(&format!("at rest for {} s", arguments.idle.as_secs()));
    let before = cpu_seconds(&machine)?;
    interrupt::pause(arguments.idle)?;
    let after = cpu_seconds(&machine)?;
    let status = machine.print(&format!("cat /proc/{}/status", pid(&machine)?))?;
    ensure!(!server.devices_online(operator.number())?.is_empty(), "the bot is connected no more");

    let mb = |name| Ok::<_, anyhow::Error>(field(&status, name)? as f64 * 1024.0 / 1e6);
    Ok(Measurement {
        date: date(),
        version: machine.print("/usr/local/bin/bot-kjp --version")?.trim().to_owned(),
        kernel: machine.print("uname -r")?.trim().to_owned(),
        idle_seconds: arguments.idle.as_secs(),
        connected_mb: mb("VmRSS")?,
        connected_anonymous_mb: mb("RssAnon")?,
        peak_mb: mb("VmHWM")?,
        start_seconds,
        // By the box's own clock, which stands back behind this machine's while the box is busy.
        idle_cpu_percent: (after.used - before.used) / (after.uptime - before.uptime) * 100.0,
        idle_threads: field(&status, "Threads")?,
        file_mb: size_mb(&arguments.bot)?,
    })
}

/// Links the bot with the phone by the eight-letter code.
fn link(machine: &Machine, phone: &Handset) -> Result<()> {
    machine.print(&format!(
        "/usr/local/bin/bot-kjp pair --phone {} >{PAIRING} 2>&1 & echo $! >{PAIRING}.pid",
        phone.number()
    ))?;
    let shown = || machine.print(&format!("cat {PAIRING}"));
    let code = wait_until("bot-kjp's link code", STEP, || {
        Ok(shown()?.lines().find_map(|line| link_code(line).map(str::to_owned)))
    })
    .with_context(|| shown().unwrap_or_default())?;
    phone.enter_link_code(&code.replace('-', ""))?;
    wait_until("bot-kjp pair to end", STEP, || {
        let runs = machine.run(&format!("kill -0 $(cat {PAIRING}.pid)"))?.code == 0;
        Ok((!runs).then_some(()))
    })
    .with_context(|| shown().unwrap_or_default())
}

fn property(machine: &Machine, name: &str) -> Result<String> {
    Ok(machine.print(&format!("systemctl show --value -p {name} bot-kjp"))?.trim().to_owned())
}

fn pid(machine: &Machine) -> Result<u32> {
    property(machine, "MainPID")?.parse().context("MainPID")
}

/// systemd notes both moments in microseconds.
fn seconds_until_ready(machine: &Machine) -> Result<f64> {
    let moment = |name: &str| property(machine, name)?.parse::<f64>().with_context(|| name.to_owned());
    let started = moment("ExecMainStartTimestampMonotonic")?;
    let ready = moment("ActiveEnterTimestampMonotonic")?;
    ensure!(ready > started && started > 0.0, "systemd says started at {started}, ready at {ready}");
    Ok((ready - started) / 1e6)
}

struct CpuTime {
    /// Seconds on a processor, all living threads.
    used: f64,
    /// Seconds since the box was switched on.
    uptime: f64,
}

fn cpu_seconds(machine: &Machine) -> Result<CpuTime> {
    let text = machine.print(&format!("cat /proc/uptime /proc/{}/task/*/schedstat", pid(machine)?))?;
    let mut lines = text.lines().map(|line| line.split_whitespace().next().unwrap_or_default());
    let uptime = lines.next().context("no uptime")?.parse()?;
    let mut nanoseconds = 0.0;
    for line in lines {
        nanoseconds += line.parse::<f64>().with_context(|| format!("schedstat begins with {line:?}"))?;
    }
    ensure!(nanoseconds > 0.0, "the kernel counts no processor time");
    Ok(CpuTime { used: nanoseconds / 1e9, uptime })
}

fn size_mb(file: &Path) -> Result<f64> {
    let about = std::fs::metadata(file).with_context(|| format!("no file {}", file.display()))?;
    Ok(about.len() as f64 / 1e6)
}

impl Measurement {
    /// What, measured, aim, unit, decimals.
    fn rows(&self) -> Vec<(&'static str, f64, f64, &'static str, usize)> {
        vec![
            ("memory, connected and at rest (VmRSS)", self.connected_mb, AIM_RESIDENT_MB, "MB", 2),
            ("  of it heap and stacks (RssAnon)", self.connected_anonymous_mb, AIM_ANONYMOUS_MB, "MB", 2),
            ("from start to ready, slowest of 3", self.start_seconds, AIM_START_SECONDS, "s", 2),
            ("processor time at rest", self.idle_cpu_percent, AIM_CPU_PERCENT, "%", 3),
            ("threads at rest", self.idle_threads as f64, AIM_THREADS, "", 0),
            ("the file that is copied to the box", self.file_mb, AIM_FILE_MB, "MB", 2),
        ]
    }
}

impl fmt::Display for Measurement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "\nBox of {}\n  emulated Cortex-A53, 1 core at 0.5 billion instructions per second, 256 MB\n  \
             Debian with systemd, Linux {}; {}\n  watched for {} s; highest memory of that life {:.2} MB\n",
            self.date, self.kernel, self.version, self.idle_seconds, self.peak_mb
        )?;
        for (what, measured, aim, unit, decimals) in self.rows() {
            let measured_text = format!("{measured:.decimals$} {unit}");
            let judged = if measured <= aim { "met" } else { "NOT met" };
            writeln!(
                formatter,
                "  {what:<40}{:>12}   aim {:>6}   {judged}",
                measured_text.trim_end(),
                format!("{aim} {unit}").trim_end()
            )?;
        }
        Ok(())
    }
}

/// What goes on, for the person who waits; not part of the result.
fn progress(text: &str) {
    eprintln!("bench: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_figure_is_judged_by_its_own_aim() {
        let measured = Measurement {
            date: String::new(),
            version: String::new(),
            kernel: String::new(),
            idle_seconds: 90,
            connected_mb: 8.0,
            connected_anonymous_mb: 4.01,
            peak_mb: 9.0,
            start_seconds: 0.5,
            idle_cpu_percent: 0.21,
            idle_threads: 2,
            file_mb: 6.5,
        };
        let table = measured.to_string();
        let judged: Vec<bool> =
            table.lines().filter(|line| line.contains("aim")).map(|line| !line.contains("NOT")).collect();
        assert_eq!(judged, [true, false, true, false, true, true], "{table}");
    }
}
