//! Faults on command: what goes wrong, for whom and how often.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use anyhow::ensure;
use serde::{Deserialize, Serialize};
use wacore_binary::{Node, NodeContent};

use super::accounts::{AccountId, Addressing, DeviceAddress};
use super::stanza::{Stanza, node};
use super::world::{Later, Peer, SocketId, World};

/// Longest that a message is held back to be overtaken; then it is delivered anyway.
const HELD_BACK: Duration = Duration::from_secs(2);

/// So long after a login the server complains about a message that is owed an acknowledgement. The real one
/// waits 50 minutes.
const COMPLAINT: Duration = Duration::from_secs(3);

/// Faults active at once.
const MAX_ACTIVE: usize = 64;

/// Something that goes wrong. A `count` says how often; without one it lasts until it is cleared.
/// "Messages" are those delivered *to* the account that the fault is on: to its companions, or to
/// its phone if it has none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// Cuts the connections that exist now, without a close frame.
    Drop,
    /// Sends any stanza on the connections that exist now; `close` ends them after it.
    Send {
        tag: String,
        #[serde(default)]
        attrs: BTreeMap<String, String>,
        #[serde(default)]
        child: Option<Child>,
        #[serde(default)]
        close: bool,
    },
    /// Closes connections before a byte is read. For everybody, as nobody is known yet.
    Refuse { count: Option<u32> },
    /// Ends connections after the client hello. For everybody.
    RefuseHandshake { count: Option<u32> },
    /// Leaves the client hello unanswered and the connection open. For everybody.
    StallHandshake { count: Option<u32> },
    /// Answers logins with `<failure reason>` and these further attributes.
    FailLogin {
        reason: u16,
        #[serde(default)]
        attrs: BTreeMap<String, String>,
        count: Option<u32>,
    },
    /// Leaves keep-alive pings unanswered.
    IgnorePings,
    /// Lets the connections that exist now go dead: they stay open, but nothing passes any more.
    Mute,
    /// Makes the connections that exist now deaf, as sessions of weeks become: pings, requests and
    /// messages are answered as ever, but messages, receipts and notifications go into the offline
    /// queue without a word, and presence and typing are lost. The next login gets the queue; a
    /// deaf connection hears again when the faults are cleared. Unlike [`Fault::HoldOffline`],
    /// which keeps the queue from new connections too.
    Deaf,
    /// Takes messages or receipts (`class`) and relays them, but never acknowledges them.
    SwallowAcks { class: String, count: Option<u32> },
    /// Loses receipts *from* the account, and the connection with each: it breaks with the receipt on its
    /// way. Retry receipts pass.
    LoseReceipts { count: Option<u32> },
    /// Loses messages *from* the account, and lets the connection of each go dead: it stays open, but nothing
    /// passes any more.
    LoseMessages { count: Option<u32> },
    /// Refuses messages *from* the account with `<ack error>`.
    RejectMessages { code: u16, count: Option<u32> },
    /// Refuses messages *to* the account with `<ack error>` if they name it by that kind of address.
    RefuseAddress { addressing: Addressing, code: u16, count: Option<u32> },
    /// Has no keys of the account's devices for whoever fetches them.
    RefuseKeys { count: Option<u32> },
    /// Delivers messages this much later.
    Delay { ms: u64 },
    /// Delivers the next messages twice, whatever else holds them up meanwhile.
    Duplicate { count: Option<u32> },
    /// Spoils the ciphertext of the next messages, so that the receiver must ask for a retry.
    Corrupt { count: Option<u32> },
    /// Lets each of the next messages be overtaken by the one after it.
    Reorder { count: Option<u32> },
    /// Delivers a message that was delivered before once more.
    Replay { id: String },
    /// Keeps everything in the offline queue, though the device is online.
    HoldOffline,
    /// Delivers a message of that number's phone with nothing in it that a client could read.
    EmptyMessage { from: String, id: String },
    /// Takes no receipt for this message, but only an acknowledgement; as long as there is none, ends the
    /// connection some seconds after each login with a stream error that names the message.
    Owed { id: String },
    /// Messages name the one address of their sender that they come from, and not the other one.
    HideOtherAddress,
    /// Answers requests of this name space with an error, or (`code` null) never.
    Iq { xmlns: String, code: Option<u16>, count: Option<u32> },
}

/// The one child of a stanza that a fault sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Child {
    pub tag: String,
    #[serde(default)]
    pub attrs: BTreeMap<String, String>,
    /// What it contains, byte for byte.
    #[serde(default)]
    pub text: Option<String>,
}

