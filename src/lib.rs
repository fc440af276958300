//! bot-kjp

pub mod clock;
pub mod ledger;
pub mod personal;
pub mod worker;
