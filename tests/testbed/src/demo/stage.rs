//! What the scenes stand on: the running parts, the customers' phones, and what must come true.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::screen::{Screen, Side};
use crate::bot::{Bot, Settings};
use crate::interrupt::{self, wait_until};
use crate::supabase::Supabase;
use crate::{Handset, Options, WhatsApp};

/// Longest wait for an answer or for a row in Supabase, which after an outage includes the bot's
/// back-off.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// How long one look at a phone takes before Ctrl-C is noticed.
const LOOK: Duration = Duration::from_millis(200);

/// Pauses for people who read along.
const AFTER_MESSAGE: Duration = Duration::from_millis(900);
const AFTER_TEXT: Duration = Duration::from_millis(2200);

/// Trailing digits shown of a number that stands in a database.
const VISIBLE_DIGITS: usize = 4;

/// A customer and the phone in their hand.
pub(super) struct Actor {
    pub phone: Handset,
    name: String,
    /// Ids of the answers that were read already.
    seen: HashSet<String>,
}

/// A registered person as a database holds them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub nama: String,
    pub kjp: String,
    pub nik: String,
    pub lokasi: String,
}

impl Row {
    fn masked(&self) -> String {
        let Self { nama, kjp, nik, lokasi } = self;
        format!("{nama:<22} card {}  KTP {}  {lokasi}", masked(kjp), masked(nik))
    }
}

/// All but the last four digits hidden.
fn masked(number: &str) -> String {
    let hidden = number.len().saturating_sub(VISIBLE_DIGITS);
    number.chars().enumerate().map(|(place, c)| if place < hidden { '*' } else { c }).collect()
}

/// The running parts. Dropped in this order: the bot before what it talks to, folders last.
pub(super) struct Stage {
    pub screen: Screen,
    pub bot: Bot,
    pub operator: Handset,
    pub whatsapp: WhatsApp,
    pub supabase: Supabase,
    _folder: TempDir,
    fast: bool,
    kept: u32,
    broken: Vec<String>,
    sent: u32,
    read: u32,
}

impl Stage {
    /// Starts everything but the bot, which is not linked yet.
    pub fn build(program: &Path, screen: Screen, fast: bool) -> Result<Self> {
        screen.headline("bot-kjp on one machine: customers, WhatsApp, the bot, Supabase");
        screen.narrate(
            "All people and numbers are invented. WhatsApp's server and the phones are the test bed's, with real \
             encryption; the bot is the real program; Supabase is a real PostgreSQL with PostgREST.",
        );
        let folder = tempfile::Builder::new().prefix("bot-kjp-demo-").tempdir()?;
        let whatsapp = WhatsApp::start(Options::default())?;
        let supabase = Supabase::start()?;
        let settings = Settings {
            whatsapp_url: whatsapp.url(),
            // Nobody wants to watch a polite bot wait.
            per_chat_per_second: 50,
            total_per_second: 50,
            log_level: "info",
            supabase: Some((supabase.url(), supabase.secret_key().to_owned())),
        };
        let bot = Bot::new(program, folder.path(), &settings)?;
        supabase.apply(&bot.print(&["schema"])?).context("Supabase refuses what `bot-kjp schema` printed")?;
        let operator = whatsapp.phone("Operator")?;
        let (kept, sent, read) = (0, 0, 0);
        let broken = Vec::new();
        Ok(Self {
            screen,
            bot,
            operator,
            whatsapp,
            supabase,
            _folder: folder,
            fast,
            kept,
            broken,
            sent,
            read,
        })
    }

    /// A customer with a phone of their own.
    pub fn actor(&self, name: &str) -> Result<Actor> {
        Ok(Actor { phone: self.whatsapp.phone(name)?, name: name.to_owned(), seen: HashSet::new() })
    }

    pub fn headline(&self, text: &str) -> Result<()> {
        self.screen.headline(text);
        interrupt::check()
    }

    /// Tells the reader something and gives time to read it.
    pub fn narrate(&self, text: &str) -> Result<()> {
        self.screen.narrate(text);
        self.pause(AFTER_TEXT)
    }

