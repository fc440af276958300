//! WhatsApp's server side.
//!
//! One port answers HTTP and WebSocket, plain and TLS. Behind it stands one [`world::World`]:
//! accounts with a primary phone each, their companions, queues, groups and media. It knows no
//! sockets and no clock; a [`world::Hub`] lets one event in at a time. The phones are real parties
//! of the Signal protocol, so that everything between them and a client is end-to-end encrypted.
//!
//! A client finds its account by the name in its registration. Some names switch behaviours of their
//! account: see [`scenario`].
//!
//! What is not here: contacts, calls, newsletters, statuses beyond routing, payments. What a client
//! asks for that is not here is refused with 501. State lives as long as the server.

mod accounts;
mod api;
mod appstate;
mod communities;
mod faults;
mod groups;
mod iq;
#[cfg(test)]
mod linked;
mod login;
mod media;
pub(crate) mod noise;
mod pairing;
mod passkey;
mod peer;
mod picture;
mod prekeys;
mod presence;
mod primary;
mod queue;
mod reachout;
mod receipts;
mod relay;
pub mod scenario;
mod socket;
mod stanza;
mod usync;
mod world;

pub use accounts::Addressing;
pub use api::{Handset, Options, WhatsApp};
pub use faults::{Child, Fault};
pub use passkey::Demand;
pub use primary::{SendAs, Shown, text_message};
pub use reachout::Lock;
