//! App-state collections: the server keeps encrypted patches in order and hands them on.

use std::collections::HashMap;

use wacore_binary::Node;
use waproto::codec;
use waproto::whatsapp::SyncdVersion;

use super::accounts::{AccountId, Addressing, DeviceAddress};
use super::stanza::{Stanza, leaf, node, result};
use super::world::World;

/// Patches kept per collection; a test that makes more gets the latest only.
const MAX_PATCHES: usize = 1000;

/// `<error code>` of a patch that was made against an old version.
const CONFLICT: u16 = 409;

/// The collections of one account by name.
#[derive(Default)]
pub struct AppState {
    collections: HashMap<String, Vec<Vec<u8>>>,
}

impl AppState {
    fn version(&self, name: &str) -> u64 {
        self.collections.get(name).map_or(0, |patches| patches.len() as u64)
    }

    /// Appends a patch with its new version written into it.
    pub fn append(&mut self, name: &str, patch: &[u8]) -> Option<u64> {
        let patches = self.collections.entry(name.to_owned()).or_default();
        if patches.len() == MAX_PATCHES {
            return None;
        }
        let version = patches.len() as u64 + 1;
        let mut patch = codec::syncd_patch_decode(patch).ok()?;
        patch.version = buffa::MessageField::some(SyncdVersion { version: Some(version) });
        patches.push(codec::syncd_patch_to_vec(&patch));
        Some(version)
    }

    fn since(&self, name: &str, version: u64) -> &[Vec<u8>] {
        let patches = self.collections.get(name).map_or(&[][..], Vec::as_slice);
        patches.get(usize::try_from(version).unwrap_or(usize::MAX)..).unwrap_or_default()
    }
}

impl World {
    /// `<iq xmlns="w:sync:app:state">`.
    pub fn on_app_state_iq(&mut self, at: DeviceAddress, request: &Node) -> Node {
        let Some(sync) = request.child("sync") else { return result(request, []) };
        let mut changed = Vec::new();
        let mut answers = Vec::new();
        for collection in sync.all("collection") {
            let name = collection.attr("name").unwrap_or_default().into_owned();
            let version = collection.attr("version").and_then(|v| v.parse().ok()).unwrap_or(0);
            let state = &mut self.accounts[at.account].app_state;
            let mut answer = node("collection").attr("name", name.as_str());
            let mut children = Vec::new();
            if let Some(patch) = collection.child("patch").and_then(|patch| patch.bytes()) {
                if version == state.version(&name) && state.append(&name, patch).is_some() {
                    changed.push(name.clone());
                } else {
                    answer = answer.attr("type", "error");
                    let error = node("error").attr("code", CONFLICT).attr("text", "conflict");
                    children.push(error.build());
                }
            } else {
                let patches = state.since(&name, version);
                if !patches.is_empty() {
                    let patches = patches.iter().map(|patch| leaf("patch", patch.as_slice()));
                    children.push(node("patches").children(patches).build());
                }
            }
            let answer = answer.attr("version", state.version(&name)).attr("has_more_patches", "false");
            answers.push(if children.is_empty() {
                answer.build()
            } else {
                answer.children(children).build()
            });
        }
        for name in changed {
            self.tell_collection_changed(at.account, Some(at.device), &name);
        }
        result(request, [node("sync").children(answers).build()])
    }

    fn tell_collection_changed(&mut self, account: AccountId, except: Option<u16>, name: &str) {
        let version = self.accounts[account].app_state.version(name);
        let from = self.accounts[account].jid(0, Addressing::Pn);
        let others: Vec<u16> = (self.accounts[account].companions.keys().copied())
            .filter(|device| Some(*device) != except)
            .collect();
        for device in others {
            let collection = node("collection").attr("name", name).attr("version", version).build();
            self.notify(DeviceAddress { account, device }, "server_sync", from.clone(), vec![collection]);
        }
    }
}
