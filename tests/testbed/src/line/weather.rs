//! What happens to the packets between home and the internet, as rules of nftables.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;

/// Everything that goes wrong with packets now. Applied as a whole, in one transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Weather {
    /// Packets lost of a hundred, in both directions.
    pub loss: u8,
    /// Packets of more bytes than this vanish in both directions, and nobody is told.
    pub largest_packet: Option<u16>,
    /// The first packet of connections vanishes.
    pub swallow_syn: bool,
    /// Everything vanishes, in both directions.
    pub black_hole: bool,
    /// Every TCP packet is answered with a reset.
    pub resets: bool,
    /// Ports that answer "closed".
    pub refused_ports: BTreeSet<u16>,
    /// Ports whose packets vanish.
    pub swallowed_ports: BTreeSet<u16>,
    /// Addresses whose packets vanish.
    pub swallowed_hosts: BTreeSet<IpAddr>,
}

impl Weather {
    /// Scripts for `nft -f -`: at home, for what comes to it, and at the far end of the cable, for what
    /// comes from home, on these interfaces. Packets are lost where they arrive: whoever sent a
    /// datagram would be told of one that is dropped on its way out.
    pub fn rules(&self, at_home: &str, far: &str) -> [String; 2] {
        let mut both = String::new();
        let mut from_home = String::new();
        let lose = self.loss;
        if self.black_hole {
            both += "drop\n";
        }
        if lose > 0 {
            both += &format!("numgen random mod 100 < {lose} drop\n");
        }
        if let Some(bytes) = self.largest_packet {
            both += &format!("meta length > {bytes} drop\n");
        }
        if self.swallow_syn {
            from_home += "tcp flags & (syn | ack) == syn drop\n";
        }
        for host in &self.swallowed_hosts {
            let family = if host.is_ipv4() { "ip" } else { "ip6" };
            let _ = writeln!(from_home, "{family} daddr {host} drop");
        }
        for port in &self.swallowed_ports {
            let _ = writeln!(from_home, "meta l4proto {{ tcp, udp }} th dport {port} drop");
        }
        for port in &self.refused_ports {
            let _ = writeln!(from_home, "tcp dport {port} reject with tcp reset");
            let _ = writeln!(from_home, "udp dport {port} reject with icmpx port-unreachable");
        }
        if self.resets {
            from_home += "meta l4proto tcp reject with tcp reset\n";
        }
        [script(at_home, &both), script(far, &(both.clone() + &from_home))]
    }
}

/// A table of these rules alone for what comes in on the interface. Declared first, so that deleting
/// the old one never fails.
fn script(interface: &str, rules: &str) -> String {
    format!(
        "table inet line\ndelete table inet line\ntable inet line {{\n\
         chain arriving {{ type filter hook input priority 0;\n\
         iifname != {interface:?} accept\n{rules}}}\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_weather_has_no_rule_that_loses_anything() {
        for rules in Weather::default().rules("eth0", "cable") {
            assert!(!rules.contains("drop") && !rules.contains("reject"), "{rules}");
        }
    }

    #[test]
    fn large_packets_vanish_in_both_directions() {
        let weather = Weather { largest_packet: Some(1400), ..Weather::default() };
        let scripts = weather.rules("eth0", "cable");
        assert!(scripts.iter().all(|rules| rules.contains("meta length > 1400 drop")), "{scripts:?}");
    }

    #[test]
    fn loss_is_in_both_directions_and_refusals_only_towards_the_internet() {
        let weather = Weather { loss: 20, refused_ports: BTreeSet::from([853]), ..Weather::default() };
        let scripts = weather.rules("eth0", "cable");
        assert!(scripts.iter().all(|rules| rules.contains("mod 100 < 20 drop")), "{scripts:?}");
        let refuses = scripts.map(|rules| rules.contains("tcp dport 853 reject with tcp reset"));
        assert_eq!(refuses, [false, true]);
    }
}
