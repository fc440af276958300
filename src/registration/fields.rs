//! Names, and what NIK and KK must be (RULES.md 5.1, 5.3). The texts are cleaned already.

use super::fault::{Fault, Field, NameFault};
use super::text;
use unicode_normalization::char::is_combining_mark;

/// Digits of a NIK and of a KK.
pub const NIK_DIGITS: usize = 16;
/// Most digits in a name: people tell namesakes apart by a number ("Ani 2"); a longer one belongs
/// on another line.
pub const NAME_MAX_DIGITS: usize = 5;

/// The name in a piece of text, as written: digits, brackets, apostrophes and case stay; marks, bullets and pictures
/// go.
pub fn name(text: &str) -> String {
    let kept = |c: char| {
        c.is_alphanumeric()
            || is_combining_mark(c)
            || matches!(c, '.' | '\'' | '’' | '‘' | '-' | '(' | ')' | '[' | ']' | '&')
    };
    let plain = text::collapse(&text.replace(|c: char| !kept(c), " "));
    let name = without_ordinal(&plain).trim_start_matches(['.', '-', ')', ']', '&', ' ']);
    let name = name.trim_end_matches(['-', '(', '[', '&', ' ', '\'']);
    without_lone_brackets(name).to_owned()
}

/// Brackets that have lost the other one.
fn without_lone_brackets(name: &str) -> &str {
    let count = |mark: char| name.matches(mark).count();
    let mut name = name;
    if count('(') < count(')') {
        name = name.strip_suffix(')').unwrap_or(name);
    } else if count('(') > count(')') {
        name = name.strip_prefix('(').unwrap_or(name);
    }
    name.trim()
}

/// What "same name" compares: lower-case `a-z`, `0-9` and single spaces.
pub fn canonical_name(name: &str) -> String {
    let lower = text::inline(name).to_lowercase();
    text::collapse(&lower.replace(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit(), " "))
}

/// Is this extracted name fit to be kept, and has it no more than so many characters?
pub fn check_name(name: &str, most: usize) -> Result<(), Fault> {
    if name.is_empty() {
        return Err(Fault::Missing(Field::Nama));
    }
    if name.chars().filter(char::is_ascii_digit).count() > NAME_MAX_DIGITS {
        return Err(Fault::Name(NameFault::HoldsNumber));
    }
    if !canonical_name(name).contains(|c: char| c.is_ascii_lowercase()) {
        return Err(Fault::Name(NameFault::NoLetters));
    }
    if name.chars().count() > most {
        return Err(Fault::Name(NameFault::TooLong { most }));
    }
    Ok(())
}

/// A NIK or KK must have exactly [`NIK_DIGITS`].
pub fn check_sixteen(field: Field, digits: &str) -> Result<(), Fault> {
    match digits.len() {
        NIK_DIGITS => Ok(()),
        0 => Err(Fault::Missing(field)),
        length => Err(Fault::Length { field, digits: length, least: NIK_DIGITS, most: NIK_DIGITS }),
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
    fn a_name_loses_marks_and_pictures_but_not_its_digits_or_brackets() {
        assert_eq!(name("Ani (2)"), "Ani (2)");
        assert_eq!(name("*Ani* 🙏"), "Ani");
        assert_eq!(name("• _Ani_ ~"), "Ani");
        assert_eq!(name("Ani Purnama, Hj."), "Ani Purnama Hj.");
        assert_eq!(name("Siti Nama'ah"), "Siti Nama'ah");
        assert_eq!(name("R.A. Dewi-Sri"), "R.A. Dewi-Sri");
        assert_eq!(name("(Ani"), "Ani");
        assert_eq!(name(":"), "");
    }

    #[test]
    fn a_list_number_is_not_part_of_a_name() {
        assert_eq!(name("1 Ani"), "Ani");
        assert_eq!(name("1.Ani"), "Ani");
        assert_eq!(name("12) Ani"), "Ani");
        assert_eq!(name("Ani 2"), "Ani 2");
        assert_eq!(name("123 Ani"), "123 Ani");
    }

    #[test]
    fn spacing_case_and_punctuation_do_not_make_a_different_name() {
        assert_eq!(canonical_name("ANI   d'Arc."), "ani d arc");
        assert_eq!(canonical_name("ani D Arc"), canonical_name("Ani-d.arc"));
    }

    #[test]
    fn a_number_on_the_name_line_is_not_taken_for_a_name() {
        assert_eq!(check_name("3171010101900000", 80), Err(Fault::Name(NameFault::HoldsNumber)));
        assert_eq!(check_name("Ani 3171010101900000", 80), Err(Fault::Name(NameFault::HoldsNumber)));
        assert_eq!(check_name("123", 80), Err(Fault::Name(NameFault::NoLetters)));
        assert_eq!(check_name("", 80), Err(Fault::Missing(Field::Nama)));
        assert_eq!(check_name(&"a".repeat(81), 80), Err(Fault::Name(NameFault::TooLong { most: 80 })));
        assert_eq!(check_name("Ani 2", 80), Ok(()));
    }

    proptest! {
        #[test]
        fn any_line_gives_some_name(line in ".{0,60}") {
            let name = name(&line);
            let canonical = canonical_name(&name);
            prop_assert_eq!(canonical_name(&canonical), canonical);
            let _ = check_name(&name, 80);
        }
    }
}
