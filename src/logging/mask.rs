//! Masking of numbers that could identify a person, in text of any origin.

use std::borrow::Cow;
use std::ops::Range;

use crate::personal::mask;

/// Longer numbers are masked. Indonesian phone numbers have at least ten digits (`registration/RULES.md` 1.5).
const LONGEST_HARMLESS: usize = 9;

/// Digits that each part of a number has at least when people write it in parts: `0812-3456-7890`,
/// `3171 0101 0101 0001`. Parts of a date or a time have two.
const SHORTEST_PART: usize = 3;

/// The same where a full stop parts them: those of an IPv4 address have three at most.
const SHORTEST_PART_BY_STOP: usize = 4;

/// How many digits stay visible; see [`mask`].
const VISIBLE: usize = 4;

/// Masks every number of ten digits or more: in one run, or in parts as people write phone, card and
/// identity numbers, with one space, dash or full stop between them.
pub(crate) fn mask_numbers(text: &str) -> Cow<'_, str> {
    let mut masked: Option<Vec<u8>> = None;
    let mut rest = 0;
    while let Some(start) = text[rest..].find(|c: char| c.is_ascii_digit()).map(|at| rest + at) {
        let parts = parts(text, start);
        rest = parts.last().map_or(text.len(), |part| part.end);
        for number in numbers(text, &parts) {
            // Digits and their separators are ASCII, so the text stays UTF-8.
            let bytes = masked.get_or_insert_with(|| text.as_bytes().to_vec());
            let digits: Vec<usize> = number.filter(|&at| text.as_bytes()[at].is_ascii_digit()).collect();
            for &at in &digits[..digits.len() - VISIBLE] {
                bytes[at] = b'*';
            }
        }
    }
    match masked.map(String::from_utf8) {
        Some(Ok(masked)) => Cow::Owned(masked),
        None => Cow::Borrowed(text),
        // Cannot be; better nothing than a number.
        Some(Err(_)) => Cow::Owned(mask(text)),
    }
}

/// Runs of digits from `start` on, with one separator between two of them.
fn parts(text: &str, start: usize) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let run = |start: usize| {
        let digits = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        start..start + digits
    };
    let mut parts = vec![run(start)];
    loop {
        let end = parts[parts.len() - 1].end;
        let parted = bytes.get(end).is_some_and(|byte| matches!(byte, b' ' | b'-' | b'.'));
        if !parted || !bytes.get(end + 1).is_some_and(u8::is_ascii_digit) {
            return parts;
        }
        parts.push(run(end + 1));
    }
}

/// The stretches of `parts` that are one number and long enough to be a person's.
fn numbers(text: &str, parts: &[Range<usize>]) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let international = parts[0].start > 0 && bytes[parts[0].start - 1] == b'+';
    let belongs = |place: usize, parted_by: u8| {
        let shortest = if parted_by == b'.' { SHORTEST_PART_BY_STOP } else { SHORTEST_PART };
        parts[place].len() >= shortest || place == 0 && international && parted_by != b'.'
    };
    let mut numbers = Vec::new();
    let (mut first, mut digits) = (0, parts[0].len());
    for place in 1..=parts.len() {
        let goes_on = parts.get(place).is_some_and(|part| {
            let parted_by = bytes[part.start - 1];
            belongs(place - 1, parted_by) && belongs(place, parted_by)
        });
        if goes_on {
            digits += parts[place].len();
            continue;
        }
        if digits > LONGEST_HARMLESS {
            numbers.push(parts[first].start..parts[place - 1].end);
        }
        first = place;
        digits = parts.get(place).map_or(0, Range::len);
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_phone_number_inside_a_jid_is_masked() {
        assert_eq!(
            mask_numbers("to 6280000000001:33@s.whatsapp.net failed (463)"),
            "to *********0001:33@s.whatsapp.net failed (463)"
        );
    }

    #[test]
    fn several_numbers_and_text_around_them() {
        assert_eq!(
            mask_numbers("3171010101900000, 3171010101100000!"),
            "************0000, ************0000!"
        );
        assert_eq!(mask_numbers("port 5432, 20 s"), "port 5432, 20 s");
        assert_eq!(mask_numbers(""), "");
    }

    #[test]
    fn numbers_are_masked_however_people_part_them() {
        for (text, masked) in [
            ("+62 800-0000-0001", "+** ***-****-0001"),
            ("telp 0800 0000 0001.", "telp **** **** 0001."),
            ("0800-000-001", "****-**0-001"),
            ("3171 0101 0190 0000", "**** **** **** 0000"),
            ("3171.0101.0190.0000", "****.****.****.0000"),
            ("317101-010190-0000", "******-******-0000"),
            ("5049 4885 0000 0000 3171 0101 0190 0000", "**** **** **** **** **** **** **** 0000"),
        ] {
            assert_eq!(mask_numbers(text), masked);
        }
    }

    #[test]
    fn dates_times_addresses_and_counts_stay_readable() {
        for text in [
            "2026-11-25 10:27:06",
            "2026-11-25 10 2026-11-26",
            "192.168.100.101:8788 and 255.255.255.255",
            "5 of 10 20 30 40 50 60 70",
            "1.1.1.1 8.8.8.8 9.9.9.9",
            "sqlite 3.54.1, schema 4, 200 rows, 35 days",
        ] {
            assert_eq!(mask_numbers(text), text);
        }
    }

    /// A number in parts of three digits or more.
    fn parted() -> impl Strategy<Value = String> {
        let part = "[0-9]{4,8}";
        (part, prop::collection::vec(("[ .-]", part), 1..5)).prop_filter_map("ten digits", |(first, more)| {
            let text = more.into_iter().fold(first, |text, (by, part)| text + &by + &part);
            let digits = text.bytes().filter(u8::is_ascii_digit).count();
            (digits > LONGEST_HARMLESS).then_some(text)
        })
    }

    proptest! {
        #[test]
        fn no_line_ever_shows_ten_digits_in_a_row(text in ".*", number in "[0-9]{10,20}", tail in ".*") {
            let line = format!("{text}{number}{tail}");
            let masked = mask_numbers(&line);
            let longest = masked.split(|c: char| !c.is_ascii_digit()).map(str::len).max().unwrap_or(0);
            prop_assert!(longest <= LONGEST_HARMLESS);
        }

        #[test]
        fn of_a_number_in_parts_four_digits_stay_at_most(text in "\\PC*[a-z]", number in parted(), tail in "[a-z]\\PC*") {
            let line = format!("{text}{number}{tail}");
            let masked = mask_numbers(&line).into_owned();
            prop_assert_eq!(masked.len(), line.len());
            let shown = &masked[text.len()..text.len() + number.len()];
            let visible = shown.bytes().filter(u8::is_ascii_digit).count();
            prop_assert!(visible <= VISIBLE, "{}", shown);
        }

        #[test]
        fn what_is_masked_stays_as_it_is(text in "\\PC*|[0-9 .+-]{0,60}") {
            let masked = mask_numbers(&text).into_owned();
            prop_assert_eq!(mask_numbers(&masked), masked.as_str());
        }
    }
}
