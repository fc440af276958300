//! Starts of the process, how each ended and why the next one followed, so that a bot which dies again
//! and again is noticed, and one whose power fails is told from one that crashes.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::LedgerError;

/// How an orderly end that somebody asked for is recorded; any other text is a fault, and a row
/// without text is a crash or a power cut.
pub const STOPPED: &str = "stopped";

/// Most starts that are kept: far more than a supervisor with a pause of five seconds makes of an
/// hour that anybody would let pass.
const KEEP: u32 = 1_000;

/// Window in which restarts are counted, in seconds.
const WINDOW_SECONDS: i64 = 3600;

/// Why a start was needed: what became of the process before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// There was none.
    First,
    /// Somebody stopped it, in the same boot and version.
    Asked,
    /// It was stopped, and another version follows.
    Update,
    /// It was stopped, and the machine was started anew.
    Reboot,
    /// It did not end, and the machine was started anew: no power, a reset, a kernel that died.
    PowerCut,
    /// It did not end, and the machine ran on: a signal, a panic.
    Crash,
    /// The service manager killed it because it no longer said that it lives.
    Watchdog,
    /// The kernel killed it for want of memory.
    OutOfMemory,
    /// It ended with an error that it reported.
    Failed,
    /// Its configuration or command line was refused.
    Configuration,
}

impl Cause {
    pub const ALL: [Self; 10] = [
        Self::First,
        Self::Asked,
        Self::Update,
        Self::Reboot,
        Self::PowerCut,
        Self::Crash,
        Self::Watchdog,
        Self::OutOfMemory,
        Self::Failed,
        Self::Configuration,
    ];

    /// Stable, for the ledger and for machines.
    pub const fn code(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Asked => "asked",
            Self::Update => "update",
            Self::Reboot => "reboot",
            Self::PowerCut => "power_cut",
            Self::Crash => "crash",
            Self::Watchdog => "watchdog",
            Self::OutOfMemory => "out_of_memory",
            Self::Failed => "failed",
            Self::Configuration => "configuration",
        }
    }

    /// Whether nobody asked for it. Power cuts are among them: six within an hour are a loose plug or a
    /// dying power supply, about which only a person can do something.
    pub const fn is_unwanted(self) -> bool {
        !matches!(self, Self::First | Self::Asked | Self::Update | Self::Reboot)
    }

    fn of_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.code() == code)
    }
}

/// What the service manager said of the process before; see [`crate::service_result`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Watchdog,
    OutOfMemory,
    /// A signal killed it.
    Killed,
    /// It ended with this exit code.
    Exited(u8),
}

/// What is known of a start.
#[derive(Debug, Clone, Copy)]
pub struct Beginning<'a> {
    /// Seconds since 1970 UTC by the box's clock.
    pub at: i64,
    /// The kernel's id of this boot, if it tells.
    pub boot: Option<&'a str>,
    /// The program's version.
    pub version: &'a str,
    /// What the service manager said of the process before, if it told.
    pub verdict: Option<Verdict>,
}

/// What is known of the process before.
struct Before {
    ended: Option<String>,
    boot: Option<String>,
    version: Option<String>,
}

/// Exit codes after which the command line or the configuration has to be changed (`sysexits.h`).
const MISCONFIGURED: [u8; 2] = [64, 78];

fn cause(before: Option<&Before>, now: &Beginning<'_>) -> Cause {
    let Some(before) = before else { return Cause::First };
    let rebooted = matches!((&before.boot, now.boot), (Some(then), Some(now)) if then != now);
    let stopped = before.ended.as_deref() == Some(STOPPED);
    match now.verdict {
        // What was said of a process of this boot; the file does not outlive it.
        Some(Verdict::Watchdog) if !rebooted => return Cause::Watchdog,
        Some(Verdict::OutOfMemory) if !rebooted => return Cause::OutOfMemory,
        Some(Verdict::Exited(code)) if !rebooted && MISCONFIGURED.contains(&code) => {
            return Cause::Configuration;
        }
        Some(Verdict::Exited(code)) if !rebooted && code != 0 => return Cause::Failed,
        _ => {}
    }
    let updated = before.version.as_deref().is_some_and(|version| version != now.version);
    match &before.ended {
        Some(_) if stopped && updated => Cause::Update,
        Some(_) if stopped && rebooted => Cause::Reboot,
        Some(_) if stopped => Cause::Asked,
        Some(_) => Cause::Failed,
        None if rebooted => Cause::PowerCut,
        None => Cause::Crash,
    }
}

