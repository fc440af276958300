//! Faults on command: what goes wrong, for whom and how often.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use anyhow::ensure;
use serde::{Deserialize, Serialize};
use wacore_binary::{Node, NodeContent};

use super::accounts::{AccountId, DeviceAddress};
use super::stanza::Stanza;
use super::world::{Later, Peer, SocketId, World};

/// Longest that a message is held back to be overtaken; then it is delivered anyway.
const HELD_BACK: Duration = Duration::from_secs(2);

/// Length of the MAC at the end of a Signal message.
const MAC_BYTES: usize = 8;

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
    /// Swallows everything the server would send: a connection that is dead but open.
    Mute,
    /// Takes messages or receipts (`class`) and relays them, but never acknowledges them.
    SwallowAcks { class: String, count: Option<u32> },
    /// Refuses messages *from* the account with `<ack error>`.
    RejectMessages { code: u16, count: Option<u32> },
    /// Delivers messages this much later.
    Delay { ms: u64 },
    /// Delivers the next messages twice.
    Duplicate { count: Option<u32> },
    /// Spoils the ciphertext of the next messages, so that the receiver must ask for a retry.
    Corrupt { count: Option<u32> },
    /// Lets each of the next messages be overtaken by the one after it.
    Reorder { count: Option<u32> },
    /// Delivers a message that was delivered before once more.
    Replay { id: String },
    /// Keeps everything in the offline queue, though the device is online.
    HoldOffline,
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
            | Fault::RejectMessages { count, .. }
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
    /// Messages held back to be overtaken.
    held: HashMap<DeviceAddress, Node>,
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

    /// `None` for a client that is not linked yet.
    pub fn mutes(&self, account: Option<AccountId>) -> bool {
        self.has(account, &Fault::Mute)
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

    pub fn rejects_message(&mut self, account: AccountId) -> Option<u16> {
        self.take(Some(account), |fault| match fault {
            Fault::RejectMessages { code, .. } => Some(*code),
            _ => None,
        })
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
        if faults.happens(to.account, |fault| matches!(fault, Fault::Corrupt { .. })) {
            corrupt(&mut stanza);
        }
        let twice = faults.happens(to.account, |fault| matches!(fault, Fault::Duplicate { .. }));
        if let Some(overtaken) = faults.held.remove(&to) {
            self.deliver_message(to, stanza);
            return self.deliver_message(to, overtaken);
        }
        if faults.happens(to.account, |fault| matches!(fault, Fault::Reorder { .. })) {
            faults.held.insert(to, stanza);
            return self.after(HELD_BACK, Later::ReleaseHeld { to });
        }
        if let Some(delay) = faults.delays(to.account) {
            return self.after(delay, Later::Deliver { to, stanza });
        }
        if twice {
            self.deliver_message(to, stanza.clone());
        }
        self.deliver_message(to, stanza);
    }

    pub fn release_held(&mut self, to: DeviceAddress) {
        if let Some(stanza) = self.faults.held.remove(&to) {
            self.deliver_message(to, stanza);
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

/// Flips a bit of each ciphertext's MAC.
fn corrupt(stanza: &mut Node) {
    let Some(NodeContent::Nodes(children)) = &mut stanza.content else { return };
    for enc in children.iter_mut().filter(|child| child.tag == "enc") {
        let first_of_session = enc.attr("type").as_deref() == Some("pkmsg");
        let Some(NodeContent::Bytes(bytes)) = &mut enc.content else { continue };
        let end = if first_of_session { inner_message_end(bytes) } else { Some(bytes.len()) };
        if let Some(byte) = end.and_then(|end| bytes.get_mut(end.checked_sub(MAC_BYTES)?)) {
            *byte ^= 1;
        }
    }
}

/// Where the signal message inside a pre-key signal message ends: field 4 of a protobuf that
/// follows the version byte.
fn inner_message_end(bytes: &[u8]) -> Option<usize> {
    const MESSAGE: u64 = 4;
    const VARINT: u64 = 0;
    const DELIMITED: u64 = 2;
    let mut at = 1;
    loop {
        let tag = varint(bytes, &mut at)?;
        let value = varint(bytes, &mut at)?;
        match tag & 7 {
            VARINT => {}
            DELIMITED => at = at.checked_add(usize::try_from(value).ok()?)?,
            _ => return None,
        }
        if tag >> 3 == MESSAGE {
            return (at <= bytes.len()).then_some(at);
        }
    }
}

/// Reads a protobuf varint at `at` and steps over it.
fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
