//! `testbed bench morning`: the bot was off over night, and everybody wrote.
//!
//! Families send five messages each while no bot is connected; then it is started, and during its first minute each
//! family sends one more. How long the bot takes until it has all that waited, how long each family waits for its last
//! answer, what it takes of memory above its idle state, and whether anything was dropped or came out of order. Both
//! bots go through it, one after the other, each with a server and phones of its own; bot-kjp at its default pace,
//! which WhatsApp's patience sets and not the machine, the Baileys bot as fast as it can.
//!
//! The run fails when bot-kjp loses a person, answers out of order, or lets its connection go. What becomes of the
//! Baileys bot is only told.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lexopt::prelude::*;
use serde::Serialize;

use super::baileys::{BaileysBot, Place};
use super::process::{Peak, Snapshot};
use super::report::{KIB_PER_MB, Machine, date, versions};
use super::{Contestant, OPENING, PER_CHAT_PER_SECOND, SETTLE, TOTAL_PER_SECOND, people_in, progress};
use crate::bot::{Bot, Settings, copy_database};
use crate::customers::Person;
use crate::interrupt::{self, wait_until};
use crate::{Handset, Options, WhatsApp};

const HELP: &str = "\
Measures a morning after a night without a bot, bot-kjp beside a minimal bot on Baileys.

testbed bench morning --bot PATH [--families N] [--fast] [--only bot-kjp|baileys] [--folder DIR] [--json]

  --bot PATH      bot-kjp, built with --release --features danger-accept-test-bed
  --families N    who wrote five messages in the night, and writes one in the morning (default 2000)
  --fast          bot-kjp at its highest pace instead of its default one: what the machine can do
  --only NAME     one of the two
  --folder DIR    where the bots keep their data (default: a temporary folder)
  --json          print JSON instead of the table";

/// Aims of the project, for 2,000 families; a third of what was measured when they were set.
const AIM_ABOVE_IDLE_MB: f64 = 4.0;
const AIM_DRAIN_SECONDS: f64 = 16.0;
const AIM_CPU_SECONDS: f64 = 6.2;

/// `outbox.*` unless an operator changes it.
const DEFAULT_PACE: (u32, u32) = (1, 5);

/// During which the families write again.
const LIVE: Duration = Duration::from_secs(60);

/// Between two looks at telephones.
const LOOK: Duration = Duration::from_millis(100);

/// Without an answer for so long, those who still wait get none any more.
const STANDSTILL: Duration = Duration::from_secs(120);

/// For the bot to stop, and the server to notice.
const STEP: Duration = Duration::from_secs(90);

/// People of each family: two in the night, one in the morning.
const IN_THE_NIGHT: usize = 2;
const PEOPLE: usize = IN_THE_NIGHT + 1;

/// Words that are no person: a greeting, then the choice of a place.
const GREETING: &str = "halo";

/// Messages of a family in the night.
const QUEUED_EACH: usize = 1 + OPENING.len() + IN_THE_NIGHT;

struct Arguments {
    bot: Option<PathBuf>,
    families: usize,
    fast: bool,
    only: Option<Contestant>,
    folder: Option<PathBuf>,
    json: bool,
}

/// What became of one bot. Times in seconds.
#[derive(Debug, Serialize)]
struct Measurement {
    bot: &'static str,
    idle_mb: f64,
    idle_anonymous_mb: f64,
    /// The highest of the morning, above what it has when idle.
    above_idle_mb: f64,
    anonymous_above_idle_mb: f64,
    /// From the start of the process until it has acknowledged all that waited.
    drain_seconds: f64,
    answered: usize,
    /// From the start of the process, or from their last message if that came later, until they are told of the last
    /// person; of those who were.
    answer_p50_seconds: f64,
    answer_p99_seconds: f64,
    answer_last_seconds: f64,
    replies: usize,
    cpu_seconds: f64,
    written_mb: f64,
    /// People in its database, of those who were sent.
    stored: usize,
    sent: usize,
    /// Families to whom people were named in another order than they were sent.
    out_of_order: usize,
    /// Connections that were made after the first one.
    reconnects: u64,
}

#[derive(Debug, Serialize)]
struct Report {
    /// UTC
    date: String,
    machine: Machine,
    versions: Vec<String>,
    families: usize,
    queued: usize,
    live: usize,
    /// bot-kjp's replies per second, to one chat and to all.
    pace: (u32, u32),
    bots: Vec<Measurement>,
}

