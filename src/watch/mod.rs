//! Watches everything and changes nothing: the state of every part in one place, a page that shows
//! it, and messages to the operator when something needs help.
//!
//! ```text
//! sources ─▶ facts ─▶ conditions ─▶ visible warnings ─▶ report ─▶ /health, bot-kjp status
//!             plain      what holds    no blips,      │        └▶ /metrics
//!             data                     no consequences└─▶ alert::decide ─▶ outbox, ntfy, switch
//! ```
//!
//! Everything right of *facts* is computed by pure functions of facts and time; nobody sets health by
//! hand. `/health` answers 200 while all is well or only worth knowing, and 503 while something that
//! is visible needs help ([`warning::Severity::Unhealthy`]).

pub mod alert;
pub mod facts;
mod hooks;
pub(crate) mod machine;
mod metrics;
mod page;
pub mod report;
pub mod warning;
pub mod wording;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};
use sha2::{Digest, Sha256};
use ureq::Agent;

use crate::bell::Bell;
use crate::clock;
use crate::config::{self, SecretUrl};
use crate::disk_space::DiskSpace;
use crate::executor::Executor;
use crate::ledger::process_start::Restarts;
use crate::ledger::{
    self, CommitFailure, Database, LedgerError, inbound, outbox, process_start, reachout, sync_queue,
};
use crate::net::rung;
use crate::persistence::Persistence;
use crate::personal::PhoneNumber;
use crate::supabase::sync::SyncStatus;
use crate::trusted_clock;
use crate::whatsapp::connection::standing::Standing;
use crate::whatsapp::refusal::{self, Reason};
use alert::{Book, Decision, Kind, Message};
use facts::{Bounds, Disk, Facts, Failed, Failure, Queues, Refusals, Storage, Waiting};
use report::Report;
use warning::{Cause, Condition, Severity, Sightings, Warning};

/// Time between two looks. Each is five queries on small indexes: even at 2 ms of a slow core, 0.02 %
/// of it.
const LOOK: Duration = Duration::from_secs(10);

/// How old may be what changes slowly or costs more to find out: disk, restarts.
const SLOW: Duration = Duration::from_secs(60);

/// How old the count of all registrations may be, which reads the whole table, when somebody asks
/// and when nobody does.
const COUNT_ASKED: Duration = Duration::from_secs(60);
const COUNT_AT_REST: Duration = Duration::from_secs(10 * 60);

/// Where the ids of alerts begin: like those of WhatsApp's web client (`3EB0` and hexadecimal
/// digits), and their own, so that one that was not sent yet can be found and replaced.
const ALERT_IDS: &str = "3EB0A1E7";

/// A question to another room.
pub type Source<T> = Arc<dyn Fn() -> T + Send + Sync>;

/// Where the state of the other rooms is to be had. Each is asked every few seconds and answers at
/// once.
#[derive(Clone)]
pub struct Sources {
    pub whatsapp: Source<Standing>,
    /// Every server of the DNS ladder; empty if not known.
    pub dns: Source<Vec<rung::Health>>,
    /// `None`: no Supabase project is configured.
    pub supabase: Option<SyncStatus>,
    /// Messages inside whatsapp-rust.
    pub backlog: Source<usize>,
    /// Deliveries that wait in the inbox.
    pub inbox: Source<usize>,
    /// The time by WhatsApp's clock, in seconds since 1970 UTC, if it has told in this process.
    pub server_time: Source<Option<i64>>,
}

/// What the watch is built from.
pub struct Parts {
    pub database: Database,
    pub disk_space: DiskSpace,
    pub sources: Sources,
    /// Rung when an alert lies in the outbox.
    pub outbox_bell: Bell,
    /// For the calls to others.
    pub agent: Agent,
    pub settings: Settings,
}

/// Settings of the watch; bounds are checked by the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    pub bounds: Bounds,
    /// Where the page is served; `None`: nowhere.
    pub listen: Option<SocketAddr>,
    pub operators: Vec<PhoneNumber>,
    pub ntfy: Option<SecretUrl>,
    pub healthchecks: Option<SecretUrl>,
    pub healthchecks_interval: Duration,
    /// Why this process was started, if that was written down.
    pub start: Option<process_start::Cause>,
    /// What becomes of the data folder when the power goes.
    pub persistence: Persistence,
}

impl Settings {
    pub fn of(
        settings: &config::Settings,
        persistence: Persistence,
        start: Option<process_start::Cause>,
    ) -> Self {
        Self {
            start,
            persistence,
            bounds: Bounds {
                told_after: settings.connection.told_after,
                longest_silence: settings.connection.longest_silence,
            },
            listen: settings.health.listen,
            operators: settings.alert.operators.clone(),
            ntfy: settings.alert.ntfy.clone(),
            healthchecks: settings.alert.healthchecks.clone(),
            healthchecks_interval: settings.alert.healthchecks_interval,
        }
    }
}

