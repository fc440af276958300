//! From the sender's one stanza to a stanza per receiving device.

use std::collections::{BTreeSet, VecDeque};

use anyhow::{Context, bail, ensure};
use wacore_binary::{Jid, Node, Server};

use super::accounts::{AccountId, Addressing, DeviceAddress, is_person};
use super::stanza::{Stanza, node};
use super::world::World;

/// Delivered messages kept so that a fault can replay one.
const REMEMBERED: usize = 4096;

/// `<ack error>` of a message to an account that wants a trusted-contact token first.
const NO_TOKEN: u16 = 463;

/// `<ack error>` of a message to nobody.
const NOBODY: u16 = 404;

/// What was relayed lately.
#[derive(Default)]
pub struct Relayed {
    delivered: VecDeque<(DeviceAddress, Node)>,
    /// Stanzas that a device sent although it had sent the same id before.
    pub resent: u64,
}

impl Relayed {
    fn remember(&mut self, to: DeviceAddress, stanza: Node) {
        if self.delivered.len() == REMEMBERED {
            self.delivered.pop_front();
        }
        self.delivered.push_back((to, stanza));
    }

    /// The stanzas of one message, for everybody or for one account.
    pub fn delivered(&self, whom: Option<AccountId>, id: &str) -> Vec<(DeviceAddress, Node)> {
        self.delivered
            .iter()
            .filter(|(to, stanza)| {
                whom.is_none_or(|account| account == to.account)
                    && stanza.attr("id").is_some_and(|relayed| relayed == id)
            })
            .cloned()
            .collect()
    }
}

/// One ciphertext on its way.
struct Part<'a> {
    to: DeviceAddress,
    encs: Vec<&'a Node>,
}

impl World {
    /// A message from a companion.
    pub fn on_message(&mut self, from: DeviceAddress, stanza: Node) {
        let Some(id) = stanza.attr("id").map(|id| id.into_owned()) else {
            return log::warn!("ignored a message without an id");
        };
        if let Some(code) = self.faults.rejects_message(from.account) {
            return self.acknowledge(from, "message", &stanza, Some(code));
        }
        // Baileys adds `participants` for the same device.
        let is_retry = stanza.all("enc").any(|enc| enc.attr("count").is_some());
        let first = self.companion(from).is_none_or(|companion| companion.first_sight(&id));
        if !first && !is_retry {
            self.relayed.resent += 1;
            return self.acknowledge(from, "message", &stanza, None);
        }
        let refused = match self.refusal(from, &stanza) {
            Some(code) => Some(code),
            None => match self.relay(from, &stanza) {
                Ok(()) => None,
                Err(refusal) => {
                    log::warn!("could not relay a message: {refusal:#}");
                    Some(NOBODY)
                }
            },
        };
        // What was refused, or reached nobody, may be sent again under the same id.
        if (refused.is_some() || !self.is_keyed_for_its_chat(&stanza))
            && let Some(companion) = self.companion(from)
        {
            companion.forget_sight(&id);
        }
        self.acknowledge(from, "message", &stanza, refused);
    }

    /// The code with which a message to a person is refused.
    fn refusal(&mut self, from: DeviceAddress, stanza: &Node) -> Option<u16> {
        let to = stanza.jid("to")?;
        let account = self.account_of(&to)?;
        if account != from.account
            && let Some(code) = self.faults.refuses_address(account, Addressing::of(&to))
        {
            return Some(code);
        }
        self.token_missing(from, stanza).then_some(NO_TOKEN)
    }

    /// Whether a message to a person has a ciphertext for one of their devices.
    fn is_keyed_for_its_chat(&self, stanza: &Node) -> bool {
        let Some(account) = stanza.jid("to").and_then(|to| self.account_of(&to)) else { return true };
        let Some(participants) = stanza.child("participants") else { return true };
        let mut keyed = participants.all("to").filter_map(|to| to.jid("jid"));
        keyed.any(|jid| self.account_of(&jid) == Some(account)) || stanza.all("enc").next().is_some()
    }

    /// Fans a message out. The sender may be a phone.
    ///
    /// # Errors
    /// When it is addressed to nobody or has no ciphertext.
    pub fn relay(&mut self, from: DeviceAddress, stanza: &Node) -> anyhow::Result<()> {
        let chat = stanza.jid("to").context("a message has no addressee")?;
        let parts = self.parts(from, &chat, stanza)?;
        if let Some(other) = self.account_of(&chat)
            && other != from.account
        {
            self.accounts[from.account].contacts.insert(other);
            self.accounts[other].contacts.insert(from.account);
        }
        let deliveries: Vec<(DeviceAddress, Node)> = parts
            .into_iter()
            .map(|part| (part.to, self.delivered_stanza(from, &part, &chat, stanza)))
            .collect();
        for (to, delivered) in deliveries {
            self.relayed.remember(to, delivered.clone());
            self.dispatch_message(to, delivered);
        }
        Ok(())
    }

