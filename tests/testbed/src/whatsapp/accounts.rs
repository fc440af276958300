//! Accounts and their devices: who exists, under which addresses, with which keys.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand::CryptoRng;
use wacore_binary::{Jid, Server};

use super::appstate::AppState;
use super::primary::Primary;
use super::queue::Queue;
use super::reachout::Reachout;
use super::world::SocketId;
use crate::phone::{KeyBundle, SignedPreKey};

/// Highest companion id given; upstream's test suites expect small ones.
const MAX_COMPANION: u16 = 99;

/// Message ids remembered per sending device, so that a resend is not relayed twice.
const REMEMBERED_IDS: usize = 4096;

/// Index into the list of accounts; accounts are never removed.
pub type AccountId = usize;

/// One device of one account. Device 0 is the primary phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceAddress {
    pub account: AccountId,
    pub device: u16,
}

/// The name space an address is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Addressing {
    /// By phone number, `@s.whatsapp.net`.
    #[default]
    Pn,
    /// By hidden user id, `@lid`.
    Lid,
}

impl Addressing {
    pub fn of(jid: &Jid) -> Addressing {
        if jid.server.is_lid_family() { Addressing::Lid } else { Addressing::Pn }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Addressing::Pn => "pn",
            Addressing::Lid => "lid",
        }
    }

    pub fn other(self) -> Addressing {
        match self {
            Addressing::Pn => Addressing::Lid,
            Addressing::Lid => Addressing::Pn,
        }
    }
}

/// An account: a person with a phone.
pub struct Account {
    /// Digits with country code.
    pub number: String,
    /// User part of the LID.
    pub lid: String,
    /// The name it was opened under, by which clients and tests find it again; empty when the client
    /// that opened it gave none. Never changes.
    pub registered_as: String,
    /// What messages carry as `notify`; clients change it with their presence.
    pub name: String,
    /// Id of its picture, if it has one.
    pub picture: Option<String>,
    /// Strangers need a trusted-contact token to write to it.
    pub restricted: bool,
    pub primary: Primary,
    pub companions: BTreeMap<u16, Companion>,
    last_companion: u16,
    /// How often its companions logged in.
    pub logins: u64,
    /// Accounts that have sent to or received from this one: they hear of its device changes.
    pub contacts: BTreeSet<AccountId>,
    /// Companions that want to know whether it is online.
    pub subscribers: BTreeMap<DeviceAddress, Addressing>,
    /// Trusted-contact tokens it gave out.
    pub tokens: BTreeMap<AccountId, Vec<u8>>,
    pub reachout: Reachout,
    pub app_state: AppState,
}

impl Account {
    /// The `index`-th account, with an invented number that no one has.
    pub fn new(index: AccountId, name: &str, rng: &mut impl CryptoRng) -> Account {
        Account {
            number: format!("628{:010}", index + 1),
            lid: format!("{}", 200_000_000_000_001 + index as u64),
            registered_as: name.to_owned(),
            // Nobody lacks a push name in WhatsApp, and clients that have none do not say that they
            // are available: this one reaches them with `<biz name>`.
            name: if name.is_empty() { format!("Warga {}", index + 1) } else { name.to_owned() },
            picture: None,
            restricted: false,
            primary: Primary::new(rng),
            companions: BTreeMap::new(),
            last_companion: 0,
            logins: 0,
            contacts: BTreeSet::new(),
            subscribers: BTreeMap::new(),
            tokens: BTreeMap::new(),
            reachout: Reachout::new(rng),
            app_state: AppState::default(),
        }
    }

    /// Address of one of its devices.
    pub fn jid(&self, device: u16, addressing: Addressing) -> Jid {
        match addressing {
            Addressing::Pn => Jid::pn_device(self.number.as_str(), device),
            Addressing::Lid => Jid::lid_device(self.lid.as_str(), device),
        }
    }

    /// The next companion id, 1 to 99; `None` when all were given.
    pub fn next_companion(&mut self) -> Option<u16> {
        (self.last_companion < MAX_COMPANION).then(|| {
            self.last_companion += 1;
            self.last_companion
        })
    }

    /// All devices, the phone first.
    pub fn devices(&self) -> impl Iterator<Item = u16> + '_ {
        std::iter::once(0).chain(self.companions.keys().copied())
    }
}

/// Keys that a companion uploaded.
#[derive(Debug, Clone)]
pub struct CompanionKeys {
    pub registration_id: u32,
    pub identity: [u8; 32],
    pub signed: SignedPreKey,
    /// One-time prekeys, the oldest first.
    pub one_time: VecDeque<(u32, [u8; 32])>,
}

impl CompanionKeys {
    /// A bundle with the next one-time prekey, or without when none is left.
    pub fn take_bundle(&mut self) -> KeyBundle {
        KeyBundle {
            registration_id: self.registration_id,
            identity: self.identity,
            signed: self.signed.clone(),
            one_time: self.one_time.pop_front(),
        }
    }
}

/// A linked device, such as the bot.
pub struct Companion {
    /// Static Noise key by which it logs in.
    pub noise: [u8; 32],
    pub key_index: u32,
    /// `ADVSignedDeviceIdentity`, complete.
    pub identity_blob: Vec<u8>,
    pub keys: CompanionKeys,
    /// Has uploaded keys by itself; until then the server only has those of its registration.
    pub uploaded_keys: bool,
    pub queue: Queue,
    pub socket: Option<SocketId>,
    /// Has got its offline queue on this socket: live traffic may follow.
    pub drained: bool,
    /// Is getting it: so many stanzas were handed out.
    pub handed_out: Option<usize>,
    /// Sent `<presence type="available">` on this socket.
    pub available: bool,
    /// Got the app-state key from the phone.
    pub has_app_state_key: bool,
    /// Was told that its prekeys run low and has not uploaded since.
    pub asked_for_prekeys: bool,
    sent_ids: VecDeque<String>,
}

impl Companion {
    pub fn new(noise: [u8; 32], key_index: u32, identity_blob: Vec<u8>, keys: CompanionKeys) -> Companion {
        Companion {
            noise,
            key_index,
            identity_blob,
            keys,
            uploaded_keys: false,
            queue: Queue::default(),
            socket: None,
            drained: false,
            handed_out: None,
            available: false,
            has_app_state_key: false,
            asked_for_prekeys: false,
            sent_ids: VecDeque::new(),
        }
    }

    /// Whether this id is new; remembers it.
    pub fn first_sight(&mut self, id: &str) -> bool {
        if self.sent_ids.iter().any(|known| known == id) {
            return false;
        }
        if self.sent_ids.len() == REMEMBERED_IDS {
            self.sent_ids.pop_front();
        }
        self.sent_ids.push_back(id.to_owned());
        true
    }

    /// The next message of this id is new again.
    pub fn forget_sight(&mut self, id: &str) {
        self.sent_ids.retain(|known| known != id);
    }
}

/// Whether an address names a person's device at all (not a group, a broadcast list, the server).
pub fn is_person(jid: &Jid) -> bool {
    !jid.user.is_empty() && matches!(jid.server, Server::Pn | Server::Lid | Server::Legacy)
}
