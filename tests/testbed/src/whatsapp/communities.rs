//! Communities: a group that others are linked to (`w:g2`, and `w:mex` for the list of them).

use serde_json::{Value, json};
use wacore_binary::{Jid, Node};

use super::accounts::{AccountId, DeviceAddress};
use super::stanza::{Stanza, error, node, result};
use super::world::World;

/// `query_id` of the list of a community's groups.
const LIST_QUERY: &str = "9935467776504344";

/// `query_id` of the numbers of their members.
const COUNT_QUERY: &str = "24079399904996141";

/// What a group is in its community.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Where the admins tell everybody something; there from the start.
    Announcements,
    /// Where everybody may write; there from the start, if wanted.
    General,
    /// Linked by somebody.
    Other,
}

/// A group's link to its community.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Id of the community.
    pub parent: String,
    pub role: Role,
}

impl Link {
    /// The children of `<group>` that name it.
    pub fn nodes(&self) -> Vec<Node> {
        let parent = node("linked_parent").attr("jid", Jid::group(self.parent.as_str())).build();
        let role = match self.role {
            Role::Announcements => Some(node("default_sub_group").build()),
            Role::General => Some(node("general_chat").build()),
            Role::Other => None,
        };
        std::iter::once(parent).chain(role).collect()
    }
}

impl World {
    /// Opens the groups that a new community has from the start.
    pub fn open_community(&mut self, parent: &str, subject: &str, creator: AccountId, general: bool) {
        let wanted = [(Role::Announcements, true), (Role::General, general)];
        for (role, _) in wanted.into_iter().filter(|(_, wanted)| *wanted) {
            let id = self.create_group(subject, &[creator], super::accounts::Addressing::Lid);
            self.groups.link(&id, Some(Link { parent: parent.to_owned(), role }));
        }
    }

    /// An action on the community `parent` by a member of it; `None` when it is none of a community's.
    pub fn on_community_iq(
        &mut self,
        at: DeviceAddress,
        request: &Node,
        parent: &str,
        admin: bool,
        action: &Node,
    ) -> Option<Node> {
        let linked_here = |world: &World| {
            let id = action.jid("jid")?.user.to_string();
            world.groups.link_of(&id).is_some_and(|link| link.parent == parent).then_some(id)
        };
        Some(match action.tag.as_ref() {
            "links" | "unlink" | "delete_parent" if !admin => error(request, 403, "forbidden"),
            "links" => {
                let Some(link) = action.child("link") else {
                    return Some(error(request, 400, "bad-request"));
                };
                let linked = Link { parent: parent.to_owned(), role: Role::Other };
                let groups = self.change_links(at, link, |_| Some(linked.clone()));
                let link = node("link").attr("link_type", "sub_group").children(groups).build();
                result(request, [node("links").children([link]).build()])
            }
            "unlink" => {
                let groups = self.change_links(at, action, |_| None);
                result(request, [node("unlink").attr("unlink_type", "sub_group").children(groups).build()])
            }
            "delete_parent" => {
                for (id, _) in self.groups.linked_to(parent) {
                    self.groups.link(&id, None);
                }
                self.groups.close_community(parent);
                result(request, [])
            }
            "query_linked" | "join_linked_group" => {
                let Some(id) = linked_here(self) else {
                    return Some(error(request, 404, "item-not-found"));
                };
                if action.tag == "join_linked_group" {
                    self.change_members(&id, at.account, "add", &[at.account]);
                }
                result(request, [node("linked_group").children([self.group_node(&id)]).build()])
            }
            "linked_groups_participants" => {
                let groups = self.groups.linked_to(parent);
                let participants = groups.iter().flat_map(|(id, _)| {
                    let group = self.group_node(id);
                    group.all("participant").cloned().collect::<Vec<_>>()
                });
                let participants: Vec<Node> = participants.collect();
                result(request, [node("linked_groups_participants").children(participants).build()])
            }
            _ => return None,
        })
    }

    /// Links or unlinks the groups that `named` lists; those that the actor is no admin of are refused.
    fn change_links(
        &mut self,
        at: DeviceAddress,
        named: &Node,
        link: impl Fn(&str) -> Option<Link>,
    ) -> Vec<Node> {
        let jids: Vec<Jid> = named.all("group").filter_map(|group| group.jid("jid")).collect();
        let changed = jids.into_iter().map(|jid| {
            let group = node("group").attr("jid", &jid);
            if self.groups.is_admin(&jid.user, at.account) {
                self.groups.link(&jid.user, link(&jid.user));
                group.build()
            } else {
                group.attr("error", 403u16).build()
            }
        });
        changed.collect()
    }

    /// What `<iq xmlns="w:mex">` asks about a community; `None` when it asks about something else.
    pub fn community_data(&self, request: &Node) -> Option<Value> {
        let query = request.child("query")?;
        let id = query.attr("query_id")?;
        if id != LIST_QUERY && id != COUNT_QUERY {
            return None;
        }
        let asked: Value = serde_json::from_slice(query.bytes()?).ok()?;
        let variables = &asked["variables"];
        let parent = variables["group_id"].as_str().or_else(|| variables["input"]["group_jid"].as_str())?;
        let parent: Jid = parent.parse().ok()?;
        let described = |id: &str, role: Role| {
            json!({
                "id": Jid::group(id).to_string(),
                "subject": { "value": self.groups.subject(id) },
                "total_participants_count": self.groups.members(id).map_or(0, |members| members.len()),
                "properties": { "general_chat": role == Role::General },
            })
        };
        let groups = self.groups.linked_to(&parent.user);
        let (first, others): (Vec<_>, Vec<_>) =
            groups.into_iter().partition(|(_, role)| *role == Role::Announcements);
        let first = first.first().map(|(id, role)| described(id, *role));
        let edges: Vec<Value> =
            others.iter().map(|(id, role)| json!({ "node": described(id, *role) })).collect();
        let data = json!({ "default_sub_group": first, "sub_groups": { "edges": edges } });
        Some(json!({ "xwa2_group_query_by_id": data }))
    }
}
