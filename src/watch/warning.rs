//! Everything that can be wrong, as one registry; and which of it is wrong now, computed from facts.
//!
//! Nobody sets a warning by hand. [`conditions`] says what holds at this moment, [`Sightings`]
//! remembers since when, [`visible`] leaves out blips and whatever is only a consequence. The design
//! is tailscale's (`health`: warnables with *depends on* and *time to visible*).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::facts::{self, ClockError, Facts, Failure};
use crate::ledger::process_start::Restarts;
use crate::net::rung::{self, Kind};
use crate::pairing::Obstacle;
use crate::registration::opening_hours;
use crate::supabase::sync;
use crate::supabase::verdict::Action;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Somebody should know. The bot does its work.
    Warning,
    /// People are not served, or what they sent does not reach its place, and waiting does not mend
    /// it. `/health` answers 503.
    Unhealthy,
}

impl Severity {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What is known of a cause beforehand.
#[derive(Debug, Clone, Copy)]
pub struct Warnable {
    /// Stable and unique: for machines, and for an operator who asks somebody.
    pub code: &'static str,
    pub severity: Severity,
    /// While one of these holds, this one is a consequence and stays hidden.
    pub depends_on: &'static [Cause],
    /// What passes sooner is a blip.
    pub time_to_visible: Duration,
    /// How long it must be gone before the operator is told that it is over.
    pub calm: Duration,
    /// Whether the operator is called. The rest is seen by those who look.
    pub alerts: bool,
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// What holds is over when it has been gone for this long, unless the registry says otherwise.
const CALM: Duration = Duration::from_secs(5 * 60);

/// Days without a sign of the operator's phone after which a person should look; WhatsApp unlinks all
/// devices after 14.
const PHONE_UNSEEN_DAYS: i64 = 12;

/// More restarts within an hour than this are a loop.
const MANY_RESTARTS: u32 = 5;

/// More resident memory than this in bytes is a leak: six times the budget.
const MUCH_MEMORY: u64 = 64 * 1024 * 1024;

/// Seconds of a day.
const DAY: i64 = 86_400;

macro_rules! causes {
    ($( $(#[doc = $doc:literal])* $name:ident = $code:literal, $severity:ident, after $after:expr, calm $calm:expr,
        alerts $alerts:literal, below [$($cause:ident),*]; )+) => {
        /// Something that can be wrong. The order is that in which causes are shown.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Cause { $( $(#[doc = $doc])* $name, )+ }

        impl Cause {
            pub const ALL: &[Self] = &[ $( Self::$name, )+ ];

            pub const fn warnable(self) -> Warnable {
                match self { $( Self::$name => Warnable {
                    code: $code,
                    severity: Severity::$severity,
                    depends_on: &[ $( Self::$cause, )* ],
                    time_to_visible: $after,
                    calm: $calm,
                    alerts: $alerts,
                }, )+ }
            }
        }
    };
}

causes! {
    /// The kernel mounted the disk read-only.
    DiskReadOnly = "disk.read_only", Unhealthy, after Duration::ZERO, calm CALM, alerts true, below [];
    /// No space: registrations are refused, or not even that can be written.
    DiskFull = "disk.full", Unhealthy, after Duration::ZERO, calm CALM, alerts true, below [DiskReadOnly];
    /// The disk refuses to write for another reason.
    DiskFailing = "disk.failing", Unhealthy, after Duration::ZERO, calm CALM, alerts true,
        below [DiskReadOnly, DiskFull];
    /// The database cannot be read.
    LedgerDamaged = "ledger.damaged", Unhealthy, after Duration::ZERO, calm CALM, alerts true, below [];
    /// The data folder is in memory, and the operator allowed that.
    DiskVolatile = "data.volatile", Warning, after Duration::ZERO, calm CALM, alerts false, below [];
    /// Space runs out. To be cleared it must be gone for long: logs are rotated and grow again.
    DiskLow = "disk.low", Warning, after Duration::from_secs(5 * 60), calm HOUR, alerts true,
        below [DiskFull, DiskReadOnly];
    /// No way out: no DNS server answers.
    LineDown = "line.down", Unhealthy, after Duration::from_secs(3 * 60), calm CALM, alerts true, below [];
    /// There is a line, and no DNS server gives a usable answer.
    DnsDead = "dns.dead", Unhealthy, after Duration::from_secs(3 * 60), calm CALM, alerts true,
        below [LineDown];
    /// The provider's DNS answers what is not so. Harmless while another rung works.
    DnsSystemLying = "dns.system.lying", Warning, after MINUTE, calm CALM, alerts false,
        below [LineDown, DnsDead];
    DnsHttpsLying = "dns.https.lying", Warning, after MINUTE, calm CALM, alerts false,
        below [LineDown, DnsDead];
    DnsTlsLying = "dns.tls.lying", Warning, after MINUTE, calm CALM, alerts false,
        below [LineDown, DnsDead];
    DnsPublicLying = "dns.public.lying", Warning, after MINUTE, calm CALM, alerts false,
        below [LineDown, DnsDead];
    /// The system's DNS servers do not answer, and others do. That those others fail is no warning:
    /// in Indonesia it is a usual state that nobody can change.
    DnsSystemFailing = "dns.system.failing", Warning, after Duration::from_secs(5 * 60), calm CALM,
        alerts false, below [LineDown, DnsDead];
    /// The phone ended the session.
    LoggedOut = "whatsapp.logged_out", Unhealthy, after Duration::ZERO, calm CALM, alerts true, below [];
    /// There is no session. Half a minute: at start it is not known yet.
    NotPaired = "whatsapp.not_paired", Unhealthy, after Duration::from_secs(30), calm CALM, alerts true,
        below [LoggedOut];
    /// Another program uses the session.
    Replaced = "whatsapp.replaced", Unhealthy, after Duration::ZERO, calm CALM, alerts true, below [];
    /// WhatsApp refuses the version. A minute: the first thing done is to fetch the current one.
    Outdated = "whatsapp.outdated", Unhealthy, after MINUTE, calm CALM, alerts true, below [];
    /// WhatsApp blocked the number for a while.
    Banned = "whatsapp.banned", Unhealthy, after Duration::ZERO, calm CALM, alerts true, below [];
    /// So many tries that the next one is held back. It comes and goes within the hour.
    Storm = "whatsapp.storm", Unhealthy, after Duration::ZERO, calm HOUR, alerts true,
        below [LineDown, DnsDead, LoggedOut, NotPaired, Replaced, Outdated, Banned];
    /// Messages do not go in and out. Visible at once after `connection.told_after` failures.
    Offline = "whatsapp.offline", Unhealthy, after Duration::from_secs(3 * 60), calm CALM, alerts true,
        below [LineDown, DnsDead, LoggedOut, NotPaired, Replaced, Outdated, Banned, Storm];
    /// Connected, and nobody's message arrives, also not after the connection was made anew.
    Deaf = "whatsapp.deaf", Warning, after Duration::from_secs(15 * 60), calm CALM, alerts true, below [];
    /// People have waited for their replies for more than two minutes, and the line is up.
    RepliesLate = "outbox.late", Warning, after Duration::ZERO, calm CALM, alerts true, below [];
    /// WhatsApp has not seen the operator's phone for long, and will unlink the bot.
    PhoneUnseen = "whatsapp.phone_unseen", Warning, after MINUTE, calm CALM, alerts true,
        below [LoggedOut, NotPaired, ClockWrong];
    /// WhatsApp lets replies to some people, or first replies to anybody, not through for now. Half a minute:
    /// WhatsApp is asked for the end of its lock meanwhile.
    RepliesRefused = "whatsapp.replies_refused", Warning, after Duration::from_secs(30), calm CALM, alerts true,
        below [];
    /// Replies were given up within a day.
    RepliesGivenUp = "outbox.given_up", Warning, after Duration::ZERO, calm CALM, alerts true, below [];
    /// Supabase refuses, and a person has to do something there.
    SupabaseRefused = "supabase.refused", Unhealthy, after Duration::ZERO, calm CALM, alerts true, below [];
    /// Something else answers in Supabase's place. Some minutes: a portal that was just passed is none.
    SupabaseBlocked = "supabase.blocked", Unhealthy, after Duration::from_secs(3 * 60), calm CALM, alerts true,
        below [LineDown, DnsDead];
    /// Supabase does not understand the bot.
    SupabaseBroken = "supabase.broken", Unhealthy, after Duration::ZERO, calm CALM, alerts true, below [];
    /// Supabase does not answer.
    SupabaseUnreachable = "supabase.unreachable", Unhealthy, after Duration::from_secs(15 * 60), calm CALM,
        alerts true, below [LineDown, DnsDead];
    /// A row has waited for over an hour. Five minutes: after a long power cut rows are old, and leave
    /// at once.
    SyncLate = "sync.late", Unhealthy, after Duration::from_secs(5 * 60), calm CALM, alerts true,
        below [SupabaseRefused, SupabaseBlocked, SupabaseBroken, SupabaseUnreachable, LineDown, DnsDead, ClockWrong];
    /// Supabase refuses some rows for good.
    SyncParked = "sync.parked", Warning, after Duration::ZERO, calm CALM, alerts true, below [];
    /// The process dies again and again. A minute: at boot the clock may stand in the past.
    Restarts = "process.restarts", Unhealthy, after MINUTE, calm HOUR, alerts true, below [];
    /// The box's clock is wrong; days come from WhatsApp's, so people are served.
    ClockWrong = "clock.wrong", Warning, after Duration::from_secs(2 * 60), calm CALM, alerts true, below [];
    /// The process uses far more memory than it should.
    MemoryHigh = "memory.high", Warning, after Duration::from_secs(10 * 60), calm CALM, alerts false, below [];
}

impl Cause {
    pub const fn code(self) -> &'static str {
        self.warnable().code
    }

    /// Whether only a connection that is up proves that it is over: until then the facts show how the
    /// last try ended, which is not always what has to be mended.
    pub const fn lasts_until_up(self) -> bool {
        matches!(
            self,
            Self::LoggedOut
                | Self::NotPaired
                | Self::Replaced
                | Self::Outdated
                | Self::Banned
                | Self::Offline
        )
    }

    /// What is wrong when a person has to do this for Supabase.
    pub const fn of_action(action: Action) -> Self {
        match action {
            Action::ClearTheWay => Self::SupabaseBlocked,
            Action::CheckKey
            | Action::UseSecretKey
            | Action::GrantRights
            | Action::InstallSchema
            | Action::CheckUrl
            | Action::FreeDiskSpace
            | Action::CheckRole
            | Action::CheckTable
            | Action::LiftRestriction => Self::SupabaseRefused,
        }
    }

    pub fn of_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|cause| cause.code() == code)
    }
}

