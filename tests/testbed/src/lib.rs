//! WhatsApp's server side, phones and a Supabase, real enough to test bot-kjp against.

pub mod baileys;
pub mod bench;
pub mod bot;
pub mod control;
pub mod customers;
pub mod demo;
pub mod interrupt;
pub mod phone;
pub mod supabase;
pub mod whatsapp;

pub use supabase::Supabase;
pub use whatsapp::{Addressing, Child, Fault, Handset, Options, SendAs, Shown, WhatsApp, text_message};
