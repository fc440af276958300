//! Sender keys: one ciphertext for everybody in a group.

use super::super::{DecryptError, Phone, SignalError};
use super::{ANI, phone, text};

const GROUP: &str = "120363000000000001@g.us";

/// Gives `to` Ani's sender key as it is now.
fn gives_key(ani: &mut Phone, to: &mut Phone) {
    let message = ani.sender_key(GROUP).unwrap();
    let key = message.sender_key_distribution_message.as_option().unwrap();
    to.accept_sender_key(ANI, 0, key).unwrap();
}

fn writes(ani: &mut Phone, words: &str) -> Vec<u8> {
    ani.encrypt_for_group(GROUP, &text(words)).unwrap()
}

fn reads(phone: &mut Phone, ciphertext: &[u8]) -> Result<String, DecryptError> {
    Ok(phone.decrypt_from_group(GROUP, ANI, 0, ciphertext)?.conversation.unwrap())
}

#[test]
fn whoever_has_the_sender_key_reads_each_message_once_in_any_order() {
    let (mut ani, mut budi, mut citra) = (phone(1), phone(2), phone(3));
    gives_key(&mut ani, &mut budi);
    gives_key(&mut ani, &mut citra);
    let sent: Vec<Vec<u8>> = ["satu", "dua", "tiga"].map(|words| writes(&mut ani, words)).into();
    for (n, words) in [(2, "tiga"), (0, "satu"), (1, "dua")] {
        assert_eq!(reads(&mut budi, &sent[n]).unwrap(), words);
        assert_eq!(reads(&mut citra, &sent[n]).unwrap(), words);
    }
    let again = reads(&mut budi, &sent[1]);
    assert!(matches!(again, Err(DecryptError::Signal(SignalError::Duplicate { device: 0 }))), "{again:?}");
}

#[test]
fn without_the_sender_key_nothing_is_read_and_with_a_renewed_one_nothing_by_who_left() {
    let (mut ani, mut budi, mut citra) = (phone(1), phone(2), phone(3));
    gives_key(&mut ani, &mut budi);
    let first = writes(&mut ani, "satu");
    let result = reads(&mut citra, &first);
    assert!(
        matches!(result, Err(DecryptError::Signal(SignalError::NoSenderKey { device: 0 }))),
        "{result:?}"
    );

    ani.renew_sender_key(GROUP);
    gives_key(&mut ani, &mut citra);
    let second = writes(&mut ani, "dua");
    assert_eq!(reads(&mut citra, &second).unwrap(), "dua");
    let result = reads(&mut budi, &second);
    assert!(
        matches!(result, Err(DecryptError::Signal(SignalError::NoSenderKey { device: 0 }))),
        "{result:?}"
    );
    // What was on its way is still read.
    assert_eq!(reads(&mut budi, &first).unwrap(), "satu");
}

#[test]
fn a_spoilt_copy_is_refused_and_the_genuine_message_still_decrypts() {
    let (mut ani, mut budi) = (phone(1), phone(2));
    gives_key(&mut ani, &mut budi);
    let sent = writes(&mut ani, "satu");
    for at in [0, sent.len() / 2, sent.len() - 1] {
        let mut spoilt = sent.clone();
        spoilt[at] ^= 0x40;
        assert!(reads(&mut budi, &spoilt).is_err(), "byte {at}");
    }
    assert!(budi.decrypt_from_group("120363000000000002@g.us", ANI, 0, &sent).is_err());
    assert_eq!(reads(&mut budi, &sent).unwrap(), "satu");
}

proptest::proptest! {
    #[test]
    fn any_bytes_from_outside_are_an_error_and_never_a_panic(bytes: Vec<u8>) {
        let (mut ani, mut budi) = (phone(1), phone(2));
        gives_key(&mut ani, &mut budi);
        proptest::prop_assert!(reads(&mut budi, &bytes).is_err());
        let key = waproto::whatsapp::message::SenderKeyDistributionMessage {
            group_id: Some(GROUP.to_owned()),
            axolotl_sender_key_distribution_message: Some(bytes),
        };
        let _ = budi.accept_sender_key(ANI, 0, &key);
    }
}
