//! Where addresses that were proved good are kept across restarts.

use std::net::IpAddr;

/// Hosts whose addresses are kept, and addresses of each: WhatsApp, a few of its media hosts,
/// Supabase and two services that are told how the bot is.
pub const MAX_HOSTS: usize = 8;
pub const MAX_ADDRESSES: usize = 4;

/// An address at which TLS for the host's name succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// In lower case, without a dot at its end.
    pub host: String,
    pub address: IpAddr,
    /// Who gave the address, for people.
    pub source: String,
}

/// Keeps proofs, the newest [`MAX_HOSTS`] × [`MAX_ADDRESSES`] of them. Losing one is no harm, so
/// an implementation logs its failures. Called on whichever thread dials, so it must be quick.
///
/// There is no age limit: an address is handed out again only when nobody who can be asked knows a
/// better one, and is used only after TLS has succeeded there anew. So a clock that is wrong, on a
/// box that has none of its own, costs at most the right order of the addresses.
pub trait LastGood: Send + Sync {
    /// What was kept, the newest first.
    fn load(&self) -> Vec<Proof>;

    /// Keeps `proof`, or notes that it was proved again.
    fn keep(&self, proof: &Proof);
}

/// Keeps nothing.
pub struct Nothing;

impl LastGood for Nothing {
    fn load(&self) -> Vec<Proof> {
        Vec::new()
    }

    fn keep(&self, _: &Proof) {}
}
