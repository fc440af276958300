//! What may be decided otherwise about registrations, as one value that is handed in: the file of settings says it.

use std::ops::RangeInclusive;

use super::person::{CardType, CardTypeSource};

/// Digits of a card number that tell its kind.
pub const PREFIX_DIGITS: usize = 8;

/// Most prefixes that tell a kind of card: several times as many as there are kinds.
pub const MOST_PREFIXES: usize = 100;

/// Most people that one submission may hold: with every verdict explained, the answer still fits
/// one readable WhatsApp message.
pub const MOST_PEOPLE: usize = 30;

/// Cards that begin so are of this kind, whatever is written beside them (RULES.md 5.2).
const ALWAYS: (&str, CardType) = ("50494885", CardType::Kjp);

/// The first digits of cards of one kind: [`PREFIX_DIGITS`] of them, which begin as every card does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardPrefix {
    digits: String,
    kind: CardType,
}

impl CardPrefix {
    /// `None` if no card begins so, or if cards that begin so are of another kind always.
    pub fn new(digits: &str, kind: CardType) -> Option<Self> {
        let is_prefix = digits.len() == PREFIX_DIGITS
            && digits.bytes().all(|digit| digit.is_ascii_digit())
            && digits.starts_with(super::card::PREFIX);
        let contradicts = digits == ALWAYS.0 && kind != ALWAYS.1;
        (is_prefix && !contradicts).then(|| Self { digits: digits.to_owned(), kind })
    }

    pub fn digits(&self) -> &str {
        &self.digits
    }

    pub fn kind(&self) -> CardType {
        self.kind
    }
}

/// What may be decided otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rulebook {
    /// Cards of which the kind is known where nothing is written; of several with the same digits the first counts. At
    /// most [`MOST_PREFIXES`].
    pub card_prefixes: Vec<CardPrefix>,
    /// Digits of a card number.
    pub card_digits: RangeInclusive<usize>,
    /// Longest name kept, in characters: longer than any on an identity card, short enough for a reply.
    pub name_characters: usize,
    /// Nobody who fetches food was born in an earlier year.
    pub earliest_year: i16,
    /// Younger people are registered with a warning, in completed years.
    pub adult: u8,
    /// Oldest age that the two digits of a year are read as, in years.
    pub oldest: i16,
    /// People in one submission, 1 to [`MOST_PEOPLE`].
    pub most_people: usize,
}

impl Default for Rulebook {
    fn default() -> Self {
        Self {
            card_prefixes: CardPrefix::new("50494812", CardType::Kjp).into_iter().collect(),
            card_digits: 16..=18,
            name_characters: 80,
            earliest_year: 1900,
            adult: 17,
            oldest: 120,
            most_people: MOST_PEOPLE,
        }
    }
}

impl Rulebook {
    /// The kind of a well-formed card number and how it was decided; `None` if neither the number nor what was
    /// written tells it.
    pub fn kind(&self, number: &str, written: Option<CardType>) -> Option<(CardType, CardTypeSource)> {
        if number.starts_with(ALWAYS.0) {
            let source = match written {
                None => CardTypeSource::Prefix,
                Some(written) if written == ALWAYS.1 => CardTypeSource::Manual,
                Some(_) => CardTypeSource::Correction,
            };
            return Some((ALWAYS.1, source));
        }
        let by_prefix = || self.card_prefixes.iter().find(|prefix| number.starts_with(&prefix.digits));
        match written {
            Some(written) => Some((written, CardTypeSource::Manual)),
            None => by_prefix().map(|prefix| (prefix.kind, CardTypeSource::Prefix)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const C16: &str = "5049488500000000";
    const L16: &str = "5049488600000000";

    #[test]
    fn the_kjp_prefix_decides_against_the_text() {
        let rules = Rulebook::default();
        assert_eq!(rules.kind(C16, None), Some((CardType::Kjp, CardTypeSource::Prefix)));
        assert_eq!(rules.kind(C16, Some(CardType::Kjp)), Some((CardType::Kjp, CardTypeSource::Manual)));
        assert_eq!(
            rules.kind(C16, Some(CardType::Lansia)),
            Some((CardType::Kjp, CardTypeSource::Correction))
        );
    }

    #[test]
    fn another_prefix_decides_only_when_nothing_is_written() {
        let rules = Rulebook::default();
        let card = "5049481200000000";
        assert_eq!(rules.kind(card, None), Some((CardType::Kjp, CardTypeSource::Prefix)));
        assert_eq!(
            rules.kind(card, Some(CardType::Lansia)),
            Some((CardType::Lansia, CardTypeSource::Manual))
        );
    }

    #[test]
    fn a_card_of_no_known_prefix_is_of_the_kind_that_is_written_or_of_none() {
        let mut rules = Rulebook::default();
        assert_eq!(rules.kind(L16, Some(CardType::Kaj)), Some((CardType::Kaj, CardTypeSource::Manual)));
        assert_eq!(rules.kind(L16, None), None);
        rules.card_prefixes.extend(CardPrefix::new("50494886", CardType::Lansia));
        assert_eq!(rules.kind(L16, None), Some((CardType::Lansia, CardTypeSource::Prefix)));
    }

    #[test]
    fn a_prefix_is_eight_digits_that_begin_a_card() {
        for wrong in ["5049488", "504948850", "50494785", "5049488x", ""] {
            assert_eq!(CardPrefix::new(wrong, CardType::Kaj), None, "{wrong}");
        }
        assert!(CardPrefix::new("50494885", CardType::Kjp).is_some());
        assert_eq!(CardPrefix::new("50494885", CardType::Lansia), None, "these are KJP always");
    }
}
