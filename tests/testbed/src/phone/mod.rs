//! An account's primary phone (device 0), a real party of the Signal protocol: it hands out key
//! bundles, adopts companions, encrypts and decrypts.
//!
//! No sockets, no threads, no clock. Randomness comes from a generator seeded once in
//! [`Phone::new`], so a seed replays a run; times are Unix seconds given by the caller.
//!
//! Peers are named by the caller. A user has two addresses (phone number and LID) but one identity
//! and one set of keys, so the caller must always give the same one of them.

mod adv;
pub mod handoff;
mod link_code;
mod padding;
pub mod passkey;
mod signal;
mod stores;
#[cfg(test)]
mod tests;

use buffa::MessageField;
use rand::rngs::StdRng;
use rand::{CryptoRng, Rng, SeedableRng};
use waproto::codec;
use waproto::whatsapp::Message;
use waproto::whatsapp::message::protocol_message::Type;
use waproto::whatsapp::message::{
    AppStateSyncKey, AppStateSyncKeyData, AppStateSyncKeyFingerprint, AppStateSyncKeyId,
    AppStateSyncKeyShare, ProtocolMessage, SenderKeyDistributionMessage,
};

pub use adv::{Adopted, AdvError};
pub use link_code::{
    LinkCodeError, PendingLink, PrimaryHello, WRAPPED_BUNDLE_LENGTH, WRAPPED_EPHEMERAL_LENGTH,
};
pub use padding::{MAX_PADDING, PaddingError, pad, unpad};
pub use signal::{KeyBundle, Kind, SignalError, SignedPreKey};

