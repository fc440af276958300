//! One bot through one outage.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::super::baileys::{BaileysBot, Place};
use super::super::process::{Snapshot, forget_peak};
use super::super::{
    Contestant, PER_CHAT_PER_SECOND, SEED, SETTLE, TOTAL_PER_SECOND, Writer, converse, people_in, progress,
};
use super::home::{Home, WHATSAPP_URL};
use super::report::{Endured, Outage, Registrations};
use super::wire::Sent;
use super::{DeadDns, Scenario};
use crate::Handset;
use crate::bot::{Bot, DatabaseCopy, Settings, copy_database};
use crate::customers::Customer;
use crate::interrupt;

/// Between two looks at a bot: how exact the times are. A look reads a few files of the kernel's.
const LOOK: Duration = Duration::from_millis(100);

/// How long a bot may take to come back and answer everybody once all is well again: several times
/// the longest pause of either (one minute) with a whole attempt behind it.
const RECOVERY: Duration = Duration::from_secs(300);

/// What one bot is put through.
pub struct Ordeal<'a> {
    pub home: &'a Home,
    pub scenario: Scenario,
    pub dns: DeadDns,
    pub dns_delay: Duration,
    pub outage: Duration,
    pub registrations: usize,
    pub customers: usize,
}

enum Runner {
    BotKjp(Bot),
    Baileys(BaileysBot),
}

impl Runner {
    const fn contestant(&self) -> Contestant {
        match self {
            Self::BotKjp(_) => Contestant::BotKjp,
            Self::Baileys(_) => Contestant::Baileys,
        }
    }

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

    /// Tries to connect since it was started, by its own count: bot-kjp writes down each before it
    /// makes it; the Baileys bot says when one ended, and makes the next.
    fn tries(&mut self) -> Result<u64> {
        match self {
            Self::BotKjp(bot) => {
                // The newest is never forgotten, so its number counts all.
                let newest = "SELECT coalesce(max(id), 0) FROM connection_attempt";
                let tries: u32 = bot.ledger()?.connection.query_row(newest, [], |row| row.get(0))?;
                Ok(tries.into())
            }
            Self::Baileys(bot) => Ok(bot.closes()),
        }
    }

    /// Reads what it has said, lest it wait in memory.
    fn listen(&mut self) {
        if let Self::Baileys(bot) = self {
            bot.closes();
        }
    }

    fn log(&self) -> String {
        match self {
            Self::BotKjp(bot) => format!("; its log is {}", bot.log().display()),
            Self::Baileys(bot) => bot.written(),
        }
    }
}

/// Everything that is counted up, at one moment.
struct Counts {
    tries: u64,
    sent: Sent,
    questions: u64,
    connections: u64,
    cpu_seconds: f64,
}

/// Somebody whom a customer has registered.
struct Registered {
    customer: usize,
    nama: String,
    nik: String,
    answered: Option<Instant>,
}

