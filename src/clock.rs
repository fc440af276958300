//! The only place that asks the operating system for the time (`clippy.toml` enforces it).
//!
//! Rules get the time as an argument. Intervals are measured with [`now`] (monotonic), business
//! days come from WhatsApp's message timestamps.

#![allow(clippy::disallowed_methods)] // this module is the one caller

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The monotonic clock: for intervals and deadlines, never for a date.
pub fn now() -> Instant {
    Instant::now()
}

/// Seconds since 1970-01-01T00:00:00Z by the wall clock; 0 if the clock stands before that.
pub fn unix_seconds() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