/// What the sentence about a cause has to tell besides the cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detail {
    None,
    /// Failed tries in a row.
    Failures(u32),
    /// What Supabase wants.
    Action(Action),
    Bytes {
        free: u64,
        total: u64,
    },
    Count(u32),
    Waiting(facts::Waiting),
    Restarts(Restarts),
    For(Duration),
    Days(i64),
    Clock(ClockError),
    /// What stands in the way of a link.
    Obstacle(Obstacle),
    /// People who are not let in, replies that wait for it, and until when if that is known, in seconds since
    /// 1970 UTC.
    Refused {
        people: u32,
        replies: u32,
        until: Option<i64>,
    },
}

/// A cause that holds at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    pub cause: Cause,
    /// Since when, if the facts say so; else since it was first seen.
    pub since: Option<Instant>,
    /// No blip, however short it has been.
    pub urgent: bool,
    pub detail: Detail,
    /// The last error behind it, in English and without personal numbers.
    pub error: Option<String>,
}

impl Condition {
    fn new(cause: Cause) -> Self {
        Self { cause, since: None, urgent: false, detail: Detail::None, error: None }
    }

    fn since(self, since: Instant) -> Self {
        Self { since: Some(since), ..self }
    }

    fn detail(self, detail: Detail) -> Self {
        Self { detail, ..self }
    }