/// The program; `arguments` are those behind `testbed bench morning`.
///
/// # Errors
/// When a bot does not start, or bot-kjp does not keep what it promises.
pub(super) fn run(arguments: lexopt::Parser) -> Result<()> {
    let Some(arguments) = parse(arguments)? else {
        println!("{HELP}");
        return Ok(());
    };
    interrupt::watch()?;
    let own_folder;
    let folder = match &arguments.folder {
        Some(folder) => {
            std::fs::create_dir_all(folder)?;
            folder.as_path()
        }
        None => {
            own_folder = tempfile::Builder::new().prefix("bot-kjp-morning-").tempdir()?;
            own_folder.path()
        }
    };
    let pace = if arguments.fast { (PER_CHAT_PER_SECOND, TOTAL_PER_SECOND) } else { DEFAULT_PACE };
    let mut bots = Vec::new();
    for contestant in [Contestant::BotKjp, Contestant::Baileys] {
        if arguments.only.is_some_and(|only| only != contestant) {
            continue;
        }
        let home = tempfile::Builder::new().prefix(contestant.name()).tempdir_in(folder)?;
        let night = Night::new(contestant, arguments.bot.as_deref(), home.path(), pace, arguments.families)?;
        bots.push(night.morning().with_context(|| format!("the morning of the {}", contestant.name()))?);
    }
    let report = Report {
        date: date(),
        machine: Machine::this(),
        versions: versions(arguments.bot.as_deref()),
        families: arguments.families,
        queued: arguments.families * QUEUED_EACH,
        live: arguments.families,
        pace,
        bots,
    };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.table());
    }
    report
        .bots
        .iter()
        .filter(|bot| bot.bot == Contestant::BotKjp.name())
        .try_for_each(Measurement::expect_kept)
}

fn parse(mut parser: lexopt::Parser) -> Result<Option<Arguments>> {
    let mut arguments =
        Arguments { bot: None, families: 2000, fast: false, only: None, folder: None, json: false };
    while let Some(argument) = parser.next()? {
        match argument {
            Long("bot") => arguments.bot = Some(parser.value()?.into()),
            Long("families") => arguments.families = parser.value()?.parse()?,
            Long("fast") => arguments.fast = true,
            Long("folder") => arguments.folder = Some(parser.value()?.into()),
            Long("json") => arguments.json = true,
            Long("only") => arguments.only = Some(Contestant::named(&parser.value()?.string()?)?),
            Short('h') | Long("help") => return Ok(None),
            other => bail!("{}\n\n{HELP}", other.unexpected()),
        }
    }
    ensure!(arguments.families > 0, "nobody writes");
    Ok(Some(arguments))
}

/// The `n`th person of a family.
fn person(family: usize, n: usize) -> Person {
    Person::nth(1, u32::try_from(family * PEOPLE + n).unwrap_or(u32::MAX))
}

/// Either of the two, running.
enum Running {
    BotKjp(Bot),
    Baileys(BaileysBot),
}

/// WhatsApp's side, and a bot that is linked and off.
struct Night<'a> {
    contestant: Contestant,
    server: WhatsApp,
    account: Handset,
    families: Vec<Handset>,
    folder: &'a Path,
    /// bot-kjp, which is configured once.
    bot: Option<Bot>,
    place: Place,
}

impl<'a> Night<'a> {
    fn new(
        contestant: Contestant,
        program: Option<&Path>,
        folder: &'a Path,
        (per_chat_per_second, total_per_second): (u32, u32),
        families: usize,
    ) -> Result<Self> {
        let server = WhatsApp::start(Options::default())?;
        let account = server.phone(contestant.name())?;
        let place = Place::beside(&server);
        progress(&format!("linking the {}", contestant.name()));
        let bot = match contestant {
            Contestant::BotKjp => {
                let settings = Settings {
                    whatsapp_url: server.url(),
                    per_chat_per_second,
                    total_per_second,
                    log_level: "warn",
                    supabase: None,
                };
                let bot = Bot::new(program.context("--bot PATH is missing")?, folder, &settings)?;
                bot.pair(&account)?;
                Some(bot)
            }
            Contestant::Baileys => {
                BaileysBot::link(&server, &account, folder, &place)?;
                None
            }
        };
        // Its screen is nobody's business here, and would only take time.
        account.set_online(false);
        let families =
            (0..families).map(|n| server.phone(&format!("Keluarga {n}"))).collect::<Result<_>>()?;
        Ok(Self { contestant, server, account, families, folder, bot, place })
    }

