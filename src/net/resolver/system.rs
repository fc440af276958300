//! What the system's own files say: the servers of resolv.conf(5) and the names of hosts(5).

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

/// Servers that are taken from the file, as in resolv.conf(5).
pub const MAX_SERVERS: usize = 3;

/// How much of `resolv.conf` and of `hosts` is read, in bytes. Hosts files against advertising
/// have more.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// Addresses that the hosts file may give to one name.
const MAX_HOSTS_ADDRESSES: usize = 8;

/// What tells one version of a file from the next, also when both have the same length and second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp(SystemTime, u64, u64);

pub(super) fn stamp(file: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(file).ok()?;
    Some(Stamp(metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

/// The beginning of `file`, with what is no UTF-8 replaced.
pub(super) fn read_start(file: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(file)?.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The `nameserver` lines of resolv.conf(5) that hold an address, also in OpenBSD's form with a
/// port (`[127.0.0.1]:5353`); everything else is skipped.
pub(super) fn name_servers(resolv_conf: &str) -> Vec<SocketAddr> {
    let servers = resolv_conf.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let address = words.next().filter(|w| *w == "nameserver").and(words.next())?;
        if let Some((address, port)) = address.strip_prefix('[').and_then(|rest| rest.split_once("]:")) {
            return Some(SocketAddr::new(address.parse().ok()?, port.parse().ok().filter(|p| *p != 0)?));
        }
        Some(SocketAddr::new(address.parse().ok()?, 53))
    });
    servers.take(MAX_SERVERS).collect()
}

/// A line of hosts(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostsLine {
    /// From 1.
    pub number: usize,
    pub address: IpAddr,
}

impl HostsLine {
    /// Whether it leads anywhere. Lists against advertising send names to the unspecified address.
    pub fn is_address(&self) -> bool {
        !self.address.to_canonical().is_unspecified()
    }
}

/// The lines of hosts(5) that give an address to `name`, which is in lower case, without a dot at its end.
pub(super) fn hosts_lines(hosts: &str, name: &str) -> Vec<HostsLine> {
    let lines = hosts.lines().enumerate().filter_map(|(place, line)| {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        let address = words.next()?.parse().ok()?;
        let names_it = words.any(|word| word.trim_end_matches('.').eq_ignore_ascii_case(name));
        names_it.then_some(HostsLine { number: place + 1, address })
    });
    lines.take(MAX_HOSTS_ADDRESSES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(text: &str) -> Vec<String> {
        name_servers(text).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn servers_are_read_in_order_and_everything_else_is_skipped() {
        let dhcp =
            "# from DHCP\ndomain home\nnameserver 192.0.2.53\n nameserver\t2001:db8::53 \noptions ndots:5\n";
        assert_eq!(servers(dhcp), ["192.0.2.53:53", "[2001:db8::53]:53"]);
        assert_eq!(
            servers("nameserver [127.0.0.1]:5353\nnameserver [::1]:54\n"),
            ["127.0.0.1:5353", "[::1]:54"]
        );
        let garbage = "nameserver\nnameserver fe80::1%eth0\nnameserver x\nnameserver [::1]:0\n\u{fffd}\0\n";
        assert_eq!(servers(garbage), [""; 0]);
        let many: String = (1..99).map(|n| format!("nameserver 192.0.2.{n}\n")).collect();
        assert_eq!(servers(&many).len(), MAX_SERVERS);
    }

    #[test]
    fn names_of_the_hosts_file_are_found_whatever_their_case() {
        let hosts = "# 192.0.2.1 box\n192.0.2.9 Box.example.com box # box2\n\n::1\n2001:db8::9 box\nx box\n";
        let found = |name| {
            let lines = hosts_lines(hosts, name).into_iter();
            lines.map(|line| format!("{} {}", line.number, line.address)).collect::<Vec<_>>()
        };
        assert_eq!(found("box.example.com"), ["2 192.0.2.9"]);
        assert_eq!(found("box"), ["2 192.0.2.9", "5 2001:db8::9"]);
        assert_eq!(found("box2"), [""; 0]);
    }

    #[test]
    fn the_unspecified_address_of_a_list_against_advertising_is_none() {
        let list = "0.0.0.0 ads.example\n:: ads.example\n127.0.0.1 ads.example\n";
        let leads = hosts_lines(list, "ads.example").iter().map(HostsLine::is_address).collect::<Vec<_>>();
        assert_eq!(leads, [false, false, true]);
    }

    proptest::proptest! {
        #[test]
        fn no_resolv_conf_is_too_strange(text in "(?s).{0,400}|(nameserver[ \t]*[0-9a-f.:%\\[\\]]{0,20}\n){0,9}") {
            let servers = name_servers(&text);
            proptest::prop_assert!(servers.len() <= MAX_SERVERS);
            proptest::prop_assert!(servers.iter().all(|s| s.port() != 0));
        }

        #[test]
        fn every_server_in_brackets_is_read_back(address: IpAddr, port in 1..=u16::MAX) {
            let text = format!("nameserver [{address}]:{port}\n");
            proptest::prop_assert_eq!(name_servers(&text), [SocketAddr::new(address, port)]);
        }

        #[test]
        fn no_hosts_file_is_too_strange(text in "(?s).{0,400}|([0-9.:]{1,9} a b\n){0,20}") {
            proptest::prop_assert!(hosts_lines(&text, "a").len() <= MAX_HOSTS_ADDRESSES);
        }
    }
}
