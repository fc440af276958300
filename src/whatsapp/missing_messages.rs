//! Gets back what a power cut took between its decryption and the disk, and what could not be decrypted.
//!
//! The key of a message that was lost is used up, so WhatsApp delivering it again does not help. Its sender's
//! phone still has it: a retry receipt has the phone encrypt it anew, under the same id, and the operator's own
//! phone is asked beside it (placeholder resend); whoever answers first counts. Should nobody answer, the
//! customer is asked to send it again.
//!
//! For a message that could not be decrypted, whatsapp-rust has asked both by itself ([`Unreadable`] takes
//! note of it). The customer is asked when nothing has come of that. Never at once: to somebody whose keys are
//! unknown WhatsApp may refuse the very message that asks (error 479).

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_lite::future::or;
use wacore::types::events::{
    DecryptFailMode, Event, EventHandler, EventInterest, EventKind, UnavailableType, UndecryptableMessage,
};
use wacore::types::message::{EditAttribute, MessageCategory, MessageInfo};
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node, NodeRef};
use whatsapp_rust::Client;
use whatsapp_rust::features::RetryRequestOptions;

use super::connection::Connection;
use super::inbox::{Hook, is_person};
use crate::bell::Bell;
use crate::clock;
use crate::ledger::missing_message::{self, Cause, Missing, Noted};
use crate::ledger::{Database, LedgerError, inbound};
use crate::net::deadline::within;
use crate::trusted_clock;

/// From one request to the next. Phones that are on answer within seconds.
const ASK_EVERY: Duration = Duration::from_secs(60);

/// So often is asked. Phones resend at most five times, and whatsapp-rust asks no oftener; the second
/// request brings keys for a new session, should the first have failed for the old one's sake.
const TIMES: u32 = 4;

/// So long the phones have to send what could not be read, counted from when it came and from when the line
/// was up and the offline queue here: phones that are on need seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// Nobody is asked for a message that is older than this, in seconds: what it was about is over.
const OLDEST_ASKED_FOR: i64 = 24 * 3600;

/// Messages of other kinds that are remembered, the latest: it is known within moments whether they can be read.
const OTHER_KINDS: usize = 256;

/// One request is one stanza on a line that is up.
const DEADLINE: Duration = Duration::from_secs(10);

/// Asks for what is missed, for ever.
pub struct MissingMessages {
    pub database: Database,
    pub connection: Connection,
    /// Takes in what nobody sends any more, so that the customer is asked.
    pub hook: Hook,
    /// Rung after a message was missed.
    pub bell: Bell,
}

/// How far the requests for one message are. Another process begins anew, which only asks again.
struct Asked {
    times: u32,
    next: Instant,
}

impl Asked {
    fn begin(cause: Cause, now: Instant) -> Self {
        match cause {
            Cause::Lost => Self { times: 0, next: now },
            // whatsapp-rust has done the asking.
            Cause::Unreadable => Self { times: TIMES, next: now + PATIENCE },
        }
    }
}

impl MissingMessages {
    pub async fn run(self) {
        // As many as are missed at most.
        let mut asked: HashMap<Missing, Asked> = HashMap::new();
        let mut lines = 0;
        loop {
            self.connection.link().wait_until_up().await;
            if lines != self.connection.link().times_up() {
                lines = self.connection.link().times_up();
                // On a line that was down no phone could answer.
                asked.retain(|one, _| one.cause == Cause::Lost);
            }
            let missing = match self.database.read_durable(missing_message::all).await {
                Ok(missing) => missing,
                Err(error) => {
                    log::error!("missing: what is missed was not read: {error}");
                    Vec::new()
                }
            };
            asked.retain(|one, _| missing.contains(one));
            for one in missing {
                let now = clock::now();
                let so_far = asked.entry(one.clone()).or_insert_with(|| Asked::begin(one.cause, now));
                if so_far.next > now {
                    continue;
                }
                if so_far.times < TIMES {
                    // Not logged in (any more): the line's return is waited for.
                    let Some(client) = self.connection.client() else { break };
                    ask(&client, &one).await;
                } else {
                    self.ask_the_customer(&one).await;
                }
                so_far.times = (so_far.times + 1).min(TIMES);
                so_far.next = now + ASK_EVERY;
            }
            let next = asked.values().map(|asked| asked.next).min();
            let due = async {
                match next {
                    Some(next) => clock::sleep(next.saturating_duration_since(clock::now())).await,
                    None => std::future::pending().await,
                }
            };
            or(self.bell.heard(), due).await;
        }
    }

