//! Random numbers, which a kernel that has just booted may not have yet.
//!
//! A box without a generator of its own, and without a seed from its boot loader, collects chance from what happens
//! to it. Until there is enough, for seconds or minutes, whoever asks the kernel for random numbers stands still; for
//! this program that would be the one thread on which everything runs. So they are asked for once before anything
//! else, on the worker thread, and the service manager hears meanwhile that the start goes on and why it takes long.
//!
//! One thread asks and stands still: kernels from 5.4 on make chance of their own timing while somebody does, and
//! only then. Looking again and again whether there is some may last for ever on a box where nothing happens.

use std::pin::pin;
use std::time::{Duration, Instant};

use crate::clock;
use crate::net::deadline::within;
use crate::worker;

/// Nothing is said of a wait that is shorter. A kernel that has random numbers gives them within microseconds.
const UNNOTICED: Duration = Duration::from_millis(500);

/// Time between two words about a wait.
const AGAIN: Duration = Duration::from_secs(20);

/// How long the service manager is asked to wait from each word on: two of them may be lost.
pub const PUT_OFF: Duration = Duration::from_secs(60);

/// What there is to say about a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// It has become worth mentioning.
    Begun,
    GoesOn,
    /// There are random numbers, after so long.
    Over(Duration),
}

/// How a wait stands. Time is an argument.
#[derive(Debug)]
struct Wait {
    since: Instant,
    mentioned: bool,
}

impl Wait {
    fn new(now: Instant) -> Self {
        Self { since: now, mentioned: false }
    }

    /// Time until the next word, if there are no random numbers before.
    fn pause(&self) -> Duration {
        if self.mentioned { AGAIN } else { UNNOTICED }
    }

    /// The word that is due after the pause.
    fn goes_on(&mut self) -> Word {
        match std::mem::replace(&mut self.mentioned, true) {
            false => Word::Begun,
            true => Word::GoesOn,
        }
    }

    fn over(&self, now: Instant) -> Option<Word> {
        self.mentioned.then(|| Word::Over(now.saturating_duration_since(self.since)))
    }
}

/// Returns when the kernel has random numbers; `tell` hears of it if that takes long. Dropped, it leaves somebody
/// asking on the worker thread.
pub async fn wait(tell: impl FnMut(Word)) {
    let asked = async {
        if let Err(error) = worker::run(ask_the_kernel).await {
            // They are asked for where they are needed, then.
            log::warn!("entropy: nobody could be sent to ask for random numbers: {error}");
        }
    };
    wait_for(asked, tell).await;
}

async fn wait_for(asked: impl Future<Output = ()>, mut tell: impl FnMut(Word)) {
    let mut wait = Wait::new(clock::now());
    let mut asked = pin!(asked);
    while within(wait.pause(), asked.as_mut()).await.is_none() {
        tell(wait.goes_on());
    }
    wait.over(clock::now()).into_iter().for_each(tell);
}

/// Whether there are random numbers within so short a time that nobody notices. Otherwise somebody is left asking.
pub async fn is_there() -> bool {
    within(UNNOTICED, wait(|_| ())).await.is_some()
}

/// Asks the kernel for a random number, and stands still until it has some.
fn ask_the_kernel() {
    #[cfg(feature = "danger-accept-test-bed")]
    for_tests::none_while_the_file_exists();
    if let Err(error) = getrandom::u64() {
        // Whoever needs one will fail, and say for what.
        log::warn!("entropy: the kernel gives no random numbers: {error}; is there a /dev/urandom?");
    }
}

/// A kernel that has none as long as a test wants.
#[cfg(feature = "danger-accept-test-bed")]
mod for_tests {
    use std::time::Duration;

    /// Environment variable with a path; while that file exists, there are no random numbers.
    pub const NO_ENTROPY_VARIABLE: &str = "BOT_KJP_TEST_NO_ENTROPY";

    const LOOK: Duration = Duration::from_millis(20);

    pub fn none_while_the_file_exists() {
        let file = std::env::var_os(NO_ENTROPY_VARIABLE).map(std::path::PathBuf::from);
        while file.as_ref().is_some_and(|file| file.exists()) {
            std::thread::sleep(LOOK);
        }
    }
}

#[cfg(feature = "danger-accept-test-bed")]
pub use for_tests::NO_ENTROPY_VARIABLE;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_wait_is_nobodys_business_and_a_long_one_is_told_again_before_the_time_runs_out() {
        let begun = clock::now();
        let mut wait = Wait::new(begun);
        assert_eq!((wait.pause(), wait.over(begun + UNNOTICED / 2)), (UNNOTICED, None));
        assert_eq!(wait.goes_on(), Word::Begun);
        for _ in 0..10 {
            // Even if the next word is lost, too.
            assert!(2 * wait.pause() < PUT_OFF);
            assert_eq!(wait.goes_on(), Word::GoesOn);
        }
        assert_eq!(wait.over(begun + 10 * AGAIN), Some(Word::Over(10 * AGAIN)));
    }

    #[test]
    fn whoever_waits_hears_of_it_and_of_its_end() {
        let (give, given) = async_channel::bounded(1);
        let mut words = Vec::new();
        let asked = async { given.recv().await.unwrap_or_default() };
        let tell = |word| {
            words.push(word);
            let _ = give.try_send(());
        };
        smol::block_on(wait_for(asked, tell));
        assert!(matches!(words[..], [Word::Begun, Word::Over(_)]), "{words:?}");
    }

    #[test]
    fn where_there_are_random_numbers_nothing_is_said() {
        let mut words = Vec::new();
        smol::block_on(wait_for(async {}, |word| words.push(word)));
        assert!(words.is_empty(), "{words:?}");
    }
}
