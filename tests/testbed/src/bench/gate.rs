//! `testbed bench gate`: what a registration costs, in quantities that do not depend on the machine's mood, against
//! what was recorded; fails when one has become more than [`TOLERANCE`] worse.
//!
//! Instructions and bytes are counted by the kernel of an emulated box for the bot as it is shipped, memory as well;
//! allocations by a library before glibc's, for the tests' build on this machine (`tests/bench/count-allocations.c`): a
//! debug build makes more of them than the shipped one, but what is added to one is added to the other.
//!
//! On the box the load is that of `bench box`: it takes far longer over each message than this machine's phones do, so
//! that how many messages share a commit is a matter of the box alone. Five runs, some of them side by side with others
//! and with compilers, differed by 1 % in instructions and bytes. On this machine one customer writes and waits for
//! each answer. (Flushes are not among the quantities: how many messages share one is the one thing that differed by
//! a sixth. A commit more shows in calls and bytes all the same.)

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lexopt::prelude::*;

use super::on_box::{Place, Plan};
use super::report::date;
use super::{ANSWER, PER_CHAT_PER_SECOND, SETTLE, TOTAL_PER_SECOND, everybody_registers, progress, writers};
use crate::bot::{Bot, Settings};
use crate::interrupt::{self, wait_until};
use crate::{Options, WhatsApp};

const HELP: &str = "\
Counts what a registration costs, and compares it with what was recorded.

testbed bench gate --bot PATH --here PATH --recorded FILE [--record]

  --bot PATH          bot-kjp for aarch64 as it is shipped; a copy of it is made to know the test bed
  --here PATH         bot-kjp for this machine, built with --features danger-accept-test-bed, not static
  --recorded FILE     the figures that were recorded (tests/bench/gate.json)
  --record            write what is found into that file instead of judging it";

/// So much more than recorded is still accepted: several times what two runs of one build differ by.
const TOLERANCE: f64 = 0.05;

/// What one customer registers on this machine. Enough that the opening of the conversation and what happens every
/// minute are small beside it.
const REGISTRATIONS: usize = 100;

/// Starts on the box after which memory is looked at; the one in the middle counts. What a start leaves lying about
/// depends a little on what came at the same moment: one in eight was 6 % below the others.
const STARTS: usize = 3;

/// After logging in on the box, for work that the connection itself brings.
const REST: Duration = Duration::from_secs(10);

/// Counts allocations; a C compiler is here wherever Rust can link.
const COUNTER: &str = include_str!("../../../bench/count-allocations.c");

/// Where [`COUNTER`] finds its file.
const COUNTER_FILE: &str = "COUNT_ALLOCATIONS";

/// One quantity. The smaller the better, all of them.
#[derive(Debug)]
struct Quantity {
    /// In the file of recorded figures.
    name: &'static str,
    unit: &'static str,
    /// Where more of it comes from, and where to look.
    look: &'static str,
}

const QUANTITIES: [Quantity; 7] = [
    Quantity {
        name: "instructions_per_registration",
        unit: "",
        look: "a profile of scripts/bench says where they are spent; a flag in Cargo.toml's profiles moves them too",
    },
    Quantity {
        name: "written_bytes_per_registration",
        unit: "bytes",
        look: "pages that the kernel was made to write: more rows, more commits, larger records",
    },
    Quantity {
        name: "content_bytes_per_registration",
        unit: "bytes",
        look: "what was handed to write(2): database pages, journal, log lines",
    },
    Quantity {
        name: "writes_per_registration",
        unit: "calls",
        look: "calls of write(2) and its like: frames of the journal, wake-ups of threads",
    },
    Quantity {
        name: "allocations_per_registration",
        unit: "",
        look: "LD_PRELOAD of a profiler of the heap shows who asks; buffers that could be used again",
    },
    Quantity {
        name: "anonymous_kib_at_rest",
        unit: "KiB",
        look: "what is held while nobody writes: caches, queues, buffers of the connection",
    },
    Quantity {
        name: "file_bytes",
        unit: "bytes",
        look: "a new dependency or feature, or a profile of Cargo.toml: cargo tree -e features, cargo bloat",
    },
];

