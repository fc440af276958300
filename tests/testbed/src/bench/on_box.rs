//! `testbed bench box`: what bot-kjp takes of an emulated box, read inside it.
//!
//! A Debian for arm64 with systemd and 256 MB, the unit as it is installed, the bot connected to the
//! test bed and at rest, then people who register. Memory and threads are what they would be on a real
//! box with the same kernel. Times are counted in instructions, at half a billion in a second, which is
//! less than one core of such a box does: a time that keeps the aim here keeps it there, and what else
//! this machine does changes nothing.
//!
//! The disk is a file behind virtio, without a cache that could lose anything: the kernel's own counts
//! of blocks and flushes are what a memory card would be asked for, the time that it would take is not.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lexopt::prelude::*;
use serde::Serialize;

use super::process::field;
use super::report::date;
use super::{ANSWER, PER_CHAT_PER_SECOND, TOTAL_PER_SECOND, Writer, everybody_registers, writers};
use crate::bot::{link_code, that_knows_the_test_bed};
use crate::customers::{CUSTOMERS_PER_SEED, PEOPLE_PER_CUSTOMER};
use crate::interrupt::{self, wait_until};
use crate::machine::{Begin, Disk, HOST, Hardware, INSTRUCTIONS_PER_SECOND, Init, Machine, Parts};
use crate::{Handset, Options, WhatsApp};

const HELP: &str = "\
Measures bot-kjp on an emulated box: a Debian for arm64 with systemd, the bot connected and at rest, then
people who register.

testbed bench box --bot PATH [--idle SECONDS] [--registrations N] [--customers N] [--json]

  --bot PATH          bot-kjp for aarch64 as it is shipped; a copy of it is made to know the test bed
  --idle SECONDS      how long the connected bot is watched doing nothing (default 90, at least 60)
  --registrations N   people to register after that, one per message (default 200)
  --customers N       customers who write at the same time (default 10)
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

/// Bytes of what the kernel calls a sector, whatever the disk's own are.
const SECTOR: u64 = 512;

const AIM_RESIDENT_MB: f64 = 6.0;
const AIM_ANONYMOUS_MB: f64 = 1.0;
const AIM_START_SECONDS: f64 = 2.0;
const AIM_CPU_PERCENT: f64 = 0.2;
const AIM_THREADS: f64 = 2.0;
const AIM_FILE_MB: f64 = 6.8;
const AIM_WRITTEN_KB: f64 = 24.0;

/// Where the pairing writes what it shows.
const PAIRING: &str = "/run/pairing";

struct Arguments {
    bot: PathBuf,
    idle: Duration,
    plan: Plan,
    json: bool,
}

/// Who registers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub registrations: usize,
    /// Who writes at the same time, each waiting for the answer before writing again.
    pub customers: usize,
}

impl Plan {
    /// Unless told otherwise, and for the gate.
    pub(super) const USUAL: Self = Self { registrations: 200, customers: 10 };
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
    load: Load,
}

/// What the registrations cost; each figure but for memory is divided by their number.
#[derive(Debug, Serialize)]
pub(super) struct Load {
    pub registrations: usize,
    customers: usize,
    /// Of the bot and of the kernel in its name.
    pub instructions: f64,
    /// Bytes of pages that it made the kernel write (write_bytes), which come in whole pages.
    pub written_bytes: f64,
    /// Bytes that it handed over by write(2) and its like (wchar): the content, without rounding.
    pub given_bytes: f64,
    /// Such calls (syscw).
    pub writes: f64,
    /// What reached the disk, also for others: the journal of the file system, the system's log.
    pub device_bytes: f64,
    /// How often the disk was asked to keep what it has.
    pub flushes: f64,
    loaded_mb: f64,
    loaded_anonymous_mb: f64,
    peak_mb: f64,
}

