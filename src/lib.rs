//! bot-kjp

pub mod clock;
pub mod executor;
pub mod ledger;
pub mod net;
pub mod personal;
pub mod registration;
pub mod whatsapp;
pub mod worker;
