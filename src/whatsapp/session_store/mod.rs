//! whatsapp-rust's storage backend, on the ledger's SQLite connection.
//!
//! Signal promises that a key never reaches the wire twice, and it can only keep that if what it
//! stored survives a power cut. Hence every method that writes keys returns when its change is durable;
//! writers that are ready together share one flush (see [`Database`]). What is only remembered for
//! convenience - sent messages, message secrets, tokens, devices, LIDs - is flushed with whatever comes
//! next, and so is a message that came in: its acknowledgement waits for a commit that follows, and what
//! is durable is always everything up to a moment. The semantics are those of wacore's in-memory backend,
//! against which they are tested.
//!
//! What grows with time is bounded, by [`SessionStore::prune`] or by whatsapp-rust; so is what grows with
//! the number of people who ever wrote: sessions, identities, device lists and LID mappings, some KiB per
//! person, are forgotten when nobody has used them for [`UNUSED_DAYS`]. A person who comes back later
//! costs one retry, which WhatsApp makes by itself: the phone is asked to send the message again.
//! What is left is bounded by the account itself: its pre-keys at WhatsApp, and the settings that it
//! synchronises between its own devices.

mod app_sync;
mod device;
mod kept;
mod lost;
mod msg_secret;
mod owed;
mod protocol;
mod signal;
#[cfg(test)]
mod tests;
mod unused;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::{Connection, OptionalExtension, Params, Row};
use wacore::store::error::{Result as StoreResult, StoreError};

use lost::LostMessages;
use owed::OwedMessages;

use crate::ledger::database::MayPass;
use crate::ledger::{Database, LedgerError};
use crate::personal::PhoneNumber;

/// Set-aside device rows that are kept, the newest: enough to take back a false "logged out" that
/// was noticed only after further attempts to pair.
const RETIRED_DEVICES: i64 = 3;

/// Signed pre-keys that are kept after others took their place, the newest. whatsapp-rust makes a new one each
/// week in which it logs in: half a year, as long as anything of a phone that is silent.
const RETIRED_SIGNED_PREKEYS: u32 = 26;

/// Base keys older than this many seconds are forgotten. A key is saved at a message's second
/// retry and asked for at its third; a phone that stays silent for a week starts over.
const BASE_KEY_SECONDS: i64 = 7 * DAY;

/// Base keys that are kept, the newest: each is one of a message that failed twice.
const BASE_KEYS: i64 = 4096;

/// Privacy tokens that are kept, those used last. Anybody may send one.
const TC_TOKENS: i64 = 20_000;

/// Privacy tokens are forgotten this many seconds after their last use. The longest window known
/// to be set by the server is 182 days.
const TC_TOKEN_SECONDS: i64 = 365 * DAY;

/// Sent messages older than this many seconds are forgotten. whatsapp-rust forgets them after two
/// hours unless its `sent_message_ttl_secs` says otherwise; a retry request comes within minutes.
const SENT_MESSAGE_SECONDS: i64 = DAY;

/// Sent messages that are kept for retries, the newest (bound of wacore's in-memory backend).
const SENT_MESSAGES: i64 = 4096;

/// Message secrets that are kept, those that expire last (about 1.5 MiB).
const MSG_SECRETS: i64 = 10_000;

/// What belongs to a person or a sender in a group is forgotten when it was not written for so many days.
/// Half a year: families come back within weeks, and some only for the next distribution.
const UNUSED_DAYS: i64 = 180;

/// People and group senders of whom something is kept, those who wrote last: some KiB of each. Far more than the
/// bot's families; a phone that was forgotten costs one retry.
const USERS: i64 = 20_000;

/// LID mappings that are kept, those learned last; whatsapp-rust has all of them in memory, some 100 bytes each.
const LID_MAPPINGS: i64 = 50_000;

/// Most people and group senders that are forgotten in one round, and most LID mappings.
const FORGET_AT_ONCE: u32 = 50;

/// Groups whose members are kept, and devices that are known to have a group's key, by row. The bot
/// writes to no group: both are caches of whatsapp-rust, and losing them costs a query.
const GROUPS: i64 = 500;
const GROUP_DEVICES: i64 = 5_000;

const DAY: i64 = 24 * 60 * 60;

