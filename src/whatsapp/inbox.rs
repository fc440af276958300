//! The inbox: decrypted messages on their way to the desk, acknowledged only after the commit.
//!
//! whatsapp-rust calls [`Hook::on_messages`] before it acknowledges anything. The hook puts the
//! messages that concern us into a bounded queue and waits until the desk has made their effects
//! durable. While the queue is full the hook waits, and so does the chat that it was called for.
//! whatsapp-rust goes on reading all the same; that is bounded by [`backlog`](super::backlog).

use std::sync::Arc;

use async_channel::Receiver;
use wacore::types::events::{Event, EventHandler, EventInterest, EventKind};
use wacore_binary::{Jid, JidExt as _, Server};
use whatsapp_rust::types::durability_hook::InboundMessage;
use whatsapp_rust::{Client, InboundDurabilityHook, anyhow};

use super::activity::Activity;
use super::content;
use super::session_store::SessionStore;
use crate::clock;
use crate::desk::{self, Content};
use crate::executor::Executor;
use crate::ledger::missing_message::Missing;
use crate::ledger::registration::Sender;
use crate::ledger::{Database, LedgerError};
use crate::personal::PhoneNumber;
use crate::registration::text;

/// Longest name of a sender that is kept, in characters. WhatsApp lets people type 25.
const PUSH_NAME_MAX_CHARS: usize = 80;

/// One message of a customer.
#[derive(Clone)]
pub struct Incoming {
    /// JID to which the answer goes.
    pub chat: String,
    /// JID that the message came from. The same at every delivery of the message, whatever is known
    /// about the person behind it by then, so it is part of every key.
    pub from: String,
    /// Who wrote; stays the same when WhatsApp switches a chat between its two kinds of address.
    pub sender: Sender,
    /// Unique together with chat and from.
    pub message_id: String,
    /// The sender's own name on WhatsApp, if it was sent, cleaned and cut.
    pub push_name: Option<String>,
    pub message: desk::Message,
    /// The message was lost after its decryption, and this device of its sender is to be asked for it.
    /// Lost content without it: nobody has answered.
    pub asked_of: Option<u16>,
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
/// `activity` is told of every message.
pub fn inbox(capacity: usize, store: SessionStore, activity: Activity) -> (Hook, Receiver<Delivery>) {
    let (queue, deliveries) = async_channel::bounded(capacity);
    (Hook { queue, store, activity }, deliveries)
}

/// whatsapp-rust's side of the inbox.
#[derive(Clone)]
pub struct Hook {
    queue: async_channel::Sender<Delivery>,
    store: SessionStore,
    activity: Activity,
}

#[async_trait::async_trait]
impl InboundDurabilityHook for Hook {
    async fn on_messages(&self, _client: Arc<Client>, batch: &[InboundMessage]) -> anyhow::Result<()> {
        self.activity.message(clock::now());
        self.take(batch.iter().filter_map(|message| self.incoming(message)).collect()).await
    }
}

impl Hook {
    pub(super) fn database(&self) -> &Database {
        self.store.database()
    }

    /// Returns when the effects of the messages are durable.
    pub(crate) async fn take(&self, messages: Vec<Incoming>) -> anyhow::Result<()> {
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

    /// Whether a message of that id was read and its effects are not durable yet; also if nobody can tell.
    pub fn may_be_owed(&self, id: &str) -> bool {
        self.store.is_owed(id).unwrap_or_else(|error| {
            log::error!("inbox: whether message {id} is durable could not be read: {error}");
            true
        })
    }

    /// Takes in a message that nobody has sent again. Returns when that is durable.
    pub async fn lost_for_good(&self, missing: &Missing) -> anyhow::Result<()> {
        let sender: Jid = missing.sender.parse()?;
        self.take(vec![Incoming {
            chat: missing.chat.clone(),
            from: missing.sender.clone(),
            sender: self.sender(&sender, None),
            message_id: missing.id.clone(),
            push_name: None,
            message: desk::Message { at: missing.at, content: Content::Lost },
            asked_of: None,
        }])
        .await
    }

    /// `None` for what is nobody's registration: own messages, groups, status, broadcasts, newsletters, and
    /// what WhatsApp itself sends. Messages without content, such as reactions, are handed on: one of them may be missed.
    fn incoming(&self, message: &InboundMessage) -> Option<Incoming> {
        let source = &message.info.source;
        if source.is_from_me || source.is_group || !is_person(&source.chat) {
            return None;
        }
        let id = message.info.id.as_str();
        let content = match self.store.is_lost(&source.chat.to_string(), &source.sender.to_string(), id) {
            true => Content::Lost,
            false => content::of(&message.message),
        };
        Some(Incoming {
            chat: source.chat.to_non_ad_string(),
            from: source.sender.to_non_ad_string(),
            sender: self.sender(&source.sender, source.sender_alt.as_ref()),
            message_id: id.to_owned(),
            push_name: push_name(&message.info.push_name),
            asked_of: (content == Content::Lost).then_some(source.sender.device),
            message: desk::Message { at: message.info.timestamp.timestamp(), content },
        })
    }

    /// A LID hides the phone number; it is known from the message itself or from earlier ones.
    fn sender(&self, sender: &Jid, alternate: Option<&Jid>) -> Sender {
        let user = |server| {
            [Some(sender), alternate]
                .into_iter()
                .flatten()
                .find(|jid| jid.server == server)
                .map(|jid| &*jid.user)
        };
        let (phone, lid) = (user(Server::Pn), user(Server::Lid));
        let known = match (phone, lid) {
            (None, Some(lid)) => self.store.phone_of_lid(lid).unwrap_or_else(|error| {
                log::warn!("inbox: the phone number of a LID could not be read: {error}");
                None
            }),
            _ => None,
        };
        let phone = phone.or_else(|| known.as_ref().map(PhoneNumber::expose));
        Sender::of(phone, lid).unwrap_or_else(|| Sender::lid(&sender.user))
    }
}

/// Takes in what the operator's own phone handed over because this device could not decrypt it: the
/// sender did not know this device yet, or never answered the retry receipt.
///
/// whatsapp-rust calls no hook for these and has acknowledged them, so a crash in the milliseconds
/// until the commit loses one. Whatever comes twice is known by its key. At most as many tasks at
/// once as whatsapp-rust asks the phone for messages.
pub struct PhoneRecoveries {
    pub hook: Hook,
    pub executor: Executor,
}

impl EventHandler for PhoneRecoveries {
    fn interest(&self) -> EventInterest {
        EventInterest::of(&[EventKind::Messages])
    }

