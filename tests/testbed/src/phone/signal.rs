//! The phone as a party of the Signal protocol: key bundles, sessions, messages (Signal v3, no
//! post-quantum ratchet), and sender keys, by which one ciphertext serves a whole group.

use futures_lite::future::block_on;
use rand::rngs::StdRng;
use rand::{CryptoRng, RngExt};
use wacore_libsignal::protocol::{
    CiphertextMessage, CurveError, GenericSignedPreKey, IdentityKeyPair, KeyPair, PreKeyBundle,
    PreKeySignalMessage, ProtocolAddress, PublicKey, SenderKeyDistributionMessage, SenderKeyName,
    SignalMessage, SignalProtocolError, SignedPreKeyId, SignedPreKeyRecord, Timestamp, UsePQRatchet,
    create_sender_key_distribution_message, group_decrypt, group_encrypt, message_decrypt, message_encrypt,
    process_prekey_bundle, process_sender_key_distribution_message,
};

use super::stores::{Identities, OneTimeKeys, SenderKeys, Sessions, SignedKey};

/// Handed-out one-time prekeys that nobody used; above that many the oldest is forgotten, as a
/// phone's own pool is bounded too (812 per upload).
const MAX_UNUSED_ONE_TIME_KEYS: usize = 812;

/// Prekey ids travel as three bytes.
const MAX_PREKEY_ID: u32 = 0x00ff_ffff;

/// Signal registration ids have 14 bits.
const MAX_REGISTRATION_ID: u32 = 0x3fff;

/// The only signed prekey's id.
const SIGNED_PREKEY_ID: u32 = 1;

/// The two types of an `<enc>` between two devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The first messages of a session; carries what the peer needs to set it up.
    Pkmsg,
    /// A message in a session that the peer has confirmed.
    Msg,
}

impl Kind {
    /// The `type` attribute of `<enc>`.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Pkmsg => "pkmsg",
            Kind::Msg => "msg",
        }
    }

    /// The kind that an `<enc>`'s `type` attribute names; `None` for `skmsg` and the unknown.
    pub fn parse(text: &str) -> Option<Kind> {
        [Kind::Pkmsg, Kind::Msg].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// A signed prekey's public side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedPreKey {
    /// At most 24 bits.
    pub id: u32,
    pub public: [u8; 32],
    /// XEdDSA by the identity over `05 ‖ public`.
    pub signature: [u8; 64],
}

/// What a key fetch answers about one device; also what a companion uploads about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyBundle {
    pub registration_id: u32,
    pub identity: [u8; 32],
    pub signed: SignedPreKey,
    /// Id (at most 24 bits) and public key; `None` when the pool ran dry.
    pub one_time: Option<(u32, [u8; 32])>,
}

impl KeyBundle {
    fn for_device(&self, device: u32) -> Result<PreKeyBundle, SignalProtocolError> {
        let key = |bytes: &[u8; 32]| -> Result<PublicKey, CurveError> {
            PublicKey::from_djb_public_key_bytes(bytes)
        };
        let one_time = match &self.one_time {
            Some((id, public)) => Some(((*id).into(), key(public)?)),
            None => None,
        };
        PreKeyBundle::new(
            self.registration_id,
            device.into(),
            one_time,
            self.signed.id.into(),
            key(&self.signed.public)?,
            self.signed.signature.to_vec(),
            key(&self.identity)?.into(),
        )
    }
}

/// Why a message could not be encrypted or decrypted.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    #[error("no Signal session with that user's device {device}: encrypt with its key bundle first")]
    NoSession { device: u32 },
    #[error(
        "could not start a Signal session with that user's device {device}: \
         check the keys and the signature in its bundle"
    )]
    Bundle { device: u32, source: SignalProtocolError },
    #[error("could not encrypt for that user's device {device}: forget the session and start a new one")]
    Encrypt { device: u32, source: SignalProtocolError },
    #[error("already decrypted this message from that user's device {device}: drop it")]
    Duplicate { device: u32 },
    #[error("could not decrypt a message from that user's device {device}: ask it for a retry")]
    Decrypt { device: u32, source: SignalProtocolError },
    #[error("no sender key of that user's device {device} for the group: ask it for a retry")]
    NoSenderKey { device: u32 },
    #[error("could not use the phone's own sender key of a group: renew it")]
    OwnSenderKey { source: SignalProtocolError },
}

