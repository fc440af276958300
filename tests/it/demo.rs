//! The demo is a promise too: what it announces must come true.

use super::bot::program;
use super::scene::enough_of_today;

#[test]
fn the_demo_keeps_every_promise() {
    enough_of_today();
    testbed::demo::rehearse(&program(), Box::new(std::io::sink())).unwrap();
}
