//! The only place that asks the operating system for the time.
//!
//! Rules get the time as an argument. Intervals are measured with [`std::time::Instant`]
//! (monotonic), business days come from WhatsApp's message timestamps.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970-01-01T00:00:00Z by the wall clock; 0 if the clock stands before that.
pub fn unix_seconds() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
