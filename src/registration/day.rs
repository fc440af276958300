//! The registration day: the calendar date in Jakarta of the WhatsApp message (RULES.md 7.1).

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;

/// WIB, Waktu Indonesia Barat: UTC+7 all year.
pub(super) const WIB: Offset = Offset::constant(7);

/// The WIB date of a moment given in seconds since 1970 UTC.
///
/// Seconds outside jiff's range (years -9999 to 9999) count as the nearest end of it.
pub fn of(unix_seconds: i64) -> Date {
    let moment = Timestamp::from_second(unix_seconds).unwrap_or(if unix_seconds < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    });
    WIB.to_datetime(moment).date()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn the_day_changes_at_midnight_in_jakarta() {
        // 2026-11-23T16:59:59Z is 23:59:59 WIB.
        assert_eq!(of(1_795_453_199), date(2026, 11, 23));
        assert_eq!(of(1_795_453_200), date(2026, 11, 24));
    }
}