/// The watch; clones share it.
#[derive(Clone)]
pub struct Watch {
    shared: Arc<Shared>,
}

struct Shared {
    parts: Parts,
    started: Instant,
    topic: hooks::Topic,
    switch: hooks::Switch,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sightings: Sightings,
    book: Book,
    slow: Option<Slow>,
    counts: Option<(Instant, sync_queue::Counts)>,
    /// Causes whose beginning was handed to those who are told over HTTP.
    hooked: BTreeSet<Cause>,
    /// What went wrong the last time alerts were written down; empty if nothing did.
    failed: String,
    /// How the bot was at the last look, in one line; empty before the first.
    headline: String,
}

/// What the ledger knows of replies that WhatsApp does not take, at `now`.
fn refusals_of(conn: &Connection, now: i64) -> Result<Refusals, LedgerError> {
    let standing = reachout::standing(conn)?;
    let mut given_up = 0;
    for reason in Reason::REFUSED {
        given_up += outbox::count_failed(conn, reason)?;
    }
    Ok(Refusals {
        people: reachout::people_refused_since(conn, now - refusal::COUNTED_SECONDS)?,
        parked: outbox::count_parked(conn)?,
        lock: standing.lock,
        paused_until: standing.paused_until,
        given_up,
        without_phone: outbox::count_failed(conn, Reason::NO_PHONE)?,
        given_up_today: outbox::count_failed_since(conn, now - facts::GIVEN_UP_SECONDS)?,
    })
}

/// Facts that are not found out at every look.
#[derive(Clone)]
struct Slow {
    at: Instant,
    disk: Option<Disk>,
    room: bool,
    restarts: Restarts,
}

/// All that is known and follows from it.
struct View {
    facts: Facts,
    conditions: Vec<Condition>,
    visible: Vec<Warning>,
}

impl Watch {
    pub fn new(parts: Parts) -> Self {
        Self {
            shared: Arc::new(Shared {
                parts,
                started: clock::now(),
                topic: hooks::Topic::default(),
                switch: hooks::Switch::default(),
                state: Mutex::default(),
            }),
        }
    }

    /// Looks, serves the page and tells, for ever.
    pub async fn run(self, executor: Executor) -> Infallible {
        let settings = &self.shared.parts.settings;
        let agent = &self.shared.parts.agent;
        if let Some(listen) = settings.listen {
            let watch = self.clone();
            executor.spawn(page::serve(executor, listen, move |wanted| watch.answer(wanted))).detach();
        }
        if let Some(url) = &settings.ntfy {
            executor.spawn(self.shared.topic.clone().run(agent.clone(), url.clone())).detach();
        }
        if let Some(url) = &settings.healthchecks {
            let (watch, switch) = (self.clone(), self.shared.switch.clone());
            let interval = settings.healthchecks_interval;
            let fed = switch.run(agent.clone(), url.clone(), interval, move || watch.promise_kept());
            executor.spawn(fed).detach();
        }
        if settings.operators.is_empty() && settings.ntfy.is_none() && settings.healthchecks.is_none() {
            log::warn!(
                "watch: nobody is told when something is wrong; set alert.operators, alert.ntfy or \
                 alert.healthchecks"
            );
        }
        self.restore();
        loop {
            let view = self.look(COUNT_AT_REST);
            self.state().headline = wording::headline(&view.facts.whatsapp, &view.visible);
            self.tell(&view).await;
            clock::sleep(LOOK).await;
        }
    }

    /// The state of every part.
    pub fn report(&self) -> Report {
        let view = self.look(COUNT_ASKED);
        Report::new(&view.facts, &view.conditions, &view.visible)
    }

    /// How the bot was at the last look, in one Indonesian line: for the service manager.
    pub fn headline(&self) -> String {
        self.state().headline.clone()
    }

    fn answer(&self, wanted: page::Resource) -> page::Answer {
        match wanted {
            page::Resource::Health => {
                let report = self.report();
                page::Answer {
                    status: report.http_status(),
                    content_type: "application/json",
                    // Strings and numbers always have a JSON form.
                    body: serde_json::to_string_pretty(&report).unwrap_or_default() + "\n",
                }
            }
            page::Resource::Metrics => {
                let view = self.look(COUNT_ASKED);
                let body = metrics::page(&view.facts, &view.visible);
                page::Answer { status: 200, content_type: metrics::CONTENT_TYPE, body }
            }
        }
    }

