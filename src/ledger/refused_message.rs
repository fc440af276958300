//! Messages that the ledger refused for a reason that no repetition cures.
//!
//! Such a message is acknowledged all the same: WhatsApp would deliver it again and end the connection each
//! time because nobody answers. What is written down here is what an engineer needs to find the cause, and
//! no word of the message; its sender is asked to send it again.

use rusqlite::{Connection, params};

use super::{DAY, LedgerError, PRUNE_ROWS};

/// Most that are kept; beyond that the oldest make room. One is a defect, a thousand of them are the same.
pub const CAPACITY: u32 = 1_000;

/// How long one is kept, in seconds: longer than WhatsApp might deliver it again.
pub const KEEP_SECONDS: i64 = 35 * DAY;

/// Longest reason that is kept, in characters.
pub const MAX_REASON_CHARS: usize = 300;

/// Takes note of one, at `now`; the same one again changes nothing. `reason` must name no person.
pub fn note(
    tx: &Connection,
    chat: &str,
    sender: &str,
    id: &str,
    reason: &str,
    now: i64,
) -> Result<(), LedgerError> {
    let reason: String = reason.chars().take(MAX_REASON_CHARS).collect();
    tx.prepare_cached(
        "DELETE FROM refused_message WHERE (chat, sender, id) IN
         (SELECT chat, sender, id FROM refused_message ORDER BY refused_at DESC LIMIT -1 OFFSET ?1)",
    )?
    .execute([CAPACITY - 1])?;
    tx.prepare_cached(
        "INSERT INTO refused_message (chat, sender, id, refused_at, reason) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO NOTHING",
    )?
    .execute(params![chat, sender, id, now, reason])?;
    Ok(())
}

/// Whether a message of this chat was refused, whoever of the chat sent it.
pub fn knows(conn: &Connection, chat: &str, id: &str) -> Result<bool, LedgerError> {
    let sql = "SELECT 1 FROM refused_message WHERE chat = ?1 AND id = ?2";
    Ok(conn.prepare_cached(sql)?.exists([chat, id])?)
}

/// Forgets up to [`PRUNE_ROWS`] that are older than [`KEEP_SECONDS`]; returns how many.
pub fn prune(tx: &Connection, now: i64) -> Result<usize, LedgerError> {
    Ok(tx
        .prepare_cached(
            "DELETE FROM refused_message WHERE (chat, sender, id) IN
             (SELECT chat, sender, id FROM refused_message WHERE refused_at < ?1 LIMIT ?2)",
        )?
        .execute(params![now.saturating_sub(KEEP_SECONDS), PRUNE_ROWS])?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Database;

    #[test]
    fn the_newest_refusals_are_kept_and_old_ones_forgotten() {
        Database::in_memory()
            .unwrap()
            .write_now::<_, LedgerError>(|tx| {
                for n in 0..i64::from(CAPACITY) + 5 {
                    note(tx, "a", "a", &n.to_string(), &"x".repeat(MAX_REASON_CHARS + 1), n)?;
                }
                let count: u32 =
                    tx.query_row("SELECT count(*) FROM refused_message", [], |row| row.get(0))?;
                assert_eq!(count, CAPACITY);
                assert!(!knows(tx, "a", "4")? && knows(tx, "a", "5")?);
                assert!(!knows(tx, "b", "5")?);
                let last = i64::from(CAPACITY) + 4;
                assert_eq!(prune(tx, last + KEEP_SECONDS)?, PRUNE_ROWS as usize);
                assert!(knows(tx, "a", &last.to_string())?);
                Ok(())
            })
            .unwrap();
    }
}
