//! Presence and typing, relayed to those who talk with each other.

use std::time::{Duration, Instant};

use wacore_binary::Node;

use super::accounts::{AccountId, Addressing, DeviceAddress};
use super::stanza::{Stanza, node};
use super::world::{Later, World};

/// How long a typing state lives without a repetition, unless the server is told otherwise.
pub const TYPING_LIVES: Duration = Duration::from_secs(25);

/// Somebody is typing to somebody.
pub struct Typing {
    until: Instant,
    addressing: Addressing,
    /// The children of the `<chatstate>`.
    state: Vec<Node>,
}

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
                if !self.may_see(at.account, other, presence) {
                    return;
                }
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
        self.tell(to, presence.build());
    }

    /// `<chatstate>`: passed on to the other person's devices.
    pub fn on_chatstate(&mut self, from: DeviceAddress, chatstate: &Node) {
        let Some(jid) = chatstate.jid("to") else { return };
        let Some(to) = self.account_of(&jid) else { return };
        let addressing = Addressing::of(&jid);
        let children = chatstate.children().unwrap_or_default().to_vec();
        if children.first().is_some_and(|state| state.tag == "composing") {
            let until = self.now.instant + self.typing_lives;
            self.typing.insert((from, to), Typing { until, addressing, state: children.clone() });
            self.after(self.typing_lives, Later::TypingEnds { from, to });
        } else {
            self.typing.remove(&(from, to));
        }
        self.tell_typing(from, to, addressing, children);
    }

    /// A typing state came to its end, unless it was repeated or ended by itself meanwhile.
    pub fn typing_ended(&mut self, from: DeviceAddress, to: AccountId) {
        if self.typing.get(&(from, to)).is_some_and(|typing| typing.until <= self.now.instant)
            && let Some(ended) = self.typing.remove(&(from, to))
        {
            self.tell_typing(from, to, ended.addressing, vec![node("paused").build()]);
        }
    }

    /// Tells a companion that came online who is typing to it.
    pub fn tell_who_is_typing(&mut self, at: DeviceAddress) {
        let stanzas: Vec<Node> = (self.typing.iter())
            .filter(|((_, to), _)| *to == at.account)
            .map(|((from, _), typing)| self.chatstate(*from, typing.addressing, typing.state.clone()))
            .collect();
        for stanza in stanzas {
            self.tell(at, stanza);
        }
    }

    fn chatstate(&self, from: DeviceAddress, addressing: Addressing, state: Vec<Node>) -> Node {
        let from = self.jid(DeviceAddress { device: 0, ..from }, addressing);
        node("chatstate").attr("from", from).children(state).build()
    }

    fn tell_typing(&mut self, from: DeviceAddress, to: AccountId, addressing: Addressing, state: Vec<Node>) {
        let typing = match state.first() {
            Some(first) => first.tag == "composing",
            None => return,
        };
        self.accounts[to].primary.saw_typing(from.account, typing);
        let stanza = self.chatstate(from, addressing, state);
        // Those that have no backlog yet hear of it with that.
        let companions = self.accounts[to].companions.iter();
        let listening: Vec<u16> =
            companions.filter(|(_, companion)| companion.drained).map(|(id, _)| *id).collect();
        for device in listening {
            self.tell(DeviceAddress { account: to, device }, stanza.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    const ANI: DeviceAddress = DeviceAddress { account: 0, device: 1 };
    const BUDI: AccountId = 1;

    fn two_accounts() -> World {
        let mut world = World::new(StdRng::seed_from_u64(1));
        world.account_named("Ani");
        world.account_named("Budi");
        world
    }

    fn type_to_budi(world: &mut World, state: &'static str) {
        let to = world.accounts[BUDI].jid(0, Addressing::Pn);
        world.on_chatstate(ANI, &node("chatstate").attr("to", to).children([node(state).build()]).build());
    }

    /// Whether Budi's phone shows that Ani is typing, so much later.
    fn shows_typing(world: &mut World, later: Duration) -> bool {
        world.now.instant += later;
        world.run_timers();
        world.accounts[BUDI].primary.sees_typing(ANI.account)
    }

    #[test]
    fn typing_on_keeps_a_typing_state_alive() {
        let mut world = two_accounts();
        type_to_budi(&mut world, "composing");
        assert!(shows_typing(&mut world, TYPING_LIVES - Duration::from_secs(1)));
        type_to_budi(&mut world, "composing");
        assert!(shows_typing(&mut world, TYPING_LIVES - Duration::from_secs(1)), "the old end came");
        assert!(!shows_typing(&mut world, Duration::from_secs(1)));
        assert!(world.typing.is_empty());
    }

    #[test]
    fn who_paused_and_types_again_is_not_stopped_by_the_first_end() {
        let mut world = two_accounts();
        let half = TYPING_LIVES / 2;
        type_to_budi(&mut world, "composing");
        assert!(shows_typing(&mut world, half));
        type_to_budi(&mut world, "paused");
        assert!(!shows_typing(&mut world, Duration::ZERO));
        type_to_budi(&mut world, "composing");
        assert!(shows_typing(&mut world, half), "the old end came");
        assert!(!shows_typing(&mut world, half));
    }

    #[test]
    fn a_client_that_changes_its_name_does_not_lose_its_account() {
        let mut world = two_accounts();
        world.on_presence(ANI, &node("presence").attr("type", "available").attr("name", "Bu Ani").build());
        assert_eq!(world.accounts[ANI.account].name, "Bu Ani");
        assert_eq!(world.account_named("Ani"), ANI.account);
        // Nor does it take over the account of that name.
        assert_ne!(world.account_named("Bu Ani"), ANI.account);
    }

    #[test]
    fn an_account_without_a_name_gets_one_and_is_found_by_none() {
        let mut world = two_accounts();
        let (first, second) = (world.new_account(""), world.new_account(""));
        let name = world.accounts[first].name.clone();
        assert!(!name.is_empty() && name != world.accounts[second].name);
        let named = world.account_named(&name);
        assert!(named != first && named != second);
    }
}
