//! Name, NIK and KK out of their lines (domain §2.4). The lines are cleaned already.

use super::fault::{Fault, Field, NameFault};
use super::text;

/// Digits of a NIK and of a KK.
pub const NIK_DIGITS: usize = 16;
/// Longest name kept, in characters: longer than any on an identity card, short enough for a reply.
pub const NAME_MAX_CHARS: usize = 80;
/// Most digits in a name: people tell namesakes apart by a number ("Ani 2"); a longer one belongs
/// on another line.
pub const NAME_MAX_DIGITS: usize = 5;

/// Words beside a name that do not belong to it, longest phrases first.
const NOT_NAME: [&str; 7] =
    ["kecamatan cengkareng", "mini dc cengkareng", "rusun pesakih", "rusunpesakih", "kedoya", "nama", "nm"];

/// The name on a line, as written: digits, brackets and case stay.
pub fn name(line: &str) -> String {
    let mut name = text::collapse(&line.replace(['=', ':', ';', ','], " "));
    for phrase in NOT_NAME {
        name = text::replace_phrase(&name, phrase, " ");
    }
    without_ordinal(&text::collapse(&name)).to_owned()
}

/// What "same name" compares: lower-case `a-z`, `0-9` and single spaces.
pub fn canonical_name(name: &str) -> String {
    let lower = text::inline(name).to_lowercase();
    text::collapse(&lower.replace(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit(), " "))
}

/// Is this extracted name fit to be kept?
pub fn check_name(name: &str) -> Result<(), Fault> {
    if name.is_empty() {
        return Err(Fault::Missing(Field::Nama));
    }
    if name.chars().filter(char::is_ascii_digit).count() > NAME_MAX_DIGITS {
        return Err(Fault::Name(NameFault::HoldsNumber));
    }
    if !canonical_name(name).contains(|c: char| c.is_ascii_lowercase()) {
        return Err(Fault::Name(NameFault::NoLetters));
    }
    if name.chars().count() > NAME_MAX_CHARS {
        return Err(Fault::Name(NameFault::TooLong));
    }
    Ok(())
}

/// All digits of a line, joined, without a list number in front. Where it is unclear whether the
/// first digits are one, they are taken for one: a refused number is sent again, a wrong one is not
/// noticed.
pub fn digits(line: &str) -> String {
    let line = without_ordinal(line);
    let numbers = line.trim_start_matches(|c: char| !c.is_ascii_digit());
    let rest = numbers.trim_start_matches(|c: char| c.is_ascii_digit());
    let of = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
    let others = of(rest);
    if numbers.len() - rest.len() <= 2 && others.len() >= NIK_DIGITS - 1 { others } else { of(line) }
}

/// A NIK or KK must have exactly [`NIK_DIGITS`].
pub fn check_sixteen(field: Field, digits: &str) -> Result<(), Fault> {
    match digits.len() {
        NIK_DIGITS => Ok(()),
        0 => Err(Fault::Missing(field)),
        length => Err(Fault::Length { field, digits: length }),
    }
}

/// Drops a list number of one or two digits in front of words: `1. Ani`, `2) KJP …`, `3 NIK …`.
pub fn without_ordinal(line: &str) -> &str {
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let ordinal = line.len() - rest.len();
    let words = rest.trim_start_matches(['.', ')', ' ']);
    let separated = words.len() < rest.len();
    if (1..=2).contains(&ordinal) && separated && words.starts_with(char::is_alphabetic) {
        words
    } else {
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_loses_its_label_and_the_place_but_not_its_digits_or_brackets() {
        assert_eq!(name("Nama: Ani (2)"), "Ani (2)");
        assert_eq!(name("nm=Ani"), "Ani");
        assert_eq!(name("Ani Purnama, Hj."), "Ani Purnama Hj.");
        assert_eq!(name("Ani Mini  DC Cengkareng"), "Ani");
        assert_eq!(name("ANI rusun pesakih"), "ANI");
        assert_eq!(name("nama :"), "");
    }

    #[test]
    fn a_list_number_is_not_part_of_a_name_or_number() {
        assert_eq!(name("1 Ani"), "Ani");
        assert_eq!(name("1.Ani"), "Ani");
        assert_eq!(name("12) Ani"), "Ani");
        assert_eq!(name("Ani 2"), "Ani 2");
        assert_eq!(name("123 Ani"), "123 Ani");
        assert_eq!(digits("3. NIK 3171010101900000"), "3171010101900000");
        assert_eq!(digits("31 71010101900000"), "3171010101900000");
        assert_eq!(digits("3 3171010101900000"), "3171010101900000");
        assert_eq!(digits("3. NIK 4: 317101010190000"), "317101010190000", "and not another NIK");
    }

    #[test]
    fn spacing_case_and_punctuation_do_not_make_a_different_name() {
        assert_eq!(canonical_name("ANI   d'Arc."), "ani d arc");
        assert_eq!(canonical_name("ani D Arc"), canonical_name("Ani-d.arc"));
    }

    #[test]
    fn a_number_on_the_name_line_is_not_taken_for_a_name() {
        assert_eq!(check_name("3171010101900000"), Err(Fault::Name(NameFault::HoldsNumber)));
        assert_eq!(check_name("Ani 3171010101900000"), Err(Fault::Name(NameFault::HoldsNumber)));
        assert_eq!(check_name("123"), Err(Fault::Name(NameFault::NoLetters)));
        assert_eq!(check_name(""), Err(Fault::Missing(Field::Nama)));
        assert_eq!(check_name(&"a".repeat(81)), Err(Fault::Name(NameFault::TooLong)));
        assert_eq!(check_name("Ani 2"), Ok(()));
    }

    proptest! {
        #[test]
        fn any_line_gives_some_name(line in ".{0,60}") {
            let name = name(&line);
            let canonical = canonical_name(&name);
            prop_assert_eq!(canonical_name(&canonical), canonical);
            prop_assert!(digits(&line).bytes().all(|digit| digit.is_ascii_digit()));
            let _ = check_name(&name);
        }
    }
}
