//! What to do with a reply that WhatsApp does not take, or takes and delivers to nobody: decided from facts
//! alone.
//!
//! **463.** WhatsApp lets this account write nothing to that person: their token is missing or too old, or
//! the account may open no new chats for a while (the *reach-out time lock*). Sending again does not help and
//! makes it worse. The reply is parked; it gets one more attempt when the person writes again, and one when
//! a token of theirs comes. When it is refused to [`PEOPLE`] people, first replies to all others pause, for
//! [`LONGEST_PAUSE`] seconds or until the lock's end; people who were answered before, or whose token is
//! here, are answered as ever.
//!
//! **400, 404, 406, 479.** The address is wrong, or its recipient. A person has two, a phone number and a
//! LID, and which of them WhatsApp takes depends on the account: the other one is tried once.
//!
//! **Keyed for nobody.** whatsapp-rust 0.7 leaves out devices that it has no keys for and reports success as
//! long as one is left, which may be the operator's own phone. WhatsApp acknowledges that. What was sent is
//! therefore looked at: without a ciphertext for the recipient's phone it counts as not sent.

use std::fmt;

use wacore_binary::{Jid, Node, NodeContent, NodeValue, Server};

use crate::ledger::outbox::MAX_AGE_SECONDS;
use crate::ledger::reachout::{Lock, Refusal};

/// WhatsApp's code for "this account may not write to this person now".
const NOT_LET_IN: &str = "463";

/// Codes that concern the address.
const OF_THE_ADDRESS: &[&str] = &["400", "404", "406", "479"];

/// First replies pause when so many people were refused within [`COUNTED_SECONDS`].
pub const PEOPLE: u32 = 3;

/// How long a refusal counts towards a pause, in seconds.
pub const COUNTED_SECONDS: i64 = 24 * 3600;

/// Longest pause in seconds. Then one first reply shows whether it is over: WhatsApp does not always tell
/// when its lock ends, and never whether it really means us.
pub const LONGEST_PAUSE: i64 = 6 * 3600;

/// While a refusal is not older than this, in seconds, first replies go out one by one, so that a lock costs
/// [`PEOPLE`] refusals and not as many as there are replies on their way.
pub const SUSPICION_SECONDS: i64 = 10 * 60;

/// A token is good for 28 days at most: four buckets of seven days, WhatsApp Web's defaults.
pub const TOKEN_SECONDS: i64 = 28 * 24 * 3600;

/// So often a reply that the recipient's phone could not read is sent anew; then it is given up.
pub const MOST_UNKEYED: u32 = 4;

/// Why a reply is given up. Written down as `code: words`, without anything personal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// As [`DueReply::exhausted`](crate::ledger::outbox::DueReply::exhausted) says.
    Exhausted(&'static str),
    AddressUnreadable,
    /// WhatsApp did not let it in for as long as it mattered.
    NotLetIn,
    /// Refused with this code at every address that is known.
    Refused(String),
    /// No ciphertext for the recipient's phone, however often.
    NoPhone,
}

impl Reason {
    /// Beginnings of what is written down about replies that WhatsApp did not want …
    pub const REFUSED: [&'static str; 2] = ["not_let_in:", "refused:"];
    /// … and about those whose recipient's phone could not be reached.
    pub const NO_PHONE: &'static str = "no_phone:";
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exhausted(why) => f.write_str(why),
            Self::AddressUnreadable => f.write_str("the address of the chat cannot be read"),
            Self::NotLetIn => write!(
                f,
                "not_let_in: WhatsApp refused it with code {NOT_LET_IN} and neither another message nor a token \
                 of the person came in time"
            ),
            Self::Refused(code) => {
                write!(
                    f,
                    "refused: WhatsApp refused it with code {code} at every known address of the person"
                )
            }
            Self::NoPhone => {
                f.write_str("no_phone: WhatsApp's key server has no usable keys of the recipient's phone")
            }
        }
    }
}

/// What is known before an attempt.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// Now, and when the reply was written, in seconds since 1970 UTC.
    pub now: i64,
    pub written_at: i64,
    pub parked_at: Option<i64>,
    /// The person has got a reply before, at whichever address.
    pub answered: bool,
    /// A token of theirs is here that should still be good.
    pub has_token: bool,
    pub refusal: Option<Refusal>,
    pub paused_until: Option<i64>,
}

/// What to do with a reply whose turn it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Before {
    Send,
    /// Nothing vouches for it: while there is suspicion, one such reply at a time.
    SendFirst,
    /// Wait until then, or until something releases it earlier.
    Park(i64),
    GiveUp(Reason),
}

