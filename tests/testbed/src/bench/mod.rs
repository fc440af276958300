//! `testbed bench`: bot-kjp and a minimal Baileys bot under the same load, on the same server, one
//! after the other.
//!
//! Closed loop: every customer sends the next message when the answer to the last one is on the
//! phone. The test bed and its phones run on the same machine and take their share of it, so rates
//! and latencies compare the two bots; memory and CPU seconds are each bot's own.
//!
//! The run fails when a bot's database does not hold exactly the people that were sent.
//!
//! `testbed bench storm` measures an outage instead: see [`storm`]; `testbed bench box` what the bot
//! takes of an emulated box: see [`on_box`]; `testbed bench crowd` more people at once than replies can
//! leave: see [`crowd`]; `testbed bench morning` what has gathered in a night: see [`morning`]; `testbed bench years` whether age costs anything: see [`years`]; `testbed bench gate` whether a registration costs more than was recorded: see [`gate`].

mod baileys;
mod crowd;
mod gate;
mod morning;
mod on_box;
mod process;
mod report;
mod storm;
mod years;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lexopt::prelude::*;
use rusqlite::Connection;

use crate::bot::{Bot, DatabaseCopy, Settings, copy_database};
use crate::customers::{CUSTOMERS_PER_SEED, Customer, PEOPLE_PER_CUSTOMER};
use crate::interrupt::{self, wait_until};
use crate::{Handset, Options, WhatsApp};
use baileys::{BaileysBot, Place};
use process::Snapshot;
use report::{Measurement, Plan, Report};

const HELP: &str = "\
Measures bot-kjp against a minimal bot on Baileys, under the same load on the same server.

testbed bench --bot PATH [--registrations N] [--customers N] [--idle SECONDS] [--json]
              [--only bot-kjp|baileys] [--folder DIR]
testbed bench storm […]                 measures an outage; see testbed bench storm --help
testbed bench box […]                   measures bot-kjp on an emulated box; see testbed bench box --help
testbed bench crowd […]                 more people than replies can leave; see testbed bench crowd --help
testbed bench morning […]               what has gathered in a night; see testbed bench morning --help
testbed bench years […]                 whether age costs anything; see testbed bench years --help
testbed bench gate […]                  whether a registration costs more than recorded; see testbed bench gate --help

  --bot PATH          bot-kjp, built with --release --features danger-accept-test-bed
  --registrations N   people to register, one per message (default 1000)
  --customers N       customers who write at the same time (default 20, at most 140)
  --idle SECONDS      how long the connected bots are watched doing nothing (default 30)
  --only NAME         measure one of the two
  --folder DIR        where the bots keep their data (default: a temporary folder); should be on a
                      disk, or bytes written are not counted
  --json              print JSON instead of the table";

/// How long a connected bot is watched doing nothing.
const IDLE: Duration = Duration::from_secs(30);

/// After logging in, for work that the connection itself brings (key upload, first sync), and after
/// the last answer, for what is left behind it (receipts, acknowledgements).
const SETTLE: Duration = Duration::from_secs(3);

/// Longest wait for one answer before the run fails.
const ANSWER: Duration = Duration::from_secs(60);

/// bot-kjp's pacing at its upper bounds (`outbox.*` in its configuration).
const PER_CHAT_PER_SECOND: u32 = 100;
const TOTAL_PER_SECOND: u32 = 1000;

/// Both bots register the same people, each in a database of its own.
const SEED: u64 = 1;

/// Chooses registration, then Foodstation, at either bot.
const OPENING: [&str; 2] = ["1", "3"];

/// The two contestants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contestant {
    BotKjp,
    Baileys,
}

impl Contestant {
    const fn name(self) -> &'static str {
        match self {
            Self::BotKjp => "bot-kjp",
            Self::Baileys => "Baileys bot",
        }
    }

    /// As the option `--only` names them.
    fn named(name: &str) -> Result<Self> {
        match name {
            "bot-kjp" => Ok(Self::BotKjp),
            "baileys" => Ok(Self::Baileys),
            other => bail!("--only {other}: neither bot-kjp nor baileys"),
        }
    }
}

