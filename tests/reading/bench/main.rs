//! Messages that are read per second on one core, and what a byte of the longest text costs against a byte of a plain
//! message.

#![allow(dead_code)]

mod personal;
/// What differs between the two.
mod reader;
mod registration;

use std::hint::black_box;
use std::time::{Duration, Instant};

/// Longest text that the bot reads, in bytes.
const LONGEST: usize = 16 * 1024;

const MEASURED: Duration = Duration::from_secs(1);

/// Texts per second.
fn rate(texts: &[String]) -> f64 {
    let mut read = 0usize;
    let begun = Instant::now();
    while begun.elapsed() < MEASURED {
        for text in texts {
            reader::read(black_box(text));
        }
        read += texts.len();
    }
    read as f64 / begun.elapsed().as_secs_f64()
}

fn person(number: usize) -> String {
    format!("Ani {}\nKJP 50494885{number:04}0000\n31710101{number:04}0000\n3171010101100000", number % 1000)
}

fn main() {
    let plain: Vec<String> = (0..64).map(person).collect();
    let many: Vec<String> = (0..LONGEST / 64).map(|number| person(number % 10_000)).collect();
    let mut longest = many.join("\n\n");
    longest.truncate(LONGEST);
    let (small, large) = (rate(&plain), rate(std::slice::from_ref(&longest)));
    let bytes = plain.iter().map(String::len).sum::<usize>() as f64 / plain.len() as f64;
    let per_byte = |rate: f64, bytes: f64| 1e9 / (rate * bytes);
    let (of_small, of_large) = (per_byte(small, bytes), per_byte(large, longest.len() as f64));
    println!("{small:.0} {of_small:.1} {of_large:.1} {:.2}", of_large / of_small);
}
