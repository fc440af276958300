//! Groups: members, settings, and what is told to members when they change (`w:g2`).
//!
//! A new group names its members by LID, whatever its creator called them; groups by phone number are old
//! ones, which only the API opens. Actions that are not listed here are refused with 501.

use std::collections::BTreeMap;

use wacore_binary::{Jid, Node};

use super::accounts::{AccountId, Addressing, DeviceAddress};
use super::communities::{Link, Role};
use super::stanza::{Stanza, error, leaf, node, not_implemented, result};
use super::world::World;

/// Members of a group, as WhatsApp limits them.
const MAX_MEMBERS: usize = 1024;

/// What [`Settings::change`] knows: refused as wrong, not as unknown, when it is not well-formed.
const SETTINGS: [&str; 2] = ["ephemeral", "membership_approval_mode"];

/// A group.
pub struct Group {
    subject: String,
    description: Option<(String, Vec<u8>)>,
    creator: AccountId,
    created: u64,
    addressing: Addressing,
    /// Members and whether they are admins.
    members: BTreeMap<AccountId, bool>,
    settings: Settings,
    /// To the community it belongs to.
    link: Option<Link>,
}

/// What admins decide for a group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Settings {
    /// Only admins change subject, description and settings.
    locked: bool,
    /// Only admins write.
    announcement: bool,
    /// Seconds after which messages disappear; 0: they stay.
    ephemeral: u32,
    /// Whoever joins by the invitation must be let in by an admin.
    approval: bool,
    /// It is a community.
    parent: bool,
}

impl Settings {
    /// Changes what `<locked/>`, `<ephemeral expiration="86400"/>` and their like say; `None` for what is no
    /// setting.
    fn change(&mut self, setting: &Node) -> Option<()> {
        match setting.tag.as_ref() {
            "locked" => self.locked = true,
            "unlocked" => self.locked = false,
            "announcement" => self.announcement = true,
            "not_announcement" => self.announcement = false,
            "ephemeral" => self.ephemeral = setting.attr("expiration")?.parse().ok()?,
            "not_ephemeral" => self.ephemeral = 0,
            "membership_approval_mode" => {
                self.approval = setting.child("group_join")?.attr("state")? == "on";
            }
            _ => return None,
        }
        Some(())
    }

    /// The children of `<group>` for all that is not as it is in every new group.
    fn nodes(&self) -> Vec<Node> {
        let flag = |on: bool, tag: &'static str| on.then(|| node(tag).build());
        let ephemeral =
            (self.ephemeral > 0).then(|| node("ephemeral").attr("expiration", self.ephemeral).build());
        let approval = self.approval.then(|| {
            let join = node("group_join").attr("state", "on").build();
            node("membership_approval_mode").children([join]).build()
        });
        let parent = flag(self.parent, "parent");
        [flag(self.locked, "locked"), flag(self.announcement, "announcement"), ephemeral, approval, parent]
            .into_iter()
            .flatten()
            .collect()
    }
}

/// All groups by id.
#[derive(Default)]
pub struct Groups {
    groups: BTreeMap<String, Group>,
}

impl Groups {
    /// Members of a group, `None` when there is no such group.
    pub fn members(&self, id: &str) -> Option<Vec<AccountId>> {
        self.groups.get(id).map(|group| group.members.keys().copied().collect())
    }

    /// How a group's stanzas name its members.
    pub fn addressing(&self, id: &str) -> Addressing {
        self.groups.get(id).map(|group| group.addressing).unwrap_or_default()
    }

    pub fn subject(&self, id: &str) -> &str {
        self.groups.get(id).map_or("", |group| group.subject.as_str())
    }

    pub fn is_admin(&self, id: &str, who: AccountId) -> bool {
        self.groups.get(id).is_some_and(|group| group.members.get(&who) == Some(&true))
    }

    /// Links a group to a community, or to none.
    pub fn link(&mut self, id: &str, link: Option<Link>) {
        if let Some(group) = self.groups.get_mut(id) {
            group.link = link;
        }
    }

    pub fn link_of(&self, id: &str) -> Option<&Link> {
        self.groups.get(id)?.link.as_ref()
    }

    /// The groups of a community.
    pub fn linked_to(&self, parent: &str) -> Vec<(String, Role)> {
        let linked = self.groups.iter().filter_map(|(id, group)| Some((id, group.link.as_ref()?)));
        linked.filter(|(_, link)| link.parent == parent).map(|(id, link)| (id.clone(), link.role)).collect()
    }

    /// It is a group like any other from now on.
    pub fn close_community(&mut self, id: &str) {
        if let Some(group) = self.groups.get_mut(id) {
            group.settings.parent = false;
        }
    }
}

impl World {
    /// Opens a group; the first member is its creator and admin.
    pub fn create_group(&mut self, subject: &str, members: &[AccountId], addressing: Addressing) -> String {
        self.create_group_with(subject, members, addressing, Settings::default())
    }