impl Fault {
    /// `<stream:error>` with a code and the end of the stream.
    pub fn stream_error(code: u16) -> Fault {
        Fault::Send {
            tag: "stream:error".into(),
            attrs: BTreeMap::from([("code".into(), code.to_string())]),
            child: None,
            close: true,
        }
    }

    /// `<stream:error><conflict type="replaced"/>`: another login took over.
    pub fn replaced() -> Fault {
        Fault::Send {
            tag: "stream:error".into(),
            attrs: BTreeMap::new(),
            child: Some(Child {
                tag: "conflict".into(),
                attrs: BTreeMap::from([("type".into(), "replaced".into())]),
                text: None,
            }),
            close: true,
        }
    }

    fn count(&self) -> Option<u32> {
        match self {
            Fault::Refuse { count }
            | Fault::RefuseHandshake { count }
            | Fault::StallHandshake { count }
            | Fault::FailLogin { count, .. }
            | Fault::SwallowAcks { count, .. }
            | Fault::LoseReceipts { count }
            | Fault::LoseMessages { count }
            | Fault::RejectMessages { count, .. }
            | Fault::RefuseAddress { count, .. }
            | Fault::RefuseKeys { count }
            | Fault::Duplicate { count }
            | Fault::Corrupt { count }
            | Fault::Reorder { count }
            | Fault::Iq { count, .. } => *count,
            _ => None,
        }
    }
}

struct Active {
    /// `None`: everybody.
    whom: Option<AccountId>,
    fault: Fault,
    /// How often it still happens; `None`: until cleared.
    left: Option<u32>,
}

/// What happens to a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeFault {
    Refuse,
    Stall,
}

/// What happens to a login.
pub struct LoginFault {
    pub reason: u16,
    pub attrs: Vec<(String, String)>,
}

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IqFault {
    Never,
    Error(u16),
}

/// The faults that are on.
#[derive(Default)]
pub struct Faults {
    active: Vec<Active>,
    /// Messages held back to be overtaken, with their copies.
    held: HashMap<DeviceAddress, Vec<Node>>,
}

impl Faults {
    /// Finds the first fault on `whom` that `pick` takes, and uses it up once.
    fn take<T>(&mut self, whom: Option<AccountId>, pick: impl Fn(&Fault) -> Option<T>) -> Option<T> {
        let (place, picked) = self.active.iter().enumerate().find_map(|(place, active)| {
            let concerns = active.whom.is_none() || active.whom == whom;
            concerns.then(|| pick(&active.fault)).flatten().map(|picked| (place, picked))
        })?;
        if let Some(left) = &mut self.active[place].left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.active.remove(place);
            }
        }
        Some(picked)
    }

    fn has(&self, whom: Option<AccountId>, fault: &Fault) -> bool {
        self.active
            .iter()
            .any(|active| (active.whom.is_none() || active.whom == whom) && active.fault == *fault)
    }

    pub fn refuses_connection(&mut self) -> bool {
        self.take(None, |fault| matches!(fault, Fault::Refuse { .. }).then_some(())).is_some()
    }

    pub fn on_handshake(&mut self) -> Option<HandshakeFault> {
        self.take(None, |fault| match fault {
            Fault::RefuseHandshake { .. } => Some(HandshakeFault::Refuse),
            Fault::StallHandshake { .. } => Some(HandshakeFault::Stall),
            _ => None,
        })
    }

    pub fn fails_login(&mut self, account: AccountId) -> Option<LoginFault> {
        self.take(Some(account), |fault| match fault {
            Fault::FailLogin { reason, attrs, .. } => {
                let attrs = attrs.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
                Some(LoginFault { reason: *reason, attrs })
            }
            _ => None,
        })
    }

    pub fn on_iq(&mut self, account: AccountId, xmlns: &str) -> Option<IqFault> {
        if xmlns == "w:p" && self.has(Some(account), &Fault::IgnorePings) {
            return Some(IqFault::Never);
        }
        self.take(Some(account), |fault| match fault {
            Fault::Iq { xmlns: named, code, .. } if named == xmlns => {
                Some(code.map_or(IqFault::Never, IqFault::Error))
            }
            _ => None,
        })
    }

    /// Whether a receipt for this message is none.
    pub fn owes(&self, account: AccountId, id: &str) -> bool {
        self.has(Some(account), &Fault::Owed { id: id.to_owned() })
    }

    fn owed(&self, account: AccountId) -> Option<String> {
        self.active.iter().find_map(|active| match &active.fault {
            Fault::Owed { id } if active.whom.is_none_or(|whom| whom == account) => Some(id.clone()),
            _ => None,
        })
    }

    pub fn holds_offline(&self, account: AccountId) -> bool {
        self.has(Some(account), &Fault::HoldOffline)
    }

    pub fn swallows_ack(&mut self, account: AccountId, class: &str) -> bool {
        self.take(Some(account), |fault| {
            matches!(fault, Fault::SwallowAcks { class: named, .. } if named == class).then_some(())
        })
        .is_some()
    }

    pub fn loses_receipt(&mut self, account: AccountId, receipt: &Node) -> bool {
        receipt.attr("type").as_deref() != Some("retry")
            && self.happens(account, |fault| matches!(fault, Fault::LoseReceipts { .. }))
    }

    pub fn loses_message(&mut self, account: AccountId) -> bool {
        self.happens(account, |fault| matches!(fault, Fault::LoseMessages { .. }))
    }

    pub fn rejects_message(&mut self, account: AccountId) -> Option<u16> {
        self.take(Some(account), |fault| match fault {
            Fault::RejectMessages { code, .. } => Some(*code),
            _ => None,
        })
    }

    pub fn refuses_address(&mut self, account: AccountId, named: Addressing) -> Option<u16> {
        self.take(Some(account), |fault| match fault {
            Fault::RefuseAddress { addressing, code, .. } if *addressing == named => Some(*code),
            _ => None,
        })
    }

    pub fn refuses_keys(&mut self, account: AccountId) -> bool {
        self.happens(account, |fault| matches!(fault, Fault::RefuseKeys { .. }))
    }

    fn delays(&mut self, account: AccountId) -> Option<Duration> {
        self.take(Some(account), |fault| match fault {
            Fault::Delay { ms } => Some(Duration::from_millis(*ms)),
            _ => None,
        })
    }

    fn happens(&mut self, account: AccountId, is: impl Fn(&Fault) -> bool) -> bool {
        self.take(Some(account), |fault| is(fault).then_some(())).is_some()
    }
}

