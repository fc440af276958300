//! A home line in Jakarta, on this machine: the bot's side and the internet are two network
//! namespaces of the kernel with a cable between them.
//!
//! At home there is `eth0` with 192.168.1.2/24 and a default route to the router, as on a box. On the
//! other side stand the test's servers on real public addresses and ports, so that the bot runs with
//! the settings that it is shipped with. The cable can be pulled, can lose packets, can swallow them
//! or answer them with resets, and the router can give the home another address.
//!
//! Needs root on Linux, `ip` (iproute2), `nft` (nftables), `nsenter` and `unshare` (util-linux). The
//! namespaces have no names: they belong to this process and vanish with it, however it ends.

mod home_line;
mod network;
mod weather;

pub use home_line::{HOME, HOME6, Line, Publication, ROUTER, ROUTER6};
pub use network::Network;
