//! bot-kjp

pub mod cli;
pub mod clock;
pub mod config;
pub mod ledger;
pub mod net;
pub mod personal;
pub mod registration;
pub mod worker;
