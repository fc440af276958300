//! To whom an account may write: A/B properties, tokens of contacts, tokens made from a salt, and the lock
//! that WhatsApp puts on new chats.

use std::collections::{BTreeMap, BTreeSet};

use hmac::{Hmac, KeyInit, Mac};
use rand::CryptoRng;
use serde_json::{Value, json};
use sha2::Sha256;
use wacore::appstate::hash::{HashState, generate_patch_mac};
use wacore::appstate::{encode_record, expand_app_state_keys};
use wacore_binary::Node;
use waproto::codec;
use waproto::whatsapp::message::protocol_message::Type;
use waproto::whatsapp::message::{HistorySyncNotification, HistorySyncType, ProtocolMessage};
use waproto::whatsapp::sync_action_value::NctSaltSyncAction;
use waproto::whatsapp::syncd_mutation::SyncdOperation;
use waproto::whatsapp::{HistorySync, KeyId, Message, SyncActionValue, SyncdPatch, history_sync};

use super::accounts::{AccountId, Addressing, DeviceAddress};
use super::stanza::{Stanza, node, result, server_jid};
use super::world::World;

/// Clients attach tokens of contacts (`<tctoken>`).
pub const SEND_TOKENS: u32 = 10_518;

/// Clients attach tokens made from the salt (`<cstoken>`) where they have no other.
pub const SEND_SALTED_TOKENS: u32 = 24_941;

/// Clients take the salt from the history that the phone sends, and from the app state.
pub const SALT_BY_HISTORY: u32 = 25_189;
pub const SALT_BY_APP_STATE: u32 = 25_253;

/// Seconds that A/B properties stay valid on the client.
const PROPS_REFRESH: u32 = 86_400;

/// The collection that the salt is in, and its version of the action.
const SALT_COLLECTION: &str = "regular_high";
const SALT_ACTION_VERSION: i32 = 1;

/// `query_id` of the question for the lock.
const LOCK_QUERY: &str = "23983697327930364";

/// WhatsApp's lock on new chats of an account.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// When it ends, in Unix seconds by the server's clock; `None`: not before it is taken off.
    #[serde(default)]
    pub ends_at: Option<u64>,
    /// Whoever asks for it does not see it.
    #[serde(default)]
    pub hidden: bool,
    /// Its companions are told of it now.
    #[serde(default)]
    pub told: bool,
}

/// Ways in which a phone gives its companions the salt.
#[derive(Debug, Default)]
pub struct SaltDelivery {
    /// By the history, to companions that have it not yet.
    pub by_history: bool,
    served: BTreeSet<u16>,
}

/// One account's part.
pub struct Reachout {
    /// Its own values of A/B properties, which outrank the server's.
    pub properties: BTreeMap<u32, bool>,
    salt: [u8; 32],
    pub salt_delivery: SaltDelivery,
    /// Its phone hands tokens to those it writes to.
    pub gives_tokens: bool,
    /// A token made from the sender's salt is as good as one of its own.
    pub accepts_salted: bool,
    lock: Option<Lock>,
    /// How often its companions asked for the lock.
    pub asked: u64,
    /// To whom its companions have written.
    reached: BTreeSet<AccountId>,
    /// How often its companions were refused for want of a token or because of the lock.
    pub refused: u64,
}

impl Reachout {
    pub fn new(rng: &mut impl CryptoRng) -> Reachout {
        let mut salt = [0; 32];
        rng.fill_bytes(&mut salt);
        Reachout {
            properties: BTreeMap::new(),
            salt,
            salt_delivery: SaltDelivery::default(),
            gives_tokens: true,
            accepts_salted: false,
            lock: None,
            asked: 0,
            reached: BTreeSet::new(),
            refused: 0,
        }
    }

    fn lock_at(&self, now: u64) -> Option<&Lock> {
        self.lock.as_ref().filter(|lock| lock.ends_at.is_none_or(|ends| ends > now))
    }
}

impl World {
    /// The server's A/B properties before anybody changes them.
    pub fn usual_properties() -> BTreeMap<u32, bool> {
        BTreeMap::from([(SEND_TOKENS, true), (SEND_SALTED_TOKENS, false)])
    }

