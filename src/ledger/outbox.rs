//! Replies that WhatsApp has not accepted yet.
//!
//! A reply is written in the transaction of the message it answers, and removed once WhatsApp has
//! acknowledged it. In between it may be sent more than once (power can fail after sending and
//! before removing), always under the same message id, so that the phone shows it once.
//!
//! Replies of one chat go out in the order in which they were written: only the oldest one of a
//! chat is ever due. A reply that cannot be delivered is given up after [`MAX_ATTEMPTS`] or
//! [`MAX_AGE_SECONDS`] and stays as *failed*, for the operator to see. One that WhatsApp does not take
//! before something else has happened is *parked*: it holds back its chat, and no reconnect makes it due.

use rusqlite::{Connection, Row, params};

use super::{DAY, LedgerError, PRUNE_ROWS};

/// Most replies that may wait. Far more than a day's registrations; whoever fills it meets
/// [`LedgerError::Full`], the message is not acknowledged, and WhatsApp keeps it.
pub const CAPACITY: u32 = 10_000;

/// Longest reply in bytes. The wording room keeps replies at about 4,000 characters.
pub const MAX_TEXT_BYTES: usize = 16 * 1024;

/// Attempts after which a reply is given up. They count only while the line carries anything, so this many
/// failures are the reply's own fault.
pub const MAX_ATTEMPTS: u32 = 20;

/// Age in seconds after which a reply is given up: what it says is about a day that is over.
pub const MAX_AGE_SECONDS: i64 = 2 * DAY;

/// How long failed replies are kept, in seconds.
pub const KEEP_FAILED_SECONDS: i64 = 30 * DAY;

/// Most failed replies that are kept; beyond that the oldest make room.
pub const MAX_FAILED: u32 = 1_000;

/// A reply to be sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Reply {
    /// Chat to send to.
    pub chat: String,
    /// WhatsApp message id; sending it again under this id is harmless.
    pub wa_message_id: String,
    pub text: String,
    /// When it was written, in seconds since 1970 UTC.
    pub at: i64,
}

/// A reply whose turn it is.
#[derive(Clone, PartialEq, Eq)]
pub struct DueReply {
    pub id: i64,
    pub reply: Reply,
    /// How many times it was tried before.
    pub attempts: u32,
}

/// Texts name people, so they are not part of debug output.
impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reply({}, {} bytes, at {})", self.wa_message_id, self.text.len(), self.at)
    }
}

impl std::fmt::Debug for DueReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DueReply({}, {:?}, {} attempts)", self.id, self.reply, self.attempts)
    }
}

impl DueReply {
    /// Why this reply is not worth another attempt, if so.
    pub fn exhausted(&self, now: i64) -> Option<&'static str> {
        if self.attempts >= MAX_ATTEMPTS {
            Some("too many attempts")
        } else if self.attempts > 0 && now.saturating_sub(self.reply.at) > MAX_AGE_SECONDS {
            Some("too old")
        } else {
            None
        }
    }
}

/// How many replies wait and how many were given up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub waiting: u32,
    pub failed: u32,
}

/// Adds a reply. The same `wa_message_id` again changes nothing, as long as the first one has not
/// been removed (after that, `inbound` knows that the message was answered).
///
/// [`LedgerError::Full`] at [`CAPACITY`], [`LedgerError::TooLong`] over [`MAX_TEXT_BYTES`].
pub fn enqueue(tx: &Connection, reply: &Reply) -> Result<(), LedgerError> {
    if reply.text.len() > MAX_TEXT_BYTES {
        return Err(LedgerError::TooLong { what: "reply", bytes: reply.text.len(), limit: MAX_TEXT_BYTES });
    }
    if count(tx)?.waiting >= CAPACITY {
        return Err(LedgerError::Full { table: "outbox", limit: CAPACITY as usize });
    }
    tx.prepare_cached(
        "INSERT INTO outbox (chat, wa_message_id, text, at, next_attempt_at)
         VALUES (?1, ?2, ?3, ?4, 0) ON CONFLICT (wa_message_id) DO NOTHING",
    )?
    .execute(params![reply.chat, reply.wa_message_id, reply.text, reply.at])?;
    Ok(())
}