    fn error(self, error: impl Into<String>) -> Self {
        Self { error: Some(error.into()), ..self }
    }
}

/// A cause that is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    pub cause: Cause,
    pub since: Instant,
    pub detail: Detail,
    pub error: Option<String>,
}

/// Everything that holds at this moment, each cause once, in the order of [`Cause::ALL`].
pub fn conditions(facts: &Facts) -> Vec<Condition> {
    let mut found = Vec::new();
    disk(facts, &mut found);
    dns(facts, &mut found);
    whatsapp(facts, &mut found);
    supabase(facts, &mut found);
    if facts.restarts.total() > MANY_RESTARTS {
        found.push(Condition::new(Cause::Restarts).detail(Detail::Restarts(facts.restarts.clone())));
    }
    if let Some(error) = facts.clock_error() {
        found.push(Condition::new(Cause::ClockWrong).detail(Detail::Clock(error)));
    }
    if let Some(memory) = facts.memory.filter(|memory| memory.resident > MUCH_MEMORY) {
        let detail = Detail::Bytes { free: 0, total: memory.resident };
        found.push(Condition::new(Cause::MemoryHigh).detail(detail));
    }
    found.sort_by_key(|condition| condition.cause);
    found
}

fn disk(facts: &Facts, found: &mut Vec<Condition>) {
    let failed = facts.recent_failure();
    let failed_by = |kind| failed.filter(|failed| failed.kind == kind);
    if facts.storage.volatile {
        found.push(Condition::new(Cause::DiskVolatile));
    }
    if let Some(disk) = facts.storage.disk {
        let space = Detail::Bytes { free: disk.free, total: disk.total };
        if facts.storage.low {
            found.push(Condition::new(Cause::DiskLow).detail(space.clone()));
        }
        if facts.storage.closed && failed_by(Failure::Full).is_none() {
            found.push(Condition::new(Cause::DiskFull).detail(space));
        }
        if disk.read_only && failed_by(Failure::ReadOnly).is_none() {
            found.push(Condition::new(Cause::DiskReadOnly));
        }
    }
    if let Some(failed) = failed {
        let cause = match failed.kind {
            Failure::Full => Cause::DiskFull,
            Failure::ReadOnly => Cause::DiskReadOnly,
            Failure::Damaged => Cause::LedgerDamaged,
            Failure::Io => Cause::DiskFailing,
        };
        found.push(Condition::new(cause).error(&failed.reason));
    }
    if let Some(reason) = &facts.storage.unreadable
        && failed_by(Failure::Damaged).is_none()
    {
        found.push(Condition::new(Cause::LedgerDamaged).error(reason));
    }
}

