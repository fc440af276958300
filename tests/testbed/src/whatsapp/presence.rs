//! Presence and typing, relayed to those who talk with each other.

use std::time::Duration;

use wacore_binary::Node;

use super::accounts::{AccountId, Addressing, DeviceAddress};
use super::stanza::{Stanza, node};
use super::world::{Later, World};

/// How long a typing state lives without a repetition, unless `CHATSTATE_TTL_SECS` says else.
const TYPING_LIVES: Duration = Duration::from_secs(25);

impl World {
    /// `<presence>` of a companion: its name and whether somebody looks at it.
    pub fn on_presence(&mut self, at: DeviceAddress, presence: &Node) {
        if let Some(name) = presence.attr("name").filter(|name| !name.is_empty()) {
            self.accounts[at.account].name = name.into_owned();
        }
        match presence.attr("type").as_deref() {
            Some("subscribe") => {
                let Some(to) = presence.jid("to") else { return };
                let Some(other) = self.account_of(&to) else { return };
                self.accounts[other].subscribers.insert(at, Addressing::of(&to));
                self.tell_presence(other, at, Addressing::of(&to));
            }
            Some("unsubscribe") => {
                if let Some(other) = presence.jid("to").and_then(|to| self.account_of(&to)) {
                    self.accounts[other].subscribers.remove(&at);
                }
            }
            kind => {
                let available = kind != Some("unavailable");
                if let Some(companion) = self.companion(at) {
                    companion.available = available;
                }
                self.presence_changed(at.account);
            }
        }
    }

    /// Whether some device of the account says it is being looked at.
    fn is_available(&self, account: AccountId) -> bool {
        let owner = &self.accounts[account];
        owner.primary.online && owner.companions.values().any(|companion| companion.available)
    }

    /// Tells those who subscribed.
    pub fn presence_changed(&mut self, account: AccountId) {
        let subscribers: Vec<DeviceAddress> = self.accounts[account].subscribers.keys().copied().collect();
        for to in subscribers {
            let addressing = self.accounts[account].subscribers[&to];
            self.tell_presence(account, to, addressing);
        }
    }

    /// Tells a companion how it stands with `of`.
    pub fn tell_presence(&mut self, of: AccountId, to: DeviceAddress, addressing: Addressing) {
        let kind = if self.is_available(of) { "available" } else { "unavailable" };
        let mut presence =
            node("presence").attr("from", self.accounts[of].jid(0, addressing)).attr("type", kind);
        if kind == "unavailable" {
            presence = presence.attr("last", "deny");
        }
        self.write_to(to, presence.build());
    }

    /// `<chatstate>`: passed on to the other person's devices.
    pub fn on_chatstate(&mut self, from: DeviceAddress, chatstate: &Node) {
        let Some(jid) = chatstate.jid("to") else { return };
        let Some(to) = self.account_of(&jid) else { return };
        let addressing = Addressing::of(&jid);
        let children = chatstate.children().unwrap_or_default().to_vec();
        let composing = children.first().is_some_and(|state| state.tag == "composing");
        self.tell_typing(from, to, addressing, children);
        if composing {
            let lives = std::env::var("CHATSTATE_TTL_SECS")
                .ok()
                .and_then(|seconds| seconds.parse().ok())
                .map_or(TYPING_LIVES, Duration::from_secs);
            self.after(lives, Later::TypingEnds { from, to, addressing });
        }
    }

    pub fn typing_ended(&mut self, from: DeviceAddress, to: AccountId, addressing: Addressing) {
        self.tell_typing(from, to, addressing, vec![node("paused").build()]);
    }

    fn tell_typing(&mut self, from: DeviceAddress, to: AccountId, addressing: Addressing, state: Vec<Node>) {
        let typing = match state.first() {
            Some(first) => first.tag == "composing",
            None => return,
        };
        self.accounts[to].primary.saw_typing(from.account, typing);
        let stanza = node("chatstate")
            .attr("from", self.jid(DeviceAddress { device: 0, ..from }, addressing))
            .children(state)
            .build();
        let companions: Vec<u16> = self.accounts[to].companions.keys().copied().collect();
        for device in companions {
            self.write_to(DeviceAddress { account: to, device }, stanza.clone());
        }
    }
}
