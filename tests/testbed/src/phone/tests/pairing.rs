//! A phone adopts companions that run the client's own pairing code.

use proptest::prelude::*;
use wacore::adv::{AdvValidation, decode_key_index_list, is_key_index_valid, validate_adv_with_identity_key};
use wacore::pair::{DeviceState, PairUtils};
use wacore_libsignal::protocol::PublicKey;
use waproto::codec;

use super::super::{Adopted, AdvError};
use super::{BUDI, NOW, key_pair, phone, public};

const ADV_SECRET: [u8; 32] = [7; 32];

fn companion(seed: u64) -> DeviceState {
    DeviceState { identity_key: key_pair(seed), noise_key: key_pair(seed + 1), adv_secret_key: ADV_SECRET }
}

#[test]
fn a_companion_accepts_the_phone_and_others_accept_the_companion() {
    let mut phone = phone(1);
    let companion = companion(10);
    let identity = public(&companion.identity_key);
    let Adopted { key_index, pair_success } = phone.adopt_companion(&identity, &ADV_SECRET, NOW);

    let (answer, index_seen) = PairUtils::do_pair_crypto(&companion, &pair_success).unwrap();
    assert_eq!((key_index, index_seen), (1, 1));
    let blob = phone.complete_device_identity(&answer).unwrap();
    assert_eq!(validate_adv_with_identity_key(&blob, &identity, None), AdvValidation::Valid);
}

#[test]
fn the_account_key_that_a_client_strips_is_put_back() {
    let mut phone = phone(1);
    let companion = companion(10);
    let identity = public(&companion.identity_key);
    let adopted = phone.adopt_companion(&identity, &ADV_SECRET, NOW);
    let (answer, _) = PairUtils::do_pair_crypto(&companion, &adopted.pair_success).unwrap();
    let mut stripped = codec::adv_signed_device_identity_decode(&answer).unwrap();
    stripped.account_signature_key = None;
    let stripped = codec::adv_signed_device_identity_to_vec(&stripped);
    assert_eq!(validate_adv_with_identity_key(&stripped, &identity, None), AdvValidation::NoAccountKey);

    let blob = phone.complete_device_identity(&stripped).unwrap();
    assert_eq!(validate_adv_with_identity_key(&blob, &identity, None), AdvValidation::Valid);
    let restored = codec::adv_signed_device_identity_decode(&blob).unwrap().account_signature_key;
    assert_eq!(restored.as_deref(), Some(&phone.identity_public()[..]));
}

#[test]
fn a_companion_refuses_a_phone_that_did_not_see_its_secret() {
    let companion = companion(10);
    let adopted = phone(1).adopt_companion(&public(&companion.identity_key), &[8; 32], NOW);
    let refusal = PairUtils::do_pair_crypto(&companion, &adopted.pair_success).unwrap_err();
    assert_eq!((refusal.code, refusal.text), (401, "hmac-mismatch"));
}

/// whatsapp-rust 0.7 takes the account's type for the device's too.
#[test]
fn the_client_refuses_a_hosted_account_with_an_end_to_end_encrypted_companion() {
    let mut phone = phone(1);
    phone.host_account();
    let companion = companion(10);
    let adopted = phone.adopt_companion(&public(&companion.identity_key), &ADV_SECRET, NOW);
    let refusal = PairUtils::do_pair_crypto(&companion, &adopted.pair_success).unwrap_err();
    assert_eq!((refusal.code, refusal.text), (401, "signature-mismatch"));
}

#[test]
fn a_device_identity_signed_by_somebody_else_is_refused() {
    let mut phone = phone(1);
    let (companion, stranger) = (companion(10), companion(20));
    let adopted = phone.adopt_companion(&public(&companion.identity_key), &ADV_SECRET, NOW);
    let (answer, _) = PairUtils::do_pair_crypto(&companion, &adopted.pair_success).unwrap();

    let mut forged = codec::adv_signed_device_identity_decode(&answer).unwrap();
    forged.device_signature.as_mut().unwrap()[5] ^= 1;
    let forged = codec::adv_signed_device_identity_to_vec(&forged);
    let result = phone.complete_device_identity(&forged);
    assert!(matches!(result, Err(AdvError::DeviceSignature(1))), "{result:?}");

    let mut unsigned = codec::adv_signed_device_identity_decode(&answer).unwrap();
    unsigned.device_signature = None;
    let unsigned = codec::adv_signed_device_identity_to_vec(&unsigned);
    let result = phone.complete_device_identity(&unsigned);
    assert!(matches!(result, Err(AdvError::Missing("the device's signature"))), "{result:?}");

    let mut other_phone = super::phone(2);
    let other = other_phone.adopt_companion(&public(&stranger.identity_key), &ADV_SECRET, NOW);
    let (answer, _) = PairUtils::do_pair_crypto(&stranger, &other.pair_success).unwrap();
    let result = phone.complete_device_identity(&answer);
    assert!(matches!(result, Err(AdvError::AccountSignature(1))), "{result:?}");
}

