//! `testbed bench years`: whether age costs anything.
//!
//! *One life*: a process that is connected ten thousand times and answers a hundred thousand messages. What it holds
//! at the end (heap, anonymous memory, threads, files and sockets) must be what it held once everything had been used:
//! with less than seven bytes for each reconnect, no task, timer or entry of a map can be left by all of them.
//!
//! *Old ledgers*: the same start, the same registrations and the same pruning with an empty ledger, with that of three
//! years and with one of a million rows. None of it may grow with the age.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lexopt::prelude::*;
use rusqlite::Connection;

use super::process::Snapshot;
use super::report::{KIB_PER_MB, Machine, date, quantile, versions};
use super::{ANSWER, OPENING, PER_CHAT_PER_SECOND, SETTLE, TOTAL_PER_SECOND, Writer, progress, writers};
use crate::bot::{Bot, Settings};
use crate::customers::PEOPLE_PER_CUSTOMER;
use crate::interrupt::{self, wait_until};
use crate::{Fault, Handset, Options, WhatsApp};

const HELP: &str = "\
Measures whether age costs anything: a process that lives long, and ledgers that are old.

testbed bench years --bot PATH [--quick] [--only life|ledgers] [--reconnects N] [--folder DIR]

  --bot PATH      bot-kjp, built with --release --features danger-accept-test-bed
  --quick         less of everything, two minutes in all: shows that the bench works, proves little
  --only NAME     one of the two
  --reconnects N  of the life, after a quarter as many until everything has been used; ten messages each (10000)
  --folder DIR    where the bot keeps its data (default: a temporary folder)";

/// How much faster than the clock on the wall a bot lives where it says so: a second's wait before a reconnect is ten
/// milliseconds, and the ten seconds between two rounds of pruning are a tenth.
const SPEED_VARIABLE: &str = "BOT_KJP_TEST_SPEED";
const SPEED: u32 = 100;

/// Customers who write in a long life; each registers [`PEOPLE_PER_CUSTOMER`] people at most.
const CUSTOMERS: usize = 70;

/// Looks at what is held, evenly over a life: growth that ends is something that fills up, and no leak.
const PARTS: usize = 10;

/// Those of them who write between two reconnects.
const AT_A_TIME: usize = 10;

/// Most that may be held at the end beyond what was held after the warm-up: flat. A quick run ends while caches still
/// fill, and sees only what is far too much.
const GROWTH_KIB: f64 = 64.0;
const QUICK_GROWTH_KIB: f64 = 1024.0;

/// Registrations a day of a busy box, for three years.
const THREE_YEARS: u32 = 3 * 365 * 300;
const MILLION: u32 = 1_000_000;

/// How many times as long as with an empty ledger, or how much longer, an old one may take: what two runs of the same
/// differ by on a busy machine.
const RATIO: f64 = 1.5;
const SLACK: Duration = Duration::from_millis(300);

/// At the start the bot reads its database through for so long at most (`CHECK_TIME` of the ledger), and a larger one
/// is read for longer up to then.
const READ_THROUGH: Duration = Duration::from_secs(2);

/// How long what the last moments have left may take to go.
const AFTERWARDS: Duration = Duration::from_secs(20);

/// For a step of the bot, on a busy machine.
const STEP: Duration = Duration::from_secs(60);

/// How long a run is.
struct Extent {
    warm_up: usize,
    reconnects: usize,
    /// Name and rows of each ledger; the first is what the others are compared with.
    ledgers: Vec<(&'static str, u32)>,
    registrations: usize,
    pruning: Duration,
    /// Most that a life may hold at the end beyond what it held after the warm-up.
    growth_kib: f64,
}

impl Extent {
    fn full() -> Self {
        Self {
            warm_up: 2_500,
            reconnects: 10_000,
            ledgers: vec![("empty", 0), ("three years", THREE_YEARS), ("a million", MILLION)],
            registrations: 1_000,
            pruning: Duration::from_secs(60),
            growth_kib: GROWTH_KIB,
        }
    }