/// Whose sender key is the phone's own one: no number reads like this.
const OWN: &str = "own";

/// Under which name a device's sender key for a group is kept.
fn sender_key_name(group: &str, from: &str, device: u32) -> SenderKeyName {
    SenderKeyName::from_parts(group, &format!("{from}.{device}"))
}

/// Keys and sessions of one device.
pub(super) struct SignalParty {
    identities: Identities,
    sessions: Sessions,
    sender_keys: SenderKeys,
    one_time_keys: OneTimeKeys,
    signed_key: SignedKey,
    next_one_time_id: u32,
}

impl SignalParty {
    pub fn new(rng: &mut impl CryptoRng) -> Self {
        let own = IdentityKeyPair::generate(rng);
        let signed = KeyPair::generate(rng);
        let signature = own
            .private_key()
            .calculate_signature(&signed.public_key.serialize(), rng)
            .expect("an own Curve25519 key always signs");
        // The record's time only serves rotation, which does not happen here.
        let record = SignedPreKeyRecord::new(
            SignedPreKeyId::from(SIGNED_PREKEY_ID),
            Timestamp::from_epoch_millis(0),
            &signed,
            &signature,
        );
        SignalParty {
            identities: Identities {
                own,
                registration_id: rng.random_range(1..=MAX_REGISTRATION_ID),
                seen: Default::default(),
            },
            sessions: Sessions::default(),
            sender_keys: SenderKeys::default(),
            one_time_keys: OneTimeKeys::default(),
            signed_key: SignedKey(record),
            next_one_time_id: 1,
        }
    }

    pub fn identity(&self) -> &IdentityKeyPair {
        &self.identities.own
    }

    pub fn registration_id(&self) -> u32 {
        self.identities.registration_id
    }

    /// A bundle with a one-time prekey made for this fetch.
    pub fn key_bundle(&mut self, rng: &mut StdRng) -> KeyBundle {
        let id = self.next_one_time_id;
        self.next_one_time_id = if id == MAX_PREKEY_ID { 1 } else { id + 1 };
        let one_time = KeyPair::generate(rng);
        let public = key_bytes(&one_time.public_key);
        self.one_time_keys.0.insert(id, one_time);
        while self.one_time_keys.0.len() > MAX_UNUSED_ONE_TIME_KEYS {
            self.one_time_keys.0.pop_first();
        }

        let signed = &self.signed_key.0;
        let complete = "the record was made complete in new()";
        KeyBundle {
            registration_id: self.registration_id(),
            identity: key_bytes(self.identities.own.public_key()),
            signed: SignedPreKey {
                id: signed.id().expect(complete).into(),
                public: key_bytes(&signed.public_key().expect(complete)),
                signature: signed.signature().expect(complete).try_into().expect(complete),
            },
            one_time: Some((id, public)),
        }
    }

    /// Encrypts `plaintext` as it is. With a bundle a new session is started first; the one
    /// before it is kept for messages still under way.
    pub fn encrypt(
        &mut self,
        to: &str,
        device: u32,
        bundle: Option<&KeyBundle>,
        plaintext: &[u8],
        rng: &mut StdRng,
    ) -> Result<(Kind, Vec<u8>), SignalError> {
        let address = ProtocolAddress::new(to, device.into());
        if let Some(bundle) = bundle {
            bundle
                .for_device(device)
                .and_then(|bundle| {
                    block_on(process_prekey_bundle(
                        &address,
                        &mut self.sessions,
                        &mut self.identities,
                        &bundle,
                        rng,
                        UsePQRatchet::No,
                    ))
                })
                .map_err(|source| SignalError::Bundle { device, source })?;
        }
        match block_on(message_encrypt(plaintext, &address, &mut self.sessions, &mut self.identities)) {
            Ok(CiphertextMessage::PreKeySignalMessage(message)) => {
                Ok((Kind::Pkmsg, message.into_serialized().into()))
            }
            Ok(message) => Ok((Kind::Msg, message.serialize().to_vec())),
            Err(SignalProtocolError::SessionNotFound(_)) => Err(SignalError::NoSession { device }),
            Err(source) => Err(SignalError::Encrypt { device, source }),
        }
    }