    fn create_group_with(
        &mut self,
        subject: &str,
        members: &[AccountId],
        addressing: Addressing,
        settings: Settings,
    ) -> String {
        let id = format!("1203630{:011}", self.groups.groups.len() + 1);
        let creator = members[0];
        let group = Group {
            subject: subject.to_owned(),
            description: None,
            creator,
            created: self.now.unix,
            addressing,
            members: members.iter().take(MAX_MEMBERS).map(|member| (*member, *member == creator)).collect(),
            settings,
            link: None,
        };
        self.groups.groups.insert(id.clone(), group);
        let metadata = self.group_node(&id);
        let created =
            node("create").attr("type", "new").attr("reason", "invite").children([metadata]).build();
        self.tell_members(&id, creator, members, created);
        id
    }

    /// `<iq xmlns="w:g2">`.
    pub fn on_group_iq(&mut self, at: DeviceAddress, request: &Node) -> Node {
        let id = request.jid("to").map(|to| to.user.to_string()).unwrap_or_default();
        let Some(action) = request.first_child() else { return error(request, 400, "bad-request") };
        match action.tag.as_ref() {
            "create" => return self.on_create(at, request, action),
            "participating" => {
                let own: Vec<String> = (self.groups.groups.iter())
                    .filter(|(_, group)| group.members.contains_key(&at.account))
                    .map(|(id, _)| id.clone())
                    .collect();
                let groups: Vec<Node> = own.iter().map(|id| self.group_node(id)).collect();
                return result(request, [node("groups").children(groups).build()]);
            }
            "leave" => {
                let left: Vec<String> = action
                    .all("group")
                    .filter_map(|group| group.jid("id").map(|jid| jid.user.to_string()))
                    .collect();
                for id in &left {
                    self.change_members(id, at.account, "remove", &[at.account]);
                }
                let groups = left.iter().map(|id| node("group").attr("id", Jid::group(id.as_str())).build());
                return result(request, [node("leave").children(groups).build()]);
            }
            _ => {}
        }
        let Some(group) = self.groups.groups.get_mut(&id) else {
            return error(request, 404, "item-not-found");
        };
        let Some(admin) = group.members.get(&at.account).copied() else {
            return error(request, 403, "forbidden");
        };
        match action.tag.as_ref() {
            "query" => result(request, [self.group_node(&id)]),
            tag @ ("add" | "remove" | "promote" | "demote") => {
                if !admin {
                    return error(request, 403, "forbidden");
                }
                let tag = match tag {
                    "add" => "add",
                    "remove" => "remove",
                    "promote" => "promote",
                    _ => "demote",
                };
                let jids: Vec<Jid> =
                    action.all("participant").filter_map(|member| member.jid("jid")).collect();
                let members: Vec<AccountId> = jids.iter().filter_map(|jid| self.account_of(jid)).collect();
                self.change_members(&id, at.account, tag, &members);
                let answered = jids.iter().map(|jid| {
                    let participant = node("participant").attr("jid", jid);
                    match self.account_of(jid) {
                        Some(_) => participant.attr("type", "200").build(),
                        None => participant.attr("type", "404").attr("error", 404u16).build(),
                    }
                });
                let answered: Vec<Node> = answered.collect();
                result(request, [node(tag).children(answered).build()])
            }
            "subject" => {
                group.subject = action.content_as_string().unwrap_or_default().to_string();
                let told = node("subject")
                    .attr("subject", group.subject.as_str())
                    .attr("s_t", self.now.unix)
                    .build();
                self.tell_group(&id, at.account, told);
                result(request, [])
            }
            "description" => {
                let text = action.child("body").and_then(|body| body.bytes()).unwrap_or_default().to_vec();
                let description_id = action.attr("id").unwrap_or_default().into_owned();
                group.description = Some((description_id.clone(), text.clone()));
                let told =
                    node("description").attr("id", description_id).children([leaf("body", text)]).build();
                self.tell_group(&id, at.account, told);
                result(request, [])
            }
            "links"
            | "unlink"
            | "delete_parent"
            | "query_linked"
            | "join_linked_group"
            | "linked_groups_participants"
                if group.settings.parent =>
            {
                self.on_community_iq(at, request, &id, admin, action)
                    .unwrap_or_else(|| not_implemented(request))
            }
            "invite" => result(request, [node("invite").attr("code", format!("INV{id}")).build()]),
            tag => {
                let mut settings = group.settings.clone();
                match settings.change(action) {
                    None if SETTINGS.contains(&tag) => error(request, 400, "bad-request"),
                    None => {
                        log::warn!("refused <{tag}> on a group: that is not part of this server");
                        not_implemented(request)
                    }
                    Some(()) if !admin => error(request, 403, "forbidden"),
                    Some(()) => {
                        group.settings = settings;
                        self.tell_group(&id, at.account, action.clone());
                        result(request, [])
                    }
                }
            }
        }
    }

