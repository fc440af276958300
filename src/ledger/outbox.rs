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
//!
//! # Fair
//!
//! Chats take turns: one that has had a reply goes behind all others that wait, so nobody waits longer
//! because somebody else writes much. Half of the turns are for those who wrote little since their last
//! answer ([`Lane`]): a family with one question waits for others with one, and not until hundreds who
//! flood have had theirs. A chat holds [`MOST_PER_CHAT`] replies at most, a single one while
//! the outbox is [`CROWDED`]. One more makes room by what need not be told any more ([`Kind`]): a menu goes
//! as soon as something newer is said, a verdict is joined with the next one. So what people get is what
//! they would have to read anyway, and a busy morning needs one reply for each family and not one for
//! each message.
//!
//! Only what was never tried is touched. A reply that may have been handed to WhatsApp keeps its text and
//! its id, so the phone never has two texts for one id; [`record_attempt`] refuses a reply that went or
//! was changed since it was read. What is joined goes out under the id of the later one. The reply that
//! goes is never written again: its message counts as received by the same transaction.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{DAY, LedgerError, PRUNE_ROWS};

/// Replies beyond which no further chat may begin to wait: far more than the people who write within the
/// half an hour that they need to leave. Such a chat meets [`LedgerError::Full`], its message is not
/// acknowledged, and WhatsApp keeps it. Chats that wait already hold [`MOST_PER_CHAT`] at most, and alerts
/// are as many as there are causes and operators.
pub const CAPACITY: u32 = 10_000;

/// Replies of one chat that wait at the same time.
pub const MOST_PER_CHAT: usize = 3;

/// With this many replies waiting, in all, a chat holds only one: 20 s of the usual pace.
pub const CROWDED: u32 = 100;

/// Messages since the last answer beyond which a chat is in the lane of those who write much: a menu, a choice
/// and the data.
pub const LITTLE: u32 = 3;

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

/// What becomes of a waiting reply when its chat gets another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A menu, a guide, a list: says where the conversation stands, and can be asked for again. Whatever
    /// comes later takes its place.
    Guidance,
    /// What became of something that somebody sent. Joined with others, never dropped.
    Verdict,
    /// To the operator. Neither replaced nor joined nor counted, and next at once.
    Alert,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Guidance => "guidance",
            Self::Verdict => "verdict",
            Self::Alert => "alert",
        }
    }
}

/// Those who wait and wrote [`LITTLE`] since their last answer, and those who wrote more. Turns alternate
/// between the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    Little,
    Much,
}

impl Lane {
    pub const ALL: [Self; 2] = [Self::Little, Self::Much];
}

/// Puts two verdicts into one text of at most [`MAX_TEXT_BYTES`]: (older, newer).
pub type Join = fn(&str, &str) -> String;

/// A reply to be sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Reply {
    pub kind: Kind,
    /// Chat to send to.
    pub chat: String,
    /// WhatsApp message id; sending it again under this id is harmless.
    pub wa_message_id: String,
    pub text: String,
    /// When it was written, in seconds since 1970 UTC.
    pub at: i64,
}

/// A reply whose turn it is. Its text is read when it leaves: many are looked at before that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    pub id: i64,
    pub chat: String,
}

/// A reply that leaves.
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

/// Who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// Since when the chat that has waited longest has, in seconds since 1970 UTC.
    pub since: i64,
    pub chats: u32,
}

/// How many replies wait and how many were given up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub waiting: u32,
    pub failed: u32,
}

