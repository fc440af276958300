//! Who waits for WhatsApp's acknowledgement of which message.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_channel::{Receiver, Sender};

/// What the server said about a message that we sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ack {
    Accepted,
    /// The server's error code, for example `463` (the account may not write to strangers now).
    Refused(String),
}

/// Waiting senders by message id. As many as there are messages on their way.
#[derive(Clone, Default)]
pub struct Acks {
    waiting: Arc<Mutex<HashMap<String, Sender<Ack>>>>,
}

/// Waits for one ack; forgets it when dropped.
pub struct Pending {
    acks: Acks,
    id: String,
    answer: Receiver<Ack>,
}

impl Acks {
    /// Registers before sending, so that no ack can come too early.
    pub fn expect(&self, id: &str) -> Pending {
        let (sender, answer) = async_channel::bounded(1);
        self.lock().insert(id.to_owned(), sender);
        Pending { acks: self.clone(), id: id.to_owned(), answer }
    }

    /// Passes on what the server said about message `id`; acks that nobody waits for are dropped.
    pub fn settle(&self, id: &str, ack: Ack) {
        if let Some(sender) = self.lock().remove(id) {
            let _ = sender.try_send(ack);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Sender<Ack>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    /// `None` if the same id was registered anew meanwhile.
    pub async fn answer(&self) -> Option<Ack> {
        self.answer.recv().await.ok()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.acks.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ack_reaches_the_sender_that_waits_for_it() {
        let acks = Acks::default();
        let pending = acks.expect("A");
        acks.settle("B", Ack::Accepted);
        acks.settle("A", Ack::Refused("463".into()));
        assert_eq!(smol::block_on(pending.answer()), Some(Ack::Refused("463".into())));
    }

    #[test]
    fn a_sender_that_gave_up_leaves_nothing_behind() {
        let acks = Acks::default();
        drop(acks.expect("A"));
        assert!(acks.lock().is_empty());
    }
}
