//! WhatsApp: whatsapp-rust, and what we give it to stand on.

pub mod kept_answers;
pub mod session_store;

pub use kept_answers::KeptAnswers;
pub use session_store::SessionStore;
