//! Any text is read without a panic, no digit of a registered person is invented, and no number serves two people.

#![no_main]
#![allow(dead_code)]

#[path = "../../../src/personal.rs"]
mod personal;
#[path = "../../../src/registration/mod.rs"]
mod registration;

use jiff::civil::{Date, date};
use libfuzzer_sys::fuzz_target;
use registration::{Provider, Rulebook, people, text};

const TODAY: Date = date(2026, 11, 24);

fuzz_target!(|input: &str| {
    let cleaned = text::clean(input);
    // At one of the providers each, so that more are read.
    let provider = Provider::ALL[input.len() % Provider::ALL.len()];
    let reading = people::read_all(&Rulebook::default(), provider, [input], TODAY);
    let mut cards_and_niks = Vec::new();
    for person in reading.entries.iter().filter_map(|entry| entry.verdict.as_ref().ok()) {
        let numbers = [person.kjp.expose(), person.ktp.expose(), person.kk.expose()];
        assert!(numbers.iter().all(|number| stands_in(&cleaned, number)), "an invented digit");
        cards_and_niks.extend([numbers[0], numbers[1]]);
    }
    let people = cards_and_niks.len();
    cards_and_niks.sort_unstable();
    cards_and_niks.dedup();
    assert_eq!(cards_and_niks.len(), people, "a number that serves two people");
});

/// As one group of digits, or as groups with a single space, dot or dash between each.
fn stands_in(text: &str, number: &str) -> bool {
    let begins = |from: &str| {
        let mut rest = from;
        number.chars().enumerate().all(|(at, digit)| {
            if at > 0
                && let Some(behind) = rest.strip_prefix([' ', '.', '-'])
            {
                rest = behind;
            }
            rest.strip_prefix(digit).inspect(|behind| rest = behind).is_some()
        })
    };
    text.char_indices().any(|(at, _)| begins(&text[at..]))
}