    /// `<iq xmlns="abt">`: all properties, whatever the client has.
    pub fn on_props_iq(&mut self, at: DeviceAddress, iq: &Node) -> Node {
        let mut properties = self.properties.clone();
        properties.extend(&self.accounts[at.account].reachout.properties);
        let hash: Vec<String> =
            properties.iter().map(|(code, on)| format!("{code}{}", if *on { '+' } else { '-' })).collect();
        let props = properties.into_iter().map(|(code, on)| {
            node("prop").attr("config_code", code).attr("config_value", if on { "1" } else { "0" }).build()
        });
        let props = node("props")
            .attr("protocol", "1")
            .attr("hash", hash.join(""))
            .attr("refresh", PROPS_REFRESH)
            .children(props)
            .build();
        result(iq, [props])
    }

    /// `<iq xmlns="w:mex">`: the lock; everything else has no data.
    pub fn on_mex_iq(&mut self, at: DeviceAddress, iq: &Node) -> Node {
        let asked = iq.child("query").and_then(|query| query.attr("query_id"));
        let data = match asked.as_deref() {
            Some(LOCK_QUERY) => {
                let now = self.now.unix;
                let reachout = &mut self.accounts[at.account].reachout;
                reachout.asked += 1;
                let shown = reachout.lock_at(now).filter(|lock| !lock.hidden);
                json!({ "xwa2_fetch_account_reachout_timelock": lock_data(shown) })
            }
            _ => self.community_data(iq).unwrap_or_else(|| json!({})),
        };
        result(iq, [node("result").string_content(json!({ "data": data }).to_string()).build()])
    }

    /// Puts a lock on an account, or takes it off.
    pub fn set_lock(&mut self, account: AccountId, lock: Option<Lock>) {
        let told = lock.as_ref().is_some_and(|lock| lock.told);
        self.accounts[account].reachout.lock = lock;
        if !told {
            return;
        }
        let data = lock_data(self.accounts[account].reachout.lock_at(self.now.unix));
        let payload = json!({ "data": { "xwa2_notify_account_reachout_timelock": data } });
        let companions: Vec<u16> = self.accounts[account].companions.keys().copied().collect();
        for device in companions {
            let update = node("update")
                .attr("op_name", "NotificationUserReachoutTimelockUpdate")
                .string_content(payload.to_string())
                .build();
            self.notify(DeviceAddress { account, device }, "mex", server_jid(), vec![update]);
        }
    }

    /// Whether a message to `to` carries a token that `to` accepts.
    fn has_good_token(&self, from: AccountId, to: AccountId, stanza: &Node) -> bool {
        let owner = &self.accounts[to];
        let token = stanza.child("tctoken").and_then(|token| token.bytes());
        if token.is_some() && token == owner.tokens.get(&from).map(Vec::as_slice) {
            return true;
        }
        let salted = stanza.child("cstoken").and_then(|token| token.bytes());
        owner.reachout.accepts_salted && salted.is_some_and(|salted| salted == self.salted_token(from, to))
    }

    /// HMAC-SHA256 of the LID of `to` under the salt of `from`.
    fn salted_token(&self, from: AccountId, to: AccountId) -> Vec<u8> {
        let lid = self.accounts[to].jid(0, Addressing::Lid).to_string();
        let mac = Hmac::<Sha256>::new_from_slice(&self.accounts[from].reachout.salt);
        // Any length of key is good for an HMAC.
        mac.map(|mac| mac.chain_update(lid.as_bytes()).finalize().into_bytes().to_vec()).unwrap_or_default()
    }

    /// Whether a message is refused for want of a token, or because its sender may open no new chats.
    pub fn token_missing(&mut self, from: DeviceAddress, stanza: &Node) -> bool {
        let Some(to) = stanza.jid("to").and_then(|to| self.account_of(&to)) else { return false };
        if to == from.account {
            return false;
        }
        let sender = &self.accounts[from.account].reachout;
        let locked = sender.lock_at(self.now.unix).is_some() && !sender.reached.contains(&to);
        let refused =
            (locked || self.accounts[to].restricted) && !self.has_good_token(from.account, to, stanza);
        let sender = &mut self.accounts[from.account].reachout;
        if refused {
            sender.refused += 1;
        } else if from.device != 0 {
            sender.reached.insert(to);
        }
        refused
    }

