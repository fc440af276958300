//! Addresses that an IPv6-only network makes for hosts that have IPv4 alone (NAT64, DNS64), behind a prefix
//! of its own. They look private and are no lie, if the network itself announces the prefix.
//!
//! It does so by what its DNS answers for one name that has two well-known IPv4 addresses and no other
//! (RFC 7050): whatever IPv6 address comes holds one of them behind the prefix (RFC 6052 §2.2). A liar that
//! answers everything with the same address announces nothing that way.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The name that exists for this (RFC 7050 §8.2).
pub(super) const NAME: &str = "ipv4only.arpa.";

/// Its addresses (RFC 7050 §8.2).
const WELL_KNOWN: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 0, 170), Ipv4Addr::new(192, 0, 0, 171)];

/// Bits that a prefix may have, and where the four bytes of the IPv4 address lie behind it. The ninth byte is
/// left out (RFC 6052 §2.2).
const LAYOUTS: [(u32, [usize; 4]); 6] = [
    (96, [12, 13, 14, 15]),
    (64, [9, 10, 11, 12]),
    (56, [7, 9, 10, 11]),
    (48, [6, 7, 9, 10]),
    (40, [5, 6, 7, 9]),
    (32, [4, 5, 6, 7]),
];

/// Prefixes that are taken from one answer.
pub(super) const MAX_PREFIXES: usize = 4;

/// A prefix that the network announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Prefix {
    /// With zeros behind the prefix.
    bits: u128,
    length: u32,
    at: [usize; 4],
}

impl Prefix {
    /// The IPv4 address that `address` stands for, if it begins with this prefix.
    pub(super) fn ipv4(&self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        (masked(address, self.length) == self.bits).then(|| embedded(address, self.at))
    }
}

/// What the network announces with these addresses of [`NAME`].
pub(super) fn prefixes(addresses: &[Ipv6Addr]) -> Vec<Prefix> {
    let mut found = Vec::new();
    for address in addresses {
        let layout = LAYOUTS.iter().find(|(_, at)| WELL_KNOWN.contains(&embedded(*address, *at)));
        if let Some((length, at)) = layout {
            let prefix = Prefix { bits: masked(*address, *length), length: *length, at: *at };
            if found.len() < MAX_PREFIXES && !found.contains(&prefix) {
                found.push(prefix);
            }
        }
    }
    found
}

fn masked(address: Ipv6Addr, length: u32) -> u128 {
    address.to_bits() & (u128::MAX << (128 - length))
}

fn embedded(address: Ipv6Addr, at: [usize; 4]) -> Ipv4Addr {
    let bytes = address.octets();
    at.map(|place| bytes[place]).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    #[test]
    fn a_prefix_of_every_length_is_found_and_what_stands_behind_it_is_read() {
        // The table of RFC 6052 §2.4, with the well-known address and with 192.0.2.33.
        for (announced, translated) in [
            ("2001:db8:c000:aa::", "2001:db8:c000:221::"),
            ("2001:db8:1c0:0:aa::", "2001:db8:1c0:2:21::"),
            ("2001:db8:122:c000:0:aa00::", "2001:db8:122:c000:2:2100::"),
            ("2001:db8:122:3c0:0:aa::", "2001:db8:122:3c0:0:221::"),
            ("2001:db8:122:344:c0:0:aa00::", "2001:db8:122:344:c0:2:2100::"),
            ("2001:db8:122:344::192.0.0.170", "2001:db8:122:344::192.0.2.33"),
            ("fd00:64::192.0.0.171", "fd00:64::192.0.2.33"),
        ] {
            let found = prefixes(&[ip(announced), ip(announced)]);
            let [prefix] = found[..] else { panic!("{announced}: {found:?}") };
            assert_eq!(prefix.ipv4(ip(translated)), Some(Ipv4Addr::new(192, 0, 2, 33)), "{announced}");
            assert_eq!(prefix.ipv4(ip("fd99::192.0.2.33")), None, "{announced}");
        }
    }

    #[test]
    fn one_address_for_every_name_announces_nothing() {
        assert_eq!(prefixes(&[ip("fd00::1"), ip("2001:db8::10.10.10.10"), ip("::")]), []);
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_announced_leads_back_to_the_well_known_address(high: u128, length in 0usize..6, other: bool) {
            let (bits, at) = LAYOUTS[length];
            let mut bytes = (high & (u128::MAX << (128 - bits))).to_be_bytes();
            let well_known = WELL_KNOWN[usize::from(other)];
            for (place, byte) in at.into_iter().zip(well_known.octets()) {
                bytes[place] = byte;
            }
            let address = Ipv6Addr::from(bytes);
            let found = prefixes(&[address]);
            proptest::prop_assert!(found.iter().any(|p| p.ipv4(address).is_some_and(|ip| WELL_KNOWN.contains(&ip))));
        }
    }
}