    async fn ask_the_customer(&self, missing: &Missing) {
        if trusted_clock::now().saturating_sub(missing.at) > OLDEST_ASKED_FOR {
            log::warn!("missing: message {} is too old to be asked for", missing.id);
            let forgotten =
                self.database.write(|tx| missing_message::forget(tx, &[&missing.chat], &missing.id)).await;
            if let Err(error) = forgotten {
                log::error!("missing: message {} is still missed: {error}", missing.id);
            }
            return;
        }
        log::warn!("missing: nobody has sent message {} again; its sender is asked to", missing.id);
        if let Err(error) = self.hook.lost_for_good(missing).await {
            log::error!("missing: message {} is still missed: {error}", missing.id);
        }
    }
}

async fn ask(client: &Arc<Client>, missing: &Missing) {
    let id = &missing.id;
    let Some(stanza) = stanza(missing) else {
        log::error!("missing: the sender of message {id} cannot be read");
        return;
    };
    let stanza = stanza.as_node_ref();
    let request = client.request_message_retry(&stanza, RetryRequestOptions::new());
    match within(DEADLINE, request).await {
        Some(Ok(_)) => log::info!("missing: the phone that sent message {id} was asked for it"),
        Some(Err(error)) => log::warn!("missing: message {id} was not asked for: {error}"),
        None => log::warn!("missing: message {id} was not asked for in time"),
    }
}

/// The head of the message's stanza, which is all that a request needs.
fn stanza(missing: &Missing) -> Option<Node> {
    let from: Jid = missing.sender.parse().ok()?;
    let stanza = NodeBuilder::new("message")
        .attr("id", missing.id.as_str())
        .attr("from", from.with_device(missing.device))
        .attr("t", missing.at)
        .attr("type", "text");
    Some(stanza.build())
}

/// Takes note of messages that could not be decrypted.
///
/// whatsapp-rust tells this before it acknowledges the message, so the note is on the disk by then. Once per
/// message in five minutes; whether it asks for the message again cannot be seen, so that is not relied on.
#[derive(Clone)]
pub struct Unreadable {
    hook: Hook,
    bell: Bell,
    /// Ids of messages that nobody wrote as such, by their stanzas: whatsapp-rust 0.7 does not pass the type on.
    other_kinds: Arc<Mutex<VecDeque<String>>>,
}

impl Unreadable {
    /// Whether a message of that id was read and its effects are not durable yet, as far as that can be known.
    pub fn may_be_owed(&self, id: &str) -> bool {
        self.hook.may_be_owed(id)
    }
}

impl EventHandler for Unreadable {
    fn interest(&self) -> EventInterest {
        EventInterest::of(&[EventKind::RawNode, EventKind::UndecryptableMessage])
    }

    fn handle_event(&self, event: Arc<Event>) {
        match &*event {
            Event::RawNode(stanza) if stanza.tag() == "message" => self.look_at(stanza.get()),
            Event::UndecryptableMessage(message) if is_worth_asking_for(message) => self.note(&message.info),
            _ => {}
        }
    }
}

impl Unreadable {
    /// `bell` is rung after a message was missed.
    pub fn new(hook: Hook, bell: Bell) -> Self {
        Self { hook, bell, other_kinds: Arc::default() }
    }

