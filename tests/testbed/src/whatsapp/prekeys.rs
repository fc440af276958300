//! Key upload, key fetch, and the reminder that prekeys run low.

use std::collections::VecDeque;

use wacore_binary::{Jid, Node};

use super::accounts::{CompanionKeys, DeviceAddress};
use super::stanza::{KEY_TYPE, Stanza, error, key_id, leaf, node, not_implemented, result, server_jid};
use super::world::World;
use crate::phone::{KeyBundle, SignedPreKey};

/// One-time prekeys below which a companion is asked for more. The real threshold is not known;
/// clients top up on any such notice.
const FEW_PREKEYS: usize = 10;

/// One-time prekeys kept per companion; clients upload 812 at most at once.
const MAX_PREKEYS: usize = 4096;

impl World {
    /// `<iq xmlns="encrypt">`.
    pub fn on_keys_iq(&mut self, at: DeviceAddress, request: &Node) -> Node {
        let kind = request.attr("type");
        match (kind.as_deref(), request.first_child().map(|child| child.tag.as_ref())) {
            (Some("get"), Some("count")) => {
                let count = self.companion(at).map_or(0, |companion| companion.keys.one_time.len());
                result(request, [node("count").attr("value", count).build()])
            }
            (Some("get"), Some("key")) => self.fetch_keys(request),
            (Some("get"), Some("digest")) => match self.companion(at) {
                Some(companion) if companion.uploaded_keys => result(request, [digest(&companion.keys)]),
                _ => error(request, 404, "item-not-found"),
            },
            (Some("set"), Some("rotate")) => {
                let signed = request.child("rotate").and_then(|rotate| signed_prekey(rotate.child("skey")?));
                match (signed, self.companion(at)) {
                    (Some(signed), Some(companion)) => {
                        companion.keys.signed = signed;
                        result(request, [])
                    }
                    _ => error(request, 400, "bad-request"),
                }
            }
            (Some("set"), Some(_)) => match self.upload_keys(at, request) {
                Some(()) => result(request, []),
                None => error(request, 400, "bad-request"),
            },
            _ => not_implemented(request),
        }
    }

    fn upload_keys(&mut self, at: DeviceAddress, request: &Node) -> Option<()> {
        let registration_id = request.child("registration")?.number()?;
        let identity = request.child("identity")?.key()?;
        let signed = signed_prekey(request.child("skey")?)?;
        let uploaded: VecDeque<(u32, [u8; 32])> =
            request.child("list")?.all("key").map(one_time_prekey).collect::<Option<_>>()?;
        let companion = self.companion(at)?;
        let keys = &mut companion.keys;
        keys.registration_id = registration_id;
        keys.identity = identity;
        keys.signed = signed;
        keys.one_time.retain(|(id, _)| !uploaded.iter().any(|(new, _)| new == id));
        keys.one_time.extend(uploaded);
        let excess = keys.one_time.len().saturating_sub(MAX_PREKEYS);
        keys.one_time.drain(..excess);
        companion.asked_for_prekeys = false;
        companion.uploaded_keys = true;
        log::debug!("device {}:{} has {} prekeys", at.account, at.device, companion.keys.one_time.len());
        Some(())
    }

    /// Takes a bundle for one fetch and asks the owner for more prekeys when few are left.
    pub fn take_bundle(&mut self, of: DeviceAddress) -> Option<KeyBundle> {
        if of.device == 0 {
            return Some(self.accounts[of.account].primary.phone.key_bundle());
        }
        let companion = self.companion(of)?;
        let bundle = companion.keys.take_bundle();
        let left = companion.keys.one_time.len();
        // A device that never uploaded any does so by itself.
        if bundle.one_time.is_some()
            && left < FEW_PREKEYS
            && !std::mem::replace(&mut companion.asked_for_prekeys, true)
        {
            self.notify(of, "encrypt", server_jid(), vec![node("count").attr("value", left).build()]);
        }
        Some(bundle)
    }

