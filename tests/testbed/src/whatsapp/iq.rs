//! Requests of linked devices: which part of the server answers which name space.

use rand::Rng;
use wacore_binary::Node;

use super::accounts::{AccountId, Addressing, DeviceAddress};
use super::faults::IqFault;
use super::stanza::{Stanza, error, node, not_implemented, result};
use super::world::{SocketId, World};

/// Privacy settings as an account has them from the start.
const PRIVACY: [(&str, &str); 8] = [
    ("readreceipts", "all"),
    ("last", "all"),
    ("profile", "all"),
    ("status", "contacts"),
    ("online", "all"),
    ("groupadd", "all"),
    ("calladd", "all"),
    ("messages", "all"),
];

/// Name spaces of requests that clients make on their own and that nothing here depends on: they are answered
/// with an empty result. Every other request that the server does not know is refused, so that nobody takes it
/// for done.
const HARMLESS: [&str; 8] = [
    "urn:xmpp:whatsapp:dirty", // a change was noted
    "w:stats",
    "w:biz", // whether a contact is a business
    "bot",   // which of WhatsApp's own bots there are
    "status",
    "disappearing_mode",
    "spam", // a report
    "blocklist",
];

impl World {
    pub fn on_iq(&mut self, id: SocketId, at: DeviceAddress, iq: &Node) {
        // Results and errors are answers to our own requests; none of them needs a reaction.
        if !matches!(iq.attr("type").as_deref(), Some("get" | "set")) {
            return;
        }
        let xmlns = iq.attr("xmlns").unwrap_or_default().into_owned();
        match self.faults.on_iq(at.account, &xmlns) {
            Some(IqFault::Never) => return log::info!("left a request {xmlns} unanswered"),
            Some(IqFault::Error(code)) => return self.write(id, error(iq, code, "fault")),
            None => {}
        }
        let child = iq.first_child().map(|child| child.tag.to_string()).unwrap_or_default();
        let get = iq.attr("type").as_deref() == Some("get");
        let answer = match (xmlns.as_str(), child.as_str()) {
            ("w:p", _) => result(iq, []).with("t", self.now.unix),
            ("encrypt", _) => {
                let answer = self.on_keys_iq(at, iq);
                self.write(id, answer);
                return self.share_app_state_key(at);
            }
            ("usync", _) => self.on_usync(iq),
            ("passive", "active") => {
                self.write(id, result(iq, []));
                return self.activate(id, at);
            }
            ("passive", _) => {
                if let Some(companion) = self.companion(at) {
                    companion.drained = false;
                    companion.handed_out = None;
                    companion.queue.forget_written();
                }
                result(iq, [])
            }
            ("abt", _) => {
                let answer = self.on_props_iq(at, iq);
                self.write(id, answer);
                return self.deliver_salt(at);
            }
            ("privacy", "tokens") => self.on_privacy_tokens(at, iq),
            ("privacy", _) if get => result(iq, [privacy()]),
            ("privacy", _) => result(iq, []),
            ("blocklist", _) if get => result(iq, [node("list").build()]),
            ("w:sync:app:state", _) => self.on_app_state_iq(at, iq),
            ("w:m", "media_conn") => self.on_media_conn(iq),
            ("w:g2", _) => self.on_group_iq(at, iq),
            ("w:mex", _) => self.on_mex_iq(at, iq),
            ("md", "remove-companion-device") => {
                self.write(id, result(iq, []));
                let device = iq.child("remove-companion-device").and_then(|child| child.jid("jid"));
                let device = device.map_or(at.device, |jid| jid.device);
                return self.unlink(DeviceAddress { device, ..at });
            }
            ("w:profile:picture", _) => self.on_picture_iq(at, iq),
            (namespace, _) if HARMLESS.contains(&namespace) => result(iq, []),
            _ => {
                log::warn!("refused a request {xmlns} <{child}>: that is not part of this server");
                not_implemented(iq)
            }
        };
        self.write(id, answer);
    }

    /// A companion hands a token to a contact, which may then write to a restricted account.
    fn on_privacy_tokens(&mut self, at: DeviceAddress, iq: &Node) -> Node {
        let tokens: Vec<Node> =
            iq.child("tokens").map(|tokens| tokens.all("token").cloned().collect()).unwrap_or_default();
        for token in tokens {
            let Some(to) = token.jid("jid").and_then(|jid| self.account_of(&jid)) else { continue };
            self.give_token(at.account, to);
        }
        result(iq, [])
    }

    /// Tells `to`'s companions the trusted-contact token with which they may write to `from`.
    pub fn give_token(&mut self, from: AccountId, to: AccountId) {
        let now = self.now.unix;
        let mut fresh = [0; 16];
        self.rng.fill_bytes(&mut fresh);
        let token = self.accounts[from].tokens.entry(to).or_insert_with(|| fresh.to_vec()).clone();
        let companions: Vec<u16> = self.accounts[to].companions.keys().copied().collect();
        for device in companions {
            let token =
                node("token").attr("type", "trusted_contact").attr("t", now).bytes(token.clone()).build();
            let stanza = node("notification")
                .attr("from", self.accounts[from].jid(0, Addressing::Pn))
                .attr("sender_lid", self.accounts[from].jid(0, Addressing::Lid))
                .attr("type", "privacy_token")
                .attr("id", self.fresh_id())
                .attr("t", now)
                .children([node("tokens").children([token]).build()])
                .build();
            self.deliver_to_companion(DeviceAddress { account: to, device }, stanza);
        }
    }
}

fn privacy() -> Node {
    let categories =
        PRIVACY.map(|(name, value)| node("category").attr("name", name).attr("value", value).build());
    node("privacy").children(categories).build()
}
