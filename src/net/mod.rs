//! The way to the network: names, TLS, HTTP and whether the line is up. Knows nothing of KJP.

pub mod deadline;
pub mod dial;
mod dns_runtime;
pub mod http;
mod in_flight;
pub mod kernel_changes;
pub mod link;
pub mod resolver;
pub mod rung;
pub mod segment;
pub mod stream;
#[cfg(test)]
mod test_authority;
pub mod tls;

pub use link::Link;
pub use resolver::Resolver;
