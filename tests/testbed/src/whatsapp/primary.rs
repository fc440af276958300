//! A primary phone in use: what its screen shows, what it sends, how it answers.
//!
//! The cryptography is [`crate::phone::Phone`]'s. Signal sessions are named by the peer's phone
//! number, whatever addressing a stanza uses, as both forms are the same device.
//!
//! To a person it writes a ciphertext for each device; to a group or as a status, one for all by its sender key,
//! which each device gets once, and which is renewed when somebody left.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use anyhow::{Context, ensure};
use rand::CryptoRng;
use serde::{Deserialize, Serialize};
use wacore::proto_helpers::MessageExt;
use wacore_binary::{Jid, Node, Server};
use waproto::whatsapp::Message;
use waproto::whatsapp::message::DeviceSentMessage;

use super::accounts::{AccountId, Addressing, DeviceAddress, is_person};
use super::passkey::Gate;
use super::prekeys::{bundle_from_retry, retry_keys};
use super::receipts::receipt_ids;
use super::stanza::{Stanza, leaf, node};
use super::world::World;
use crate::phone::{DecryptError, KeyBundle, Kind, Phone, SignalError};

/// Messages a phone shows at most; a test that needs more reads them in between.
const MAX_SHOWN: usize = 100_000;

/// Messages a phone can send again on a retry receipt.
const MAX_SENT: usize = 1024;

/// Stanzas that wait for a phone that is offline.
const MAX_WAITING: usize = 20_000;

/// Where a phone posts a status, for everybody it has written with.
const STATUS: &str = "status@broadcast";

/// Retry receipts per message, as clients limit them.
const MAX_RETRIES: u32 = 5;

/// One entry on a phone's screen.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The other person's number, or the group's id.
    pub chat: String,
    /// The sender's number.
    pub from: String,
    /// Sent by a companion of this phone's own account.
    pub from_me: bool,
    pub id: String,
    /// Text or caption; empty when the message has none.
    pub text: String,
    /// Server time, Unix seconds.
    pub at: u64,
    /// How often a message with this id came; more than one is somebody's mistake.
    pub copies: u32,
    pub message: Message,
}

/// How a phone sends a message.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SendAs {
    /// Message id; a fresh one when absent.
    pub id: Option<String>,
    pub addressing: Addressing,
}

struct Sent {
    id: String,
    chat: Jid,
    message: Message,
    /// To a companion of its own, which nobody sees.
    peer: bool,
}

/// The phone of one account.
pub struct Primary {
    pub phone: Phone,
    /// Connected to the network. What comes while it is not waits.
    pub online: bool,
    pub shown: Vec<Shown>,
    /// Messages that did not decrypt, counted once per attempt.
    pub failed_decryptions: u64,
    /// Why the last pairing failed on the phone.
    pub link_failed: Option<String>,
    /// Only with its passkey is another device linked.
    pub gate: Option<Gate>,
    waiting: VecDeque<Node>,
    sent: VecDeque<Sent>,
    /// Devices that were given this phone's sender key, by the group's JID.
    sender_key_with: HashMap<String, BTreeSet<DeviceAddress>>,
    /// Receipts by message id: their types, the empty one for delivery.
    receipts: HashMap<String, HashSet<String>>,
    retries: HashMap<String, u32>,
    typing: HashSet<AccountId>,
}

impl Primary {
    pub fn new(rng: &mut impl CryptoRng) -> Primary {
        Primary {
            phone: Phone::new(rng),
            online: true,
            shown: Vec::new(),
            failed_decryptions: 0,
            link_failed: None,
            gate: None,
            waiting: VecDeque::new(),
            sent: VecDeque::new(),
            sender_key_with: HashMap::new(),
            receipts: HashMap::new(),
            retries: HashMap::new(),
            typing: HashSet::new(),
        }
    }

    /// Whether the receiver confirmed that a message arrived: a companion if it has any, else its
    /// phone. A receipt `inactive` counts: it is sent by clients that nobody looks at.
    pub fn delivered(&self, id: &str) -> bool {
        self.receipts.get(id).is_some_and(|kinds| kinds.iter().any(|kind| kind != "retry"))
    }

    /// Whether the receiver read a message.
    pub fn read(&self, id: &str) -> bool {
        self.receipts.get(id).is_some_and(|kinds| kinds.contains("read"))
    }

