//! Where each conversation stands, as JSON that only `desk` understands.

use rusqlite::{Connection, OptionalExtension, params};

use super::{DAY, LedgerError, PRUNE_ROWS};

/// How long a silent conversation is kept, in seconds. `desk` gives a state up after minutes; the
/// rest is for an operator who asks what happened.
pub const KEEP_SECONDS: i64 = 7 * DAY;

/// Conversations that are kept at most, those that were alive last. Ten times the families of a busy week.
pub const CAPACITY: u32 = 20_000;

/// Longest state in bytes. The longest that `desk` makes holds one cut message (16 KiB, which JSON
/// may blow up to six times where every character is a control character).
pub const MAX_JSON_BYTES: usize = 128 * 1024;

/// The state of a chat and when it was saved (seconds since 1970 UTC).
pub fn load(conn: &Connection, chat: &str) -> Result<Option<(String, i64)>, LedgerError> {
    Ok(conn
        .prepare_cached("SELECT json, updated_at FROM conversation WHERE chat = ?1")?
        .query_row(params![chat], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?)
}

/// Saves the state of a chat in place of the earlier one. A state over [`MAX_JSON_BYTES`] is
/// refused with [`LedgerError::TooLong`].
pub fn save(tx: &Connection, chat: &str, json: &str, at: i64) -> Result<(), LedgerError> {
    if json.len() > MAX_JSON_BYTES {
        return Err(LedgerError::TooLong {
            what: "conversation state",
            bytes: json.len(),
            limit: MAX_JSON_BYTES,
        });
    }
    tx.prepare_cached(
        "INSERT INTO conversation (chat, updated_at, json) VALUES (?1, ?2, ?3)
         ON CONFLICT (chat) DO UPDATE SET updated_at = excluded.updated_at, json = excluded.json",
    )?
    .execute(params![chat, at, json])?;
    Ok(())
}

/// Forgets up to [`PRUNE_ROWS`] conversations silent for [`KEEP_SECONDS`], and as many beyond [`CAPACITY`];
/// returns how many.
pub fn prune(tx: &Connection, now: i64) -> Result<usize, LedgerError> {
    let silent = tx
        .prepare_cached(
            "DELETE FROM conversation WHERE rowid IN
             (SELECT rowid FROM conversation WHERE updated_at < ?1 LIMIT ?2)",
        )?
        .execute(params![now.saturating_sub(KEEP_SECONDS), PRUNE_ROWS])?;
    let all: u32 = tx.prepare_cached("SELECT count(*) FROM conversation")?.query_row([], |row| row.get(0))?;
    let surplus = all.saturating_sub(CAPACITY).min(PRUNE_ROWS);
    if surplus == 0 {
        return Ok(silent);
    }
    let removed = tx
        .prepare_cached(
            "DELETE FROM conversation WHERE rowid IN
             (SELECT rowid FROM conversation ORDER BY updated_at LIMIT ?1)",
        )?
        .execute([surplus])?;
    Ok(silent + removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Database;

    #[test]
    fn the_last_saved_state_of_a_chat_is_loaded() {
        let ledger = Database::in_memory().unwrap();
        ledger
            .write_now::<_, LedgerError>(|tx| {
                assert_eq!(load(tx, "a")?, None);
                save(tx, "a", "{}", 1)?;
                save(tx, "a", "[]", 2)?;
                save(tx, "b", "1", 3)?;
                assert_eq!(load(tx, "a")?, Some(("[]".into(), 2)));
                assert_eq!(load(tx, "b")?, Some(("1".into(), 3)));
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn a_state_beyond_the_bound_is_refused_and_the_earlier_one_stays() {
        let ledger = Database::in_memory().unwrap();
        ledger
            .write_now::<_, LedgerError>(|tx| {
                save(tx, "a", &"x".repeat(MAX_JSON_BYTES), 1)?;
                let refused = save(tx, "a", &"x".repeat(MAX_JSON_BYTES + 1), 2);
                assert!(matches!(refused, Err(LedgerError::TooLong { .. })));
                assert_eq!(load(tx, "a")?.map(|(_, at)| at), Some(1));
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn only_silent_conversations_are_pruned() {
        let ledger = Database::in_memory().unwrap();
        let now = 100 * DAY;
        ledger
            .write_now::<_, LedgerError>(|tx| {
                save(tx, "silent", "{}", now - KEEP_SECONDS - 1)?;
                save(tx, "alive", "{}", now - KEEP_SECONDS)?;
                assert_eq!(prune(tx, now)?, 1);
                assert_eq!(load(tx, "silent")?, None);
                assert!(load(tx, "alive")?.is_some());
                Ok(())
            })
            .unwrap();
    }
}
