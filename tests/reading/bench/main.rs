//! Messages that are read per second on one core, and what a byte of the longest text costs against a byte of a plain
//! message: of people, and of the piece that costs most when it is repeated.

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

/// What is repeated to the longest text: what a reader has to look ahead or back for.
const REPEATED: [&str; 24] = [
    "a.", "k.k.", "a.n.", "a/n ", "nama:", "Nama: kjp ", "nama siswa/i ", "no ", "kartu keluarga ", "08123456789,", "1-1-1 ",
    "12 34 ", "1x1x", "1/2 ", "1\u{FE0F}\u{20E3} a\n", "(", "-", "a,", "a\t", "a:a ", "Ani\n\n", "KK 3171010101100000\n\n",
    "Ani\n5049488500000000\n\n", "5049488500000000\n3171010101900000\n3171010101100000\nAni\n",
];

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

/// Nanoseconds for a byte.
fn cost(text: &str, rounds: u32) -> f64 {
    let begun = Instant::now();
    for _ in 0..rounds {
        reader::read(black_box(text));
    }
    begun.elapsed().as_secs_f64() * 1e9 / (f64::from(rounds) * text.len() as f64)
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
    let worst = REPEATED.map(|piece| (cost(&piece.repeat(LONGEST / piece.len()), 3), piece));
    let (most, piece) = worst.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or_default();
    println!("{small:.0} {of_small:.1} {of_large:.1} {:.2} {most:.1} {piece:?}", of_large / of_small);
}
