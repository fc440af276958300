//! What is known at one moment, as plain data: everything that health is computed from.

use std::time::{Duration, Instant};

pub use crate::disk_space::Disk;
use crate::ledger::process_start::{self, Restarts};
use crate::ledger::reachout::Lock;
use crate::ledger::{outbox, sync_queue};
use crate::net::rung;
use crate::supabase::sync;
use crate::trusted_clock;
use crate::whatsapp::connection::standing::{Phase, Standing};

/// No honest clock shows an earlier time: the program did not exist.
pub const EARLIEST_SANE: i64 = trusted_clock::BUILT_AT;

/// A clock is wrong when it differs by more than this from WhatsApp's, in seconds: certificates and
/// WhatsApp's own checks bear minutes, not hours.
pub const CLOCK_TOLERANCE: i64 = 5 * 60;

/// All facts of one moment.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The moment, by the clock for intervals.
    pub now: Instant,
    /// The moment, in seconds since 1970 UTC by the box's clock, which may be wrong.
    pub unix: i64,
    /// When the process started.
    pub started: Instant,
    pub bounds: Bounds,
    pub whatsapp: Standing,
    /// Every server of the DNS ladder, in the order in which they are asked; empty if not known.
    pub dns: Vec<rung::Health>,
    /// `None`: no Supabase project is configured.
    pub supabase: Option<sync::Standing>,
    pub queues: Queues,
    pub refusals: Refusals,
    pub storage: Storage,
    /// The process's memory; `None` where the kernel does not tell.
    pub memory: Option<Memory>,
    /// CPU time of the process since its start.
    pub cpu: Duration,
    /// Restarts of the last hour that nobody asked for.
    pub restarts: Restarts,
    /// Why this process was started; `None` if that was not written down.
    pub start: Option<process_start::Cause>,
    /// The moment by WhatsApp's clock, if it has told the time in this process.
    pub server_time: Option<i64>,
    /// Time of the latest message by WhatsApp's clock, in seconds since 1970 UTC.
    pub latest_message: Option<i64>,
}

/// What the configuration says about when something is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Failed tries in a row after which the operator is told.
    pub told_after: u32,
    /// Longest silence in opening hours.
    pub longest_silence: Duration,
}

/// What waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Queues {
    /// Messages that were read from WhatsApp and lie inside whatsapp-rust.
    pub backlog: u32,
    /// Deliveries that came in and are not processed yet.
    pub inbox: u32,
    pub outbox: outbox::Counts,
    /// Who waits for a reply, apart from operators; `None` if nobody does.
    pub replies: Option<Waiting>,
    /// Rows on their way to Supabase; all but `pending` may be some minutes old.
    pub sync: sync_queue::Counts,
    /// When the oldest row that waits was received, in seconds since 1970 UTC.
    pub oldest_pending: Option<i64>,
}

/// For how long a reply that was given up is a warning, in seconds: a day, in which somebody can still be
/// answered from the phone.
pub const GIVEN_UP_SECONDS: i64 = 86_400;

/// Replies that WhatsApp does not take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusals {
    /// People who were refused a reply within a day and have got none since.
    pub people: u32,
    /// Replies that wait until they are let in.
    pub parked: u32,
    /// WhatsApp's lock on new chats, and until when first replies pause, in seconds since 1970 UTC.
    pub lock: Lock,
    pub paused_until: Option<i64>,
    /// Replies given up because WhatsApp refused them, and because the recipient's phone had no keys.
    pub given_up: u32,
    pub without_phone: u32,
    /// Replies given up within [`GIVEN_UP_SECONDS`], whatever the reason.
    pub given_up_today: u32,
}

impl Refusals {
    /// When the lock ends that holds at `now`, or else the pause; `None` if there is neither, or no end is
    /// known.
    pub fn until(&self, now: i64) -> Option<i64> {
        let lock = self.lock.ends_at.filter(|_| self.lock.active);
        lock.filter(|ends| *ends > now).or(self.paused_until.filter(|until| *until > now))
    }
}

/// People who wait for a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    pub longest: Duration,
    pub chats: u32,
}

