//! What waits for one companion until it has acknowledged it.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};

use wacore_binary::Node;

use super::stanza::Stanza;

/// Stanzas kept for one device. Far above any test's load; the oldest goes first.
const CAPACITY: usize = 50_000;

/// Stanzas in the order of their arrival.
#[derive(Default)]
pub struct Queue {
    waiting: VecDeque<Waiting>,
    /// How many messages of an id wait: a receipt for the first of twenty thousand need not look at all.
    copies: HashMap<String, usize>,
}

struct Waiting {
    stanza: Node,
    /// Was written to the device's socket.
    written: bool,
    /// Was there when the device said that it is ready.
    backlog: bool,
}

impl Queue {
    /// Adds a stanza; `written` when the device gets it at once.
    pub fn push(&mut self, stanza: Node, written: bool) {
        if self.waiting.len() == CAPACITY {
            log::warn!("dropped the oldest stanza of a queue of {CAPACITY}");
            self.remove(0);
        }
        if let Some(id) = message_id(&stanza) {
            *self.copies.entry(id.into_owned()).or_default() += 1;
        }
        self.waiting.push_back(Waiting { stanza, written, backlog: false });
    }

    /// Messages only, without receipts and notifications.
    pub fn messages(&self) -> usize {
        self.waiting.iter().filter(|waiting| waiting.stanza.tag == "message").count()
    }

    /// Whether a stanza of that tag and id waits.
    pub fn holds(&self, tag: &str, id: &str) -> bool {
        self.waiting.iter().any(|Waiting { stanza, .. }| {
            stanza.tag == tag && stanza.attr("id").is_some_and(|waiting| waiting == id)
        })
    }

    /// The device is ready: what waits now is its backlog, to be fetched with [`batch`](Self::batch). Gives the
    /// stanzas' tags.
    pub fn start_backlog(&mut self) -> Vec<String> {
        let backlog = self.waiting.iter_mut().filter(|waiting| !waiting.written);
        backlog
            .map(|waiting| {
                waiting.backlog = true;
                waiting.stanza.tag.to_string()
            })
            .collect()
    }

    /// The next stanzas of the backlog, at most so many, each with its place in it in `offline`; the first has
    /// the place `from`.
    pub fn batch(&mut self, from: usize, count: usize) -> Vec<Node> {
        let backlog = self.waiting.iter_mut().filter(|waiting| waiting.backlog && !waiting.written);
        backlog
            .take(count)
            .enumerate()
            .map(|(place, waiting)| {
                waiting.written = true;
                waiting.stanza.clone().with("offline", from + place)
            })
            .collect()
    }

    /// Whether something of the backlog is left.
    pub fn has_backlog(&self) -> bool {
        self.waiting.iter().any(|waiting| waiting.backlog && !waiting.written)
    }

    /// The device has a new socket, or its stanzas are held up: nothing counts as written.
    pub fn forget_written(&mut self) {
        for waiting in &mut self.waiting {
            waiting.written = false;
            waiting.backlog = false;
        }
    }

    /// What was held up, to be written now.
    pub fn take_unwritten(&mut self) -> Vec<Node> {
        let unwritten = self.waiting.iter_mut().filter(|waiting| !waiting.written);
        unwritten
            .map(|waiting| {
                waiting.written = true;
                waiting.stanza.clone()
            })
            .collect()
    }

    /// Takes out what a client acknowledged with an `<ack>`: one stanza, whose tag is `class`; a receipt's
    /// type tells delivery from reading of the same message. Of a message's copies it is the oldest: what
    /// could not be decrypted is acknowledged behind its retry receipt, and the copy that the sender makes
    /// then is another one, which waits for an acknowledgement of its own.
    pub fn acknowledge(&mut self, class: &str, id: &str, kind: Option<&str>) {
        let acknowledged = self.waiting.iter().position(|Waiting { stanza, .. }| {
            stanza.tag == class
                && stanza.attr("id").is_some_and(|waiting| waiting == id)
                && (class != "receipt" || stanza.attr("type").as_deref() == kind)
        });
        if let Some(place) = acknowledged {
            self.remove(place);
        }
    }

