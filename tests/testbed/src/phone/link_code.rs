//! Pairing by the eight characters that the companion shows and the user types into the phone:
//! the phone's side.
//!
//! Both sides wrap an ephemeral key under the code. A wrong code unwraps to some other key, which
//! cannot be told from the right one; it shows when the companion's key bundle does not open.

use aes::Aes256;
use aes_gcm::aead::Aead;
use aes_gcm::{Aes256Gcm, KeyInit};
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use hkdf::Hkdf;
use pbkdf2::pbkdf2_hmac_array;
use rand::{CryptoRng, Rng};
use sha2::Sha256;
use wacore_libsignal::protocol::{IdentityKeyPair, KeyPair, PublicKey};

use super::signal::key_bytes;

/// Characters of a code and how many of them it has.
const CODE_ALPHABET: &str = "123456789ABCDEFGHJKLMNPQRSTVWXYZ";
const CODE_LENGTH: usize = 8;

/// PBKDF2 rounds between the code and the key that wraps the ephemeral keys.
const CODE_ROUNDS: u32 = 131_072;

/// Bytes of a wrapped ephemeral key: salt 32, counter block 16, ciphertext 32.
pub const WRAPPED_EPHEMERAL_LENGTH: usize = 80;

/// Bytes of the wrapped key bundle: salt 32, nonce 12, three keys of 32, tag 16.
pub const WRAPPED_BUNDLE_LENGTH: usize = 156;

/// Why pairing by code failed on the phone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkCodeError {
    #[error("the typed code is not eight characters of {CODE_ALPHABET}: type it as the companion shows it")]
    Malformed,
    #[error("{what} has {got} bytes instead of {expected}: the companion sent something else")]
    Length { what: &'static str, expected: usize, got: usize },
    #[error("the companion's key bundle does not open: the typed code is not the one it shows")]
    WrongCode,
    #[error("the companion's key bundle names another {0} than this pairing: start it again")]
    OtherIdentity(&'static str),
}

/// What the phone sends after the code was typed (stage `primary_hello`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrimaryHello {
    /// Content of `<link_code_pairing_wrapped_primary_ephemeral_pub>`.
    pub wrapped_ephemeral: [u8; WRAPPED_EPHEMERAL_LENGTH],
    /// Content of `<primary_identity_pub>`.
    pub identity: [u8; 32],
}

/// A pairing between `primary_hello` and `companion_finish`; one per typed code.
pub struct PendingLink {
    ephemeral: KeyPair,
    companion_ephemeral: PublicKey,
}

pub(super) fn start(
    own: &IdentityKeyPair,
    code: &str,
    wrapped_companion_ephemeral: &[u8],
    rng: &mut impl CryptoRng,
) -> Result<(PendingLink, PrimaryHello), LinkCodeError> {
    let code = canonical_code(code)?;
    let wrapped: &[u8; WRAPPED_EPHEMERAL_LENGTH] =
        sized("the companion's wrapped ephemeral key", wrapped_companion_ephemeral)?;
    let companion_ephemeral = PublicKey::from_djb_public_key_bytes(&unwrap_ephemeral(wrapped, &code))
        .expect("any 32 bytes are a Curve25519 public key");

    let ephemeral = KeyPair::generate(rng);
    let hello = PrimaryHello {
        wrapped_ephemeral: wrap_ephemeral(&key_bytes(&ephemeral.public_key), &code, rng),
        identity: key_bytes(own.public_key()),
    };
    Ok((PendingLink { ephemeral, companion_ephemeral }, hello))
}

