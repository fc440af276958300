//! Who waits for WhatsApp's acknowledgement of which message.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_channel::{Receiver, Sender};
use event_listener::Event;

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
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<HashMap<String, Sender<Ack>>>,
    /// Senders that have not yet acted on their ack.
    pending: AtomicUsize,
    /// Notified whenever there is one less.
    done: Event,
}

/// Waits for one ack; forgets it when dropped, which is when what follows from it is done.
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
        self.shared.pending.fetch_add(1, Ordering::AcqRel);
        Pending { acks: self.clone(), id: id.to_owned(), answer }
    }

    /// Passes on what the server said about message `id`; acks that nobody waits for are dropped.
    pub fn settle(&self, id: &str, ack: Ack) {
        if let Some(sender) = self.lock().remove(id) {
            let _ = sender.try_send(ack);
        }
    }

    /// Returns once nobody waits for an ack.
    pub async fn settled(&self) {
        loop {
            let done = self.shared.done.listen();
            if self.shared.pending.load(Ordering::Acquire) == 0 {
                return;
            }
            done.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Sender<Ack>>> {
        self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.acks.shared.pending.fetch_sub(1, Ordering::AcqRel);
        self.acks.shared.done.notify(usize::MAX);
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
    fn acks_are_settled_when_the_last_sender_has_acted() {
        smol::block_on(async {
            let acks = Acks::default();
            acks.settled().await;
            let pending = acks.expect("A");
            let mut settled = Box::pin(acks.settled());
            acks.settle("A", Ack::Accepted);
            assert!(futures_lite::future::poll_once(&mut settled).await.is_none());
            drop(pending);
            settled.await;
        });
    }

    #[test]
    fn a_sender_that_gave_up_leaves_nothing_behind() {
        let acks = Acks::default();
        drop(acks.expect("A"));
        assert!(acks.lock().is_empty());
    }
}