    /// Retry receipts that came for a message.
    pub fn asked_again(&self, id: &str) -> bool {
        self.receipts.get(id).is_some_and(|kinds| kinds.contains("retry"))
    }

    /// Whether `who` is typing to this phone's owner.
    pub fn sees_typing(&self, who: AccountId) -> bool {
        self.typing.contains(&who)
    }

    pub fn saw_typing(&mut self, who: AccountId, typing: bool) {
        if typing {
            self.typing.insert(who);
        } else {
            self.typing.remove(&who);
        }
    }

    pub fn wait_for(&mut self, stanza: Node) {
        if self.waiting.len() == MAX_WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back(stanza);
    }

    fn show(&mut self, shown: Shown) {
        if let Some(known) = self.shown_before(&shown.id, &shown.from) {
            known.copies += 1;
        } else if self.shown.len() < MAX_SHOWN {
            self.shown.push(shown);
        } else {
            log::warn!("a phone's screen is full");
        }
    }

    fn shown_before(&mut self, id: &str, from: &str) -> Option<&mut Shown> {
        self.shown.iter_mut().find(|known| known.id == id && known.from == from)
    }

    fn remember_sent(&mut self, sent: Sent) {
        if self.sent.len() == MAX_SENT {
            self.sent.pop_front();
        }
        self.sent.push_back(sent);
    }

    /// Keeps a peer message, in case the companion cannot read it.
    pub fn remember_peer_message(&mut self, id: String, own: Jid, message: Message) {
        self.remember_sent(Sent { id, chat: own, message, peer: true });
    }

    /// That device needs this phone's sender keys again.
    pub fn forget_sender_key_of(&mut self, device: DeviceAddress) {
        for with in self.sender_key_with.values_mut() {
            with.remove(&device);
        }
    }
}

/// Where a delivered stanza came from, and what to say to it.
struct Origin {
    sender: DeviceAddress,
    chat: String,
    /// `to` and `participant` of a receipt for it.
    reply_to: Jid,
    participant: Option<Jid>,
}

impl World {
    pub fn set_online(&mut self, account: AccountId, online: bool) {
        let primary = &mut self.accounts[account].primary;
        primary.online = online;
        if online {
            let waiting = std::mem::take(&mut primary.waiting);
            self.for_primaries.extend(waiting.into_iter().map(|stanza| (account, stanza)));
            let companions: Vec<u16> = self.accounts[account].companions.keys().copied().collect();
            for device in companions {
                self.share_app_state_key(DeviceAddress { account, device });
            }
        }
    }

    /// Encrypts for one device with the phone of `from`, fetching its keys if there is no session.
    pub fn encrypt_for(&mut self, from: AccountId, to: DeviceAddress, message: &Message) -> Option<Node> {
        let name = self.accounts[to.account].number.clone();
        let known = self.accounts[from].primary.phone.has_session(&name, to.device.into());
        let bundle = if known { None } else { Some(self.take_bundle(to)?) };
        self.encrypt_with(from, to, bundle.as_ref(), message)
    }

    fn encrypt_with(
        &mut self,
        from: AccountId,
        to: DeviceAddress,
        bundle: Option<&KeyBundle>,
        message: &Message,
    ) -> Option<Node> {
        let name = self.accounts[to.account].number.clone();
        match self.accounts[from].primary.phone.encrypt(&name, to.device.into(), bundle, message) {
            Ok((kind, bytes)) => Some(leaf("enc", bytes).with("v", "2").with("type", kind.as_str())),
            Err(failed) => {
                log::warn!("a phone could not encrypt: {failed}");
                None
            }
        }
    }

