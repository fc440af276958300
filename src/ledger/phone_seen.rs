//! When the operator's phone last gave a sign of life: WhatsApp unlinks devices whose phone stays
//! away for two weeks, so the time must outlive a restart.

use rusqlite::{Connection, OptionalExtension};

use super::LedgerError;

/// Keeps `at`, in seconds since 1970 UTC by WhatsApp's clock.
pub fn save(tx: &Connection, at: i64) -> Result<(), LedgerError> {
    tx.prepare_cached(
        "INSERT INTO phone_seen (only, at) VALUES (1, ?1) ON CONFLICT DO UPDATE SET at = excluded.at",
    )?
    .execute([at])?;
    Ok(())
}

/// The time kept last.
pub fn load(conn: &Connection) -> Result<Option<i64>, LedgerError> {
    Ok(conn.prepare_cached("SELECT at FROM phone_seen")?.query_row([], |row| row.get(0)).optional()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Database;

    #[test]
    fn the_last_time_is_kept() {
        Database::in_memory()
            .unwrap()
            .write_now::<_, LedgerError>(|tx| {
                assert_eq!(load(tx)?, None);
                save(tx, 1)?;
                save(tx, 2)?;
                assert_eq!(load(tx)?, Some(2));
                Ok(())
            })
            .unwrap();
    }
}