fn dns(facts: &Facts, found: &mut Vec<Condition>) {
    let up = facts.whatsapp.phase.is_up();
    let failing = |rung: &rung::Health| matches!(rung.condition, rung::Condition::Failing { .. });
    let lying = |rung: &rung::Health| matches!(rung.condition, rung::Condition::Lying { .. });
    let rungs = &facts.dns;
    let since = rungs.iter().map(|rung| rung.since).max();
    let none_answers = !rungs.is_empty() && rungs.iter().all(failing);
    let none_helps = !rungs.is_empty() && rungs.iter().all(|rung| failing(rung) || lying(rung));

    let no_line = !up && facts.whatsapp.last_end.as_ref().is_some_and(|end| end.code == "no_line");
    let nothing_gets_out =
        rungs.is_empty() || matches!(facts.supabase, Some(sync::Standing::Retrying { .. }));
    if !up && none_answers || no_line && nothing_gets_out {
        let line = Condition::new(Cause::LineDown);
        found.push(Condition { since: facts.whatsapp.down_since.or(since), ..line });
    }
    if none_helps && (up || !none_answers) {
        found.push(Condition { since, ..Condition::new(Cause::DnsDead) });
    }
    for (kind, cause) in [
        (Kind::System, Cause::DnsSystemLying),
        (Kind::Https, Cause::DnsHttpsLying),
        (Kind::Tls, Cause::DnsTlsLying),
        (Kind::Public, Cause::DnsPublicLying),
    ] {
        if let Some(rung) = rungs.iter().find(|rung| rung.kind == kind && lying(rung)) {
            found.push(Condition::new(cause).since(rung.since).error(reason_of(rung)));
        }
    }
    let mut system = rungs.iter().filter(|rung| rung.kind == Kind::System).peekable();
    if let Some(first) = system.peek().copied()
        && system.all(failing)
    {
        found.push(Condition::new(Cause::DnsSystemFailing).since(first.since).error(reason_of(first)));
    }
}