/// Up to `limit` replies whose turn has come, oldest first, at most one per chat.
pub fn due(conn: &Connection, now: i64, limit: u32) -> Result<Vec<DueReply>, LedgerError> {
    let mut statement = conn.prepare_cached(
        "SELECT id, chat, wa_message_id, text, at, attempts FROM outbox
         WHERE id IN (SELECT min(id) FROM outbox WHERE failed_at IS NULL GROUP BY chat)
           AND next_attempt_at <= ?1
         ORDER BY id LIMIT ?2",
    )?;
    let rows = statement.query_map(params![now, limit], due_reply)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Makes every waiting reply due at once that is not parked: a new line has nothing to do with the
/// failures of the old one.
pub fn retry_now(tx: &Connection) -> Result<(), LedgerError> {
    tx.prepare_cached(
        "UPDATE outbox SET next_attempt_at = 0
         WHERE failed_at IS NULL AND next_attempt_at > 0 AND parked_at IS NULL",
    )?
    .execute([])?;
    Ok(())
}

/// Counts an attempt and sets the time of the next one. Must be durable before the reply is handed
/// to WhatsApp, so that a reply which brings the process down does not do so for ever.
pub fn record_attempt(tx: &Connection, id: i64, next_attempt_at: i64) -> Result<(), LedgerError> {
    tx.prepare_cached("UPDATE outbox SET attempts = attempts + 1, next_attempt_at = ?2 WHERE id = ?1")?
        .execute(params![id, next_attempt_at])?;
    Ok(())
}

/// Takes an attempt back that ended with the line: that was not the reply's fault.
pub fn take_back_attempt(tx: &Connection, id: i64) -> Result<(), LedgerError> {
    tx.prepare_cached(
        "UPDATE outbox SET attempts = max(attempts - 1, 0), next_attempt_at = 0 WHERE id = ?1",
    )?
    .execute([id])?;
    Ok(())
}

/// Removes a reply that WhatsApp acknowledged, also one that was given up meanwhile; `true` if it
/// was there.
pub fn remove(tx: &Connection, wa_message_id: &str) -> Result<bool, LedgerError> {
    let removed =
        tx.prepare_cached("DELETE FROM outbox WHERE wa_message_id = ?1")?.execute(params![wa_message_id])?;
    Ok(removed == 1)
}

/// Removes the replies that were never tried and whose `wa_message_id` starts with `prefix`, which
/// is of ASCII letters and digits: what they say is out of date. Returns how many went.
pub fn withdraw(tx: &Connection, prefix: &str) -> Result<usize, LedgerError> {
    // '~' stands behind every letter and digit.
    Ok(tx
        .prepare_cached(
            "DELETE FROM outbox WHERE wa_message_id >= ?1 AND wa_message_id < ?1 || '~'
             AND attempts = 0 AND failed_at IS NULL",
        )?
        .execute([prefix])?)
}

/// Sets a reply aside as failed; the next one of its chat moves up. `reason` must name no person.
pub fn give_up(tx: &Connection, id: i64, reason: &str, now: i64) -> Result<(), LedgerError> {
    tx.prepare_cached(
        "UPDATE outbox SET failed_at = ?2, failed_reason = ?3 WHERE id = ?1 AND failed_at IS NULL",
    )?
    .execute(params![id, now, reason])?;
    Ok(())
}

/// What makes a reply harder to deliver than others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Difficulty {
    /// Since when it is parked.
    pub parked_at: Option<i64>,
    /// How often WhatsApp took it although the recipient's phone could not have read it.
    pub unkeyed: u32,
}

/// How difficult a reply has been so far.
pub fn difficulty(conn: &Connection, id: i64) -> Result<Difficulty, LedgerError> {
    Ok(conn
        .prepare_cached("SELECT parked_at, unkeyed FROM outbox WHERE id = ?1")?
        .query_row([id], |row| Ok(Difficulty { parked_at: row.get(0)?, unkeyed: row.get(1)? }))?)
}