pub(super) fn finish(
    own: &IdentityKeyPair,
    pending: PendingLink,
    wrapped_key_bundle: &[u8],
    companion_identity: &[u8],
) -> Result<[u8; 32], LinkCodeError> {
    let wrapped: &[u8; WRAPPED_BUNDLE_LENGTH] =
        sized("the companion's wrapped key bundle", wrapped_key_bundle)?;
    let companion_identity: &[u8; 32] = sized("the companion's identity", companion_identity)?;
    let (salt, rest) = wrapped.split_at(32);
    let (nonce, sealed) = rest.split_at(12);

    let ephemeral_secret = agree(&pending.ephemeral, &pending.companion_ephemeral);
    let key = derive(Some(salt), &ephemeral_secret, b"link_code_pairing_key_bundle_encryption_key");
    let nonce: [u8; 12] = nonce.try_into().expect("split off twelve bytes");
    let bundle =
        Aes256Gcm::new(&key.into()).decrypt(&nonce.into(), sealed).map_err(|_| LinkCodeError::WrongCode)?;
    let (companion, rest) = bundle.split_at(32);
    let (primary, random) = rest.split_at(32);
    if companion != companion_identity {
        return Err(LinkCodeError::OtherIdentity("companion"));
    }
    if primary != key_bytes(own.public_key()) {
        return Err(LinkCodeError::OtherIdentity("phone"));
    }

    let companion_key = PublicKey::from_djb_public_key_bytes(companion_identity)
        .expect("any 32 bytes are a Curve25519 public key");
    let own = KeyPair::new(*own.public_key(), own.private_key().clone());
    let secrets = [&ephemeral_secret[..], &agree(&own, &companion_key), random].concat();
    Ok(derive(None, &secrets, b"adv_secret"))
}

/// The code in the form that keys are derived from: upper case, without the dash between its
/// halves.
fn canonical_code(typed: &str) -> Result<String, LinkCodeError> {
    let code: String =
        typed.chars().filter(|&c| c != '-' && c != ' ').map(|c| c.to_ascii_uppercase()).collect();
    if code.chars().count() == CODE_LENGTH && code.chars().all(|c| CODE_ALPHABET.contains(c)) {
        Ok(code)
    } else {
        Err(LinkCodeError::Malformed)
    }
}

fn sized<'a, const N: usize>(what: &'static str, bytes: &'a [u8]) -> Result<&'a [u8; N], LinkCodeError> {
    bytes.try_into().map_err(|_| LinkCodeError::Length { what, expected: N, got: bytes.len() })
}

fn wrap_ephemeral(key: &[u8; 32], code: &str, rng: &mut impl Rng) -> [u8; WRAPPED_EPHEMERAL_LENGTH] {
    let mut wrapped = [0; WRAPPED_EPHEMERAL_LENGTH];
    rng.fill_bytes(&mut wrapped[..48]);
    wrapped[48..].copy_from_slice(key);
    apply_code(&mut wrapped, code);
    wrapped
}

fn unwrap_ephemeral(wrapped: &[u8; WRAPPED_EPHEMERAL_LENGTH], code: &str) -> [u8; 32] {
    let mut wrapped = *wrapped;
    apply_code(&mut wrapped, code);
    wrapped[48..].try_into().expect("80 bytes less 48 are 32")
}

/// Encrypts or decrypts the last 32 bytes under the code, with the salt and counter before them.
fn apply_code(wrapped: &mut [u8; WRAPPED_EPHEMERAL_LENGTH], code: &str) {
    let (head, text) = wrapped.split_at_mut(48);
    let (salt, iv) = head.split_at(32);
    let key: [u8; 32] = pbkdf2_hmac_array::<Sha256, 32>(code.as_bytes(), salt, CODE_ROUNDS);
    let iv: [u8; 16] = iv.try_into().expect("48 bytes less 32 are 16");
    Ctr128BE::<Aes256>::new(&key.into(), &iv.into()).apply_keystream(text);
}

fn agree(own: &KeyPair, their: &PublicKey) -> [u8; 32] {
    own.calculate_agreement(their).expect("the built-in Curve25519 agreement does not fail")
}

pub(super) fn derive(salt: Option<&[u8]>, secret: &[u8], info: &[u8]) -> [u8; 32] {
    let mut key = [0; 32];
    Hkdf::<Sha256>::new(salt, secret)
        .expand(info, &mut key)
        .expect("32 bytes are within what HKDF-SHA256 may give");
    key
}
