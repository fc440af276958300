//! Tries to connect to WhatsApp, kept for an hour: the ceiling on them holds across restarts.

use std::time::Duration;

use rusqlite::Connection;

use super::LedgerError;

/// How long a try is remembered, in seconds.
pub const KEEP_SECONDS: i64 = 3600;

/// Most tries that are kept: as many as any ceiling allows.
pub const MOST: u32 = 3600;

/// Writes down a try that is about to be made at `now` (seconds since 1970 UTC by the box's clock),
/// and forgets those past their time. A try that seems to come from the future (the clock was set
/// back) is moved to now, so that it counts and is forgotten in the end.
pub fn record(tx: &Connection, now: i64) -> Result<(), LedgerError> {
    tx.prepare_cached("UPDATE connection_attempt SET at = ?1 WHERE at > ?1")?.execute([now])?;
    tx.prepare_cached("DELETE FROM connection_attempt WHERE at <= ?1")?.execute([now - KEEP_SECONDS])?;
    tx.prepare_cached("INSERT INTO connection_attempt (at) VALUES (?1)")?.execute([now])?;
    tx.prepare_cached(
        "DELETE FROM connection_attempt WHERE id <= (SELECT max(id) FROM connection_attempt) - ?1",
    )?
    .execute([MOST])?;
    Ok(())
}

/// How long ago, at `now`, each try of the last hour was made. One from the future counts as made
/// just now: the box has no clock of its own, and a ceiling that errs should err on the safe side.
pub fn ages(conn: &Connection, now: i64) -> Result<Vec<Duration>, LedgerError> {
    let mut statement = conn.prepare_cached("SELECT at FROM connection_attempt WHERE at > ?1 ORDER BY id")?;
    let ages = statement.query_map([now - KEEP_SECONDS], |row| row.get::<_, i64>(0))?;
    ages.map(|at| Ok(Duration::from_secs(u64::try_from(now - at?).unwrap_or(0)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Database;

    const NOW: i64 = 1_795_410_000;

    #[test]
    fn an_hour_is_remembered_and_a_clock_set_back_forgets_nothing() {
        Database::in_memory()
            .unwrap()
            .write_now::<_, LedgerError>(|tx| {
                record(tx, NOW - KEEP_SECONDS)?;
                record(tx, NOW - 60)?;
                record(tx, NOW)?;
                assert_eq!(ages(tx, NOW)?, [60, 0].map(Duration::from_secs));
                let yesterday = NOW - 86_400;
                assert_eq!(ages(tx, yesterday)?, [Duration::ZERO; 2], "they count as made just now");
                record(tx, yesterday)?;
                assert_eq!(ages(tx, yesterday + 10)?, [Duration::from_secs(10); 3]);
                assert!(ages(tx, yesterday + KEEP_SECONDS)?.is_empty());
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn the_table_is_bounded() {
        let database = Database::in_memory().unwrap();
        let tries = database
            .write_now::<_, LedgerError>(|tx| {
                for _ in 0..MOST + 10 {
                    record(tx, NOW)?;
                }
                ages(tx, NOW)
            })
            .unwrap();
        assert_eq!(tries.len(), MOST as usize);
    }
}
