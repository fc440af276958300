//! WhatsApp: whatsapp-rust, what it stands on, and the way of messages in and out.

pub mod acks;
pub mod activity;
pub mod backlog;
pub mod connection;
pub mod content;
pub mod endpoint;
pub mod http_client;
pub mod inbox;
pub mod kept_answers;
pub mod missing_messages;
pub mod outbox;
pub mod owed_answers;
pub mod pace;
pub mod reachout;
pub mod refusal;
pub mod runtime;
pub mod session_store;
pub mod transport;

pub use connection::Connection;
pub use kept_answers::KeptAnswers;
pub use session_store::SessionStore;