impl Ordeal<'_> {
    /// # Errors
    /// When the bot cannot be linked or started.
    pub fn of_bot_kjp(&self, program: &Path, folder: &Path) -> Result<Endured> {
        let account = self.home.server.phone("bot-kjp")?;
        let settings = Settings {
            whatsapp_url: WHATSAPP_URL.to_owned(),
            per_chat_per_second: PER_CHAT_PER_SECOND,
            total_per_second: TOTAL_PER_SECOND,
            // As it is shipped: what a storm writes is part of it.
            log_level: "info",
            supabase: None,
        };
        let mut bot = Bot::new(program, folder, &settings)?;
        let names = &self.home.names;
        bot.configure(&format!(
            "\n[network]\nresolv_conf = '{}'\nca_file = '{}'\n",
            names.resolv_conf.display(),
            names.ca_file.display()
        ))?;
        bot.pair(&account)?;
        bot.start(&self.home.server, account.number())?;
        self.endure(Runner::BotKjp(bot), &account)
    }

    /// # Errors
    /// As [`Ordeal::of_bot_kjp`].
    pub fn of_baileys(&self, folder: &Path, wait: Duration) -> Result<Endured> {
        let account = self.home.server.phone("Baileys bot")?;
        let place = Place {
            url: WHATSAPP_URL.to_owned(),
            names: Some(self.home.names.clone()),
            reconnect_after: Some(wait),
        };
        BaileysBot::link(&self.home.server, &account, folder, &place)?;
        let bot = BaileysBot::start(&self.home.server, &account, folder, &place)?;
        self.endure(Runner::Baileys(bot), &account)
    }

    fn endure(&self, mut runner: Runner, account: &Handset) -> Result<Endured> {
        let (home, number) = (self.home, account.number());
        let name = runner.contestant().name();
        let writers = self.greet(number)?;
        interrupt::pause(SETTLE)?;

        let pid = runner.pid()?;
        forget_peak(pid)?;
        let start = Snapshot::of(pid)?;
        let before = self.counts(&mut runner, &start)?;
        let mut watch = Watch {
            ordeal: self,
            number,
            runner,
            writers,
            registered: Vec::new(),
            logins: home.server.logins(number)?,
            online: None,
            last: start,
            ended: None,
        };
        progress(&format!("{name}, outage {}: {} s", self.scenario.name(), self.outage.as_secs()));
        let cut = home.fail(self.scenario, self.dns, self.dns_delay, number)?;
        watch.through_the_outage(cut)?;
        let at_the_end = watch.last;
        let after = self.counts(&mut watch.runner, &at_the_end)?;

        let healed = home.heal()?;
        progress(&format!("{name}, outage {}: is over", self.scenario.name()));
        watch.until_all_is_well(healed + RECOVERY)?;
        if watch.ended.is_none() {
            interrupt::pause(SETTLE)?;
            watch.look()?;
        }
        let stored = watch.stored()?;
        if watch.ended.is_some() {
            progress(&format!("{name} ended by itself{}", watch.runner.log()));
        }

        let last_answer = match watch.registered.iter().map(|registered| registered.answered).max() {
            // None is less than any moment.
            Some(last) if watch.registered.iter().all(|registered| registered.answered.is_some()) => last,
            _ => None,
        };
        let since_healing = |moment: Instant| moment.saturating_duration_since(healed).as_secs_f64();
        let answered = |until: Option<Instant>| {
            let answers = watch.registered.iter().filter_map(|registered| registered.answered);
            answers.filter(|answer| until.is_none_or(|until| *answer < until)).count()
        };
        let Snapshot { resident_kib, peak_kib, .. } = watch.last;
        Ok(Endured {
            bot: name,
            scenario: self.scenario,
            outage: Outage {
                tries: after.tries - before.tries,
                sent: after.sent - before.sent,
                questions_that_arrived: after.questions - before.questions,
                connections_that_arrived: after.connections - before.connections,
                cpu_seconds: after.cpu_seconds - before.cpu_seconds,
            },
            start_kib: start.resident_kib,
            peak_kib,
            end_kib: resident_kib,
            online_after_cut_seconds: watch.online.map(|online| (online - cut).as_secs_f64()),
            online_after_healing_seconds: watch.online.map(since_healing),
            registrations: Registrations {
                sent: watch.registered.len(),
                answered_in_the_outage: answered(Some(healed)),
                answered: answered(None),
                stored,
                last_answer_after_healing_seconds: last_answer.map(since_healing),
            },
            ended_after_cut_seconds: watch.ended.map(|ended| (ended - cut).as_secs_f64()),
        })
    }

    /// Customers who have chosen a provider, so that each further message registers somebody.
    fn greet(&self, bot: &str) -> Result<Vec<Writer>> {
        let writers = (0..self.customers).map(|n| {
            let customer = Customer::of_seed(SEED, n);
            let writer = Writer { phone: self.home.server.phone(customer.name())?, customer, people: 0 };
            converse(&writer, bot)?;
            Ok(writer)
        });
        writers.collect()
    }

    fn counts(&self, runner: &mut Runner, snapshot: &Snapshot) -> Result<Counts> {
        Ok(Counts {
            tries: runner.tries()?,
            sent: self.home.wire.sent()?,
            questions: self.home.questions(),
            connections: self.home.server.connections(),
            cpu_seconds: snapshot.cpu_seconds,
        })
    }
}