    /// Remembers that a message is of a kind that nobody waits for an answer to: a reaction, a vote.
    fn look_at(&self, message: &NodeRef<'_>) {
        let kind = message.get_attr("type").map(|kind| kind.as_str());
        if matches!(kind.as_deref(), Some("text" | "media")) {
            return;
        }
        let Some(id) = message.get_attr("id").map(|id| id.as_str().into_owned()) else { return };
        let mut others = self.other_kinds.lock().unwrap_or_else(PoisonError::into_inner);
        if others.len() >= OTHER_KINDS {
            others.pop_front();
        }
        others.push_back(id);
    }

    fn is_of_another_kind(&self, id: &str) -> bool {
        self.other_kinds.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|other| other == id)
    }

    /// The message is missed from now on, if it is one that a customer would wait for an answer to.
    pub(super) fn note(&self, info: &MessageInfo) {
        if !is_from_a_customer(info) || self.is_of_another_kind(&info.id) {
            return;
        }
        let missing = Missing {
            chat: info.source.chat.to_non_ad_string(),
            sender: info.source.sender.to_non_ad_string(),
            id: info.id.to_string(),
            device: info.source.sender.device,
            at: info.timestamp.timestamp(),
            cause: Cause::Unreadable,
        };
        let database = self.hook.database();
        match database.read(|conn| inbound::knows(conn, &missing.chat, &missing.id)) {
            Ok(false) => {}
            // Another copy was read and answered.
            Ok(true) => return,
            Err(error) => {
                log::warn!("missing: whether message {} is known was not read: {error}", missing.id)
            }
        }
        let noted = match database.read(|conn| missing_message::is_full(conn, &missing.chat)) {
            // Nothing is written for whoever goes on sending such messages.
            Ok(true) => Ok(Noted::Full),
            // Flushed before this returns.
            Ok(false) => database.write_now::<_, LedgerError>(|tx| missing_message::note(tx, &missing)),
            Err(error) => Err(error),
        };
        match noted {
            Ok(Noted::Added) => self.bell.ring(),
            Ok(Noted::Known) => {}
            Ok(Noted::Full) => {
                log::warn!("missing: message {} is not missed: too many are already", missing.id);
            }
            Err(error) => log::error!("missing: message {} was not noted: {error}", missing.id),
        }
    }
}

/// Whether somebody waits for an answer to this message. Reactions, edits, pins and votes fail silently on
/// every phone; what may be seen once, or comes from a hosted account or a bot, no phone sends again.
fn is_worth_asking_for(message: &UndecryptableMessage) -> bool {
    message.decrypt_fail_mode == DecryptFailMode::Show
        && !matches!(
            message.unavailable_type,
            UnavailableType::ViewOnce | UnavailableType::Hosted | UnavailableType::Bot
        )
}

