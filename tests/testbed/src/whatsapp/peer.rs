//! Peer messages: what a phone and the companions of its account tell each other, and nobody sees.
//!
//! A companion gets the account's app-state key once it has uploaded keys of its own, encrypted with one of
//! them. It may ask for that key again, and for the content of messages that it could not read itself
//! (`PLACEHOLDER_MESSAGE_RESEND`). Everything else that companions tell their phone is swallowed.

use buffa::{Message as _, MessageField};
use wacore_binary::{Jid, Node};
use waproto::whatsapp::message::peer_data_operation_request_response_message::PeerDataOperationResult;
use waproto::whatsapp::message::peer_data_operation_request_response_message::peer_data_operation_result::PlaceholderMessageResendResponse;
use waproto::whatsapp::message::protocol_message::Type;
use waproto::whatsapp::message::{
    PeerDataOperationRequestMessage, PeerDataOperationRequestResponseMessage, PeerDataOperationRequestType,
    ProtocolMessage,
};
use waproto::whatsapp::{Message, MessageKey, WebMessageInfo};

use super::accounts::{AccountId, Addressing, DeviceAddress};
use super::stanza::node;
use super::world::World;

/// Messages that a companion may ask for in one request; clients ask for one.
const MAX_RESENT: usize = 100;

impl World {
    /// The phone gives a companion the app-state key: when it has uploaded keys, and once.
    pub fn share_app_state_key(&mut self, to: DeviceAddress) {
        let now = self.now.unix;
        if !self.accounts[to.account].primary.online {
            return;
        }
        let Some(companion) = self.companion(to) else { return };
        if !companion.uploaded_keys || std::mem::replace(&mut companion.has_app_state_key, true) {
            return;
        }
        let share = self.accounts[to.account].primary.phone.app_state_key_share(now);
        self.phone_tells(to, &share);
    }

    /// A peer message from the phone to one of its companions.
    pub fn phone_tells(&mut self, to: DeviceAddress, message: &Message) {
        let id = self.fresh_message_id();
        let Some(enc) = self.encrypt_for(to.account, to, message) else { return };
        let own = self.accounts[to.account].jid(0, Addressing::Pn);
        let primary = &mut self.accounts[to.account].primary;
        primary.remember_peer_message(id.clone(), own.clone(), message.clone());
        let stanza: Node = node("message")
            .attr("from", own)
            .attr("id", id)
            .attr("t", self.now.unix)
            .attr("type", "text")
            .attr("category", "peer")
            .children([enc])
            .build();
        self.deliver_to_companion(to, stanza);
    }

    /// The phone got a peer message of that id from one of its companions.
    pub fn primary_got_peer_message(&mut self, from: DeviceAddress, id: &str, message: &Message) {
        let Some(protocol) = message.protocol_message.as_option() else { return };
        if let Some(asked) = protocol.app_state_sync_key_request.as_option() {
            let phone = &self.accounts[from.account].primary.phone;
            let known =
                asked.key_ids.iter().any(|key| key.key_id.as_deref() == Some(&phone.app_state_key().0[..]));
            if known {
                let share = phone.app_state_key_share(self.now.unix);
                self.phone_tells(from, &share);
            }
        }
        if let Some(asked) = protocol.peer_data_operation_request_message.as_option()
            && let Some(answer) = self.answer_peer_request(from.account, id, asked)
        {
            self.phone_tells(from, &answer);
        }
    }

    fn answer_peer_request(
        &self,
        account: AccountId,
        id: &str,
        asked: &PeerDataOperationRequestMessage,
    ) -> Option<Message> {
        let kind = asked.peer_data_operation_request_type?;
        if kind != PeerDataOperationRequestType::PlaceholderMessageResend {
            return None;
        }
        let keys = asked.placeholder_message_resend_request.iter().take(MAX_RESENT);
        let results = keys.filter_map(|asked| {
            let found = self.message_again(account, asked.message_key.as_option()?)?;
            Some(PeerDataOperationResult {
                placeholder_message_resend_response: MessageField::some(PlaceholderMessageResendResponse {
                    web_message_info_bytes: Some(found.encode_to_vec()),
                }),
                ..Default::default()
            })
        });
        let response = PeerDataOperationRequestResponseMessage {
            peer_data_operation_request_type: Some(kind),
            stanza_id: Some(id.to_owned()),
            peer_data_operation_result: results.collect(),
        };
        Some(Message {
            protocol_message: MessageField::some(ProtocolMessage {
                r#type: Some(Type::PeerDataOperationRequestResponseMessage),
                peer_data_operation_request_response_message: MessageField::some(response),
                ..Default::default()
            }),
            ..Default::default()
        })
    }

