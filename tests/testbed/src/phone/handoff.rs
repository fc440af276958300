//! The phone's side of linking behind a passkey ("Shortcake"): both sides show an ephemeral key, the
//! companion first as a commitment only, so that nobody between them can choose keys that give the same
//! code. Over the agreed key the companion then sends its real keys and a new ADV secret.

use aes_gcm::aead::Aead;
use aes_gcm::{Aes256Gcm, KeyInit};
use buffa::{Enumeration as _, Message as _};
use hmac::{Hmac, Mac};
use rand::CryptoRng;
use sha2::{Digest, Sha256};
use wacore_libsignal::protocol::{KeyPair, PublicKey};
use waproto::whatsapp::{
    CompanionEphemeralIdentity, EncryptedPairingRequest, PairingRequest, PrimaryEphemeralIdentity,
    ProloguePayload,
};

use super::link_code::derive;
use super::signal::key_bytes;

/// Characters of a code: no I, O, U and 0.
const CODE_ALPHABET: &[u8; 32] = b"123456789ABCDEFGHJKLMNPQRSTVWXYZ";

/// Bytes that a code shows, five bits a character.
const CODE_BYTES: usize = 5;

/// Why the phone refuses to go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandoffError {
    #[error("{0} cannot be read: the companion encodes it otherwise")]
    Malformed(&'static str),
    #[error("{what} has {got} bytes instead of {expected}")]
    Length { what: &'static str, expected: usize, got: usize },
    #[error("the nonce is not the one that the companion committed itself to")]
    Commitment,
    #[error("the proof was not made with the ADV secret that the phone knows")]
    Proof,
    #[error("the pairing request does not open with the agreed key")]
    Sealed,
    #[error("the pairing request names another {0} than the companion's connection has")]
    OtherKey(&'static str),
}

/// What the companion told with its assertion.
#[derive(Debug)]
pub struct Prologue {
    identity: Vec<u8>,
    public: [u8; 32],
    device_type: i32,
    reference: String,
    commitment: [u8; 32],
}

impl Prologue {
    /// # Errors
    /// A field is missing or has another size.
    pub fn read(payload: &[u8]) -> Result<Prologue, HandoffError> {
        let payload = ProloguePayload::decode_from_slice(payload)
            .map_err(|_| HandoffError::Malformed("the prologue"))?;
        let identity = payload
            .companion_ephemeral_identity
            .ok_or(HandoffError::Malformed("the companion's ephemeral identity"))?;
        let commitment = payload.commitment.as_option().and_then(|commitment| commitment.hash.clone());
        let read = CompanionEphemeralIdentity::decode_from_slice(&identity)
            .map_err(|_| HandoffError::Malformed("the companion's ephemeral identity"))?;
        Ok(Prologue {
            public: sized("the companion's ephemeral key", &read.public_key.unwrap_or_default())?,
            device_type: read.device_type.ok_or(HandoffError::Malformed("the device type"))?.to_i32(),
            reference: read.r#ref.ok_or(HandoffError::Malformed("the reference"))?,
            commitment: sized("the commitment", &commitment.unwrap_or_default())?,
            identity,
        })
    }

    /// The `<ref>` that the companion means.
    pub fn reference(&self) -> &str {
        &self.reference
    }
}

/// What a companion proves with `<pairing_handoff_proof>`: that it knows the ADV secret of a link before.
///
/// # Errors
/// [`HandoffError::Proof`].
pub fn check_proof(adv_secret: &[u8], prologue: &[u8], proof: &[u8]) -> Result<(), HandoffError> {
    let key = derive(None, adv_secret, b"shortcake-passkey-handoff-v1");
    let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(&key).expect("any length will do");
    mac.update(prologue);
    mac.verify_slice(proof).map_err(|_| HandoffError::Proof)
}

/// A pairing after the phone showed its ephemeral key.
pub struct Shown {
    prologue: Prologue,
    ephemeral: KeyPair,
    nonce: [u8; 32],
}

impl Shown {
    pub fn new(prologue: Prologue, rng: &mut impl CryptoRng) -> Shown {
        let mut nonce = [0; 32];
        rng.fill_bytes(&mut nonce);
        Shown { prologue, ephemeral: KeyPair::generate(rng), nonce }
    }

    /// Content of `<primary_ephemeral_identity>`.
    pub fn identity(&self) -> Vec<u8> {
        PrimaryEphemeralIdentity {
            public_key: Some(key_bytes(&self.ephemeral.public_key).to_vec()),
            nonce: Some(self.nonce.to_vec()),
        }
        .encode_to_vec()
    }

    /// The companion revealed its nonce: the code to compare, and the key for what comes next.
    ///
    /// # Errors
    /// [`HandoffError::Commitment`], or a nonce of another size.
    pub fn reveal(&self, nonce: &[u8]) -> Result<Agreed, HandoffError> {
        let nonce: [u8; 32] = sized("the companion's nonce", nonce)?;
        let prologue = &self.prologue;
        if Sha256::digest([&prologue.identity[..], &nonce].concat())[..] != prologue.commitment {
            return Err(HandoffError::Commitment);
        }
        let their = PublicKey::from_djb_public_key_bytes(&prologue.public)
            .expect("any 32 bytes are a Curve25519 public key");
        let shared = self
            .ephemeral
            .calculate_agreement(&their)
            .expect("the built-in Curve25519 agreement does not fail");
        Ok(Agreed {
            code: comparison_code(&nonce, &key_bytes(&self.ephemeral.public_key), &self.nonce),
            key: pairing_key(&shared, prologue.device_type, &prologue.reference),
        })
    }
}

/// What both sides have agreed on.
pub struct Agreed {
    /// As the phone shows it: two groups of four.
    pub code: String,
    key: [u8; 32],
}

impl Agreed {
    /// Opens `<encrypted_pairing_request>` and gives the new ADV secret.
    ///
    /// # Errors
    /// It does not open, or names other keys than the companion registered with.
    pub fn open(
        &self,
        sealed: &[u8],
        noise: &[u8; 32],
        identity: &[u8; 32],
    ) -> Result<[u8; 32], HandoffError> {
        let sealed = EncryptedPairingRequest::decode_from_slice(sealed)
            .map_err(|_| HandoffError::Malformed("the encrypted pairing request"))?;
        let iv: [u8; 12] = sized("the nonce of the pairing request", &sealed.iv.unwrap_or_default())?;
        let payload = sealed.encrypted_payload.unwrap_or_default();
        let plain = Aes256Gcm::new(&self.key.into())
            .decrypt(&iv.into(), &payload[..])
            .map_err(|_| HandoffError::Sealed)?;
        let request = PairingRequest::decode_from_slice(&plain)
            .map_err(|_| HandoffError::Malformed("the pairing request"))?;
        for (named, known, what) in [
            (request.companion_public_key, noise, "Noise key"),
            (request.companion_identity_key, identity, "identity key"),
        ] {
            if named.as_deref() != Some(&known[..]) {
                return Err(HandoffError::OtherKey(what));
            }
        }
        sized("the new ADV secret", &request.adv_secret.unwrap_or_default())
    }
}

/// The code that the person compares: the phone's nonce under the hash of what the companion committed
/// itself to before it knew that nonce.
fn comparison_code(companion_nonce: &[u8; 32], primary: &[u8; 32], primary_nonce: &[u8; 32]) -> String {
    let digest = Sha256::digest([&companion_nonce[..], primary].concat());
    let bits = (0..CODE_BYTES).fold(0u64, |bits, i| bits << 8 | u64::from(primary_nonce[i] ^ digest[i]));
    let characters = CODE_BYTES * 8 / 5;
    let mut code: String = (0..characters)
        .map(|place| char::from(CODE_ALPHABET[(bits >> (5 * (characters - 1 - place)) & 31) as usize]))
        .collect();
    code.insert(characters / 2, '-');
    code
}

fn pairing_key(shared: &[u8; 32], device_type: i32, reference: &str) -> [u8; 32] {
    let salt = format!("Companion Pairing {device_type} with ref {reference}");
    derive(Some(salt.as_bytes()), shared, b"Pairing Information Encryption Key")
}

fn sized<const N: usize>(what: &'static str, bytes: &[u8]) -> Result<[u8; N], HandoffError> {
    bytes.try_into().map_err(|_| HandoffError::Length { what, expected: N, got: bytes.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Made once by another implementation, in Node.js.
    #[test]
    fn code_key_and_proof_are_those_of_another_implementation() {
        assert_eq!(comparison_code(&[1; 32], &[2; 32], &[3; 32]), "ZDET-SM4S");
        assert!(hex(&pairing_key(&[9; 32], 7, "REF123")).starts_with("0cd9777c"));
        let key = derive(None, &[5; 32], b"shortcake-passkey-handoff-v1");
        assert!(hex(&key).starts_with("607ce3dd"));
        let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(&key).unwrap();
        mac.update(b"prologue");
        let proof = mac.finalize().into_bytes();
        assert!(hex(&proof).starts_with("e57468c1"));
        assert_eq!(check_proof(&[5; 32], b"prologue", &proof), Ok(()));
        assert_eq!(check_proof(&[6; 32], b"prologue", &proof), Err(HandoffError::Proof));
        assert_eq!(check_proof(&[5; 32], b"prologue!", &proof), Err(HandoffError::Proof));
    }
}