    fn on_create(&mut self, at: DeviceAddress, request: &Node, action: &Node) -> Node {
        let subject = action.attr("subject").unwrap_or_default().into_owned();
        let mut members = vec![at.account];
        for jid in action.all("participant").filter_map(|member| member.jid("jid")) {
            members.extend(self.account_of(&jid).filter(|member| *member != at.account));
        }
        let mut settings = Settings { parent: action.child("parent").is_some(), ..Settings::default() };
        for setting in action.children().unwrap_or_default() {
            // What else a client says about its new group is not kept.
            let _ = settings.change(setting);
        }
        // However the creator named the members: new groups name them by LID.
        let community = settings.parent;
        let id = self.create_group_with(&subject, &members, Addressing::Lid, settings);
        if community {
            let general = action.child("create_general_chat").is_some();
            self.open_community(&id, &subject, at.account, general);
        }
        if let Some(parent) = action.child("linked_parent").and_then(|parent| parent.jid("jid"))
            && self.groups.is_admin(&parent.user, at.account)
        {
            self.groups.link(&id, Some(Link { parent: parent.user.to_string(), role: Role::Other }));
        }
        result(request, [self.group_node(&id)])
    }

    /// `<group>` with all that is known of it.
    pub fn group_node(&self, id: &str) -> Node {
        let Some(group) = self.groups.groups.get(id) else { return node("group").build() };
        let creator = self.accounts[group.creator].jid(0, group.addressing);
        let mut children: Vec<Node> = group
            .members
            .iter()
            .map(|(member, admin)| {
                let account = &self.accounts[*member];
                let other = account.jid(0, group.addressing.other());
                let participant = node("participant").attr("jid", account.jid(0, group.addressing));
                let participant = match group.addressing {
                    Addressing::Lid => participant.attr("phone_number", other),
                    Addressing::Pn => participant.attr("lid", other),
                };
                match (admin, *member == group.creator) {
                    (true, true) => participant.attr("type", "superadmin").build(),
                    (true, false) => participant.attr("type", "admin").build(),
                    _ => participant.build(),
                }
            })
            .collect();
        children.extend(group.settings.nodes());
        children.extend(group.link.iter().flat_map(Link::nodes));
        if let Some((description_id, text)) = &group.description {
            children.push(
                node("description")
                    .attr("id", description_id.as_str())
                    .children([leaf("body", text.as_slice())])
                    .build(),
            );
        }
        node("group")
            .attr("id", id)
            .attr("creator", &creator)
            .attr("creation", group.created)
            .attr("subject", group.subject.as_str())
            .attr("s_o", &creator)
            .attr("s_t", group.created)
            .attr("addressing_mode", group.addressing.as_str())
            .children(children)
            .build()
    }

    /// Adds, removes, promotes or demotes, and tells everybody concerned.
    pub fn change_members(&mut self, id: &str, actor: AccountId, change: &'static str, who: &[AccountId]) {
        let Some(group) = self.groups.groups.get_mut(id) else { return };
        let mut told: Vec<AccountId> = group.members.keys().copied().collect();
        for member in who {
            match change {
                "add" if group.members.len() < MAX_MEMBERS => {
                    group.members.entry(*member).or_insert(false);
                }
                "remove" => {
                    group.members.remove(member);
                }
                "promote" | "demote" => {
                    if let Some(admin) = group.members.get_mut(member) {
                        *admin = change == "promote";
                    }
                }
                _ => {}
            }
        }
        told.extend(
            who.iter()
                .filter(|member| change == "add" && !told.contains(member))
                .copied()
                .collect::<Vec<_>>(),
        );
        let addressing = group.addressing;
        let participants: Vec<Node> = who
            .iter()
            .map(|member| {
                let account = &self.accounts[*member];
                let participant = node("participant").attr("jid", account.jid(0, addressing));
                match addressing {
                    Addressing::Lid => {
                        participant.attr("phone_number", account.jid(0, Addressing::Pn)).build()
                    }
                    Addressing::Pn => participant.attr("lid", account.jid(0, Addressing::Lid)).build(),
                }
            })
            .collect();
        self.tell_members(id, actor, &told, node(change).children(participants).build());
    }

    fn tell_group(&mut self, id: &str, actor: AccountId, change: Node) {
        let members = self.groups.members(id).unwrap_or_default();
        self.tell_members(id, actor, &members, change);
    }

    fn tell_members(&mut self, id: &str, actor: AccountId, members: &[AccountId], change: Node) {
        let addressing = self.groups.addressing(id);
        for account in members {
            let companions: Vec<u16> = self.accounts[*account].companions.keys().copied().collect();
            for device in companions {
                let stanza = node("notification")
                    .attr("from", Jid::group(id))
                    .attr("type", "w:gp2")
                    .attr("id", self.fresh_id())
                    .attr("participant", self.accounts[actor].jid(0, addressing))
                    .attr("t", self.now.unix)
                    .attr("notify", self.accounts[actor].name.as_str())
                    .attr("addressing_mode", addressing.as_str())
                    .children([change.clone()])
                    .build();
                self.deliver_to_companion(DeviceAddress { account: *account, device }, stanza);
            }
        }
    }
}