    fn start(&mut self) -> Result<Running> {
        Ok(match self.bot.take() {
            Some(mut bot) => {
                bot.start(&self.server, self.account.number())?;
                Running::BotKjp(bot)
            }
            None => {
                Running::Baileys(BaileysBot::start(&self.server, &self.account, self.folder, &self.place)?)
            }
        })
    }

    fn stop(&mut self, running: Running) -> Result<()> {
        match running {
            Running::BotKjp(mut bot) => {
                bot.stop(&self.server, self.account.number())?;
                self.bot = Some(bot);
            }
            Running::Baileys(bot) => drop(bot),
        }
        wait_until("the server to notice that the bot is gone", STEP, || {
            Ok(self.server.devices_online(self.account.number())?.is_empty().then_some(()))
        })
    }

    fn say(&self, family: usize, text: &str) -> Result<()> {
        interrupt::check()?;
        self.families[family].send_text(self.account.number(), text)?;
        Ok(())
    }

    fn morning(mut self) -> Result<Measurement> {
        let count = self.families.len();
        let running = self.start()?;
        interrupt::pause(SETTLE)?;
        let idle = Snapshot::of(running.pid()?)?;
        self.stop(running)?;

        progress(&format!("{}: {} messages in the night", self.contestant.name(), count * QUEUED_EACH));
        let words = std::iter::once(GREETING).chain(OPENING).map(|word| (Some(word), 0));
        for (word, n) in words.chain((0..IN_THE_NIGHT).map(|n| (None, n))) {
            for family in 0..count {
                match word {
                    Some(word) => self.say(family, word)?,
                    None => self.say(family, &person(family, n).lines())?,
                }
            }
        }
        let waiting = || self.server.queue_len(self.account.number());
        ensure!(waiting()? == count * QUEUED_EACH, "{} messages wait, not all", waiting()?);

        progress(&format!("{}: morning", self.contestant.name()));
        let logins = self.server.logins(self.account.number())?;
        let started = Instant::now();
        let running = self.start()?;
        let pid = running.pid()?;
        let peak = Peak::watch(pid);
        let (waits, drained) = self.live(started)?;
        let drained = drained.context("the bot never acknowledged all messages")?;
        interrupt::pause(SETTLE)?;
        let after = Snapshot::of(pid)?;
        let anonymous_peak = peak.end();

        let database = running.database();
        self.stop(running)?;
        let database = copy_database(&database)?;
        let stored = people_in(&database.connection, self.contestant)?.len();
        let mb = |kib: u64| kib as f64 / KIB_PER_MB;
        let wait = |share: f64| {
            let rank = (share * waits.len() as f64).ceil() as usize;
            waits.get(rank.saturating_sub(1)).map_or(f64::NAN, Duration::as_secs_f64)
        };
        Ok(Measurement {
            bot: self.contestant.name(),
            idle_mb: mb(idle.resident_kib),
            idle_anonymous_mb: mb(idle.anonymous_kib),
            above_idle_mb: mb(after.peak_kib.saturating_sub(idle.resident_kib)),
            anonymous_above_idle_mb: mb(anonymous_peak.saturating_sub(idle.anonymous_kib)),
            drain_seconds: drained.as_secs_f64(),
            answered: waits.len(),
            answer_p50_seconds: wait(0.5),
            answer_p99_seconds: wait(0.99),
            answer_last_seconds: wait(1.0),
            replies: self.families.iter().map(|phone| phone.shown().len()).sum(),
            cpu_seconds: after.cpu_seconds,
            written_mb: after.written_bytes as f64 / 1e6,
            stored,
            sent: count * PEOPLE,
            out_of_order: (0..count).filter(|family| !self.is_in_order(*family)).count(),
            reconnects: self.server.logins(self.account.number())?.saturating_sub(logins + 1),
        })
    }

    /// The families write once more while everybody waits for answers. Gives how long each waited, sorted, and when
    /// nothing waited at the server any more for the first time.
    fn live(&self, started: Instant) -> Result<(Vec<Duration>, Option<Duration>)> {
        let written: Vec<OnceLock<Instant>> = self.families.iter().map(|_| OnceLock::new()).collect();
        std::thread::scope(|scope| {
            let writing = scope.spawn(|| self.families_write_again(&written));
            let awaited = self.await_answers(started, &written);
            writing.join().expect("a family's thread does not panic")?;
            awaited
        })
    }