/// The tables that make up a session, apart from the device row. LID mappings are not among them:
/// they are facts about people and hold for every account.
const SESSION_TABLES: &[&str] = &[
    "wa_identity",
    "wa_session",
    "wa_prekey",
    "wa_signed_prekey",
    "wa_sender_key",
    "wa_app_sync_key",
    "wa_app_sync_version",
    "wa_app_sync_mutation",
    "wa_sender_key_device",
    "wa_base_key",
    "wa_device_list",
    "wa_group_metadata",
    "wa_tc_token",
    "wa_sent_message",
    "wa_pending_inbound",
    "wa_msg_secret",
    "wa_use",
];

/// Why the session could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The device row was written by a version this one does not understand, or is damaged.
    #[error(
        "the stored WhatsApp device (format {format}, written by bot-kjp {writer}) cannot be read: {detail}; \
         install that version again, or remove the device on the phone and pair anew"
    )]
    DeviceUnreadable { format: i64, writer: String, detail: String },
    /// The writer belongs to a client whose session was set aside.
    #[error("this WhatsApp session was set aside; start a new client on the store that replaced it")]
    SetAside,
}

impl From<rusqlite::Error> for SessionError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Ledger(error.into())
    }
}

impl MayPass for SessionError {
    fn may_pass(&self) -> bool {
        match self {
            Self::Ledger(error) => error.may_pass(),
            Self::DeviceUnreadable { .. } | Self::SetAside => false,
        }
    }

    fn is_damage(&self) -> bool {
        matches!(self, Self::Ledger(error) if error.is_damage())
    }
}

impl From<SessionError> for StoreError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Ledger(LedgerError::Unreadable { .. }) | SessionError::DeviceUnreadable { .. } => {
                Self::Serialization(Box::new(error))
            }
            SessionError::Ledger(_) | SessionError::SetAside => Self::Database(Box::new(error)),
        }
    }
}

/// The one WhatsApp session of this ledger; clones share it.
#[derive(Clone)]
pub struct SessionStore {
    database: Database,
    /// How often the session had been set aside when this handle was made.
    epoch: u64,
    /// How often it has been by now. Changed only inside a write, so under the database's lock.
    current_epoch: Arc<AtomicU64>,
    owed: OwedMessages,
    lost: LostMessages,
    /// Whether a message whose key is used up and that is nowhere counts as lost; else as worked off.
    misses_lost: bool,
    clock: fn() -> i64,
}

impl SessionStore {
    /// Rows are stamped by whatsapp-rust's own clock, from which its expiry cut-offs come too.
    pub fn new(database: Database) -> Self {
        Self::with_clock(database, wacore::time::now_secs)
    }

    /// Like [`new`](Self::new), with the clock (Unix seconds) passed in.
    pub fn with_clock(database: Database, clock: fn() -> i64) -> Self {
        Self {
            database,
            epoch: 0,
            current_epoch: Arc::default(),
            owed: OwedMessages::default(),
            lost: LostMessages::default(),
            misses_lost: false,
            clock,
        }
    }

    /// The same store for a bot that works off every message in the ledger.
    ///
    /// whatsapp-rust writes all Signal sessions that changed whenever anybody needs one of them, and a
    /// message that it has decrypted only a moment later. A power cut between the two leaves a used key and
    /// no message; delivered again, it would be taken for one that was worked off, and be acknowledged.
    /// This store then gives a stand-in and [knows it](Self::is_lost), so that the message is asked for once more (see
    /// [`missing_messages`](crate::whatsapp::missing_messages)). Of what nobody registers with (a reaction,
    /// say) the ledger knows nothing, so that may be asked for in vain, if WhatsApp delivers it twice.
    pub fn missing_what_is_lost(self) -> Self {
        Self { misses_lost: true, ..self }
    }

    /// Whether this message, by the addresses that whatsapp-rust names it with, is the stand-in for one that
    /// was decrypted and is nowhere.
    pub fn is_lost(&self, chat: &str, sender: &str, id: &str) -> bool {
        self.lost.contains(chat, sender, id)
    }

    /// Whether a message of that id was decrypted and its effects are not durable: it must not be acknowledged.
    pub fn is_owed(&self, id: &str) -> Result<bool, LedgerError> {
        let kept = "SELECT EXISTS (SELECT 1 FROM wa_pending_inbound WHERE id = ?1)";
        Ok(self.owed.has(id)
            || self.database.read(|c| c.prepare_cached(kept)?.query_row([id], |row| row.get(0)))?)
    }

    /// Whether a phone has linked this device. `false` also if there is no device yet.
    pub fn is_paired(&self) -> Result<bool, SessionError> {
        let device = self.database.read(device::load)?;
        Ok(device.is_some_and(|device| device.is_registered()))
    }

