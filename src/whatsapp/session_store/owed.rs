//! Received messages that are not in the database yet, because the disk refused them.
//!
//! Such a message is decrypted, so its key is used up in memory. Were the session written without it
//! (somebody else's message writes all sessions that changed) and the process ended, WhatsApp would
//! deliver it again, whatsapp-rust would find its key used and no copy, and acknowledge it: lost.
//! Hence whoever writes to the session writes what is owed in the same transaction, until whoever
//! owes it has written it. That makes going offline while the disk refuses needless: WhatsApp keeps
//! what is not acknowledged, connected or not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use wacore::store::traits::PendingInboundRow;

use super::{SessionError, execute};

const PUT_PENDING_INBOUND: &str = "INSERT INTO wa_pending_inbound (chat, sender, id, message, stored_at)
     VALUES (?1, ?2, ?3, ?4, ?5)
     ON CONFLICT DO UPDATE SET message = excluded.message, stored_at = excluded.stored_at";

/// Chat, sender and id of a message.
type Key = (String, String, String);

struct Owed {
    message: Vec<u8>,
    /// Whoever began to write it has failed once or was cancelled: others must write it too.
    late: bool,
}

/// What is owed; clones share it. As large as what WhatsApp delivers without an acknowledgement: one
/// message per chat, or one batch of its offline queue.
#[derive(Clone, Default)]
pub(super) struct OwedMessages(Arc<Mutex<BTreeMap<Key, Owed>>>);

impl OwedMessages {
    /// Takes note of messages that are about to be written. When what is returned is dropped before
    /// [`Owing::paid`], they are late.
    pub fn owe(&self, rows: &[PendingInboundRow<'_>]) -> Owing {
        let keys: Vec<Key> = rows.iter().map(|row| key(row.chat, row.sender, row.id)).collect();
        let mut owed = self.lock();
        for (row, key) in rows.iter().zip(&keys) {
            owed.insert(key.clone(), Owed { message: row.message.to_vec(), late: false });
        }
        drop(owed);
        Owing { all: self.clone(), keys }
    }

    /// Writes all that is late.
    pub fn put_late(&self, tx: &Connection, now: i64) -> Result<(), SessionError> {
        for ((chat, sender, id), owed) in self.lock().iter().filter(|(_, owed)| owed.late) {
            let row = PendingInboundRow { chat, sender, id, message: &owed.message };
            put_pending_inbound(tx, &row, now)?;
        }
        Ok(())
    }

    pub fn get(&self, chat: &str, sender: &str, id: &str) -> Option<Vec<u8>> {
        self.lock().get(&key(chat, sender, id)).map(|owed| owed.message.clone())
    }

    /// Its effects are durable: nobody will ask for it again.
    pub fn forget(&self, chat: &str, sender: &str, id: &str) {
        let mut owed = self.lock();
        if !owed.is_empty() {
            owed.remove(&key(chat, sender, id));
        }
    }

    /// The session is void, and everything with it.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Owed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Messages that somebody is writing.
pub(super) struct Owing {
    all: OwedMessages,
    keys: Vec<Key>,
}

impl Owing {
    /// The disk has refused: others must write them too.
    pub fn late(&self) {
        let mut owed = self.all.lock();
        for key in &self.keys {
            if let Some(owed) = owed.get_mut(key) {
                owed.late = true;
            }
        }
    }

    /// They are durable.
    pub fn paid(mut self) {
        let mut owed = self.all.lock();
        for key in std::mem::take(&mut self.keys) {
            owed.remove(&key);
        }
    }
}

impl Drop for Owing {
    fn drop(&mut self) {
        self.late();
    }
}

pub(super) fn put_pending_inbound(
    tx: &Connection,
    row: &PendingInboundRow<'_>,
    now: i64,
) -> Result<(), SessionError> {
    execute(tx, PUT_PENDING_INBOUND, (row.chat, row.sender, row.id, row.message, now)).map(drop)
}

fn key(chat: &str, sender: &str, id: &str) -> Key {
    (chat.to_owned(), sender.to_owned(), id.to_owned())
}