    /// One message of each family, evenly over [`LIVE`].
    fn families_write_again(&self, written: &[OnceLock<Instant>]) -> Result<()> {
        let between = LIVE / u32::try_from(self.families.len()).unwrap_or(u32::MAX);
        let begun = Instant::now();
        for (family, written) in written.iter().enumerate() {
            let due = begun + between * u32::try_from(family).unwrap_or(u32::MAX);
            interrupt::pause(due.saturating_duration_since(Instant::now()))?;
            self.say(family, &person(family, IN_THE_NIGHT).lines())?;
            written.get_or_init(Instant::now);
        }
        Ok(())
    }

    /// Until everybody has been told of their last person, or nobody is told anything any more.
    fn await_answers(
        &self,
        started: Instant,
        written: &[OnceLock<Instant>],
    ) -> Result<(Vec<Duration>, Option<Duration>)> {
        let mut open: Vec<usize> = (0..self.families.len()).collect();
        let (mut waits, mut drained) = (Vec::new(), None);
        let (mut moved, mut replies) = (Instant::now(), 0);
        while (!open.is_empty() || drained.is_none()) && moved.elapsed() < STANDSTILL {
            if drained.is_none() && self.server.queue_len(self.account.number())? == 0 {
                drained = Some(started.elapsed());
            }
            let mut seen = waits.len();
            open.retain(|family| {
                let shown = self.families[*family].count_shown();
                seen += shown;
                // Not yet written, so not yet answered; and who is shown nothing has no answer to be looked for.
                let Some(written) = written[*family].get().filter(|_| shown > 0) else { return true };
                let last = person(*family, PEOPLE - 1).nama;
                let answered =
                    self.families[*family].shown().iter().rev().any(|shown| shown.text.contains(&last));
                if answered {
                    waits.push(started.max(*written).elapsed());
                }
                !answered
            });
            if seen != replies {
                (moved, replies) = (Instant::now(), seen);
            }
            interrupt::pause(LOOK)?;
        }
        waits.sort();
        Ok((waits, drained))
    }

    /// Whether every person was told of, in the order in which they were sent.
    fn is_in_order(&self, family: usize) -> bool {
        let story: String =
            self.families[family].shown().iter().map(|shown| format!("{}\n", shown.text)).collect();
        let places: Vec<Option<usize>> = (0..PEOPLE).map(|n| story.find(&person(family, n).nama)).collect();
        places.iter().all(Option::is_some) && places.is_sorted()
    }
}

impl Running {
    fn pid(&self) -> Result<u32> {
        match self {
            Self::BotKjp(bot) => bot.pid(),
            Self::Baileys(bot) => Ok(bot.pid()),
        }
    }

    fn database(&self) -> PathBuf {
        match self {
            Self::BotKjp(bot) => bot.database(),
            Self::Baileys(bot) => bot.database(),
        }
    }
}

impl Measurement {
    /// What bot-kjp promises, however slow the machine is.
    fn expect_kept(&self) -> Result<()> {
        let families = self.sent / PEOPLE;
        ensure!(self.answered == families, "{} of {families} families were answered", self.answered);
        ensure!(self.stored == self.sent, "{} people were sent, {} are stored", self.sent, self.stored);
        ensure!(self.out_of_order == 0, "{} families were answered out of order", self.out_of_order);
        ensure!(self.reconnects == 0, "the connection was made anew {} times", self.reconnects);
        Ok(())
    }
}

type Value = fn(&Measurement) -> f64;

const ROWS: [(&str, &str, Value); 17] = [
    ("memory when idle (VmRSS)", "MB", |m| m.idle_mb),
    ("  of it heap and stacks (RssAnon)", "MB", |m| m.idle_anonymous_mb),
    ("highest memory above idle", "MB", |m| m.above_idle_mb),
    ("  of it heap and stacks", "MB", |m| m.anonymous_above_idle_mb),
    ("until all that waited is taken in", "s", |m| m.drain_seconds),
    ("families answered", "", |m| m.answered as f64),
    ("last answer, half of them", "s", |m| m.answer_p50_seconds),
    ("last answer, 99 %", "s", |m| m.answer_p99_seconds),
    ("last answer, the last", "s", |m| m.answer_last_seconds),
    ("replies", "", |m| m.replies as f64),
    ("CPU time", "s", |m| m.cpu_seconds),
    ("written to the disk", "MB", |m| m.written_mb),
    ("people sent", "", |m| m.sent as f64),
    ("people stored", "", |m| m.stored as f64),
    ("people not stored", "", |m| m.sent.saturating_sub(m.stored) as f64),
    ("families told out of order, or not of all", "", |m| m.out_of_order as f64),
    ("connections made anew", "", |m| m.reconnects as f64),
];