struct Arguments {
    bot: Option<PathBuf>,
    registrations: usize,
    customers: usize,
    idle: Duration,
    only: Option<Contestant>,
    folder: Option<PathBuf>,
    json: bool,
}

/// The program; `arguments` are those behind `testbed bench`.
///
/// # Errors
/// When a bot does not start, does not answer or loses a registration.
pub fn run(mut arguments: lexopt::Parser) -> Result<()> {
    let mut asked_for = |name: &str| {
        arguments.try_raw_args().is_some_and(|mut raw| raw.next_if(|word| word == name).is_some())
    };
    if asked_for("storm") {
        return storm::run(arguments);
    }
    if asked_for("box") {
        return on_box::run(arguments);
    }
    if asked_for("crowd") {
        return crowd::run(arguments);
    }
    if asked_for("morning") {
        return morning::run(arguments);
    }
    if asked_for("years") {
        return years::run(arguments);
    }
    if asked_for("gate") {
        return gate::run(arguments);
    }
    let Some(arguments) = parse(arguments)? else {
        println!("{HELP}");
        return Ok(());
    };
    interrupt::watch()?;
    let report = measure_all(&arguments)?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.table());
    }
    Ok(())
}

fn parse(mut parser: lexopt::Parser) -> Result<Option<Arguments>> {
    let mut arguments = Arguments {
        bot: None,
        registrations: 1000,
        customers: 20,
        idle: IDLE,
        only: None,
        folder: None,
        json: false,
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Long("bot") => arguments.bot = Some(parser.value()?.into()),
            Long("registrations") => arguments.registrations = parser.value()?.parse()?,
            Long("customers") => arguments.customers = parser.value()?.parse()?,
            Long("idle") => arguments.idle = Duration::from_secs(parser.value()?.parse()?),
            Long("folder") => arguments.folder = Some(parser.value()?.into()),
            Long("json") => arguments.json = true,
            Long("only") => {
                arguments.only = Some(Contestant::named(&parser.value()?.string()?)?);
            }
            Short('h') | Long("help") => return Ok(None),
            other => bail!("{}\n\n{HELP}", other.unexpected()),
        }
    }
    let Arguments { registrations, customers, .. } = arguments;
    ensure!((1..=CUSTOMERS_PER_SEED).contains(&customers), "--customers must be 1 to {CUSTOMERS_PER_SEED}");
    ensure!(
        registrations >= customers,
        "{customers} customers register somebody each: --registrations is less"
    );
    let most = PEOPLE_PER_CUSTOMER * customers;
    ensure!(registrations <= most, "{customers} customers have at most {most} people to register");
    Ok(Some(arguments))
}

fn measure_all(arguments: &Arguments) -> Result<Report> {
    let own_folder;
    let folder = match &arguments.folder {
        Some(folder) => {
            std::fs::create_dir_all(folder)?;
            folder.as_path()
        }
        None => {
            own_folder = tempfile::Builder::new().prefix("bot-kjp-bench-").tempdir()?;
            own_folder.path()
        }
    };
    let server = WhatsApp::start(Options::default())?;
    let customers = writers(&server, arguments.registrations, arguments.customers)?;
    let load = Load { server: &server, customers, idle: arguments.idle };
    let mut measurements = Vec::new();
    for contestant in [Contestant::BotKjp, Contestant::Baileys] {
        if arguments.only.is_some_and(|only| only != contestant) {
            continue;
        }
        // A folder of its own each time, so that a second run in the same place starts afresh.
        let home = tempfile::Builder::new().prefix(contestant.name()).tempdir_in(folder)?;
        let measured = match contestant {
            Contestant::BotKjp => {
                let program = arguments.bot.as_deref().context("--bot PATH is missing")?;
                load.measure_bot_kjp(program, home.path())
            }
            Contestant::Baileys => load.measure_baileys(home.path()),
        };
        measurements.push(measured.with_context(|| format!("measuring the {}", contestant.name()))?);
    }
    let plan = Plan {
        registrations: arguments.registrations,
        customers: arguments.customers,
        idle_seconds: arguments.idle.as_secs(),
        per_chat_per_second: PER_CHAT_PER_SECOND,
        total_per_second: TOTAL_PER_SECOND,
    };
    Ok(Report::new(plan, measurements, arguments.bot.as_deref()))
}