impl World {
    /// Puts a fault on an account, or on everybody.
    ///
    /// # Errors
    /// When too many are on already, or nothing is there to replay.
    pub fn set_fault(&mut self, whom: Option<AccountId>, fault: Fault) -> anyhow::Result<()> {
        log::info!("fault on {}: {fault:?}", whom.map_or("everybody".into(), |id| format!("account {id}")));
        match fault {
            Fault::Drop => {
                for id in self.sockets_of(whom) {
                    self.cut(id);
                }
            }
            Fault::Mute => {
                for id in self.sockets_of(whom) {
                    self.sockets.entry(id).and_modify(|socket| socket.dead = true);
                }
            }
            Fault::Deaf => {
                for id in self.sockets_of(whom) {
                    self.sockets.entry(id).and_modify(|socket| socket.deaf = true);
                }
            }
            Fault::Send { tag, attrs, child, close } => {
                let stanza = Child { tag, attrs, text: None }.into_node(child);
                for id in self.sockets_of(whom) {
                    self.write(id, stanza.clone());
                    if close {
                        self.close(id);
                    }
                }
            }
            Fault::Replay { id } => {
                let again = self.relayed.delivered(whom, &id);
                ensure!(!again.is_empty(), "no delivered message has that id: it may be too old");
                for (to, stanza) in again {
                    self.deliver_message(to, stanza);
                }
            }
            Fault::EmptyMessage { from, id } => {
                let from = self.accounts[self.account_numbered(&from)?].jid(0, Addressing::Pn);
                let empty = node("message").attr("from", from).attr("id", id).attr("type", "text");
                let empty = empty.attr("t", self.now.unix).build();
                for account in (0..self.accounts.len()).filter(|id| whom.is_none_or(|whom| whom == *id)) {
                    let devices: Vec<u16> = self.accounts[account].companions.keys().copied().collect();
                    for device in devices {
                        self.deliver_to_companion(DeviceAddress { account, device }, empty.clone());
                    }
                }
            }
            lasting => {
                ensure!(self.faults.active.len() < MAX_ACTIVE, "{MAX_ACTIVE} faults are on: clear some");
                ensure!(lasting.count() != Some(0), "a fault that happens 0 times is none");
                let left = lasting.count();
                self.faults.active.push(Active { whom, fault: lasting, left });
            }
        }
        Ok(())
    }

    /// Ends all lasting faults, and lets go of what they held up.
    pub fn clear_faults(&mut self) {
        self.faults.active.clear();
        for socket in self.sockets.values_mut() {
            socket.deaf = false;
        }
        let held: Vec<DeviceAddress> = self.faults.held.keys().copied().collect();
        for to in held {
            self.release_held(to);
        }
        for account in 0..self.accounts.len() {
            let companions: Vec<u16> = self.accounts[account].companions.keys().copied().collect();
            for device in companions {
                let at = DeviceAddress { account, device };
                let Some(companion) = self.companion(at).filter(|companion| companion.drained) else {
                    continue;
                };
                for stanza in companion.queue.take_unwritten() {
                    self.write_to(at, stanza);
                }
            }
        }
    }