    fn quick() -> Self {
        Self {
            warm_up: 50,
            reconnects: 100,
            ledgers: vec![("empty", 0), ("20,000", 20_000), ("100,000", 100_000)],
            registrations: 100,
            pruning: Duration::from_secs(5),
            growth_kib: QUICK_GROWTH_KIB,
        }
    }
}

/// The program; `arguments` are those behind `testbed bench years`.
///
/// # Errors
/// When something grows, or somebody is not answered.
pub(super) fn run(mut parser: lexopt::Parser) -> Result<()> {
    let (mut bot, mut folder, mut only, mut quick, mut reconnects) =
        (None::<PathBuf>, None::<PathBuf>, None::<String>, false, None::<usize>);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("bot") => bot = Some(parser.value()?.into()),
            Long("folder") => folder = Some(parser.value()?.into()),
            Long("only") => only = Some(parser.value()?.string()?),
            Long("quick") => quick = true,
            Long("reconnects") => reconnects = Some(parser.value()?.parse()?),
            Short('h') | Long("help") => {
                println!("{HELP}");
                return Ok(());
            }
            other => bail!("{}\n\n{HELP}", other.unexpected()),
        }
    }
    let program = bot.context("--bot PATH is missing")?;
    ensure!(matches!(only.as_deref(), None | Some("life" | "ledgers")), "--only is life or ledgers");
    interrupt::watch()?;
    let own_folder;
    let folder = match &folder {
        Some(folder) => {
            std::fs::create_dir_all(folder)?;
            folder.as_path()
        }
        None => {
            own_folder = tempfile::Builder::new().prefix("bot-kjp-years-").tempdir()?;
            own_folder.path()
        }
    };
    let mut extent = if quick { Extent::quick() } else { Extent::full() };
    if let Some(reconnects) = reconnects {
        let most = CUSTOMERS * PEOPLE_PER_CUSTOMER / AT_A_TIME * 4 / 5;
        ensure!((PARTS..=most).contains(&reconnects), "--reconnects must be {PARTS} to {most}");
        extent = Extent { warm_up: reconnects / 4, reconnects, ..extent };
    }
    println!(
        "\nYears of {}{}\n  {}\n  {}\n",
        date(),
        if quick { ", quick" } else { "" },
        Machine::this(),
        versions(Some(&program)).join("\n  ")
    );
    if only.as_deref() != Some("ledgers") {
        one_life(&program, folder, &extent)?;
    }
    if only.as_deref() != Some("life") {
        old_ledgers(&program, folder, &extent)?;
    }
    Ok(())
}

/// WhatsApp's side, and a bot that is linked and off, with a status page.
struct Stage {
    server: WhatsApp,
    account: Handset,
    bot: Bot,
    page: SocketAddr,
    _home: tempfile::TempDir,
}

impl Stage {
    fn new(program: &Path, folder: &Path) -> Result<Self> {
        let server = WhatsApp::start(Options::default())?;
        let account = server.phone("bot-kjp")?;
        let home = tempfile::Builder::new().prefix("years").tempdir_in(folder)?;
        let settings = Settings {
            whatsapp_url: server.url(),
            per_chat_per_second: PER_CHAT_PER_SECOND,
            total_per_second: TOTAL_PER_SECOND,
            log_level: "error",
            supabase: None,
        };
        let bot = Bot::new(program, home.path(), &settings)?;
        // Free until the bot takes it: nobody else on this machine asks for that one by number.
        let page = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        bot.configure(&format!(
            "\n[health]\nlisten = '{page}'\n\
             [connection]\nbackoff = ['1s']\nstable = '1s'\nattempts_per_hour = 3600\n"
        ))?;
        bot.pair(&account)?;
        account.set_online(false);
        Ok(Self { server, account, bot, page, _home: home })
    }

    /// Lets the bot live faster from its next start on.
    fn hurry(&mut self) {
        self.bot.set_environment(SPEED_VARIABLE, SPEED.to_string());
    }

    fn start(&mut self) -> Result<Duration> {
        let begun = Instant::now();
        self.bot.start(&self.server, self.account.number())?;
        Ok(begun.elapsed())
    }

    fn stop(&mut self) -> Result<()> {
        self.bot.stop(&self.server, self.account.number())
    }

