//! The subsidy card: its number (domain §2.4) and its kind (domain §3).

use super::fault::{Fault, Field};
use super::fields::without_ordinal;
use super::person::{CardType, CardTypeSource};

/// Every subsidy card starts with these digits.
pub const PREFIX: &str = "504948";
pub const MIN_DIGITS: usize = 16;
pub const MAX_DIGITS: usize = 18;
/// Digits of a card number that tell its kind.
const TYPE_PREFIX_DIGITS: usize = 8;

/// Cards whose first digits tell their kind.
const BY_PREFIX: [(&str, CardType, Force); 2] =
    [("50494885", CardType::Kjp, Force::Always), ("50494812", CardType::Kjp, Force::WhenUnwritten)];

/// Does the prefix also win against what the person wrote?
#[derive(Clone, Copy, PartialEq)]
enum Force {
    Always,
    WhenUnwritten,
}

/// What people write for each kind: words separated by single spaces.
const ALIASES: [(&str, CardType); 29] = [
    ("kjp", CardType::Kjp),
    ("kartu jakarta pintar", CardType::Kjp),
    ("kpj", CardType::Pekerja),
    ("pkj", CardType::Pekerja),
    ("pkja", CardType::Pekerja),
    ("pekerja", CardType::Pekerja),
    ("pekerja jakarta", CardType::Pekerja),
    ("kartu pekerja", CardType::Pekerja),
    ("kartu pekerja jakarta", CardType::Pekerja),
    ("lansia", CardType::Lansia),
    ("klj", CardType::Lansia),
    ("lns", CardType::Lansia),
    ("ls", CardType::Lansia),
    ("lanjut usia", CardType::Lansia),
    ("rusun", CardType::Rusun),
    ("rumah susun", CardType::Rusun),
    ("disabilitas", CardType::Disabilitas),
    ("penyandang disabilitas", CardType::Disabilitas),
    ("difabel", CardType::Disabilitas),
    ("cacat", CardType::Disabilitas),
    ("dasawisma", CardType::Dasawisma),
    ("dasa wisma", CardType::Dasawisma),
    ("dawis", CardType::Dasawisma),
    ("guru honorer", CardType::GuruHonorer),
    ("guruhonorer", CardType::GuruHonorer),
    ("guru", CardType::GuruHonorer),
    ("honorer", CardType::GuruHonorer),
    ("pjlp", CardType::Pjlp),
    ("kaj", CardType::Kaj),
];

/// The card number on a line: digits only, possibly none, possibly too many.
///
/// Groups of digits separated by spaces, dots or dashes are one number. A number is never cut to
/// fit: what is too long is refused by [`check_number`].
pub fn number(line: &str) -> String {
    let line = without_ordinal(line);
    let joinable = |c: char| matches!(c, ' ' | '.' | '-') || c.is_ascii_digit();
    for run in line.split(|c: char| !joinable(c)) {
        if let Some(number) = number_in_run(run) {
            return number;
        }
    }
    let digits: String = line.chars().filter(char::is_ascii_digit).collect();
    match digits.find(PREFIX) {
        Some(at) => digits[at..].to_owned(),
        None => digits,
    }
}

/// The card in a run of digit groups: from 504948 on, if at least a whole card follows.
fn number_in_run(run: &str) -> Option<String> {
    let groups: Vec<&str> = run.split([' ', '.', '-']).filter(|group| !group.is_empty()).collect();
    let digits = groups.concat();
    let at = digits.find(PREFIX)?;
    let number = &digits[at..];
    if number.len() < MIN_DIGITS {
        return None;
    }
    // A whole card followed by one lone digit: the digit numbers the card, it is not part of it.
    if let [.., card, lone] = groups[..]
        && lone.len() == 1
        && card.starts_with(PREFIX)
        && (MIN_DIGITS..=MAX_DIGITS).contains(&card.len())
    {
        return Some(card.to_owned());
    }
    Some(number.to_owned())
}

/// Length and prefix of a card number.
pub fn check_number(digits: &str) -> Result<(), Fault> {
    match digits.len() {
        0 => Err(Fault::Missing(Field::NoKjp)),
        MIN_DIGITS..=MAX_DIGITS if digits.starts_with(PREFIX) => Ok(()),
        MIN_DIGITS..=MAX_DIGITS => Err(Fault::CardPrefix),
        length => Err(Fault::Length { field: Field::NoKjp, digits: length }),
    }
}

/// The kind of card, from the text beside a well-formed number and the number's prefix.
pub fn card_type(line: &str, number: &str) -> Result<(CardType, CardTypeSource), Fault> {
    let words = words(line);
    let written = alias(&words);
    let mapped = number
        .get(..TYPE_PREFIX_DIGITS)
        .and_then(|prefix| BY_PREFIX.iter().find(|(known, ..)| *known == prefix));
    match (mapped, written) {
        (Some(&(_, by_prefix, Force::Always)), Some(written)) if written != by_prefix => {
            Ok((by_prefix, CardTypeSource::Correction))
        }
        (_, Some(written)) => Ok((written, CardTypeSource::Manual)),
        (Some(&(_, by_prefix, force)), None) if force == Force::Always || words.is_empty() => {
            Ok((by_prefix, CardTypeSource::Prefix))
        }
        (_, None) if words.is_empty() => Err(Fault::CardTypeUnknown),
        (_, None) => Err(Fault::CardTypeInvalid { written: words.join(" ") }),
    }
}

