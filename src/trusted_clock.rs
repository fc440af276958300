//! The time that may be believed on a box without a clock of its own: after power-on its clock stands
//! where it stood at the last shutdown, or in 1970, until NTP sets it, which needs names and a line.
//!
//! WhatsApp's server tells the time at each login and with each acknowledgement, over a channel that
//! nobody else can write to. Once it has, that time and the monotonic clock are all that counts in this
//! process ([`told`]). Before, it is at least the latest time that the ledger remembers, and at least
//! the time at which this program was built; the box's clock is believed between that and the end of
//! the program's life ([`now`]). Registration days need none of this: they come from the messages.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::clock;

/// When this was written, 2026-11-01 in seconds since 1970 UTC: raised by hand now and then.
const WRITTEN_AT: i64 = 1_793_491_200;

/// The time before which this program did not exist, in seconds since 1970 UTC: `SOURCE_DATE_EPOCH` where
/// the build sets it, which keeps it reproducible. Some build systems set it to 1980.
pub const BUILT_AT: i64 = match option_env!("SOURCE_DATE_EPOCH") {
    Some(text) if decimal(text.as_bytes()) > WRITTEN_AT => decimal(text.as_bytes()),
    _ => WRITTEN_AT,
};

/// A clock that is further ahead of [`BUILT_AT`] than this is broken: by then the root certificates
/// in this binary would have expired anyway. In seconds, ten years.
const LONGEST_LIFE: i64 = 10 * 365 * 24 * 60 * 60;

/// What is known in this process.
static KNOWLEDGE: Mutex<Knowledge> = Mutex::new(Knowledge { at_least: BUILT_AT, told: None });

#[derive(Debug, Clone, Copy)]
struct Knowledge {
    /// It is not earlier than this.
    at_least: i64,
    /// What WhatsApp's server said last, and when.
    told: Option<(i64, Instant)>,
}

impl Knowledge {
    /// The time at `instant`, when the box's clock shows `wall`, all in milliseconds.
    fn time(self, wall: i64, instant: Instant) -> i64 {
        match self.told(instant) {
            Some(time) => time,
            None if wall > (BUILT_AT + LONGEST_LIFE) * 1000 => self.at_least * 1000,
            None => wall.max(self.at_least * 1000),
        }
    }

    fn told(self, instant: Instant) -> Option<i64> {
        let (time, then) = self.told?;
        let since = instant.saturating_duration_since(then).as_millis();
        Some((time * 1000).saturating_add(i64::try_from(since).unwrap_or(i64::MAX)))
    }
}

/// WhatsApp's server says that it is `unix_seconds` now. What this program cannot live to see, and what
/// was before it, is ignored.
pub fn tell(unix_seconds: i64) {
    if is_possible(unix_seconds) {
        lock().told = Some((unix_seconds, clock::now()));
    }
}

/// It is known to have been `unix_seconds` before, as the ledger remembers.
pub fn remember(unix_seconds: i64) {
    if is_possible(unix_seconds) {
        let mut knowledge = lock();
        knowledge.at_least = knowledge.at_least.max(unix_seconds);
    }
}

/// The best guess at the time, in seconds since 1970 UTC: never before anything that is known to have
/// been. On a box whose clock is wrong and whom nobody has told, it may lag behind.
pub fn now() -> i64 {
    now_milliseconds() / 1000
}

/// The same in milliseconds.
pub fn now_milliseconds() -> i64 {
    let knowledge = *lock();
    knowledge.time(clock::unix_milliseconds(), clock::now())
}

/// The time by WhatsApp's clock, in seconds since 1970 UTC; `None` until the server has told it in this process.
pub fn told() -> Option<i64> {
    let knowledge = *lock();
    knowledge.told(clock::now()).map(|milliseconds| milliseconds / 1000)
}

fn is_possible(unix_seconds: i64) -> bool {
    (BUILT_AT..BUILT_AT + LONGEST_LIFE).contains(&unix_seconds)
}

fn lock() -> std::sync::MutexGuard<'static, Knowledge> {
    KNOWLEDGE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number in decimal digits; the build fails on anything else.
const fn decimal(digits: &[u8]) -> i64 {
    let mut number = 0;
    let mut at = 0;
    while at < digits.len() {
        assert!(digits[at].is_ascii_digit(), "SOURCE_DATE_EPOCH is not a number of seconds");
        number = number * 10 + (digits[at] - b'0') as i64;
        at += 1;
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const DAY: i64 = 24 * 60 * 60;
    const KNOWN: i64 = BUILT_AT + 100 * DAY;

    fn knowledge() -> Knowledge {
        Knowledge { at_least: KNOWN, told: None }
    }

    #[test]
    fn the_boxs_clock_is_believed_as_long_as_it_can_be_true() {
        let time = |wall: i64| knowledge().time(wall.saturating_mul(1000), clock::now()) / 1000;
        assert_eq!(time(KNOWN + 100 * DAY), KNOWN + 100 * DAY);
        assert_eq!(time(0), KNOWN, "no clock");
        assert_eq!(time(KNOWN - 1), KNOWN, "the clock of the last shutdown");
        assert_eq!(time(BUILT_AT + 50 * 365 * DAY), KNOWN, "decades ahead");
        assert_eq!(time(i64::MAX), KNOWN);
    }

    #[test]
    fn what_whatsapp_said_counts_and_goes_on_whatever_the_boxs_clock_does() {
        let then = clock::now();
        let knowledge = Knowledge { told: Some((KNOWN + DAY, then)), ..knowledge() };
        for wall in [0, KNOWN, KNOWN + DAY, KNOWN + 3000 * DAY, i64::MAX] {
            let time = |instant| knowledge.time(wall.saturating_mul(1000), instant);
            assert_eq!(time(then), (KNOWN + DAY) * 1000);
            assert_eq!(time(then + Duration::from_millis(90_001)), (KNOWN + DAY) * 1000 + 90_001);
        }
    }

    #[test]
    fn what_cannot_be_is_not_believed() {
        for impossible in [0, BUILT_AT - 1, BUILT_AT + LONGEST_LIFE, i64::MAX, i64::MIN] {
            assert!(!is_possible(impossible));
        }
        // As little as possible: other tests of this process have the same clock.
        remember(BUILT_AT + 1);
        remember(BUILT_AT);
        remember(i64::MAX);
        tell(i64::MAX);
        assert!((BUILT_AT + 1..BUILT_AT + LONGEST_LIFE).contains(&now()));
    }

    #[test]
    fn a_build_stamp_is_decimal() {
        assert_eq!(decimal(b"1793491200"), 1_793_491_200);
    }
}