    /// Cuts the connection and waits for the next one.
    fn reconnect(&self) -> Result<()> {
        let number = self.account.number();
        let before = self.server.logins(number)?;
        self.server.fault_on(number, Fault::Drop)?;
        wait_until("the bot to log in again", STEP, || {
            Ok((self.server.logins(number)? > before).then_some(()))
        })
    }

    /// The numbers of the page for Prometheus, by name and labels.
    fn metrics(&self) -> Result<BTreeMap<String, f64>> {
        let mut stream = TcpStream::connect_timeout(&self.page, STEP).context("the status page")?;
        stream.set_read_timeout(Some(STEP))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text
            .lines()
            .filter(|line| line.starts_with("bot_kjp_"))
            .filter_map(|line| {
                let (name, value) = line.rsplit_once(' ')?;
                Some((name.to_owned(), value.parse().ok()?))
            })
            .collect())
    }
}

/// What a process holds.
#[derive(Debug, Clone, Copy)]
struct Holdings {
    heap_kib: f64,
    anonymous_kib: f64,
    threads: u64,
    /// Files, sockets, pipes.
    descriptors: usize,
}

impl Holdings {
    fn of(stage: &Stage) -> Result<Self> {
        let pid = stage.bot.pid()?;
        let snapshot = Snapshot::of(pid)?;
        let heap = stage.metrics()?.get("bot_kjp_heap_bytes").copied();
        Ok(Self {
            heap_kib: heap.context("this build does not count its heap")? / 1024.0,
            anonymous_kib: snapshot.anonymous_kib as f64,
            threads: snapshot.threads,
            descriptors: std::fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
        })
    }

    fn print(&self, reconnects: usize, messages: usize) {
        let Self { heap_kib, anonymous_kib, threads, descriptors } = self;
        println!(
            "  {reconnects:>12}{messages:>12}{heap_kib:>16.0}{anonymous_kib:>20.0}{threads:>12}{descriptors:>12}"
        );
    }

    fn has_grown_since(&self, before: &Self, most_kib: f64) -> bool {
        self.heap_kib > before.heap_kib + most_kib
            || self.anonymous_kib > before.anonymous_kib + most_kib
            || self.threads > before.threads
            || self.descriptors > before.descriptors
    }
}

fn one_life(program: &Path, folder: &Path, extent: &Extent) -> Result<()> {
    let mut stage = Stage::new(program, folder)?;
    stage.hurry();
    stage.start()?;
    let customers = writers(&stage.server, CUSTOMERS * PEOPLE_PER_CUSTOMER, CUSTOMERS)?;
    let bot = stage.account.number();
    for Writer { phone, .. } in &customers {
        for text in OPENING {
            ask(phone, bot, text)?;
        }
    }
    // All that can be registered, in turns: between two reconnects nobody writes twice.
    let mut people = (0..PEOPLE_PER_CUSTOMER).flat_map(|n| customers.iter().map(move |writer| (writer, n)));
    let (mut messages, begun) = (CUSTOMERS * OPENING.len(), Instant::now());
    let mut round = |reconnects: usize, messages: &mut usize| -> Result<()> {
        for _ in 0..reconnects {
            stage.reconnect()?;
            let asked: Vec<(&Writer, usize)> = people
                .by_ref()
                .take(AT_A_TIME)
                .map(|(writer, n)| {
                    let shown = writer.phone.count_shown();
                    writer
                        .phone
                        .send_text(bot, &writer.customer.registration_text(n))
                        .map(|_| (writer, shown))
                })
                .collect::<Result<_>>()?;
            for (writer, shown) in &asked {
                writer.phone.wait_for_more(*shown, ANSWER)?;
            }
            *messages += asked.len();
            interrupt::check()?;
        }
        Ok(())
    };
    progress(&format!("one life: {} reconnects until everything has been used", extent.warm_up));
    round(extent.warm_up, &mut messages)?;
    interrupt::pause(SETTLE)?;
    let before = Holdings::of(&stage)?;
    println!(
        "One life\n\n  {:>12}{:>12}{:>16}{:>20}{:>12}{:>12}",
        "reconnects", "messages", "heap, KiB", "RssAnon, KiB", "threads", "files"
    );
    before.print(extent.warm_up, messages);
    let mut after = before;
    for part in 1..=PARTS {
        round(extent.reconnects / PARTS, &mut messages)?;
        interrupt::pause(SETTLE)?;
        after = Holdings::of(&stage)?;
        after.print(extent.warm_up + part * (extent.reconnects / PARTS), messages);
    }
    // What a moment has left may go with the next one.
    let until = Instant::now() + AFTERWARDS;
    while after.has_grown_since(&before, extent.growth_kib) && Instant::now() < until {
        interrupt::pause(SETTLE)?;
        after = Holdings::of(&stage)?;
    }
    let flat = !after.has_grown_since(&before, extent.growth_kib);
    println!(
        "\n  {:.0} KiB of heap and {:.0} KiB of anonymous memory more, in {:.0} s and {} connections\n  {} at most {} KiB \
         more, and not one thread or file",
        after.heap_kib - before.heap_kib,
        after.anonymous_kib - before.anonymous_kib,
        begun.elapsed().as_secs_f64(),
        stage.server.logins(bot)?,
        judged(flat),
        extent.growth_kib
    );
    stage.stop()?;
    print_fill(&stage.bot.database())?;
    ensure!(flat, "what a long life leaves behind has grown");
    Ok(())
}

