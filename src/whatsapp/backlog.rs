//! How many messages lie inside whatsapp-rust: read from the socket and not durable yet.
//!
//! whatsapp-rust puts every message into an unbounded queue of its chat and goes on reading, some kilobyte
//! for each message and some 31 KB for each chat with one. So the transport asks here before it hands
//! anything over ([`Backlog::room`]); meanwhile the socket is not read, and TCP makes WhatsApp wait.
//!
//! A message is counted from the moment it is decoded ([`Event::RawNode`], which comes synchronously) until
//! the durability hook has returned, or it is known not to get there. As long as it waits in its chat's
//! queue, whatsapp-rust holds its stanza, which a weak reference sees. A chat's messages are worked on one
//! by one, so whatever stands before one that has left the queue is done: somebody who sends only what never
//! reaches the hook (duplicates, what cannot be decrypted) takes one place, not all. For the last of a chat
//! there is a time to live.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use event_listener::Event as Signal;
use futures_lite::future::or;
use wacore::types::events::{Event, EventHandler, EventInterest, EventKind};
use wacore_binary::OwnedNodeRef;
use whatsapp_rust::types::durability_hook::InboundMessage;
use whatsapp_rust::{Client, InboundDurabilityHook, anyhow};

use crate::clock;
use crate::net::deadline::within;

/// Messages above which nothing is handed over. Enough for commits that are worth their flush; each may
/// cost a lane of 31 KB, so together a megabyte.
pub const MOST_LIVE: usize = 32;

/// The same until the offline queue is drained. whatsapp-rust collects 400 messages there before it calls
/// the hook, or waits three seconds for them: less room would make it wait.
pub const MOST_IN_DRAIN: usize = 448;

/// Longest time that nothing is handed over; then comes one event. whatsapp-rust pings after 15 s without
/// any and gives a connection up that brings nothing within 20 s of a send.
pub const LONGEST_HOLD: Duration = Duration::from_secs(10);

/// How long a message that has left its queue may take to reach the hook: decrypting takes milliseconds,
/// but the disk may refuse for long. While the offline queue is drained, the hook is called every 3 s.
const TIME_TO_LIVE: Duration = Duration::from_secs(30);
const TIME_TO_LIVE_IN_DRAIN: Duration = Duration::from_secs(6);

/// Between two looks at stanzas while nothing is handed over; nobody tells when one is let go.
const LOOK: Duration = Duration::from_millis(100);

/// Handle to the one count; clones share it.
#[derive(Clone, Default)]
pub struct Backlog(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Notified when there is less.
    less: Signal,
}

#[derive(Default)]
struct State {
    /// In the order of arrival.
    messages: Vec<Message>,
    /// The offline queue is drained.
    live: bool,
    /// Number of the next message.
    next: u64,
}

struct Message {
    number: u64,
    /// Whose queue it is in: the stanza's sender, or its group.
    chat: String,
    id: String,
    stanza: Weak<OwnedNodeRef>,
    /// When it was first seen to have left its chat's queue.
    left: Option<Instant>,
    /// In the durability hook now.
    held: bool,
}

impl Backlog {
    /// A new connection: what the one before left inside was let go with it.
    pub fn begin(&self) {
        let mut state = self.lock();
        state.messages.clear();
        state.live = false;
    }

    /// How many messages lie inside at the moment.
    pub fn len(&self) -> usize {
        let mut state = self.lock();
        state.settle(clock::now());
        state.messages.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns when there is room for another event, after [`LONGEST_HOLD`] in any case.
    pub async fn room(&self) {
        let room = async {
            loop {
                let less = self.0.less.listen();
                if self.lock().has_room(clock::now()) {
                    return;
                }
                or(less, async {
                    clock::sleep(LOOK).await;
                })
                .await;
            }
        };
        if within(LONGEST_HOLD, room).await.is_none() {
            crate::logging::debug!("backlog: nothing was read for {} s", LONGEST_HOLD.as_secs());
        }
    }

    fn read(&self, stanza: &Arc<OwnedNodeRef>) {
        let mut attributes = stanza.get().attrs();
        let Some(from) = attributes.optional_jid("from") else { return };
        let id = attributes.optional_string("id").map(|id| id.to_string()).unwrap_or_default();
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.messages.push(Message {
            number,
            chat: from.to_non_ad_string(),
            id,
            stanza: Arc::downgrade(stanza),
            left: None,
            held: false,
        });
    }

    /// These are in the hook until what is returned is dropped.
    fn hold<'a>(&self, ids: impl Iterator<Item = &'a str>) -> Held {
        let mut state = self.lock();
        let mut numbers = HashSet::new();
        for id in ids {
            if let Some(message) = state.messages.iter_mut().find(|known| !known.held && known.id == id) {
                message.held = true;
                numbers.insert(message.number);
            }
        }
        drop(state);
        Held { backlog: self.clone(), numbers }
    }

    /// Never reaches the hook under this delivery.
    fn undecryptable(&self, id: &str) {
        let mut state = self.lock();
        if let Some(at) = state.messages.iter().position(|known| !known.held && known.id == id) {
            state.messages.remove(at);
        }
        drop(state);
        self.0.less.notify(usize::MAX);
    }

