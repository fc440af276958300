//! Receipts: what is acknowledged leaves the queue, and the sender hears of it.

use wacore_binary::{Node, Server};

use super::accounts::DeviceAddress;
use super::stanza::{Stanza, node};
use super::world::World;

impl World {
    /// A receipt from a device, phone or companion.
    pub fn on_receipt(&mut self, from: DeviceAddress, receipt: Node) {
        let kind = receipt.attr("type").map(|kind| kind.into_owned());
        let mut ids = receipt_ids(&receipt);
        ids.retain(|id| !self.faults.owes(from.account, id));
        if kind.as_deref() != Some("retry")
            && let Some(companion) = self.companion(from)
        {
            for id in &ids {
                companion.queue.arrived(id);
            }
        }
        self.acknowledge(from, "receipt", &receipt, None);
        // These concern the sender's own devices only.
        if matches!(kind.as_deref(), Some("sender" | "peer_msg" | "hist_sync" | "read-self")) {
            return;
        }
        self.forward_receipt(from, &receipt);
    }

    fn forward_receipt(&mut self, from: DeviceAddress, receipt: &Node) {
        let Some(chat) = receipt.jid("to") else { return };
        let in_group = matches!(chat.server, Server::Group | Server::Broadcast);
        let sender = if in_group { receipt.jid("participant") } else { Some(chat.clone()) };
        let Some(to) = sender.as_ref().and_then(|jid| self.device_of(jid)) else { return };
        let retry = receipt.attr("type").as_deref() == Some("retry");
        if to.account == from.account && !retry {
            return;
        }
        // Whoever is asked again may send the whole message again: Baileys does when a phone asks.
        if retry && let (Some(sender), Some(id)) = (self.companion(to), receipt.attr("id")) {
            sender.forget_sight(&id);
        }
        let addressing = super::accounts::Addressing::of(sender.as_ref().unwrap_or(&chat));
        let mut forwarded = node("receipt");
        if in_group {
            forwarded = forwarded.attr("from", &chat).attr("participant", self.jid(from, addressing));
        } else {
            forwarded = forwarded.attr("from", self.jid(from, addressing));
        }
        for key in ["id", "type", "category"] {
            if let Some(value) = receipt.attr(key) {
                forwarded = forwarded.attr(key, value.into_owned());
            }
        }
        if let Some(recipient) = receipt.jid("recipient") {
            forwarded = forwarded.attr("recipient", recipient);
        }
        forwarded = forwarded.attr("t", self.now.unix);
        let children = receipt.children().unwrap_or_default().to_vec();
        let forwarded =
            if children.is_empty() { forwarded.build() } else { forwarded.children(children).build() };
        // Clients address what was read by the person, not by the device that sent it, and all of that
        // person's devices show it.
        let seen = matches!(receipt.attr("type").as_deref(), Some("read" | "played"));
        if to.device == 0 && seen {
            let companions: Vec<u16> = self.accounts[to.account].companions.keys().copied().collect();
            for device in companions {
                self.deliver_to_companion(DeviceAddress { device, ..to }, forwarded.clone());
            }
        }
        if to.device == 0 {
            self.deliver_to_primary(to.account, forwarded);
        } else {
            self.deliver_to_companion(to, forwarded);
        }
    }
}

/// All message ids a receipt covers: its own and those of its list.
pub fn receipt_ids(receipt: &Node) -> Vec<String> {
    let mut ids: Vec<String> = receipt.attr("id").map(|id| id.into_owned()).into_iter().collect();
    for item in receipt.child("list").map(|list| list.all("item")).into_iter().flatten() {
        if let Some(id) = item.attr("id")
            && !ids.contains(&id.to_string())
        {
            ids.push(id.into_owned());
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_covers_its_own_id_and_its_list_once_each() {
        let item = |id: &'static str| node("item").attr("id", id).build();
        let receipt = node("receipt")
            .attr("id", "A")
            .children([node("list").children([item("A"), item("B")]).build()])
            .build();
        assert_eq!(receipt_ids(&receipt), ["A", "B"]);
    }
}