    /// Decrypts to the padded plaintext. A failure leaves keys and sessions as they were.
    pub fn decrypt(
        &mut self,
        from: &str,
        device: u32,
        kind: Kind,
        ciphertext: &[u8],
        rng: &mut StdRng,
    ) -> Result<Vec<u8>, SignalError> {
        let address = ProtocolAddress::new(from, device.into());
        let decrypted = match kind {
            Kind::Pkmsg => {
                PreKeySignalMessage::try_from(ciphertext).map(CiphertextMessage::PreKeySignalMessage)
            }
            Kind::Msg => SignalMessage::try_from(ciphertext).map(CiphertextMessage::SignalMessage),
        }
        .and_then(|message| {
            block_on(message_decrypt(
                &message,
                &address,
                &mut self.sessions,
                &mut self.identities,
                &mut self.one_time_keys,
                &self.signed_key,
                rng,
                UsePQRatchet::No,
            ))
        })
        .map_err(|source| match source {
            SignalProtocolError::SessionNotFound(_) => SignalError::NoSession { device },
            SignalProtocolError::DuplicatedMessage(..) => SignalError::Duplicate { device },
            source => SignalError::Decrypt { device, source },
        })?;
        // The library leaves this to the caller, who knows when the session is stored; here it is.
        if let Some(id) = decrypted.consumed_prekey_id {
            self.one_time_keys.0.remove(&id.into());
        }
        Ok(decrypted.plaintext)
    }

    /// What a device needs to read the messages that [`encrypt_for_group`](Self::encrypt_for_group) makes from
    /// now on.
    pub fn sender_key(&mut self, group: &str, rng: &mut StdRng) -> Result<Vec<u8>, SignalError> {
        let name = SenderKeyName::from_parts(group, OWN);
        let made = block_on(create_sender_key_distribution_message(&name, &mut self.sender_keys, rng));
        made.map(|key| key.into_serialized().into()).map_err(|source| SignalError::OwnSenderKey { source })
    }

    /// The next [`sender_key`](Self::sender_key) is a new one.
    pub fn renew_sender_key(&mut self, group: &str) {
        self.sender_keys.0.remove(&SenderKeyName::from_parts(group, OWN));
    }

    /// Encrypts `plaintext` as it is for everybody who has the sender key.
    pub fn encrypt_for_group(
        &mut self,
        group: &str,
        plaintext: &[u8],
        rng: &mut StdRng,
    ) -> Result<Vec<u8>, SignalError> {
        let name = SenderKeyName::from_parts(group, OWN);
        let made = block_on(group_encrypt(&mut self.sender_keys, &name, plaintext, rng));
        made.map(|message| message.into_serialized().into())
            .map_err(|source| SignalError::OwnSenderKey { source })
    }

    /// Takes the sender key of a device.
    pub fn accept_sender_key(
        &mut self,
        group: &str,
        from: &str,
        device: u32,
        key: &[u8],
    ) -> Result<(), SignalError> {
        let name = sender_key_name(group, from, device);
        SenderKeyDistributionMessage::try_from(key)
            .and_then(|key| {
                block_on(process_sender_key_distribution_message(&name, &key, &mut self.sender_keys))
            })
            .map_err(|source| SignalError::Decrypt { device, source })
    }

    /// Decrypts what a device wrote to a group, to the padded plaintext.
    pub fn decrypt_from_group(
        &mut self,
        group: &str,
        from: &str,
        device: u32,
        ciphertext: &[u8],
    ) -> Result<Vec<u8>, SignalError> {
        let name = sender_key_name(group, from, device);
        block_on(group_decrypt(ciphertext, &mut self.sender_keys, &name)).map_err(|source| match source {
            SignalProtocolError::NoSenderKeyState(_) => SignalError::NoSenderKey { device },
            SignalProtocolError::DuplicatedMessage(..) => SignalError::Duplicate { device },
            source => SignalError::Decrypt { device, source },
        })
    }

    pub fn has_session(&self, with: &str, device: u32) -> bool {
        self.sessions.0.contains_key(&ProtocolAddress::new(with, device.into()))
    }

    pub fn forget_session(&mut self, with: &str, device: u32) {
        self.sessions.0.remove(&ProtocolAddress::new(with, device.into()));
    }
}

/// A Curve25519 public key as WhatsApp's stanzas carry it: 32 bytes without the type byte.
pub(super) fn key_bytes(key: &PublicKey) -> [u8; 32] {
    key.public_key_bytes().try_into().expect("a Curve25519 public key has 32 bytes")
}
