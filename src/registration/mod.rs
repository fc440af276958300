//! Registration rules, pure: message text → people → verdicts. No I/O, no clock, no randomness.
//!
//! Rules and their numbering follow the domain description (field rules §2, validation §3, day §4).

pub mod day;
pub mod person;

pub use person::{CardType, CardTypeSource, Clash, ClashField, Outcome, Person, Place, Provider};
