//! Starts of the process and how each ended, so that a bot which dies again and again is noticed.

use rusqlite::{Connection, params};

use super::LedgerError;

/// How an orderly end that somebody asked for is recorded; any other text is a fault, and a row
/// without text is a crash or a power cut.
pub const STOPPED: &str = "stopped";

/// Most starts that are kept: far more than a supervisor with a pause of five seconds makes of an
/// hour that anybody would let pass.
const KEEP: u32 = 1_000;

/// Window in which restarts are counted, in seconds.
const WINDOW_SECONDS: i64 = 3600;

/// A start of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start(i64);

/// Writes down a start at `now` (seconds since 1970 UTC) and forgets all but the last [`KEEP`].
pub fn begin(tx: &Connection, now: i64) -> Result<Start, LedgerError> {
    tx.prepare_cached("INSERT INTO process_start (at) VALUES (?1)")?.execute([now])?;
    let id = tx.last_insert_rowid();
    tx.prepare_cached("DELETE FROM process_start WHERE id <= ?1")?.execute([id - i64::from(KEEP)])?;
    Ok(Start(id))
}

/// Writes down how the process ends: [`STOPPED`], or what went wrong. `how` must name no person.
pub fn end(tx: &Connection, start: Start, how: &str) -> Result<(), LedgerError> {
    tx.prepare_cached("UPDATE process_start SET ended = ?2 WHERE id = ?1")?.execute(params![start.0, how])?;
    Ok(())
}

/// Starts of the last hour that nobody asked for: those whose predecessor crashed, lost its power
/// or failed.
///
/// The box may have no clock of its own: a time in the future was written before the clock was set
/// back, so it counts as now.
pub fn restarts(conn: &Connection, now: i64) -> Result<u32, LedgerError> {
    Ok(conn
        .prepare_cached(
            "SELECT count(*) FROM process_start AS this JOIN process_start AS before
               ON before.id = (SELECT max(id) FROM process_start WHERE id < this.id)
             WHERE min(this.at, ?1) > ?2 AND before.ended IS NOT ?3",
        )?
        .query_row(params![now, now.saturating_sub(WINDOW_SECONDS), STOPPED], |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Database;

    fn in_transaction(test: impl FnOnce(&Connection) -> Result<(), LedgerError>) {
        Database::in_memory().unwrap().write_now(test).unwrap();
    }

    #[test]
    fn the_first_start_and_those_that_somebody_asked_for_are_no_restarts() {
        in_transaction(|tx| {
            let now = 1_795_410_000;
            let first = begin(tx, now)?;
            assert_eq!(restarts(tx, now)?, 0);
            end(tx, first, STOPPED)?;
            let second = begin(tx, now + 1)?;
            assert_eq!(restarts(tx, now + 1)?, 0);
            // A power cut, then an error.
            let third = begin(tx, now + 2)?;
            assert_eq!(restarts(tx, now + 2)?, 1);
            end(tx, third, "74")?;
            begin(tx, now + 3)?;
            assert_eq!(restarts(tx, now + 3)?, 2);
            assert_ne!(second, third);
            Ok(())
        });
    }

    #[test]
    fn only_the_last_hour_counts_and_a_time_to_come_is_now() {
        in_transaction(|tx| {
            let now = 1_795_410_000;
            for at in [now - 9000, now - 3600, now - 3599, now, now + 500_000] {
                begin(tx, at)?;
            }
            assert_eq!(restarts(tx, now)?, 3);
            Ok(())
        });
    }

    #[test]
    fn the_table_does_not_grow_for_ever() {
        in_transaction(|tx| {
            for at in 0..i64::from(KEEP) + 20 {
                begin(tx, at)?;
            }
            let rows: u32 = tx.query_row("SELECT count(*) FROM process_start", [], |row| row.get(0))?;
            assert_eq!(rows, KEEP);
            assert_eq!(restarts(tx, 0)?, KEEP - 1);
            Ok(())
        });
    }
}
