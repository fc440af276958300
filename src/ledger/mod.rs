//! The ledger: everything that must survive, in one SQLite file. It knows people, days and
//! rows, and nothing of WhatsApp or HTTP.
//!
//! Each table has one module that owns it. Its functions take the connection that
//! [`Database::write`] or [`Database::read`] hands to a job, so several of them make one
//! transaction: message seen, people registered, conversation moved on, reply enqueued.

pub mod conversation;
pub mod database;
pub mod inbound;
pub mod outbox;
pub mod registration;
pub mod sync_queue;

use rusqlite::Connection;

pub use database::{Database, LedgerError, OpenError};

/// Most rows that one call of [`prune`] removes from each table: a transaction of a few
/// milliseconds, so that no message waits for it.
pub const PRUNE_ROWS: u32 = 200;

/// Seconds of a day.
const DAY: i64 = 24 * 60 * 60;

/// Forgets what is past its time, at most [`PRUNE_ROWS`] rows per table. `now` is in seconds
/// since 1970 UTC.
///
/// Returns how many rows went; call again soon while that is not 0, else hourly.
pub fn prune(tx: &Connection, now: i64) -> Result<usize, LedgerError> {
    Ok(inbound::prune(tx, now)?
        + conversation::prune(tx, now)?
        + registration::prune(tx, now)?
        + outbox::prune(tx, now)?)
}
