//! Commands to the TCP proxy.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::proxy::{self, Proxy, Whom};

/// Without the `proxy_` in front.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    Fault {
        fault: proxy::Fault,
        #[serde(default)]
        whom: Whom,
    },
    ClearFaults,
}

/// The proxy's part of `status`.
pub fn status(proxy: &Proxy) -> Value {
    let mut status = json!(proxy.counts());
    status["address"] = json!(proxy.address());
    status
}

pub fn perform(proxy: &Proxy, command: Command) -> anyhow::Result<Value> {
    match command {
        Command::Fault { fault, whom } => proxy.set_fault(whom, &fault)?,
        Command::ClearFaults => proxy.clear_faults()?,
    }
    Ok(json!({}))
}