/// How full everything is that `src/bounds.rs` lists. Tables are counted; what lies in memory is in the figure for the
/// heap, and nobody outside can tell its parts.
fn print_fill(database: &Path) -> Result<()> {
    let database = Connection::open(database)?;
    let tables = database
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")?
        .query_map([], |row| row.get::<_, String>(0))?
        .collect::<Result<Vec<_>, _>>()?;
    println!("\n  {:<32}{:>10}   bound", "", "rows");
    for Bound { what, place } in bounds()? {
        let rows = if tables.contains(&what) {
            let rows = database
                .query_row(&format!("SELECT count(*) FROM \"{what}\""), [], |row| row.get::<_, i64>(0))?;
            rows.to_string()
        } else {
            "–".to_owned()
        };
        println!("  {what:<32}{rows:>10}   {place}");
    }
    Ok(())
}

/// One line of `src/bounds.rs`.
struct Bound {
    what: String,
    /// Constant, its value as it is written, and its file.
    place: String,
}

/// Read from the sources, because the bot's own list is not part of its file.
fn bounds() -> Result<Vec<Bound>> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src");
    let list = std::fs::read_to_string(src.join("bounds.rs")).context("src/bounds.rs")?;
    let (_, list) = list.split_once("pub const BOUNDS").context("src/bounds.rs has no list")?;
    let (list, _) = list.split_once("\n];").context("the list of src/bounds.rs has no end")?;
    let mut bounds = Vec::new();
    for (at, kind) in list.match_indices("bound(").chain(list.match_indices("own(")) {
        let mut texts = list[at..].split('"').skip(1).step_by(2);
        let what = texts.next().unwrap_or_default().to_owned();
        let place = match (kind, texts.next(), texts.next()) {
            ("bound(", Some(file), Some(constant)) => {
                let source = std::fs::read_to_string(src.join(file)).with_context(|| file.to_owned())?;
                let declared = format!("const {constant}: ");
                let (_, value) =
                    source.split_once(&declared).with_context(|| format!("{file} has no {constant}"))?;
                let value = value.split_once('=').and_then(|(_, value)| value.split_once(';'));
                format!("{constant} = {} ({file})", value.map_or("?", |(value, _)| value.trim()))
            }
            _ => "the account's own".to_owned(),
        };
        bounds.push((at, Bound { what, place }));
    }
    bounds.sort_by_key(|(at, _)| *at);
    Ok(bounds.into_iter().map(|(_, bound)| bound).collect())
}

/// Sends, and waits until there is an answer.
fn ask(phone: &Handset, bot: &str, text: &str) -> Result<Duration> {
    let (shown, sent) = (phone.count_shown(), Instant::now());
    phone.send_text(bot, text)?;
    phone.wait_for_more(shown, ANSWER)?;
    Ok(sent.elapsed())
}

fn judged(met: bool) -> &'static str {
    if met { "met:    " } else { "NOT met:" }
}

