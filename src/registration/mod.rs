//! Registration rules, pure: message text → people → verdicts. No I/O, no clock, no randomness.
//!
//! The rules stand in RULES.md beside this file, numbered. The way of a message: [`text`] cleans it, [`reading`] finds the
//! people in it, [`people`] judges each by the [`Rulebook`] with [`fields`], [`card`], [`nik`] and [`birth_date`]; what is
//! wrong is a [`Fault`], what should be looked at a [`Warning`]. Clashes with earlier messages of the day are not known here: the
//! ledger finds them (an [`Outcome`]), `desk::conclude` decides what is replied and `desk::wording` says it.

pub mod birth_date;
pub mod card;
pub mod day;
pub mod fault;
pub mod fields;
pub mod location;
pub mod nik;
pub mod opening_hours;
pub mod people;
pub mod person;
pub mod reading;
mod regions;
pub mod rulebook;
pub mod text;

pub use fault::{BirthDateFault, Fault, Field, NameFault, Warning};
pub use people::{Entry, Reading, Unreadable};
pub use person::{CardType, CardTypeSource, Clash, ClashField, Outcome, Person, Place, Provider};
pub use rulebook::Rulebook;