/// Why a stanza's ciphertext did not give a message.
#[derive(Debug, thiserror::Error)]
pub enum DecryptError {
    #[error(transparent)]
    Signal(#[from] SignalError),
    #[error(transparent)]
    Padding(#[from] PaddingError),
    #[error("decrypted a plaintext that is no WhatsApp message: the sender encoded it wrongly")]
    NotAMessage(#[source] buffa::DecodeError),
}

/// The primary phone of one account.
pub struct Phone {
    rng: StdRng,
    signal: signal::SignalParty,
    account: adv::Account,
    app_state_key: ([u8; 6], [u8; 32]),
}

impl Phone {
    /// A phone with fresh keys, all from `rng`; it draws from it only here.
    pub fn new(rng: &mut impl CryptoRng) -> Self {
        let mut rng = StdRng::from_rng(rng);
        let signal = signal::SignalParty::new(&mut rng);
        let account = adv::Account::new(&mut rng);
        let mut app_state_key = ([0; 6], [0; 32]);
        rng.fill_bytes(&mut app_state_key.0);
        rng.fill_bytes(&mut app_state_key.1);
        Phone { rng, signal, account, app_state_key }
    }

    /// Public half of the identity key, which is the account's ADV key too.
    pub fn identity_public(&self) -> [u8; 32] {
        signal::key_bytes(self.signal.identity().public_key())
    }

    /// Signal registration id, 1 to 16383.
    pub fn registration_id(&self) -> u32 {
        self.signal.registration_id()
    }

    /// A bundle for one key fetch, with a one-time prekey that no other fetch gets.
    pub fn key_bundle(&mut self) -> KeyBundle {
        self.signal.key_bundle(&mut self.rng)
    }

    /// Vouches for a companion: gives it the next key index and signs its identity. `adv_secret`
    /// is the secret of the QR code or what [`Phone::finish_link_code`] gave.
    pub fn adopt_companion(&mut self, companion_identity: &[u8; 32], adv_secret: &[u8], now: u64) -> Adopted {
        self.account.adopt(self.signal.identity(), companion_identity, adv_secret, now, &mut self.rng)
    }

    /// Lets the account be one that a business's server hosts ("coexistence"): it vouches for companions as
    /// such an account does, each still end-to-end encrypted.
    pub fn host_account(&mut self) {
        self.account.host();
    }

    /// The phone's part of linking behind a passkey, for a companion that told `prologue`.
    pub fn show_ephemeral(&mut self, prologue: handoff::Prologue) -> handoff::Shown {
        handoff::Shown::new(prologue, &mut self.rng)
    }

    /// Verifies the `ADVSignedDeviceIdentity` that a companion sends back (`<pair-device-sign>`)
    /// and gives the complete blob for its key bundles, with the account's key that some clients
    /// strip.
    ///
    /// # Errors
    /// [`AdvError`] when the blob is not the one this phone signed or the companion's own
    /// signature does not verify.
    pub fn complete_device_identity(&self, from_companion: &[u8]) -> Result<Vec<u8>, AdvError> {
        self.account.complete(self.signal.identity(), from_companion)
    }

    /// Stops vouching for a companion; its key index is not given again.
    pub fn remove_companion(&mut self, key_index: u32) {
        self.account.remove(key_index);
    }

    /// `ADVSignedKeyIndexList`: which companions count at `now`.
    pub fn key_index_list(&mut self, now: u64) -> Vec<u8> {
        self.account.key_index_list(self.signal.identity(), now, &mut self.rng)
    }

    /// The user typed `code` (case and dash do not matter): unwraps the companion's ephemeral key
    /// of stage `companion_hello` and answers it. Derives two keys from the code, about a
    /// tenth of a second of computing each.
    ///
    /// # Errors
    /// [`LinkCodeError::Malformed`] or [`LinkCodeError::Length`]. A wrong code is not noticed
    /// before [`Phone::finish_link_code`].
    pub fn start_link_code(
        &mut self,
        code: &str,
        wrapped_companion_ephemeral: &[u8],
    ) -> Result<(PendingLink, PrimaryHello), LinkCodeError> {
        link_code::start(self.signal.identity(), code, wrapped_companion_ephemeral, &mut self.rng)
    }

    /// Opens the key bundle of stage `companion_finish` and gives the ADV secret to adopt the
    /// companion with.
    ///
    /// # Errors
    /// [`LinkCodeError::WrongCode`] when the typed code was not the companion's; otherwise a bundle
    /// of the wrong size or for another pairing.
    pub fn finish_link_code(
        &self,
        pending: PendingLink,
        wrapped_key_bundle: &[u8],
        companion_identity: &[u8],
    ) -> Result<[u8; 32], LinkCodeError> {
        link_code::finish(self.signal.identity(), pending, wrapped_key_bundle, companion_identity)
    }

    /// The peer message that gives a new companion the account's app-state key, always the same
    /// one; the companion waits for it after pairing.
    pub fn app_state_key_share(&self, now: u64) -> Message {
        let (id, data) = &self.app_state_key;
        let fingerprint = AppStateSyncKeyFingerprint {
            raw_id: Some(self.account.raw_id()),
            current_index: Some(self.account.last_key_index()),
            device_indexes: std::iter::once(0).chain(self.account.key_indexes()).collect(),
        };
        let key = AppStateSyncKey {
            key_id: MessageField::some(AppStateSyncKeyId { key_id: Some(id.to_vec()) }),
            key_data: MessageField::some(AppStateSyncKeyData {
                key_data: Some(data.to_vec()),
                fingerprint: MessageField::some(fingerprint),
                timestamp: Some(now.try_into().unwrap_or(i64::MAX)),
            }),
        };
        Message {
            protocol_message: MessageField::some(ProtocolMessage {
                r#type: Some(Type::APP_STATE_SYNC_KEY_SHARE),
                app_state_sync_key_share: MessageField::some(AppStateSyncKeyShare { keys: vec![key] }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    /// Id and data of the account's app-state key.
    pub fn app_state_key(&self) -> ([u8; 6], [u8; 32]) {
        self.app_state_key
    }

    /// Encodes, pads and encrypts `message` for one device. `bundle` starts a new session, even if
    /// there is one (as after a retry receipt); without it there must be a session.
    ///
    /// # Errors
    /// [`SignalError::NoSession`] without session and bundle; [`SignalError::Bundle`] when the
    /// bundle's signature or keys are wrong.
    pub fn encrypt(
        &mut self,
        to: &str,
        device: u32,
        bundle: Option<&KeyBundle>,
        message: &Message,
    ) -> Result<(Kind, Vec<u8>), SignalError> {
        let plaintext = pad(codec::message_to_vec(message), &mut self.rng);
        self.encrypt_bytes(to, device, bundle, &plaintext)
    }

    /// Encrypts `plaintext` as it is, unpadded: for tests that send what no client would.
    ///
    /// # Errors
    /// As [`Phone::encrypt`].
    pub fn encrypt_bytes(
        &mut self,
        to: &str,
        device: u32,
        bundle: Option<&KeyBundle>,
        plaintext: &[u8],
    ) -> Result<(Kind, Vec<u8>), SignalError> {
        self.signal.encrypt(to, device, bundle, plaintext, &mut self.rng)
    }

    /// Decrypts what one device sent. An error leaves the session as it was.
    ///
    /// # Errors
    /// [`SignalError::Duplicate`] for a message decrypted before, [`SignalError::NoSession`] and
    /// [`SignalError::Decrypt`] when only a retry can help, else a plaintext that no client sends.
    pub fn decrypt(
        &mut self,
        from: &str,
        device: u32,
        kind: Kind,
        ciphertext: &[u8],
    ) -> Result<Message, DecryptError> {
        let padded = self.decrypt_bytes(from, device, kind, ciphertext)?;
        codec::message_decode(unpad(&padded)?).map_err(DecryptError::NotAMessage)
    }

    /// Decrypts to the plaintext as it was encrypted, padding included.
    ///
    /// # Errors
    /// As [`Phone::decrypt`], but only the Signal protocol's.
    pub fn decrypt_bytes(
        &mut self,
        from: &str,
        device: u32,
        kind: Kind,
        ciphertext: &[u8],
    ) -> Result<Vec<u8>, SignalError> {
        self.signal.decrypt(from, device, kind, ciphertext, &mut self.rng)
    }

    /// The message that gives a device the phone's sender key for a group (its JID): with it, it reads what
    /// [`Phone::encrypt_for_group`] makes from now on.
    ///
    /// # Errors
    /// [`SignalError::OwnSenderKey`] when the stored key is spoilt.
    pub fn sender_key(&mut self, group: &str) -> Result<Message, SignalError> {
        let key = self.signal.sender_key(group, &mut self.rng)?;
        Ok(Message {
            sender_key_distribution_message: MessageField::some(SenderKeyDistributionMessage {
                group_id: Some(group.to_owned()),
                axolotl_sender_key_distribution_message: Some(key),
            }),
            ..Default::default()
        })
    }

    /// Whoever has the phone's sender key for a group cannot read what it writes there from now on, as when
    /// somebody left.
    pub fn renew_sender_key(&mut self, group: &str) {
        self.signal.renew_sender_key(group);
    }

    /// Encodes, pads and encrypts `message` once for everybody in a group.
    ///
    /// # Errors
    /// [`SignalError::OwnSenderKey`] when [`Phone::sender_key`] was never asked for.
    pub fn encrypt_for_group(&mut self, group: &str, message: &Message) -> Result<Vec<u8>, SignalError> {
        let plaintext = pad(codec::message_to_vec(message), &mut self.rng);
        self.signal.encrypt_for_group(group, &plaintext, &mut self.rng)
    }

    /// Takes a device's sender key; what is not complete or names no group is no key.
    ///
    /// # Errors
    /// [`SignalError::Decrypt`] when the key cannot be read.
    pub fn accept_sender_key(
        &mut self,
        from: &str,
        device: u32,
        key: &SenderKeyDistributionMessage,
    ) -> Result<(), SignalError> {
        match (&key.group_id, &key.axolotl_sender_key_distribution_message) {
            (Some(group), Some(key)) => self.signal.accept_sender_key(group, from, device, key),
            _ => Ok(()),
        }
    }

    /// Decrypts what one device wrote to a group.
    ///
    /// # Errors
    /// As [`Phone::decrypt`]; [`SignalError::NoSenderKey`] without that device's key.
    pub fn decrypt_from_group(
        &mut self,
        group: &str,
        from: &str,
        device: u32,
        ciphertext: &[u8],
    ) -> Result<Message, DecryptError> {
        let padded = self.signal.decrypt_from_group(group, from, device, ciphertext)?;
        codec::message_decode(unpad(&padded)?).map_err(DecryptError::NotAMessage)
    }

    /// Whether [`Phone::encrypt`] works for that device without a bundle.
    pub fn has_session(&self, with: &str, device: u32) -> bool {
        self.signal.has_session(with, device)
    }

    /// Drops the session with that device, as a reinstalled phone would have.
    pub fn forget_session(&mut self, with: &str, device: u32) {
        self.signal.forget_session(with, device);
    }
}
