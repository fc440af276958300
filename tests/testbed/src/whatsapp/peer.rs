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
    fn phone_tells(&mut self, to: DeviceAddress, message: &Message) {
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
                asked.key_ids.iter().any(|key| key.key_id.as_deref() == Some(phone.app_state_key_id()));
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
