//! WhatsApp: what whatsapp-rust needs from us.

pub mod endpoint;
pub mod http_client;
pub mod kept_answers;
pub mod runtime;
pub mod transport;