/// How the disk of the data folder stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Storage {
    /// `None` if the kernel does not tell.
    pub disk: Option<Disk>,
    /// Whether it is in memory, and everything goes with the power.
    pub volatile: bool,
    /// Whether somebody should look, because there is little room left.
    pub low: bool,
    /// Whether there is so little that registrations are refused.
    pub closed: bool,
    /// The last failed commit of the ledger.
    pub failed: Option<Failed>,
    /// The ledger could not be read just now, and why.
    pub unreadable: Option<String>,
}

/// A commit that the disk refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    pub at: Instant,
    pub kind: Failure,
    /// SQLite's words.
    pub reason: String,
}

/// Why the disk refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    Full,
    ReadOnly,
    /// The database file is damaged.
    Damaged,
    /// Anything else: as a rule the card or its reader.
    Io,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Resident memory in bytes (`VmRSS`).
    pub resident: u64,
    /// The part of it that is not backed by a file (`RssAnon`): heap and stacks.
    pub anonymous: u64,
    /// Bytes of the heap in use, without SQLite's; counted in builds for the test bed only.
    pub heap: Option<u64>,
}

impl Facts {
    /// Age of the oldest row that has not reached Supabase; `None` if none waits, or if none can
    /// leave because no project is configured.
    pub fn oldest_unsynced(&self) -> Option<Duration> {
        self.supabase.as_ref()?;
        let received = self.queues.oldest_pending?;
        // A row "of the future" was received under another clock.
        Some(Duration::from_secs(u64::try_from(self.unix.saturating_sub(received)).unwrap_or(0)))
    }

    /// Who has waited too long for a reply while the line could carry it; a line that is down has its own
    /// warning.
    pub fn late_replies(&self) -> Option<Waiting> {
        let whatsapp = &self.whatsapp;
        if whatsapp.phase != Phase::Online {
            return None;
        }
        let up = self.now.saturating_duration_since(whatsapp.since);
        let waiting = self.queues.replies?;
        let late = Waiting { longest: waiting.longest.min(up), ..waiting };
        (late.longest > LONGEST_WAIT).then_some(late)
    }

    /// Why the box's clock cannot be right, if so: seconds by which it differs at least.
    pub fn clock_error(&self) -> Option<ClockError> {
        if self.unix < EARLIEST_SANE {
            return Some(ClockError::BeforeBuild);
        }
        if let Some(server_time) = self.server_time {
            let behind = server_time.saturating_sub(self.unix);
            return (behind.abs() > CLOCK_TOLERANCE).then_some(ClockError::Differs { behind });
        }
        // A message cannot have been sent in the future.
        let behind = self.latest_message?.saturating_sub(self.unix);
        (behind > CLOCK_TOLERANCE).then_some(ClockError::Differs { behind })
    }

    /// Whether the promise is kept that nobody has to look: people are served, what they send is
    /// kept and carried on. The dead man's switch is fed only while this holds.
    pub fn promise_kept(&self) -> bool {
        let storage = &self.storage;
        let writable = !storage.closed
            && storage.disk.is_none_or(|disk| !disk.read_only)
            && storage.unreadable.is_none()
            && self.recent_failure().is_none();
        let delivered = self.oldest_unsynced().is_none_or(|age| age < LONGEST_UNSYNCED);
        self.whatsapp.phase.is_up() && writable && delivered && self.clock_error().is_none()
    }

    /// The last failed commit, as long as it says something about the present.
    pub fn recent_failure(&self) -> Option<&Failed> {
        self.storage
            .failed
            .as_ref()
            .filter(|failed| self.now.saturating_duration_since(failed.at) < FAILURE_LASTS)
    }
}

/// A failed commit counts for this long. Writers that must not give up try again every 15 seconds,
/// so a disk that still fails renews it.
const FAILURE_LASTS: Duration = Duration::from_secs(3 * 60);

/// Longest time that people wait for a reply before the operator should know.
pub const LONGEST_WAIT: Duration = Duration::from_secs(2 * 60);

/// Age of a row from which on the shared table is no longer of today's use.
pub const LONGEST_UNSYNCED: Duration = Duration::from_secs(3600);

