//! Answers that WhatsApp waits for and that nobody gives.
//!
//! A stanza that is never answered makes the server end the connection some 50 minutes after each login, and
//! deliver it again at the next one: `<stream:error><ack class="message" id="…"/></stream:error>`. The causes
//! that are ours are cured where they lie (the [reception](crate::reception) sets aside what the ledger
//! refuses for ever). What whatsapp-rust leaves unanswered is answered here: at once where a message has
//! nothing in it, and else when the server has complained twice about the same stanza.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wacore::types::events::{Event, EventHandler, EventInterest, EventKind, StreamError};
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node, NodeRef, OwnedNodeRef};
use whatsapp_rust::Client;

use super::connection::Connection;
use super::missing_messages::Unreadable;
use crate::clock;
use crate::executor::Executor;
use crate::net::deadline::within;

/// Complaints after which a stanza is answered here. The first may be about a receipt that a line took along.
const COMPLAINTS: u32 = 2;

/// Stanzas about which WhatsApp has complained and that are remembered, the latest. There is one at a time.
const REMEMBERED: usize = 32;

/// Answers under way at once. Each waits [`AFTER`].
const AT_ONCE: usize = 32;

/// The answer comes so long after the stanza: whatever whatsapp-rust and the bot can do with it is done by
/// then. A message that was read and is still not durable is not answered: the disk refuses, and WhatsApp
/// keeps it.
const AFTER: Duration = Duration::from_secs(10);

/// An answer is a stanza or two on a line that is up.
const DEADLINE: Duration = Duration::from_secs(10);

/// What names a stanza: its tag and its id.
type Key = (String, String);

/// Which stanzas WhatsApp has complained about, and how often since they were answered here.
#[derive(Default)]
struct Complaints(VecDeque<(Key, u32)>);

impl Complaints {
    /// One more about this stanza; how many there are now.
    fn add(&mut self, key: Key) -> u32 {
        let place = self.0.iter().position(|(known, _)| *known == key);
        let before = place.and_then(|place| self.0.remove(place)).map_or(0, |(_, count)| count);
        if self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back((key, before.saturating_add(1)));
        before.saturating_add(1)
    }

    /// Whether this stanza is to be answered when it comes.
    fn is_due(&self, tag: &str, id: &str) -> bool {
        self.0.iter().any(|((class, of), count)| class == tag && of == id && *count >= COMPLAINTS)
    }

    /// It was answered.
    fn forget(&mut self, tag: &str, id: &str) {
        self.0.retain(|((class, of), _)| class != tag || of != id);
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Answers what nobody else does.
pub struct OwedAnswers {
    connection: Connection,
    executor: Executor,
    unreadable: Unreadable,
    complaints: Arc<Mutex<Complaints>>,
    /// One token for each answer under way.
    under_way: Arc<()>,
}

impl OwedAnswers {
    pub fn new(connection: Connection, executor: Executor, unreadable: Unreadable) -> Self {
        let (complaints, under_way) = (Arc::default(), Arc::new(()));
        Self { connection, executor, unreadable, complaints, under_way }
    }

    fn complaints(&self) -> MutexGuard<'_, Complaints> {
        locked(&self.complaints)
    }

    fn complained(&self, error: &StreamError) {
        let Some((class, id)) = error.raw.as_ref().and_then(owed) else { return };
        let count = self.complaints().add((class.clone(), id.clone()));
        if count < COMPLAINTS {
            log::warn!("owed: WhatsApp waits for an answer to {class} {id} and ends the connection for it");
        } else {
            log::error!(
                "owed: WhatsApp ends the connection again for {class} {id}; when it comes once more it is answered"
            );
        }
    }

    fn came(&self, stanza: &Arc<OwnedNodeRef>) {
        let node = stanza.get();
        if node.tag == "message" && is_empty(node) {
            self.answer(stanza, Duration::ZERO);
            return;
        }
        let due = !self.complaints().is_empty()
            && node.get_attr("id").is_some_and(|id| self.complaints().is_due(&node.tag, &id.as_str()));
        if due {
            self.answer(stanza, AFTER);
        }
    }

    fn answer(&self, stanza: &Arc<OwnedNodeRef>, after: Duration) {
        if Arc::strong_count(&self.under_way) > AT_ONCE {
            // It comes again at the next login.
            log::warn!("owed: too many answers are under way");
            return;
        }
        let (connection, stanza, token) = (self.connection.clone(), stanza.clone(), self.under_way.clone());
        let (unreadable, complaints) = (self.unreadable.clone(), self.complaints.clone());
        let answering = async move {
            let _token = token;
            clock::sleep(after).await;
            let Some(client) = connection.client() else { return };
            let node = stanza.get();
            let id = node.get_attr("id").map(|id| id.as_str().into_owned()).unwrap_or_default();
            if node.tag == "message" && unreadable.may_be_owed(&id) {
                log::error!(
                    "owed: message {id} is not durable yet and stays with WhatsApp, whatever it says"
                );
                return;
            }
            if after.is_zero()
                && let Some(own) = client.pn()
                && let Ok(info) = wacore::messages::parse_message_info(node, &own, client.lid().as_ref())
            {
                // Its phone cannot be asked to encrypt again what it never encrypted.
                unreadable.note(&info);
            }
            match within(DEADLINE, send(&client, node)).await {
                Some(Ok(())) => {
                    locked(&complaints).forget(&node.tag, &id);
                    log::warn!("owed: {} {id} was answered, so that WhatsApp waits no longer", node.tag);
                }
                Some(Err(error)) => log::error!("owed: {} {id} was not answered: {error}", node.tag),
                None => log::error!("owed: {} {id} was not answered in time", node.tag),
            }
        };
        self.executor.spawn(answering).detach();
    }
}

impl EventHandler for OwedAnswers {
    fn interest(&self) -> EventInterest {
        EventInterest::of(&[EventKind::RawNode, EventKind::StreamError])
    }