    /// Whether somebody may see how `of` stands: whoever is restricted shows it to those with a token.
    pub fn may_see(&self, who: AccountId, of: AccountId, subscription: &Node) -> bool {
        !self.accounts[of].restricted || who == of || self.has_good_token(who, of, subscription)
    }

    /// A phone is about to write to `to`: it hands out its token with the first message, and whoever is
    /// restricted with each.
    pub fn phone_gives_token(&mut self, from: AccountId, to: AccountId) {
        let owner = &self.accounts[from];
        let first = !owner.tokens.contains_key(&to);
        if owner.reachout.gives_tokens && from != to && (owner.restricted || first) {
            self.give_token(from, to);
        }
    }

    /// The salt by history, to a companion that has not got it that way.
    pub fn deliver_salt(&mut self, at: DeviceAddress) {
        let reachout = &mut self.accounts[at.account].reachout;
        if !reachout.salt_delivery.by_history || !reachout.salt_delivery.served.insert(at.device) {
            return;
        }
        let history = HistorySync {
            sync_type: history_sync::HistorySyncType::INITIAL_BOOTSTRAP,
            nct_salt: Some(reachout.salt.to_vec()),
            ..HistorySync::default()
        };
        let payload = zlib_stored(&codec::history_sync_to_vec(&history));
        let notification = HistorySyncNotification {
            file_length: Some(payload.len() as u64),
            sync_type: Some(HistorySyncType::INITIAL_BOOTSTRAP),
            initial_hist_bootstrap_inline_payload: Some(payload),
            ..HistorySyncNotification::default()
        };
        let message = Message {
            protocol_message: buffa::MessageField::some(ProtocolMessage {
                r#type: Some(Type::HISTORY_SYNC_NOTIFICATION),
                history_sync_notification: buffa::MessageField::some(notification),
                ..ProtocolMessage::default()
            }),
            ..Message::default()
        };
        self.phone_tells(at, &message);
    }

    /// The salt by app state, for companions that are linked from now on.
    ///
    /// # Errors
    /// When the collection has patches already: this one is made to be the first.
    pub fn put_salt_into_app_state(&mut self, account: AccountId) -> anyhow::Result<()> {
        let owner = &mut self.accounts[account];
        let (key_id, key) = owner.primary.phone.app_state_key();
        let keys = expand_app_state_keys(&key);
        let value = SyncActionValue {
            nct_salt_sync_action: buffa::MessageField::some(NctSaltSyncAction {
                salt: Some(owner.reachout.salt.to_vec()),
            }),
            timestamp: Some(i64::try_from(self.now.unix).unwrap_or(i64::MAX)),
            ..SyncActionValue::default()
        };
        let (mutation, _) = encode_record(
            SyncdOperation::SET,
            br#"["nct_salt_sync"]"#,
            &value,
            &keys,
            &key_id,
            &owner.reachout.salt[..16].try_into().unwrap_or_default(),
            SALT_ACTION_VERSION,
        );
        let mutations = vec![mutation];
        let mut state = HashState::default();
        state.update_hash(&mutations, |_, _| Ok(None)).1?;
        state.version = 1;
        let mut patch = SyncdPatch {
            snapshot_mac: Some(state.generate_snapshot_mac(SALT_COLLECTION, &keys.snapshot_mac)),
            key_id: buffa::MessageField::some(KeyId { id: Some(key_id.to_vec()) }),
            mutations,
            ..SyncdPatch::default()
        };
        patch.patch_mac = Some(generate_patch_mac(&patch, SALT_COLLECTION, &keys.patch_mac, state.version));
        let version = owner.app_state.append(SALT_COLLECTION, &codec::syncd_patch_to_vec(&patch));
        anyhow::ensure!(version == Some(1), "the collection {SALT_COLLECTION} is not empty");
        Ok(())
    }
}

/// The lock as clients are told of it.
fn lock_data(lock: Option<&Lock>) -> Value {
    match lock {
        None => json!({ "is_active": false, "time_enforcement_ends": "0" }),
        Some(lock) => json!({
            "is_active": true,
            "enforcement_type": "DEFAULT",
            "time_enforcement_ends": lock.ends_at.unwrap_or(0).to_string(),
        }),
    }
}

