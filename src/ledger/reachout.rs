//! To whom WhatsApp lets this account write: chats that it has shut, chats that have got replies before,
//! the lock that it puts on new chats, and the pause that follows from them.
//!
//! What is decided from this stands in [`whatsapp::refusal`](crate::whatsapp::refusal).

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{DAY, LedgerError, PRUNE_ROWS};

/// After so many seconds without a further refusal a chat gets its attempts anew.
pub const REST_SECONDS: i64 = DAY;

/// A refusal is forgotten after so many seconds: longer than the locks that are known (six to seven days).
pub const KEEP_REFUSALS_SECONDS: i64 = 14 * DAY;

/// Shut chats that are kept, those refused last. What is beyond costs one more refused attempt each.
pub const MAX_SHUT: u32 = 2_000;

/// A chat counts as answered for so many days without a further reply: families come back within weeks,
/// some only for the next distribution.
pub const KEEP_ANSWERED_DAYS: i64 = 180;

/// Answered chats that are kept, the latest. What is beyond counts as a first reply again.
pub const MAX_ANSWERED: u32 = 20_000;

/// The day of an answered chat is written again after so many days: it is only needed for forgetting.
const DAY_STEP: i64 = 30;

/// How a shut chat stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// When WhatsApp refused a reply there the last time.
    pub at: i64,
    /// One more attempt is due, because the person has written again or a token of theirs has come.
    pub called: bool,
}

/// WhatsApp's lock on new chats, as it was told last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lock {
    pub active: bool,
    /// WhatsApp's word for its kind.
    pub kind: Option<String>,
    /// When it ends, in seconds since 1970 UTC, if that was told.
    pub ends_at: Option<i64>,
}

/// What is known about the account as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    pub lock: Lock,
    /// When WhatsApp was asked for the lock the last time.
    pub asked_at: Option<i64>,
    /// Until when first replies wait.
    pub paused_until: Option<i64>,
}

/// WhatsApp refused a reply: the chat is shut. An attempt that was due is used up by it; a chat that has
/// rested for [`REST_SECONDS`] begins anew.
pub fn refused(tx: &Connection, chat: &str, now: i64) -> Result<(), LedgerError> {
    tx.prepare_cached(
        "INSERT INTO shut_chat (chat, refused_at) VALUES (?1, ?2)
         ON CONFLICT DO UPDATE SET
             wrote = CASE wrote WHEN 1 THEN 2 ELSE wrote END,
             token = CASE token WHEN 1 THEN 2 ELSE token END,
             refused_at = excluded.refused_at",
    )?
    .execute(params![chat, now])?;
    Ok(())
}

/// The person of a chat has written again: one more attempt is due if the chat is shut and has had none
/// for that. `true` if so.
pub fn wrote(tx: &Connection, chat: &str, now: i64) -> Result<bool, LedgerError> {
    let called = tx
        .prepare_cached(
            "UPDATE shut_chat
             SET wrote = 1, token = CASE WHEN token = 2 AND refused_at <= ?2 THEN 0 ELSE token END
             WHERE chat = ?1 AND (wrote = 0 OR wrote = 2 AND refused_at <= ?2)",
        )?
        .execute(params![chat, now - REST_SECONDS])?;
    Ok(called > 0)
}

/// A token of the person of a chat has come: as [`wrote`].
pub fn token_came(tx: &Connection, chat: &str, now: i64) -> Result<bool, LedgerError> {
    let called = tx
        .prepare_cached(
            "UPDATE shut_chat SET token = 1
             WHERE chat = ?1 AND (token = 0 OR token = 2 AND refused_at <= ?2)",
        )?
        .execute(params![chat, now - REST_SECONDS])?;
    Ok(called > 0)
}

/// How a chat stands that is shut.
pub fn refusal(conn: &Connection, chat: &str) -> Result<Option<Refusal>, LedgerError> {
    Ok(conn
        .prepare_cached("SELECT refused_at, wrote = 1 OR token = 1 FROM shut_chat WHERE chat = ?1")?
        .query_row([chat], |row| Ok(Refusal { at: row.get(0)?, called: row.get(1)? }))
        .optional()?)
}

/// Chats that were shut since then and still are: so many people.
pub fn people_refused_since(conn: &Connection, since: i64) -> Result<u32, LedgerError> {
    Ok(conn
        .prepare_cached("SELECT count(*) FROM shut_chat WHERE refused_at >= ?1")?
        .query_row([since], |row| row.get(0))?)
}