/// What one ledger costs.
struct Cost {
    name: &'static str,
    megabytes: f64,
    start: Duration,
    p50: Duration,
    p99: Duration,
    cpu_each: Duration,
    anonymous_kib: u64,
    /// While old rows are forgotten.
    pruning_p50: Duration,
    pruning_p99: Duration,
    /// Rows that were forgotten meanwhile.
    pruned: f64,
}

fn old_ledgers(program: &Path, folder: &Path, extent: &Extent) -> Result<()> {
    let mut costs = Vec::new();
    for (name, rows) in &extent.ledgers {
        costs.push(
            cost(program, folder, name, *rows, extent).with_context(|| format!("the ledger \"{name}\""))?,
        );
    }
    println!("\nOld ledgers: {} registrations, one after the other\n", extent.registrations);
    let line = |what: &str, value: &dyn Fn(&Cost) -> String| {
        let values: String = costs.iter().map(|cost| format!("{:>14}", value(cost))).collect();
        println!("  {what:<40}{values}");
    };
    let ms = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1000.0);
    line("", &|cost| cost.name.to_owned());
    line("size of the database", &|cost| format!("{:.1} MB", cost.megabytes));
    line("from start to online", &|cost| ms(cost.start));
    line("answer, median", &|cost| ms(cost.p50));
    line("answer, 99 %", &|cost| ms(cost.p99));
    line("CPU time of a registration", &|cost| ms(cost.cpu_each));
    line("heap and stacks after it (RssAnon)", &|cost| {
        format!("{:.2} MB", cost.anonymous_kib as f64 / KIB_PER_MB)
    });
    line("answer while rows are forgotten, median", &|cost| ms(cost.pruning_p50));
    line("answer while rows are forgotten, 99 %", &|cost| ms(cost.pruning_p99));
    line("rows forgotten meanwhile", &|cost| format!("{:.0}", cost.pruned));
    println!();
    let (fresh, old) = costs.split_first().context("no ledger")?;
    let mut grown = Vec::new();
    for cost in old {
        let times: [(&str, Duration, Duration, Duration); 4] = [
            ("start", fresh.start, cost.start, READ_THROUGH + SLACK),
            ("answer, median", fresh.p50, cost.p50, SLACK),
            ("answer, 99 %", fresh.p99, cost.p99, SLACK),
            ("CPU time of a registration", fresh.cpu_each, cost.cpu_each, Duration::ZERO),
        ];
        for (what, young, aged, slack) in times {
            if aged > young.mul_f64(RATIO) + slack {
                grown.push(format!("{what} with \"{}\": {} instead of {}", cost.name, ms(aged), ms(young)));
            }
        }
    }
    println!("  {} nothing grows with the age (more than {RATIO} times)", judged(grown.is_empty()));
    ensure!(grown.is_empty(), "age costs: {}", grown.join("; "));
    Ok(())
}

fn cost(program: &Path, folder: &Path, name: &'static str, rows: u32, extent: &Extent) -> Result<Cost> {
    let mut stage = Stage::new(program, folder)?;
    // So that all tables are there, and the bot has been used once.
    stage.start()?;
    let customers = writers(&stage.server, 2 * extent.registrations, 1)?;
    let [Writer { phone, customer, .. }] = &customers[..] else { bail!("one customer") };
    let bot = stage.account.number().to_owned();
    for text in OPENING {
        ask(phone, &bot, text)?;
    }
    stage.stop()?;
    progress(&format!("a ledger of {rows} rows"));
    let database = stage.bot.database();
    age(&database, rows)?;
    let megabytes = std::fs::metadata(&database)?.len() as f64 / 1e6;

    let start = stage.start()?;
    interrupt::pause(SETTLE)?;
    let begun = Snapshot::of(stage.bot.pid()?)?;
    let register = |from: usize, many: usize| -> Result<Vec<Duration>> {
        let mut times = (from..from + many)
            .map(|n| ask(phone, &bot, &customer.registration_text(n)))
            .collect::<Result<Vec<_>>>()?;
        times.sort();
        Ok(times)
    };
    let times = register(0, extent.registrations)?;
    let after = Snapshot::of(stage.bot.pid()?)?;

    // Everything that is old may go now.
    stage.stop()?;
    let confirmed = deliver(&database)?;
    stage.hurry();
    stage.start()?;
    let (pruning, mut n, mut pruned_times) = (Instant::now(), extent.registrations, Vec::new());
    while pruning.elapsed() < extent.pruning && n < 2 * extent.registrations {
        pruned_times.extend(register(n, 1)?);
        n += 1;
    }
    interrupt::pause(extent.pruning.saturating_sub(pruning.elapsed()))?;
    pruned_times.sort();
    let left = stage.metrics()?.get("bot_kjp_registrations{state=\"confirmed\"}").copied();
    let pruned = f64::from(confirmed) - left.context("the page does not count registrations")?;
    ensure!(rows == 0 || pruned > 0.0, "nothing was forgotten in {:?}", extent.pruning);
    let cpu = after.cpu_seconds - begun.cpu_seconds;
    Ok(Cost {
        name,
        megabytes,
        start,
        p50: quantile(&times, 0.5),
        p99: quantile(&times, 0.99),
        cpu_each: Duration::from_secs_f64(cpu / extent.registrations as f64),
        anonymous_kib: after.anonymous_kib,
        pruning_p50: quantile(&pruned_times, 0.5),
        pruning_p99: quantile(&pruned_times, 0.99),
        pruned,
    })
}

