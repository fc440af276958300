//! Linking a companion: by QR code and by eight-letter code, up to the forced reconnect (515).

use anyhow::{Context, bail, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use buffa::Message as _;
use rand::Rng;
use wacore_binary::Node;
use waproto::whatsapp::{ClientPairingProps, ClientPayload};

use super::accounts::{Account, AccountId, Addressing, Companion, CompanionKeys, DeviceAddress};
use super::passkey::Ceremony;
use super::stanza::{Stanza, leaf, node, result, server_jid};
use super::world::{Peer, Socket, SocketId, World};
use crate::phone::{PendingLink, SignedPreKey};

/// QR references handed out at once; clients show one after the other.
const REFS: usize = 6;

/// A client that is not linked yet.
pub struct Registration {
    noise: [u8; 32],
    keys: CompanionKeys,
    /// The name the client suggests, by which it finds its account; may be empty.
    name: String,
    refs: Vec<String>,
    link: Option<LinkByCode>,
    /// The account demands a passkey.
    pub ceremony: Option<Ceremony>,
    pending: Option<Pending>,
}

/// Pairing by code, from `companion_hello` on.
struct LinkByCode {
    account: AccountId,
    reference: Vec<u8>,
    wrapped_ephemeral: Vec<u8>,
    /// The phone's state once the code was typed.
    typed: Option<PendingLink>,
}

/// `<pair-success>` is sent, the client's signature is awaited.
struct Pending {
    iq: String,
    at: DeviceAddress,
    key_index: u32,
}

/// Content of a QR code.
#[derive(Debug, PartialEq, Eq)]
pub struct QrText {
    reference: String,
    noise: [u8; 32],
    identity: [u8; 32],
    adv_secret: Vec<u8>,
}

impl QrText {
    /// Parses `ref,noise,identity,secret,client type`; newer clients put a URL ending in `#` in front.
    ///
    /// # Errors
    /// When a part is missing or is no base64 of a key.
    pub fn parse(text: &str) -> anyhow::Result<QrText> {
        let text = text.trim();
        let text = text.rsplit_once('#').map_or(text, |(_, code)| code);
        let parts: Vec<&str> = text.split(',').collect();
        ensure!(parts.len() >= 4, "a QR text has at least four parts, this one {}", parts.len());
        let key = |part: &str, what| -> anyhow::Result<[u8; 32]> {
            let bytes =
                BASE64_STANDARD.decode(part).with_context(|| format!("decoding the QR text's {what}"))?;
            bytes.try_into().map_err(|_| anyhow::anyhow!("the QR text's {what} has not 32 bytes"))
        };
        Ok(QrText {
            reference: parts[0].to_owned(),
            noise: key(parts[1], "Noise key")?,
            identity: key(parts[2], "identity key")?,
            adv_secret: key(parts[3], "ADV secret")?.to_vec(),
        })
    }
}

impl Registration {
    /// # Errors
    /// When the registration payload lacks a key.
    pub fn new(noise: [u8; 32], payload: ClientPayload) -> anyhow::Result<Registration> {
        let name = payload.push_name.clone().unwrap_or_default();
        let data = payload.device_pairing_data.into_option().context("the payload has no pairing data")?;
        let number = |bytes: Option<Vec<u8>>| {
            bytes
                .filter(|bytes| bytes.len() <= 4)
                .map(|bytes| bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
        };
        let key = |bytes: Option<Vec<u8>>| -> Option<[u8; 32]> { bytes?.try_into().ok() };
        let keys = CompanionKeys {
            registration_id: number(data.e_regid).context("the payload has no registration id")?,
            identity: key(data.e_ident).context("the payload has no identity key")?,
            signed: SignedPreKey {
                id: number(data.e_skey_id).context("the payload has no signed prekey id")?,
                public: key(data.e_skey_val).context("the payload has no signed prekey")?,
                signature: data
                    .e_skey_sig
                    .and_then(|signature| signature.try_into().ok())
                    .context("the payload has no prekey signature of 64 bytes")?,
            },
            one_time: Default::default(),
        };
        Ok(Registration { noise, keys, name, refs: Vec::new(), link: None, ceremony: None, pending: None })
    }

    pub fn noise(&self) -> [u8; 32] {
        self.noise
    }

    pub fn identity(&self) -> [u8; 32] {
        self.keys.identity
    }
}

impl World {
    /// Asks a new client to show a QR code.
    pub fn offer_pairing(&mut self, id: SocketId) {
        let refs: Vec<String> = (0..REFS)
            .map(|_| {
                let mut bytes = [0; 48];
                self.rng.fill_bytes(&mut bytes);
                format!("2@{}", BASE64_STANDARD.encode(bytes).replace(',', "."))
            })
            .collect();
        let children: Vec<Node> = refs.iter().map(|text| leaf("ref", text.as_bytes())).collect();
        let iq = node("iq")
            .attr("from", server_jid())
            .attr("type", "set")
            .attr("id", self.fresh_id())
            .attr("xmlns", "md")
            .children([node("pair-device").children(children).build()])
            .build();
        if let Some(registration) = self.registration(id) {
            registration.refs = refs;
        }
        self.write(id, iq);
    }

    pub(super) fn registration(&mut self, id: SocketId) -> Option<&mut Registration> {
        match self.sockets.get_mut(&id) {
            Some(Socket { peer: Peer::Unpaired(registration), .. }) => Some(registration),
            _ => None,
        }
    }

    fn unpaired(&self) -> impl Iterator<Item = (SocketId, &Registration)> {
        self.sockets.iter().filter_map(|(id, socket)| match &socket.peer {
            Peer::Unpaired(registration) => Some((*id, registration.as_ref())),
            Peer::Device(_) => None,
        })
    }

    /// The phone of `account` scans a QR code; without an account, the one of the name that the
    /// client suggested, or a new one.
    ///
    /// # Errors
    /// When the text is no QR text or no client waits with it.
    pub fn scan_qr(&mut self, text: &str, account: Option<AccountId>) -> anyhow::Result<AccountId> {
        let qr = QrText::parse(text)?;
        let (id, registration) = self
            .unpaired()
            .find(|(_, registration)| {
                registration.noise == qr.noise && registration.refs.contains(&qr.reference)
            })
            .context("no client waits with that QR code: it may be an old one")?;
        ensure!(registration.keys.identity == qr.identity, "the QR code's identity is not the client's");
        let scanned = registration.pending.is_some() || registration.ceremony.is_some();
        ensure!(!scanned, "that QR code was scanned before");
        let name = registration.name.clone();
        super::scenario::check(&name)?;
        let account = match account {
            Some(account) => account,
            None if name.is_empty() => self.new_account(""),
            None => self.account_named(&name),
        };
        self.link(id, account, &qr.adv_secret)?;
        Ok(account)
    }

    /// Tells a client that the phone has adopted it.
    ///
    /// # Errors
    /// When the client is gone or the account can link no more.
    pub(super) fn pair_success(
        &mut self,
        id: SocketId,
        account: AccountId,
        adv_secret: &[u8],
    ) -> anyhow::Result<()> {
        let now = self.now.unix;
        let iq = self.fresh_id();
        let identity = self.registration(id).context("the client is gone")?.keys.identity;
        let props = ClientPairingProps {
            is_chat_db_lid_migrated: Some(self.lid_migrated),
            ..ClientPairingProps::default()
        };
        let owner = &mut self.accounts[account];
        let device = owner.next_companion().context("the account has linked 99 companions")?;
        let adopted = owner.primary.phone.adopt_companion(&identity, adv_secret, now);
        let children = vec![
            leaf("device-identity", adopted.pair_success),
            node("device")
                .attr("jid", owner.jid(device, Addressing::Pn))
                .attr("lid", owner.jid(device, Addressing::Lid))
                .build(),
            node("platform").attr("name", "android").build(),
            leaf("client-props", props.encode_to_vec()),
            node("biz").attr("name", owner.name.as_str()).build(),
        ];
        let stanza = node("iq")
            .attr("from", server_jid())
            .attr("type", "set")
            .attr("id", iq.as_str())
            .attr("t", now)
            .children([node("pair-success").children(children).build()])
            .build();
        if let Some(registration) = self.registration(id) {
            let at = DeviceAddress { account, device };
            registration.pending = Some(Pending { iq, at, key_index: adopted.key_index });
        }
        self.write(id, stanza);
        Ok(())
    }

    /// A stanza of a client that is not linked yet.
    pub fn on_unpaired(&mut self, id: SocketId, stanza: Node) {
        if stanza.tag != "iq" {
            return;
        }
        let answers_pairing = self
            .registration(id)
            .and_then(|registration| registration.pending.as_ref())
            .is_some_and(|pending| stanza.attr("id").as_deref() == Some(&pending.iq));
        if answers_pairing {
            if let Err(refusal) = self.complete_pairing(id, &stanza) {
                log::warn!("pairing failed: {refusal:#}");
                self.close(id);
            }
        } else if matches!(stanza.attr("type").as_deref(), Some("get" | "set")) {
            self.on_unpaired_request(id, &stanza);
        }
    }

    fn complete_pairing(&mut self, id: SocketId, answer: &Node) -> anyhow::Result<()> {
        let registration = self.registration(id).context("the client is gone")?;
        let pending = registration.pending.take().context("nothing to complete")?;
        let (noise, keys) = (registration.noise, registration.keys.clone());
        let Account { primary, companions, .. } = &mut self.accounts[pending.at.account];
        let blob = answer
            .child("pair-device-sign")
            .and_then(|sign| sign.child("device-identity"))
            .and_then(|identity| identity.bytes());
        let completed = match blob {
            Some(blob) => primary.phone.complete_device_identity(blob).map_err(anyhow::Error::from),
            None => {
                let code = answer.child("error").and_then(|error| error.attr("code"));
                Err(anyhow::anyhow!("the client refused: error {}", code.as_deref().unwrap_or("unknown")))
            }
        };
        let blob = match completed {
            Ok(blob) => blob,
            Err(refusal) => {
                primary.phone.remove_companion(pending.key_index);
                primary.link_failed = Some(refusal.to_string());
                return Err(refusal);
            }
        };
        companions.insert(pending.at.device, Companion::new(noise, pending.key_index, blob, keys));
        log::info!("linked device {}:{}", pending.at.account, pending.at.device);
        self.devices_changed(pending.at, true);
        self.write(id, node("stream:error").attr("code", "515").build());
        self.close(id);
        Ok(())
    }

    /// A request before login: pairing by code and little else.
    fn on_unpaired_request(&mut self, id: SocketId, request: &Node) {
        if self.on_passkey_request(id, request) {
            return;
        }
        let Some(step) = request.child("link_code_companion_reg") else {
            return self.write(id, result(request, []));
        };
        let outcome = match step.attr("stage").as_deref() {
            Some("companion_hello") => self.on_companion_hello(id, request, step),
            Some("companion_finish") => self.on_companion_finish(id, request, step),
            other => {
                log::warn!("unknown stage {other:?} of pairing by code");
                Ok(())
            }
        };
        if let Err(refusal) = outcome {
            log::warn!("pairing by code failed: {refusal:#}");
            self.write(id, super::stanza::error(request, 400, "bad-request"));
        }
    }

    fn on_companion_hello(&mut self, id: SocketId, request: &Node, step: &Node) -> anyhow::Result<()> {
        let jid = step.jid("jid").context("companion_hello names no phone")?;
        let account = self.account_of(&jid).context("companion_hello names a phone that does not exist")?;
        let wrapped_ephemeral = step
            .child("link_code_pairing_wrapped_companion_ephemeral_pub")
            .and_then(|child| child.bytes())
            .context("companion_hello has no ephemeral key")?
            .to_vec();
        let reference = format!("3@{:016x}", self.rng.next_u64()).into_bytes();
        let registration = self.registration(id).context("the client is gone")?;
        registration.link =
            Some(LinkByCode { account, reference: reference.clone(), wrapped_ephemeral, typed: None });
        let answer = node("link_code_companion_reg")
            .attr("stage", "companion_hello")
            .children([leaf("link_code_pairing_ref", reference)])
            .build();
        self.write(id, result(request, [answer]));
        Ok(())
    }

    /// Whether a client shows an eight-letter code for this account's phone.
    pub fn link_code_awaited(&self, account: AccountId) -> bool {
        self.unpaired().any(|(_, registration)| {
            registration.link.as_ref().is_some_and(|link| link.account == account && link.typed.is_none())
        })
    }

    /// The person types a code into the phone.
    ///
    /// # Errors
    /// When no client waits for it or the code is malformed. A wrong code shows later.
    pub fn enter_link_code(&mut self, account: AccountId, code: &str) -> anyhow::Result<()> {
        let phone = &mut self.accounts[account].primary.phone;
        let waiting = self.sockets.iter_mut().find_map(|(id, socket)| match &mut socket.peer {
            Peer::Unpaired(registration) => registration
                .link
                .as_mut()
                .filter(|link| link.account == account && link.typed.is_none())
                .map(|link| (*id, link)),
            Peer::Device(_) => None,
        });
        let Some((id, link)) = waiting else { bail!("no client waits for a code of this phone") };
        let (pending, hello) = phone.start_link_code(code, &link.wrapped_ephemeral)?;
        link.typed = Some(pending);
        let reference = link.reference.clone();
        self.accounts[account].primary.link_failed = None;
        let step = node("link_code_companion_reg")
            .attr("stage", "primary_hello")
            .children([
                leaf("link_code_pairing_wrapped_primary_ephemeral_pub", hello.wrapped_ephemeral),
                leaf("primary_identity_pub", hello.identity),
                leaf("link_code_pairing_ref", reference),
            ])
            .build();
        let notification = node("notification")
            .attr("from", server_jid())
            .attr("type", "link_code_companion_reg")
            .attr("id", self.fresh_id())
            .attr("t", self.now.unix)
            .children([step])
            .build();
        self.write(id, notification);
        Ok(())
    }

    fn on_companion_finish(&mut self, id: SocketId, request: &Node, step: &Node) -> anyhow::Result<()> {
        let content = |tag| step.child(tag).and_then(|child| child.bytes().map(<[u8]>::to_vec));
        let bundle = content("link_code_pairing_wrapped_key_bundle").context("no key bundle")?;
        let identity = content("companion_identity_public").context("no identity")?;
        let link = self
            .registration(id)
            .and_then(|registration| registration.link.take())
            .context("companion_finish without companion_hello")?;
        let typed = link.typed.context("companion_finish before the code was typed")?;
        self.write(id, result(request, []));
        let primary = &mut self.accounts[link.account].primary;
        match primary.phone.finish_link_code(typed, &bundle, &identity) {
            Ok(secret) => self.link(id, link.account, &secret)?,
            Err(refusal) => {
                log::info!("the phone refused the link code: {refusal}");
                primary.link_failed = Some(refusal.to_string());
            }
        }
        Ok(())
    }

    /// Unlinks a companion, as from the phone's list of linked devices or by the companion itself.
    pub fn unlink(&mut self, at: DeviceAddress) {
        let owner = &mut self.accounts[at.account];
        let Some(companion) = owner.companions.remove(&at.device) else { return };
        owner.primary.phone.remove_companion(companion.key_index);
        log::info!("unlinked device {}:{}", at.account, at.device);
        if let Some(socket) = companion.socket {
            let conflict = node("conflict").attr("type", "device_removed").build();
            self.write(socket, node("stream:error").attr("code", "401").children([conflict]).build());
            self.close(socket);
        }
        self.devices_changed(at, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_qr_text_is_read_with_and_without_a_url_in_front() {
        let key = |byte: u8| BASE64_STANDARD.encode([byte; 32]);
        let plain = format!("2@ref,{},{},{},1", key(1), key(2), key(3));
        let parsed = QrText::parse(&plain).unwrap();
        assert_eq!(parsed.reference, "2@ref");
        assert_eq!((parsed.noise, parsed.identity), ([1; 32], [2; 32]));
        assert_eq!(
            QrText::parse(&format!("https://wa.me/settings/linked_devices#{plain}\n")).unwrap(),
            parsed
        );
    }

    #[test]
    fn a_broken_qr_text_is_refused() {
        for text in ["", "a,b,c", "ref,AA==,AA==,AA==", "ref,!,!,!"] {
            assert!(QrText::parse(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_qr_text_panics(text in ".{0,200}", parts in proptest::collection::vec("[A-Za-z0-9+/=#]{0,44}", 0..7)) {
            let _ = QrText::parse(&text);
            let _ = QrText::parse(&parts.join(","));
        }
    }
}