    fn pause(&self, pause: Duration) -> Result<()> {
        if self.fast { interrupt::check() } else { interrupt::pause(pause) }
    }

    /// What must have come true; the demo goes on and fails at its end if it has not.
    pub fn promise(&mut self, kept: bool, promise: &str) {
        self.screen.verdict(kept, promise);
        if kept {
            self.kept += 1;
        } else {
            self.broken.push(promise.to_owned());
        }
    }

    /// Sends without showing it.
    pub fn hand_over(&mut self, actor: &Actor, text: &str) -> Result<()> {
        actor.phone.send_text(self.operator.number(), text)?;
        self.sent += 1;
        Ok(())
    }

    /// Counts messages that a scene sent by itself.
    pub fn count_sent(&mut self, messages: u32) {
        self.sent += messages;
    }

    /// Sends and shows it.
    pub fn send(&mut self, actor: &Actor, text: &str) -> Result<()> {
        self.hand_over(actor, text)?;
        self.show_sent(actor, text)
    }

    /// Shows a message that was sent already.
    pub fn show_sent(&self, actor: &Actor, text: &str) -> Result<()> {
        self.screen.bubble(&actor.name, Side::Right, &actor.name, text);
        self.pause(AFTER_MESSAGE)
    }

    /// Waits for the next answer without showing it.
    pub fn take_answer(&mut self, actor: &mut Actor) -> Result<String> {
        let bot = self.operator.number().to_owned();
        let answer = wait_until(&format!("an answer to {}", actor.name), PATIENCE, || {
            Ok(actor.phone.wait_for(|shown| shown.from == bot && !actor.seen.contains(&shown.id), LOOK).ok())
        })
        .with_context(|| format!("see the bot's log, {}", self.bot.log().display()))?;
        actor.seen.insert(answer.id);
        self.read += 1;
        Ok(answer.text)
    }

    /// Waits for the next answer and shows it.
    pub fn answer(&mut self, actor: &mut Actor) -> Result<String> {
        let text = self.take_answer(actor)?;
        self.screen.bubble(&actor.name, Side::Left, "Bot KJP", &text);
        self.pause(AFTER_TEXT)?;
        Ok(text)
    }

    /// Sends, shows, waits for the answer, shows it.
    pub fn say(&mut self, actor: &mut Actor, text: &str) -> Result<String> {
        self.send(actor, text)?;
        self.answer(actor)
    }

    /// Chooses Foodstation as everybody does, off the screen.
    pub fn choose_foodstation(&mut self, actor: &mut Actor) -> Result<()> {
        for choice in ["1", "3"] {
            self.hand_over(actor, choice)?;
            self.take_answer(actor)?;
        }
        Ok(())
    }

    /// Answers that were on the phone before anybody read them.
    pub fn unread(&self, actor: &Actor) -> usize {
        actor.phone.shown().iter().filter(|shown| !actor.seen.contains(&shown.id)).count()
    }

    /// The people with these NIKs in the bot's SQLite database, in order of arrival.
    pub fn in_ledger(&self, niks: &[&str]) -> Result<Vec<Row>> {
        let copy = self.bot.ledger()?;
        let mut statement =
            copy.connection.prepare("SELECT nama, no_kjp, no_ktp, lokasi FROM registration ORDER BY id")?;
        let rows = statement.query_map([], |row| {
            Ok(Row { nama: row.get(0)?, kjp: row.get(1)?, nik: row.get(2)?, lokasi: row.get(3)? })
        })?;
        let rows: Vec<Row> = rows.collect::<Result<_, _>>()?;
        Ok(rows.into_iter().filter(|row| niks.is_empty() || niks.contains(&row.nik.as_str())).collect())
    }

    /// The same in Supabase.
    pub fn in_supabase(&self, niks: &[&str]) -> Result<Vec<Row>> {
        let rows = self
            .supabase
            .query("select nama, no_kjp, no_ktp, lokasi from public.data_harian order by received_at, id")?;
        let mut found = Vec::new();
        for row in rows {
            let Ok([nama, kjp, nik, lokasi]) = <[String; 4]>::try_from(row) else {
                anyhow::bail!("data_harian answered with other columns than asked for");
            };
            if niks.is_empty() || niks.contains(&nik.as_str()) {
                found.push(Row { nama, kjp, nik, lokasi });
            }
        }
        Ok(found)
    }