    /// A phone sends a message to a person, a group or `status@broadcast`, for all devices of
    /// everybody concerned. Gives the message's id.
    ///
    /// # Errors
    /// When the phone is offline or nobody can get the message.
    pub fn phone_sends(
        &mut self,
        from: AccountId,
        to: &str,
        message: Message,
        how: SendAs,
    ) -> anyhow::Result<String> {
        ensure!(self.accounts[from].primary.online, "the phone is offline: switch it on first");
        let (chat, receivers, addressing) = match self.groups.members(to) {
            None if to == STATUS => {
                let viewers = self.accounts[from].contacts.iter().copied().chain([from]).collect();
                (Jid::new("status", Server::Broadcast), viewers, Addressing::Pn)
            }
            Some(members) => (Jid::group(to), members, self.groups.addressing(to)),
            None => {
                let account = self.account_numbered(to)?;
                let chat = self.accounts[account].jid(0, how.addressing);
                (chat, vec![account, from], how.addressing)
            }
        };
        let id = match how.id {
            Some(id) => id,
            None => self.fresh_message_id(),
        };
        let mut devices: Vec<DeviceAddress> = receivers
            .iter()
            .flat_map(|account| {
                let account = *account;
                self.accounts[account].devices().map(move |device| DeviceAddress { account, device })
            })
            .filter(|to| *to != DeviceAddress { account: from, device: 0 })
            .collect();
        devices.sort();
        devices.dedup();
        let content = if is_person(&chat) {
            self.encrypt_for_each(from, &chat, addressing, &message, devices)
        } else {
            self.encrypt_for_all(from, &chat, addressing, &message, devices)?
        };
        let kind = if message.text_content().is_some() { "text" } else { "media" };
        let stanza = node("message")
            .attr("to", &chat)
            .attr("id", id.as_str())
            .attr("type", kind)
            .children(content)
            .build();
        if is_person(&chat)
            && let Some(&other) = receivers.first()
        {
            self.phone_gives_token(from, other);
        }
        self.accounts[from].primary.remember_sent(Sent { id: id.clone(), chat, message, peer: false });
        self.relay(DeviceAddress { account: from, device: 0 }, &stanza)
            .context("relaying a phone's message")?;
        Ok(id)
    }

    /// A message to a person: a ciphertext for each device, its own among them.
    fn encrypt_for_each(
        &mut self,
        from: AccountId,
        chat: &Jid,
        addressing: Addressing,
        message: &Message,
        devices: Vec<DeviceAddress>,
    ) -> Vec<Node> {
        let for_own = sent_from_own_device(chat, message);
        let mut participants = Vec::new();
        for to in devices {
            let content = if to.account == from { &for_own } else { message };
            if let Some(enc) = self.encrypt_for(from, to, content) {
                participants.push(node("to").attr("jid", self.jid(to, addressing)).children([enc]).build());
            }
        }
        vec![node("participants").children(participants).build()]
    }

    /// A message to a group or a status: one ciphertext for all, and the sender key for each device that does
    /// not have it.
    fn encrypt_for_all(
        &mut self,
        from: AccountId,
        chat: &Jid,
        addressing: Addressing,
        message: &Message,
        devices: Vec<DeviceAddress>,
    ) -> anyhow::Result<Vec<Node>> {
        let group = chat.to_string();
        let primary = &mut self.accounts[from].primary;
        let mut with = primary.sender_key_with.remove(&group).unwrap_or_default();
        if with.iter().any(|device| !devices.contains(device)) {
            // Who left must not read on.
            primary.phone.renew_sender_key(&group);
            with.clear();
        }
        let key = primary.phone.sender_key(&group)?;
        let mut participants = Vec::new();
        for to in devices {
            let named = node("to").attr("jid", self.jid(to, addressing));
            if with.contains(&to) {
                // The server knows a group's members, but not who may see a status.
                if chat.server == Server::Broadcast {
                    participants.push(named.build());
                }
            } else if let Some(enc) = self.encrypt_for(from, to, &key) {
                participants.push(named.children([enc]).build());
                with.insert(to);
            }
        }
        let primary = &mut self.accounts[from].primary;
        primary.sender_key_with.insert(group.clone(), with);
        let enc = leaf("enc", primary.phone.encrypt_for_group(&group, message)?);
        let mut content = vec![enc.with("v", "2").with("type", "skmsg")];
        // A status may have no viewers.
        if !participants.is_empty() || chat.server == Server::Broadcast {
            content.insert(0, node("participants").children(participants).build());
        }
        Ok(content)
    }

    /// A stanza arrived at a phone.
    pub fn primary_received(&mut self, account: AccountId, stanza: Node) {
        match stanza.tag.as_ref() {
            "message" => self.primary_got_message(account, &stanza),
            "receipt" => self.primary_got_receipt(account, &stanza),
            _ => {}
        }
    }

