//! Any text is read without a panic, no digit of a registered person is invented, and no number serves two people.

#![no_main]
#![allow(dead_code)]

#[path = "../../../src/personal.rs"]
mod personal;
#[path = "../../../src/registration/mod.rs"]
mod registration;
#[path = "../stands_in.rs"]
mod stands_in;

use jiff::civil::{Date, date};
use libfuzzer_sys::fuzz_target;
use registration::{Provider, Rulebook, people, text};
use stands_in::stands_in;

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