    fn promise_kept(&self) -> bool {
        let view = self.look(COUNT_AT_REST);
        view.facts.promise_kept() && warning::worst(&view.visible) < Some(Severity::Unhealthy)
    }

    /// Takes the facts and draws the conclusions. `count_age` is how old the count of all
    /// registrations may be.
    fn look(&self, count_age: Duration) -> View {
        let mut state = self.state();
        let facts = self.facts(&mut state, count_age);
        let conditions = warning::conditions(&facts);
        state.sightings = state.sightings.after(&conditions, facts.now);
        let visible = warning::visible(&conditions, &state.sightings, facts.now);
        View { facts, conditions, visible }
    }

    fn facts(&self, state: &mut State, count_age: Duration) -> Facts {
        let Parts { database, sources, settings, disk_space, .. } = &self.shared.parts;
        let (now, unix) = (clock::now(), clock::unix_seconds());
        let old = |at: Instant, limit| now.saturating_duration_since(at) >= limit;

        let mut unreadable = None;
        let mut refusals = Refusals::default();
        let mut queues = Queues {
            backlog: (sources.backlog)().try_into().unwrap_or(u32::MAX),
            inbox: (sources.inbox)().try_into().unwrap_or(u32::MAX),
            ..Queues::default()
        };
        let mut latest_message = None;
        let count = state.counts.is_none_or(|(at, _)| old(at, count_age));
        let slow = state.slow.as_ref().is_none_or(|slow| old(slow.at, SLOW));
        let read = database.read(|conn| {
            if count {
                state.counts = Some((now, sync_queue::count(conn)?));
            }
            queues.sync = state.counts.map(|(_, counts)| counts).unwrap_or_default();
            queues.sync.pending = sync_queue::count_pending(conn)?;
            queues.oldest_pending = sync_queue::oldest_pending(conn)?;
            queues.outbox = outbox::count(conn)?;
            refusals = refusals_of(conn, unix)?;
            queues.replies = outbox::wait(conn)?.map(|wait| {
                let seconds = trusted_clock::now().saturating_sub(wait.since);
                Waiting { longest: Duration::from_secs(seconds.try_into().unwrap_or(0)), chats: wait.chats }
            });
            latest_message = inbound::latest(conn)?;
            if slow {
                let (disk, room) = disk_space.look();
                state.slow = Some(Slow {
                    at: now,
                    disk,
                    room,
                    restarts: process_start::restarts(conn, trusted_clock::now())?,
                });
            }
            Ok::<_, LedgerError>(())
        });
        if let Err(error) = read {
            unreadable = Some(error.to_string());
        }
        let slow = state.slow.clone();
        let disk = slow.as_ref().and_then(|slow| slow.disk);
        Facts {
            now,
            unix,
            started: self.shared.started,
            bounds: settings.bounds,
            whatsapp: (sources.whatsapp)(),
            dns: (sources.dns)(),
            supabase: sources.supabase.as_ref().map(SyncStatus::get),
            queues,
            refusals,
            storage: Storage {
                disk,
                volatile: settings.persistence == Persistence::Volatile,
                low: disk.is_some_and(|disk| disk_space.limits().is_low(disk)),
                closed: slow.as_ref().is_some_and(|slow| !slow.room),
                failed: database.last_failure().map(|(at, failure)| failed(at, &failure)),
                unreadable: unreadable.or_else(|| database.damage().map(|said| said.to_string())),
            },
            memory: machine::memory(),
            cpu: machine::cpu(),
            restarts: slow.map(|slow| slow.restarts).unwrap_or_default(),
            start: settings.start,
            server_time: (sources.server_time)(),
            latest_message,
        }
    }

    /// Takes over what the process before has told.
    fn restore(&self) {
        let told = self.shared.parts.database.read(ledger::alert::all).unwrap_or_else(|error| {
            log::error!("watch: what was told before is not known and may be told again: {error}");
            Vec::new()
        });
        let known = told.iter().filter_map(|(code, at)| Some((Cause::of_code(code)?, *at)));
        self.state().book = Book::restored(known, clock::unix_seconds());
    }

