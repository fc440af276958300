//! A phone is paired by code with the client's own half of that pairing.

use wacore::pair::{DeviceState, PairUtils};
use wacore::pair_code::PairCodeUtils;
use wacore_libsignal::protocol::KeyPair;

use super::super::{LinkCodeError, PendingLink, Phone, PrimaryHello};
use super::{NOW, key_pair, phone, public};

const CODE: &str = "ABCD1234";

struct Companion {
    identity: KeyPair,
    ephemeral: KeyPair,
}

impl Companion {
    fn new() -> Self {
        Companion { identity: key_pair(10), ephemeral: key_pair(11) }
    }

    fn hello(&self) -> [u8; 80] {
        PairCodeUtils::encrypt_ephemeral_pub(&public(&self.ephemeral), CODE)
    }

    /// The wrapped key bundle and the companion's ADV secret.
    fn finish(&self, hello: &PrimaryHello) -> (Vec<u8>, [u8; 32]) {
        let primary = PairCodeUtils::decrypt_primary_ephemeral_pub(&hello.wrapped_ephemeral, CODE).unwrap();
        PairCodeUtils::prepare_key_bundle(&self.ephemeral, &primary, &hello.identity, &self.identity).unwrap()
    }
}

fn started(phone: &mut Phone, companion: &Companion, typed: &str) -> (PendingLink, PrimaryHello) {
    phone.start_link_code(typed, &companion.hello()).unwrap()
}

#[test]
fn the_right_code_gives_both_the_same_secret_and_the_companion_accepts_the_phone() {
    let (mut phone, companion) = (phone(1), Companion::new());
    let identity = public(&companion.identity);
    let (pending, hello) = started(&mut phone, &companion, "abcd-1234");
    let (bundle, companion_secret) = companion.finish(&hello);
    let secret = phone.finish_link_code(pending, &bundle, &identity).unwrap();
    assert_eq!(secret, companion_secret);

    let adopted = phone.adopt_companion(&identity, &secret, NOW);
    let state = DeviceState {
        identity_key: companion.identity,
        noise_key: key_pair(12),
        adv_secret_key: companion_secret,
    };
    let (answer, _) = PairUtils::do_pair_crypto(&state, &adopted.pair_success).unwrap();
    phone.complete_device_identity(&answer).unwrap();
}

#[test]
fn a_wrong_code_is_told_at_the_end_and_the_next_attempt_works() {
    let (mut phone, companion) = (phone(1), Companion::new());
    let identity = public(&companion.identity);
    let (pending, hello) = started(&mut phone, &companion, "WXYZ9876");
    let (bundle, _) = companion.finish(&hello);
    assert_eq!(phone.finish_link_code(pending, &bundle, &identity), Err(LinkCodeError::WrongCode));

    let (pending, hello) = started(&mut phone, &companion, CODE);
    let (bundle, secret) = companion.finish(&hello);
    assert_eq!(phone.finish_link_code(pending, &bundle, &identity), Ok(secret));
}

#[test]
fn what_cannot_be_a_code_or_a_wrapped_key_is_refused_at_once() {
    let (mut phone, companion) = (phone(1), Companion::new());
    for typed in ["", "ABCD123", "ABCD12345", "ABCD123O", "ABCD 12é4"] {
        let result = phone.start_link_code(typed, &companion.hello()).err();
        assert_eq!(result, Some(LinkCodeError::Malformed), "{typed}");
    }
    let short = phone.start_link_code(CODE, &companion.hello()[1..]).err();
    assert!(matches!(short, Some(LinkCodeError::Length { expected: 80, got: 79, .. })), "{short:?}");

    for (bundle, identity) in [(155, 32), (157, 32), (156, 31)] {
        let (pending, _) = started(&mut phone, &companion, CODE);
        let result = phone.finish_link_code(pending, &vec![0; bundle], &vec![0; identity]);
        assert!(matches!(result, Err(LinkCodeError::Length { .. })), "{result:?}");
    }
}

#[test]
fn a_key_bundle_for_another_pairing_is_refused() {
    let (mut phone, companion) = (phone(1), Companion::new());
    let (pending, hello) = started(&mut phone, &companion, CODE);
    let (bundle, _) = companion.finish(&hello);
    let result = phone.finish_link_code(pending, &bundle, &public(&key_pair(20)));
    assert_eq!(result, Err(LinkCodeError::OtherIdentity("companion")));

    let (pending, hello) = started(&mut phone, &companion, CODE);
    let hello_of_another = PrimaryHello { identity: super::phone(2).identity_public(), ..hello };
    let (bundle, _) = companion.finish(&hello_of_another);
    let result = phone.finish_link_code(pending, &bundle, &public(&companion.identity));
    assert_eq!(result, Err(LinkCodeError::OtherIdentity("phone")));
}