/// What is wrong with a rung, with the server that it is about.
pub(super) fn reason_of(rung: &rung::Health) -> String {
    match &rung.condition {
        rung::Condition::Failing { reason } | rung::Condition::Lying { reason } => {
            format!("{}: {reason}", rung.server)
        }
        rung::Condition::Unknown | rung::Condition::Good => String::new(),
    }
}

fn whatsapp(facts: &Facts, found: &mut Vec<Condition>) {
    let standing = &facts.whatsapp;
    if let Some(seen) = standing.phone_seen {
        let days = facts.unix.saturating_sub(seen) / DAY;
        if days >= PHONE_UNSEEN_DAYS {
            found.push(Condition::new(Cause::PhoneUnseen).detail(Detail::Days(days)));
        }
    }
    let refusals = &facts.refusals;
    let until = refusals.until(facts.unix);
    if until.is_some() || refusals.people > 0 && refusals.parked > 0 {
        let detail = Detail::Refused { people: refusals.people, replies: refusals.parked, until };
        found.push(Condition::new(Cause::RepliesRefused).detail(detail));
    }
    if refusals.given_up_today > 0 {
        found.push(Condition::new(Cause::RepliesGivenUp).detail(Detail::Count(refusals.given_up_today)));
    }
    if standing.phase.is_up() {
        if let Some(silence) = silence(facts).filter(|silence| *silence >= facts.bounds.longest_silence) {
            // Seen before the process started, or within this day's opening hours.
            let since = facts.now.checked_sub(silence - facts.bounds.longest_silence);
            let deaf = Condition::new(Cause::Deaf).detail(Detail::For(silence));
            found.push(Condition { since, ..deaf });
        }
        if let Some(late) = facts.late_replies() {
            found.push(Condition::new(Cause::RepliesLate).detail(Detail::Waiting(late)));
        }
        return;
    }
    let down_since = standing.down_since.unwrap_or(standing.since);
    let end = standing.last_end.as_ref();
    let down = |cause| {
        let condition = Condition::new(cause).since(down_since);
        Condition { error: end.map(|end| end.detail.clone()), ..condition }
    };
    let ended_by = |code| end.is_some_and(|end| end.code == code);
    for (code, cause) in [
        ("logged_out", Cause::LoggedOut),
        ("replaced", Cause::Replaced),
        ("outdated", Cause::Outdated),
        ("banned", Cause::Banned),
    ] {
        if ended_by(code) {
            found.push(down(cause));
        }
    }
    if !standing.paired {
        let detail = standing.obstacle.map_or(Detail::None, Detail::Obstacle);
        found.push(down(Cause::NotPaired).detail(detail));
    }
    if standing.storm {
        let wait = standing.next_attempt.map(|next| next.saturating_duration_since(facts.now));
        found.push(down(Cause::Storm).detail(wait.map_or(Detail::None, Detail::For)));
    }
    let offline = down(Cause::Offline).detail(Detail::Failures(standing.failures));
    found.push(Condition { urgent: standing.failures >= facts.bounds.told_after, ..offline });
}