    /// Removes the session after the phone logged this device out, so that it can be paired again.
    ///
    /// Returns the store for the next client. This handle and its clones can still read, but every
    /// write of a client that has not noticed yet is refused: it must not leak into the next
    /// session. The device row is kept among the last [`RETIRED_DEVICES`], and contacts' tokens for the next
    /// session of the same phone number; LID mappings, kept HTTP answers and the ledger's own tables are not
    /// touched. `now` is in Unix seconds.
    pub async fn set_aside(&self, now: i64) -> Result<Self, SessionError> {
        let next = Self { epoch: self.current_epoch.load(Ordering::SeqCst) + 1, ..self.clone() };
        let outcome = self
            .database
            .write(|tx| {
                execute(
                    tx,
                    "INSERT INTO wa_retired_device (set_aside_at, format, writer, body)
                     SELECT ?1, format, writer, body FROM wa_device",
                    [now],
                )?;
                execute(
                    tx,
                    "DELETE FROM wa_retired_device WHERE no NOT IN
                     (SELECT no FROM wa_retired_device ORDER BY no DESC LIMIT ?1)",
                    [RETIRED_DEVICES],
                )?;
                kept::keep(tx)?;
                for table in SESSION_TABLES.iter().chain(&["wa_device"]) {
                    tx.execute(&format!("DELETE FROM {table}"), [])?;
                }
                self.current_epoch.store(next.epoch, Ordering::SeqCst);
                Ok(())
            })
            .await;
        if outcome.is_err() {
            // Nothing was removed, so the old session goes on.
            self.current_epoch.store(next.epoch - 1, Ordering::SeqCst);
        }
        outcome.map(|()| {
            self.owed.clear();
            self.lost.clear();
            next
        })
    }

    /// Makes the next connection look up the current client version instead of trusting the one
    /// that was looked up last: the server refused it.
    pub async fn forget_version(&self) -> Result<(), SessionError> {
        let written = self.database.write(|tx| {
            let Some(mut device) = device::load(tx)? else { return Ok(()) };
            device.app_version_last_fetched_ms = 0;
            device::save(tx, &device)
        });
        written.await
    }

    /// The phone number behind a LID, given as "1234", "1234@lid" or "1234:5@lid"; `None` if
    /// WhatsApp has not told it yet.
    pub fn phone_of_lid(&self, lid: &str) -> Result<Option<PhoneNumber>, LedgerError> {
        let user = lid.split(['@', ':']).next().unwrap_or(lid);
        let phone: Option<String> = self.database.read(|c| {
            c.prepare_cached("SELECT phone_number FROM wa_lid_mapping WHERE lid = ?1")?
                .query_row([user], |row| row.get(0))
                .optional()
                .map_err(LedgerError::from)
        })?;
        match phone {
            Some(phone) if phone.is_empty() || !phone.bytes().all(|b| b.is_ascii_digit()) => {
                Err(LedgerError::Unreadable {
                    column: "wa_lid_mapping.phone_number",
                    detail: "not a number in digits".into(),
                })
            }
            phone => Ok(phone.map(PhoneNumber::new)),
        }
    }

    /// Forgets what nobody will ask for again; returns how many rows. Call it hourly, and again soon
    /// while that is not 0, with `now` in Unix seconds by a clock that is right or late.
    ///
    /// While connected, whatsapp-rust expires sent messages, pending inbound messages (seven days)
    /// and message secrets itself, about every five minutes. It never expires base keys, privacy
    /// tokens only when `Client::tc_token().prune_expired()` is called, and bounds no table by its
    /// number of rows. Pending inbound messages have no bound of their own here: whatsapp-rust
    /// holds at most one batch of 400, and dropping one early would lose a message.
    pub async fn prune(&self, now: i64) -> Result<usize, SessionError> {
        self.database
            .write(|tx| {
                let expired =
                    execute(tx, "DELETE FROM wa_base_key WHERE saved_at < ?1", [now - BASE_KEY_SECONDS])?
                        + protocol::delete_expired_tc_tokens(
                            tx,
                            now - TC_TOKEN_SECONDS,
                            now - TC_TOKEN_SECONDS,
                        )?
                        + protocol::delete_expired_sent_messages(tx, now - SENT_MESSAGE_SECONDS)?
                        + msg_secret::delete_expired(tx, now)?
                        + kept::delete_expired(tx, now - TC_TOKEN_SECONDS)?;
                let surplus = execute(
                    tx,
                    "DELETE FROM wa_sent_message WHERE (chat_jid, message_id) IN
                     (SELECT chat_jid, message_id FROM wa_sent_message
                      ORDER BY stored_at DESC LIMIT -1 OFFSET ?1)",
                    [SENT_MESSAGES],
                )? + execute(
                    tx,
                    "DELETE FROM wa_msg_secret WHERE (chat, sender, msg_id) IN
                     (SELECT chat, sender, msg_id FROM wa_msg_secret
                      ORDER BY expires_at = 0 DESC, expires_at DESC, message_ts DESC LIMIT -1 OFFSET ?1)",
                    [MSG_SECRETS],
                )? + execute(
                    tx,
                    "DELETE FROM wa_base_key WHERE (address, message_id) IN
                     (SELECT address, message_id FROM wa_base_key ORDER BY saved_at DESC LIMIT -1 OFFSET ?1)",
                    [BASE_KEYS],
                )? + execute(
                    tx,
                    "DELETE FROM wa_tc_token WHERE jid IN
                     (SELECT jid FROM wa_tc_token
                      ORDER BY max(token_timestamp, ifnull(sender_timestamp, 0)) DESC LIMIT -1 OFFSET ?1)",
                    [TC_TOKENS],
                )?;
                Ok(expired + surplus + unused::forget(tx, now)?)
            })
            .await
    }

