//! Gets back what a power cut took between its decryption and the disk.
//!
//! The key of such a message is used up, so WhatsApp delivering it again does not help. Its sender's phone
//! still has it: a retry receipt has the phone encrypt it anew, under the same id, and the operator's own
//! phone is asked beside it (placeholder resend); whoever answers first counts. Should nobody answer, the
//! customer is asked to send it again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future::or;
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node};
use whatsapp_rust::Client;
use whatsapp_rust::features::RetryRequestOptions;

use super::connection::Connection;
use super::inbox::Hook;
use crate::bell::Bell;
use crate::clock;
use crate::ledger::Database;
use crate::ledger::missing_message::{self, Missing};
use crate::net::deadline::within;

/// From one request to the next. Phones that are on answer within seconds.
const ASK_EVERY: Duration = Duration::from_secs(60);

/// So often is asked. Phones resend at most five times, and whatsapp-rust asks no oftener; the second
/// request brings keys for a new session, should the first have failed for the old one's sake.
const TIMES: u32 = 4;

/// One request is one stanza on a line that is up.
const DEADLINE: Duration = Duration::from_secs(10);

/// Asks for what is missed, for ever.
pub struct MissingMessages {
    pub database: Database,
    pub connection: Connection,
    /// Takes in what nobody sends any more, so that the customer is asked.
    pub hook: Hook,
    /// Rung after a message was missed.
    pub bell: Bell,
}

/// How far the requests for one message are. Another process begins anew, which only asks again.
struct Asked {
    times: u32,
    next: Instant,
}

impl MissingMessages {
    pub async fn run(self) {
        let mut asked: HashMap<Missing, Asked> = HashMap::new();
        loop {
            self.connection.link().wait_until_up().await;
            let missing = match self.database.read_durable(missing_message::all).await {
                Ok(missing) => missing,
                Err(error) => {
                    log::error!("missing: what is missed was not read: {error}");
                    Vec::new()
                }
            };
            asked.retain(|one, _| missing.contains(one));
            for one in missing {
                let now = clock::now();
                let so_far = asked.entry(one.clone()).or_insert(Asked { times: 0, next: now });
                if so_far.next > now {
                    continue;
                }
                if so_far.times < TIMES {
                    // Not logged in (any more): the line's return is waited for.
                    let Some(client) = self.connection.client() else { break };
                    ask(&client, &one).await;
                } else {
                    self.ask_the_customer(&one).await;
                }
                so_far.times = (so_far.times + 1).min(TIMES);
                so_far.next = now + ASK_EVERY;
            }
            let next = asked.values().map(|asked| asked.next).min();
            let due = async {
                match next {
                    Some(next) => clock::sleep(next.saturating_duration_since(clock::now())).await,
                    None => std::future::pending().await,
                }
            };
            or(self.bell.heard(), due).await;
        }
    }

    async fn ask_the_customer(&self, missing: &Missing) {
        log::warn!("missing: nobody has sent message {} again; its sender is asked to", missing.id);
        if let Err(error) = self.hook.lost_for_good(missing).await {
            log::error!("missing: message {} is still missed: {error}", missing.id);
        }
    }
}

async fn ask(client: &Arc<Client>, missing: &Missing) {
    let id = &missing.id;
    let Some(stanza) = stanza(missing) else {
        log::error!("missing: the sender of message {id} cannot be read");
        return;
    };
    let stanza = stanza.as_node_ref();
    let request = client.request_message_retry(&stanza, RetryRequestOptions::new());
    match within(DEADLINE, request).await {
        Some(Ok(_)) => log::info!("missing: the phone that sent message {id} was asked for it"),
        Some(Err(error)) => log::warn!("missing: message {id} was not asked for: {error}"),
        None => log::warn!("missing: message {id} was not asked for in time"),
    }
}

/// The head of the message's stanza, which is all that a request needs.
fn stanza(missing: &Missing) -> Option<Node> {
    let from: Jid = missing.sender.parse().ok()?;
    let stanza = NodeBuilder::new("message")
        .attr("id", missing.id.as_str())
        .attr("from", from.with_device(missing.device))
        .attr("t", missing.at)
        .attr("type", "text");
    Some(stanza.build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_the_device_that_has_the_message() {
        let mut missing = Missing {
            chat: "6280000000001@s.whatsapp.net".into(),
            sender: "6280000000001@s.whatsapp.net".into(),
            id: "3EB0".into(),
            device: 7,
            at: 1_795_410_000,
        };
        let node = stanza(&missing).unwrap();
        let own: Jid = "6280000000009@s.whatsapp.net".parse().unwrap();
        let info = wacore::messages::parse_message_info(&node.as_node_ref(), &own, None).unwrap();
        assert_eq!(info.source.sender.to_string(), "6280000000001:7@s.whatsapp.net");
        assert_eq!(info.source.chat.to_string(), missing.chat);
        assert_eq!((info.id.as_str(), info.timestamp.timestamp()), ("3EB0", missing.at));
        missing.sender = "@@".into();
        assert!(stanza(&missing).is_none());
    }
}
