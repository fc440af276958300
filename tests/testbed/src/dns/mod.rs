//! A DNS server that misbehaves on command.
//!
//! It speaks plain DNS over UDP and TCP (RFC 1035), DNS over TLS (RFC 7858) and DNS over HTTPS
//! (RFC 8484, POST and GET of `/dns-query`, HTTP/1.1) on as many addresses as a test needs, all from
//! one [`zone`]. [`fault`] lists what can go wrong, where and how often. Every query is counted, those
//! that a fault leaves unanswered too.
//!
//! What is not here: zone transfers, DNSSEC, other records than A, AAAA and CNAME.

pub mod fault;
mod https;
mod journal;
mod server;
mod zone;

pub use fault::{Fault, Scope, Transport};
pub use journal::{Asked, Journal};
pub use server::{DnsServer, Options};