/// Decides whether a reply may go.
pub fn before(facts: &Facts) -> Before {
    let too_old = parked_until(facts.written_at);
    // One that only a pause kept back has had no attempt yet.
    if facts.refusal.is_some() && facts.now >= too_old {
        return Before::GiveUp(Reason::NotLetIn);
    }
    let paused = facts.paused_until.filter(|until| *until > facts.now);
    match (facts.refusal, paused) {
        (Some(refusal), _) if !refusal.called => Before::Park(too_old),
        _ if facts.answered || facts.has_token => Before::Send,
        (_, Some(until)) if facts.now < too_old => Before::Park(until.min(too_old)),
        (_, Some(until)) => Before::Park(until),
        (Some(_), None) => Before::Send,
        (None, None) => Before::SendFirst,
    }
}

/// When a reply that is refused now is looked at again if nothing releases it.
pub fn parked_until(written_at: i64) -> i64 {
    written_at.saturating_add(MAX_AGE_SECONDS + 1)
}

/// Until when first replies pause, if they do, after so many people were refused.
pub fn pause(people: u32, lock: &Lock, now: i64) -> Option<i64> {
    let ends = lock.ends_at.filter(|ends| lock.active && *ends > now);
    (people >= PEOPLE).then(|| ends.unwrap_or(i64::MAX).min(now.saturating_add(LONGEST_PAUSE)))
}

/// For whom a stanza that WhatsApp took was encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keyed {
    /// The recipient's phone can read it.
    Phone,
    /// It cannot, whoever else can.
    NotPhone,
    /// It is not of the kind that tells.
    Unknown,
}

/// What WhatsApp made of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<'a> {
    Taken(Keyed),
    Refused(&'a str),
}

/// What to do after an attempt that WhatsApp answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum After {
    Delivered,
    /// The person's other address has not been tried.
    OtherAddress,
    Park,
    /// Send it again later, with a fresh list of the recipient's devices.
    Afresh,
    GiveUp(Reason),
    /// Send it again later, as it is.
    Later,
}

/// Decides what follows. `unkeyed`: how often it was keyed for nobody before. `other_address`: there is one
/// that has not been tried.
pub fn after(answer: &Answer<'_>, unkeyed: u32, other_address: bool) -> After {
    match *answer {
        Answer::Taken(Keyed::Phone | Keyed::Unknown) => After::Delivered,
        Answer::Taken(Keyed::NotPhone) if unkeyed + 1 >= MOST_UNKEYED => After::GiveUp(Reason::NoPhone),
        Answer::Taken(Keyed::NotPhone) => After::Afresh,
        Answer::Refused(NOT_LET_IN) => After::Park,
        Answer::Refused(code) if !OF_THE_ADDRESS.contains(&code) => After::Later,
        Answer::Refused(_) if other_address => After::OtherAddress,
        Answer::Refused(code) => After::GiveUp(Reason::Refused(code.to_owned())),
    }
}

/// The two addresses of one account, without devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    pub phone: Option<Jid>,
    pub lid: Option<Jid>,
}

impl Addresses {
    /// The one of that kind.
    fn of(&self, server: Server) -> Option<&Jid> {
        match server {
            Server::Pn => self.phone.as_ref(),
            Server::Lid => self.lid.as_ref(),
            _ => None,
        }
    }

    fn has(&self, user: &Jid) -> bool {
        self.of(user.server).is_some_and(|own| own.user == user.user)
    }

    /// Those that are known, without devices, as chats are named.
    pub fn chats(&self) -> impl Iterator<Item = String> {
        [&self.phone, &self.lid].into_iter().flatten().map(Jid::to_non_ad_string)
    }
}

/// For whom a sent message is encrypted. `own` is the bot's account, whose other devices get copies; a message
/// to the bot's own phone is for nobody else.
pub fn keyed(stanza: &Node, own: &Addresses) -> Keyed {
    let Some(participants) = stanza.get_optional_child("participants") else { return Keyed::Unknown };
    let jid_of = |node: &Node, name| node.attrs.get(name).and_then(NodeValue::to_jid);
    let to_self = jid_of(stanza, "to").is_some_and(|to| own.has(&to));
    let to_phone = participants.get_children_by_tag("to").any(|to| {
        let is_theirs = |jid: Jid| jid.device == 0 && own.has(&jid) == to_self;
        jid_of(to, "jid").is_some_and(is_theirs) && to.get_optional_child("enc").is_some()
    });
    if to_phone { Keyed::Phone } else { Keyed::NotPhone }
}

