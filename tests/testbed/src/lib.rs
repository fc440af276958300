//! WhatsApp's server side, phones and a Supabase, real enough to test bot-kjp against.

pub mod bench;
pub mod bot;
pub mod customers;
pub mod demo;
pub mod interrupt;