    fn handle_event(&self, event: Arc<Event>) {
        match &*event {
            Event::RawNode(stanza) => self.came(stanza),
            Event::StreamError(error) => self.complained(error),
            _ => {}
        }
    }
}

fn locked(complaints: &Mutex<Complaints>) -> MutexGuard<'_, Complaints> {
    complaints.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a message has nothing in it that whatsapp-rust would look at: it leaves such a one unanswered.
/// Whatever lies in `participants` may be for this device, and newsletters are written in the open.
fn is_empty(message: &NodeRef<'_>) -> bool {
    let has = |tag| message.get_optional_child(tag).is_some();
    let from_newsletter = message.get_attr("from").is_some_and(|from| from.as_str().ends_with("@newsletter"));
    !from_newsletter && !["enc", "unavailable", "participants"].into_iter().any(has)
}

/// The stanza that a stream error says is owed an answer.
fn owed(error: &Node) -> Option<Key> {
    let ack = error.get_optional_child("ack")?;
    let attr =
        |key| ack.attrs.get(key).map(|value| value.as_str().into_owned()).filter(|value| !value.is_empty());
    Some((attr("class")?, attr("id")?))
}

/// A receipt if it is a message, and an acknowledgement.
async fn send(client: &Client, stanza: &NodeRef<'_>) -> Result<(), String> {
    if let Some(receipt) = receipt(stanza) {
        client.send_node(receipt).await.map_err(|error| error.to_string())?;
    }
    client.acknowledge_stanza(stanza).await.map_err(|error| error.to_string())
}

/// The delivery receipt of a message, addressed as the message is.
fn receipt(message: &NodeRef<'_>) -> Option<Node> {
    if message.tag != "message" {
        return None;
    }
    let id = message.get_attr("id")?.as_str().into_owned();
    let jid = |key| message.get_attr(key).and_then(|value| value.as_str().parse::<Jid>().ok());
    let mut receipt = NodeBuilder::new("receipt").attr("id", id).attr("to", jid("from")?);
    for key in ["participant", "recipient"] {
        if let Some(jid) = jid(key) {
            receipt = receipt.attr(key, jid);
        }
    }
    Some(receipt.build())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complain(complaints: &mut Complaints, id: &str) -> u32 {
        complaints.add(("message".into(), id.into()))
    }

    #[test]
    fn a_stanza_is_answered_after_the_second_complaint_and_once_for_each_further_pair() {
        let mut complaints = Complaints::default();
        assert_eq!(complain(&mut complaints, "A"), 1);
        assert!(!complaints.is_due("message", "A"));
        assert_eq!(complain(&mut complaints, "A"), 2);
        assert!(!complaints.is_due("receipt", "A") && !complaints.is_due("message", "B"));
        assert!(complaints.is_due("message", "A"));
        complaints.forget("message", "A");
        assert!(!complaints.is_due("message", "A"), "it was answered");
        assert_eq!(complain(&mut complaints, "A"), 1);
    }

    #[test]
    fn only_the_latest_complaints_are_remembered() {
        let mut complaints = Complaints::default();
        complain(&mut complaints, "first");
        for n in 0..REMEMBERED {
            complain(&mut complaints, &n.to_string());
        }
        assert_eq!(complaints.0.len(), REMEMBERED);
        assert_eq!(complain(&mut complaints, "first"), 1, "forgotten");
    }

    #[test]
    fn a_stream_error_names_what_is_owed_only_if_it_has_an_ack_with_class_and_id() {
        let error = |ack: NodeBuilder| NodeBuilder::new("stream:error").children([ack.build()]).build();
        let ack = || NodeBuilder::new("ack").attr("class", "message").attr("id", "3EB0");
        assert_eq!(owed(&error(ack())), Some(("message".into(), "3EB0".into())));
        assert_eq!(owed(&error(NodeBuilder::new("ack").attr("class", "message"))), None);
        assert_eq!(owed(&error(NodeBuilder::new("conflict"))), None);
    }

    #[test]
    fn a_message_with_anything_in_it_is_whatsapp_rusts_own_business() {
        let message = |from: &str, child: &'static str| {
            NodeBuilder::new("message")
                .attr("from", from)
                .attr("id", "M")
                .children([NodeBuilder::new(child).build()])
                .build()
        };
        let ani = "6280000000001@s.whatsapp.net";
        for child in ["enc", "unavailable", "participants"] {
            assert!(!is_empty(&message(ani, child).as_node_ref()), "{child}");
        }
        assert!(is_empty(&message(ani, "meta").as_node_ref()));
        assert!(!is_empty(&message("120363000000000001@newsletter", "plaintext").as_node_ref()));
    }

    #[test]
    fn a_receipt_goes_where_the_message_came_from() {
        let message = NodeBuilder::new("message")
            .attr("id", "M")
            .attr("from", "6280000000001:7@s.whatsapp.net")
            .attr("t", 1)
            .build();
        let receipt = receipt(&message.as_node_ref()).unwrap();
        let attr = |key| receipt.attrs.get(key).map(|value| value.as_str().into_owned());
        assert_eq!(attr("to").as_deref(), Some("6280000000001:7@s.whatsapp.net"));
        assert_eq!((attr("id").as_deref(), attr("participant")), (Some("M"), None));
        assert!(
            super::receipt(&NodeBuilder::new("notification").attr("id", "N").build().as_node_ref()).is_none()
        );
    }
}
