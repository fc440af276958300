//! The storm breaker: a hard ceiling on tries to connect within an hour, whatever asks for them.
//!
//! Every socket to WhatsApp is opened through [`Ceiling::take`], and each try is written down before
//! it is made, so neither a bug in the protocol library nor a process that crashes and is started
//! again gets past it.

use std::collections::VecDeque;
use std::time::Duration;

/// The window in which tries are counted.
pub const WINDOW: Duration = Duration::from_secs(3600);

/// Tries of the last hour. Moments are milliseconds since the process started, and negative for
/// those of earlier processes: a box that has just booted cannot express them as `Instant`s.
#[derive(Debug)]
pub struct Ceiling {
    most: u32,
    /// In the order of time; at most `most`.
    tries: VecDeque<i64>,
}

impl Ceiling {
    /// `ages`: how long ago tries of earlier processes were made, in any order.
    pub fn new(most: u32, ages: impl IntoIterator<Item = Duration>) -> Self {
        let mut earlier: Vec<i64> = ages.into_iter().map(|age| -milliseconds(age)).collect();
        earlier.sort_unstable();
        let most = most.max(1);
        let surplus = earlier.len().saturating_sub(most as usize);
        // As large at once as it can ever get: a storm must not cost memory.
        let mut tries = VecDeque::with_capacity(most as usize);
        tries.extend(&earlier[surplus..]);
        Self { most, tries }
    }

    /// Counts a try at `now` (time since the process started), or says how long to wait for one.
    pub fn take(&mut self, now: Duration) -> Result<(), Duration> {
        let now = milliseconds(now);
        self.forget(now);
        match self.tries.front() {
            Some(oldest) if self.tries.len() >= self.most as usize => {
                let wait = oldest + milliseconds(WINDOW) - now;
                Err(Duration::from_millis(u64::try_from(wait).unwrap_or(0).max(1)))
            }
            _ => {
                self.tries.push_back(now);
                Ok(())
            }
        }
    }

    /// Tries in the hour before `now`.
    pub fn count(&mut self, now: Duration) -> u32 {
        self.forget(milliseconds(now));
        u32::try_from(self.tries.len()).unwrap_or(u32::MAX)
    }

    pub fn most(&self) -> u32 {
        self.most
    }

    fn forget(&mut self, now: i64) {
        while self.tries.front().is_some_and(|at| now - at >= milliseconds(WINDOW)) {
            self.tries.pop_front();
        }
    }
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn the_try_after_the_last_waits_until_the_first_is_an_hour_old() {
        let mut ceiling = Ceiling::new(3, []);
        for minute in [0, 10, 20] {
            ceiling.take(MINUTE * minute).unwrap();
        }
        assert_eq!(ceiling.take(MINUTE * 30), Err(MINUTE * 30));
        assert_eq!(ceiling.count(MINUTE * 59), 3);
        ceiling.take(MINUTE * 60).unwrap();
        assert_eq!(ceiling.take(MINUTE * 60), Err(MINUTE * 10));
    }

    #[test]
    fn tries_of_earlier_processes_count() {
        let mut ceiling = Ceiling::new(2, [MINUTE, MINUTE * 59, MINUTE * 70]);
        assert_eq!(ceiling.take(Duration::ZERO), Err(MINUTE));
        ceiling.take(MINUTE).unwrap();
        assert_eq!(ceiling.take(MINUTE), Err(MINUTE * 58));
    }

    proptest! {
        #[test]
        fn no_hour_has_more_tries_than_allowed(
            most in 1u32..20,
            ages in prop::collection::vec(0u64..8000, 0..40),
            pauses in prop::collection::vec(0u64..900, 1..200),
        ) {
            let mut ceiling = Ceiling::new(most, ages.into_iter().map(Duration::from_secs));
            let mut now = Duration::ZERO;
            let mut made: Vec<Duration> = Vec::new();
            for pause in pauses {
                now += Duration::from_secs(pause);
                match ceiling.take(now) {
                    Ok(()) => made.push(now),
                    Err(wait) => {
                        prop_assert!(wait <= WINDOW);
                        now += wait;
                        prop_assert!(ceiling.take(now).is_ok(), "the time that it names is enough");
                        made.push(now);
                    }
                }
                let hour = made.iter().filter(|at| now - **at < WINDOW).count();
                prop_assert!(hour <= most as usize);
            }
        }
    }
}
