//! Who exists, with which devices and under which other address (`usync`), and what is told to
//! others when an account's devices change.

use wacore_binary::{Jid, Node};

use super::accounts::{AccountId, Addressing, DeviceAddress};
use super::stanza::{Stanza, leaf, node, result};
use super::world::World;

impl World {
    pub fn on_usync(&mut self, request: &Node) -> Node {
        let Some(usync) = request.child("usync") else { return result(request, []) };
        let protocols: Vec<String> = usync
            .child("query")
            .and_then(|query| query.children())
            .unwrap_or_default()
            .iter()
            .map(|protocol| protocol.tag.to_string())
            .collect();
        let asked: Vec<Node> =
            usync.child("list").map(|list| list.all("user").cloned().collect()).unwrap_or_default();
        let users: Vec<Node> = asked.iter().map(|user| self.usync_user(user, &protocols)).collect();
        let mut answer = node("usync");
        for key in ["sid", "mode", "context", "index", "last"] {
            if let Some(value) = usync.attr(key) {
                answer = answer.attr(key, value.into_owned());
            }
        }
        let answered =
            protocols.iter().map(|protocol| node_named(protocol).attr("refresh", 86_400u32).build());
        let children = [node("result").children(answered).build(), node("list").children(users).build()];
        result(request, [answer.children(children).build()])
    }

    fn usync_user(&mut self, user: &Node, protocols: &[String]) -> Node {
        let typed = user.child("contact").and_then(|contact| contact.content_as_string());
        let asked = user.jid("jid").or_else(|| {
            let digits = typed.as_deref()?.trim_start_matches('+');
            Some(Jid::pn(digits))
        });
        let account = asked.as_ref().and_then(|jid| self.account_of(jid));
        let mut answer = node("user");
        if let Some(jid) = &asked {
            answer = answer.attr("jid", jid);
        }
        let children: Vec<Node> = protocols
            .iter()
            .map(|protocol| self.usync_protocol(protocol, account, typed.as_deref()))
            .collect();
        answer.children(children).build()
    }

    fn usync_protocol(&mut self, protocol: &str, account: Option<AccountId>, typed: Option<&str>) -> Node {
        match (protocol, account) {
            ("devices", Some(account)) => self.devices_node(account),
            ("devices", None) => node("devices").children([node("device-list").build()]).build(),
            ("lid", Some(account)) => {
                node("lid").attr("val", self.accounts[account].jid(0, Addressing::Lid)).build()
            }
            ("lid", None) => node("lid").build(),
            ("contact", account) => {
                let contact = node("contact").attr("type", if account.is_some() { "in" } else { "out" });
                match typed {
                    Some(typed) => contact.string_content(typed).build(),
                    None => contact.build(),
                }
            }
            ("status" | "username", _) => node_named(protocol).build(),
            _ => {
                let error = node("error").attr("code", 404u16).attr("text", "item-not-found").build();
                node_named(protocol).children([error]).build()
            }
        }
    }

    /// `<devices>` of one account, with the list signed by its phone.
    fn devices_node(&mut self, account: AccountId) -> Node {
        let now = self.now.unix;
        let owner = &mut self.accounts[account];
        let mut devices = vec![node("device").attr("id", 0u8).build()];
        devices.extend(owner.companions.iter().map(|(id, companion)| {
            node("device").attr("id", *id).attr("key-index", companion.key_index).build()
        }));
        let signed = owner.primary.phone.key_index_list(now);
        node("devices")
            .children([
                node("device-list").children(devices).build(),
                node("key-index-list").attr("ts", now).bytes(signed).build(),
            ])
            .build()
    }

    /// Tells contacts and the account's other devices that one was linked or unlinked.
    pub fn devices_changed(&mut self, changed: DeviceAddress, linked: bool) {
        let now = self.now.unix;
        let owner = &mut self.accounts[changed.account];
        let contacts: Vec<AccountId> = owner.contacts.iter().copied().collect();
        let signed = owner.primary.phone.key_index_list(now);
        let key_index = owner.companions.get(&changed.device).map(|companion| companion.key_index);
        let own: Vec<u16> =
            owner.companions.keys().copied().filter(|device| *device != changed.device).collect();
        let notice = |world: &World, addressing: Addressing| {
            let mut device = node("device").attr("jid", world.jid(changed, addressing));
            if let Some(key_index) = key_index {
                device = device.attr("key-index", key_index);
            }
            let list = leaf("key-index-list", signed.clone()).with("ts", now);
            let tag = if linked { "add" } else { "remove" };
            node(tag).children([device.build(), list]).build()
        };
        let from = self.accounts[changed.account].jid(0, Addressing::Pn);
        let lid = self.accounts[changed.account].jid(0, Addressing::Lid);
        let add = notice(self, Addressing::Pn);
        for contact in contacts {
            let companions: Vec<u16> = self.accounts[contact].companions.keys().copied().collect();
            for device in companions {
                let to = DeviceAddress { account: contact, device };
                let stanza = node("notification")
                    .attr("from", &from)
                    .attr("lid", &lid)
                    .attr("type", "devices")
                    .attr("id", self.fresh_id())
                    .attr("t", now)
                    .children([add.clone()])
                    .build();
                self.deliver_to_companion(to, stanza);
            }
        }
        for device in own {
            let to = DeviceAddress { account: changed.account, device };
            let devices: Vec<Node> = self.accounts[changed.account]
                .devices()
                .map(|device| {
                    let at = DeviceAddress { device, ..changed };
                    let listed = node("device").attr("jid", self.jid(at, Addressing::Pn));
                    match self.accounts[changed.account].companions.get(&device) {
                        Some(companion) => listed.attr("key-index", companion.key_index).build(),
                        None => listed.build(),
                    }
                })
                .chain([leaf("key-index-list", signed.clone()).with("ts", now)])
                .collect();
            let children = vec![node("devices").children(devices).build()];
            self.notify(to, "account_sync", from.clone(), children);
        }
    }
}

fn node_named(tag: &str) -> wacore_binary::builder::NodeBuilder {
    wacore_binary::builder::NodeBuilder::new_dynamic(tag.to_owned())
}