    fn origin(&self, account: AccountId, stanza: &Node) -> Option<Origin> {
        let from = stanza.jid("from")?;
        let participant = stanza.jid("participant");
        let sender = self.device_of(participant.as_ref().unwrap_or(&from))?;
        let chat = match from.server {
            Server::Group | Server::Broadcast => from.user.to_string(),
            _ => {
                let other = match stanza.jid("recipient") {
                    Some(recipient) if sender.account == account => self.account_of(&recipient)?,
                    _ => sender.account,
                };
                self.accounts[other].number.clone()
            }
        };
        Some(Origin { sender, chat, reply_to: from, participant })
    }

    fn primary_got_message(&mut self, account: AccountId, stanza: &Node) {
        let (Some(origin), Some(id)) = (self.origin(account, stanza), stanza.attr("id")) else { return };
        let id = id.into_owned();
        let name = self.accounts[origin.sender.account].number.clone();
        let device = u32::from(origin.sender.device);
        for enc in stanza.all("enc") {
            let primary = &mut self.accounts[account].primary;
            let kind = enc.attr("type").unwrap_or_default();
            let ciphertext = enc.bytes().unwrap_or_default();
            let decrypted = match Kind::parse(&kind) {
                Some(kind) => primary.phone.decrypt(&name, device, kind, ciphertext),
                None if kind == "skmsg" => {
                    let group = origin.reply_to.to_string();
                    primary.phone.decrypt_from_group(&group, &name, device, ciphertext)
                }
                None => continue,
            };
            match decrypted {
                Ok(message) => {
                    if let Some(key) = message.sender_key_distribution_message.as_option()
                        && let Err(failed) = primary.phone.accept_sender_key(&name, device, key)
                    {
                        log::warn!("a phone could not take a sender key: {failed}");
                    }
                    self.primary_shows(account, &origin, &id, stanza, message);
                }
                Err(DecryptError::Signal(SignalError::Duplicate { .. })) => {
                    if let Some(known) = primary.shown_before(&id, &name) {
                        known.copies += 1;
                    }
                }
                Err(failed) => {
                    log::info!("a phone could not decrypt a message: {failed}");
                    primary.failed_decryptions += 1;
                    return self.primary_asks_again(account, &origin, &id);
                }
            }
        }
        if origin.sender.account != account {
            self.primary_receipt(account, &origin, &id, None, Vec::new());
        }
    }

    fn primary_shows(
        &mut self,
        account: AccountId,
        origin: &Origin,
        id: &str,
        stanza: &Node,
        message: Message,
    ) {
        let from_me = origin.sender.account == account;
        let message = match message.device_sent_message.as_option() {
            Some(sent) if from_me => sent.message.as_option().cloned().unwrap_or_default(),
            _ => message,
        };
        if stanza.attr("category").as_deref() == Some("peer") {
            if from_me {
                self.primary_got_peer_message(origin.sender, id, &message);
            }
            return;
        }
        let keys_only =
            message.sender_key_distribution_message.as_option().is_some() && message.text_content().is_none();
        // The phone acts on these; the person sees nothing.
        if keys_only || message.protocol_message.as_option().is_some() {
            return;
        }
        let shown = Shown {
            chat: origin.chat.clone(),
            from: self.accounts[origin.sender.account].number.clone(),
            from_me,
            id: id.to_owned(),
            text: message.text_content().or_else(|| message.get_caption()).unwrap_or_default().to_owned(),
            at: stanza.attr("t").and_then(|t| t.parse().ok()).unwrap_or(self.now.unix),
            copies: 1,
            message,
        };
        self.accounts[account].primary.show(shown);
    }

    /// The phone's retry receipt.
    fn primary_asks_again(&mut self, account: AccountId, origin: &Origin, id: &str) {
        let now = self.now.unix;
        let primary = &mut self.accounts[account].primary;
        let count = primary.retries.entry(id.to_owned()).or_default();
        *count += 1;
        let count = *count;
        if count > MAX_RETRIES {
            return;
        }
        let bundle = primary.phone.key_bundle();
        let retry = node("retry").attr("v", "1").attr("id", id).attr("t", now).attr("count", count).build();
        let registration = leaf("registration", bundle.registration_id.to_be_bytes());
        let children = vec![retry, registration, retry_keys(&bundle)];
        self.primary_receipt(account, origin, id, Some("retry"), children);
    }