/// Sets a reply's next attempt without counting one.
pub fn put_off(tx: &Connection, id: i64, until: i64) -> Result<(), LedgerError> {
    tx.prepare_cached("UPDATE outbox SET next_attempt_at = ?2 WHERE id = ?1")?.execute([id, until])?;
    Ok(())
}

/// Parks a reply until `until` or until [`release`] comes first. Its chat waits with it.
pub fn park(tx: &Connection, id: i64, until: i64, now: i64) -> Result<(), LedgerError> {
    tx.prepare_cached(
        "UPDATE outbox SET next_attempt_at = ?2, parked_at = ifnull(parked_at, ?3)
         WHERE id = ?1 AND failed_at IS NULL",
    )?
    .execute([id, until, now])?;
    Ok(())
}

/// Makes the parked replies of a chat due; `true` if there are some.
pub fn release(tx: &Connection, chat: &str) -> Result<bool, LedgerError> {
    let released = tx
        .prepare_cached(
            "UPDATE outbox SET next_attempt_at = 0, parked_at = NULL
             WHERE chat = ?1 AND parked_at IS NOT NULL AND failed_at IS NULL",
        )?
        .execute([chat])?;
    Ok(released > 0)
}

/// Whether replies of a chat are parked.
pub fn is_parked(conn: &Connection, chat: &str) -> Result<bool, LedgerError> {
    let sql = "SELECT 1 FROM outbox WHERE chat = ?1 AND parked_at IS NOT NULL AND failed_at IS NULL";
    Ok(conn.prepare_cached(sql)?.exists([chat])?)
}

/// Chats with parked replies, at most `limit`.
pub fn parked_chats(conn: &Connection, limit: u32) -> Result<Vec<String>, LedgerError> {
    let mut statement = conn.prepare_cached(
        "SELECT DISTINCT chat FROM outbox WHERE parked_at IS NOT NULL AND failed_at IS NULL LIMIT ?1",
    )?;
    let chats = statement.query_map([limit], |row| row.get(0))?;
    Ok(chats.collect::<Result<_, _>>()?)
}

/// How many replies are parked.
pub fn count_parked(conn: &Connection) -> Result<u32, LedgerError> {
    Ok(conn
        .prepare_cached("SELECT count(*) FROM outbox WHERE parked_at IS NOT NULL AND failed_at IS NULL")?
        .query_row([], |row| row.get(0))?)
}

/// Counts that WhatsApp took a reply which the recipient's phone cannot read.
pub fn count_unkeyed(tx: &Connection, id: i64) -> Result<(), LedgerError> {
    tx.prepare_cached("UPDATE outbox SET unkeyed = unkeyed + 1 WHERE id = ?1")?.execute([id])?;
    Ok(())
}

/// How many replies were given up for a reason that begins so.
pub fn count_failed(conn: &Connection, reason: &str) -> Result<u32, LedgerError> {
    Ok(conn
        .prepare_cached(
            "SELECT count(*) FROM outbox
             WHERE failed_at IS NOT NULL AND substr(failed_reason, 1, length(?1)) = ?1",
        )?
        .query_row([reason], |row| row.get(0))?)
}

/// How many replies wait and how many were given up.
pub fn count(conn: &Connection) -> Result<Counts, LedgerError> {
    Ok(conn
        .prepare_cached(
            "SELECT (SELECT count(*) FROM outbox WHERE failed_at IS NULL),
                    (SELECT count(*) FROM outbox WHERE failed_at IS NOT NULL)",
        )?
        .query_row([], |row| Ok(Counts { waiting: row.get(0)?, failed: row.get(1)? }))?)
}