    fn handle_event(&self, event: Arc<Event>) {
        let Event::Messages(batch) = &*event else { return };
        if batch.hook_committed {
            return;
        }
        let recovered: Vec<_> = batch
            .iter()
            .filter(|message| message.info.unavailable_request_id.is_some())
            .filter_map(|message| self.hook.incoming(message))
            .collect();
        if recovered.is_empty() {
            return;
        }
        let hook = self.hook.clone();
        self.executor
            .spawn(async move {
                if let Err(error) = hook.take(recovered).await {
                    log::error!("inbox: a message that the phone handed over was lost: {error}");
                }
            })
            .detach();
    }
}

/// The name that a sender chose, as harmless as the text of a message.
fn push_name(name: &str) -> Option<String> {
    let name: String = text::inline(name).chars().take(PUSH_NAME_MAX_CHARS).collect();
    Some(name).filter(|name| !name.is_empty())
}

/// WhatsApp's own senders among the phone numbers: its announcements, and its account for businesses.
const WHATSAPP_ITSELF: [&str; 2] = ["0", "16505361212"];

/// A chat with one person, by phone number or LID. Neither WhatsApp itself nor its bots are people: nobody
/// reads there what is answered.
pub(super) fn is_person(chat: &Jid) -> bool {
    let is_number = !chat.user.is_empty() && chat.user.bytes().all(|byte| byte.is_ascii_digit());
    match chat.server {
        Server::Pn => is_number && !WHATSAPP_ITSELF.contains(&&*chat.user) && !chat.to_non_ad().is_bot(),
        Server::Lid => !chat.user.is_empty() && chat.user != "0",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::ledger::Database;
    use wacore::types::events::{BatchOrigin, MessageBatch};
    use wacore::types::message::{MessageInfo, MessageSource};
    use waproto::whatsapp as wa;

    const ANI: &str = "6280000000001@s.whatsapp.net";

    fn message(id: &str, from: &str, recovered: bool) -> InboundMessage {
        let source = MessageSource {
            chat: from.parse().unwrap(),
            sender: from.parse().unwrap(),
            ..MessageSource::default()
        };
        let info = MessageInfo {
            source,
            id: id.into(),
            push_name: format!("Ani\0{}", "i".repeat(200)),
            unavailable_request_id: recovered.then(|| "REQUEST".to_owned()),
            ..MessageInfo::default()
        };
        let text = wa::Message { conversation: Some("1".into()), ..wa::Message::default() };
        InboundMessage::builder().message(Arc::new(text)).info(Arc::new(info)).build()
    }

    fn event(messages: Vec<InboundMessage>, hook_committed: bool) -> Arc<Event> {
        let batch = MessageBatch::builder()
            .messages(messages.into())
            .origin(BatchOrigin::Live)
            .hook_committed(hook_committed)
            .build();
        Arc::new(Event::Messages(batch))
    }

    #[test]
    fn what_only_the_operators_phone_could_decrypt_is_taken_in() {
        let executor = crate::executor::new();
        let (hook, deliveries) =
            inbox(4, SessionStore::new(Database::in_memory().unwrap()), Activity::default());
        let recoveries = PhoneRecoveries { hook, executor };
        smol::block_on(executor.run(async {
            recoveries.handle_event(event(vec![message("HOOK", ANI, false)], true));
            recoveries.handle_event(event(
                vec![message("NEWSLETTER", "120363000000000001@newsletter", false)],
                false,
            ));
            recoveries.handle_event(event(vec![message("PDO", ANI, true)], false));
            let delivery = deliveries.recv().await.unwrap();
            let [incoming] = &delivery.messages[..] else { panic!("one message") };
            assert_eq!((incoming.message_id.as_str(), incoming.from.as_str()), ("PDO", ANI));
            delivery.finish(Ok(()));
            assert!(deliveries.is_empty(), "whatever the hook gets comes by the hook");
        }));
    }

    #[test]
    fn a_senders_own_name_is_cleaned_and_bounded() {
        let (hook, _deliveries) =
            inbox(4, SessionStore::new(Database::in_memory().unwrap()), Activity::default());
        let name = hook.incoming(&message("M", ANI, false)).unwrap().push_name.unwrap();
        assert!(name.starts_with("Ani i"), "{name:?}");
        assert_eq!(name.chars().count(), PUSH_NAME_MAX_CHARS);
        assert_eq!(push_name(" \u{200B}\0"), None);
    }

    #[test]
    fn the_key_of_a_message_does_not_depend_on_what_is_known_of_its_sender() {
        let (hook, _deliveries) =
            inbox(4, SessionStore::new(Database::in_memory().unwrap()), Activity::default());
        let lid = "100000000000001@lid";
        let unknown = message("M", lid, false);
        let mut known = message("M", lid, false);
        let info = Arc::make_mut(&mut known.info);
        info.source.sender_alt = Some(ANI.parse().unwrap());
        let (unknown, known) = (hook.incoming(&unknown).unwrap(), hook.incoming(&known).unwrap());
        assert_ne!(unknown.sender, known.sender);
        let keys: HashSet<_> = [unknown, known].map(|m| (m.chat, m.from, m.message_id)).into();
        assert_eq!(keys.len(), 1);
    }

    fn from(jid: &str) -> Option<Incoming> {
        let (hook, _deliveries) =
            inbox(4, SessionStore::new(Database::in_memory().unwrap()), Activity::default());
        hook.incoming(&message("M", jid, false))
    }

    #[test]
    fn what_says_the_words_of_a_lost_message_is_a_text_like_any_other() {
        let (hook, _deliveries) = inbox(
            4,
            SessionStore::new(Database::in_memory().unwrap()).missing_what_is_lost(),
            Activity::default(),
        );
        for text in ["\u{0}bot-kjp: lost\u{0}", ""] {
            let mut forged = message("M", ANI, false);
            forged.message =
                Arc::new(wa::Message { conversation: Some(text.into()), ..wa::Message::default() });
            let incoming = hook.incoming(&forged).unwrap();
            assert_ne!(incoming.message.content, Content::Lost);
            assert_eq!(incoming.asked_of, None);
        }
    }

    #[test]
    fn neither_whatsapp_itself_nor_bots_nor_broadcasts_are_answered() {
        for nobody in [
            "0@s.whatsapp.net",
            "0@lid",
            "16505361212@s.whatsapp.net",
            "13135550002@s.whatsapp.net",
            "server@s.whatsapp.net",
            "status@broadcast",
            "1700000000@broadcast",
            "120363000000000001@newsletter",
            "120363000000000001@g.us",
            "867051314767696@bot",
        ] {
            assert!(from(nobody).is_none(), "{nobody}");
        }
        for somebody in [ANI, "100000000000001@lid", "10@s.whatsapp.net"] {
            assert!(from(somebody).is_some(), "{somebody}");
        }
        // A broadcast list of a customer's: the sender is a person, the chat is not.
        let (hook, _deliveries) =
            inbox(4, SessionStore::new(Database::in_memory().unwrap()), Activity::default());
        let mut listed = message("M", ANI, false);
        Arc::make_mut(&mut listed.info).source.chat = "1700000000@broadcast".parse().unwrap();
        assert!(hook.incoming(&listed).is_none());
    }

    #[test]
    fn both_addresses_of_a_sender_are_known_whichever_one_writes() {
        let (hook, _deliveries) =
            inbox(4, SessionStore::new(Database::in_memory().unwrap()), Activity::default());
        let both = Sender::of(Some("6280000000001"), Some("100000000000001"));
        let lid = "100000000000001@lid";
        for (sender, alternate) in [(ANI, lid), (lid, ANI)] {
            let mut told = message("M", sender, false);
            Arc::make_mut(&mut told.info).source.sender_alt = Some(alternate.parse().unwrap());
            assert_eq!(hook.incoming(&told).map(|incoming| incoming.sender), both);
        }
    }
}
