//! Numbers that identify a person, typed so that they cannot be printed by accident.
//!
//! None of these types implements `Display`; `Debug` shows the last four digits only. Whoever
//! needs the whole number (SQLite, Supabase, a reply to the person who sent it) says
//! [`expose`](Nik::expose), which is easy to find in a review.

use std::fmt;

/// How many trailing digits of a personal number a log may show (domain §12, "masked numbers").
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
    /// Phone number in canonical form: digits only, starting with the country code (domain §1).
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
}
