//! What the digits of a NIK tell: a birth date, an age (RULES.md §6).

use jiff::civil::Date;

use super::fault::{Fault, Warning};
use super::regions::REGENCIES;
use super::rulebook::Rulebook;

/// Added to the day of a woman's birth.
const WOMAN: u8 = 40;

/// Is this a number that was never issued, typed to have one?
pub fn check(digits: &str) -> Result<(), Fault> {
    let bytes = digits.as_bytes();
    let repeated = bytes.windows(2).all(|pair| pair[0] == pair[1]);
    let step = |by: u8| bytes.windows(2).all(|pair| (pair[0] - b'0' + by) % 10 == pair[1] - b'0');
    if repeated || step(1) || step(9) { Err(Fault::NoSuchNik) } else { Ok(()) }
}

/// What a NIK of 16 digits should be looked at for, on this day.
pub fn warnings(digits: &str, rules: &Rulebook, today: Date) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if !is_known_region(digits) {
        warnings.push(Warning::UnknownRegion);
    }
    match birth_dates(digits) {
        None => warnings.push(Warning::UnusualNik),
        Some(dates) => {
            if let Some(age) = dates
                .into_iter()
                .flatten()
                .map(|born| age(born, today))
                .find(|age| (0..=rules.oldest).contains(age))
                && age < i16::from(rules.adult)
            {
                warnings.push(Warning::Underage { age: u8::try_from(age).unwrap_or(0), adult: rules.adult });
            }
        }
    }
    warnings
}

/// The dates that day, month and two-digit year may mean, the later one first; `None` if there is no such day.
fn birth_dates(digits: &str) -> Option<[Option<Date>; 2]> {
    let part = |from: usize| digits.get(from..from + 2)?.parse::<u8>().ok();
    let (day, month, year) = (part(6)?, part(8)?, part(10)?);
    let day = if day > WOMAN { day - WOMAN } else { day };
    let date = |century: i16| {
        Date::new(century + i16::from(year), i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()
    };
    let dates = [date(2000), date(1900)];
    dates.iter().any(Option::is_some).then_some(dates)
}

/// Is there, or was there ever, a regency with these first four digits, that may have had a district with the next two?
///
/// A card keeps its number when its district is closed or its regency divided, so a list of today alone would bother
/// holders of old cards: 597 numbers below the highest are missing in 70 regencies.
fn is_known_region(digits: &str) -> bool {
    let part = |from: usize| digits.get(from..from + 2).and_then(|two| two.parse::<u8>().ok()).unwrap_or(0);
    let (province, regency, district) = (part(0), part(2), part(4));
    let found = REGENCIES.binary_search_by(|known| (known[0], known[1]).cmp(&(province, regency)));
    found.is_ok_and(|place| (1..=REGENCIES[place][2]).contains(&district))
}

/// Completed years.
fn age(born: Date, today: Date) -> i16 {
    let before_birthday = (today.month(), today.day()) < (born.month(), born.day());
    today.year() - born.year() - i16::from(before_birthday)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    const TODAY: Date = date(2026, 11, 24);

    #[test]
    fn numbers_that_were_typed_to_have_one_are_refused() {
        for digits in [
            "0000000000000000",
            "1111111111111111",
            "1234567890123456",
            "0123456789012345",
            "9876543210987654",
        ] {
            assert_eq!(check(digits), Err(Fault::NoSuchNik), "{digits}");
        }
        assert_eq!(check("3171010101900000"), Ok(()));
    }

    #[test]
    fn every_region_that_ever_was_is_known_and_few_others() {
        assert!(REGENCIES.is_sorted());
        for known in
            ["317101", "317108", "317410", "310102", "367101", "940101", "640401", "732501", "110101"]
        {
            assert!(is_known_region(known), "{known}");
        }
        for unknown in ["317100", "317109", "317601", "000000", "990101", "317111"] {
            assert!(!is_known_region(unknown), "{unknown}");
        }
        // Some whose districts no list has any more: any of them may have been.
        assert!(is_known_region("640499") && !is_known_region("640400"));
    }

    #[test]
    fn a_birthday_makes_the_difference() {
        let of = |digits: &str| warnings(digits, &Rulebook::default(), TODAY);
        assert_eq!(of("3171012411090000"), []);
        assert_eq!(of("3171012511090000"), [Warning::Underage { age: 16, adult: 17 }]);
        assert_eq!(of("3171016511090000"), [Warning::Underage { age: 16, adult: 17 }]);
        assert_eq!(of("3171010101900000"), []);
        assert_eq!(of("3171017511090000"), [Warning::UnusualNik]);
        assert_eq!(of("3171013102090000"), [Warning::UnusualNik]);
    }
}
