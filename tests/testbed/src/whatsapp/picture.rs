//! Profile pictures of accounts (`w:profile:picture`). Those of groups are not here.

use wacore_binary::Node;

use super::accounts::{AccountId, Addressing, DeviceAddress};
use super::stanza::{Stanza, error, node, not_implemented, result};
use super::world::World;

impl World {
    /// `<iq xmlns="w:profile:picture">`: what somebody looks like, or how this account wants to.
    pub fn on_picture_iq(&mut self, at: DeviceAddress, request: &Node) -> Node {
        let target = request.jid("target");
        let whose = match &target {
            Some(target) => self.account_of(target),
            None => Some(at.account),
        };
        if request.attr("type").as_deref() == Some("get") {
            let id = whose.and_then(|account| self.accounts[account].picture.clone());
            return match (id, request.child("picture")) {
                (Some(id), Some(asked)) => result(request, [self.picture_node(&id, asked)]),
                _ => error(request, 404, "item-not-found"),
            };
        }
        if whose != Some(at.account) {
            return not_implemented(request);
        }
        let image = request.child("picture").and_then(|picture| picture.bytes());
        let Some(image) = image.filter(|image| !image.is_empty()).map(<[u8]>::to_vec) else {
            self.accounts[at.account].picture = None;
            self.tell_picture(at.account, node("delete"));
            return result(request, []);
        };
        let id = self.fresh_id().replace('.', "");
        if self.media.store(&path(&id), image).is_none() {
            return error(request, 507, "insufficient-storage");
        }
        self.accounts[at.account].picture = Some(id.clone());
        self.tell_picture(at.account, node("set").attr("id", id.as_str()));
        result(request, [node("picture").attr("id", id).build()])
    }

    /// A picture's place; small and large are the same here.
    fn picture_node(&self, id: &str, asked: &Node) -> Node {
        let path = path(id);
        let kind = asked.attr("type").unwrap_or_default().into_owned();
        let picture = node("picture").attr("id", id).attr("type", kind);
        let url = format!("https://{}{path}", self.media.host);
        picture.attr("url", url).attr("direct_path", path).build()
    }

    /// Tells the account's own companions, and those of everybody it has written with.
    fn tell_picture(&mut self, account: AccountId, change: wacore_binary::builder::NodeBuilder) {
        let from = self.accounts[account].jid(0, Addressing::Pn);
        let change = change.attr("jid", &from).attr("author", &from).build();
        let contacts = self.accounts[account].contacts.iter().copied();
        let told: Vec<AccountId> = std::iter::once(account).chain(contacts).collect();
        for account in told {
            let companions: Vec<u16> = self.accounts[account].companions.keys().copied().collect();
            for device in companions {
                let at = DeviceAddress { account, device };
                self.notify(at, "picture", from.clone(), vec![change.clone()]);
            }
        }
    }
}

fn path(id: &str) -> String {
    format!("/pictures/{id}.jpg")
}