    pub(super) fn database(&self) -> &Database {
        &self.database
    }

    pub(super) fn now(&self) -> i64 {
        (self.clock)()
    }

    fn read<T>(&self, job: impl FnOnce(&Connection) -> Result<T, SessionError>) -> StoreResult<T> {
        Ok(self.database.read(job)?)
    }

    /// Writes for the client of this handle, unless its session was set aside.
    async fn write<T>(&self, job: impl FnOnce(&Connection) -> Result<T, SessionError>) -> StoreResult<T> {
        Ok(self.database.write(|tx| self.in_session(tx, job)).await?)
    }

    /// The same without waiting for the commit: for what a power cut may undo.
    fn write_lazily<T>(&self, job: impl FnOnce(&Connection) -> Result<T, SessionError>) -> StoreResult<T> {
        Ok(self.database.write_lazily(|tx| self.in_session(tx, job))?)
    }

    fn in_session<T>(
        &self,
        tx: &Connection,
        job: impl FnOnce(&Connection) -> Result<T, SessionError>,
    ) -> Result<T, SessionError> {
        if self.is_set_aside() {
            return Err(SessionError::SetAside);
        }
        self.owed.put(tx, self.database.undone())?;
        job(tx)
    }

    fn is_set_aside(&self) -> bool {
        self.current_epoch.load(Ordering::SeqCst) != self.epoch
    }
}

impl fmt::Debug for SessionStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionStore")
    }
}

/// Runs one statement; returns how many rows it changed.
fn execute(tx: &Connection, sql: &str, params: impl Params) -> Result<usize, SessionError> {
    Ok(tx.prepare_cached(sql)?.execute(params)?)
}

/// The first row, if there is one.
fn find<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Option<T>, SessionError> {
    Ok(connection.prepare_cached(sql)?.query_row(params, read).optional()?)
}

/// All rows.
fn list<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, SessionError> {
    Ok(connection.prepare_cached(sql)?.query_map(params, read)?.collect::<rusqlite::Result<_>>()?)
}

/// Row counts as wacore's traits want them.
fn count(rows: usize) -> u32 {
    u32::try_from(rows).unwrap_or(u32::MAX)
}

/// Stores a wacore type as JSON: later versions add fields with defaults, which JSON tolerates.
fn to_json<T: serde::Serialize>(column: &'static str, value: &T) -> Result<String, SessionError> {
    serde_json::to_string(value).map_err(|error| unreadable(column, &error))
}

fn from_json<T: serde::de::DeserializeOwned>(column: &'static str, json: &str) -> Result<T, SessionError> {
    serde_json::from_str(json).map_err(|error| unreadable(column, &error))
}

fn unreadable(column: &'static str, error: &serde_json::Error) -> SessionError {
    LedgerError::Unreadable { column, detail: json_fault(error) }.into()
}

/// What is wrong with stored JSON, without quoting it: it holds keys and phone numbers.
fn json_fault(error: &serde_json::Error) -> String {
    let message = error.to_string();
    // "missing field `x`" names the field and no value.
    if message.starts_with("missing field") {
        return message;
    }
    format!("{:?} error at line {} column {}", error.classify(), error.line(), error.column())
}