    fn fetch_keys(&mut self, request: &Node) -> Node {
        let asked: Vec<Jid> = request
            .child("key")
            .map(|key| key.all("user").filter_map(|user| user.jid("jid")).collect())
            .unwrap_or_default();
        let users: Vec<Node> = asked.iter().map(|jid| self.key_of(jid)).collect();
        result(request, [node("list").children(users).build()])
    }

    fn key_of(&mut self, jid: &Jid) -> Node {
        let user = node("user").attr("jid", jid);
        let of = self.device_of(jid).filter(|of| !self.faults.refuses_keys(of.account));
        let Some(of) = of else {
            let error = node("error").attr("code", 406u16).attr("text", "not-acceptable").build();
            return user.children([error]).build();
        };
        let Some(bundle) = self.take_bundle(of) else { return user.build() };
        let mut children = bundle_children(&bundle);
        if let Some(companion) = self.companion(of) {
            children.push(leaf("device-identity", companion.identity_blob.clone()));
        }
        user.attr("type", "result").attr("t", self.now.unix).children(children).build()
    }
}

/// `<skey>`: id, key, signature.
pub fn signed_prekey(skey: &Node) -> Option<SignedPreKey> {
    Some(SignedPreKey {
        id: skey.child("id")?.number()?,
        public: skey.child("value")?.key()?,
        signature: skey.child("signature")?.bytes()?.try_into().ok()?,
    })
}

/// `<key>`: id and key.
pub fn one_time_prekey(key: &Node) -> Option<(u32, [u8; 32])> {
    Some((key.child("id")?.number()?, key.child("value")?.key()?))
}

fn signed_node(signed: &SignedPreKey) -> Node {
    node("skey")
        .children([
            leaf("id", key_id(signed.id)),
            leaf("value", signed.public),
            leaf("signature", signed.signature),
        ])
        .build()
}

/// The parts of a key bundle as a fetch answers them.
pub fn bundle_children(bundle: &KeyBundle) -> Vec<Node> {
    let mut children = vec![
        leaf("registration", bundle.registration_id.to_be_bytes()),
        leaf("type", [KEY_TYPE]),
        leaf("identity", bundle.identity),
        signed_node(&bundle.signed),
    ];
    if let Some((id, public)) = &bundle.one_time {
        children.push(one_time_node(*id, *public));
    }
    children
}

fn one_time_node(id: u32, public: [u8; 32]) -> Node {
    node("key").children([leaf("id", key_id(id)), leaf("value", public)]).build()
}

/// `<keys>` of a phone's retry receipt.
pub fn retry_keys(bundle: &KeyBundle) -> Node {
    let mut children = vec![leaf("type", [KEY_TYPE]), leaf("identity", bundle.identity)];
    if let Some((id, public)) = &bundle.one_time {
        children.push(one_time_node(*id, *public));
    }
    children.push(signed_node(&bundle.signed));
    node("keys").children(children).build()
}

/// A bundle out of a retry receipt's `<registration>` and `<keys>`.
pub fn bundle_from_retry(receipt: &Node) -> Option<KeyBundle> {
    let keys = receipt.child("keys")?;
    Some(KeyBundle {
        registration_id: receipt.child("registration")?.number()?,
        identity: keys.child("identity")?.key()?,
        signed: signed_prekey(keys.child("skey")?)?,
        one_time: keys.child("key").and_then(one_time_prekey),
    })
}

/// What the server holds for a device, with the hash that lets the device compare.
fn digest(keys: &CompanionKeys) -> Node {
    use sha1::{Digest, Sha1};
    let mut hash = Sha1::new();
    hash.update(keys.identity);
    hash.update(keys.signed.public);
    hash.update(keys.signed.signature);
    for (_, public) in &keys.one_time {
        hash.update(public);
    }
    let ids: Vec<Node> = keys.one_time.iter().map(|(id, _)| leaf("id", key_id(*id))).collect();
    node("digest")
        .children([
            leaf("registration", keys.registration_id.to_be_bytes()),
            leaf("type", [KEY_TYPE]),
            leaf("identity", keys.identity),
            signed_node(&keys.signed),
            node("list").children(ids).build(),
            leaf("hash", hash.finalize().to_vec()),
        ])
        .build()
}
