//! The demo is a promise too: what it announces must come true.

use std::path::Path;

use super::bot::BOT;

#[test]
fn the_demo_keeps_every_promise() {
    testbed::demo::rehearse(Path::new(BOT), Box::new(std::io::sink())).unwrap();
}
