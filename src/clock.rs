//! The only place that asks the operating system for the time (`clippy.toml` enforces it).
//!
//! Rules get the time as an argument. Intervals are measured with [`now`] (monotonic), business
//! days come from WhatsApp's message timestamps. Waits are made here too, so that a test can let a
//! whole bot live faster than the clock on the wall ([`speed`]).

#![allow(clippy::disallowed_methods)] // this module is the one caller

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::reactor;

/// Environment variable with the factor by which a bot for the test bed lives faster, 1 to 1000.
#[cfg(feature = "danger-accept-test-bed")]
pub const SPEED_VARIABLE: &str = "BOT_KJP_TEST_SPEED";

/// The monotonic clock: for intervals and deadlines, never for a date.
pub fn now() -> Instant {
    let now = monotonic();
    match speed() {
        1 => now,
        factor => {
            static BEGIN: OnceLock<Instant> = OnceLock::new();
            let begin = *BEGIN.get_or_init(|| now);
            begin + now.saturating_duration_since(begin) * factor
        }
    }
}

/// The same by the kernel's pace: for who waits in the kernel.
pub(crate) fn monotonic() -> Instant {
    Instant::now()
}

/// Time from `then` until now; none if `then` is still to come.
pub fn since(then: Instant) -> Duration {
    now().saturating_duration_since(then)
}

/// Waits for `time` by [`now`]'s clock.
pub async fn sleep(time: Duration) {
    let time = time / speed();
    match (reactor::current(), monotonic().checked_add(time)) {
        _ if time.is_zero() => {}
        (Some(reactor), Some(due)) => reactor.sleep_until(due).await,
        // On the worker's thread, and in tests under smol.
        (None, _) => drop(smol::Timer::after(time).await),
        // Longer than there is time.
        (Some(_), None) => std::future::pending().await,
    }
}

/// How many times faster than the real one [`now`]'s clock goes: 1 in everything that is shipped.
pub fn speed() -> u32 {
    #[cfg(feature = "danger-accept-test-bed")]
    {
        static SPEED: OnceLock<u32> = OnceLock::new();
        *SPEED.get_or_init(|| {
            let set = std::env::var(SPEED_VARIABLE).ok().and_then(|factor| factor.parse().ok());
            set.unwrap_or(1).clamp(1, 1000)
        })
    }
    #[cfg(not(feature = "danger-accept-test-bed"))]
    1
}

/// Seconds since 1970-01-01T00:00:00Z by the wall clock; 0 if the clock stands before that.
pub fn unix_seconds() -> i64 {
    unix_milliseconds() / 1000
}

/// The same in milliseconds.
pub fn unix_milliseconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
    #[cfg(feature = "danger-accept-test-bed")]
    let now = for_tests::wall(now);
    now
}

/// The wall clock of a bot that lives faster, and of one whose clock is set while it runs.
#[cfg(feature = "danger-accept-test-bed")]
mod for_tests {
    use std::sync::OnceLock;
    use std::time::Instant;

    /// Environment variable with the path of a file that says by how many seconds the wall clock is
    /// wrong; read at each look, so that it can be set at any time.
    pub const ERROR_VARIABLE: &str = "BOT_KJP_TEST_CLOCK_ERROR";

    #[allow(clippy::disallowed_methods)]
    pub fn wall(real: i64) -> i64 {
        static BEGIN: OnceLock<(i64, Instant)> = OnceLock::new();
        static ERROR: OnceLock<Option<String>> = OnceLock::new();
        let now = match super::speed() {
            1 => real,
            _ => {
                let (wall, then) = BEGIN.get_or_init(|| (real, super::now()));
                wall + i64::try_from(super::since(*then).as_millis()).unwrap_or(i64::MAX / 2)
            }
        };
        let file = ERROR.get_or_init(|| std::env::var(ERROR_VARIABLE).ok());
        let seconds =
            file.as_ref().and_then(|file| std::fs::read_to_string(file).ok()?.trim().parse::<i64>().ok());
        now.saturating_add(seconds.unwrap_or(0).saturating_mul(1000)).max(0)
    }
}

#[cfg(feature = "danger-accept-test-bed")]
pub use for_tests::ERROR_VARIABLE;
