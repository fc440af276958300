//! How fast replies may leave: a rate per chat and a rate in all, as a pure function of time.

use std::collections::HashMap;
use std::time::Duration;

/// When the next message may leave. Time is a [`Duration`] since any fixed start.
///
/// Messages leave evenly: nothing is saved up while the line is quiet, because a burst after
/// silence is what WhatsApp's abuse detection looks for.
#[derive(Debug)]
pub struct Pace {
    chat_gap: Duration,
    total_gap: Duration,
    next: Duration,
    /// When the last one left, taken back or not.
    last: Duration,
    /// Chats whose gap is not over yet. Bounded by the number of messages that may leave within
    /// one chat gap.
    chats: HashMap<String, Duration>,
}

impl Pace {
    /// Rates in messages per second, at least one.
    pub fn new(per_chat: u32, total: u32) -> Self {
        Self {
            chat_gap: Duration::from_secs(1) / per_chat.max(1),
            total_gap: Duration::from_secs(1) / total.max(1),
            next: Duration::ZERO,
            last: Duration::ZERO,
            chats: HashMap::new(),
        }
    }

    /// The earliest time at which a message to `chat` may leave; `now` at the earliest.
    pub fn earliest(&self, chat: &str, now: Duration) -> Duration {
        let chat = self.chats.get(chat).copied().unwrap_or_default();
        now.max(self.next).max(chat)
    }

    /// Records that a message to `chat` leaves at `now`.
    pub fn leave(&mut self, chat: &str, now: Duration) {
        self.chats.retain(|_, free_at| *free_at > now);
        self.chats.insert(chat.to_owned(), now + self.chat_gap);
        // The few milliseconds by which one is late do not put off all that follow: in a queue of thousands
        // they add up to minutes.
        let late = now.saturating_sub(self.next);
        let slot = if late <= self.total_gap / 2 { self.next } else { now };
        self.next = slot + self.total_gap;
        self.last = now;
    }

    /// The message to `chat` that was recorded did not leave: another may take its place. Half a gap stays
    /// between any two.
    pub fn take_back(&mut self, chat: &str) {
        self.chats.remove(chat);
        self.next = self.next.saturating_sub(self.total_gap).max(self.last + self.total_gap / 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_chat_gets_one_message_a_second_and_others_are_not_held_up() {
        let mut pace = Pace::new(1, 5);
        pace.leave("ani", Duration::ZERO);
        assert_eq!(pace.earliest("ani", Duration::ZERO), Duration::from_secs(1));
        assert_eq!(pace.earliest("budi", Duration::ZERO), Duration::from_millis(200));
    }

    #[test]
    fn what_leaves_a_little_late_puts_nothing_off_and_what_leaves_late_saves_nothing_up() {
        let mut pace = Pace::new(100, 5);
        let milliseconds = Duration::from_millis;
        pace.leave("ani", milliseconds(1000));
        pace.leave("budi", milliseconds(1203));
        assert_eq!(pace.earliest("citra", milliseconds(1203)), milliseconds(1400));
        pace.leave("citra", milliseconds(9000));
        assert_eq!(pace.earliest("dewi", milliseconds(9000)), milliseconds(9200));
    }

    #[test]
    fn a_slot_that_was_not_used_is_another_s() {
        let mut pace = Pace::new(1, 5);
        let milliseconds = Duration::from_millis;
        pace.leave("ani", milliseconds(1000));
        pace.take_back("ani");
        assert_eq!(pace.earliest("budi", milliseconds(1000)), milliseconds(1100));
        assert_eq!(pace.earliest("ani", milliseconds(1000)), milliseconds(1100));
    }

    proptest! {
        #[test]
        fn no_rate_is_ever_exceeded(chats in prop::collection::vec(0_u8..4, 1..200)) {
            let mut pace = Pace::new(2, 5);
            let mut now = Duration::ZERO;
            let mut left: Vec<(u8, Duration)> = Vec::new();
            for chat in chats {
                let name = chat.to_string();
                now = pace.earliest(&name, now);
                // One that was late lets the next come in its time, never before.
                if let Some((_, last)) = left.last() {
                    prop_assert!(now - *last >= Duration::from_millis(100));
                }
                prop_assert!(now >= Duration::from_millis(200) * u32::try_from(left.len()).unwrap());
                if let Some((_, last)) = left.iter().rev().find(|(other, _)| *other == chat) {
                    prop_assert!(now - *last >= Duration::from_millis(500));
                }
                pace.leave(&name, now);
                prop_assert!(pace.chats.len() <= 4);
                left.push((chat, now));
            }
        }
    }
}