    /// A message as it stands on the phone, without content when it is not there. Persons are named by phone
    /// number, whatever the request called them.
    fn message_again(&self, account: AccountId, key: &MessageKey) -> Option<WebMessageInfo> {
        let (chat, id) = (key.remote_jid.as_deref()?.parse::<Jid>().ok()?, key.id.as_deref()?);
        let participant = key.participant.as_deref().and_then(|jid| jid.parse::<Jid>().ok());
        let from_me = key.from_me.unwrap_or(false);
        let (shown_in, named) = match self.account_of(&chat) {
            Some(other) => {
                let other = &self.accounts[other];
                (other.number.clone(), other.jid(0, Addressing::Pn))
            }
            None => (chat.user.to_string(), chat),
        };
        let sender = participant.as_ref().and_then(|jid| self.account_of(jid));
        let sender = sender.map(|sender| self.accounts[sender].number.as_str());
        let shown = self.accounts[account].primary.shown.iter().find(|shown| {
            shown.id == id
                && shown.chat == shown_in
                && shown.from_me == from_me
                && sender.is_none_or(|sender| sender == shown.from)
        });
        let key = MessageKey {
            remote_jid: Some(named.to_string()),
            from_me: Some(from_me),
            id: Some(id.to_owned()),
            participant: participant.map(|jid| jid.to_string()),
        };
        Some(WebMessageInfo {
            key: MessageField::some(key),
            message: shown.map(|shown| shown.message.clone()).into(),
            message_timestamp: shown.map(|shown| shown.at),
            ..Default::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use wacore::proto_helpers::MessageExt;
    use wacore_libsignal::protocol::PreKeySignalMessage;
    use waproto::whatsapp::message::peer_data_operation_request_message::PlaceholderMessageResendRequest;
    use waproto::whatsapp::message::{AppStateSyncKeyId, AppStateSyncKeyRequest};

    use super::super::linked::{COMPANION, Linked};
    use super::super::primary::{SendAs, text_message};
    use super::super::stanza::{Stanza, leaf};
    use super::*;
    use crate::phone::Kind;

    impl Linked {
        /// The companion decrypts a peer message of its phone.
        fn reads(&mut self, stanza: &Node) -> Message {
            assert_eq!(stanza.attr("category").as_deref(), Some("peer"), "{stanza:?}");
            let enc = stanza.child("enc").expect("a ciphertext");
            let kind = Kind::parse(&enc.attr("type").unwrap()).unwrap();
            let phone = self.world.accounts[0].number.clone();
            self.companion.decrypt(&phone, 0, kind, enc.bytes().unwrap()).unwrap()
        }

        /// The companion tells its phone something; gives what it is told in return.
        fn tells(&mut self, request: ProtocolMessage) -> Vec<Message> {
            let message = Message { protocol_message: MessageField::some(request), ..Default::default() };
            let owner = &mut self.world.accounts[0];
            let (phone, to) = (owner.number.clone(), owner.jid(0, Addressing::Lid));
            let bundle = (!self.companion.has_session(&phone, 0)).then(|| owner.primary.phone.key_bundle());
            let (kind, bytes) = self.companion.encrypt(&phone, 0, bundle.as_ref(), &message).unwrap();
            let enc = leaf("enc", bytes).with("v", "2").with("type", kind.as_str());
            let id = self.world.fresh_message_id();
            let stanza =
                node("message").attr("to", to).attr("id", id).attr("category", "peer").children([enc]);
            self.world.on_message(COMPANION, stanza.build());
            self.world.settle();
            let told: Vec<Node> = self.written().into_iter().filter(|it| it.tag == "message").collect();
            told.iter().map(|stanza| self.reads(stanza)).collect()
        }

        fn asks_for_key(&mut self, id: &[u8]) -> Vec<Message> {
            let asked =
                AppStateSyncKeyRequest { key_ids: vec![AppStateSyncKeyId { key_id: Some(id.to_vec()) }] };
            self.tells(ProtocolMessage {
                r#type: Some(Type::AppStateSyncKeyRequest),
                app_state_sync_key_request: MessageField::some(asked),
                ..Default::default()
            })
        }

        fn asks_for_message(&mut self, key: MessageKey) -> WebMessageInfo {
            let asked = PeerDataOperationRequestMessage {
                peer_data_operation_request_type: Some(
                    PeerDataOperationRequestType::PlaceholderMessageResend,
                ),
                placeholder_message_resend_request: vec![PlaceholderMessageResendRequest {
                    message_key: MessageField::some(key),
                }],
                ..Default::default()
            };
            let told = self.tells(ProtocolMessage {
                r#type: Some(Type::PeerDataOperationRequestMessage),
                peer_data_operation_request_message: MessageField::some(asked),
                ..Default::default()
            });
            let [answer] = &told[..] else { panic!("one answer, not {}", told.len()) };
            let protocol = answer.protocol_message.as_option().unwrap();
            let response = protocol.peer_data_operation_request_response_message.as_option().unwrap();
            let result =
                response.peer_data_operation_result[0].placeholder_message_resend_response.as_option();
            let bytes = result.unwrap().web_message_info_bytes.as_ref().unwrap();
            waproto::codec::web_message_info_decode(bytes).unwrap()
        }
    }

    fn key_id(message: &Message) -> Vec<u8> {
        let share = message.protocol_message.as_option().unwrap().app_state_sync_key_share.as_option();
        share.unwrap().keys[0].key_id.as_option().unwrap().key_id.clone().unwrap()
    }

    #[test]
    fn the_app_state_key_comes_once_after_the_first_upload_with_a_one_time_key_of_it() {
        let mut linked = Linked::new();
        let digest = || vec![node("digest").build()];
        let before = linked.asks("get", digest());
        assert_eq!(before[0].child("error").unwrap().attr("code").as_deref(), Some("404"));

        let (uploaded, written) = linked.uploads();
        let [answer, share] = &written[..] else { panic!("{written:?}") };
        assert_eq!(answer.attr("type").as_deref(), Some("result"));
        let ciphertext = share.child("enc").unwrap().bytes().unwrap();
        let first = PreKeySignalMessage::try_from(ciphertext).unwrap();
        assert_eq!(first.pre_key_id().map(u32::from), Some(uploaded));
        let known = linked.world.accounts[0].primary.phone.app_state_key().0.to_vec();
        let share = linked.reads(share);
        assert_eq!(key_id(&share), known);

        assert!(linked.asks("get", digest())[0].child("digest").is_some());
        assert_eq!(linked.uploads().1.len(), 1, "the key came again");
    }

    #[test]
    fn a_phone_that_is_offline_shares_the_key_when_it_comes_back() {
        let mut linked = Linked::new();
        linked.world.set_online(0, false);
        assert_eq!(linked.uploads().1.len(), 1);
        linked.world.set_online(0, true);
        let written = linked.written();
        assert_eq!(written.len(), 1);
        linked.reads(&written[0]);
    }

    #[test]
    fn a_companion_that_lost_the_app_state_key_gets_it_again_and_no_other_one() {
        let mut linked = Linked::new();
        let share = linked.uploads().1.remove(1);
        let key = key_id(&linked.reads(&share));
        let again = linked.asks_for_key(&key);
        assert_eq!(again.iter().map(key_id).collect::<Vec<_>>(), [key]);
        assert!(linked.asks_for_key(b"other!").is_empty());
    }

    #[test]
    fn a_phone_gives_its_companion_the_messages_that_it_could_read() {
        let mut linked = Linked::new();
        linked.uploads();
        let budi = linked.world.account_named("Budi");
        let ani = linked.world.accounts[0].number.clone();
        let id = linked.world.phone_sends(budi, &ani, text_message("halo"), SendAs::default()).unwrap();
        linked.world.settle();
        linked.written();
        let (lid, number) = (Addressing::Lid, Addressing::Pn);
        let asked = |linked: &Linked, id: &str| MessageKey {
            remote_jid: Some(linked.world.accounts[budi].jid(0, lid).to_string()),
            from_me: Some(false),
            id: Some(id.to_owned()),
            participant: None,
        };
        let key = asked(&linked, &id);
        let found = linked.asks_for_message(key);
        assert_eq!(found.message.as_option().and_then(|message| message.text_content()), Some("halo"));
        let named = linked.world.accounts[budi].jid(0, number).to_string();
        assert_eq!(found.key.as_option().unwrap().remote_jid, Some(named));

        let key = asked(&linked, "3EB0");
        assert!(linked.asks_for_message(key).message.as_option().is_none());
    }
}