/// Removes up to [`PRUNE_ROWS`] failed replies that are older than [`KEEP_FAILED_SECONDS`] or more
/// than [`MAX_FAILED`]; returns how many. Waiting replies are never pruned.
pub fn prune(tx: &Connection, now: i64) -> Result<usize, LedgerError> {
    let aged = tx
        .prepare_cached(
            "DELETE FROM outbox WHERE id IN
             (SELECT id FROM outbox WHERE failed_at < ?1 ORDER BY failed_at LIMIT ?2)",
        )?
        .execute(params![now.saturating_sub(KEEP_FAILED_SECONDS), PRUNE_ROWS])?;
    let surplus = count(tx)?.failed.saturating_sub(MAX_FAILED).min(PRUNE_ROWS);
    if surplus == 0 {
        return Ok(aged);
    }
    log::warn!("outbox: more than {MAX_FAILED} undeliverable replies; removing the oldest {surplus}");
    let removed = tx
        .prepare_cached(
            "DELETE FROM outbox WHERE id IN
             (SELECT id FROM outbox WHERE failed_at IS NOT NULL ORDER BY failed_at LIMIT ?1)",
        )?
        .execute(params![surplus])?;
    Ok(aged + removed)
}

fn due_reply(row: &Row<'_>) -> rusqlite::Result<DueReply> {
    Ok(DueReply {
        id: row.get(0)?,
        reply: Reply { chat: row.get(1)?, wa_message_id: row.get(2)?, text: row.get(3)?, at: row.get(4)? },
        attempts: row.get(5)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Database;
    use proptest::prelude::*;

    fn reply(chat: &str, id: &str, at: i64) -> Reply {
        Reply { chat: chat.into(), wa_message_id: id.into(), text: format!("text of {id}"), at }
    }

    fn in_transaction(test: impl FnOnce(&Connection) -> Result<(), LedgerError>) {
        Database::in_memory().unwrap().write_now(test).unwrap();
    }

    fn ids(due: &[DueReply]) -> Vec<&str> {
        due.iter().map(|due| due.reply.wa_message_id.as_str()).collect()
    }

    #[test]
    fn only_the_oldest_reply_of_each_chat_is_due() {
        in_transaction(|tx| {
            for (chat, id) in [("a", "a1"), ("b", "b1"), ("a", "a2"), ("c", "c1")] {
                enqueue(tx, &reply(chat, id, 10))?;
            }
            assert_eq!(ids(&due(tx, 10, 10)?), ["a1", "b1", "c1"]);
            assert_eq!(ids(&due(tx, 10, 2)?), ["a1", "b1"]);
            assert!(remove(tx, "a1")?);
            assert!(!remove(tx, "a1")?);
            assert_eq!(ids(&due(tx, 10, 10)?), ["b1", "a2", "c1"]);
            Ok(())
        });
    }

    #[test]
    fn a_reply_that_waits_for_its_next_attempt_holds_back_its_chat_and_no_other() {
        in_transaction(|tx| {
            for (chat, id) in [("a", "a1"), ("a", "a2"), ("b", "b1")] {
                enqueue(tx, &reply(chat, id, 10))?;
            }
            let first = due(tx, 10, 1)?.remove(0);
            record_attempt(tx, first.id, 40)?;
            assert_eq!(ids(&due(tx, 39, 10)?), ["b1"]);
            remove(tx, "b1")?;
            let again = due(tx, 40, 10)?;
            assert_eq!(ids(&again), ["a1"]);
            assert_eq!(again[0].attempts, 1);
            Ok(())
        });
    }

    #[test]
    fn a_reply_given_up_stays_visible_and_lets_the_next_one_pass() {
        in_transaction(|tx| {
            enqueue(tx, &reply("a", "a1", 10))?;
            enqueue(tx, &reply("a", "a2", 11))?;
            let first = due(tx, 20, 1)?.remove(0);
            give_up(tx, first.id, "refused", 20)?;
            assert_eq!(ids(&due(tx, 20, 10)?), ["a2"]);
            assert_eq!(count(tx)?, Counts { waiting: 1, failed: 1 });
            // The acknowledgement may come after all.
            assert!(remove(tx, "a1")?);
            assert_eq!(count(tx)?, Counts { waiting: 1, failed: 0 });
            Ok(())
        });
    }

    #[test]
    fn a_parked_reply_holds_back_its_chat_until_it_is_released_and_no_new_line_releases_it() {
        in_transaction(|tx| {
            for (chat, id) in [("a", "a1"), ("a", "a2"), ("b", "b1")] {
                enqueue(tx, &reply(chat, id, 10))?;
            }
            let first = due(tx, 10, 1)?.remove(0);
            record_attempt(tx, first.id, 30)?;
            park(tx, first.id, 500, 11)?;
            retry_now(tx)?;
            assert_eq!(ids(&due(tx, 499, 10)?), ["b1"]);
            assert_eq!(difficulty(tx, first.id)?, Difficulty { parked_at: Some(11), unkeyed: 0 });
            assert_eq!((parked_chats(tx, 9)?, count_parked(tx)?), (vec!["a".to_owned()], 1));
            // Its time has come by itself.
            assert_eq!(ids(&due(tx, 500, 10)?), ["a1", "b1"]);
            park(tx, first.id, 900, 500)?;
            assert_eq!(difficulty(tx, first.id)?.parked_at, Some(11), "parked since the first time");
            assert!(is_parked(tx, "a")? && !is_parked(tx, "b")? && !release(tx, "b")?);
            assert!(release(tx, "a")?);
            assert_eq!(ids(&due(tx, 500, 10)?), ["a1", "b1"]);
            assert_eq!(count_parked(tx)?, 0);
            Ok(())
        });
    }

    #[test]
    fn replies_given_up_are_counted_by_their_reason() {
        in_transaction(|tx| {
            for (id, reason) in [("1", "no_phone: x"), ("2", "no_phone: y"), ("3", "too old")] {
                enqueue(tx, &reply(id, id, 10))?;
                let row = due(tx, 10, 10)?.into_iter().find(|due| due.reply.wa_message_id == id).unwrap();
                count_unkeyed(tx, row.id)?;
                assert_eq!(difficulty(tx, row.id)?.unkeyed, 1);
                give_up(tx, row.id, reason, 20)?;
            }
            assert_eq!((count_failed(tx, "no_phone:")?, count_failed(tx, "refused:")?), (2, 0));
            Ok(())
        });
    }

    #[test]
    fn only_what_was_never_tried_is_withdrawn() {
        in_transaction(|tx| {
            for (chat, id) in [("a", "X1"), ("b", "X2"), ("c", "X3"), ("d", "W9"), ("e", "Y1")] {
                enqueue(tx, &reply(chat, id, 10))?;
            }
            let due_now = due(tx, 10, 2)?;
            record_attempt(tx, due_now[0].id, 10)?;
            give_up(tx, due_now[1].id, "refused", 10)?;
            assert_eq!(withdraw(tx, "X")?, 1);
            assert_eq!(ids(&due(tx, 10, 10)?), ["X1", "W9", "Y1"]);
            Ok(())
        });
    }

    #[test]
    fn replies_are_given_up_by_age_or_attempts_only() {
        let fresh = DueReply { id: 1, reply: reply("a", "1", 100), attempts: MAX_ATTEMPTS - 1 };
        assert_eq!(fresh.exhausted(100 + MAX_AGE_SECONDS), None);
        assert!(fresh.exhausted(101 + MAX_AGE_SECONDS).is_some());
        assert!(DueReply { attempts: MAX_ATTEMPTS, ..fresh }.exhausted(100).is_some());
    }

    #[test]
    fn a_full_outbox_refuses_more_and_keeps_what_it_has() {
        in_transaction(|tx| {
            for n in 0..CAPACITY {
                tx.prepare_cached(
                    "INSERT INTO outbox (chat, wa_message_id, text, at, next_attempt_at)
                     VALUES ('a', ?1, '', 0, 0)",
                )?
                .execute([n.to_string()])?;
            }
            assert!(matches!(enqueue(tx, &reply("b", "b", 1)), Err(LedgerError::Full { .. })));
            assert_eq!(count(tx)?.waiting, CAPACITY);
            remove(tx, "0")?;
            enqueue(tx, &reply("b", "b", 1))
        });
    }

    #[test]
    fn failed_replies_are_pruned_by_age_and_number_and_waiting_ones_never() {
        in_transaction(|tx| {
            let now = 1000 * DAY;
            enqueue(tx, &reply("old", "waiting", 1))?;
            for n in 0..MAX_FAILED + 3 {
                enqueue(tx, &reply("a", &n.to_string(), 1))?;
            }
            tx.execute("UPDATE outbox SET failed_at = id WHERE chat = 'a'", [])?;
            tx.execute("UPDATE outbox SET failed_at = ?1 WHERE chat = 'a' AND id > 4", [now])?;
            // Three by age; then no more than MAX_FAILED are left.
            assert_eq!(prune(tx, now)?, 3);
            assert_eq!(prune(tx, now)?, 0);
            assert_eq!(count(tx)?, Counts { waiting: 1, failed: MAX_FAILED });
            tx.execute(
                "INSERT INTO outbox (chat, wa_message_id, text, at, next_attempt_at, failed_at)
                        VALUES ('a', 'one more', '', 1, 1, ?1)",
                [now],
            )?;
            assert_eq!(prune(tx, now)?, 1);
            Ok(())
        });
    }

    /// One step of a sender that works, fails or crashes at any point.
    #[derive(Debug, Clone)]
    enum Step {
        Enqueue { chat: u8, id: u8 },
        Attempt { delay: i64, acknowledged: bool },
        GiveUp,
        Wait(i64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..4_u8, 0..30_u8).prop_map(|(chat, id)| Step::Enqueue { chat, id }),
            4 => (0..50_i64, any::<bool>())
                .prop_map(|(delay, acknowledged)| Step::Attempt { delay, acknowledged }),
            1 => Just(Step::GiveUp),
            2 => (1..60_i64).prop_map(Step::Wait),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whatever happens, each reply is waiting, failed or acknowledged, exactly one of them,
        /// and replies of a chat are acknowledged in the order in which they were written.
        #[test]
        fn no_reply_is_lost_or_doubled_or_overtakes(steps in prop::collection::vec(step(), 1..80)) {
            in_transaction(|tx| {
                let mut now = 0;
                // Model: per chat the waiting ids in order.
                let mut waiting: Vec<Vec<String>> = vec![Vec::new(); 4];
                let mut known = std::collections::BTreeSet::new();
                let (mut failed, mut acknowledged) = (0, 0);
                for step in steps {
                    match step {
                        Step::Enqueue { chat, id } => {
                            // An id names its chat: ids are derived from the message answered.
                            let id = format!("{chat}-{id}");
                            // Removed ids are kept away by `inbound`.
                            if known.insert(id.clone()) {
                                waiting[usize::from(chat)].push(id.clone());
                            } else if !waiting[usize::from(chat)].contains(&id) {
                                continue;
                            }
                            enqueue(tx, &reply(&chat.to_string(), &id, now))?;
                        }
                        Step::Attempt { delay, acknowledged: answer } => {
                            for due in due(tx, now, 2)? {
                                let chat: usize = due.reply.chat.parse().unwrap();
                                assert_eq!(waiting[chat].first(), Some(&due.reply.wa_message_id));
                                record_attempt(tx, due.id, now + delay)?;
                                if answer {
                                    assert!(remove(tx, &due.reply.wa_message_id)?);
                                    waiting[chat].remove(0);
                                    acknowledged += 1;
                                }
                            }
                        }
                        Step::GiveUp => {
                            if let Some(due) = due(tx, now, 1)?.pop() {
                                give_up(tx, due.id, "test", now)?;
                                waiting[due.reply.chat.parse::<usize>().unwrap()].remove(0);
                                failed += 1;
                            }
                        }
                        Step::Wait(seconds) => now += seconds,
                    }
                    let left: usize = waiting.iter().map(Vec::len).sum();
                    assert_eq!(count(tx)?, Counts { waiting: u32::try_from(left).unwrap(), failed });
                    assert_eq!(left + failed as usize + acknowledged, known.len());
                }
                Ok(())
            });
        }
    }
}
