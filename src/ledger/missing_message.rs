//! Messages of customers that are nowhere: lost between their decryption and the disk, or never readable
//! here. They stay here until they came after all, or until the customer was asked instead.
//!
//! A modified phone can make any number of either, so both are bounded, for everybody and for each chat.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{DAY, LedgerError, PRUNE_ROWS};

/// Most messages that are missed at once. One power cut takes at most what whatsapp-rust decrypts beside each
/// other, which is 64 messages; what cannot be read comes with a phone that was set up anew.
pub const CAPACITY: u32 = 256;

/// Most of one chat. A power cut takes one of each; whoever is asked to send again is asked once.
pub const MOST_PER_CHAT: u32 = 3;

/// How long a message is missed, in seconds. WhatsApp keeps undelivered messages for 30 days.
pub const KEEP_SECONDS: i64 = 30 * DAY;

/// Why a message is missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Its key is used up, and its text did not reach the disk. Nobody has been asked for it.
    Lost,
    /// It could not be decrypted. whatsapp-rust has asked for it.
    Unreadable,
}

impl Cause {
    fn stored(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Unreadable => "unreadable",
        }
    }

    fn read(row: &Row<'_>, column: usize) -> rusqlite::Result<Self> {
        // The table takes no third word.
        Ok(if row.get::<_, String>(column)? == "lost" { Self::Lost } else { Self::Unreadable })
    }
}

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
    pub cause: Cause,
}

/// What became of a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noted {
    /// It is missed from now on.
    Added,
    /// It was missed before.
    Known,
    /// [`CAPACITY`] or [`MOST_PER_CHAT`] are missed already. Nobody will ask for this one.
    Full,
}

/// Takes note of one; the same one again changes nothing.
pub fn note(tx: &Connection, missing: &Missing) -> Result<Noted, LedgerError> {
    let Missing { chat, sender, id, device, at, cause } = missing;
    if cause_of(tx, chat, sender, id)?.is_some() {
        return Ok(Noted::Known);
    }
    if is_full(tx, chat)? {
        return Ok(Noted::Full);
    }
    tx.prepare_cached(
        "INSERT INTO missing_message (chat, sender, id, device, at, cause) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![chat, sender, id, device, at, cause.stored()])?;
    Ok(Noted::Added)
}

/// Whether nothing more of this chat can be missed: [`CAPACITY`] or [`MOST_PER_CHAT`] is reached.
pub fn is_full(conn: &Connection, chat: &str) -> Result<bool, LedgerError> {
    let (all, of_chat): (u32, u32) = conn
        .prepare_cached("SELECT count(*), count(*) FILTER (WHERE chat = ?1) FROM missing_message")?
        .query_row([chat], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(all >= CAPACITY || of_chat >= MOST_PER_CHAT)
}

/// Why this message is missed; `None` if it is not.
pub fn cause_of(conn: &Connection, chat: &str, sender: &str, id: &str) -> Result<Option<Cause>, LedgerError> {
    let sql = "SELECT cause FROM missing_message WHERE chat = ?1 AND sender = ?2 AND id = ?3";
    Ok(conn.prepare_cached(sql)?.query_row([chat, sender, id], |row| Cause::read(row, 0)).optional()?)
}

/// What is missed, the oldest first; at most [`CAPACITY`].
pub fn all(conn: &Connection) -> Result<Vec<Missing>, LedgerError> {
    let mut statement = conn.prepare_cached(
        "SELECT chat, sender, id, device, at, cause FROM missing_message ORDER BY at, id LIMIT ?1",
    )?;
    let rows = statement.query_map([CAPACITY], |row| {
        Ok(Missing {
            chat: row.get(0)?,
            sender: row.get(1)?,
            id: row.get(2)?,
            device: row.get(3)?,
            at: row.get(4)?,
            cause: Cause::read(row, 5)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// It came, or nobody waits for it any longer. One that is not missed is none.
///
/// Phones make up ids that no other phone has, and a person's chat may have changed its kind of address
/// meanwhile: `chats` are all that the person is known by.
pub fn forget(tx: &Connection, chats: &[&str], id: &str) -> Result<(), LedgerError> {
    let mut statement = tx.prepare_cached("DELETE FROM missing_message WHERE chat = ?1 AND id = ?2")?;
    for chat in chats {
        statement.execute([*chat, id])?;
    }
    Ok(())
}

/// Forgets what is older than [`KEEP_SECONDS`]; returns how many.
pub fn prune(tx: &Connection, now: i64) -> Result<usize, LedgerError> {
    Ok(tx
        .prepare_cached(
            "DELETE FROM missing_message WHERE (chat, sender, id) IN
             (SELECT chat, sender, id FROM missing_message WHERE at < ?1 LIMIT ?2)",
        )?
        .execute(params![now.saturating_sub(KEEP_SECONDS), PRUNE_ROWS])?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Database;

    fn missing(chat: &str, id: &str, at: i64) -> Missing {
        let cause = Cause::Lost;
        Missing { chat: chat.into(), sender: chat.into(), id: id.into(), device: 3, at, cause }
    }

    fn in_transaction(test: impl FnOnce(&Connection) -> Result<(), LedgerError>) {
        Database::in_memory().unwrap().write_now(test).unwrap();
    }

    #[test]
    fn a_message_is_missed_once_until_it_comes() {
        in_transaction(|tx| {
            let unreadable = Missing { cause: Cause::Unreadable, ..missing("a", "early", 7) };
            assert_eq!(note(tx, &missing("a", "late", 9))?, Noted::Added);
            assert_eq!(note(tx, &unreadable)?, Noted::Added);
            assert_eq!(note(tx, &missing("a", "late", 10))?, Noted::Known);
            assert_eq!(all(tx)?, [unreadable, missing("a", "late", 9)]);
            forget(tx, &["b"], "late")?;
            forget(tx, &["b", "a"], "early")?;
            assert_eq!(all(tx)?, [missing("a", "late", 9)]);
            Ok(())
        });
    }

    #[test]
    fn neither_one_chat_nor_all_together_are_missed_without_end() {
        in_transaction(|tx| {
            for n in 0..100 {
                let noted = note(tx, &missing("a", &n.to_string(), n))?;
                assert_eq!(noted == Noted::Added, n < i64::from(MOST_PER_CHAT), "{n}");
            }
            let mut chat = 0;
            while note(tx, &missing(&format!("chat {chat}"), "1", 1))? == Noted::Added {
                chat += 1;
            }
            assert_eq!(chat + MOST_PER_CHAT, CAPACITY);
            assert_eq!(all(tx)?.len(), CAPACITY as usize);
            forget(tx, &["a"], "0")?;
            assert_eq!(note(tx, &missing("b", "1", 1))?, Noted::Added, "there is room again");
            Ok(())
        });
    }

    #[test]
    fn what_whatsapp_cannot_deliver_any_more_is_not_missed_any_more() {
        in_transaction(|tx| {
            let now = 100 * DAY;
            note(tx, &missing("a", "old", now - KEEP_SECONDS - 1))?;
            note(tx, &missing("a", "young", now - KEEP_SECONDS))?;
            assert_eq!(prune(tx, now)?, 1);
            assert_eq!(all(tx)?.len(), 1);
            Ok(())
        });
    }
}
