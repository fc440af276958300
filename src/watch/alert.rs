//! Which messages the operator gets: decided from what was told, what holds and the time.
//!
//! A cause is told once when it becomes visible, at most once a day while it lasts, and once more
//! when it has been gone for a while. It may also hide behind another cause meanwhile; that is not an
//! end. A cause that comes back again and again must stay away longer each time before it counts as
//! over, so that a flapping line calls nobody twenty times a day.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::warning::{Cause, Condition, Detail, Warning};

/// Time between two reminders of a cause that still holds, in seconds: once a day. Whoever has not
/// acted after a day has forgotten it, and whoever cannot act must not be driven mad.
const REMIND_SECONDS: i64 = 86_400;

/// A cause that comes back within this time is the same trouble still.
const SAME_TROUBLE: Duration = Duration::from_secs(86_400);

/// The longest time for which a cause must be gone before it counts as over.
const LONGEST_CALM: Duration = Duration::from_secs(4 * 3600);

/// What was told, and what is needed to tell more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Book {
    raised: BTreeMap<Cause, Raised>,
    history: BTreeMap<Cause, History>,
}

/// A cause that was told of and is not over.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Raised {
    /// When it began, in seconds since 1970 UTC.
    since: i64,
    /// Days whose reminder was given, or missed while the bot was not running.
    reminded: i64,
    /// Since when it has not held.
    gone: Option<Instant>,
}

/// How often a cause was told, each time within [`SAME_TROUBLE`] after the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
struct History {
    raises: u32,
    last: Instant,
}

/// Something to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub cause: Cause,
    pub kind: Kind,
    /// When the cause began, in seconds since 1970 UTC.
    pub since: i64,
    pub detail: Detail,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Raised,
    /// It still holds, so many days later.
    Reminded {
        days: i64,
    },
    Recovered,
}

impl Book {
    /// The book after a restart, from the causes told by the process before, with when they began.
    pub fn restored(told: impl IntoIterator<Item = (Cause, i64)>, unix: i64) -> Self {
        let raised = |since| Raised { since, reminded: days(since, unix), gone: None };
        Self {
            raised: told.into_iter().map(|(cause, since)| (cause, raised(since))).collect(),
            history: BTreeMap::new(),
        }
    }

    /// The causes that were told of and are not over.
    pub fn standing(&self) -> impl Iterator<Item = Cause> {
        self.raised.keys().copied()
    }

    /// What to tell now, and the book after it was told. `holding` is all that holds, `visible` the
    /// part of it that is shown.
    pub fn decide(
        &self,
        holding: &[Condition],
        visible: &[Warning],
        now: Instant,
        unix: i64,
    ) -> (Self, Vec<Message>) {
        let mut next = self.clone();
        let mut messages = Vec::new();
        for warning in visible.iter().filter(|warning| warning.cause.warnable().alerts) {
            let cause = warning.cause;
            let message = |kind, since| Message { cause, kind, since, detail: warning.detail.clone() };
            match next.raised.get_mut(&cause) {
                None => {
                    let lasted = now.saturating_duration_since(warning.since).as_secs();
                    let since = unix.saturating_sub(i64::try_from(lasted).unwrap_or(0));
                    next.raised.insert(cause, Raised { since, reminded: days(since, unix), gone: None });
                    next.remember(cause, now);
                    messages.push(message(Kind::Raised, since));
                }
                Some(raised) => {
                    let days = days(raised.since, unix);
                    if days > raised.reminded {
                        raised.reminded = days;
                        messages.push(message(Kind::Reminded { days }, raised.since));
                    }
                }
            }
        }
        let mut over = Vec::new();
        for (&cause, raised) in &mut next.raised {
            if holding.iter().any(|condition| condition.cause == cause) {
                raised.gone = None;
                continue;
            }
            let gone = *raised.gone.get_or_insert(now);
            let raises = next.history.get(&cause).map_or(1, |history| history.raises);
            if now.saturating_duration_since(gone) >= calm(cause, raises) {
                over.push(cause);
                let message =
                    Message { cause, kind: Kind::Recovered, since: raised.since, detail: Detail::None };
                messages.push(message);
            }
        }
        next.raised.retain(|cause, _| !over.contains(cause));
        (next, messages)
    }

    fn remember(&mut self, cause: Cause, now: Instant) {
        let before = self.history.get(&cause);
        let recent = before.filter(|before| now.saturating_duration_since(before.last) < SAME_TROUBLE);
        let raises = recent.map_or(0, |before| before.raises).saturating_add(1);
        self.history.insert(cause, History { raises, last: now });
    }
}

/// How long a cause must be gone to be over: twice as long each time it comes back.
fn calm(cause: Cause, raises: u32) -> Duration {
    let doublings = raises.saturating_sub(1).min(16);
    let calm = cause.warnable().calm;
    calm.saturating_mul(1 << doublings).min(LONGEST_CALM.max(calm))
}

