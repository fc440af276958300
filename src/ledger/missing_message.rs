//! Messages whose keys are used up and that are nowhere: a power cut fell between their decryption and
//! the disk. They stay here until they came after all, or until the customer was asked instead.

use rusqlite::{Connection, params};

use super::LedgerError;

/// Most that are read at once, the oldest first. One power cut takes at most what whatsapp-rust decrypts
/// beside each other, which is 64 messages.
const MOST: u32 = 64;

/// A message that is missed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Missing {
    /// Chat, sender and id are the key under which [`inbound`](super::inbound) remembers it.
    pub chat: String,
    pub sender: String,
    pub id: String,
    /// The sender's device that has it; 0 is the phone.
    pub device: u16,
    /// The message's own time, in seconds since 1970 UTC.
    pub at: i64,
}

/// Takes note of one; the same one again changes nothing.
pub fn note(tx: &Connection, missing: &Missing) -> Result<(), LedgerError> {
    let Missing { chat, sender, id, device, at } = missing;
    tx.prepare_cached(
        "INSERT INTO missing_message (chat, sender, id, device, at) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO NOTHING",
    )?
    .execute(params![chat, sender, id, device, at])?;
    Ok(())
}

/// What is missed, the oldest first; at most 64.
pub fn all(conn: &Connection) -> Result<Vec<Missing>, LedgerError> {
    let mut statement = conn.prepare_cached(
        "SELECT chat, sender, id, device, at FROM missing_message ORDER BY at, id LIMIT ?1",
    )?;
    let rows = statement.query_map([MOST], |row| {
        Ok(Missing {
            chat: row.get(0)?,
            sender: row.get(1)?,
            id: row.get(2)?,
            device: row.get(3)?,
            at: row.get(4)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// It came, or nobody waits for it any longer. One that is not missed is none.
pub fn forget(tx: &Connection, chat: &str, sender: &str, id: &str) -> Result<(), LedgerError> {
    tx.prepare_cached("DELETE FROM missing_message WHERE chat = ?1 AND sender = ?2 AND id = ?3")?
        .execute([chat, sender, id])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Database;

    fn missing(id: &str, at: i64) -> Missing {
        Missing { chat: "a".into(), sender: "a".into(), id: id.into(), device: 3, at }
    }

    #[test]
    fn a_message_is_missed_once_until_it_comes() {
        Database::in_memory()
            .unwrap()
            .write_now::<_, LedgerError>(|tx| {
                note(tx, &missing("late", 9))?;
                note(tx, &missing("early", 7))?;
                note(tx, &missing("late", 10))?;
                assert_eq!(all(tx)?, [missing("early", 7), missing("late", 9)]);
                forget(tx, "b", "a", "late")?;
                forget(tx, "a", "a", "early")?;
                assert_eq!(all(tx)?, [missing("late", 9)]);
                Ok(())
            })
            .unwrap();
    }
}
