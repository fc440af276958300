use std::hint::black_box;

use jiff::civil::{Date, date};

use crate::registration::{Provider, people};

const TODAY: Date = date(2026, 11, 24);

pub fn read(text: &str) {
    let _ = black_box(people::read(Provider::DharmaJaya, [text], TODAY));
}