/// By name.
type Figures = BTreeMap<String, f64>;

struct Arguments {
    bot: PathBuf,
    here: PathBuf,
    recorded: PathBuf,
    record: bool,
}

/// The program; `arguments` are those behind `testbed bench gate`.
///
/// # Errors
/// When a quantity has become worse, or cannot be counted.
pub(super) fn run(arguments: lexopt::Parser) -> Result<()> {
    let Some(arguments) = parse(arguments)? else {
        println!("{HELP}");
        return Ok(());
    };
    interrupt::watch()?;
    // Before minutes go by.
    let recorded = match arguments.record {
        true => None,
        false => Some(read(&arguments.recorded)?),
    };
    let found = count(&arguments)?;
    let Some(recorded) = recorded else {
        write(&arguments.recorded, &found)?;
        println!("recorded in {}:", arguments.recorded.display());
        for (name, value) in &found {
            println!("  {name:<34}{value:>14.2}");
        }
        return Ok(());
    };
    let Judgement { table, worse } = judge(&recorded, &found)?;
    print!("{table}");
    ensure!(worse.is_empty(), "{}", complaint(&worse, &arguments.recorded));
    Ok(())
}

fn parse(mut parser: lexopt::Parser) -> Result<Option<Arguments>> {
    let (mut bot, mut here, mut recorded, mut record) = (None, None, None, false);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("bot") => bot = Some(parser.value()?.into()),
            Long("here") => here = Some(parser.value()?.into()),
            Long("recorded") => recorded = Some(parser.value()?.into()),
            Long("record") => record = true,
            Short('h') | Long("help") => return Ok(None),
            other => bail!("{}\n\n{HELP}", other.unexpected()),
        }
    }
    Ok(Some(Arguments {
        bot: bot.context("--bot PATH is missing")?,
        here: here.context("--here PATH is missing")?,
        recorded: recorded.context("--recorded FILE is missing")?,
        record,
    }))
}

fn read(file: &Path) -> Result<Figures> {
    let text = fs::read_to_string(file).with_context(|| {
        format!("nothing is recorded in {}; scripts/bench gate --record does it", file.display())
    })?;
    serde_json::from_str(&text).with_context(|| format!("{} is no object of numbers", file.display()))
}

fn write(file: &Path, figures: &Figures) -> Result<()> {
    // So few digits that a new record shows in a diff what has changed.
    let rounded: Figures =
        figures.iter().map(|(name, value)| (name.clone(), (value * 100.0).round() / 100.0)).collect();
    fs::write(file, serde_json::to_string_pretty(&rounded)? + "\n")
        .with_context(|| format!("cannot write {}", file.display()))
}

fn count(arguments: &Arguments) -> Result<Figures> {
    let place = Place::new(&arguments.bot)?;
    let mut anonymous_kib = Vec::new();
    for n in 1..=STARTS {
        progress(&format!("start {n} of {STARTS}"));
        place.restart()?;
        interrupt::pause(REST)?;
        anonymous_kib.push(place.moment()?.anonymous_kib);
    }
    anonymous_kib.sort_unstable();
    let load = place.load(Plan::USUAL)?;
    drop(place);
    let file = fs::metadata(&arguments.bot).with_context(|| format!("no {}", arguments.bot.display()))?;
    let allocations = allocations(&arguments.here)?;
    let figures = [
        ("instructions_per_registration", load.instructions),
        ("written_bytes_per_registration", load.written_bytes),
        ("content_bytes_per_registration", load.given_bytes),
        ("writes_per_registration", load.writes),
        ("allocations_per_registration", allocations),
        ("anonymous_kib_at_rest", anonymous_kib[STARTS / 2] as f64),
        ("file_bytes", file.len() as f64),
    ];
    Ok(figures.map(|(name, value)| (name.to_owned(), value)).into())
}

