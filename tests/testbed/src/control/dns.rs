//! Commands to the DNS server.

use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::patience;
use crate::dns::{self, DnsServer, Journal, Scope, Transport};

/// Seconds that an address is good for unless it is said.
const TTL: u32 = 60;

/// Without the `dns_` in front.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    Host {
        host: String,
        addresses: Vec<IpAddr>,
        #[serde(default = "ttl")]
        ttl: u32,
    },
    Alias {
        host: String,
        of: String,
        #[serde(default = "ttl")]
        ttl: u32,
    },
    Forget {
        host: String,
    },
    Fault {
        fault: dns::Fault,
        #[serde(default)]
        scope: Scope,
        times: Option<u32>,
    },
    ClearFaults,
    Die,
    ComeBack,
    Queries {
        name: Option<String>,
        transport: Option<Transport>,
    },
    WaitQueries {
        count: u64,
        name: Option<String>,
        transport: Option<Transport>,
        #[serde(default = "patience")]
        seconds: u64,
    },
}

fn ttl() -> u32 {
    TTL
}

/// The server's part of `status`.
pub fn status(server: &DnsServer) -> Value {
    let mut status = json!({ "queries": server.queries().total() });
    for transport in Transport::ALL {
        status[transport.as_str()] = json!({
            "addresses": server.addresses(transport),
            "queries": server.queries().over(transport),
            "connections": server.queries().connections(transport),
        });
    }
    status
}

pub fn perform(server: &DnsServer, command: Command) -> anyhow::Result<Value> {
    match command {
        Command::Host { host, addresses, ttl } => server.set_host(&host, &addresses, ttl)?,
        Command::Alias { host, of, ttl } => server.set_alias(&host, &of, ttl)?,
        Command::Forget { host } => server.forget_host(&host),
        Command::Fault { fault, scope, times } => server.put_fault(scope, fault, times)?,
        Command::ClearFaults => server.clear_faults()?,
        Command::Die => server.die()?,
        Command::ComeBack => server.come_back()?,
        Command::Queries { name, transport } => {
            let journal = server.queries();
            let fits = |over: Transport, about: &str| fits(name.as_deref(), transport, over, about);
            let asked: Vec<Value> = journal
                .counts()
                .filter(|(over, about, _)| fits(*over, about))
                .map(|(over, about, count)| json!({ "transport": over, "name": about, "count": count }))
                .collect();
            return Ok(json!({ "count": count(&journal, name.as_deref(), transport), "asked": asked }));
        }
        Command::WaitQueries { count: wanted, name, transport, seconds } => {
            let enough = |journal: &Journal| {
                let count = count(journal, name.as_deref(), transport);
                (count >= wanted).then_some(count)
            };
            let what = format!("{wanted} questions");
            let count = server.wait_for(&what, Duration::from_secs(seconds), enough)?;
            return Ok(json!({ "count": count }));
        }
    }
    Ok(json!({}))
}

fn fits(name: Option<&str>, transport: Option<Transport>, over: Transport, about: &str) -> bool {
    transport.is_none_or(|wanted| wanted == over)
        && name.is_none_or(|wanted| wanted.trim_end_matches('.').eq_ignore_ascii_case(about))
}

fn count(journal: &Journal, name: Option<&str>, transport: Option<Transport>) -> u64 {
    let counts = journal.counts().filter(|(over, about, _)| fits(name, transport, *over, about));
    counts.map(|(_, _, count)| count).sum()
}
