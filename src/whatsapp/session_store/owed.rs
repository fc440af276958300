//! Received messages whose effects are not durable yet.
//!
//! Such a message is decrypted, so its key is used up. Were the session written without it (somebody
//! else's message writes all sessions that changed) and the process ended, WhatsApp would deliver it
//! again, whatsapp-rust would find its key used and no copy, and acknowledge it: lost. Hence whoever
//! writes to the session writes what is owed in the same transaction, until its effects are durable.
//! No commit that the disk refuses and no power cut can part the two. That makes a flush for each
//! message needless, and going offline while the disk refuses too: WhatsApp keeps what is not
//! acknowledged, connected or not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use wacore::store::traits::PendingInboundRow;

use super::{SessionError, execute};

/// Changes no page for a row that is there.
const PUT: &str = "INSERT INTO wa_pending_inbound (chat, sender, id, message, stored_at)
     VALUES (?1, ?2, ?3, ?4, ?5)
     ON CONFLICT DO UPDATE SET message = excluded.message, stored_at = excluded.stored_at
     WHERE message <> excluded.message";

/// Chat, sender and id of a message.
type Key = (String, String, String);

struct Owed {
    message: Vec<u8>,
    /// When it came, in Unix seconds.
    at: i64,
    /// [`Database::undone`](crate::ledger::Database::undone) when it was written: it need not be written again
    /// while that is the same.
    written: Option<u64>,
}

/// What is owed; clones share it. As large as what WhatsApp delivers without
/// an acknowledgement: one message per chat, or one batch of its offline queue.
#[derive(Clone, Default)]
pub(super) struct OwedMessages(Arc<Mutex<BTreeMap<Key, Owed>>>);

impl OwedMessages {
    /// Takes note of messages that were received at `now`, in Unix seconds.
    pub fn owe(&self, rows: &[PendingInboundRow<'_>], now: i64) {
        let mut owed = self.lock();
        for row in rows {
            let message = Owed { message: row.message.to_vec(), at: now, written: None };
            owed.insert(key(row.chat, row.sender, row.id), message);
        }
    }

    /// Writes all that are not written yet. `undone`: how often by now something that was written was undone.
    pub fn put(&self, tx: &Connection, undone: u64) -> Result<(), SessionError> {
        for ((chat, sender, id), owed) in self.lock().iter_mut() {
            if owed.written != Some(undone) {
                execute(tx, PUT, (chat, sender, id, &owed.message, owed.at))?;
                owed.written = Some(undone);
            }
        }
        Ok(())
    }

    pub fn get(&self, chat: &str, sender: &str, id: &str) -> Option<Vec<u8>> {
        self.lock().get(&key(chat, sender, id)).map(|owed| owed.message.clone())
    }

    /// Whether a message of that id is among them.
    pub fn has(&self, id: &str) -> bool {
        self.lock().keys().any(|(_, _, owed)| owed == id)
    }

    /// Its effects are durable: nobody will ask for it again.
    pub fn forget(&self, chat: &str, sender: &str, id: &str) {
        self.lock().remove(&key(chat, sender, id));
    }

    /// What came before `cutoff`, in Unix seconds, is not waited for any longer.
    pub fn forget_before(&self, cutoff: i64) {
        self.lock().retain(|_, owed| owed.at >= cutoff);
    }

    /// The session is void, and everything with it.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Owed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(chat: &str, sender: &str, id: &str) -> Key {
    (chat.to_owned(), sender.to_owned(), id.to_owned())
}