/// A start of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    id: i64,
    pub cause: Cause,
}

/// Writes down a start and why it was needed, and forgets all but the last [`KEEP`].
pub fn begin(tx: &Connection, now: &Beginning<'_>) -> Result<Start, LedgerError> {
    let before = tx
        .prepare_cached("SELECT ended, boot, version FROM process_start ORDER BY id DESC LIMIT 1")?
        .query_row([], |row| Ok(Before { ended: row.get(0)?, boot: row.get(1)?, version: row.get(2)? }))
        .optional()?;
    let cause = cause(before.as_ref(), now);
    tx.prepare_cached("INSERT INTO process_start (at, boot, version, cause) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![now.at, now.boot, now.version, cause.code()])?;
    let id = tx.last_insert_rowid();
    tx.prepare_cached("DELETE FROM process_start WHERE id <= ?1")?.execute([id - i64::from(KEEP)])?;
    Ok(Start { id, cause })
}

/// Writes down how the process ends: [`STOPPED`], or what went wrong. `how` must name no person.
pub fn end(tx: &Connection, start: Start, how: &str) -> Result<(), LedgerError> {
    tx.prepare_cached("UPDATE process_start SET ended = ?2 WHERE id = ?1")?
        .execute(params![start.id, how])?;
    Ok(())
}

/// Starts that nobody asked for, by their cause.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restarts(BTreeMap<Cause, u32>);

impl Restarts {
    pub fn total(&self) -> u32 {
        self.0.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    pub fn of(&self, cause: Cause) -> u32 {
        self.0.get(&cause).copied().unwrap_or(0)
    }

    /// Those that there were.
    pub fn iter(&self) -> impl Iterator<Item = (Cause, u32)> {
        self.0.iter().map(|(cause, count)| (*cause, *count))
    }
}

impl FromIterator<(Cause, u32)> for Restarts {
    fn from_iter<I: IntoIterator<Item = (Cause, u32)>>(counts: I) -> Self {
        Self(counts.into_iter().filter(|(cause, count)| cause.is_unwanted() && *count > 0).collect())
    }
}

/// Starts of the last hour that nobody asked for.
///
/// The box may have no clock of its own: a time in the future was written before the clock was set
/// back, so it counts as now. Rows of a version that did not write causes are not counted.
pub fn restarts(conn: &Connection, now: i64) -> Result<Restarts, LedgerError> {
    let mut statement = conn.prepare_cached(
        "SELECT cause, count(*) FROM process_start
         WHERE min(at, ?1) > ?2 AND cause IS NOT NULL GROUP BY cause",
    )?;
    let rows = statement.query_map([now, now.saturating_sub(WINDOW_SECONDS)], |row| {
        Ok((row.get::<_, String>(0)?, row.get(1)?))
    })?;
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    Ok(rows.into_iter().filter_map(|(code, count)| Some((Cause::of_code(&code)?, count))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Database;

    const NOW: i64 = 1_795_410_000;

    fn in_transaction(test: impl FnOnce(&Connection) -> Result<(), LedgerError>) {
        Database::in_memory().unwrap().write_now(test).unwrap();
    }

    fn beginning(at: i64) -> Beginning<'static> {
        Beginning { at, boot: Some("boot-1"), version: "1.0.0", verdict: None }
    }

    #[test]
    fn each_cause_is_told_from_what_is_known_of_the_process_before() {
        let at = beginning(NOW);
        let told = |verdict| Beginning { verdict: Some(verdict), ..at };
        let stopped = Some(STOPPED);
        for (ended, now, expected) in [
            (stopped, at, Cause::Asked),
            (stopped, Beginning { version: "1.0.1", ..at }, Cause::Update),
            (stopped, Beginning { boot: Some("boot-2"), ..at }, Cause::Reboot),
            (stopped, Beginning { boot: None, ..at }, Cause::Asked),
            (None, at, Cause::Crash),
            (None, Beginning { version: "1.0.1", ..at }, Cause::Crash),
            (None, Beginning { boot: None, ..at }, Cause::Crash),
            (None, Beginning { boot: Some("boot-2"), ..at }, Cause::PowerCut),
            (None, told(Verdict::Killed), Cause::Crash),
            (None, told(Verdict::Watchdog), Cause::Watchdog),
            (None, told(Verdict::OutOfMemory), Cause::OutOfMemory),
            (Some("connection"), at, Cause::Failed),
            (Some("connection"), told(Verdict::Exited(74)), Cause::Failed),
            // It was stopped, its configuration broken, refused some times and repaired.
            (stopped, told(Verdict::Exited(78)), Cause::Configuration),
            (stopped, told(Verdict::Exited(0)), Cause::Asked),
            // What was said in an earlier boot is not about this one.
            (None, Beginning { boot: Some("boot-2"), ..told(Verdict::Watchdog) }, Cause::PowerCut),
        ] {
            in_transaction(|tx| {
                let first = begin(tx, &beginning(NOW - 1))?;
                assert_eq!(first.cause, Cause::First);
                if let Some(how) = ended {
                    end(tx, first, how)?;
                }
                assert_eq!(begin(tx, &now)?.cause, expected, "{ended:?} {now:?}");
                Ok(())
            });
        }
    }

    #[test]
    fn the_first_start_and_those_that_somebody_asked_for_are_no_restarts() {
        in_transaction(|tx| {
            let first = begin(tx, &beginning(NOW))?;
            assert_eq!(restarts(tx, NOW)?.total(), 0);
            end(tx, first, STOPPED)?;
            begin(tx, &beginning(NOW + 1))?;
            assert_eq!(restarts(tx, NOW + 1)?, Restarts::default());
            // A power cut, then an error.
            let third = begin(tx, &Beginning { boot: Some("boot-2"), ..beginning(NOW + 2) })?;
            end(tx, third, "connection")?;
            begin(tx, &Beginning { boot: Some("boot-2"), ..beginning(NOW + 3) })?;
            let found = restarts(tx, NOW + 3)?;
            assert_eq!((found.of(Cause::PowerCut), found.of(Cause::Failed), found.total()), (1, 1, 2));
            Ok(())
        });
    }

    #[test]
    fn only_the_last_hour_counts_and_a_time_to_come_is_now() {
        in_transaction(|tx| {
            for at in [NOW - 9000, NOW - 3600, NOW - 3599, NOW, NOW + 500_000] {
                begin(tx, &beginning(at))?;
            }
            assert_eq!(restarts(tx, NOW)?.of(Cause::Crash), 3);
            Ok(())
        });
    }

    #[test]
    fn the_table_does_not_grow_for_ever() {
        in_transaction(|tx| {
            for at in 0..i64::from(KEEP) + 20 {
                begin(tx, &beginning(at))?;
            }
            let rows: u32 = tx.query_row("SELECT count(*) FROM process_start", [], |row| row.get(0))?;
            assert_eq!(rows, KEEP);
            assert_eq!(restarts(tx, 0)?.total(), KEEP);
            Ok(())
        });
    }

    #[test]
    fn every_cause_has_a_code_of_its_own() {
        for cause in Cause::ALL {
            assert_eq!(Cause::of_code(cause.code()), Some(cause));
        }
    }
}