/// Adds a reply at `now`, in seconds since 1970 UTC, and makes room for it among those of its chat. The
/// same `wa_message_id` again changes nothing, as long as the first one has not been removed (after that,
/// `inbound` knows that the message was answered).
///
/// [`LedgerError::Full`] at [`CAPACITY`] if none of its chat waits, [`LedgerError::TooLong`] over
/// [`MAX_TEXT_BYTES`].
pub fn enqueue(tx: &Connection, reply: &Reply, now: i64, join: Join) -> Result<(), LedgerError> {
    let Reply { chat, wa_message_id, at, kind, .. } = reply;
    if reply.text.len() > MAX_TEXT_BYTES {
        return Err(LedgerError::TooLong { what: "reply", bytes: reply.text.len(), limit: MAX_TEXT_BYTES });
    }
    if knows(tx, wa_message_id)? {
        return Ok(());
    }
    let mut text = reply.text.clone();
    let mut since = now;
    let mut asked = 0;
    if *kind != Kind::Alert {
        if !has_room(tx, chat)? {
            return Err(LedgerError::Full { table: "outbox", limit: CAPACITY as usize });
        }
        let waiting = of_chat(tx, chat)?;
        since = waiting.iter().map(|waiting| waiting.since).min().map_or(now, |first| first.min(now));
        let most = if is_crowded(tx)? { 1 } else { MOST_PER_CHAT };
        (text, asked) = make_room(tx, waiting, *kind, text, most, join)?;
    }
    let turn = turn_of(tx, chat, *kind)?;
    tx.prepare_cached(
        "INSERT INTO outbox (chat, wa_message_id, text, at, next_attempt_at, kind, turn, since, asked)
         VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![chat, wa_message_id, text, at, kind.name(), turn, since, asked])?;
    tx.prepare_cached(&format!("UPDATE outbox SET lane = {LANE} WHERE chat = ?1 AND failed_at IS NULL"))?
        .execute([chat])?;
    Ok(())
}

/// Whether a reply to `chat` can be added. If not, its message should be left with WhatsApp.
pub fn has_room(conn: &Connection, chat: &str) -> Result<bool, LedgerError> {
    let waits = "SELECT EXISTS (SELECT 1 FROM outbox WHERE chat = ?1 AND failed_at IS NULL)";
    Ok(conn.prepare_cached(waits)?.query_row([chat], |row| row.get(0))? || count(conn)?.waiting < CAPACITY)
}

fn knows(conn: &Connection, wa_message_id: &str) -> Result<bool, LedgerError> {
    let known = "SELECT EXISTS (SELECT 1 FROM outbox WHERE wa_message_id = ?1)";
    Ok(conn.prepare_cached(known)?.query_row([wa_message_id], |row| row.get(0))?)
}

fn is_crowded(conn: &Connection) -> Result<bool, LedgerError> {
    // Counts no further than needed.
    let waiting: u32 = conn
        .prepare_cached(
            "SELECT count(*) FROM (SELECT 1 FROM outbox INDEXED BY outbox_turn
             WHERE failed_at IS NULL
               AND NOT EXISTS (SELECT 1 FROM outbox AS parked
                               WHERE parked.chat = outbox.chat AND parked.parked_at IS NOT NULL
                                 AND parked.failed_at IS NULL) LIMIT ?1)",
        )?
        .query_row([CROWDED], |row| row.get(0))?;
    Ok(waiting >= CROWDED)
}

/// A waiting reply that is no alert.
struct Waiting {
    id: i64,
    is_guidance: bool,
    text: String,
    tried: bool,
    since: i64,
    asked: u32,
}

