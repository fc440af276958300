//! What families write is understood, and nobody wrong is ever registered.
//!
//! Invented messages with known meaning, the same ones each time; `MESSAGES` in the environment sets how many others of
//! each level are read, `SEED` which.

mod rules;
#[path = "../it/seed.rs"]
#[allow(dead_code)]
mod seed;
mod sloppy;

/// Small messages with the right answer; where `asking_is_as_good`, a question is one as well.
const CASES: &str = include_str!("cases.jsonl");

use bot_kjp::registration::{Person, Provider, Rulebook, people};
use jiff::civil::{Date, date};
use seed::Random;
use sloppy::{Level, Meant, Message};

/// Seeds of what is read each time, of each level.
const SEEDS: [u64; 4] = [1, 2, 3, 4];

/// Messages of each seed.
const MESSAGES: usize = 1_750;

/// Examples of what was not understood, that are shown.
const SHOWN: usize = 12;

const TODAY: Date = date(2026, 11, 24);

fn is(person: &Person, meant: &Meant, provider: Provider) -> bool {
    person.name_canonical == bot_kjp::registration::fields::canonical_name(&meant.nama)
        && person.kjp.expose() == meant.kjp
        && person.ktp.expose() == meant.ktp
        && person.kk.expose() == meant.kk
        && (provider != Provider::PasarJaya || person.tanggal_lahir == Some(meant.lahir))
        && (provider == Provider::PasarJaya
            || person.jenis_kartu.is_some_and(|(kind, _)| kind.stored() == meant.stored_kind()))
}

/// The messages of a level that are asked for, or those of every time.
fn messages(level: Level) -> Box<dyn Iterator<Item = Message>> {
    let number = |name| std::env::var(name).ok().and_then(|number| number.parse().ok());
    let of =
        move |mut random: Random, count: usize| (0..count).map(move |_| sloppy::message(&mut random, level));
    match (number("MESSAGES"), std::env::var_os("SEED")) {
        (None, None) => {
            Box::new(SEEDS.into_iter().flat_map(move |seed| of(Random::from_seed(seed), MESSAGES)))
        }
        (count, _) => Box::new(of(seed::announce(&format!("{level:?}")), count.unwrap_or(MESSAGES))),
    }
}

/// `aim`: of a hundred people, so many must be understood.
fn understood(level: Level, aim: f64) {
    let (mut people_meant, mut understood, mut wrong) = (0usize, 0usize, 0usize);
    let mut shown = 0;
    for message in messages(level) {
        let read = people::read(&Rulebook::default(), message.provider, [message.text.as_str()], TODAY);
        let registered: Vec<&Person> = match &read {
            Ok(read) => read.entries.iter().filter_map(|entry| entry.verdict.as_ref().ok()).collect(),
            Err(_) => Vec::new(),
        };
        let fits = |person: &&&Person| {
            message.people.iter().any(|meant| !meant.broken && is(person, meant, message.provider))
        };
        let strangers = registered.iter().filter(|person| !fits(person)).count();
        let mut right = 0;
        for meant in &message.people {
            let found = registered.iter().any(|person| is(person, meant, message.provider));
            right += usize::from(found != meant.broken);
        }
        people_meant += message.people.len();
        understood += right;
        wrong += strangers;
        if (right < message.people.len() || strangers > 0) && shown < SHOWN {
            shown += 1;
            println!(
                "---- {:?}{}\n{}\n=> {}",
                message.provider,
                if strangers > 0 { " WRONG" } else { "" },
                message.text,
                bot_kjp::cli::read::json(&Rulebook::default(), message.provider, &message.text, TODAY)
            );
        }
    }
    let share = 100.0 * understood as f64 / people_meant as f64;
    println!(
        "{level:?}: {understood} of {people_meant} people understood ({share:.3} %), {wrong} registered wrongly"
    );
    assert_eq!(wrong, 0, "nobody wrong is registered");
    assert!(share >= aim, "{share:.3} % understood, {aim} % wanted");
}

#[test]
fn what_the_format_allows_is_understood() {
    understood(Level::A, 99.95);
}

#[test]
fn greetings_numbering_and_a_broken_line_cost_nobody_else() {
    understood(Level::B, 99.9);
}

#[test]
fn people_who_never_saw_a_format_are_understood() {
    understood(Level::C, 99.5);
}

#[test]
fn every_case_has_its_answer() {
    for line in CASES.lines() {
        let case: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let text = case["text"].as_str().expect("a text");
        let provider = Provider::named(case["provider"].as_str().expect("a provider")).expect("a known one");
        let answer: serde_json::Value =
            serde_json::from_str(&bot_kjp::cli::read::json(&Rulebook::default(), provider, text, TODAY))
                .expect("JSON");
        let found = answer["people"].as_array().expect("people");
        let asks = case["asking_is_as_good"] == true
            && found.iter().any(|person| person["errors"] != serde_json::json!([]));
        let wanted = case["people"].as_array().expect("people");
        let fits = found.len() == wanted.len()
            && wanted.iter().zip(found).all(|(wanted, found)| {
                let errors = wanted.get("errors").cloned().unwrap_or_else(|| serde_json::json!([]));
                found["errors"] == errors
                    && wanted.as_object().expect("fields").iter().all(|(field, value)| found[field] == *value)
            });
        assert!(fits || asks, "{}:\n{text}\nwanted {wanted:?}\nfound  {found:?}", case["why"]);
    }
}