    /// Waits until `count` people with these NIKs stand in Supabase, then shows both databases and
    /// promises that both hold exactly them.
    pub fn both_hold(&mut self, niks: &[&str], count: usize) -> Result<()> {
        let arrived = wait_until("the rows to arrive in Supabase", PATIENCE, || {
            interrupt::check()?;
            Ok((self.in_supabase(niks)?.len() >= count).then_some(()))
        });
        let (ledger, supabase) = (self.in_ledger(niks)?, self.in_supabase(niks)?);
        self.show_rows("In the bot's SQLite", &ledger);
        self.show_rows("In Supabase (PostgreSQL)", &supabase);
        interrupt::check()?;
        let people = if count == 1 { "one person".to_owned() } else { format!("{count} people") };
        self.promise(ledger.len() == count, &format!("SQLite holds {people} of this scene"));
        let same = arrived.is_ok() && as_set(&ledger) == as_set(&supabase);
        self.promise(same, "Supabase holds the same");
        self.pause(AFTER_TEXT)
    }

    pub fn show_rows(&self, heading: &str, rows: &[Row]) {
        self.screen.rows(heading, &rows.iter().map(Row::masked).collect::<Vec<_>>());
    }

    /// The last words.
    ///
    /// # Errors
    /// When a promise was broken.
    pub fn close(mut self) -> Result<()> {
        self.headline("The end: what is left when everything has settled")?;
        let number = self.operator.number().to_owned();
        let (ledger, supabase) = (self.in_ledger(&[])?, self.in_supabase(&[])?);
        let phones = self.whatsapp.phones();
        let answers: usize = phones
            .iter()
            .flat_map(Handset::shown)
            .filter(|shown| shown.from == number && !shown.from_me)
            .count();
        let failed: u64 = phones.iter().map(Handset::failed_decryptions).sum();
        self.screen.rows(
            "Counts",
            &[
                format!("{:>4} messages sent by customers", self.sent),
                format!("{answers:>4} answers on their phones"),
                format!(
                    "{:>4} answers sent once more after the kill, under the same id: shown once",
                    self.whatsapp.resent()
                ),
                format!("{:>4} people in SQLite", ledger.len()),
                format!("{:>4} people in Supabase", supabase.len()),
            ],
        );
        self.promise(as_set(&ledger) == as_set(&supabase), "SQLite and Supabase hold the same people");
        let niks: HashSet<&str> = supabase.iter().map(|row| row.nik.as_str()).collect();
        self.promise(niks.len() == supabase.len(), "nobody is registered twice");
        let once = answers == self.read as usize && self.sent == self.read;
        self.promise(once, "every message was answered exactly once");
        self.promise(failed == 0, "every phone could decrypt everything");
        self.bot.stop(&self.whatsapp, &number)?;
        self.promise(true, "asked to stop (SIGTERM), the bot stopped in good order");
        let Self { kept, broken, .. } = &self;
        self.screen.narrate(&format!("{kept} of {} promises kept.", *kept as usize + broken.len()));
        ensure!(broken.is_empty(), "not as promised: {}", broken.join("; "));
        Ok(())
    }
}

fn as_set(rows: &[Row]) -> HashSet<(&str, &str, &str, &str)> {
    rows.iter()
        .map(|row| (row.nama.as_str(), row.kjp.as_str(), row.nik.as_str(), row.lokasi.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_a_database_are_shown_with_their_last_four_digits_only() {
        let row = Row {
            nama: "Ani".into(),
            kjp: "5049488500000007".into(),
            nik: "3171010101900009".into(),
            lokasi: "FOODSTATION".into(),
        };
        let shown = row.masked();
        assert!(shown.contains("************0007") && shown.contains("************0009"), "{shown}");
        assert!(!shown.contains("504948") && !shown.contains("317101"), "{shown}");
    }
}
