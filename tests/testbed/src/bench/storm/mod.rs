//! `testbed bench storm`: the same outages for bot-kjp and a minimal Baileys bot, in one run.
//!
//! Each bot has a home line of its own, built alike: two network namespaces with a cable between
//! them, a router and three public resolvers that answer DNS, and WhatsApp's server on a public
//! address under the test authority ([`home`]). Both live through an outage at the same time, but
//! share nothing except this machine, so that everything counted belongs to one of them ([`wire`]).
//!
//! Meanwhile customers register people; the server keeps what it cannot deliver, as WhatsApp does.
//! After the outage every one of them must be answered and stand in the bot's database ([`ordeal`]).

mod home;
mod ordeal;
mod report;
mod wire;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lexopt::prelude::*;
use serde::Serialize;

use super::{Contestant, progress};
use crate::customers::CUSTOMERS_PER_SEED;
use crate::interrupt;
use home::ANSWERS_LIVE;
use report::{Endured, Plan, Report};

const HELP: &str = "\
Puts bot-kjp and a minimal Baileys bot through the same outages, in one run. Needs root.

testbed bench storm --bot PATH [--scenario dns|wan|line] [--dns nxdomain|silence] [--outage SECONDS]
                    [--dns-delay MS] [--registrations N] [--customers N] [--baileys-wait MS]
                    [--only bot-kjp|baileys] [--folder DIR] [--json]

  --bot PATH          bot-kjp, built with --release --features danger-accept-test-bed
  --scenario NAME     one of the three (default: all, one after the other)
                      dns   WhatsApp cuts the connection, and DNS is dead everywhere; WhatsApp
                            itself can be reached all the time
                      wan   WhatsApp cuts the connection, and DNS is dead at the router; nothing
                            gets to WhatsApp or to any other DNS server
                      line  all packets vanish, to the router and beyond; WhatsApp takes the
                            connection for lost
  --dns KIND          how DNS is dead in the first two (default nxdomain, as in the old bot's outage)
                      nxdomain  a server says that there is no such name
                      silence   it never answers
  --dns-delay MS      how long a dead server takes to say so (default 20, at most 1000); a bot that
                      tries again at once does so the more often the faster it is
  --outage SECONDS    how long (default 300, 60 to 3600)
  --registrations N   people that customers register during each outage (default 20, at most 1000)
  --customers N       customers who write them (default 5, at most 140)
  --baileys-wait MS   pause between the end of a connection and the next one in the Baileys bot
                      (default 0: at once, as in the example that bots are made from)
  --only NAME         measure one of the two bots
  --folder DIR        where the bots keep their data (default: a temporary folder)
  --json              print JSON instead of the table";

/// An outage by default.
const OUTAGE: Duration = Duration::from_secs(300);

/// Longer than any cache may hold what DNS said before, so that DNS is dead for most of it.
const SHORTEST_OUTAGE: Duration = Duration::from_secs(2 * ANSWERS_LIVE as u64);

/// bot-kjp remembers its tries for an hour, which is where they are counted.
const LONGEST_OUTAGE: Duration = Duration::from_secs(3600);

/// A round trip from a home to the provider's resolver, assumed. Without it a server on this machine
/// answers in a fraction of a millisecond, as no resolver does.
const DNS_DELAY: Duration = Duration::from_millis(20);

/// Longer takes no resolver whose answer is of use: getaddrinfo(3) asks again after 5 s.
const LONGEST_DNS_DELAY: Duration = Duration::from_secs(1);

/// Each is looked for again and again on the screen that it shall be answered on.
const MAX_REGISTRATIONS: usize = 1000;

/// Longest pause of the Baileys bot: one minute, which is where the old bot's last version ended.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Scenario {
    Dns,
    Wan,
    Line,
}

impl Scenario {
    const ALL: [Self; 3] = [Self::Dns, Self::Wan, Self::Line];

    const fn name(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Wan => "wan",
            Self::Line => "line",
        }
    }
}

/// What a dead DNS server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum DeadDns {
    Nxdomain,
    Silence,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Arguments {
    bot: Option<PathBuf>,
    scenarios: Vec<Scenario>,
    dns: DeadDns,
    dns_delay: Duration,
    outage: Duration,
    registrations: usize,
    customers: usize,
    baileys_wait: Duration,
    only: Option<Contestant>,
    folder: Option<PathBuf>,
    json: bool,
}

