//! The latest time that is known to have been, by WhatsApp's clock: a box without a clock of its own
//! begins its next life with it.

use rusqlite::{Connection, OptionalExtension};

use super::{LedgerError, inbound, phone_seen};

/// Keeps `at`, in seconds since 1970 UTC. An earlier time than the one kept changes nothing.
pub fn save(tx: &Connection, at: i64) -> Result<(), LedgerError> {
    tx.prepare_cached(
        "INSERT INTO known_time (only, at) VALUES (1, ?1)
         ON CONFLICT (only) DO UPDATE SET at = excluded.at WHERE excluded.at > at",
    )?
    .execute([at])?;
    Ok(())
}

/// The latest time that anything in the ledger tells of; `None` in a new one.
pub fn load(conn: &Connection) -> Result<Option<i64>, LedgerError> {
    let kept =
        conn.prepare_cached("SELECT at FROM known_time")?.query_row([], |row| row.get(0)).optional()?;
    Ok(kept.max(inbound::latest(conn)?).max(phone_seen::load(conn)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Database;

    #[test]
    fn the_latest_time_of_all_is_known_and_never_steps_back() {
        Database::in_memory()
            .unwrap()
            .write_now::<_, LedgerError>(|tx| {
                assert_eq!(load(tx)?, None);
                inbound::remember(tx, "a", "a", "1", 50)?;
                assert_eq!(load(tx)?, Some(50));
                save(tx, 100)?;
                save(tx, 99)?;
                assert_eq!(load(tx)?, Some(100));
                inbound::remember(tx, "a", "a", "2", 150)?;
                assert_eq!(load(tx)?, Some(150));
                Ok(())
            })
            .unwrap();
    }
}