/// The letters of a line as lower-case words.
fn words(line: &str) -> Vec<String> {
    line.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

/// The right-most alias, the longest of those that end on the same word.
fn alias(words: &[String]) -> Option<CardType> {
    for end in (1..=words.len()).rev() {
        let longest = ALIASES
            .into_iter()
            .filter(|(alias, _)| ends_with(&words[..end], alias))
            .max_by_key(|(alias, _)| alias.len());
        if let Some((_, card_type)) = longest {
            return Some(card_type);
        }
    }
    None
}

fn ends_with(words: &[String], alias: &str) -> bool {
    let mut words = words.iter().rev();
    alias.split(' ').rev().all(|part| words.next().is_some_and(|word| word == part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const C16: &str = "5049488500000000";
    const C18: &str = "504948850000000000";
    const L16: &str = "5049488600000000";

    #[test]
    fn a_card_is_found_with_or_without_label_and_separators() {
        for line in [
            C16,
            "KJP C16",
            "No. KJP: C16",
            "kjp:C16 lansia",
            "KJP-C16",
            "KJP/ATM C16",
            "Kjp ( C16 )",
            "kjpC16",
            "KJP 2: C16",
            "5049 4885 0000 0000",
            "5049-4885-0000-0000",
            "5049.4885.0000.0000 kjp",
        ] {
            assert_eq!(number(&line.replace("C16", C16)), C16, "{line}");
        }
        assert_eq!(number(&format!("KJP {C18}")), C18);
        assert_eq!(number("5049 4885 0000 0000 00"), C18);
    }

    #[test]
    fn a_lone_digit_after_the_card_is_not_part_of_it() {
        assert_eq!(number(&format!("KJP {C16} 2")), C16);
        assert_eq!(number("5049 4885 0000 0000 2"), "50494885000000002");
    }

    #[test]
    fn a_card_of_more_than_18_digits_is_refused_and_not_cut() {
        let long = format!("{C18}0");
        assert_eq!(number(&long), long);
        assert_eq!(check_number(&long), Err(Fault::Length { field: Field::NoKjp, digits: 19 }));
    }

    #[test]
    fn length_is_judged_before_prefix() {
        assert_eq!(check_number(""), Err(Fault::Missing(Field::NoKjp)));
        assert_eq!(check_number(&C16[..15]), Err(Fault::Length { field: Field::NoKjp, digits: 15 }));
        assert_eq!(check_number("5049440000000000"), Err(Fault::CardPrefix));
        assert_eq!(check_number("504944"), Err(Fault::Length { field: Field::NoKjp, digits: 6 }));
        for length in [16, 17, 18] {
            assert_eq!(check_number(&C18[..length]), Ok(()));
        }
    }

    #[test]
    fn the_kjp_prefix_decides_against_the_text() {
        let kind = |line: &str| card_type(&line.replace("C16", C16), C16);
        assert_eq!(kind("C16"), Ok((CardType::Kjp, CardTypeSource::Prefix)));
        assert_eq!(kind("nomor kartu C16"), Ok((CardType::Kjp, CardTypeSource::Prefix)));
        assert_eq!(kind("KJP C16"), Ok((CardType::Kjp, CardTypeSource::Manual)));
        assert_eq!(kind("C16 LANSIA"), Ok((CardType::Kjp, CardTypeSource::Correction)));
    }

    #[test]
    fn another_mapped_prefix_decides_only_when_nothing_is_written() {
        let card = "5049481200000000";
        assert_eq!(card_type(card, card), Ok((CardType::Kjp, CardTypeSource::Prefix)));
        let written = format!("lansia {card}");
        assert_eq!(card_type(&written, card), Ok((CardType::Lansia, CardTypeSource::Manual)));
    }

    #[test]
    fn other_cards_need_a_known_kind_beside_the_number() {
        for (written, kind) in ALIASES {
            for line in [format!("{} {L16}", written.to_uppercase()), format!("{L16} {written}")] {
                assert_eq!(card_type(&line, L16), Ok((kind, CardTypeSource::Manual)), "{line}");
            }
        }
        assert_eq!(card_type(L16, L16), Err(Fault::CardTypeUnknown));
        let refused = |line: &str| card_type(line, L16);
        assert_eq!(refused("No kartu"), Err(Fault::CardTypeInvalid { written: "no kartu".into() }));
        assert_eq!(refused("kpdj"), Err(Fault::CardTypeInvalid { written: "kpdj".into() }));
    }

    #[test]
    fn the_right_most_and_longest_alias_wins() {
        let kind = |line: &str| card_type(line, L16).map(|(kind, _)| kind);
        assert_eq!(kind("lansia kjp"), Ok(CardType::Kjp));
        assert_eq!(kind("kjp lansia ya"), Ok(CardType::Lansia));
        assert_eq!(kind("kjp guru honorer"), Ok(CardType::GuruHonorer));
        assert_eq!(kind("kartu pekerja jakarta"), Ok(CardType::Pekerja));
    }

    proptest! {
        #[test]
        fn any_line_gives_a_number_of_digits_and_some_kind_or_fault(line in ".{0,60}|[504948 .x-]{0,60}") {
            let number = number(&line);
            prop_assert!(number.bytes().all(|digit| digit.is_ascii_digit()));
            let _ = card_type(&line, &number);
        }
    }
}