    /// Takes out a message that arrived, by its receipt: with all its copies.
    pub fn arrived(&mut self, id: &str) {
        let mut place = 0;
        while self.copies.contains_key(id) && place < self.waiting.len() {
            if message_id(&self.waiting[place].stanza).is_some_and(|waiting| waiting == id) {
                self.remove(place);
            } else {
                place += 1;
            }
        }
    }

    fn remove(&mut self, place: usize) {
        let Some(removed) = self.waiting.remove(place) else { return };
        if let Some(id) = message_id(&removed.stanza)
            && let Some(copies) = self.copies.get_mut(&*id)
        {
            *copies -= 1;
            if *copies == 0 {
                self.copies.remove(&*id);
            }
        }
    }
}

fn message_id(stanza: &Node) -> Option<Cow<'_, str>> {
    stanza.attr("id").filter(|_| stanza.tag == "message")
}

#[cfg(test)]
mod tests {
    use super::super::stanza::node;
    use super::*;

    /// All of the backlog, as after a login.
    fn backlog(queue: &mut Queue) -> Vec<Node> {
        queue.forget_written();
        queue.start_backlog();
        queue.batch(0, usize::MAX)
    }

    #[test]
    fn a_backlog_comes_in_batches_and_what_comes_meanwhile_is_not_of_it() {
        let mut queue = Queue::default();
        for id in ["A", "B", "C"] {
            queue.push(node("message").attr("id", id).build(), false);
        }
        assert_eq!(queue.start_backlog(), ["message"; 3]);
        let ids = |batch: Vec<Node>| -> Vec<_> {
            batch
                .iter()
                .map(|it| (it.attr("id").unwrap().into_owned(), it.attr("offline").unwrap().into_owned()))
                .collect()
        };
        assert_eq!(ids(queue.batch(0, 2)), [("A".into(), "0".into()), ("B".into(), "1".into())]);
        queue.push(node("message").attr("id", "D").build(), false);
        assert!(queue.has_backlog());
        assert_eq!(ids(queue.batch(2, 2)), [("C".to_owned(), "2".to_owned())]);
        assert!(!queue.has_backlog());
        assert_eq!(queue.take_unwritten(), [node("message").attr("id", "D").build()]);
    }

    #[test]
    fn the_backlog_keeps_its_order_until_each_stanza_is_acknowledged() {
        let mut queue = Queue::default();
        for id in ["A", "B", "C"] {
            queue.push(node("message").attr("id", id).build(), true);
        }
        queue.push(node("receipt").attr("id", "A").attr("type", "read").build(), true);
        queue.arrived("B");
        queue.acknowledge("receipt", "A", None);
        let ids: Vec<_> = backlog(&mut queue)
            .iter()
            .map(|stanza| {
                (stanza.attr("id").unwrap().into_owned(), stanza.attr("offline").unwrap().into_owned())
            })
            .collect();
        assert_eq!(
            ids,
            [("A".into(), "0".into()), ("C".into(), "1".into()), ("A".to_owned(), "2".to_owned())]
        );
        queue.acknowledge("receipt", "A", Some("read"));
        assert_eq!((backlog(&mut queue).len(), queue.messages()), (2, 2));
    }

    #[test]
    fn an_ack_is_for_one_copy_of_a_message_and_a_receipt_for_all() {
        let mut queue = Queue::default();
        let copy = |n: u32| node("message").attr("id", "A").attr("t", n).build();
        for n in 1..=3 {
            queue.push(copy(n), true);
        }
        queue.acknowledge("message", "A", None);
        assert_eq!(backlog(&mut queue), [copy(2).with("offline", 0), copy(3).with("offline", 1)]);
        queue.arrived("A");
        assert_eq!(queue.messages(), 0);
    }
}
