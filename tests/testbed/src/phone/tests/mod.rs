//! Both ends of every promise run: two phones with each other, or a phone with the client's own
//! code from wacore.

mod groups;
mod link_code;
mod pairing;
mod passkey;
mod sessions;

use rand::SeedableRng;
use rand::rngs::StdRng;
use wacore_libsignal::protocol::KeyPair;
use waproto::whatsapp::Message;

use super::Phone;

/// Invented numbers: addresses of the two parties.
const ANI: &str = "6280000000001";
const BUDI: &str = "6280000000002";

/// 2026-01-01 00:00 UTC, seconds.
const NOW: u64 = 1_767_225_600;

fn phone(seed: u64) -> Phone {
    Phone::new(&mut StdRng::seed_from_u64(seed))
}

fn key_pair(seed: u64) -> KeyPair {
    KeyPair::generate(&mut StdRng::seed_from_u64(seed))
}

fn public(key: &KeyPair) -> [u8; 32] {
    super::signal::key_bytes(&key.public_key)
}

fn text(text: impl Into<String>) -> Message {
    Message { conversation: Some(text.into()), ..Default::default() }
}