/// How many of `registrations` the `n`th customer sends: as many as the others, or one more.
fn share(registrations: usize, customers: usize, n: usize) -> usize {
    registrations / customers + usize::from(n < registrations % customers)
}

/// A customer with a phone.
struct Writer {
    phone: Handset,
    customer: Customer,
    /// How many people this one registers.
    people: usize,
}

/// So many customers with their phones, who register so many people together.
fn writers(server: &WhatsApp, registrations: usize, customers: usize) -> Result<Vec<Writer>> {
    (0..customers)
        .map(|n| {
            let customer = Customer::of_seed(SEED, n);
            let people = share(registrations, customers, n);
            Ok(Writer { phone: server.phone(customer.name())?, customer, people })
        })
        .collect()
}

/// Every customer on a thread of its own; gives all latencies.
fn everybody_registers(customers: &[Writer], bot: &str) -> Result<Vec<Duration>> {
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            customers.iter().map(|writer| scope.spawn(move || converse(writer, bot))).collect();
        let mut latencies = Vec::new();
        for thread in threads {
            latencies.extend(thread.join().expect("a customer's thread does not panic")?);
        }
        Ok(latencies)
    })
}

/// What both bots are put through.
struct Load<'a> {
    server: &'a WhatsApp,
    customers: Vec<Writer>,
    idle: Duration,
}

impl Load<'_> {
    fn measure_bot_kjp(&self, program: &Path, folder: &Path) -> Result<Measurement> {
        let account = self.server.phone("bot-kjp")?;
        let settings = Settings {
            whatsapp_url: self.server.url(),
            per_chat_per_second: PER_CHAT_PER_SECOND,
            total_per_second: TOTAL_PER_SECOND,
            log_level: "warn",
            supabase: None,
        };
        let mut bot = Bot::new(program, folder, &settings)?;
        progress("linking bot-kjp");
        bot.pair(&account)?;
        bot.start(self.server, account.number())?;
        self.measure(Contestant::BotKjp, &account, bot.pid()?, &bot.database())
    }

    fn measure_baileys(&self, folder: &Path) -> Result<Measurement> {
        let account = self.server.phone("Baileys bot")?;
        progress("linking the Baileys bot");
        let place = Place::beside(self.server);
        BaileysBot::link(self.server, &account, folder, &place)?;
        let bot = BaileysBot::start(self.server, &account, folder, &place)?;
        self.measure(Contestant::Baileys, &account, bot.pid(), &bot.database())
    }

    fn measure(
        &self,
        contestant: Contestant,
        account: &Handset,
        pid: u32,
        database: &Path,
    ) -> Result<Measurement> {
        interrupt::pause(SETTLE)?;
        let connected = Snapshot::of(pid)?;
        progress(&format!("{}: idle for {} s", contestant.name(), self.idle.as_secs()));
        interrupt::pause(self.idle)?;
        let idle = Snapshot::of(pid)?;

        let registrations: usize = self.customers.iter().map(|writer| writer.people).sum();
        progress(&format!("{}: {registrations} registrations", contestant.name()));
        let started = Instant::now();
        let latencies = everybody_registers(&self.customers, account.number())?;
        let took = started.elapsed();
        wait_until("the bot to acknowledge every message", ANSWER, || {
            Ok((self.server.queue_len(account.number())? == 0).then_some(()))
        })?;
        interrupt::pause(SETTLE)?;
        let loaded = Snapshot::of(pid)?;

        let DatabaseCopy { connection, .. } = &copy_database(database)?;
        let rows = self.expect_rows(connection, contestant)?;
        Ok(Measurement::new(contestant.name(), rows, took, latencies, [connected, idle, loaded]))
    }

    /// The people in the database must be those that were sent: none lost, none invented.
    fn expect_rows(&self, database: &Connection, contestant: Contestant) -> Result<usize> {
        let mut stored = people_in(database, contestant)?;
        let people = |Writer { customer, people, .. }: &Writer| -> Vec<String> {
            (0..*people).map(|n| customer.person(n).nik).collect()
        };
        let mut sent: Vec<String> = self.customers.iter().flat_map(people).collect();
        sent.sort();
        stored.sort();
        ensure!(
            stored == sent,
            "the database of {} holds {} people, sent and confirmed were {}",
            contestant.name(),
            stored.len(),
            sent.len()
        );
        Ok(stored.len())
    }
}

