//! ADV, how an account vouches for its companions: the phone signs each companion's identity and
//! the list of companions that still count.

use std::collections::BTreeMap;

use buffa::Message as _;
use hmac::{Hmac, KeyInit, Mac};
use rand::{CryptoRng, RngExt};
use sha2::Sha256;
use wacore_libsignal::protocol::{IdentityKeyPair, PublicKey};
use waproto::codec;
use waproto::whatsapp::{
    ADVDeviceIdentity, ADVEncryptionType, ADVKeyIndexList, ADVSignedDeviceIdentity,
    ADVSignedDeviceIdentityHMAC, ADVSignedKeyIndexList,
};

use super::signal::key_bytes;

/// Domain separators of the three ADV signatures. The third is believed, not confirmed: none of
/// the clients verifies the key index list's signature.
const ACCOUNT_SIGNATURE: &[u8] = &[6, 0];
const DEVICE_SIGNATURE: &[u8] = &[6, 1];
const KEY_INDEX_SIGNATURE: &[u8] = &[6, 2];

/// In front of what the ADV secret authenticates, for a hosted account.
const HOSTED_SECRET: &[u8] = &[6, 5];

/// Largest account id: it is stored as a signed 32-bit number by some clients.
const MAX_RAW_ID: u32 = i32::MAX as u32;

/// A companion that the phone has just adopted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    /// The companion's key index, 1 or more, never given twice by one phone.
    pub key_index: u32,
    /// `ADVSignedDeviceIdentityHMAC`, the content of `<device-identity>` in `<pair-success>`.
    pub pair_success: Vec<u8>,
}

