//! WhatsApp's server side, phones and a Supabase, real enough to test bot-kjp against.

pub mod authority;
pub mod baileys;
pub mod bench;
pub mod bot;
pub mod control;
pub mod customers;
pub mod demo;
pub mod dns;
mod http;
pub mod interrupt;
pub mod line;
mod listeners;
pub mod machine;
pub mod phone;
pub mod proxy;
mod redo_log;
pub mod supabase;
pub mod whatsapp;

pub use authority::Authority;
pub use dns::DnsServer;
pub use line::Line;
pub use proxy::Proxy;
pub use supabase::Supabase;
pub use whatsapp::{
    Addressing, Child, Demand, Fault, Handset, Lock, Options, SendAs, Shown, WhatsApp, text_message,
};
