//! Causes that the operator was told of and that have not gone away yet: a restart must not repeat
//! them, and the message that all is well again must not be forgotten.

use rusqlite::{Connection, params};

use super::LedgerError;

/// Most causes that are read back. The watch room knows fewer; what another version left is its to
/// drop.
const MOST: u32 = 100;

/// Every cause that stands, with the time at which it was told first (seconds since 1970 UTC).
pub fn all(conn: &Connection) -> Result<Vec<(String, i64)>, LedgerError> {
    let mut statement =
        conn.prepare_cached("SELECT code, raised_at FROM alert ORDER BY raised_at, code LIMIT ?1")?;
    let rows = statement.query_map([MOST], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Remembers that a cause was told of. One that stands already keeps its time.
pub fn raise(tx: &Connection, code: &str, at: i64) -> Result<(), LedgerError> {
    tx.prepare_cached("INSERT INTO alert (code, raised_at) VALUES (?1, ?2) ON CONFLICT (code) DO NOTHING")?
        .execute(params![code, at])?;
    Ok(())
}

/// Forgets a cause that has gone away.
pub fn clear(tx: &Connection, code: &str) -> Result<(), LedgerError> {
    tx.prepare_cached("DELETE FROM alert WHERE code = ?1")?.execute([code])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Database;

    #[test]
    fn a_cause_is_remembered_with_its_first_time_until_it_goes_away() {
        let ledger = Database::in_memory().unwrap();
        ledger
            .write_now::<_, LedgerError>(|tx| {
                raise(tx, "b", 7)?;
                raise(tx, "a", 7)?;
                raise(tx, "b", 9)?;
                assert_eq!(all(tx)?, [("a".to_owned(), 7), ("b".to_owned(), 7)]);
                clear(tx, "b")?;
                clear(tx, "never raised")?;
                assert_eq!(all(tx)?, [("a".to_owned(), 7)]);
                Ok(())
            })
            .unwrap();
    }
}
