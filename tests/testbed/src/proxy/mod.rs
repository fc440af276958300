//! A TCP proxy that misbehaves on command: what a home line, a provider's box or a dying server does
//! to a connection.
//!
//! It listens on one address and passes everything on to another, byte for byte; with
//! [`Options::tls`] it ends TLS itself, so that a server that speaks none stands behind a real name.
//! [`Fault`] lists what can go wrong, for connections to come, for open ones or for both.

mod connection;
mod fault;
mod server;

pub use fault::{Direction, Fault, When, Whom};
pub use server::{Counts, Options, Proxy, Tls};
