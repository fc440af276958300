//! Any text is read without a panic and in linear time, no digit of a registered person is invented, and no number
//! serves two people.

#![no_main]
#![allow(dead_code)]

#[path = "../../../src/personal.rs"]
mod personal;
#[path = "../../../src/registration/mod.rs"]
mod registration;
#[path = "../stands_in.rs"]
mod stands_in;

use std::sync::LazyLock;
use std::time::Duration;

use jiff::civil::{Date, date};
use libfuzzer_sys::fuzz_target;
use registration::{Provider, Rulebook, people, text};
use rustix::time::{ClockId, clock_gettime};
use stands_in::stands_in;

static RULES: LazyLock<Rulebook> = LazyLock::new(Rulebook::default);

const TODAY: Date = date(2026, 11, 24);

/// Bytes; the longest text that the desk accepts.
const LONGEST: usize = 16 * 1024;
/// Of so many texts one is repeated to `LONGEST` and timed, as that costs as much as a thousand others: six thousand
/// of a hundred million.
const ONE_IN: usize = 16_384;
/// A text four times as long may take so many times as long: linear is four, quadratic sixteen.
const LINEAR: u32 = 10;
/// How often it is looked again before that is believed: what else the machine does takes caches and speed away.
const LOOKS: u8 = 20;
/// What takes less is harmless, and too short to be compared.
const HARMLESS: Duration = Duration::from_millis(5);
/// The fastest counts: what else the machine does slows this down.
const TRIES: u8 = 5;

/// The processor time that this thread has had.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// What a text costs at best, in processor time.
fn cost(provider: Provider, text: &str) -> Duration {
    let once = |_| {
        let begun = processor_time();
        people::read_all(&RULES, provider, [text], TODAY);
        processor_time() - begun
    };
    (0..TRIES).map(once).min().unwrap_or_default()
}

fuzz_target!(|input: &str| {
    let cleaned = text::clean(input);
    // At one of the providers each, so that more are read.
    let provider = Provider::ALL[input.len() % Provider::ALL.len()];
    let reading = people::read_all(&RULES, provider, [input], TODAY);
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

    let sum: usize = input.bytes().map(usize::from).sum();
    if !input.is_empty() && sum % ONE_IN == 0 {
        let long = input.repeat(LONGEST / input.len());
        let quarter = input.repeat((LONGEST / 4 / input.len()).max(1));
        let is_linear = |_| {
            let cost_of_long = cost(provider, &long);
            cost_of_long < HARMLESS || cost_of_long <= cost(provider, &quarter) * LINEAR
        };
        assert!((0..LOOKS).any(is_linear), "not linear");
    }
});
