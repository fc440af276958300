//! What leaves a home, counted by its kernel: the same for every bot, and also when nothing of it
//! arrives.

use std::io::Write;
use std::ops::Sub;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::home::WHATSAPP;
use crate::line::Network;

/// The home's end of the cable.
const CABLE: &str = "eth0";

/// Counts packets, and lets them all pass.
fn rules() -> String {
    format!(
        "table inet storm {{\n\
         counter all_packets {{ }}\ncounter dns_datagrams {{ }}\ncounter dns_streams {{ }}\ncounter whatsapp {{ }}\n\
         chain out {{ type filter hook output priority 0;\n\
         oifname != {CABLE:?} accept\n\
         counter name all_packets\n\
         udp dport 53 counter name dns_datagrams\n\
         tcp flags & (syn | ack) != syn accept\n\
         ip daddr {WHATSAPP} counter name whatsapp\n\
         ip daddr != {WHATSAPP} tcp dport {{ 53, 443, 853 }} counter name dns_streams\n\
         }}\n}}\n"
    )
}

/// Counters in a home's kernel; they vanish with it.
pub struct Wire(Network);

/// What left a home. Packets that TCP repeats count again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Sent {
    pub packets: u64,
    /// Plain DNS over UDP, one question each.
    pub dns_datagrams: u64,
    /// First packets of TCP connections to DNS servers: plain, TLS or HTTPS.
    pub dns_syns: u64,
    /// First packets of TCP connections to WhatsApp.
    pub whatsapp_syns: u64,
}

impl Sub for Sent {
    type Output = Sent;

    fn sub(self, before: Sent) -> Sent {
        Sent {
            packets: self.packets - before.packets,
            dns_datagrams: self.dns_datagrams - before.dns_datagrams,
            dns_syns: self.dns_syns - before.dns_syns,
            whatsapp_syns: self.whatsapp_syns - before.whatsapp_syns,
        }
    }
}

impl Wire {
    /// Begins to count.
    ///
    /// # Errors
    /// When `nft` fails.
    pub fn tap(home: &Network) -> Result<Self> {
        let wire = Self(home.clone());
        wire.nft(&["-f", "-"], &rules())?;
        Ok(wire)
    }

    /// What was sent since then.
    ///
    /// # Errors
    /// When `nft` fails.
    pub fn sent(&self) -> Result<Sent> {
        counted(&self.nft(&["-j", "list", "counters", "table", "inet", "storm"], "")?)
    }

    fn nft(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut command = self.0.command("nft");
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("running nft")?;
        // The rules fit into a pipe.
        child.stdin.take().context("nft has no input")?.write_all(input.as_bytes())?;
        let output = child.wait_with_output()?;
        let why = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "nft {arguments:?} failed ({}): {}", output.status, why.trim());
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// Reads what `nft -j list counters` prints.
fn counted(json: &str) -> Result<Sent> {
    #[derive(Deserialize)]
    struct Listing {
        nftables: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        counter: Option<Counter>,
    }
    #[derive(Deserialize)]
    struct Counter {
        name: String,
        packets: u64,
    }
    let listing: Listing = serde_json::from_str(json).context("nft lists its counters in another way")?;
    let counters: Vec<Counter> = listing.nftables.into_iter().filter_map(|entry| entry.counter).collect();
    let of = |name: &str| -> Result<u64> {
        let counter = counters.iter().find(|counter| counter.name == name);
        Ok(counter.with_context(|| format!("nft has no counter {name}"))?.packets)
    };
    Ok(Sent {
        packets: of("all_packets")?,
        dns_datagrams: of("dns_datagrams")?,
        dns_syns: of("dns_streams")?,
        whatsapp_syns: of("whatsapp")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_name_among_what_nft_lists() {
        let counter = |name: &str, packets: u64| {
            format!(
                r#"{{"counter": {{"family": "inet", "name": "{name}", "table": "storm", "handle": 1, "packets": {packets}, "bytes": 9}}}}"#
            )
        };
        let listed = |last: &str| {
            let counters = [
                counter("whatsapp", 4),
                counter("all_packets", 10),
                counter("dns_datagrams", 3),
                counter(last, 2),
            ];
            format!(r#"{{"nftables": [{{"metainfo": {{"version": "1.0.6"}}}}, {}]}}"#, counters.join(", "))
        };
        let sent = Sent { packets: 10, dns_datagrams: 3, dns_syns: 2, whatsapp_syns: 4 };
        assert_eq!(counted(&listed("dns_streams")).unwrap(), sent);
        assert_eq!(sent - Sent { packets: 1, ..Sent::default() }, Sent { packets: 9, ..sent });
        let error = counted(&listed("another")).unwrap_err();
        assert!(error.to_string().contains("dns_streams"), "{error}");
    }
}
