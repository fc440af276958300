//! bot-kjp

pub mod clock;
pub mod ledger;
pub mod net;
pub mod personal;
pub mod registration;
pub mod supabase;
pub mod worker;
