//! Clean-up of what people type (RULES.md §2).

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;

/// A message's text, cleaned and ready to be cut into [`lines`]. Idempotent.
///
/// Beyond RULES.md §2: control characters other than tab and line ends become spaces, because
/// PostgreSQL refuses U+0000 in text and no customer means any of them.
pub fn clean(text: &str) -> String {
    let visible = visible(text);
    if visible.contains('\r') {
        colons(visible.replace("\r\n", "\n").replace('\r', "\n").into()).into_owned()
    } else {
        colons(visible).into_owned()
    }
}

/// The lines of a cleaned text: trimmed, empty ones dropped.
pub fn lines(cleaned: &str) -> Vec<&str> {
    cleaned.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect()
}

/// Clean-up of a single value, such as a name: steps 1 to 4, whitespace collapsed.
pub fn inline(text: &str) -> String {
    collapse(&visible(text))
}

/// Runs of whitespace become one space; none is left at the ends.
pub fn collapse(text: &str) -> String {
    let mut collapsed = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !collapsed.is_empty() {
            collapsed.push(' ');
        }
        collapsed.push_str(word);
    }
    collapsed
}

/// Steps 1 to 3. Invisible characters go first: between a letter and its accent they would stop
/// NFKC from joining the two, and a second clean-up would then change the text again.
fn visible(text: &str) -> Cow<'_, str> {
    let plain = |c| match c {
        '\n' | '\r' | '\t' => c,
        _ if c.is_control() || is_space(c) => ' ',
        _ => c,
    };
    // Of ASCII nothing is invisible, and NFKC changes none of it.
    if text.bytes().all(|byte| matches!(byte, b'\n' | b'\r' | b'\t' | b' '..=b'~')) {
        return text.into();
    }
    text.chars().filter(|c| !is_invisible(*c)).nfkc().map(plain).collect()
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{061C}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}')
}

fn is_space(c: char) -> bool {
    matches!(c, '\u{A0}' | '\u{1680}' | '\u{2000}'..='\u{200A}' | '\u{202F}' | '\u{205F}' | '\u{3000}')
}

/// Steps 6 to 9: two or more dots and every `=` become `:`, runs of `:` become one, and a dot
/// between a digit and whitespace or the end vanishes.
fn colons(text: Cow<'_, str>) -> Cow<'_, str> {
    if !text.contains(['.', '=', ':']) {
        return text;
    }
    let mut cleaned = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let c = match c {
            '=' => ':',
            '.' if rest.peek() == Some(&'.') => {
                while rest.next_if_eq(&'.').is_some() {}
                ':'
            }
            other => other,
        };
        let after_digit = cleaned.ends_with(|last: char| last.is_ascii_digit());
        let before_gap = rest.peek().is_none_or(|next| next.is_whitespace());
        match c {
            ':' if cleaned.ends_with(':') => {}
            '.' if after_digit && before_gap => {}
            _ => cleaned.push(c),
        }
    }
    cleaned.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn invisible_characters_inside_numbers_vanish() {
        assert_eq!(clean("5049\u{200B}4885\u{202A}00\u{2066}000000\u{FEFF}\u{061C}"), "5049488500000000");
    }

    #[test]
    fn exotic_spaces_and_line_ends_become_ordinary_ones() {
        assert_eq!(lines(&clean("Ani\u{A0}B\r\n\u{3000}\r1\u{1680}2\n")), ["Ani B", "1 2"]);
    }

    #[test]
    fn full_width_digits_are_digits() {
        assert_eq!(clean("３１７１０１"), "317101");
    }

    #[test]
    fn dots_and_equals_signs_are_read_as_one_colon() {
        assert_eq!(clean("KJP..5049"), "KJP:5049");
        assert_eq!(clean("KJP…5049"), "KJP:5049");
        assert_eq!(clean("KJP=5049"), "KJP:5049");
        assert_eq!(clean("KJP::..=:5049"), "KJP:5049");
    }

    #[test]
    fn a_dot_after_a_number_goes_and_an_abbreviation_keeps_its_dot() {
        assert_eq!(clean("0000.\nHj. Ani"), "0000\nHj. Ani");
        assert_eq!(clean("1.2"), "1.2");
    }

    #[test]
    fn control_characters_never_reach_the_database() {
        assert_eq!(clean("A\0n\u{1b}i\t"), "A n i\t");
    }

    #[test]
    fn cleaning_any_single_character_twice_changes_nothing_more() {
        for c in '\0'..=char::MAX {
            let once = clean(&c.to_string());
            assert_eq!(clean(&once), once, "U+{:04X}", u32::from(c));
            assert!(!once.contains(is_invisible), "U+{:04X}", u32::from(c));
        }
    }

    proptest! {
        #[test]
        fn cleaning_twice_is_cleaning_once(text in "\\PC{0,80}|[\\.=: 0-9\\n\u{200B}\u{301}e]{0,40}|.{0,60}") {
            let once = clean(&text);
            prop_assert_eq!(clean(&once), once);
        }

        #[test]
        fn a_value_cleaned_twice_is_cleaned_once(text in ".{0,60}") {
            prop_assert_eq!(inline(&inline(&text)), inline(&text));
        }

        #[test]
        fn plain_text_is_cleaned_as_every_text_is(text in "[\\x00-\\x7F]{0,60}") {
            let more = format!("{text}é");
            let with_more = visible(&more);
            prop_assert_eq!(Some(&*visible(&text)), with_more.strip_suffix('é'));
        }
    }
}