/// How the clock is known to be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockError {
    /// It shows a time at which this program did not exist.
    BeforeBuild,
    /// It is behind WhatsApp's by so many seconds, or ahead if negative.
    Differs { behind: i64 },
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::clock;

    /// 2026-11-23T10:00:00 WIB, a Monday.
    pub const UNIX: i64 = 1_795_402_800;

    /// A moment at which all is well, some days after the start.
    pub fn well() -> Facts {
        let started = clock::now();
        let now = started + Duration::from_secs(3 * 86_400);
        let mut whatsapp = Standing::new(started, 130);
        whatsapp.enter(Phase::Online, started + Duration::from_secs(3));
        whatsapp.paired = true;
        whatsapp.attempts = 1;
        whatsapp.logins = 1;
        whatsapp.last_stanza = Some(now - Duration::from_secs(10));
        whatsapp.last_message = Some(now - Duration::from_secs(60));
        Facts {
            now,
            unix: UNIX,
            started,
            bounds: Bounds { told_after: 5, longest_silence: Duration::from_secs(3 * 3600) },
            whatsapp,
            dns: Vec::new(),
            supabase: Some(sync::Standing::Working),
            queues: Queues::default(),
            refusals: Refusals::default(),
            storage: Storage {
                disk: Some(Disk { free: 4 << 30, total: 8 << 30, read_only: false }),
                volatile: false,
                low: false,
                closed: false,
                failed: None,
                unreadable: None,
            },
            memory: Some(Memory { resident: 9_000_000, anonymous: 2_000_000, heap: None }),
            cpu: Duration::from_secs(20),
            restarts: Restarts::default(),
            start: Some(process_start::Cause::Asked),
            server_time: Some(UNIX),
            latest_message: Some(UNIX - 60),
        }
    }

    #[test]
    fn the_promise_is_kept_only_while_people_are_served_and_their_rows_carried_on() {
        type Change = fn(&mut Facts);
        assert!(well().promise_kept());
        let broken: &[(&str, Change)] = &[
            ("offline", |f| f.whatsapp.enter(Phase::Offline, f.now)),
            ("backlog", |f| f.queues.oldest_pending = Some(UNIX - 3600)),
            ("read-only", |f| f.storage.disk = Some(Disk { free: 1 << 30, total: 1 << 30, read_only: true })),
            ("full", |f| f.storage.closed = true),
            ("unreadable", |f| f.storage.unreadable = Some("malformed".into())),
            ("clock", |f| f.unix = 0),
        ];
        for (what, change) in broken {
            let mut facts = well();
            change(&mut facts);
            assert!(!facts.promise_kept(), "{what}");
        }
    }

    #[test]
    fn a_failed_commit_counts_for_some_minutes() {
        let mut facts = well();
        let failed = |at| Some(Failed { at, kind: Failure::Io, reason: "disk I/O error".into() });
        facts.storage.failed = failed(facts.now - FAILURE_LASTS + Duration::from_secs(1));
        assert!(!facts.promise_kept());
        facts.storage.failed = failed(facts.now - FAILURE_LASTS);
        assert!(facts.promise_kept());
    }

    #[test]
    fn rows_that_cannot_leave_for_want_of_a_project_are_not_late() {
        let mut facts = well();
        facts.queues.oldest_pending = Some(UNIX - 90_000);
        assert_eq!(facts.oldest_unsynced(), Some(Duration::from_secs(90_000)));
        facts.supabase = None;
        assert_eq!(facts.oldest_unsynced(), None);
        assert!(facts.promise_kept());
    }

    #[test]
    fn a_clock_is_wrong_before_the_build_behind_a_message_or_off_whatsapps() {
        let mut facts = well();
        facts.server_time = None;
        assert_eq!(facts.clock_error(), None);
        facts.latest_message = Some(facts.unix + CLOCK_TOLERANCE);
        assert_eq!(facts.clock_error(), None);
        facts.latest_message = Some(facts.unix + CLOCK_TOLERANCE + 1);
        assert_eq!(facts.clock_error(), Some(ClockError::Differs { behind: 301 }));
        // What WhatsApp says of its clock weighs more than one message with a strange time.
        facts.server_time = Some(UNIX);
        assert_eq!(facts.clock_error(), None);
        facts.server_time = Some(UNIX - 7200);
        assert_eq!(facts.clock_error(), Some(ClockError::Differs { behind: -7200 }));
        facts.unix = EARLIEST_SANE - 1;
        assert_eq!(facts.clock_error(), Some(ClockError::BeforeBuild));
    }
}