/// The program; `arguments` are those behind `testbed bench storm`.
///
/// # Errors
/// When this machine has no network namespaces, a bot does not start, or bot-kjp did not come back
/// or lost a registration. What was measured is printed before the last two.
pub(super) fn run(arguments: lexopt::Parser) -> Result<()> {
    let Some(arguments) = parse(arguments)? else {
        println!("{HELP}");
        return Ok(());
    };
    interrupt::watch()?;
    let endured = endure_all(&arguments)?;
    let failed = endured.iter().filter(|endured| endured.bot == Contestant::BotKjp.name());
    let failed: Vec<&str> = failed.filter(|ours| !ours.is_whole()).map(|ours| ours.scenario.name()).collect();
    let failed = failed.join(" and ");
    let plan = Plan {
        dns: arguments.dns,
        dns_delay_ms: arguments.dns_delay.as_millis(),
        outage_seconds: arguments.outage.as_secs(),
        customers: arguments.customers,
        baileys_wait_ms: arguments.baileys_wait.as_millis(),
    };
    let report = Report::new(plan, endured, arguments.bot.as_deref());
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.table());
    }
    ensure!(failed.is_empty(), "bot-kjp did not get over the outage ({failed}): see above");
    Ok(())
}

fn parse(mut parser: lexopt::Parser) -> Result<Option<Arguments>> {
    let mut arguments = Arguments {
        bot: None,
        scenarios: Scenario::ALL.to_vec(),
        dns: DeadDns::Nxdomain,
        dns_delay: DNS_DELAY,
        outage: OUTAGE,
        registrations: 20,
        customers: 5,
        baileys_wait: Duration::ZERO,
        only: None,
        folder: None,
        json: false,
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Long("bot") => arguments.bot = Some(parser.value()?.into()),
            Long("scenario") => {
                arguments.scenarios = vec![match parser.value()?.string()?.as_str() {
                    "dns" => Scenario::Dns,
                    "wan" => Scenario::Wan,
                    "line" => Scenario::Line,
                    other => bail!("--scenario {other}: neither dns nor wan nor line"),
                }];
            }
            Long("dns") => {
                arguments.dns = match parser.value()?.string()?.as_str() {
                    "nxdomain" => DeadDns::Nxdomain,
                    "silence" => DeadDns::Silence,
                    other => bail!("--dns {other}: neither nxdomain nor silence"),
                };
            }
            Long("dns-delay") => arguments.dns_delay = Duration::from_millis(parser.value()?.parse()?),
            Long("outage") => arguments.outage = Duration::from_secs(parser.value()?.parse()?),
            Long("registrations") => arguments.registrations = parser.value()?.parse()?,
            Long("customers") => arguments.customers = parser.value()?.parse()?,
            Long("baileys-wait") => arguments.baileys_wait = Duration::from_millis(parser.value()?.parse()?),
            Long("only") => arguments.only = Some(Contestant::named(&parser.value()?.string()?)?),
            Long("folder") => arguments.folder = Some(parser.value()?.into()),
            Long("json") => arguments.json = true,
            Short('h') | Long("help") => return Ok(None),
            other => bail!("{}\n\n{HELP}", other.unexpected()),
        }
    }
    let Arguments { dns_delay, outage, registrations, customers, baileys_wait, .. } = arguments;
    ensure!(
        dns_delay <= LONGEST_DNS_DELAY,
        "--dns-delay must be at most {} milliseconds",
        LONGEST_DNS_DELAY.as_millis()
    );
    ensure!(
        (SHORTEST_OUTAGE..=LONGEST_OUTAGE).contains(&outage),
        "--outage must be {} to {} seconds",
        SHORTEST_OUTAGE.as_secs(),
        LONGEST_OUTAGE.as_secs()
    );
    ensure!((1..=CUSTOMERS_PER_SEED).contains(&customers), "--customers must be 1 to {CUSTOMERS_PER_SEED}");
    ensure!(
        (customers..=MAX_REGISTRATIONS).contains(&registrations),
        "{customers} customers register somebody each: --registrations must be {customers} to {MAX_REGISTRATIONS}"
    );
    ensure!(
        baileys_wait <= LONGEST_WAIT,
        "--baileys-wait must be at most {} milliseconds",
        LONGEST_WAIT.as_millis()
    );
    Ok(Some(arguments))
}