/// The program; `arguments` are those behind `testbed bench box`.
///
/// # Errors
/// When the box does not boot, the bot does not connect, or somebody is not answered.
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
    let mut plan = Plan::USUAL;
    while let Some(argument) = parser.next()? {
        match argument {
            Long("bot") => bot = Some(parser.value()?.into()),
            Long("idle") => idle = Duration::from_secs(parser.value()?.parse()?),
            Long("registrations") => plan.registrations = parser.value()?.parse()?,
            Long("customers") => plan.customers = parser.value()?.parse()?,
            Long("json") => json = true,
            Short('h') | Long("help") => return Ok(None),
            other => bail!("{}\n\n{HELP}", other.unexpected()),
        }
    }
    ensure!(idle >= SHORTEST_IDLE, "--idle must be at least {} seconds", SHORTEST_IDLE.as_secs());
    let Plan { registrations, customers } = plan;
    ensure!((1..=CUSTOMERS_PER_SEED).contains(&customers), "--customers must be 1 to {CUSTOMERS_PER_SEED}");
    ensure!(
        (customers..=PEOPLE_PER_CUSTOMER * customers).contains(&registrations),
        "{customers} customers register {customers} to {} people",
        PEOPLE_PER_CUSTOMER * customers
    );
    let bot = bot.context("--bot PATH is missing")?;
    Ok(Some(Arguments { bot, idle, plan, json }))
}

fn measure(arguments: &Arguments) -> Result<Measurement> {
    let place = Place::new(&arguments.bot)?;
    let mut start_seconds = 0.0_f64;
    for n in 1..=STARTS {
        progress(&format!("start {n} of {STARTS}"));
        start_seconds = start_seconds.max(place.restart()?);
    }
    interrupt::pause(SETTLE)?;
    progress(&format!("at rest for {} s", arguments.idle.as_secs()));
    let before = place.moment()?;
    interrupt::pause(arguments.idle)?;
    let rest = place.moment()?;
    place.expect_online()?;
    let load = place.load(arguments.plan)?;

    let machine = &place.machine;
    Ok(Measurement {
        date: date(),
        version: machine.print("/usr/local/bin/bot-kjp --version")?.trim().to_owned(),
        kernel: machine.print("uname -r")?.trim().to_owned(),
        idle_seconds: arguments.idle.as_secs(),
        connected_mb: mb(rest.resident_kib),
        connected_anonymous_mb: mb(rest.anonymous_kib),
        peak_mb: mb(rest.peak_kib),
        start_seconds,
        // By the box's own clock, which stands back behind this machine's while the box is busy.
        idle_cpu_percent: (rest.used - before.used) / (rest.uptime - before.uptime) * 100.0,
        idle_threads: rest.threads,
        file_mb: size_mb(&arguments.bot)?,
        load,
    })
}

fn mb(kib: u64) -> f64 {
    kib as f64 * 1024.0 / 1e6
}

/// A box on which the bot is installed and linked.
pub(super) struct Place {
    machine: Machine,
    server: WhatsApp,
    operator: Handset,
    _disk: Disk,
}

/// What the kernel of the box has counted for the bot until one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    /// Seconds on a processor, all living threads.
    used: f64,
    /// Seconds since the box was switched on.
    uptime: f64,
    threads: u64,
    resident_kib: u64,
    pub anonymous_kib: u64,
    peak_kib: u64,
    io: Io,
    device_sectors: u64,
    flushes: u64,
}

/// What a process has written since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Io {
    written_bytes: u64,
    given_bytes: u64,
    writes: u64,
}

impl Io {
    /// From `/proc/PID/io`, wherever it stands in a text.
    fn read(text: &str) -> Result<Self> {
        Ok(Self {
            written_bytes: field(text, "write_bytes")?,
            given_bytes: field(text, "wchar")?,
            writes: field(text, "syscw")?,
        })
    }
}