/// For each of the registrations, by a bot on this machine that is its own.
fn allocations(program: &Path) -> Result<f64> {
    let folder = tempfile::Builder::new().prefix("bot-kjp-gate-").tempdir()?;
    let (source, library) = (folder.path().join("count.c"), folder.path().join("count.so"));
    fs::write(&source, COUNTER)?;
    let mut compiler = Command::new("cc");
    compiler.args(["-std=gnu11", "-O2", "-shared", "-fPIC", "-o"]).arg(&library).arg(&source);
    let status = compiler.status().context("cannot run cc (Debian: gcc)")?;
    ensure!(status.success(), "cc ended with {status}");
    let path = folder.path().join("count");
    let counter = File::options().create_new(true).read(true).write(true).open(&path)?;
    counter.set_len(size_of::<u64>() as u64)?;
    let counted = || -> Result<u64> {
        let mut bytes = [0; size_of::<u64>()];
        counter.read_exact_at(&mut bytes, 0)?;
        Ok(u64::from_ne_bytes(bytes))
    };

    let server = WhatsApp::start(Options::default())?;
    let account = server.phone("bot-kjp")?;
    let settings = Settings {
        whatsapp_url: server.url(),
        per_chat_per_second: PER_CHAT_PER_SECOND,
        total_per_second: TOTAL_PER_SECOND,
        log_level: "warn",
        supabase: None,
    };
    let mut bot = Bot::new(program, folder.path(), &settings)?;
    bot.pair(&account)?;
    bot.set_environment(COUNTER_FILE, path.display().to_string());
    bot.set_environment("LD_PRELOAD", library.display().to_string());
    bot.start(&server, account.number())?;
    interrupt::pause(SETTLE)?;
    let customers = writers(&server, REGISTRATIONS, 1)?;
    progress(&format!("{REGISTRATIONS} registrations on this machine"));
    let before = counted()?;
    ensure!(
        before > 0,
        "nothing is counted: {} is static, or has an allocator of its own",
        program.display()
    );
    everybody_registers(&customers, account.number())?;
    wait_until("the bot to acknowledge every message", ANSWER, || {
        Ok((server.queue_len(account.number())? == 0).then_some(()))
    })?;
    interrupt::pause(SETTLE)?;
    Ok((counted()? - before) as f64 / REGISTRATIONS as f64)
}

