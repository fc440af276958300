//! The inbox: decrypted messages on their way to the desk, acknowledged only after the commit.
//!
//! whatsapp-rust calls [`Hook::on_messages`] before it acknowledges anything. The hook puts the
//! messages that concern us into a bounded queue and waits until the desk has made their effects
//! durable. While the queue is full the hook waits, so whatsapp-rust stops reading its socket and
//! WhatsApp keeps the rest.

use std::sync::Arc;

use async_channel::Receiver;
use wacore_binary::{Jid, Server};
use whatsapp_rust::types::durability_hook::InboundMessage;
use whatsapp_rust::{Client, InboundDurabilityHook, anyhow};

use super::content;
use super::session_store::SessionStore;
use crate::desk::{self, Content};
use crate::ledger::LedgerError;
use crate::ledger::registration::Sender;
use crate::personal::PhoneNumber;

/// One message of a customer.
#[derive(Clone)]
pub struct Incoming {
    /// JID to which the answer goes.
    pub chat: String,
    /// Who wrote; stays the same when WhatsApp switches a chat between its two kinds of address.
    pub sender: Sender,
    /// Unique together with chat and sender.
    pub message_id: String,
    /// The sender's own name on WhatsApp, if it was sent.
    pub push_name: Option<String>,
    pub message: desk::Message,
}

/// Messages that were decrypted together, and the promise to acknowledge them.
pub struct Delivery {
    pub messages: Vec<Incoming>,
    done: async_channel::Sender<Result<(), LedgerError>>,
}

impl Delivery {
    /// Tells the hook that the effects of these messages are durable, or why they are not: then
    /// WhatsApp delivers them again.
    pub fn finish(self, outcome: Result<(), LedgerError>) {
        // The hook is gone when the connection was dropped meanwhile; WhatsApp then delivers
        // again and the ledger knows the messages.
        let _ = self.done.try_send(outcome);
    }
}

/// Both ends of the inbox. `capacity` is in deliveries: a live message is one, and so is a batch
/// of the offline queue (at most 400 messages or 4 MiB by whatsapp-rust's own bound).
pub fn inbox(capacity: usize, store: SessionStore) -> (Hook, Receiver<Delivery>) {
    let (queue, deliveries) = async_channel::bounded(capacity);
    (Hook { queue, store }, deliveries)
}

/// whatsapp-rust's side of the inbox.
#[derive(Clone)]
pub struct Hook {
    queue: async_channel::Sender<Delivery>,
    store: SessionStore,
}

#[async_trait::async_trait]
impl InboundDurabilityHook for Hook {
    async fn on_messages(&self, _client: Arc<Client>, batch: &[InboundMessage]) -> anyhow::Result<()> {
        let messages: Vec<_> = batch.iter().filter_map(|message| self.incoming(message)).collect();
        if messages.is_empty() {
            return Ok(());
        }
        let (done, outcome) = async_channel::bounded(1);
        self.queue
            .send(Delivery { messages, done })
            .await
            .map_err(|_| anyhow::anyhow!("the desk is closed; the messages stay with WhatsApp"))?;
        outcome
            .recv()
            .await
            .map_err(|_| {
                anyhow::anyhow!("the desk closed before it answered; the messages stay with WhatsApp")
            })?
            .map_err(anyhow::Error::new)
    }
}

impl Hook {
    /// `None` for what is nobody's registration: own messages, groups, status, broadcasts and
    /// newsletters, and messages without content such as key distributions and receipts.
    fn incoming(&self, message: &InboundMessage) -> Option<Incoming> {
        let source = &message.info.source;
        if source.is_from_me || source.is_group || !is_person(&source.chat) {
            return None;
        }
        let content = content::of(&message.message);
        if content == Content::Other {
            return None;
        }
        Some(Incoming {
            chat: source.chat.to_non_ad_string(),
            sender: self.sender(&source.sender, source.sender_alt.as_ref()),
            message_id: message.info.id.to_string(),
            push_name: Some(message.info.push_name.clone()).filter(|name| !name.is_empty()),
            message: desk::Message { at: message.info.timestamp.timestamp(), content },
        })
    }

    /// A LID hides the phone number; it is known from the message itself or from earlier ones.
    fn sender(&self, sender: &Jid, alternate: Option<&Jid>) -> Sender {
        let phone = [Some(sender), alternate].into_iter().flatten().find(|jid| jid.server == Server::Pn);
        if let Some(phone) = phone {
            return Sender::phone(&PhoneNumber::new(phone.user.as_str()));
        }
        match self.store.phone_of_lid(&sender.user) {
            Ok(Some(phone)) => Sender::phone(&phone),
            Ok(None) => Sender::lid(&sender.user),
            Err(error) => {
                log::warn!("inbox: the phone number of a LID could not be read: {error}");
                Sender::lid(&sender.user)
            }
        }
    }
}

/// A chat with one person, by phone number or LID.
fn is_person(chat: &Jid) -> bool {
    matches!(chat.server, Server::Pn | Server::Lid) && !chat.user.is_empty()
}