/// The same message to the person's other address, own devices in the same name space; `None` if that is not
/// known. Nobody has got the first one, so its ciphertexts are still unused, and each is for the same device
/// by either name.
pub fn readdressed(stanza: &Node, person: &Addresses, own: &Addresses) -> Option<Node> {
    let to = stanza.attrs.get("to").and_then(NodeValue::to_jid)?;
    let server = match to.server {
        Server::Pn => Server::Lid,
        Server::Lid => Server::Pn,
        _ => return None,
    };
    let mut other = stanza.clone();
    other.attrs.insert("to", person.of(server)?.to_non_ad());
    let Some(NodeContent::Nodes(children)) = &mut other.content else { return None };
    let participants = children.iter_mut().find(|child| child.tag == "participants")?;
    let Some(NodeContent::Nodes(devices)) = &mut participants.content else { return None };
    for device in devices {
        let jid = device.attrs.get("jid").and_then(NodeValue::to_jid)?;
        let account = if own.has(&jid) { own } else { person };
        let named = account.of(server)?.to_non_ad().with_device(jid.device);
        device.attrs.insert("jid", named);
    }
    Some(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use wacore_binary::builder::NodeBuilder;

    const NOW: i64 = 1_795_410_000;

    fn facts() -> Facts {
        Facts {
            now: NOW,
            written_at: NOW - 5,
            parked_at: None,
            answered: false,
            has_token: false,
            refusal: None,
            paused_until: None,
        }
    }

    fn shut(called: bool) -> Option<Refusal> {
        Some(Refusal { at: NOW - 60, called })
    }

    #[test]
    fn a_first_reply_goes_unless_first_replies_pause() {
        assert_eq!(before(&facts()), Before::SendFirst);
        let paused = Facts { paused_until: Some(NOW + 100), ..facts() };
        assert_eq!(before(&paused), Before::Park(NOW + 100));
        assert_eq!(before(&Facts { answered: true, ..paused }), Before::Send);
        assert_eq!(before(&Facts { has_token: true, ..paused }), Before::Send);
        assert_eq!(before(&Facts { paused_until: Some(NOW), ..paused }), Before::SendFirst);
    }

    #[test]
    fn a_shut_chat_gets_nothing_until_its_person_calls() {
        let refused = Facts { refusal: shut(false), answered: true, has_token: true, ..facts() };
        assert_eq!(before(&refused), Before::Park(parked_until(NOW - 5)));
        assert_eq!(before(&Facts { refusal: shut(true), ..facts() }), Before::Send);
        // A call does not outrank the pause, but for those who are known.
        let called = Facts { refusal: shut(true), paused_until: Some(NOW + 100), ..facts() };
        assert_eq!(before(&called), Before::Park(NOW + 100));
        assert_eq!(before(&Facts { answered: true, ..called }), Before::Send);
    }

    #[test]
    fn a_parked_reply_ages_out() {
        let old = Facts { written_at: NOW - MAX_AGE_SECONDS - 1, refusal: shut(true), ..facts() };
        assert_eq!(before(&old), Before::GiveUp(Reason::NotLetIn));
        let unrefused = Facts { refusal: None, ..old };
        assert_eq!(before(&unrefused), Before::SendFirst, "only the line was down");
        let paused_before = Facts { parked_at: Some(NOW - 9), ..unrefused };
        assert_eq!(before(&paused_before), Before::SendFirst, "it was never tried");
        assert_ne!(
            before(&Facts { written_at: NOW - MAX_AGE_SECONDS, ..old }),
            Before::GiveUp(Reason::NotLetIn)
        );
    }

    #[test]
    fn the_third_person_pauses_first_replies_until_the_locks_end_or_for_some_hours() {
        let lock = |active, ends_at| Lock { active, kind: None, ends_at };
        assert_eq!(pause(PEOPLE - 1, &lock(true, Some(NOW + 60)), NOW), None);
        assert_eq!(pause(PEOPLE, &lock(true, Some(NOW + 60)), NOW), Some(NOW + 60));
        for unknown in [lock(true, None), lock(false, Some(NOW + 60)), lock(true, Some(NOW - 1))] {
            assert_eq!(pause(PEOPLE, &unknown, NOW), Some(NOW + LONGEST_PAUSE));
        }
        assert_eq!(pause(9, &lock(true, Some(NOW + 7 * 86_400)), NOW), Some(NOW + LONGEST_PAUSE));
    }

    #[test]
    fn each_refusal_has_its_consequence() {
        assert_eq!(after(&Answer::Refused("463"), 0, true), After::Park);
        for code in OF_THE_ADDRESS {
            assert_eq!(after(&Answer::Refused(code), 0, true), After::OtherAddress);
            let given_up = After::GiveUp(Reason::Refused((*code).to_owned()));
            assert_eq!(after(&Answer::Refused(code), 0, false), given_up);
        }
        assert_eq!(after(&Answer::Refused("503"), 0, true), After::Later);
    }

    #[test]
    fn what_is_keyed_for_nobody_is_sent_afresh_so_often_and_then_given_up() {
        assert_eq!(after(&Answer::Taken(Keyed::Phone), 9, false), After::Delivered);
        assert_eq!(after(&Answer::Taken(Keyed::Unknown), 9, false), After::Delivered);
        let outcomes: Vec<_> =
            (0..MOST_UNKEYED).map(|n| after(&Answer::Taken(Keyed::NotPhone), n, true)).collect();
        let (last, before) = outcomes.split_last().unwrap();
        assert!(before.iter().all(|outcome| *outcome == After::Afresh));
        assert_eq!(*last, After::GiveUp(Reason::NoPhone));
    }

    fn addresses(phone: &str, lid: &str) -> Addresses {
        Addresses { phone: Some(Jid::pn(phone)), lid: Some(Jid::lid(lid)) }
    }

    fn message(to: &str, devices: &[(&str, bool)]) -> Node {
        let devices = devices.iter().map(|(jid, keyed)| {
            let to = NodeBuilder::new("to").attr("jid", jid.parse::<Jid>().unwrap());
            let enc = NodeBuilder::new("enc").bytes(vec![7]).build();
            if *keyed { to.children([enc]).build() } else { to.build() }
        });
        let participants = NodeBuilder::new("participants").children(devices).build();
        NodeBuilder::new("message").attr("to", to.parse::<Jid>().unwrap()).children([participants]).build()
    }

    fn devices(stanza: &Node) -> Vec<String> {
        let participants = stanza.get_optional_child("participants").unwrap();
        participants
            .get_children_by_tag("to")
            .map(|to| to.attrs.get("jid").unwrap().as_str().into_owned())
            .collect()
    }

    #[test]
    fn a_message_reaches_its_person_only_with_a_ciphertext_for_their_phone() {
        let own = addresses("6280000000009", "900");
        let case = |devices: &[(&str, bool)]| keyed(&message("100@lid", devices), &own);
        assert_eq!(case(&[("100@lid", true), ("900@lid", true)]), Keyed::Phone);
        assert_eq!(case(&[("900@lid", true), ("6280000000009@s.whatsapp.net", true)]), Keyed::NotPhone);
        assert_eq!(case(&[("100:3@lid", true), ("900@lid", true)]), Keyed::NotPhone);
        assert_eq!(case(&[("100@lid", false)]), Keyed::NotPhone);
        assert_eq!(case(&[]), Keyed::NotPhone);
        let to_self = message("6280000000009@s.whatsapp.net", &[("6280000000009@s.whatsapp.net", true)]);
        assert_eq!(keyed(&to_self, &own), Keyed::Phone);
        assert_eq!(keyed(&NodeBuilder::new("message").build(), &own), Keyed::Unknown);
    }

    #[test]
    fn a_message_is_readdressed_with_all_its_devices() {
        let (own, ani) = (addresses("6280000000009", "900"), addresses("6280000000001", "100"));
        let by_phone = message(
            "6280000000001@s.whatsapp.net",
            &[
                ("6280000000001@s.whatsapp.net", true),
                ("6280000000001:4@s.whatsapp.net", true),
                ("6280000000009@s.whatsapp.net", true),
            ],
        );
        let by_lid = readdressed(&by_phone, &ani, &own).unwrap();
        assert_eq!(by_lid.attrs.get("to").unwrap().as_str(), "100@lid");
        assert_eq!(devices(&by_lid), ["100@lid", "100:4@lid", "900@lid"]);
        assert_eq!(devices(&readdressed(&by_lid, &ani, &own).unwrap()), devices(&by_phone));
        let unknown = Addresses { lid: None, ..ani };
        assert!(readdressed(&by_phone, &unknown, &own).is_none());
    }

    proptest! {
        /// Whatever the facts: nothing that was refused goes out without a call, nothing unknown goes out
        /// during a pause, and whatever waits waits for a moment that comes.
        #[test]
        fn nothing_hammers_and_nothing_waits_for_ever(
            age in 0..4 * 86_400_i64,
            flags in any::<[bool; 5]>(),
            pause in prop::option::of(-1_000..1_000_000_i64),
        ) {
            let [parked, answered, has_token, refused, called] = flags;
            let facts = Facts {
                now: NOW,
                written_at: NOW - age,
                parked_at: parked.then_some(NOW - 1),
                answered,
                has_token,
                refusal: refused.then_some(Refusal { at: NOW - 60, called }),
                paused_until: pause.map(|until| NOW + until),
            };
            match before(&facts) {
                Before::Send | Before::SendFirst => {
                    prop_assert!(!refused || called);
                    prop_assert!(answered || has_token || pause.is_none_or(|until| until <= 0));
                }
                Before::Park(until) => {
                    prop_assert!(until > NOW);
                    prop_assert!(until <= parked_until(facts.written_at) || age > MAX_AGE_SECONDS);
                }
                Before::GiveUp(_) => prop_assert!((parked || refused) && age > MAX_AGE_SECONDS),
            }
        }
    }
}
