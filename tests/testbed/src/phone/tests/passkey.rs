//! A passkey, the server's look at what it signed, and the handshake behind it with the client's own code.

use wacore::shortcake::ShortcakeUtils;
use waproto::whatsapp::device_props::PlatformType;

use super::super::handoff::{HandoffError, Prologue, Shown};
use super::super::passkey::{AssertionError, Ceremony, Passkey, VERIFIED};
use super::{key_pair, public};

const CHALLENGE: &str = "Y2hhbGxlbmdl";

fn verdict(ceremony: &Ceremony) -> Result<(), AssertionError> {
    let passkey = Passkey::generate();
    let assertion = passkey.assertion(CHALLENGE, ceremony);
    passkey.verify(CHALLENGE, passkey.credential(), assertion.as_bytes())
}

#[test]
fn an_assertion_made_in_whatsapps_page_is_accepted() {
    assert_eq!(verdict(&Ceremony::default()), Ok(()));
}

#[test]
fn each_thing_that_can_be_wrong_with_an_assertion_is_refused() {
    let ok = Ceremony::default;
    let elsewhere = "https://example.com";
    for (ceremony, refusal) in [
        (Ceremony { origin: elsewhere.into(), ..ok() }, AssertionError::Origin(elsewhere.into())),
        (Ceremony { rp_id: "web.whatsapp.com".into(), ..ok() }, AssertionError::RelyingParty),
        (
            Ceremony { kind: "webauthn.create".into(), ..ok() },
            AssertionError::Ceremony("webauthn.create".into()),
        ),
        (Ceremony { flags: VERIFIED, ..ok() }, AssertionError::Flag("present")),
        (Ceremony { flags: 0x01, ..ok() }, AssertionError::Flag("verified")),
        (Ceremony { forged: true, ..ok() }, AssertionError::Signature),
    ] {
        assert_eq!(verdict(&ceremony), Err(refusal));
    }
}

#[test]
fn another_challenge_another_passkey_and_another_shape_are_refused() {
    let (passkey, other) = (Passkey::generate(), Passkey::generate());
    let assertion = passkey.assertion(CHALLENGE, &Ceremony::default());
    let verify = |passkey: &Passkey, credential: &[u8], challenge, text: &str| {
        passkey.verify(challenge, credential, text.as_bytes()).unwrap_err()
    };
    let own = passkey.credential();
    assert_eq!(verify(&passkey, own, "b3RoZXI", &assertion), AssertionError::Challenge);
    assert_eq!(verify(&other, own, CHALLENGE, &assertion), AssertionError::Credential);
    assert_eq!(verify(&passkey, other.credential(), CHALLENGE, &assertion), AssertionError::Credential);
    let padded = assertion.replace("\"signature\":\"", "\"signature\":\"=");
    assert_eq!(verify(&passkey, own, CHALLENGE, &padded), AssertionError::NotBase64Url("signature"));
    let typed = assertion.replace("public-key", "password");
    assert_eq!(verify(&passkey, own, CHALLENGE, &typed), AssertionError::Type("password".into()));
    for text in ["", "{}", "[]", &assertion[1..]] {
        assert!(matches!(verify(&passkey, own, CHALLENGE, text), AssertionError::Shape(_)), "{text}");
    }
}

/// The client's side of the handshake up to its revealed nonce.
struct Companion {
    ephemeral: wacore_libsignal::protocol::KeyPair,
    nonce: [u8; 32],
    prologue: Vec<u8>,
}

impl Companion {
    fn new() -> Companion {
        let (ephemeral, nonce) = (key_pair(1), [4; 32]);
        let identity = ShortcakeUtils::build_companion_ephemeral_identity(
            &public(&ephemeral),
            PlatformType::DESKTOP,
            "REF",
        );
        let commitment = ShortcakeUtils::commitment_hash(&identity, &nonce);
        let prologue = ShortcakeUtils::build_prologue_payload(&identity, &commitment);
        Companion { ephemeral, nonce, prologue }
    }

    /// The code that it shows, and its request with these keys.
    fn request(&self, shown: &Shown, noise: u8, identity: u8) -> (String, Vec<u8>) {
        let primary = ShortcakeUtils::parse_primary_ephemeral_identity(&shown.identity()).unwrap();
        let key = ShortcakeUtils::derive_encryption_key(
            &self.ephemeral,
            &primary.public_key,
            PlatformType::DESKTOP,
            "REF",
        )
        .unwrap();
        let code = ShortcakeUtils::derive_verification_code(&self.nonce, &primary.public_key, &primary.nonce);
        let plain = ShortcakeUtils::build_pairing_request(&[noise; 32], &[identity; 32], &[9; 32]);
        let sealed = ShortcakeUtils::encrypt_pairing_request(&plain, &key).unwrap();
        (code, ShortcakeUtils::build_encrypted_pairing_request(&sealed))
    }
}

fn shown(companion: &Companion) -> Shown {
    let prologue = Prologue::read(&companion.prologue).unwrap();
    assert_eq!(prologue.reference(), "REF");
    Shown::new(prologue, &mut <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(7))
}

#[test]
fn both_sides_show_the_same_code_and_the_phone_reads_the_new_secret() {
    let companion = Companion::new();
    let shown = shown(&companion);
    let agreed = shown.reveal(&companion.nonce).unwrap();
    let (code, request) = companion.request(&shown, 1, 2);
    assert_eq!(agreed.code.replace('-', ""), code);
    assert_eq!(agreed.code.len(), 9);
    assert_eq!(agreed.open(&request, &[1; 32], &[2; 32]), Ok([9; 32]));
}

#[test]
fn a_nonce_that_was_not_committed_to_and_keys_of_somebody_else_are_refused() {
    let companion = Companion::new();
    let shown = shown(&companion);
    assert_eq!(shown.reveal(&[5; 32]).err(), Some(HandoffError::Commitment));
    assert!(matches!(shown.reveal(&[5; 31]).err(), Some(HandoffError::Length { got: 31, .. })));
    let agreed = shown.reveal(&companion.nonce).unwrap();
    let (_, request) = companion.request(&shown, 1, 2);
    assert_eq!(agreed.open(&request, &[3; 32], &[2; 32]), Err(HandoffError::OtherKey("Noise key")));
    assert_eq!(agreed.open(&request, &[1; 32], &[3; 32]), Err(HandoffError::OtherKey("identity key")));
    let mut spoiled = request.clone();
    let middle = spoiled.len() / 2;
    spoiled[middle] ^= 1;
    assert!(agreed.open(&spoiled, &[1; 32], &[2; 32]).is_err());
}

proptest::proptest! {
    #[test]
    fn no_bytes_as_prologue_or_request_panic(bytes: Vec<u8>) {
        let _ = Prologue::read(&bytes);
        let companion = Companion::new();
        let agreed = shown(&companion).reveal(&companion.nonce).unwrap();
        proptest::prop_assert!(agreed.open(&bytes, &[1; 32], &[2; 32]).is_err());
    }
}