/// What became of each quantity.
struct Judgement {
    table: String,
    /// Those that are too much: recorded and found.
    worse: Vec<(&'static Quantity, f64, f64)>,
}

fn judge(recorded: &Figures, found: &Figures) -> Result<Judgement> {
    let unknown: Vec<_> =
        recorded.keys().filter(|name| QUANTITIES.iter().all(|quantity| quantity.name != **name)).collect();
    ensure!(unknown.is_empty(), "recorded, but never counted: {unknown:?}; scripts/bench gate --record");
    let mut table =
        format!("\nGate of {}\n\n  {:<34}{:>14}{:>14}{:>8}\n", date(), "", "recorded", "found", "ratio");
    let mut worse = Vec::new();
    for quantity in &QUANTITIES {
        let of = |figures: &Figures, where_from: &str| {
            let figure = figures.get(quantity.name).copied().filter(|figure| *figure > 0.0);
            figure.with_context(|| {
                format!("{} is not {where_from}; scripts/bench gate --record", quantity.name)
            })
        };
        let (before, now) = (of(recorded, "recorded")?, of(found, "found")?);
        let ratio = now / before;
        let judged = if ratio > 1.0 + TOLERANCE {
            worse.push((quantity, before, now));
            "WORSE"
        } else if ratio < 1.0 - TOLERANCE {
            "better: worth recording, or it may be lost again unseen"
        } else {
            ""
        };
        let line = format!("  {:<34}{before:>14.2}{now:>14.2}{ratio:>8.3}  {judged}", quantity.name);
        writeln!(table, "{}", line.trim_end())?;
    }
    Ok(Judgement { table, worse })
}

/// Which, how much, and what to do.
fn complaint(worse: &[(&Quantity, f64, f64)], file: &Path) -> String {
    let mut text = format!("{} of {} quantities are too much.\n", worse.len(), QUANTITIES.len());
    for (Quantity { name, unit, look }, recorded, found) in worse {
        let (percent, most) = ((found / recorded - 1.0) * 100.0, TOLERANCE * 100.0);
        text.push_str(&format!(
            "  {name}: recorded {recorded:.2} {unit}, found {found:.2}, {percent:.1} % more; {most:.0} % are accepted.\n    \
             Look at {look}.\n"
        ));
    }
    text.push_str(&format!(
        "Take back what has made it so, or, when it is worth its price, record it anew and say in the commit why:\n  \
         scripts/bench gate --record    (writes {})",
        file.display()
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(value: f64) -> Figures {
        QUANTITIES.iter().map(|quantity| (quantity.name.to_owned(), value)).collect()
    }

    #[test]
    fn five_percent_more_of_any_quantity_is_accepted_and_a_little_more_than_that_is_not() {
        for Quantity { name, look, .. } in &QUANTITIES {
            let mut found = all(1_000.0);
            found.insert((*name).to_owned(), 1_050.0);
            assert!(judge(&all(1_000.0), &found).unwrap().worse.is_empty(), "{name}");
            found.insert((*name).to_owned(), 1_051.0);
            let Judgement { table, worse } = judge(&all(1_000.0), &found).unwrap();
            assert_eq!(table.matches("WORSE").count(), 1, "{table}");
            let said = complaint(&worse, Path::new("gate.json"));
            let wanted = [*name, "recorded 1000.00", "found 1051.00", "5.1 % more", look, "gate --record"];
            assert!(wanted.iter().all(|part| said.contains(part)), "{said}");
            assert_eq!(worse.len(), 1);
        }
    }

    #[test]
    fn less_is_never_refused_but_said() {
        let Judgement { table, worse } = judge(&all(1_000.0), &all(500.0)).unwrap();
        assert!(worse.is_empty());
        assert_eq!(table.matches("worth recording").count(), QUANTITIES.len(), "{table}");
    }

    #[test]
    fn a_quantity_that_is_not_recorded_not_found_or_not_known_is_an_error() {
        for Quantity { name, .. } in &QUANTITIES {
            let mut some = all(1.0);
            some.remove(*name);
            for (recorded, found) in [(&some, &all(1.0)), (&all(1.0), &some)] {
                let error = judge(recorded, found).map(|_| ()).unwrap_err().to_string();
                assert!(error.contains(name), "{error}");
            }
            // What counts nothing proves nothing.
            some.insert((*name).to_owned(), 0.0);
            assert!(judge(&all(1.0), &some).is_err(), "{name}");
        }
        let mut more = all(1.0);
        more.insert("colour".to_owned(), 1.0);
        assert!(judge(&more, &all(1.0)).map(|_| ()).unwrap_err().to_string().contains("colour"));
    }

    #[test]
    fn what_is_recorded_here_has_every_quantity() {
        let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench/gate.json");
        let recorded = read(&recorded).unwrap();
        assert!(judge(&recorded, &recorded).unwrap().worse.is_empty());
    }

    #[test]
    fn what_was_recorded_is_read_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut figures = all(3.0);
        figures.insert(QUANTITIES[0].name.to_owned(), 5_432_100.129);
        write(file.path(), &figures).unwrap();
        assert_eq!(read(file.path()).unwrap()[QUANTITIES[0].name], 5_432_100.13);
        let missing = read(Path::new("/nowhere/gate.json")).unwrap_err().to_string();
        assert!(missing.contains("gate --record"), "{missing}");
    }
}