impl Place {
    /// Boots a box, and installs and links this bot.
    pub(super) fn new(bot: &Path) -> Result<Self> {
        let server = WhatsApp::start(Options::default())?;
        let operator = server.phone("Operator")?;
        let parts = Parts::find()?;
        let disk = Disk::debian(&parts)?;
        disk.write(&that_knows_the_test_bed(bot)?, "/root", "bot-kjp", 0o755)?;
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
            "[whatsapp]\nurl = 'ws://{HOST}:{}/ws/chat'\n[network]\ndns = ['system']\n\
             [outbox]\nper_chat_per_second = {PER_CHAT_PER_SECOND}\ntotal_per_second = {TOTAL_PER_SECOND}\n",
            server.address().port()
        );
        machine.print("mkdir -p /etc/bot-kjp")?;
        machine.write("/etc/bot-kjp/config.toml", config.as_bytes(), 0o644)?;
        machine.print("/root/bot-kjp install")?;
        link(&machine, &operator)?;
        Ok(Self { machine, server, operator, _disk: disk })
    }

    /// Starts the bot anew and waits until it is online. Gives the seconds until it was ready.
    pub(super) fn restart(&self) -> Result<f64> {
        self.machine.print("systemctl restart bot-kjp")?;
        let seconds = seconds_until_ready(&self.machine)?;
        self.server.wait_online(self.operator.number(), STEP)?;
        Ok(seconds)
    }

    fn expect_online(&self) -> Result<()> {
        let online = self.server.devices_online(self.operator.number())?;
        ensure!(!online.is_empty(), "the bot is connected no more");
        Ok(())
    }

    /// Everybody registers, and what is left behind the last answer is done too. The bot is stopped then.
    pub(super) fn load(&self, plan: Plan) -> Result<Load> {
        let Plan { registrations, customers } = plan;
        let everybody: Vec<Writer> = writers(&self.server, registrations, customers)?;
        progress(&format!("{registrations} registrations by {customers} customers"));
        let pid = pid(&self.machine)?;
        let before = self.moment()?;
        everybody_registers(&everybody, self.operator.number())?;
        wait_until("the bot to acknowledge every message", ANSWER, || {
            Ok((self.server.queue_len(self.operator.number())? == 0).then_some(()))
        })?;
        interrupt::pause(super::SETTLE)?;
        let after = self.moment()?;
        ensure!(self::pid(&self.machine)? == pid, "the bot was started anew under the load");
        self.expect_online()?;
        let ended = self.stop()?;
        let each = |from: u64, to: u64| to.saturating_sub(from) as f64 / registrations as f64;
        Ok(Load {
            registrations,
            customers,
            instructions: (after.used - before.used) * INSTRUCTIONS_PER_SECOND / registrations as f64,
            written_bytes: each(before.io.written_bytes, ended.written_bytes),
            given_bytes: each(before.io.given_bytes, ended.given_bytes),
            writes: each(before.io.writes, ended.writes),
            device_bytes: each(before.device_sectors, after.device_sectors) * SECTOR as f64,
            flushes: each(before.flushes, after.flushes),
            loaded_mb: mb(after.resident_kib),
            loaded_anonymous_mb: mb(after.anonymous_kib),
            peak_mb: mb(after.peak_kib),
        })
    }

    /// Stops the bot. Gives what it wrote in its whole life.
    ///
    /// What is written message by message is brought together later, many at once, and at the end all that is left:
    /// only with that does a figure not depend on how many of these times the load happened to see. When process 1
    /// has waited for a child, what that has written is added to its own (`man 5 proc`).
    fn stop(&self) -> Result<Io> {
        let of_init = || Io::read(&self.machine.print("cat /proc/1/io")?);
        let before = of_init()?;
        self.machine.print("systemctl stop bot-kjp")?;
        let after = of_init()?;
        Ok(Io {
            written_bytes: after.written_bytes - before.written_bytes,
            given_bytes: after.given_bytes - before.given_bytes,
            writes: after.writes - before.writes,
        })
    }

    pub(super) fn moment(&self) -> Result<Moment> {
        let pid = pid(&self.machine)?;
        let text = self.machine.print(&format!(
            "cat /proc/uptime /sys/block/vda/stat /proc/{pid}/task/*/schedstat && cat /proc/{pid}/status /proc/{pid}/io"
        ))?;
        Moment::read(&text).with_context(|| format!("the box says:\n{text}"))
    }
}