/// The NIKs of all registrations.
fn people_in(database: &Connection, contestant: Contestant) -> Result<Vec<String>> {
    let column = match contestant {
        Contestant::BotKjp => "no_ktp",
        Contestant::Baileys => "nik",
    };
    let mut select = database.prepare(&format!("SELECT {column} FROM registration"))?;
    let people = select.query_map([], |row| row.get(0))?;
    Ok(people.collect::<Result<_, _>>()?)
}

/// One customer's whole conversation: time from handing each message to the phone until the answer
/// is on its screen.
fn converse(Writer { phone, customer, people }: &Writer, bot: &str) -> Result<Vec<Duration>> {
    let opening = OPENING.into_iter().map(|text| (text.to_owned(), None));
    let people = (0..*people).map(|n| (customer.registration_text(n), Some(customer.person(n).nama)));
    // Two bots write to the same phones, so answers of the other one may be there already.
    let mut seen: HashSet<String> = phone.shown().into_iter().map(|shown| shown.id).collect();
    let mut latencies = Vec::new();
    for (text, nama) in opening.chain(people) {
        interrupt::check()?;
        let sent = Instant::now();
        phone.send_text(bot, &text)?;
        let answer = phone.wait_for(|shown| shown.from == bot && !seen.contains(&shown.id), ANSWER)?;
        latencies.push(sent.elapsed());
        seen.insert(answer.id);
        if let Some(nama) = nama {
            ensure!(answer.text.contains(&nama), "{nama} was sent, the answer was:\n{}", answer.text);
        }
    }
    Ok(latencies)
}

/// What goes on, for the person who waits; not part of the result.
fn progress(text: &str) {
    eprintln!("bench: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_customers_shares_the_registrations_evenly() {
        for customers in 1..=CUSTOMERS_PER_SEED {
            let arguments = lexopt::Parser::from_args(["--customers".to_owned(), customers.to_string()]);
            let Arguments { registrations, customers, .. } = parse(arguments).unwrap().unwrap();
            let shares: Vec<usize> = (0..customers).map(|n| share(registrations, customers, n)).collect();
            assert_eq!(shares.iter().sum::<usize>(), registrations);
            assert!(shares[0] - shares[customers - 1] <= 1 && shares[customers - 1] > 0, "{shares:?}");
        }
    }

    #[test]
    fn what_the_customers_cannot_register_is_refused() {
        let most = (PEOPLE_PER_CUSTOMER * 2).to_string();
        let too_many = (PEOPLE_PER_CUSTOMER * 2 + 1).to_string();
        let accepts = |customers: &str, registrations: &str| {
            let arguments = ["--customers", customers, "--registrations", registrations];
            parse(lexopt::Parser::from_args(arguments)).is_ok()
        };
        assert!(accepts("2", &most) && !accepts("2", &too_many));
        assert!(!accepts("0", "1000") && !accepts("141", "1000") && !accepts("10", "9"));
    }
}
