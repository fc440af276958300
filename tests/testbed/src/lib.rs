//! WhatsApp's server side, phones and a Supabase, real enough to test bot-kjp against.

pub mod phone;
pub mod supabase;