/// How long nobody's message has come in, counted within the opening hours of this day; `None`
/// outside of them, and until WhatsApp has told the time: the box's own clock does not know them.
fn silence(facts: &Facts) -> Option<Duration> {
    let open = opening_hours::open_for(facts.server_time?)?;
    let last = facts.whatsapp.last_message.unwrap_or(facts.started);
    Some(facts.now.saturating_duration_since(last).min(open))
}

fn supabase(facts: &Facts, found: &mut Vec<Condition>) {
    let Some(standing) = &facts.supabase else { return };
    match standing {
        sync::Standing::Working => {}
        sync::Standing::Retrying { since, failures, reason } => {
            let unreachable = Condition::new(Cause::SupabaseUnreachable).since(*since);
            found.push(unreachable.detail(Detail::Failures(*failures)).error(reason.to_string()));
        }
        sync::Standing::NeedsOperator { since, action } => {
            let refused = Condition::new(Cause::of_action(*action)).since(*since);
            found.push(refused.detail(Detail::Action(*action)).error(action.to_string()));
        }
        sync::Standing::Broken { since, reason } => {
            found.push(Condition::new(Cause::SupabaseBroken).since(*since).error(reason.to_string()));
        }
    }
    if let Some(age) = facts.oldest_unsynced().filter(|age| *age > facts::LONGEST_UNSYNCED) {
        found.push(Condition::new(Cause::SyncLate).detail(Detail::For(age)));
    }
    if facts.queues.sync.parked > 0 {
        found.push(Condition::new(Cause::SyncParked).detail(Detail::Count(facts.queues.sync.parked)));
    }
}

/// Since when each cause that holds has held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sightings(BTreeMap<Cause, Instant>);

impl Sightings {
    /// The sightings after one more look: what is gone is forgotten, what is new begins.
    #[must_use]
    pub fn after(&self, conditions: &[Condition], now: Instant) -> Self {
        let since = |condition: &Condition| {
            condition.since.or_else(|| self.0.get(&condition.cause).copied()).unwrap_or(now)
        };
        Self(conditions.iter().map(|condition| (condition.cause, since(condition))).collect())
    }

    fn since(&self, cause: Cause, now: Instant) -> Instant {
        self.0.get(&cause).copied().unwrap_or(now)
    }
}

/// What is shown: every condition that has lasted and is no consequence of another.
pub fn visible(conditions: &[Condition], sightings: &Sightings, now: Instant) -> Vec<Warning> {
    let holds = |cause: &Cause| conditions.iter().any(|condition| condition.cause == *cause);
    let shown = |condition: &&Condition| {
        let warnable = condition.cause.warnable();
        let lasted = now.saturating_duration_since(sightings.since(condition.cause, now));
        (condition.urgent || lasted >= warnable.time_to_visible) && !warnable.depends_on.iter().any(holds)
    };
    let warning = |condition: &Condition| Warning {
        cause: condition.cause,
        since: sightings.since(condition.cause, now),
        detail: condition.detail.clone(),
        error: condition.error.clone(),
    };
    conditions.iter().filter(shown).map(warning).collect()
}

/// The overall state for `/health`: the worst of what is visible; `None` if nothing is.
pub fn worst(warnings: &[Warning]) -> Option<Severity> {
    warnings.iter().map(|warning| warning.cause.warnable().severity).max()
}

#[cfg(test)]
mod tests;