/// What is seen of one bot while it goes through it.
struct Watch<'a> {
    ordeal: &'a Ordeal<'a>,
    number: &'a str,
    runner: Runner,
    writers: Vec<Writer>,
    registered: Vec<Registered>,
    /// Logins before the outage.
    logins: u64,
    /// When it was first seen online again.
    online: Option<Instant>,
    /// The process when it was last looked at.
    last: Snapshot,
    /// When its process was first seen to be gone.
    ended: Option<Instant>,
}

impl Watch<'_> {
    fn through_the_outage(&mut self, cut: Instant) -> Result<()> {
        while cut.elapsed() < self.ordeal.outage {
            self.look()?;
            let due = due(cut.elapsed(), self.ordeal.outage, self.ordeal.registrations);
            while self.registered.len() < due {
                self.register()?;
            }
            interrupt::pause(LOOK)?;
        }
        self.look()
    }

    fn until_all_is_well(&mut self, deadline: Instant) -> Result<()> {
        loop {
            self.look()?;
            let well = self.online.is_some() && self.registered.iter().all(|one| one.answered.is_some());
            if well || self.ended.is_some() || Instant::now() >= deadline {
                return Ok(());
            }
            interrupt::pause(LOOK)?;
        }
    }

    fn register(&mut self) -> Result<()> {
        let n = self.registered.len();
        let (customer, nth) = (n % self.writers.len(), n / self.writers.len());
        let writer = &self.writers[customer];
        writer.phone.send_text(self.number, &writer.customer.registration_text(nth))?;
        let person = writer.customer.person(nth);
        self.registered.push(Registered { customer, nama: person.nama, nik: person.nik, answered: None });
        Ok(())
    }

    fn look(&mut self) -> Result<()> {
        interrupt::check()?;
        self.runner.listen();
        match Snapshot::of(self.runner.pid()?) {
            Ok(snapshot) => self.last = snapshot,
            Err(gone) if self.ended.is_none() => {
                log::info!("no process any more: {gone:#}");
                self.ended = Some(Instant::now());
            }
            Err(_) => {}
        }
        let server = &self.ordeal.home.server;
        if self.online.is_none()
            && server.logins(self.number)? > self.logins
            && !server.devices_online(self.number)?.is_empty()
        {
            self.online = Some(Instant::now());
        }
        for registered in self.registered.iter_mut().filter(|registered| registered.answered.is_none()) {
            let shown = self.writers[registered.customer].phone.shown();
            if shown.iter().any(|shown| shown.from == self.number && shown.text.contains(&registered.nama)) {
                registered.answered = Some(Instant::now());
            }
        }
        Ok(())
    }

    /// How many of the people that were sent stand in the database; nobody else may.
    fn stored(&self) -> Result<usize> {
        let DatabaseCopy { connection, .. } = &copy_database(&self.runner.database())?;
        let stored = people_in(connection, self.runner.contestant())?;
        let sent = |nik: &String| self.registered.iter().any(|registered| registered.nik == *nik);
        ensure!(stored.iter().all(sent), "the database holds somebody whom nobody registered");
        Ok(stored.len())
    }
}

/// How many of `all` registrations are sent once so much of the outage has passed: evenly, the first
/// and the last half a step from its ends.
fn due(passed: Duration, outage: Duration, all: usize) -> usize {
    let share = passed.as_secs_f64() / outage.as_secs_f64();
    ((share * all as f64 + 0.5).floor() as usize).min(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registrations_are_spread_over_the_whole_outage() {
        let outage = Duration::from_secs(100);
        let at = |seconds| due(Duration::from_secs(seconds), outage, 10);
        assert_eq!([0, 4, 5, 14, 15, 94, 95, 100, 200].map(at), [0, 0, 1, 1, 2, 9, 10, 10, 10]);
    }
}