    fn sockets_of(&self, whom: Option<AccountId>) -> Vec<SocketId> {
        (self.sockets.iter())
            .filter(|(_, socket)| match (&socket.peer, whom) {
                (_, None) => true,
                (Peer::Device(at), Some(account)) => at.account == account,
                (Peer::Unpaired(_), Some(_)) => false,
            })
            .map(|(id, _)| *id)
            .collect()
    }

    /// A message on its way to one device, through the faults on its owner.
    pub fn dispatch_message(&mut self, to: DeviceAddress, mut stanza: Node) {
        if to.device == 0 && !self.accounts[to.account].companions.is_empty() {
            return self.deliver_message(to, stanza);
        }
        let faults = &mut self.faults;
        if faults.has(Some(to.account), &Fault::HideOtherAddress) {
            stanza.attrs.0.retain(|(key, _)| !matches!(&**key, "sender_pn" | "sender_lid"));
        }
        if faults.happens(to.account, |fault| matches!(fault, Fault::Corrupt { .. })) {
            corrupt(&mut stanza);
        }
        let twice = faults.happens(to.account, |fault| matches!(fault, Fault::Duplicate { .. }));
        // The copies stay together from here on, so that no other fault loses one.
        let mut stanzas = vec![stanza; if twice { 2 } else { 1 }];
        if let Some(overtaken) = faults.held.remove(&to) {
            stanzas.extend(overtaken);
        } else if faults.happens(to.account, |fault| matches!(fault, Fault::Reorder { .. })) {
            faults.held.insert(to, stanzas);
            return self.after(HELD_BACK, Later::ReleaseHeld { to });
        }
        match faults.delays(to.account) {
            Some(delay) => self.after(delay, Later::Deliver { to, stanzas }),
            None => self.deliver_messages(to, stanzas),
        }
    }

    pub fn deliver_messages(&mut self, to: DeviceAddress, stanzas: Vec<Node>) {
        for stanza in stanzas {
            self.deliver_message(to, stanza);
        }
    }

    /// A device is online: the server will complain if a message is still owed its acknowledgement then.
    pub fn expect_acknowledgement(&mut self, at: DeviceAddress, socket: SocketId) {
        if self.faults.owed(at.account).is_some() {
            self.after(COMPLAINT, Later::Complain { at, socket });
        }
    }

    /// The complaint: what is owed is named, and the stream ends.
    pub fn complain(&mut self, at: DeviceAddress, socket: SocketId) {
        let Some(id) = self.faults.owed(at.account) else { return };
        let owed = self.companion(at).is_some_and(|companion| companion.queue.holds("message", &id));
        if !owed {
            return;
        }
        let ack = node("ack").attr("class", "message").attr("id", id).build();
        self.write(socket, node("stream:error").children([ack]).build());
        self.write(socket, node("xmlstreamend").build());
        self.close(socket);
    }

    pub fn release_held(&mut self, to: DeviceAddress) {
        if let Some(stanzas) = self.faults.held.remove(&to) {
            self.deliver_messages(to, stanzas);
        }
    }
}

impl Child {
    fn into_node(self, child: Option<Child>) -> Node {
        let mut built = wacore_binary::builder::NodeBuilder::new_dynamic(self.tag).build();
        for (key, value) in self.attrs {
            built.attrs.insert(key, value);
        }
        if let Some(child) = child {
            built.content = Some(NodeContent::Nodes(vec![child.into_node(None)]));
        } else if let Some(text) = self.text {
            built.content = Some(NodeContent::Bytes(text.into_bytes()));
        }
        built
    }
}

/// From the end of a ciphertext to a byte that its MAC covers, whatever its kind: behind it come
/// 8 bytes of MAC, and in a `pkmsg` two small numbers that nobody checks. An `skmsg` ends with its signature.
const FROM_END: usize = 20;