impl Moment {
    /// From uptime, the disk's stat, schedstat of every thread, status and io, in this order.
    fn read(text: &str) -> Result<Self> {
        let mut lines = text.lines();
        let mut numbers = |what: &str| -> Result<Vec<f64>> {
            let line = lines.next().with_context(|| format!("no {what}"))?;
            line.split_whitespace().map(|word| Ok(word.parse()?)).collect()
        };
        let uptime = numbers("uptime")?;
        let disk = numbers("disk")?;
        // Columns of the kernel's documentation (block/stat): sectors written, flushes.
        let (Some(sectors), Some(flushes)) = (disk.get(6), disk.get(15)) else {
            bail!("the kernel counts no flushes");
        };
        let threads = text.lines().skip(2).take_while(|line| !line.contains(':'));
        let mut nanoseconds = 0.0;
        for line in threads {
            let time = line.split_whitespace().next().unwrap_or_default();
            nanoseconds += time.parse::<f64>().with_context(|| format!("schedstat begins with {time:?}"))?;
        }
        ensure!(nanoseconds > 0.0, "the kernel counts no processor time");
        Ok(Self {
            used: nanoseconds / 1e9,
            uptime: *uptime.first().context("no uptime")?,
            threads: field(text, "Threads")?,
            resident_kib: field(text, "VmRSS")?,
            anonymous_kib: field(text, "RssAnon")?,
            peak_kib: field(text, "VmHWM")?,
            io: Io::read(text)?,
            device_sectors: *sectors as u64,
            flushes: *flushes as u64,
        })
    }
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
            (
                "written per registration (write_bytes)",
                self.load.written_bytes / 1e3,
                AIM_WRITTEN_KB,
                "kB",
                1,
            ),
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
        let load = &self.load;
        writeln!(
            formatter,
            "\n  {} registrations by {} customers at once, each waiting for its answer; per registration\n",
            load.registrations, load.customers
        )?;
        for (what, value, unit, decimals) in [
            ("instructions, user and kernel", load.instructions / 1e6, "million", 3),
            ("bytes in calls to write (wchar)", load.given_bytes / 1e3, "kB", 1),
            ("such calls", load.writes, "", 1),
            ("bytes that reached the disk, of everybody", load.device_bytes / 1e3, "kB", 1),
            ("flushes of the disk", load.flushes, "", 2),
        ] {
            let text = format!("{value:.decimals$} {unit}");
            writeln!(formatter, "  {what:<41}{:>16}", text.trim_end())?;
        }
        writeln!(
            formatter,
            "\n  memory after it {:.2} MB, of it heap and stacks {:.2} MB, highest {:.2} MB",
            load.loaded_mb, load.loaded_anonymous_mb, load.peak_mb
        )
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
            connected_mb: 6.0,
            connected_anonymous_mb: 1.01,
            peak_mb: 9.0,
            start_seconds: 0.5,
            idle_cpu_percent: 0.21,
            idle_threads: 2,
            file_mb: 6.5,
            load: Load {
                registrations: 200,
                customers: 10,
                instructions: 5e6,
                written_bytes: 24_100.0,
                given_bytes: 20_000.0,
                writes: 30.0,
                device_bytes: 40_000.0,
                flushes: 1.5,
                loaded_mb: 7.0,
                loaded_anonymous_mb: 1.5,
                peak_mb: 8.0,
            },
        };
        let table = measured.to_string();
        let judged: Vec<bool> =
            table.lines().filter(|line| line.contains("aim")).map(|line| !line.contains("NOT")).collect();
        assert_eq!(judged, [true, false, true, false, true, true, false], "{table}");
    }

    #[test]
    fn what_the_box_counts_is_read_off_the_columns_of_its_kernel() {
        let text = "12.50 3.00\n    1 2 3 4 5 6 700 8 9 10 11 12 13 14 15 42 17\n1500000000 7 9\n500000000 7 9\n\
                    Name:\tbot-kjp\nVmHWM:\t 30 kB\nVmRSS:\t 20 kB\nRssAnon:\t 10 kB\nThreads:\t2\n\
                    rchar: 1\nwchar: 900\nsyscw: 8\nwrite_bytes: 4096\n";
        let moment = Moment::read(text).unwrap();
        assert_eq!((moment.used, moment.uptime, moment.threads), (2.0, 12.5, 2));
        assert_eq!((moment.device_sectors, moment.flushes), (700, 42));
        assert_eq!(moment.io, Io { written_bytes: 4096, given_bytes: 900, writes: 8 });
        assert_eq!((moment.resident_kib, moment.anonymous_kib, moment.peak_kib), (20, 10, 30));
        let old = text.replace(" 42 17", "");
        assert!(Moment::read(&old).unwrap_err().to_string().contains("counts no flushes"));
    }
}