#[test]
fn a_removed_companion_counts_no_more_and_its_key_index_is_not_given_again() {
    let mut phone = phone(1);
    let first = companion(10);
    let adopted = phone.adopt_companion(&public(&first.identity_key), &ADV_SECRET, NOW);
    let (answer, _) = PairUtils::do_pair_crypto(&first, &adopted.pair_success).unwrap();
    let second = phone.adopt_companion(&public(&key_pair(30)), &ADV_SECRET, NOW);
    let before = decode_key_index_list(&phone.key_index_list(NOW)).unwrap();
    assert_eq!((before.timestamp, before.current_index, before.valid_indexes.clone()), (NOW, 2, vec![1, 2]));
    assert!(is_key_index_valid(Some(adopted.key_index), &before));

    phone.remove_companion(adopted.key_index);
    let after = decode_key_index_list(&phone.key_index_list(NOW + 60)).unwrap();
    assert_eq!((after.raw_id, after.timestamp), (before.raw_id, NOW + 60));
    assert!(!is_key_index_valid(Some(adopted.key_index), &after));
    assert!(is_key_index_valid(Some(second.key_index), &after));
    let result = phone.complete_device_identity(&answer);
    assert!(matches!(result, Err(AdvError::UnknownKeyIndex(1))), "{result:?}");
    let third = phone.adopt_companion(&public(&key_pair(31)), &ADV_SECRET, NOW);
    assert_eq!(third.key_index, 3);
}

#[test]
fn the_key_index_list_carries_the_accounts_signature() {
    let mut phone = phone(1);
    let signed = codec::adv_signed_key_index_list_decode(&phone.key_index_list(NOW)).unwrap();
    assert_eq!(signed.account_signature_key.as_deref(), Some(&phone.identity_public()[..]));
    let message = [&[6, 2][..], signed.details.as_deref().unwrap()].concat();
    let account = PublicKey::from_djb_public_key_bytes(&phone.identity_public()).unwrap();
    assert!(account.verify_signature(&message, signed.account_signature.as_deref().unwrap()));
}

#[test]
fn a_new_companion_reads_the_accounts_app_state_key_with_all_that_it_stores() {
    let mut phone = phone(1);
    let mut companion = super::phone(2); // as a Signal party
    let identity = companion.identity_public();
    let adopted = phone.adopt_companion(&identity, &ADV_SECRET, NOW);
    let share = phone.app_state_key_share(NOW);
    let bundle = companion.key_bundle();
    let (kind, ciphertext) = phone.encrypt(BUDI, 7, Some(&bundle), &share).unwrap();
    let read = companion.decrypt(BUDI, 0, kind, &ciphertext).unwrap();

    let protocol = read.protocol_message.as_option().unwrap();
    let keys = &protocol.app_state_sync_key_share.as_option().unwrap().keys;
    assert_eq!(keys.len(), 1);
    let id = keys[0].key_id.as_option().unwrap().key_id.as_ref().unwrap();
    let data = keys[0].key_data.as_option().unwrap();
    let fingerprint = data.fingerprint.as_option().unwrap();
    assert_eq!((id.len(), data.key_data.as_ref().unwrap().len()), (6, 32));
    assert_eq!(data.timestamp, Some(NOW as i64));
    let list = decode_key_index_list(&phone.key_index_list(NOW)).unwrap();
    assert_eq!(fingerprint.raw_id, Some(list.raw_id));
    assert_eq!(fingerprint.device_indexes, vec![0, adopted.key_index]);

    let later = phone.app_state_key_share(NOW + 60);
    let again = &later.protocol_message.as_option().unwrap().app_state_sync_key_share;
    let again = &again.as_option().unwrap().keys[0];
    assert_eq!(again.key_id, keys[0].key_id);
    assert_eq!(again.key_data.as_option().unwrap().key_data, data.key_data);
}

proptest! {
    #[test]
    fn any_bytes_as_device_identity_are_refused_and_never_a_panic(bytes: Vec<u8>) {
        prop_assert!(phone(1).complete_device_identity(&bytes).is_err());
    }
}
