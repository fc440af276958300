//! Numbers that identify a person, typed so that they cannot be printed by accident.
//!
//! None of these types implements `Display`; `Debug` shows the last four digits only. Whoever
//! needs the whole number (SQLite, Supabase, a reply to the person who sent it) says
//! [`expose`](Nik::expose), which is easy to find in a review.

use std::fmt;

/// How many trailing digits of a personal number a log may show (`registration/RULES.md` 11.1).
const VISIBLE_DIGITS: usize = 4;

/// Replaces all but the last four characters by `*`; text of four characters or fewer vanishes.
pub fn mask(number: &str) -> String {
    let length = number.chars().count();
    if length <= VISIBLE_DIGITS {
        return "*".repeat(length);
    }
    let hidden = length - VISIBLE_DIGITS;
    number.chars().enumerate().map(|(place, c)| if place < hidden { '*' } else { c }).collect()
}

macro_rules! personal_number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Wraps digits that were already checked by the rule that produced them.
            pub fn new(digits: impl Into<String>) -> Self {
                Self(digits.into())
            }

            /// The whole number. Never pass it to a log, a metric, an error or an alert.
            pub fn expose(&self) -> &str {
                &self.0
            }

            /// The number with all but its last four digits hidden: fit for a log.
            pub fn masked(&self) -> String {
                mask(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.masked())
            }
        }
    };
}

personal_number!(
    /// NIK, the 16-digit number of an identity card (KTP).
    Nik
);
personal_number!(
    /// KK, the 16-digit number of a family card.
    Kk
);
personal_number!(
    /// Number of a subsidy card, 16 to 18 digits starting with 504948 (`no_kjp`).
    CardNumber
);
personal_number!(
    /// Phone number in canonical form: digits only, starting with the country code (`registration/RULES.md` 1.5).
    PhoneNumber
);

/// Text as a customer wrote it: it may hold any of the numbers above, so `Debug` tells its length only.
#[derive(Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Written(String);

impl Written {
    /// The text itself. Never pass it to a log, a metric, an error or an alert.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Written {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Written {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Written({} characters)", self.0.chars().count())
    }
}

/// Bounds of an Indonesian phone number with its country code, in digits (`registration/RULES.md` 1.5).
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 10..=15;

/// Why text is not an Indonesian phone number. The text itself is never repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PhoneNumberError {
    #[error("not a phone number; write digits only, as 62812… or 0812…")]
    NotANumber,
    #[error("not an Indonesian phone number; it starts with 62 (or 0, or 8)")]
    NotIndonesian,
    #[error("a phone number of {digits} digits; with its country code 62 it has {} to {}", PHONE_DIGITS.start(), PHONE_DIGITS.end())]
    Length { digits: usize },
}

impl PhoneNumber {
    /// The canonical form of an Indonesian number as people write it: `0812…`, `812…`, `62812…`
    /// or `+62 812-…`, with spaces, dots, dashes and brackets between the digits (`registration/RULES.md` 1.5).
    ///
    /// # Errors
    /// Other characters, another country, fewer than 10 or more than 15 digits.
    pub fn parse(written: &str) -> Result<Self, PhoneNumberError> {
        let written = written.trim();
        let (national, rest) = match written.strip_prefix('+') {
            Some(rest) => (false, rest),
            None => (true, written),
        };
        let mut digits = String::with_capacity(*PHONE_DIGITS.end());
        for c in rest.chars() {
            match c {
                '0'..='9' => digits.push(c),
                ' ' | '.' | '-' | '(' | ')' => {}
                _ => return Err(PhoneNumberError::NotANumber),
            }
        }
        if digits.is_empty() {
            return Err(PhoneNumberError::NotANumber);
        }
        let canonical = match digits.as_bytes()[0] {
            b'0' if national => format!("62{}", &digits[1..]),
            b'8' if national => format!("62{digits}"),
            _ => digits,
        };
        // The number after a country code never starts with the 0 of the written national form.
        if !canonical.starts_with("62") || canonical.starts_with("620") {
            return Err(PhoneNumberError::NotIndonesian);
        }
        if !PHONE_DIGITS.contains(&canonical.len()) {
            return Err(PhoneNumberError::Length { digits: canonical.len() });
        }
        Ok(Self(canonical))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_never_holds_a_whole_number() {
        let nik = Nik::new("3171010101900000");
        assert_eq!(format!("{nik:?}"), "Nik(************0000)");
        assert_eq!(format!("{:?}", PhoneNumber::new("6280000000001")), "PhoneNumber(*********0001)");
        assert_eq!(format!("{:?}", Written::from("KTP 3171010101900000")), "Written(20 characters)");
    }

    #[test]
    fn short_text_is_hidden_whole() {
        assert_eq!(mask("1234"), "****");
        assert_eq!(mask(""), "");
    }

    #[test]
    fn a_phone_number_has_one_canonical_form() {
        for written in [
            "6280000000001",
            "+6280000000001",
            "080000000001",
            "80000000001",
            " +62 (800) 0000-0001 ",
            "0800.0000.0001",
        ] {
            assert_eq!(PhoneNumber::parse(written), Ok(PhoneNumber::new("6280000000001")), "{written}");
        }
    }

    #[test]
    fn what_is_not_an_indonesian_phone_number_is_refused() {
        use PhoneNumberError::{Length, NotANumber, NotIndonesian};
        for (written, error) in [
            ("", NotANumber),
            ("+", NotANumber),
            ("62800000000O1", NotANumber),
            ("++6280000000001", NotANumber),
            ("+15550000001", NotIndonesian),
            ("+080000000001", NotIndonesian),
            ("620800000000", NotIndonesian),
            ("628000000", Length { digits: 9 }),
            ("6280000000000001", Length { digits: 16 }),
        ] {
            assert_eq!(PhoneNumber::parse(written), Err(error), "{written}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_parsed_phone_number_parses_to_itself(written in "[+0-9 .-]{0,20}|\\PC{0,20}") {
            if let Ok(number) = PhoneNumber::parse(&written) {
                proptest::prop_assert!(number.expose().starts_with("62"));
                proptest::prop_assert!(PHONE_DIGITS.contains(&number.expose().len()));
                proptest::prop_assert_eq!(PhoneNumber::parse(number.expose()), Ok(number.clone()));
            }
        }
    }
}
