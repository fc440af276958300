//! Which messages the operator gets: decided from what was told, what holds and the time.
//!
//! A cause is told once when it becomes visible, at most once a day while it lasts, and once more
//! when it has been gone for a while. It may also hide behind another cause meanwhile; that is not an
//! end. A cause that comes back again and again must stay away longer each time before it counts as
//! over, so that a flapping line calls nobody twenty times a day.
//!
//! Messages over WhatsApp ([`Decision::letters`]) are decided while WhatsApp is up, for the others wait
//! for it anyway: what began and ended without it is one message that tells the whole story, sent as
//! soon as it is back, and not a beginning that arrives when it is over.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
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
    letter: Letter,
}

/// What was told over WhatsApp about a cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Letter {
    Owed,
    Begun,
    /// The whole story; nothing is left to tell.
    Ended,
}

/// What to tell, and the book after it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub book: Book,
    /// What happens, to those who are told over HTTP.
    pub messages: Vec<Message>,
    /// Messages over WhatsApp.
    pub letters: Vec<Message>,
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
        // Whether WhatsApp's message went out is not known; its end will be told.
        let raised = |since| Raised { since, reminded: days(since, unix), gone: None, letter: Letter::Begun };
        Self {
            raised: told.into_iter().map(|(cause, since)| (cause, raised(since))).collect(),
            history: BTreeMap::new(),
        }
    }

    /// The causes that were told of and are not over.
    pub fn standing(&self) -> impl Iterator<Item = Cause> {
        self.raised.keys().copied()
    }

    /// What to tell now. `holding` is all that holds, `visible` the part of it that is shown, `up`
    /// whether messages over WhatsApp can leave.
    pub fn decide(
        &self,
        holding: &[Condition],
        visible: &[Warning],
        up: bool,
        now: Instant,
        unix: i64,
    ) -> Decision {
        let mut book = self.clone();
        let (mut messages, mut letters) = (Vec::new(), Vec::new());
        for warning in visible.iter().filter(|warning| warning.cause.warnable().alerts) {
            let cause = warning.cause;
            let message = |kind, since| Message { cause, kind, since, detail: warning.detail.clone() };
            let above = cause.warnable().depends_on;
            if above.iter().any(|above| book.raised.get(above).is_some_and(|raised| raised.gone.is_none())) {
                // Told already, by the name of its cause.
                continue;
            }
            if let Entry::Vacant(place) = book.raised.entry(cause) {
                let lasted = now.saturating_duration_since(warning.since).as_secs();
                let since = unix.saturating_sub(i64::try_from(lasted).unwrap_or(0));
                let reminded = days(since, unix);
                place.insert(Raised { since, reminded, gone: None, letter: Letter::Owed });
                book.remember(cause, now);
                messages.push(message(Kind::Raised, since));
            }
            let Some(raised) = book.raised.get_mut(&cause) else { continue };
            let days = days(raised.since, unix);
            if days > raised.reminded {
                raised.reminded = days;
                messages.push(message(Kind::Reminded { days }, raised.since));
                if up && raised.letter == Letter::Begun {
                    letters.push(message(Kind::Reminded { days }, raised.since));
                }
            }
            if up && raised.letter == Letter::Owed {
                raised.letter = Letter::Begun;
                letters.push(message(Kind::Raised, raised.since));
            }
        }
        let history = &book.history;
        book.raised.retain(|&cause, raised| {
            let holds = holding.iter().any(|condition| condition.cause == cause);
            if holds || !up && cause.lasts_until_up() {
                raised.gone = None;
                return true;
            }
            let gone = *raised.gone.get_or_insert(now);
            let raises = history.get(&cause).map_or(1, |history| history.raises);
            let over = now.saturating_duration_since(gone) >= calm(cause, raises);
            let end = Message { cause, kind: Kind::Recovered, since: raised.since, detail: Detail::None };
            if raised.letter == Letter::Owed && up || raised.letter != Letter::Ended && over {
                raised.letter = Letter::Ended;
                letters.push(end.clone());
            }
            if over {
                messages.push(end);
            }
            !over
        });
        Decision { book, messages, letters }
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
        /// Whether WhatsApp is up, and what was sent there.
        up: bool,
        letters: Vec<Kind>,
    }

    impl Day {
        fn new() -> Self {
            Self { book: Book::default(), begun: clock::now(), seconds: 0, up: true, letters: Vec::new() }
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
                let decision = self.book.decide(holding, visible, self.up, now, unix);
                self.book = decision.book;
                told.extend(decision.messages.into_iter().map(|message| message.kind));
                self.letters.extend(decision.letters.into_iter().map(|message| message.kind));
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
    fn what_began_and_ended_without_whatsapp_is_one_message_there_as_soon_as_it_is_back() {
        let mut day = Day::new();
        day.up = false;
        assert_eq!(day.pass(30 * HOUR, CAUSE, true, true), [Kind::Raised, Kind::Reminded { days: 1 }]);
        assert_eq!(day.letters, []);
        day.up = true;
        assert_eq!(day.pass(10, CAUSE, false, false), []);
        assert_eq!(day.letters, [Kind::Recovered]);
        // It comes back before it was over: the same story.
        day.up = false;
        day.pass(60, CAUSE, true, true);
        day.up = true;
        assert_eq!(day.pass(HOUR, CAUSE, false, false), [Kind::Recovered]);
        assert_eq!(day.letters, [Kind::Recovered]);
    }

    #[test]
    fn an_end_of_the_session_is_over_when_whatsapp_is_back_and_not_when_the_next_try_fails_otherwise() {
        let mut day = Day::new();
        day.up = false;
        assert_eq!(day.pass(60, Cause::LoggedOut, true, true), [Kind::Raised]);
        // No code was used: the same trouble by another name.
        assert_eq!(day.pass(HOUR, Cause::NotPaired, true, true), []);
        day.up = true;
        assert_eq!(day.pass(HOUR, Cause::NotPaired, false, false), [Kind::Recovered]);
        assert_eq!(day.letters, [Kind::Recovered]);
    }

    #[test]
    fn what_still_holds_when_whatsapp_is_back_is_told_then() {
        let mut day = Day::new();
        day.up = false;
        assert_eq!(day.pass(HOUR, Cause::DiskLow, true, true), [Kind::Raised]);
        day.up = true;
        assert_eq!(day.pass(HOUR, Cause::DiskLow, true, true), []);
        assert_eq!(day.letters, [Kind::Raised]);
        day.pass(2 * HOUR, Cause::DiskLow, false, false);
        assert_eq!(day.letters, [Kind::Raised, Kind::Recovered]);
    }

    #[test]
    fn an_end_that_nobody_could_be_told_of_waits_in_the_outbox() {
        let mut day = Day::new();
        day.up = false;
        day.pass(HOUR, Cause::DiskLow, true, true);
        assert_eq!(day.pass(2 * HOUR, Cause::DiskLow, false, false), [Kind::Recovered]);
        assert_eq!(day.letters, [Kind::Recovered]);
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
        let Decision { messages, .. } = Book::default().decide(&[], &[warning], true, now, UNIX);
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
            prop_assert_eq!(&day.letters, &told);
            for (place, kind) in told.iter().enumerate() {
                let expected = if place % 2 == 0 { Kind::Raised } else { Kind::Recovered };
                prop_assert_eq!(*kind, expected);
            }
        }
    }
}