/// What waits for a chat, oldest first.
fn of_chat(conn: &Connection, chat: &str) -> Result<Vec<Waiting>, LedgerError> {
    let mut statement = conn.prepare_cached(
        "SELECT id, kind = 'guidance', text, tried, since, asked FROM outbox
         WHERE chat = ?1 AND failed_at IS NULL AND kind <> 'alert' ORDER BY id",
    )?;
    let rows = statement.query_map([chat], |row| {
        Ok(Waiting {
            id: row.get(0)?,
            is_guidance: row.get(1)?,
            text: row.get(2)?,
            tried: row.get(3)?,
            since: row.get(4)?,
            asked: row.get(5)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Makes room until fewer than `most` wait, as far as that can be, and returns what the new reply says
/// then and how many messages it answers.
fn make_room(
    tx: &Connection,
    mut waiting: Vec<Waiting>,
    kind: Kind,
    mut text: String,
    most: usize,
    join: Join,
) -> Result<(String, u32), LedgerError> {
    let mut asked = 1;
    while waiting.len() >= most {
        if let Some(passed) = waiting.iter().position(|reply| !reply.tried && reply.is_guidance) {
            let passed = waiting.remove(passed);
            asked += passed.asked;
            delete(tx, passed.id)?;
            continue;
        }
        // What is left that was never tried are verdicts.
        let Some(last) = waiting.iter().rposition(|reply| !reply.tried) else { break };
        if kind == Kind::Verdict {
            let joined = join(&waiting[last].text, &text);
            if joined.len() > MAX_TEXT_BYTES {
                break;
            }
            text = joined;
            let last = waiting.remove(last);
            asked += last.asked;
            delete(tx, last.id)?;
            continue;
        }
        let Some(before) = waiting[..last].iter().rposition(|reply| !reply.tried) else { break };
        let joined = join(&waiting[before].text, &waiting[last].text);
        if joined.len() > MAX_TEXT_BYTES {
            break;
        }
        let gone = waiting[before].asked;
        tx.prepare_cached("UPDATE outbox SET text = ?2, asked = asked + ?3 WHERE id = ?1")?
            .execute(params![waiting[last].id, joined, gone])?;
        waiting[last].text = joined;
        waiting[last].asked += gone;
        delete(tx, waiting.remove(before).id)?;
    }
    Ok((text, asked))
}

fn delete(tx: &Connection, id: i64) -> Result<(), LedgerError> {
    tx.prepare_cached("DELETE FROM outbox WHERE id = ?1")?.execute([id])?;
    Ok(())
}

/// SQL for a turn behind all others; one look into the index for each lane.
const LAST_TURN: &str = "(SELECT 1 + max(
    ifnull((SELECT max(turn) FROM outbox WHERE failed_at IS NULL AND lane = 0), 0),
    ifnull((SELECT max(turn) FROM outbox WHERE failed_at IS NULL AND lane = 1), 0)))";

/// SQL for the lane of the chat `?1`. Whoever is to get an alert does not wait among those who write much.
const LANE: &str = "(SELECT sum(asked) > 3 AND min(turn) > 0 FROM outbox AS all_of_it
    WHERE all_of_it.chat = ?1 AND all_of_it.failed_at IS NULL)";
const _: () = assert!(LITTLE == 3, "as in LANE");

/// The turn of a chat's next reply: that of the chat if it waits already.
fn turn_of(tx: &Connection, chat: &str, kind: Kind) -> Result<i64, LedgerError> {
    if kind == Kind::Alert {
        // What waits before it must not hold it up.
        tx.prepare_cached("UPDATE outbox SET turn = 0 WHERE chat = ?1 AND failed_at IS NULL")?
            .execute([chat])?;
        return Ok(0);
    }
    let turn = format!(
        "SELECT coalesce((SELECT min(turn) FROM outbox WHERE chat = ?1 AND failed_at IS NULL), {LAST_TURN})"
    );
    Ok(tx.prepare_cached(&turn)?.query_row([chat], |row| row.get(0))?)
}

/// Up to `limit` replies of a lane whose turn has come, those of the chats that have waited longest first,
/// at most one per chat.
pub fn due(conn: &Connection, lane: Lane, now: i64, limit: u32) -> Result<Vec<Due>, LedgerError> {
    let mut statement = conn.prepare_cached(
        "SELECT id, chat FROM outbox INDEXED BY outbox_turn
         WHERE failed_at IS NULL AND lane = ?3 AND next_attempt_at <= ?1
           AND NOT EXISTS (SELECT 1 FROM outbox AS earlier
                           WHERE earlier.chat = outbox.chat AND earlier.failed_at IS NULL
                             AND earlier.id < outbox.id)
         ORDER BY turn, id LIMIT ?2",
    )?;
    let rows = statement.query_map(params![now, limit, lane == Lane::Much], |row| {
        Ok(Due { id: row.get(0)?, chat: row.get(1)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The reply of this number; `None` if it is there no more, or given up.
pub fn read(conn: &Connection, id: i64) -> Result<Option<DueReply>, LedgerError> {
    let reply = "SELECT id, chat, wa_message_id, text, at, attempts, kind FROM outbox
                 WHERE id = ?1 AND failed_at IS NULL";
    Ok(conn.prepare_cached(reply)?.query_row([id], due_reply).optional()?)
}

/// Who waits for their turn, apart from operators for alerts and from people whom WhatsApp does not let in
/// now; `None` if nobody does.
pub fn wait(conn: &Connection) -> Result<Option<Wait>, LedgerError> {
    let waits = conn
        .prepare_cached(
            "SELECT min(since), count(DISTINCT chat) FROM outbox INDEXED BY outbox_turn
             WHERE failed_at IS NULL AND kind <> 'alert'
               AND NOT EXISTS (SELECT 1 FROM outbox AS parked
                               WHERE parked.chat = outbox.chat AND parked.parked_at IS NOT NULL
                                 AND parked.failed_at IS NULL)",
        )?
        .query_row([], |row| Ok((row.get::<_, Option<i64>>(0)?, row.get(1)?)))?;
    Ok(match waits {
        (Some(since), chats) => Some(Wait { since, chats }),
        (None, _) => None,
    })
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

/// Whether a reply is still what it was when it was read: nothing has taken its place.
pub fn stands(conn: &Connection, due: &DueReply) -> Result<bool, LedgerError> {
    let Reply { wa_message_id, text, .. } = &due.reply;
    let stands = "SELECT EXISTS (SELECT 1 FROM outbox
                  WHERE id = ?1 AND wa_message_id = ?2 AND text = ?3 AND failed_at IS NULL)";
    Ok(conn.prepare_cached(stands)?.query_row(params![due.id, wa_message_id, text], |row| row.get(0))?)
}

/// Counts an attempt and sets the time of the next one. Must be durable before the reply is handed
/// to WhatsApp, so that a reply which brings the process down does not do so for ever. From then on
/// nothing takes its place.
///
/// `false`: something has taken its place since it was read; it must not be sent.
pub fn record_attempt(tx: &Connection, due: &DueReply, next_attempt_at: i64) -> Result<bool, LedgerError> {
    let Reply { wa_message_id, text, .. } = &due.reply;
    let stands = tx
        .prepare_cached(
            "UPDATE outbox SET attempts = attempts + 1, next_attempt_at = ?2, tried = 1
             WHERE id = ?1 AND wa_message_id = ?3 AND text = ?4 AND failed_at IS NULL",
        )?
        .execute(params![due.id, next_attempt_at, wa_message_id, text])?;
    Ok(stands == 1)
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
/// was there. The rest of its chat goes behind everybody else who waits, unless an alert is among it.
pub fn remove(tx: &Connection, wa_message_id: &str) -> Result<bool, LedgerError> {
    let chat: Option<String> = tx
        .prepare_cached("DELETE FROM outbox WHERE wa_message_id = ?1 RETURNING chat")?
        .query_row([wa_message_id], |row| row.get(0))
        .optional()?;
    let Some(chat) = chat else { return Ok(false) };
    tx.prepare_cached(&format!(
        "UPDATE outbox SET turn = {LAST_TURN}, lane = {LANE} WHERE chat = ?1 AND failed_at IS NULL
         AND NOT EXISTS (SELECT 1 FROM outbox AS other
                         WHERE other.chat = ?1 AND other.failed_at IS NULL AND other.kind = 'alert')"
    ))?
    .execute([chat])?;
    Ok(true)
}

/// Removes the replies that were never tried and whose `wa_message_id` starts with `prefix`, which
/// is of ASCII letters and digits: what they say is out of date. Returns how many went.
pub fn withdraw(tx: &Connection, prefix: &str) -> Result<usize, LedgerError> {
    // '~' stands behind every letter and digit.
    Ok(tx
        .prepare_cached(
            "DELETE FROM outbox WHERE wa_message_id >= ?1 AND wa_message_id < ?1 || '~'
             AND tried = 0 AND failed_at IS NULL",
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

/// How difficult a reply has been so far; not at all, if something has taken its place.
pub fn difficulty(conn: &Connection, id: i64) -> Result<Difficulty, LedgerError> {
    Ok(conn
        .prepare_cached("SELECT parked_at, unkeyed FROM outbox WHERE id = ?1")?
        .query_row([id], |row| Ok(Difficulty { parked_at: row.get(0)?, unkeyed: row.get(1)? }))
        .optional()?
        .unwrap_or_default())
}

/// Sets a reply's next attempt without counting one. Its chat goes behind all others, unless an
/// alert is among it.
pub fn put_off(tx: &Connection, id: i64, until: i64) -> Result<(), LedgerError> {
    tx.prepare_cached("UPDATE outbox SET next_attempt_at = ?2 WHERE id = ?1")?.execute([id, until])?;
    tx.prepare_cached(&format!(
        "UPDATE outbox SET turn = {LAST_TURN}
         WHERE chat = (SELECT chat FROM outbox WHERE id = ?1) AND failed_at IS NULL AND turn > 0"
    ))?
    .execute([id])?;
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

/// How many replies were given up at `since` (seconds since 1970 UTC) or later.
pub fn count_failed_since(conn: &Connection, since: i64) -> Result<u32, LedgerError> {
    Ok(conn
        .prepare_cached("SELECT count(*) FROM outbox WHERE failed_at >= ?1")?
        .query_row([since], |row| row.get(0))?)
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
    let kind = match row.get_ref(6)?.as_str()? {
        "guidance" => Kind::Guidance,
        "alert" => Kind::Alert,
        _ => Kind::Verdict,
    };
    Ok(DueReply {
        id: row.get(0)?,
        reply: Reply {
            kind,
            chat: row.get(1)?,
            wa_message_id: row.get(2)?,
            text: row.get(3)?,
            at: row.get(4)?,
        },
        attempts: row.get(5)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Database;
    use proptest::prelude::*;

    fn reply(chat: &str, id: &str, at: i64) -> Reply {
        Reply {
            kind: Kind::Verdict,
            chat: chat.into(),
            wa_message_id: id.into(),
            text: format!("text of {id}"),
            at,
        }
    }

    fn join(older: &str, newer: &str) -> String {
        format!("{older} + {newer}")
    }

    fn enqueue(tx: &Connection, reply: &Reply) -> Result<(), LedgerError> {
        super::enqueue(tx, reply, reply.at, join)
    }

    /// Enqueues replies "chat id kind", an id of which its text is the same.
    fn say(tx: &Connection, replies: &[&str]) -> Result<(), LedgerError> {
        for reply in replies {
            let [chat, id, kind] = reply.split(' ').collect::<Vec<_>>()[..] else { panic!("{reply}") };
            let kind = match kind {
                "menu" => Kind::Guidance,
                "alert" => Kind::Alert,
                _ => Kind::Verdict,
            };
            enqueue(tx, &Reply { kind, text: id.into(), ..self::reply(chat, id, 10) })?;
        }
        Ok(())
    }

    /// "id: text" of everything that waits, in the order in which it would leave if each went at once.
    fn waiting(tx: &Connection, chat: &str) -> Result<Vec<String>, LedgerError> {
        let mut statement = tx.prepare(
            "SELECT wa_message_id, text FROM outbox WHERE chat = ?1 AND failed_at IS NULL ORDER BY id",
        )?;
        let rows = statement.query_map([chat], |row| {
            let (id, text): (String, String) = (row.get(0)?, row.get(1)?);
            Ok(if id == text { id } else { format!("{id}: {text}") })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Fills the outbox up to `n` with replies of as many chats.
    fn crowd(tx: &Connection, n: u32) -> Result<(), LedgerError> {
        let mut insert = tx.prepare(
            "INSERT INTO outbox (chat, wa_message_id, text, at, next_attempt_at, turn, since)
             VALUES (?1, ?1, '', 0, 0, ?2, 0)",
        )?;
        (0..n).try_for_each(|n| insert.execute(params![format!("crowd {n}"), n + 1]).map(drop))?;
        Ok(())
    }

    fn in_transaction(test: impl FnOnce(&Connection) -> Result<(), LedgerError>) {
        Database::in_memory().unwrap().write_now(test).unwrap();
    }

    /// Those of both lanes.
    fn whole(conn: &Connection, due: Vec<Due>) -> Result<Vec<DueReply>, LedgerError> {
        due.iter().map(|due| Ok(read(conn, due.id)?.expect("it is due"))).collect()
    }

    fn due(conn: &Connection, now: i64, limit: u32) -> Result<Vec<DueReply>, LedgerError> {
        let mut due = whole(conn, super::due(conn, Lane::Little, now, limit)?)?;
        due.extend(whole(conn, super::due(conn, Lane::Much, now, limit)?)?);
        due.truncate(limit as usize);
        Ok(due)
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
            assert_eq!(ids(&due(tx, 10, 10)?), ["b1", "c1", "a2"], "who had a reply goes behind the others");
            Ok(())
        });
    }

    #[test]
    fn chats_take_turns_however_much_one_of_them_writes() {
        in_transaction(|tx| {
            say(tx, &["a a1 x", "a a2 x", "a a3 x", "b b1 x", "b b2 x"])?;
            let mut left = Vec::new();
            while let Some(next) = due(tx, 10, 1)?.pop() {
                remove(tx, &next.reply.wa_message_id)?;
                left.push(next.reply.wa_message_id);
                if left.len() == 2 {
                    say(tx, &["c c1 x", "a a4 x"])?;
                }
            }
            assert_eq!(left, ["a1", "b1", "a2", "b2", "c1", "a3", "a4"]);
            Ok(())
        });
    }

    #[test]
    fn who_wrote_little_since_the_last_answer_is_in_another_lane_than_who_wrote_much() {
        in_transaction(|tx| {
            let lanes = || -> Result<[Vec<String>; 2], LedgerError> {
                let of = |lane| whole(tx, super::due(tx, lane, 10, 10)?);
                let ids = |due: Vec<DueReply>| due.into_iter().map(|due| due.reply.wa_message_id).collect();
                Ok([ids(of(Lane::Little)?), ids(of(Lane::Much)?)])
            };
            for n in 1..=3 {
                say(tx, &[&format!("a a{n} x"), &format!("b b{n} menu")])?;
            }
            assert_eq!(lanes()?, [vec!["a1", "b1"], vec![]]);
            say(tx, &["a a4 x", "b b4 menu", "c c1 x"])?;
            assert_eq!(lanes()?, [vec!["c1"], vec!["a1", "b2"]], "joined and replaced ones count");
            remove(tx, "a1")?;
            assert_eq!(lanes()?, [vec!["c1", "a2"], vec!["b2"]], "three of a's messages are left");
            say(tx, &["b B1 alert"])?;
            assert_eq!(
                lanes()?,
                [vec!["b2", "c1", "a2"], vec![]],
                "no alert waits among those who write much"
            );
            Ok(())
        });
    }

    #[test]
    fn a_later_menu_takes_the_place_of_an_earlier_one_and_verdicts_stay() {
        in_transaction(|tx| {
            say(tx, &["a m1 menu", "a v1 x", "a m2 menu"])?;
            assert_eq!(waiting(tx, "a")?, ["m1", "v1", "m2"], "three may wait");
            say(tx, &["a m3 menu"])?;
            assert_eq!(waiting(tx, "a")?, ["v1", "m2", "m3"]);
            say(tx, &["a v2 x"])?;
            assert_eq!(waiting(tx, "a")?, ["v1", "m3", "v2"]);
            say(tx, &["a v3 x", "a v4 x"])?;
            assert_eq!(waiting(tx, "a")?, ["v1", "v2", "v4: v3 + v4"]);
            say(tx, &["a m4 menu"])?;
            assert_eq!(waiting(tx, "a")?, ["v1", "v4: v2 + v3 + v4", "m4"]);
            Ok(())
        });
    }

    #[test]
    fn in_a_crowd_a_chat_holds_one_verdict_and_the_menu_behind_it() {
        in_transaction(|tx| {
            crowd(tx, CROWDED)?;
            say(tx, &["a m1 menu", "a m2 menu"])?;
            assert_eq!(waiting(tx, "a")?, ["m2"]);
            say(tx, &["a v1 x", "a v2 x"])?;
            assert_eq!(waiting(tx, "a")?, ["v2: v1 + v2"]);
            say(tx, &["a m3 menu", "a m4 menu"])?;
            assert_eq!(waiting(tx, "a")?, ["v2: v1 + v2", "m4"]);
            say(tx, &["a v3 x"])?;
            assert_eq!(waiting(tx, "a")?, ["v3: v1 + v2 + v3"]);
            Ok(())
        });
    }

    #[test]
    fn what_may_have_been_handed_over_keeps_its_text_and_its_id() {
        in_transaction(|tx| {
            crowd(tx, CROWDED)?;
            say(tx, &["a m1 menu", "b v1 x"])?;
            for due in due(tx, 10, CROWDED + 2)?.iter().filter(|due| due.reply.chat.len() == 1) {
                assert!(record_attempt(tx, due, 10)?);
                take_back_attempt(tx, due.id)?;
            }
            say(tx, &["a m2 menu", "a v2 x", "a v3 x", "a m3 menu", "b v4 x"])?;
            assert_eq!(waiting(tx, "a")?, ["m1", "v3: v2 + v3", "m3"]);
            assert_eq!(waiting(tx, "b")?, ["v1", "v4"]);
            Ok(())
        });
    }

    #[test]
    fn a_reply_that_went_or_was_changed_since_it_was_read_is_not_sent() {
        in_transaction(|tx| {
            crowd(tx, CROWDED)?;
            say(tx, &["a m1 menu", "b v1 x", "c v1c x"])?;
            let read = due(tx, 10, CROWDED + 3)?;
            say(tx, &["a m2 menu", "b v2 x"])?;
            let stands: Vec<bool> = read
                .iter()
                .filter(|due| due.reply.chat.len() == 1)
                .map(|due| record_attempt(tx, due, 10))
                .collect::<Result<_, _>>()?;
            assert_eq!(stands, [false, false, true]);
            Ok(())
        });
    }

    #[test]
    fn an_alert_is_next_whoever_waits_and_is_neither_counted_nor_touched() {
        in_transaction(|tx| {
            crowd(tx, CAPACITY)?;
            say(tx, &["o A1 alert", "o A2 alert"])?;
            assert!(matches!(say(tx, &["o2 m x"]), Err(LedgerError::Full { .. })));
            say(tx, &["o m1 menu", "o v1 x", "o v2 x"])?;
            assert_eq!(waiting(tx, "o")?, ["A1", "A2", "v2: v1 + v2"]);
            assert_eq!(ids(&due(tx, 10, 1)?), ["A1"]);
            remove(tx, "A1")?;
            assert_eq!(ids(&due(tx, 10, 1)?), ["A2"]);
            remove(tx, "A2")?;
            assert_eq!(ids(&due(tx, 10, 1)?), ["crowd 0"], "what is left takes its turn");
            say(tx, &["o A3 alert"])?;
            assert_eq!(ids(&due(tx, 10, 1)?), ["v2"], "what stands before an alert does not hold it up");
            Ok(())
        });
    }

    #[test]
    fn it_is_known_who_waits_and_since_when() {
        in_transaction(|tx| {
            assert_eq!(wait(tx)?, None);
            enqueue(tx, &Reply { kind: Kind::Alert, ..reply("o", "A1", 1) })?;
            assert_eq!(wait(tx)?, None);
            for (chat, id, at) in [("a", "a1", 20), ("a", "a2", 30), ("b", "b1", 40)] {
                enqueue(tx, &reply(chat, id, at))?;
            }
            assert_eq!(wait(tx)?, Some(Wait { since: 20, chats: 2 }));
            remove(tx, "a1")?;
            remove(tx, "a2")?;
            assert_eq!(wait(tx)?, Some(Wait { since: 40, chats: 1 }));
            Ok(())
        });
    }

    #[test]
    fn the_next_is_found_without_sorting_all_that_wait() {
        in_transaction(|tx| {
            crowd(tx, CAPACITY)?;
            let start = crate::clock::now();
            for _ in 0..100 {
                assert_eq!(due(tx, 10, 20)?.len(), 20);
            }
            let each = crate::clock::since(start) / 100;
            assert!(each < std::time::Duration::from_millis(5), "{each:?}");
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
            assert!(record_attempt(tx, &first, 40)?);
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
            record_attempt(tx, &first, 30)?;
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
            assert_eq!((count_failed_since(tx, 20)?, count_failed_since(tx, 21)?), (3, 0));
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
            assert!(record_attempt(tx, &due_now[0], 10)?);
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
    fn a_full_outbox_refuses_only_chats_that_do_not_wait_yet() {
        in_transaction(|tx| {
            crowd(tx, CAPACITY)?;
            assert!(!has_room(tx, "b")? && has_room(tx, "crowd 7")?);
            assert!(matches!(enqueue(tx, &reply("b", "b", 1)), Err(LedgerError::Full { .. })));
            enqueue(tx, &reply("crowd 7", "more", 1))?;
            assert_eq!(count(tx)?.waiting, CAPACITY);
            remove(tx, "crowd 0")?;
            enqueue(tx, &reply("b", "b", 1))
        });
    }

    #[test]
    fn failed_replies_are_pruned_by_age_and_number_and_waiting_ones_never() {
        in_transaction(|tx| {
            let now = 1000 * DAY;
            enqueue(tx, &reply("old", "waiting", 1))?;
            for n in 0..MAX_FAILED + 3 {
                tx.prepare_cached(
                    "INSERT INTO outbox (chat, wa_message_id, text, at, next_attempt_at)
                     VALUES ('a', ?1, '', 1, 0)",
                )?
                .execute([n.to_string()])?;
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
        Enqueue { chat: usize, guidance: bool },
        Attempt { delay: i64, acknowledged: bool },
        TakeBack,
        GiveUp,
        Wait(i64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0..4_usize, any::<bool>()).prop_map(|(chat, guidance)| Step::Enqueue { chat, guidance }),
            3 => (0..50_i64, any::<bool>())
                .prop_map(|(delay, acknowledged)| Step::Attempt { delay, acknowledged }),
            1 => Just(Step::TakeBack),
            1 => Just(Step::GiveUp),
            2 => (1..60_i64).prop_map(Step::Wait),
        ]
    }

    /// What one chat was to be told, and what has left for it.
    #[derive(Default)]
    struct Chat {
        said: Vec<String>,
        left: Vec<String>,
    }

    impl Chat {
        /// Checks that every verdict is there once, in order, that what else is there is in order, and that
        /// the last word is there.
        fn check(&self, waiting: &[String]) {
            let told: Vec<&str> =
                self.left.iter().chain(waiting).flat_map(|text| text.split(" + ")).collect();
            let verdicts = |ids: &[&str]| ids.iter().filter(|id| !id.contains('G')).count();
            let said: Vec<&str> = self.said.iter().map(String::as_str).collect();
            assert_eq!(verdicts(&told), verdicts(&said), "{told:?} of {said:?}");
            let mut rest = said.iter();
            assert!(told.iter().all(|id| rest.any(|said| said == id)), "{told:?} is no part of {said:?}");
            assert_eq!(told.last(), said.last());
            assert!(waiting.len() <= MOST_PER_CHAT, "{waiting:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whatever happens: no verdict is lost or doubled, nothing overtakes, no chat holds more than it
        /// may, and what was tried once keeps its text.
        #[test]
        fn nothing_that_matters_is_lost_or_doubled_or_overtakes(
            crowded: bool,
            steps in prop::collection::vec(step(), 1..80),
        ) {
            in_transaction(|tx| {
                if crowded {
                    crowd(tx, CROWDED)?;
                    // Not due, so that it is only there.
                    tx.execute("UPDATE outbox SET next_attempt_at = ?1", [i64::MAX])?;
                }
                let mut now = 0;
                let mut chats: Vec<Chat> = (0..4).map(|_| Chat::default()).collect();
                let mut tried = std::collections::BTreeMap::new();
                for (number, step) in steps.into_iter().enumerate() {
                    match step {
                        Step::Enqueue { chat, guidance } => {
                            let (kind, letter) =
                                if guidance { (Kind::Guidance, "G") } else { (Kind::Verdict, "V") };
                            let id = format!("{letter}{number}");
                            let reply = Reply { kind, text: id.clone(), ..reply(&chat.to_string(), &id, now) };
                            enqueue(tx, &reply)?;
                            enqueue(tx, &reply)?;
                            chats[chat].said.push(id);
                        }
                        Step::Attempt { delay, acknowledged } => {
                            for due in due(tx, now, 2)? {
                                let Reply { chat, wa_message_id, text, .. } = &due.reply;
                                assert!(record_attempt(tx, &due, now + delay)?);
                                let before = tried.insert(wa_message_id.clone(), text.clone());
                                assert!(before.is_none_or(|before| before == *text));
                                if acknowledged {
                                    assert!(remove(tx, wa_message_id)?);
                                    chats[chat.parse::<usize>().unwrap()].left.push(text.clone());
                                }
                            }
                        }
                        Step::TakeBack => {
                            for due in due(tx, now, 1)? {
                                assert!(record_attempt(tx, &due, now)?);
                                take_back_attempt(tx, due.id)?;
                                tried.insert(due.reply.wa_message_id, due.reply.text);
                            }
                        }
                        Step::GiveUp => {
                            if let Some(due) = due(tx, now, 1)?.pop() {
                                give_up(tx, due.id, "test", now)?;
                                chats[due.reply.chat.parse::<usize>().unwrap()].left.push(due.reply.text);
                            }
                        }
                        Step::Wait(seconds) => now += seconds,
                    }
                    for (chat, told) in chats.iter().enumerate() {
                        let texts: Vec<String> = of_chat(tx, &chat.to_string())?
                            .into_iter()
                            .map(|waiting| waiting.text)
                            .collect();
                        told.check(&texts);
                    }
                }
                Ok(())
            });
        }
    }
}