/// Adds registrations of the last three years, evenly, and the people whose they are; Supabase has none of them yet,
/// so that all are kept.
fn age(database: &Path, rows: u32) -> Result<()> {
    let mut database = Connection::open(database)?;
    let tx = database.transaction()?;
    let numbers = format!("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})");
    if rows > 0 {
        let when = format!("unixepoch() - 86400 * (40 + 1055 * (n.i - 1) / {rows})");
        tx.execute(
            &format!(
                "{numbers} INSERT INTO registration (row_key, day, received_at, sender, sender_name, message_id,
                    message_index, nama, name_canonical, no_kjp, jenis_kartu, no_ktp, no_kk, lokasi)
                 SELECT randomblob(16), date({when}, 'unixepoch', '+7 hours'), {when},
                    '62811' || printf('%08d', i % 20000), 'Ani', hex(randomblob(9)), 0, 'Ani Lestari ' || i,
                    'ani lestari ' || i, '50494885' || printf('%010d', i), 'KJP',
                    '32' || printf('%014d', i), '33' || printf('%014d', i), 'FOODSTATION'
                 FROM n"
            ),
            [],
        )?;
        tx.execute(
            &format!(
                "{numbers} INSERT OR IGNORE INTO person (phone, seen_at)
                 SELECT '62811' || printf('%08d', i), unixepoch() - 86400 FROM n WHERE i < 20000"
            ),
            [],
        )?;
    }
    tx.commit()?;
    Ok(())
}

/// Supabase has everything now. Gives the number of registrations.
fn deliver(database: &Path) -> Result<u32> {
    let database = Connection::open(database)?;
    database.execute("UPDATE registration SET sync_state = 'confirmed', sync_at = received_at", [])?;
    Ok(database.query_row("SELECT count(*) FROM registration", [], |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_bounds_is_read_with_the_value_of_each() {
        let bounds = bounds().unwrap();
        let place = |what: &str| &bounds.iter().find(|bound| bound.what == what).unwrap().place;
        assert!(
            place("outbox").starts_with("CAPACITY = ") && place("outbox").ends_with("(ledger/outbox.rs)")
        );
        assert_eq!(place("known_time"), "the account's own");
        assert!(bounds.len() > 50 && bounds.iter().all(|bound| !bound.place.contains('?')));
    }

    #[test]
    fn a_thread_a_file_or_sixty_five_kib_more_is_growth_and_sixty_four_are_not() {
        let before = Holdings { heap_kib: 100.0, anonymous_kib: 1000.0, threads: 2, descriptors: 9 };
        let same = Holdings { heap_kib: 164.0, anonymous_kib: 1064.0, ..before };
        assert!(!same.has_grown_since(&before, GROWTH_KIB));
        for more in [
            Holdings { heap_kib: 165.0, ..before },
            Holdings { anonymous_kib: 1065.0, ..before },
            Holdings { threads: 3, ..before },
            Holdings { descriptors: 10, ..before },
        ] {
            assert!(more.has_grown_since(&before, GROWTH_KIB), "{more:?}");
        }
    }
}
