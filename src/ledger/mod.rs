//! The ledger: everything that must survive, in one SQLite file. It knows people, days and
//! rows, and nothing of WhatsApp or HTTP.
//!
//! Each table has one module that owns it. Its functions take the connection that
//! [`Database::write`] or [`Database::read`] hands to a job, so several of them make one
//! transaction: message seen, people registered, conversation moved on, reply enqueued.

pub mod alert;
pub mod connection_attempt;
pub mod conversation;
pub mod database;
pub mod inbound;
pub mod known_time;
pub mod last_good;
pub mod missing_message;
pub mod outbox;
pub mod person;
pub mod phone_seen;
pub mod process_start;
pub mod reachout;
pub mod refused_message;
pub mod registration;
pub mod set_aside;
pub mod sync_queue;

use rusqlite::Connection;

pub(crate) use database::APPLICATION_ID;
pub use database::{CommitFailure, Database, LedgerError, OpenError};

/// Most rows that one call of [`prune`] removes from each table: a transaction of a few
/// milliseconds, so that no message waits for it.
pub const PRUNE_ROWS: u32 = 200;

/// Seconds of a day.
const DAY: i64 = 24 * 60 * 60;

/// The time by which old rows are judged: `now`, or a day after the last message if that is earlier, both
/// in seconds since 1970 UTC. `None`: nothing has come yet, so nothing is old.
///
/// The last message's time is WhatsApp's. Whatever the box takes for now, nothing is forgotten too early,
/// and after a long silence some things later.
pub fn judged_by(conn: &Connection, now: i64) -> Result<Option<i64>, LedgerError> {
    Ok(inbound::latest(conn)?.map(|latest| now.min(latest.saturating_add(DAY))))
}

/// Forgets what is past its time at `now` (see [`judged_by`]), at most [`PRUNE_ROWS`] rows per table.
/// Registrations that Supabase has are kept for `keep_days`.
///
/// Returns how many rows went; call again soon while that is not 0, else hourly.
pub fn prune(tx: &Connection, now: i64, keep_days: u32) -> Result<usize, LedgerError> {
    Ok(inbound::prune(tx, now)?
        + conversation::prune(tx, now)?
        + registration::prune(tx, now, keep_days)?
        + missing_message::prune(tx, now)?
        + refused_message::prune(tx, now)?
        + person::prune(tx, now)?
        + outbox::prune(tx, now)?
        + reachout::prune(tx, now)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_runs_years_ahead_forgets_nothing_of_today() {
        Database::in_memory()
            .unwrap()
            .write_now::<_, LedgerError>(|tx| {
                let now = 1_795_410_000;
                assert_eq!(judged_by(tx, i64::MAX)?, None);
                inbound::remember(tx, "a", "a", "old", now - 40 * DAY)?;
                inbound::remember(tx, "a", "a", "new", now)?;
                conversation::save(tx, "a", "{}", now)?;
                assert_eq!(judged_by(tx, 0)?, Some(0));
                let judged_by = judged_by(tx, now + 5000 * DAY)?.unwrap();
                assert_eq!(prune(tx, judged_by, 1)?, 1);
                assert!(conversation::load(tx, "a")?.is_some());
                assert!(!inbound::remember(tx, "a", "a", "new", now)?);
                Ok(())
            })
            .unwrap();
    }
}
