//! Which of the messages that are worked off now are stand-ins for lost ones.
//!
//! That a message was lost is what this store found when whatsapp-rust asked it for the copy of a message
//! whose key is used up. It is never read out of a message: whatever one says was said by a phone, and
//! somebody else may have written that phone's program. Not even a restart changes that, as a stand-in is
//! never written down.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wacore::store::traits::PendingInboundRow;

/// Lost messages that are worked off at once, far more than one power cut takes: whatsapp-rust decrypts 64
/// messages beside each other, and works them off while it delivers the next. Beyond it WhatsApp keeps them.
pub(super) const MOST: usize = 512;

/// Chat, sender and id of a message.
type Key = (String, String, String);

/// Clones share it.
#[derive(Clone, Default)]
pub(super) struct LostMessages(Arc<Mutex<HashSet<Key>>>);

impl LostMessages {
    /// The copy of a message is nowhere. `false`: too many are lost already.
    pub fn add(&self, chat: &str, sender: &str, id: &str) -> bool {
        let mut lost = self.lock();
        let key = key(chat, sender, id);
        if lost.len() >= MOST && !lost.contains(&key) {
            return false;
        }
        lost.insert(key);
        true
    }

    pub fn contains(&self, chat: &str, sender: &str, id: &str) -> bool {
        self.lock().contains(&key(chat, sender, id))
    }

    /// Whether `row` is the stand-in for a lost message. A message with content is none: it came after all.
    pub fn is_stand_in(&self, row: &PendingInboundRow<'_>) -> bool {
        if row.message.is_empty() {
            return self.contains(row.chat, row.sender, row.id);
        }
        self.forget(row.chat, row.sender, row.id);
        false
    }

    /// It was worked off, or has come.
    pub fn forget(&self, chat: &str, sender: &str, id: &str) {
        self.lock().remove(&key(chat, sender, id));
    }

    /// The session is void, and everything with it.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Key>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(chat: &str, sender: &str, id: &str) -> Key {
    (chat.to_owned(), sender.to_owned(), id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_are_worked_off_at_once_and_each_makes_room_again() {
        let lost = LostMessages::default();
        for n in 0..MOST {
            assert!(lost.add("a", "a", &n.to_string()));
        }
        assert!(!lost.add("a", "a", "one more"));
        assert!(lost.add("a", "a", "0"), "it is there already");
        lost.forget("a", "a", "0");
        assert!(lost.add("a", "a", "one more"));
    }

    #[test]
    fn what_comes_with_content_is_not_lost_any_more() {
        let lost = LostMessages::default();
        lost.add("a", "a", "M");
        let row = |message| PendingInboundRow { chat: "a", sender: "a", id: "M", message };
        assert!(lost.is_stand_in(&row(b"")));
        assert!(!lost.is_stand_in(&row(b"text")));
        assert!(!lost.is_stand_in(&row(b"")));
        assert!(!lost.contains("a", "a", "M"));
    }
}