/// When WhatsApp refused anybody the last time.
pub fn last_refusal(conn: &Connection) -> Result<Option<i64>, LedgerError> {
    Ok(conn.prepare_cached("SELECT max(refused_at) FROM shut_chat")?.query_row([], |row| row.get(0))?)
}

/// WhatsApp took a reply: the chat is open. `true` if it was shut.
pub fn accepted(tx: &Connection, chat: &str, now: i64) -> Result<bool, LedgerError> {
    tx.prepare_cached(
        "INSERT INTO answered_chat (chat, day) VALUES (?1, ?2)
         ON CONFLICT DO UPDATE SET day = excluded.day WHERE abs(excluded.day - day) >= ?3",
    )?
    .execute(params![chat, now / DAY, DAY_STEP])?;
    Ok(tx.prepare_cached("DELETE FROM shut_chat WHERE chat = ?1")?.execute([chat])? > 0)
}

/// WhatsApp took a reply at the person's other address: this chat is open too. `true` if it was shut.
pub fn opened(tx: &Connection, chat: &str) -> Result<bool, LedgerError> {
    Ok(tx.prepare_cached("DELETE FROM shut_chat WHERE chat = ?1")?.execute([chat])? > 0)
}

/// Whether a chat has got a reply before.
pub fn was_answered(conn: &Connection, chat: &str) -> Result<bool, LedgerError> {
    Ok(conn.prepare_cached("SELECT 1 FROM answered_chat WHERE chat = ?1")?.exists([chat])?)
}

/// How the account stands.
pub fn standing(conn: &Connection) -> Result<Standing, LedgerError> {
    let sql = "SELECT active, kind, ends_at, asked_at, paused_until FROM reachout_lock";
    let found = conn
        .prepare_cached(sql)?
        .query_row([], |row| {
            Ok(Standing {
                lock: Lock { active: row.get(0)?, kind: row.get(1)?, ends_at: row.get(2)? },
                asked_at: row.get(3)?,
                paused_until: row.get(4)?,
            })
        })
        .optional()?;
    Ok(found.unwrap_or_default())
}

/// Takes note that WhatsApp is asked for the lock now. Must be durable before it is asked.
pub fn asked(tx: &Connection, now: i64) -> Result<(), LedgerError> {
    tx.prepare_cached("UPDATE reachout_lock SET asked_at = ?1")?.execute([now])?;
    Ok(())
}

/// Takes note of the lock. A pause ends with it at the latest.
pub fn locked(tx: &Connection, lock: &Lock) -> Result<(), LedgerError> {
    tx.prepare_cached(
        "UPDATE reachout_lock SET active = ?1, kind = ?2, ends_at = ?3,
             paused_until = CASE WHEN ?1 THEN min(paused_until, ifnull(?3, paused_until)) ELSE paused_until END",
    )?
    .execute(params![lock.active, lock.kind, lock.ends_at])?;
    Ok(())
}

/// First replies wait until then.
pub fn pause(tx: &Connection, until: i64) -> Result<(), LedgerError> {
    tx.prepare_cached("UPDATE reachout_lock SET paused_until = ?1")?.execute([until])?;
    Ok(())
}

/// A first reply has got through: no pause, and none that has just ended, makes the next ones wait.
pub fn end_pause(tx: &Connection) -> Result<(), LedgerError> {
    let end = "UPDATE reachout_lock SET paused_until = NULL WHERE paused_until IS NOT NULL";
    tx.prepare_cached(end)?.execute([])?;
    Ok(())
}