    fn drained(&self) {
        self.lock().live = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_room(&mut self, now: Instant) -> bool {
        let most = if self.live { MOST_LIVE } else { MOST_IN_DRAIN };
        if self.messages.len() > most {
            self.settle(now);
        }
        self.messages.len() <= most
    }

    /// Forgets what is done.
    fn settle(&mut self, now: Instant) {
        let life = if self.live { TIME_TO_LIVE } else { TIME_TO_LIVE_IN_DRAIN };
        let mut keep = vec![true; self.messages.len()];
        let mut later: HashSet<&str> = HashSet::new();
        for (message, keep) in self.messages.iter_mut().zip(&mut keep).rev() {
            let Message { chat, stanza, left, held, .. } = message;
            if *held {
                later.insert(chat);
                continue;
            }
            if stanza.strong_count() > 0 {
                continue;
            }
            let left = *left.get_or_insert(now);
            let is_last = later.insert(chat);
            *keep = is_last && now.saturating_duration_since(left) < life;
        }
        let mut keep = keep.into_iter();
        self.messages.retain(|_| keep.next().unwrap_or(true));
    }
}

impl EventHandler for Backlog {
    fn interest(&self) -> EventInterest {
        EventInterest::of(&[
            EventKind::RawNode,
            EventKind::UndecryptableMessage,
            EventKind::OfflineSyncCompleted,
        ])
    }

    fn handle_event(&self, event: Arc<Event>) {
        match &*event {
            Event::RawNode(stanza) if stanza.tag() == "message" => self.read(stanza),
            Event::UndecryptableMessage(message) => self.undecryptable(&message.info.id),
            Event::OfflineSyncCompleted(_) => self.drained(),
            _ => {}
        }
    }
}

/// Messages that are in the hook.
struct Held {
    backlog: Backlog,
    numbers: HashSet<u64>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.backlog.lock().messages.retain(|message| !self.numbers.contains(&message.number));
        self.backlog.0.less.notify(usize::MAX);
    }
}

/// A durability hook whose messages are counted.
pub struct Counted<H> {
    pub hook: H,
    pub backlog: Backlog,
}

#[async_trait::async_trait]
impl<H: InboundDurabilityHook> InboundDurabilityHook for Counted<H> {
    async fn on_messages(&self, client: Arc<Client>, batch: &[InboundMessage]) -> anyhow::Result<()> {
        let _held = self.backlog.hold(batch.iter().map(|message| message.info.id.as_str()));
        self.hook.on_messages(client, batch).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::poll_once;
    use wacore_binary::builder::NodeBuilder;

    fn stanza(from: &str, id: &str) -> Arc<OwnedNodeRef> {
        let node = NodeBuilder::new("message").attr("from", from).attr("id", id).build();
        let bytes = wacore_binary::marshal::marshal(&node).unwrap();
        // Without the byte that names the format.
        Arc::new(OwnedNodeRef::new(bytes[1..].to_vec()).unwrap())
    }

    fn has_room(backlog: &Backlog) -> bool {
        smol::block_on(poll_once(backlog.room())).is_some()
    }

    #[test]
    fn while_more_than_the_bound_lies_inside_there_is_no_room_and_every_way_out_makes_some() {
        let backlog = Backlog::default();
        backlog.drained();
        let mut queued: Vec<_> =
            (0..=MOST_LIVE).map(|n| stanza(&format!("62{n}:3@s.whatsapp.net"), &n.to_string())).collect();
        for stanza in &queued {
            assert!(has_room(&backlog));
            backlog.read(stanza);
        }
        assert!(!has_room(&backlog));
        backlog.undecryptable("5");
        assert!(has_room(&backlog));
        let one_more = stanza("620@s.whatsapp.net", "more");
        backlog.read(&one_more);
        assert!(!has_room(&backlog));
        // Decrypted and in the hook, which waits for the disk: still inside.
        queued.clear();
        drop(one_more);
        let held = backlog.hold(["1", "2"].into_iter());
        drop(backlog.hold(["3"].into_iter()));
        assert!(has_room(&backlog));
        assert_eq!(backlog.len(), MOST_LIVE - 1, "the first of 620 was done before its next one");
        drop(held);
        assert_eq!(backlog.len(), MOST_LIVE - 3);
        backlog.begin();
        assert!(backlog.is_empty());
    }

    #[test]
    fn somebody_whose_messages_never_reach_the_hook_takes_one_place_and_not_for_ever() {
        let backlog = Backlog::default();
        backlog.drained();
        for n in 0..1000 {
            backlog.read(&stanza("6281@s.whatsapp.net", &n.to_string()));
        }
        assert_eq!(backlog.len(), 1);
        assert!(has_room(&backlog));
        backlog.lock().settle(clock::now() + TIME_TO_LIVE);
        assert!(backlog.is_empty());
    }

    #[test]
    fn what_waits_in_its_queue_is_counted_however_long_that_takes() {
        let backlog = Backlog::default();
        let queued = stanza("6281@s.whatsapp.net", "A");
        backlog.read(&queued);
        backlog.lock().settle(clock::now() + TIME_TO_LIVE * 100);
        assert_eq!(backlog.len(), 1);
    }
}