/// Why a companion's half of its device identity was refused.
#[derive(Debug, thiserror::Error)]
pub enum AdvError {
    #[error("could not read {part} in the companion's device identity: it must send back what it was given")]
    Malformed { part: &'static str, source: buffa::DecodeError },
    #[error("the companion's device identity lacks {0}: it must send it along")]
    Missing(&'static str),
    #[error("no companion has key index {0}: it was never adopted or is removed; pair it again")]
    UnknownKeyIndex(u32),
    #[error("the account's signature on companion {0}'s device identity is not this phone's: pair it again")]
    AccountSignature(u32),
    #[error("companion {0} did not sign its device identity with its own identity key")]
    DeviceSignature(u32),
}

/// The account's side of ADV.
pub(super) struct Account {
    raw_id: u32,
    last_key_index: u32,
    /// A business's server hosts the account beside the phone.
    hosted: bool,
    /// Identity keys of the companions that count, by key index.
    companions: BTreeMap<u32, [u8; 32]>,
}

impl Account {
    pub fn new(rng: &mut impl CryptoRng) -> Self {
        Account {
            raw_id: rng.random_range(1..=MAX_RAW_ID),
            last_key_index: 0,
            hosted: false,
            companions: BTreeMap::new(),
        }
    }

    pub fn host(&mut self) {
        self.hosted = true;
    }

    /// Constant for the account's life; a change would mean that the account was reset.
    pub fn raw_id(&self) -> u32 {
        self.raw_id
    }

    pub fn last_key_index(&self) -> u32 {
        self.last_key_index
    }

    /// Key indexes of the companions that count, ascending.
    pub fn key_indexes(&self) -> impl Iterator<Item = u32> {
        self.companions.keys().copied()
    }

    pub fn adopt(
        &mut self,
        own: &IdentityKeyPair,
        companion_identity: &[u8; 32],
        adv_secret: &[u8],
        now: u64,
        rng: &mut impl CryptoRng,
    ) -> Adopted {
        self.last_key_index += 1;
        let key_index = self.last_key_index;
        self.companions.insert(key_index, *companion_identity);

        // The companion itself is end-to-end encrypted, and its signature's prefix goes by that; the secret's
        // goes by the account.
        let account_type = if self.hosted { ADVEncryptionType::HOSTED } else { ADVEncryptionType::E2EE };
        let details = ADVDeviceIdentity {
            raw_id: Some(self.raw_id),
            timestamp: Some(now),
            key_index: Some(key_index),
            account_type: Some(account_type),
            device_type: Some(ADVEncryptionType::E2EE),
        }
        .encode_to_vec();
        let account_signature = sign(own, &[ACCOUNT_SIGNATURE, &details, companion_identity], rng);
        let signed = codec::adv_signed_device_identity_to_vec(&ADVSignedDeviceIdentity {
            details: Some(details),
            account_signature_key: Some(key_bytes(own.public_key()).to_vec()),
            account_signature: Some(account_signature),
            device_signature: None,
        });
        let mut mac = Hmac::<Sha256>::new_from_slice(adv_secret).expect("HMAC takes keys of any length");
        if self.hosted {
            mac.update(HOSTED_SECRET);
        }
        mac.update(&signed);
        let hmac = mac.finalize().into_bytes().to_vec();
        let pair_success = ADVSignedDeviceIdentityHMAC {
            details: Some(signed),
            hmac: Some(hmac),
            account_type: self.hosted.then_some(account_type),
        }
        .encode_to_vec();
        Adopted { key_index, pair_success }
    }

    pub fn complete(&self, own: &IdentityKeyPair, from_companion: &[u8]) -> Result<Vec<u8>, AdvError> {
        let mut signed = codec::adv_signed_device_identity_decode(from_companion)
            .map_err(|source| AdvError::Malformed { part: "ADVSignedDeviceIdentity", source })?;
        let details = signed.details.as_deref().ok_or(AdvError::Missing("its details"))?;
        let key_index = codec::adv_device_identity_decode(details)
            .map_err(|source| AdvError::Malformed { part: "ADVDeviceIdentity", source })?
            .key_index
            .ok_or(AdvError::Missing("the key index"))?;
        let companion = self.companions.get(&key_index).ok_or(AdvError::UnknownKeyIndex(key_index))?;
        let account_key = key_bytes(own.public_key());

        let account_signature =
            signed.account_signature.as_deref().ok_or(AdvError::Missing("the account's signature"))?;
        let message = [ACCOUNT_SIGNATURE, details, companion];
        if !own.public_key().verify_signature_for_multipart_message(&message, account_signature) {
            return Err(AdvError::AccountSignature(key_index));
        }
        let device_signature =
            signed.device_signature.as_deref().ok_or(AdvError::Missing("the device's signature"))?;
        let message = [DEVICE_SIGNATURE, details, companion, &account_key];
        let verified = PublicKey::from_djb_public_key_bytes(companion)
            .is_ok_and(|key| key.verify_signature_for_multipart_message(&message, device_signature));
        if !verified {
            return Err(AdvError::DeviceSignature(key_index));
        }

        signed.account_signature_key = Some(account_key.to_vec());
        Ok(codec::adv_signed_device_identity_to_vec(&signed))
    }

    pub fn remove(&mut self, key_index: u32) {
        self.companions.remove(&key_index);
    }

    pub fn key_index_list(&self, own: &IdentityKeyPair, now: u64, rng: &mut impl CryptoRng) -> Vec<u8> {
        let details = codec::adv_key_index_list_to_vec(&ADVKeyIndexList {
            raw_id: Some(self.raw_id),
            timestamp: Some(now),
            current_index: Some(self.last_key_index),
            valid_indexes: self.key_indexes().collect(),
            account_type: Some(ADVEncryptionType::E2EE),
        });
        let account_signature = sign(own, &[KEY_INDEX_SIGNATURE, &details], rng);
        codec::adv_signed_key_index_list_to_vec(&ADVSignedKeyIndexList {
            details: Some(details),
            account_signature: Some(account_signature),
            account_signature_key: Some(key_bytes(own.public_key()).to_vec()),
        })
    }
}

fn sign(own: &IdentityKeyPair, message: &[&[u8]], rng: &mut impl CryptoRng) -> Vec<u8> {
    own.private_key()
        .calculate_signature_for_multipart_message(message, rng)
        .expect("an own Curve25519 key always signs")
        .to_vec()
}