/// Forgets what is past its time or beyond its number, at most [`PRUNE_ROWS`] rows of each kind; returns how
/// many.
pub fn prune(tx: &Connection, now: i64) -> Result<usize, LedgerError> {
    let mut removed = 0;
    for (table, key, age, most, oldest) in [
        ("shut_chat", "chat", "refused_at", MAX_SHUT, now - KEEP_REFUSALS_SECONDS),
        ("answered_chat", "chat", "day", MAX_ANSWERED, now / DAY - KEEP_ANSWERED_DAYS),
    ] {
        removed += tx
            .prepare_cached(&format!(
                "DELETE FROM {table} WHERE {key} IN
                 (SELECT {key} FROM {table} WHERE {age} < ?1 ORDER BY {age} LIMIT ?2)"
            ))?
            .execute(params![oldest, PRUNE_ROWS])?;
        let rows: u32 =
            tx.prepare_cached(&format!("SELECT count(*) FROM {table}"))?.query_row([], |row| row.get(0))?;
        let surplus = rows.saturating_sub(most).min(PRUNE_ROWS);
        if surplus > 0 {
            removed += tx
                .prepare_cached(&format!(
                    "DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM {table} ORDER BY {age} LIMIT ?1)"
                ))?
                .execute([surplus])?;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Database;

    const NOW: i64 = 1_795_410_000;

    fn in_transaction(test: impl FnOnce(&Connection) -> Result<(), LedgerError>) {
        Database::in_memory().unwrap().write_now(test).unwrap();
    }

    fn is_called(conn: &Connection, chat: &str) -> bool {
        refusal(conn, chat).unwrap().is_some_and(|refusal| refusal.called)
    }

    #[test]
    fn whoever_writes_again_calls_for_one_attempt_and_their_token_for_one_more() {
        in_transaction(|tx| {
            assert!(!wrote(tx, "a", NOW)? && !token_came(tx, "a", NOW)?, "nothing is shut");
            refused(tx, "a", NOW)?;
            assert!(!is_called(tx, "a"));
            assert!(wrote(tx, "a", NOW + 1)? && is_called(tx, "a"));
            assert!(!wrote(tx, "a", NOW + 2)?, "one attempt is due already");
            refused(tx, "a", NOW + 3)?;
            assert!(!is_called(tx, "a"));
            assert!(!wrote(tx, "a", NOW + 4)?, "that was tried");
            assert!(token_came(tx, "a", NOW + 5)? && is_called(tx, "a"));
            refused(tx, "a", NOW + 6)?;
            assert!(!token_came(tx, "a", NOW + 7)? && !wrote(tx, "a", NOW + 7)? && !is_called(tx, "a"));
            // After a rest it begins anew.
            let rested = NOW + 6 + REST_SECONDS;
            assert!(!wrote(tx, "a", rested - 1)?);
            assert!(wrote(tx, "a", rested)?);
            refused(tx, "a", rested)?;
            assert!(!wrote(tx, "a", rested)? && token_came(tx, "a", rested)?);
            Ok(())
        });
    }

    #[test]
    fn an_accepted_reply_opens_the_chat_and_counts_as_an_answer() {
        in_transaction(|tx| {
            refused(tx, "a", NOW)?;
            refused(tx, "b", NOW + 5)?;
            assert_eq!((people_refused_since(tx, NOW)?, people_refused_since(tx, NOW + 1)?), (2, 1));
            assert_eq!(last_refusal(tx)?, Some(NOW + 5));
            assert!(!was_answered(tx, "a")?);
            assert!(accepted(tx, "a", NOW)? && !accepted(tx, "a", NOW)?);
            assert!(was_answered(tx, "a")? && refusal(tx, "a")?.is_none());
            assert_eq!(people_refused_since(tx, NOW)?, 1);
            Ok(())
        });
    }

    #[test]
    fn the_lock_and_the_pause_are_kept_and_a_pause_ends_with_the_lock() {
        in_transaction(|tx| {
            assert_eq!(standing(tx)?, Standing::default());
            asked(tx, NOW)?;
            pause(tx, NOW + 500)?;
            let mut lock = Lock { active: true, kind: Some("DEFAULT".into()), ends_at: Some(NOW + 900) };
            locked(tx, &lock)?;
            let expected =
                Standing { lock: lock.clone(), asked_at: Some(NOW), paused_until: Some(NOW + 500) };
            assert_eq!(standing(tx)?, expected);
            lock.ends_at = Some(NOW + 100);
            locked(tx, &lock)?;
            assert_eq!(standing(tx)?.paused_until, Some(NOW + 100));
            // Who knows no lock, or no end, does not end a pause.
            locked(tx, &Lock { active: true, kind: None, ends_at: None })?;
            locked(tx, &Lock::default())?;
            assert_eq!(standing(tx)?.paused_until, Some(NOW + 100));
            Ok(())
        });
    }

    #[test]
    fn refusals_and_answers_are_forgotten_by_age_and_number() {
        in_transaction(|tx| {
            for n in 0..MAX_SHUT + 5 {
                refused(tx, &n.to_string(), NOW + i64::from(n))?;
            }
            accepted(tx, "old", NOW - (KEEP_ANSWERED_DAYS + 1) * DAY)?;
            accepted(tx, "new", NOW)?;
            assert_eq!(prune(tx, NOW)?, 6);
            assert!(refusal(tx, "4")?.is_none() && refusal(tx, "5")?.is_some());
            assert!(!was_answered(tx, "old")? && was_answered(tx, "new")?);
            assert_eq!(prune(tx, NOW + KEEP_REFUSALS_SECONDS + 7)?, 2);
            Ok(())
        });
    }
}