fn days(since: i64, unix: i64) -> i64 {
    unix.saturating_sub(since).max(0) / REMIND_SECONDS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use proptest::prelude::*;

    const UNIX: i64 = 1_795_402_800;
    const CAUSE: Cause = Cause::Offline;

    /// An operator's day, looked at every ten seconds.
    struct Day {
        book: Book,
        begun: Instant,
        seconds: u64,
    }

    impl Day {
        fn new() -> Self {
            Self { book: Book::default(), begun: clock::now(), seconds: 0 }
        }

        /// Lets time pass with `cause` holding or not, visible or hidden.
        fn pass(&mut self, seconds: u64, cause: Cause, holds: bool, shown: bool) -> Vec<Kind> {
            let mut told = Vec::new();
            for _ in 0..seconds / 10 {
                let now = self.begun + Duration::from_secs(self.seconds);
                let unix = UNIX + i64::try_from(self.seconds).unwrap();
                let condition =
                    Condition { cause, since: None, urgent: false, detail: Detail::None, error: None };
                let warning = Warning { cause, since: now, detail: Detail::None, error: None };
                let holding: &[_] = if holds { &[condition] } else { &[] };
                let visible: &[_] = if holds && shown { &[warning] } else { &[] };
                let (book, messages) = self.book.decide(holding, visible, now, unix);
                self.book = book;
                told.extend(messages.into_iter().map(|message| message.kind));
                self.seconds += 10;
            }
            told
        }
    }

    const HOUR: u64 = 3600;

    #[test]
    fn a_cause_is_told_once_and_its_end_once() {
        let mut day = Day::new();
        assert_eq!(day.pass(HOUR, CAUSE, true, true), [Kind::Raised]);
        assert_eq!(day.pass(300, CAUSE, false, false), []);
        assert_eq!(day.pass(10, CAUSE, false, false), [Kind::Recovered]);
        assert_eq!(day.pass(HOUR, CAUSE, false, false), []);
    }

    #[test]
    fn a_cause_that_hides_behind_another_is_not_over() {
        let mut day = Day::new();
        day.pass(60, CAUSE, true, true);
        assert_eq!(day.pass(5 * HOUR, CAUSE, true, false), []);
        assert_eq!(day.pass(60, CAUSE, true, true), []);
    }

    #[test]
    fn what_was_never_shown_has_no_end_to_tell() {
        let mut day = Day::new();
        assert_eq!(day.pass(HOUR, CAUSE, true, false), []);
        assert_eq!(day.pass(HOUR, CAUSE, false, false), []);
    }

    #[test]
    fn a_reminder_comes_once_a_day() {
        let mut day = Day::new();
        let told = day.pass(50 * HOUR, CAUSE, true, true);
        assert_eq!(told, [Kind::Raised, Kind::Reminded { days: 1 }, Kind::Reminded { days: 2 }]);
    }

    #[test]
    fn some_causes_call_nobody() {
        assert_eq!(Day::new().pass(HOUR, Cause::DnsSystemLying, true, true), []);
    }

    #[test]
    fn a_restart_repeats_nothing_and_forgets_no_end() {
        let mut day = Day::new();
        day.book = Book::restored([(CAUSE, UNIX - 3 * REMIND_SECONDS - 60)], UNIX);
        assert_eq!(day.pass(HOUR, CAUSE, true, true), []);
        assert_eq!(day.pass(HOUR, CAUSE, false, false), [Kind::Recovered]);
        assert_eq!(day.book.standing().count(), 0);
    }

    #[test]
    fn a_message_names_the_time_at_which_the_trouble_began() {
        let now = clock::now() + Duration::from_secs(HOUR);
        let since = now.checked_sub(Duration::from_secs(180)).unwrap();
        let warning = Warning { cause: CAUSE, since, detail: Detail::Failures(7), error: None };
        let (_, messages) = Book::default().decide(&[], &[warning], now, UNIX);
        let expected =
            Message { cause: CAUSE, kind: Kind::Raised, since: UNIX - 180, detail: Detail::Failures(7) };
        assert_eq!(messages, [expected]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        /// However a cause flaps, a day brings a bounded number of messages, and beginnings and ends
        /// take turns.
        #[test]
        fn no_day_is_a_flood(spells in prop::collection::vec((10..3000_u64, any::<bool>()), 1..200)) {
            let mut day = Day::new();
            let mut told = Vec::new();
            for (seconds, holds) in spells.into_iter().cycle() {
                if day.seconds > 86_000 { break }
                told.extend(day.pass(seconds.min(86_390 - day.seconds.min(86_390)).max(10), CAUSE, holds, holds));
            }
            prop_assert!(told.len() <= 24, "{} messages", told.len());
            for (place, kind) in told.iter().enumerate() {
                let expected = if place % 2 == 0 { Kind::Raised } else { Kind::Recovered };
                prop_assert_eq!(*kind, expected);
            }
        }
    }
}