impl Report {
    fn table(&self) -> String {
        let mut text = format!(
            "\nMorning of {}\n  {}\n  {}\n\n{} messages of {} families wait while the bot is off; {} more in the first \
             {} s.\nbot-kjp at {} replies per second to one chat and {} to all; the Baileys bot has no pace.\n\n  {:<42}",
            self.date,
            self.machine,
            self.versions.join("\n  "),
            self.queued,
            self.families,
            self.live,
            LIVE.as_secs(),
            self.pace.0,
            self.pace.1,
            ""
        );
        for bot in &self.bots {
            text.push_str(&format!("{:>16}", bot.bot));
        }
        for (name, unit, value) in ROWS {
            text.push_str(&format!("\n  {name:<42}"));
            for bot in &self.bots {
                let value = value(bot);
                // Of nobody's answers there is no median.
                if value.is_nan() {
                    text.push_str(&format!("{:>16}", "–"));
                    continue;
                }
                let decimals = if value >= 100.0 || value.fract() == 0.0 { 0 } else { 2 };
                text.push_str(format!("{:>16}", format!("{value:.decimals$} {unit}").trim_end()).as_str());
            }
        }
        text.push('\n');
        if let Some(ours) = self.bots.iter().find(|bot| bot.bot == Contestant::BotKjp.name()) {
            text.push_str("\nAims, for 2,000 families\n");
            for (what, value, aim) in [
                ("MB of heap and stacks above idle", ours.anonymous_above_idle_mb, AIM_ABOVE_IDLE_MB),
                ("s until all that waited is taken in", ours.drain_seconds, AIM_DRAIN_SECONDS),
                ("s of CPU time", ours.cpu_seconds, AIM_CPU_SECONDS),
            ] {
                let judged = if value <= aim { "met:    " } else { "NOT met:" };
                text.push_str(&format!("  {judged} at most {aim} {what}: {value:.2}\n"));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> Measurement {
        Measurement {
            bot: Contestant::BotKjp.name(),
            idle_mb: 10.0,
            idle_anonymous_mb: 1.0,
            above_idle_mb: 5.0,
            anonymous_above_idle_mb: 4.01,
            drain_seconds: 16.0,
            answered: 2,
            answer_p50_seconds: 1.0,
            answer_p99_seconds: 2.0,
            answer_last_seconds: 3.0,
            replies: 4,
            cpu_seconds: 6.3,
            written_mb: 1.0,
            stored: 6,
            sent: 6,
            out_of_order: 0,
            reconnects: 0,
        }
    }

    #[test]
    fn each_broken_promise_fails_the_run() {
        assert!(kept().expect_kept().is_ok());
        let broken: [fn(&mut Measurement); 4] =
            [|m| m.answered = 1, |m| m.stored = 5, |m| m.out_of_order = 1, |m| m.reconnects = 1];
        for (n, break_it) in broken.iter().enumerate() {
            let mut measurement = kept();
            break_it(&mut measurement);
            assert!(measurement.expect_kept().is_err(), "promise {n}");
        }
    }

    #[test]
    fn the_table_judges_each_aim_by_what_was_measured() {
        let report = Report {
            date: String::new(),
            machine: Machine::this(),
            versions: Vec::new(),
            families: 2,
            queued: 10,
            live: 2,
            pace: DEFAULT_PACE,
            bots: vec![kept()],
        };
        let table = report.table();
        let judged: Vec<bool> =
            table.lines().filter(|line| line.contains("met:")).map(|line| !line.contains("NOT")).collect();
        assert_eq!(judged, [false, true, false], "{table}");
    }

    #[test]
    fn nobody_is_in_two_families() {
        let everybody: Vec<String> =
            (0..2000).flat_map(|family| (0..PEOPLE).map(move |n| person(family, n).nik)).collect();
        let different: std::collections::HashSet<&String> = everybody.iter().collect();
        assert_eq!(different.len(), everybody.len());
    }
}
