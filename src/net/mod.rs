//! The way to the network: names, TLS, HTTP and whether the line is up. Knows nothing of KJP.

pub mod link;

pub use link::Link;