    fn parts<'a>(&self, from: DeviceAddress, chat: &Jid, stanza: &'a Node) -> anyhow::Result<Vec<Part<'a>>> {
        let bare: Vec<&Node> = stanza.all("enc").collect();
        let mut parts: Vec<Part> = Vec::new();
        if let Some(participants) = stanza.child("participants") {
            for to in participants.all("to") {
                // A device that was unlinked meanwhile gets nothing.
                let device = to.jid("jid").and_then(|jid| self.device_of(&jid));
                if let Some(device) = device.filter(|device| *device != from) {
                    parts.push(Part { to: device, encs: to.all("enc").collect() });
                }
            }
        }
        if bare.is_empty() {
            ensure!(stanza.child("participants").is_some(), "a message has no ciphertext");
            ensure!(
                is_person(chat) && self.account_of(chat).is_some()
                    || matches!(chat.server, Server::Broadcast | Server::Group),
                "a message is addressed to nobody"
            );
            return Ok(parts);
        }
        match chat.server {
            Server::Group if stanza.jid("participant").is_none() => {
                let members = self.groups.members(&chat.user).context("a message to an unknown group")?;
                ensure!(members.contains(&from.account), "the sender is not in the group");
                self.to_all_devices(&mut parts, from, &bare, members);
            }
            // A status, for all devices of everybody whom the sender names.
            Server::Broadcast if stanza.jid("participant").is_none() => {
                let named = stanza.child("participants").context("a status without viewers")?;
                let viewers: BTreeSet<AccountId> =
                    named.all("to").filter_map(|to| self.account_of(&to.jid("jid")?)).collect();
                parts.retain(|part| !part.encs.is_empty());
                self.to_all_devices(&mut parts, from, &bare, viewers);
            }
            _ => {
                // To exactly one device: a peer message or the answer to a retry receipt.
                let jid = stanza.jid("participant").unwrap_or_else(|| chat.clone());
                let Some(to) = self.device_of(&jid) else { bail!("a message is addressed to no device") };
                parts.retain(|part| part.to != to);
                parts.push(Part { to, encs: bare });
            }
        }
        Ok(parts)
    }

    /// Adds ciphertexts that are the same for all, behind those that a device gets for itself.
    fn to_all_devices<'a>(
        &self,
        parts: &mut Vec<Part<'a>>,
        from: DeviceAddress,
        encs: &[&'a Node],
        whom: impl IntoIterator<Item = AccountId>,
    ) {
        for account in whom {
            for device in self.accounts[account].devices() {
                let to = DeviceAddress { account, device };
                if to == from {
                    continue;
                }
                match parts.iter_mut().find(|part| part.to == to) {
                    Some(part) => part.encs.extend(encs),
                    None => parts.push(Part { to, encs: encs.to_vec() }),
                }
            }
        }
    }

    fn delivered_stanza(&self, from: DeviceAddress, part: &Part, chat: &Jid, stanza: &Node) -> Node {
        let mut delivered = node("message");
        let sender = &self.accounts[from.account];
        let own = part.to.account == from.account;
        match chat.server {
            Server::Group => {
                let addressing = self.groups.addressing(&chat.user);
                let alternative = sender.jid(0, addressing.other());
                delivered = delivered
                    .attr("from", chat)
                    .attr("participant", self.jid(from, addressing))
                    .attr("addressing_mode", addressing.as_str());
                delivered = match addressing {
                    Addressing::Lid => delivered.attr("participant_pn", alternative),
                    Addressing::Pn => delivered.attr("participant_lid", alternative),
                };
            }
            Server::Broadcast => {
                // Whoever names the viewers by LID is known to them by LID.
                let viewer = stanza.child("participants").and_then(|named| named.first_child()?.jid("jid"));
                let viewer = viewer.or_else(|| stanza.jid("participant"));
                let addressing = viewer.map_or(Addressing::Pn, |viewer| Addressing::of(&viewer));
                delivered = delivered.attr("from", chat).attr("participant", self.jid(from, addressing));
            }
            _ => {
                let peer = stanza.attr("category").as_deref() == Some("peer");
                // Companions know each other by LID, however they address each other.
                let addressing = match peer && from.device != 0 {
                    true => Addressing::Lid,
                    false => Addressing::of(chat),
                };
                delivered = delivered.attr("from", self.jid(from, addressing));
                if own {
                    let recipient = stanza.jid("recipient").unwrap_or_else(|| chat.to_non_ad());
                    if !peer {
                        delivered = delivered.attr("recipient", recipient);
                    }
                } else {
                    let alternative = sender.jid(0, addressing.other());
                    delivered = match addressing {
                        Addressing::Pn => delivered.attr("sender_lid", alternative),
                        Addressing::Lid => delivered.attr("sender_pn", alternative),
                    };
                }
            }
        }
        for key in ["id", "type", "edit", "category"] {
            if let Some(value) = stanza.attr(key) {
                delivered = delivered.attr(key, value.into_owned());
            }
        }
        delivered = delivered.attr("t", self.now.unix).attr("notify", sender.name.as_str());
        let mut children: Vec<Node> = part.encs.iter().map(|enc| (*enc).clone()).collect();
        for tag in ["device-identity", "meta", "reporting"] {
            children.extend(stanza.child(tag).cloned());
        }
        delivered.children(children).build()
    }

    /// A message arrives at a device, behind all faults.
    pub fn deliver_message(&mut self, to: DeviceAddress, stanza: Node) {
        if to.device == 0 {
            self.deliver_to_primary(to.account, stanza);
        } else {
            self.deliver_to_companion(to, stanza);
        }
    }

    /// A stanza for a phone: at once when it is online, else when it comes back.
    pub fn deliver_to_primary(&mut self, account: AccountId, stanza: Node) {
        let primary = &mut self.accounts[account].primary;
        if primary.online {
            self.for_primaries.push_back((account, stanza));
        } else {
            primary.wait_for(stanza);
        }
    }
}