fn endure_all(arguments: &Arguments) -> Result<Vec<Endured>> {
    let own_folder;
    let folder = match &arguments.folder {
        Some(folder) => {
            std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
            folder.as_path()
        }
        None => {
            own_folder = tempfile::Builder::new().prefix("bot-kjp-storm-").tempdir()?;
            own_folder.path()
        }
    };
    let contestants: Vec<Contestant> = [Contestant::BotKjp, Contestant::Baileys]
        .into_iter()
        .filter(|contestant| arguments.only.is_none_or(|only| only == *contestant))
        .collect();
    let mut endured = Vec::new();
    for scenario in &arguments.scenarios {
        let at_once = std::thread::scope(|scope| {
            let threads = contestants.iter().map(|contestant| {
                scope.spawn(|| {
                    endure(arguments, *scenario, *contestant, folder)
                        .with_context(|| format!("{}, outage {}", contestant.name(), scenario.name()))
                })
            });
            // All are started before the first is waited for.
            let threads: Vec<_> = threads.collect();
            let outcomes =
                threads.into_iter().map(|thread| thread.join().expect("no thread of the storm panics"));
            outcomes.collect::<Result<Vec<Endured>>>()
        });
        endured.extend(at_once?);
    }
    Ok(endured)
}

/// One bot on a line of its own, from its linking to its end.
fn endure(
    arguments: &Arguments,
    scenario: Scenario,
    contestant: Contestant,
    folder: &Path,
) -> Result<Endured> {
    // A folder of its own each time, so that a second run in the same place starts afresh.
    let folder = tempfile::Builder::new().prefix(contestant.name()).tempdir_in(folder)?;
    let home = home::Home::new(folder.path())?;
    let ordeal = ordeal::Ordeal {
        home: &home,
        scenario,
        dns: arguments.dns,
        dns_delay: arguments.dns_delay,
        outage: arguments.outage,
        registrations: arguments.registrations,
        customers: arguments.customers,
    };
    progress(&format!("{}, outage {}: linking", contestant.name(), scenario.name()));
    // Children die with the thread that starts them, and live in the network that it is in.
    home.line.at_home(|| match contestant {
        Contestant::BotKjp => {
            let program = arguments.bot.as_deref().context("--bot PATH is missing")?;
            ordeal.of_bot_kjp(program, folder.path())
        }
        Contestant::Baileys => ordeal.of_baileys(folder.path(), arguments.baileys_wait),
    })?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Option<Arguments>> {
        parse(lexopt::Parser::from_args(words))
    }

    #[test]
    fn every_option_is_understood() {
        let defaults = parsed(&[]).unwrap().unwrap();
        assert_eq!((defaults.scenarios.as_slice(), defaults.outage), (&Scenario::ALL[..], OUTAGE));
        let words = "--scenario line --dns silence --dns-delay 5 --outage 600 --registrations 50 --customers 7 \
                     --baileys-wait 1000 --only baileys --folder /x --bot /y --json";
        let words: Vec<&str> = words.split_whitespace().collect();
        let expected = Arguments {
            bot: Some("/y".into()),
            scenarios: vec![Scenario::Line],
            dns: DeadDns::Silence,
            dns_delay: Duration::from_millis(5),
            outage: Duration::from_secs(600),
            registrations: 50,
            customers: 7,
            baileys_wait: Duration::from_secs(1),
            only: Some(Contestant::Baileys),
            folder: Some("/x".into()),
            json: true,
        };
        assert_eq!(parsed(&words).unwrap().unwrap(), expected);
        assert!(parsed(&["--help"]).unwrap().is_none());
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        for words in [
            "--dns-delay 1001",
            "--outage 59",
            "--outage 3601",
            "--outage soon",
            "--customers 0",
            "--customers 141 --registrations 141",
            "--customers 5 --registrations 4",
            "--registrations 1001",
            "--baileys-wait 60001",
            "--scenario rain",
            "--dns dead",
            "--only nobody",
            "--idle 5",
        ] {
            let words: Vec<&str> = words.split_whitespace().collect();
            assert!(parsed(&words).is_err(), "{words:?}");
        }
        for words in [["--outage", "60"], ["--outage", "3600"], ["--baileys-wait", "60000"]] {
            assert!(parsed(&words).is_ok(), "{words:?}");
        }
    }
}
