//! The rungs of the ladder on which the resolver climbs: what they are and how they stand.

use std::net::SocketAddr;
use std::time::Instant;

/// A way to ask for the addresses of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The servers that the system names, over UDP and TCP.
    System,
    /// DNS over HTTPS (RFC 8484).
    Https,
    /// DNS over TLS (RFC 7858).
    Tls,
    /// Public servers over plain UDP and TCP.
    Public,
}

impl Kind {
    /// The word that stands for it in the configuration, in metrics and on the health page.
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Https => "https",
            Self::Tls => "tls",
            Self::Public => "public",
        }
    }
}

/// How one server last answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Not asked yet.
    Unknown,
    /// Its last answer was good.
    Good,
    /// Nothing usable came: silence, an error, a refusal.
    Failing { reason: String },
    /// It answered what is not so: "does not exist" for a name that others know, a private address,
    /// or an address at which TLS for the name fails.
    Lying { reason: String },
}

/// The health of one rung.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    pub kind: Kind,
    pub server: SocketAddr,
    pub condition: Condition,
    /// Since when it has been in this condition.
    pub since: Instant,
}