    /// Tells what there is to tell. What cannot be written down is not told and decided again at the
    /// next look.
    async fn tell(&self, view: &View) {
        let before = self.state().book.clone();
        let View { facts, conditions, visible } = view;
        let up = facts.whatsapp.phase.is_up();
        let Decision { book, messages, letters } =
            before.decide(conditions, visible, up, facts.now, facts.unix);
        if messages.is_empty() && letters.is_empty() {
            self.state().book = book;
            return;
        }
        let Parts { database, outbox_bell, settings, .. } = &self.shared.parts;
        let unix = facts.unix;
        let written = database
            .write(|tx| {
                keep(tx, &messages)?;
                enqueue(tx, &letters, &settings.operators, unix)
            })
            .await;
        if let Err(error) = written {
            let error = error.to_string();
            // Given back before the hooks ask for it.
            let known = std::mem::replace(&mut self.state().failed, error.clone());
            if known != error {
                log::error!("watch: alerts could not be written down, tried again: {error}");
            }
            // Whoever can be told without the disk is told when the disk is what is wrong.
            return self.tell_hooks(&messages, unix, true);
        }
        {
            let mut state = self.state();
            state.book = book;
            state.failed.clear();
        }
        for message in &messages {
            let code = message.cause.code();
            match message.kind {
                Kind::Raised => log::warn!("watch: {code} began"),
                Kind::Reminded { days } => log::warn!("watch: {code} has lasted {days} days"),
                Kind::Recovered => log::info!("watch: {code} is over"),
            }
        }
        outbox_bell.ring();
        self.tell_hooks(&messages, unix, false);
    }

    /// Hands messages to those who are told over HTTP. Of `unwritten` ones, which are decided again at
    /// every look, only beginnings are handed over, and each once.
    fn tell_hooks(&self, messages: &[Message], unix: i64, unwritten: bool) {
        let Shared { topic, switch, parts, .. } = &*self.shared;
        for message in messages {
            let cause = message.cause;
            let told = match message.kind {
                Kind::Raised => !self.state().hooked.insert(cause),
                Kind::Reminded { .. } => unwritten,
                Kind::Recovered if unwritten => true,
                Kind::Recovered => {
                    self.state().hooked.remove(&cause);
                    false
                }
            };
            if told {
                continue;
            }
            if parts.settings.ntfy.is_some() {
                topic.put(message, text(message, unix));
            }
            if message.kind == Kind::Raised && cause.warnable().severity == Severity::Unhealthy {
                switch.break_off();
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Remembers which causes stand, for the next process.
fn keep(tx: &rusqlite::Connection, messages: &[Message]) -> Result<(), LedgerError> {
    for message in messages {
        match message.kind {
            Kind::Raised => ledger::alert::raise(tx, message.cause.code(), message.since)?,
            Kind::Reminded { .. } => {}
            Kind::Recovered => ledger::alert::clear(tx, message.cause.code())?,
        }
    }
    Ok(())
}

/// Puts messages into the outbox for every operator. An older one about the same cause that has not
/// been sent is out of date and goes, so that no more wait than there are causes.
fn enqueue(
    tx: &rusqlite::Connection,
    letters: &[Message],
    operators: &[PhoneNumber],
    unix: i64,
) -> Result<(), LedgerError> {
    for message in letters {
        for operator in operators {
            let chat = format!("{}@s.whatsapp.net", operator.expose());
            let (prefix, wa_message_id) = message_id(message, &chat);
            outbox::withdraw(tx, &prefix)?;
            let now = trusted_clock::now();
            let reply = outbox::Reply {
                kind: outbox::Kind::Alert,
                chat,
                wa_message_id,
                text: text(message, unix),
                at: now,
            };
            outbox::enqueue(tx, &reply, now, |_, newer| newer.to_owned())?;
        }
    }
    Ok(())
}

/// The id of a message to a chat, and the beginning that all messages about this cause to this chat
/// have. Made of what is told, so that it is the same message when it is written down again after
/// a crash.
fn message_id(message: &Message, chat: &str) -> (String, String) {
    let hex = |parts: &[&str], digits: usize| {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        let digest = hash.finalize();
        digest[..digits / 2].iter().map(|byte| format!("{byte:02X}")).collect::<String>()
    };
    let prefix = format!("{ALERT_IDS}{}", hex(&[message.cause.code(), chat], 8));
    let id = format!("{prefix}{}", hex(&[&message.since.to_string(), &format!("{:?}", message.kind)], 6));
    (prefix, id)
}

fn text(message: &Message, unix: i64) -> String {
    let Message { cause, kind, since, detail } = message;
    match kind {
        Kind::Raised => wording::raised(*cause, detail, *since),
        Kind::Reminded { .. } => wording::reminded(*cause, detail, *since),
        Kind::Recovered => wording::recovered(*cause, *since, unix),
    }
}

/// What a commit that failed says about the disk.
fn failed(at: Instant, failure: &CommitFailure) -> Failed {
    let kind = match failure.code {
        Some(ErrorCode::DiskFull) => Failure::Full,
        Some(ErrorCode::ReadOnly) => Failure::ReadOnly,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Failure::Damaged,
        _ => Failure::Io,
    };
    Failed { at, kind, reason: failure.message.to_string() }
}

#[cfg(test)]
mod tests;
