//! When registration is open: from 06:05 to midnight in Jakarta (RULES.md 7.2). The time is an argument; it must come from WhatsApp, never from the box's clock.

use std::time::Duration;

use jiff::Timestamp;

use super::day::WIB;

/// Registration opens at this time of the day, in seconds since midnight in Jakarta.
const OPENING: i64 = 6 * 3600 + 5 * 60;

/// How long registration has been open at a moment given in seconds since 1970 UTC; `None` while it is
/// closed, and for a moment that no calendar has.
pub fn open_for(unix_seconds: i64) -> Option<Duration> {
    let local = WIB.to_datetime(Timestamp::from_second(unix_seconds).ok()?).time();
    let seconds = i64::from(local.hour()) * 3600 + i64::from(local.minute()) * 60 + i64::from(local.second());
    u64::try_from(seconds - OPENING).ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registration_is_open_from_five_past_six_to_midnight_in_jakarta() {
        // 2026-11-24, 00:00:00 WIB.
        const MIDNIGHT: i64 = 1_795_453_200;
        let open = |hours: i64, minutes: i64, seconds: i64| {
            open_for(MIDNIGHT + hours * 3600 + minutes * 60 + seconds).map(|open| open.as_secs())
        };
        assert_eq!(open(0, 0, 0), None);
        assert_eq!(open(6, 4, 59), None);
        assert_eq!(open(6, 5, 0), Some(0));
        assert_eq!(open(10, 5, 0), Some(4 * 3600));
        assert_eq!(open(0, 0, -1), Some(64_499));
        assert_eq!(open_for(i64::MAX), None);
    }
}