/// Flips a bit of each ciphertext: the MAC no longer fits.
fn corrupt(stanza: &mut Node) {
    let Some(NodeContent::Nodes(children)) = &mut stanza.content else { return };
    for enc in children.iter_mut().filter(|child| child.tag == "enc") {
        if let Some(NodeContent::Bytes(bytes)) = &mut enc.content
            && let Some(byte) = bytes.iter_mut().nth_back(FROM_END)
        {
            *byte ^= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::whatsapp::primary::{SendAs, text_message};

    /// Two phones; the number of the second.
    fn two_phones() -> (World, String) {
        let mut world = World::new(StdRng::seed_from_u64(1));
        world.new_account("Ani");
        world.new_account("Budi");
        let number = world.accounts[1].number.clone();
        (world, number)
    }

    /// Ani writes to Budi.
    fn write(world: &mut World, to: &str, text: &str) {
        world.phone_sends(0, to, text_message(text), SendAs::default()).unwrap();
        world.settle();
    }

    /// What Budi's screen shows, each with how often it came.
    fn screen(world: &World) -> Vec<(&str, u32)> {
        let shown = &world.accounts[1].primary.shown;
        shown.iter().map(|shown| (shown.text.as_str(), shown.copies)).collect()
    }

    /// Goes on to a later time, with all that is due by then.
    fn wait(world: &mut World, time: Duration) {
        world.now.instant += time;
        world.run_timers();
        world.settle();
    }

    #[test]
    fn a_duplicate_comes_twice_however_it_is_held_up() {
        let (mut world, budi) = two_phones();
        let delay = Duration::from_millis(300);
        world.set_fault(Some(1), Fault::Duplicate { count: Some(1) }).unwrap();
        world.set_fault(Some(1), Fault::Delay { ms: 300 }).unwrap();
        write(&mut world, &budi, "satu");
        assert_eq!(screen(&world), []);
        wait(&mut world, delay);
        assert_eq!(screen(&world), [("satu", 2)]);
        world.clear_faults();

        // Held back until nothing overtakes it.
        world.set_fault(Some(1), Fault::Duplicate { count: Some(1) }).unwrap();
        world.set_fault(Some(1), Fault::Reorder { count: Some(1) }).unwrap();
        write(&mut world, &budi, "dua");
        wait(&mut world, HELD_BACK);
        assert_eq!(screen(&world)[1..], [("dua", 2)]);

        // Overtaken by another one, which comes twice itself, and both late.
        world.set_fault(Some(1), Fault::Duplicate { count: Some(2) }).unwrap();
        world.set_fault(Some(1), Fault::Reorder { count: Some(1) }).unwrap();
        world.set_fault(Some(1), Fault::Delay { ms: 300 }).unwrap();
        write(&mut world, &budi, "tiga");
        write(&mut world, &budi, "empat");
        wait(&mut world, delay);
        assert_eq!(screen(&world)[2..], [("empat", 2), ("tiga", 2)]);
    }

    #[test]
    fn a_fault_happens_as_often_as_its_count_says_and_only_to_whom_it_is_on() {
        let mut world = World::new(StdRng::seed_from_u64(1));
        let usync = |code, count| Fault::Iq { xmlns: "usync".into(), code, count };
        world.set_fault(Some(3), usync(Some(503), Some(2))).unwrap();
        world.set_fault(None, usync(None, None)).unwrap();
        assert_eq!(world.faults.on_iq(3, "encrypt"), None);
        assert_eq!(world.faults.on_iq(4, "usync"), Some(IqFault::Never));
        let answers: Vec<_> = (0..3).map(|_| world.faults.on_iq(3, "usync")).collect();
        assert_eq!(answers, [Some(IqFault::Error(503)), Some(IqFault::Error(503)), Some(IqFault::Never)]);
        world.clear_faults();
        assert_eq!(world.faults.on_iq(3, "usync"), None);
    }

    #[test]
    fn pings_are_ignored_and_everything_else_answered() {
        let mut world = World::new(StdRng::seed_from_u64(1));
        world.set_fault(None, Fault::IgnorePings).unwrap();
        assert_eq!(world.faults.on_iq(0, "w:p"), Some(IqFault::Never));
        assert_eq!(world.faults.on_iq(0, "passive"), None);
    }

    #[test]
    fn a_message_that_was_never_delivered_cannot_be_replayed() {
        let mut world = World::new(StdRng::seed_from_u64(1));
        assert!(world.set_fault(None, Fault::Replay { id: "3EB0".into() }).is_err());
        assert!(world.set_fault(None, Fault::Corrupt { count: Some(0) }).is_err());
    }

    #[test]
    fn a_fault_is_written_as_the_control_port_s_documentation_says() {
        let fault: Fault = serde_json::from_str(r#"{"kind":"iq","xmlns":"usync","code":null}"#).unwrap();
        assert_eq!(fault, Fault::Iq { xmlns: "usync".into(), code: None, count: None });
        assert!(serde_json::from_str::<Fault>(r#"{"kind":"delay","ms":5,"often":1}"#).is_err());
    }
}