    fn primary_receipt(
        &mut self,
        account: AccountId,
        origin: &Origin,
        id: &str,
        kind: Option<&'static str>,
        children: Vec<Node>,
    ) {
        if kind.is_none() && self.silent_phones && !self.accounts[account].companions.is_empty() {
            return;
        }
        let mut receipt = node("receipt").attr("to", &origin.reply_to).attr("id", id);
        if let Some(participant) = &origin.participant {
            receipt = receipt.attr("participant", participant);
        }
        if let Some(kind) = kind {
            receipt = receipt.attr("type", kind);
        }
        let receipt = if children.is_empty() { receipt.build() } else { receipt.children(children).build() };
        self.on_receipt(DeviceAddress { account, device: 0 }, receipt);
    }

    fn primary_got_receipt(&mut self, account: AccountId, receipt: &Node) {
        let kind = receipt.attr("type").unwrap_or_default().into_owned();
        let from = receipt.jid("participant").or_else(|| receipt.jid("from"));
        // A linked companion is what tests are about; its phone has got everything long before.
        if let Some(from) = from.and_then(|jid| self.device_of(&jid))
            && from.device == 0
            && !self.accounts[from.account].companions.is_empty()
            && kind != "retry"
        {
            return;
        }
        for id in receipt_ids(receipt) {
            self.accounts[account].primary.receipts.entry(id).or_default().insert(kind.clone());
        }
        if kind == "retry"
            && let Err(failed) = self.primary_sends_again(account, receipt)
        {
            log::warn!("a phone could not answer a retry receipt: {failed:#}");
        }
    }

    /// Encrypts a message anew for the one device that could not read it.
    fn primary_sends_again(&mut self, account: AccountId, receipt: &Node) -> anyhow::Result<()> {
        let id = receipt.attr("id").context("it has no id")?.into_owned();
        let from = receipt.jid("from").context("it has no sender")?;
        let participant = receipt.jid("participant");
        let device_jid = participant.clone().unwrap_or_else(|| from.clone());
        let to = self.device_of(&device_jid).context("its sender is no device")?;
        let count =
            receipt.child("retry").and_then(|retry| retry.attr("count")?.parse().ok()).unwrap_or(1u32);
        ensure!(count <= MAX_RETRIES, "asked {count} times");
        let sent = self.accounts[account].primary.sent.iter().find(|sent| sent.id == id);
        let (chat, mut message, peer) = sent
            .map(|sent| (sent.chat.clone(), sent.message.clone(), sent.peer))
            .context("the message is not known any more")?;
        let own = to.account == account && is_person(&chat) && !peer;
        if own {
            message = sent_from_own_device(&chat, &message);
        } else if !is_person(&chat) {
            // It may be the sender key that it lacks.
            let primary = &mut self.accounts[account].primary;
            let key = primary.phone.sender_key(&chat.to_string())?;
            message.sender_key_distribution_message = key.sender_key_distribution_message;
            primary.sender_key_with.entry(chat.to_string()).or_default().insert(to);
        }
        // A new session beside the old one, which still decrypts what is under way.
        let bundle = match bundle_from_retry(receipt) {
            Some(bundle) => Some(bundle),
            None => self.take_bundle(to),
        };
        let enc = self.encrypt_with(account, to, bundle.as_ref(), &message).context("encrypting it again")?;
        let mut stanza = node("message").attr("id", id).attr("type", "text");
        stanza = match &participant {
            Some(participant) => stanza.attr("to", &from).attr("participant", participant),
            None => stanza.attr("to", &from),
        };
        if own {
            stanza = stanza.attr("recipient", &chat);
        }
        if peer {
            stanza = stanza.attr("category", "peer");
        }
        let stanza = stanza.children([enc.with("count", count)]).build();
        self.relay(DeviceAddress { account, device: 0 }, &stanza)
    }
}

/// What the sender's own other devices get.
fn sent_from_own_device(chat: &Jid, message: &Message) -> Message {
    Message {
        device_sent_message: buffa::MessageField::some(DeviceSentMessage {
            destination_jid: Some(chat.to_string()),
            message: buffa::MessageField::some(message.clone()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A plain text message.
pub fn text_message(text: &str) -> Message {
    Message { conversation: Some(text.to_owned()), ..Default::default() }
}
