//! The ledger: everything that must survive, in one SQLite file. It knows people, days and
//! rows, and nothing of WhatsApp or HTTP.

pub mod database;

pub use database::{Database, LedgerError, OpenError};
