//! Messages that were processed, so that one which WhatsApp delivers again is not.

use rusqlite::{Connection, params};

use super::{DAY, LedgerError, PRUNE_ROWS};

/// How long a message is remembered, in seconds. WhatsApp keeps undelivered messages for 30 days;
/// older ones cannot come back.
pub const KEEP_SECONDS: i64 = 35 * DAY;

/// Messages that are remembered at most, the latest. A busy month has a tenth of them; what a flood pushes out
/// was acknowledged long ago.
pub const CAPACITY: u32 = 200_000;

/// Remembers a message; `true` if it was not known yet. `at` is the message's own time in seconds
/// since 1970 UTC.
///
/// An id is unique only together with chat and sender, the address that the message came from: each
/// phone makes up its own ids.
pub fn remember(tx: &Connection, chat: &str, sender: &str, id: &str, at: i64) -> Result<bool, LedgerError> {
    let added = tx
        .prepare_cached(
            "INSERT INTO inbound_message (chat, sender, id, at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO NOTHING",
        )?
        .execute(params![chat, sender, id, at])?;
    Ok(added == 1)
}

/// Whether a message of this chat was processed, whoever of the chat sent it.
pub fn knows(conn: &Connection, chat: &str, id: &str) -> Result<bool, LedgerError> {
    let sql = "SELECT 1 FROM inbound_message WHERE chat = ?1 AND id = ?2";
    Ok(conn.prepare_cached(sql)?.exists([chat, id])?)
}

/// Time of the latest message, in seconds since 1970 UTC by WhatsApp's clock.
pub fn latest(conn: &Connection) -> Result<Option<i64>, LedgerError> {
    Ok(conn.prepare_cached("SELECT max(at) FROM inbound_message")?.query_row([], |row| row.get(0))?)
}

/// Forgets up to [`PRUNE_ROWS`] messages older than [`KEEP_SECONDS`], and as many beyond [`CAPACITY`];
/// returns how many.
pub fn prune(tx: &Connection, now: i64) -> Result<usize, LedgerError> {
    let mut forget = tx.prepare_cached(
        "DELETE FROM inbound_message WHERE (chat, sender, id) IN
         (SELECT chat, sender, id FROM inbound_message WHERE at < ?1 ORDER BY at LIMIT ?2)",
    )?;
    let aged = forget.execute(params![now.saturating_sub(KEEP_SECONDS), PRUNE_ROWS])?;
    let count = "SELECT count(*) FROM inbound_message";
    let all: u32 = tx.prepare_cached(count)?.query_row([], |row| row.get(0))?;
    let surplus = all.saturating_sub(CAPACITY).min(PRUNE_ROWS);
    Ok(aged + if surplus > 0 { forget.execute(params![i64::MAX, surplus])? } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Database;

    #[test]
    fn a_message_is_new_once_per_chat_sender_and_id() {
        let ledger = Database::in_memory().unwrap();
        let seen = |chat: &str, sender: &str, id: &str| {
            ledger.write_now::<_, LedgerError>(|tx| remember(tx, chat, sender, id, 1)).unwrap()
        };
        assert!(seen("a", "a", "1"));
        assert!(!seen("a", "a", "1"));
        assert!(seen("b", "a", "1"));
        assert!(seen("a", "b", "1"));
        assert!(seen("a", "a", "2"));
    }

    #[test]
    fn pruning_forgets_only_what_whatsapp_cannot_deliver_again_in_bounded_steps() {
        let ledger = Database::in_memory().unwrap();
        let now = 100 * DAY;
        ledger
            .write_now::<_, LedgerError>(|tx| {
                for n in 0..PRUNE_ROWS + 5 {
                    remember(tx, "a", "a", &n.to_string(), now - KEEP_SECONDS - 1)?;
                }
                remember(tx, "a", "a", "young", now - 30 * DAY)?;
                assert_eq!(prune(tx, now)?, PRUNE_ROWS as usize);
                assert_eq!(prune(tx, now)?, 5);
                assert_eq!(prune(tx, now)?, 0);
                assert!(!remember(tx, "a", "a", "young", now)?);
                Ok(())
            })
            .unwrap();
    }
}
