//! Registration rules, pure: message text → people → verdicts. No I/O, no clock, no randomness.
//!
//! Rules and their numbering follow the domain description (field rules §2, validation §3, day §4).
//! The way of a message: [`text`] cleans it and cuts it into lines, [`people`] groups the lines
//! and judges each person with [`fields`], [`card`] and [`birth_date`]; what is wrong is a
//! [`Fault`]. Clashes with earlier messages of the day are not known here: the ledger finds them
//! (an [`Outcome`]), `desk::conclude` decides what is replied and `desk::wording` says it.

pub mod birth_date;
pub mod card;
pub mod day;
pub mod fault;
pub mod fields;
pub mod location;
pub mod opening_hours;
pub mod people;
pub mod person;
pub mod text;

pub use fault::{BirthDateFault, Fault, Field, NameFault};
pub use people::{Entry, Reading, Unreadable};
pub use person::{CardType, CardTypeSource, Clash, ClashField, Outcome, Person, Place, Provider};