/// A zlib stream of stored blocks (RFC 1950, RFC 1951 section 3.2.4): what is in it is some dozen bytes.
fn zlib_stored(content: &[u8]) -> Vec<u8> {
    let mut stream = vec![0x78, 0x01];
    let mut blocks = content.chunks(usize::from(u16::MAX)).peekable();
    while let Some(block) = blocks.next() {
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        stream.push(u8::from(blocks.peek().is_none()));
        stream.extend(length.to_le_bytes());
        stream.extend((!length).to_le_bytes());
        stream.extend(block);
    }
    let (mut low, mut high) = (1_u32, 0_u32);
    for byte in content {
        low = (low + u32::from(*byte)) % 65_521;
        high = (high + low) % 65_521;
    }
    stream.extend((high << 16 | low).to_be_bytes());
    stream
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use wacore::iq::tctoken::compute_cs_token;

    use super::*;

    const BOT: DeviceAddress = DeviceAddress { account: 0, device: 1 };
    const ANI: AccountId = 1;

    fn world() -> World {
        let mut world = World::new(StdRng::seed_from_u64(1));
        world.account_named("Bot");
        world.account_named("Ani");
        world
    }

    fn message(world: &World, token: Option<Node>) -> Node {
        node("message").attr("to", world.accounts[ANI].jid(0, Addressing::Pn)).children(token).build()
    }

    #[test]
    fn a_locked_account_reaches_those_it_knows_and_those_whose_token_it_has() {
        let mut world = world();
        let plain = message(&world, None);
        world.set_lock(BOT.account, Some(Lock { ends_at: Some(world.now.unix + 10), ..Lock::default() }));
        assert!(world.token_missing(BOT, &plain));
        world.give_token(ANI, BOT.account);
        assert!(world.token_missing(BOT, &plain), "it has a token and does not show it");
        let token = node("tctoken").bytes(world.accounts[ANI].tokens[&BOT.account].clone()).build();
        let vouched = message(&world, Some(token));
        assert!(!world.token_missing(BOT, &vouched));
        assert!(!world.token_missing(BOT, &plain), "the chat is not new any more");
        assert_eq!(world.accounts[BOT.account].reachout.refused, 2);
    }

    #[test]
    fn a_lock_ends_by_itself() {
        let mut world = world();
        let plain = message(&world, None);
        world.set_lock(BOT.account, Some(Lock { ends_at: Some(world.now.unix + 10), ..Lock::default() }));
        assert!(world.token_missing(BOT, &plain));
        world.now.unix += 10;
        assert!(!world.token_missing(BOT, &plain));
    }

    #[test]
    fn a_token_from_the_salt_is_what_clients_compute_and_good_only_where_it_is_accepted() {
        let mut world = world();
        world.accounts[ANI].restricted = true;
        let lid = world.accounts[ANI].jid(0, Addressing::Lid).to_string();
        let token = compute_cs_token(&world.accounts[BOT.account].reachout.salt, &lid);
        let salted = message(&world, Some(node("cstoken").bytes(token).build()));
        assert!(world.token_missing(BOT, &salted));
        world.accounts[ANI].reachout.accepts_salted = true;
        assert!(!world.token_missing(BOT, &salted));
        let wrong = message(&world, Some(node("cstoken").bytes(vec![0; 32]).build()));
        assert!(world.token_missing(BOT, &wrong));
    }

    #[test]
    fn a_salt_by_history_is_a_stream_that_clients_read() {
        let history = HistorySync {
            sync_type: history_sync::HistorySyncType::INITIAL_BOOTSTRAP,
            nct_salt: Some(vec![7; 32]),
            ..HistorySync::default()
        };
        let stream = zlib_stored(&codec::history_sync_to_vec(&history));
        let read = wacore::history_sync::process_history_sync(stream, None, false).unwrap();
        assert_eq!(read.nct_salt, Some(vec![7; 32]));
    }

    #[test]
    fn a_salt_goes_into_the_app_state_once() {
        let mut world = world();
        world.put_salt_into_app_state(ANI).unwrap();
        assert!(world.put_salt_into_app_state(ANI).is_err());
    }
}