/// Something that a person wrote to the bot: no edit, and nothing of the operator's own devices.
fn is_from_a_customer(info: &MessageInfo) -> bool {
    !info.source.is_from_me
        && !info.source.is_group
        && is_person(&info.source.chat)
        && info.category != MessageCategory::Peer
        && info.edit == EditAttribute::Empty
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_the_device_that_has_the_message() {
        let mut missing = Missing {
            chat: "6280000000001@s.whatsapp.net".into(),
            sender: "6280000000001@s.whatsapp.net".into(),
            id: "3EB0".into(),
            device: 7,
            at: 1_795_410_000,
            cause: Cause::Lost,
        };
        let node = stanza(&missing).unwrap();
        let own: Jid = "6280000000009@s.whatsapp.net".parse().unwrap();
        let info = wacore::messages::parse_message_info(&node.as_node_ref(), &own, None).unwrap();
        assert_eq!(info.source.sender.to_string(), "6280000000001:7@s.whatsapp.net");
        assert_eq!(info.source.chat.to_string(), missing.chat);
        assert_eq!((info.id.as_str(), info.timestamp.timestamp()), ("3EB0", missing.at));
        missing.sender = "@@".into();
        assert!(stanza(&missing).is_none());
    }

    fn info() -> MessageInfo {
        let jid: Jid = "6280000000001@s.whatsapp.net".parse().unwrap();
        let source =
            wacore::types::message::MessageSource { chat: jid.clone(), sender: jid, ..Default::default() };
        MessageInfo { source, id: "3EB0".into(), ..MessageInfo::default() }
    }

    fn unreadable(mode: DecryptFailMode, kind: UnavailableType) -> bool {
        is_worth_asking_for(
            &UndecryptableMessage::builder()
                .info(Arc::new(info()))
                .is_unavailable(false)
                .unavailable_type(kind)
                .decrypt_fail_mode(mode)
                .build(),
        )
    }

    #[test]
    fn reactions_and_what_no_phone_sends_again_are_left_alone() {
        assert!(unreadable(DecryptFailMode::Show, UnavailableType::Unknown));
        assert!(!unreadable(DecryptFailMode::Hide, UnavailableType::Unknown));
        for kind in [UnavailableType::ViewOnce, UnavailableType::Hosted, UnavailableType::Bot] {
            assert!(!unreadable(DecryptFailMode::Show, kind), "{kind:?}");
        }
    }

    #[test]
    fn only_what_a_person_wrote_to_the_bot_is_asked_for() {
        assert!(is_from_a_customer(&info()));
        let change = |change: &dyn Fn(&mut MessageInfo)| {
            let mut info = info();
            change(&mut info);
            is_from_a_customer(&info)
        };
        assert!(!change(&|info| info.source.is_from_me = true));
        assert!(!change(&|info| info.source.is_group = true));
        assert!(!change(&|info| info.source.chat = "0@s.whatsapp.net".parse().unwrap()));
        assert!(!change(&|info| info.source.chat = "120363000000000001@newsletter".parse().unwrap()));
        assert!(!change(&|info| info.category = MessageCategory::Peer));
        assert!(!change(&|info| info.edit = EditAttribute::MessageEdit));
        assert!(!change(&|info| info.edit = EditAttribute::SenderRevoke));
    }

    #[test]
    fn what_is_neither_text_nor_media_is_left_alone() {
        let (unreadable, database) = unreadables();
        let came = |id: usize, kind: &'static str| {
            let stanza = NodeBuilder::new("message").attr("id", id.to_string()).attr("type", kind).build();
            unreadable.look_at(&stanza.as_node_ref());
            unreadable.note(&MessageInfo { id: id.to_string(), ..info() });
        };
        came(1, "reaction");
        came(2, "poll");
        assert!(database.read(missing_message::all).unwrap().is_empty());
        came(3, "text");
        came(4, "media");
        assert_eq!(database.read(missing_message::all).unwrap().len(), 2);
        for id in 0..2 * OTHER_KINDS {
            came(id, "reaction");
        }
        assert_eq!(unreadable.other_kinds.lock().unwrap().len(), OTHER_KINDS);
    }

    fn unreadables() -> (Unreadable, Database) {
        use crate::whatsapp::activity::Activity;
        use crate::whatsapp::session_store::SessionStore;

        let database = Database::in_memory().unwrap();
        let (hook, _deliveries) =
            crate::whatsapp::inbox::inbox(1, SessionStore::new(database.clone()), Activity::default());
        (Unreadable::new(hook, Bell::default()), database)
    }

    #[test]
    fn a_note_is_durable_when_it_returns_and_a_stranger_cannot_make_many() {
        let (unreadable, database) = unreadables();
        for id in 0..10 {
            unreadable.note(&MessageInfo { id: id.to_string(), ..info() });
        }
        let missed = database.read(missing_message::all).unwrap();
        assert_eq!(missed.len(), missing_message::MOST_PER_CHAT as usize);
        assert!(missed.iter().all(|missing| missing.cause == Cause::Unreadable));
    }

    #[test]
    fn what_could_not_be_read_waits_for_the_phones_and_what_was_lost_is_asked_for_at_once() {
        let now = clock::now();
        let lost = Asked::begin(Cause::Lost, now);
        assert_eq!((lost.times, lost.next), (0, now));
        let unreadable = Asked::begin(Cause::Unreadable, now);
        assert_eq!((unreadable.times, unreadable.next), (TIMES, now + PATIENCE));
    }
}
