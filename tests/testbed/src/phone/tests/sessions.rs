//! Two phones exchange messages.

use proptest::prelude::*;

use super::super::{DecryptError, Kind, Phone, SignalError};
use super::{ANI, BUDI, NOW, phone, text};

type Sent = (Kind, Vec<u8>);

struct Pair {
    ani: Phone,
    budi: Phone,
}

impl Pair {
    fn new() -> Self {
        Pair { ani: phone(1), budi: phone(2) }
    }

    /// A pair whose session both sides have confirmed.
    fn talking() -> Self {
        let mut pair = Pair::new();
        let first = pair.ani_sends_first("halo");
        assert_eq!(pair.budi_reads(&first).unwrap(), "halo");
        let answer = pair.budi_sends("halo juga");
        assert_eq!(pair.ani_reads(&answer).unwrap(), "halo juga");
        pair
    }

    fn ani_sends_first(&mut self, words: &str) -> Sent {
        let bundle = self.budi.key_bundle();
        self.ani.encrypt(BUDI, 0, Some(&bundle), &text(words)).unwrap()
    }

    fn budi_sends_first(&mut self, words: &str) -> Sent {
        let bundle = self.ani.key_bundle();
        self.budi.encrypt(ANI, 0, Some(&bundle), &text(words)).unwrap()
    }

    fn ani_sends(&mut self, words: &str) -> Sent {
        self.ani.encrypt(BUDI, 0, None, &text(words)).unwrap()
    }

    fn budi_sends(&mut self, words: &str) -> Sent {
        self.budi.encrypt(ANI, 0, None, &text(words)).unwrap()
    }

    fn ani_reads(&mut self, (kind, ciphertext): &Sent) -> Result<String, DecryptError> {
        Ok(self.ani.decrypt(BUDI, 0, *kind, ciphertext)?.conversation.unwrap())
    }

    fn budi_reads(&mut self, (kind, ciphertext): &Sent) -> Result<String, DecryptError> {
        Ok(self.budi.decrypt(ANI, 0, *kind, ciphertext)?.conversation.unwrap())
    }
}

fn is_duplicate(result: &Result<String, DecryptError>) -> bool {
    matches!(result, Err(DecryptError::Signal(SignalError::Duplicate { device: 0 })))
}

#[test]
fn messages_are_pkmsg_until_the_peer_has_answered_and_msg_from_then_on() {
    let mut pair = Pair::new();
    let first = pair.ani_sends_first("satu");
    let second = pair.ani_sends("dua");
    assert_eq!((first.0.as_str(), second.0.as_str()), ("pkmsg", "pkmsg"));
    assert_eq!(pair.budi_reads(&first).unwrap(), "satu");
    assert_eq!(pair.budi_reads(&second).unwrap(), "dua");

    let answer = pair.budi_sends("tiga");
    assert_eq!(answer.0.as_str(), "msg");
    assert_eq!(pair.ani_reads(&answer).unwrap(), "tiga");
    let third = pair.ani_sends("empat");
    assert_eq!(third.0, Kind::Msg);
    assert_eq!(pair.budi_reads(&third).unwrap(), "empat");
}

#[test]
fn messages_that_overtake_each_other_all_arrive() {
    let mut pair = Pair::talking();
    let sent: Vec<Sent> = (0..5).map(|n| pair.ani_sends(&n.to_string())).collect();
    for n in [4, 0, 2, 1, 3] {
        assert_eq!(pair.budi_reads(&sent[n]).unwrap(), n.to_string());
    }
}

#[test]
fn a_pkmsg_that_overtakes_the_first_one_sets_the_session_up() {
    let mut pair = Pair::new();
    let first = pair.ani_sends_first("satu");
    let second = pair.ani_sends("dua");
    assert_eq!(pair.budi_reads(&second).unwrap(), "dua");
    assert_eq!(pair.budi_reads(&first).unwrap(), "satu");
}

#[test]
fn a_message_decrypts_once_and_its_repetition_harms_nothing() {
    let mut pair = Pair::new();
    let first = pair.ani_sends_first("satu");
    pair.budi_reads(&first).unwrap();
    assert!(is_duplicate(&pair.budi_reads(&first)));

    let answer = pair.budi_sends("dua");
    pair.ani_reads(&answer).unwrap();
    assert!(is_duplicate(&pair.ani_reads(&answer)));

    let third = pair.ani_sends("tiga");
    assert_eq!(pair.budi_reads(&third).unwrap(), "tiga");
}

#[test]
fn a_repeated_pkmsg_cannot_bring_a_forgotten_session_back() {
    let mut pair = Pair::new();
    let first = pair.ani_sends_first("satu");
    pair.budi_reads(&first).unwrap();
    pair.budi.forget_session(ANI, 0);
    let again = pair.budi_reads(&first);
    assert!(matches!(again, Err(DecryptError::Signal(SignalError::Decrypt { .. }))), "{again:?}");
}

#[test]
fn after_a_lost_session_a_retry_with_a_fresh_bundle_is_read() {
    let mut pair = Pair::talking();
    pair.budi.forget_session(ANI, 0);
    assert!(!pair.budi.has_session(ANI, 0));
    let lost = pair.ani_sends("satu");
    let result = pair.budi_reads(&lost);
    assert!(matches!(result, Err(DecryptError::Signal(SignalError::NoSession { device: 0 }))), "{result:?}");

    let retry = pair.ani_sends_first("satu");
    assert_eq!(retry.0, Kind::Pkmsg);
    assert_eq!(pair.budi_reads(&retry).unwrap(), "satu");
    let answer = pair.budi_sends("dua");
    assert_eq!(pair.ani_reads(&answer).unwrap(), "dua");
}

#[test]
fn a_message_under_way_survives_that_its_sender_starts_a_new_session() {
    let mut pair = Pair::talking();
    let old = pair.ani_sends("lama");
    let new = pair.ani_sends_first("baru");
    assert_eq!(pair.budi_reads(&new).unwrap(), "baru");
    assert_eq!(pair.budi_reads(&old).unwrap(), "lama");
}

#[test]
fn two_who_write_first_at_the_same_time_understand_each_other() {
    let mut pair = Pair::new();
    let from_ani = pair.ani_sends_first("aku dulu");
    let from_budi = pair.budi_sends_first("aku dulu juga");
    assert_eq!(pair.budi_reads(&from_ani).unwrap(), "aku dulu");
    assert_eq!(pair.ani_reads(&from_budi).unwrap(), "aku dulu juga");
    for round in 0..3 {
        let question = pair.ani_sends(&format!("tanya {round}"));
        assert_eq!(pair.budi_reads(&question).unwrap(), format!("tanya {round}"));
        let answer = pair.budi_sends(&format!("jawab {round}"));
        assert_eq!(pair.ani_reads(&answer).unwrap(), format!("jawab {round}"));
    }
}

#[test]
fn a_peer_with_new_keys_under_the_same_address_is_accepted() {
    let mut pair = Pair::talking();
    pair.ani = phone(3);
    let first = pair.ani_sends_first("ganti hp");
    assert_eq!(pair.budi_reads(&first).unwrap(), "ganti hp");
    let answer = pair.budi_sends("oke");
    assert_eq!(pair.ani_reads(&answer).unwrap(), "oke");
}

#[test]
fn devices_of_one_user_have_sessions_of_their_own() {
    let mut pair = Pair::talking();
    assert!(pair.budi.has_session(ANI, 0) && !pair.budi.has_session(ANI, 1));
    let result = pair.budi.encrypt(ANI, 1, None, &text("halo"));
    assert!(matches!(result, Err(SignalError::NoSession { device: 1 })), "{result:?}");

    let mut companion = phone(4);
    let bundle = companion.key_bundle();
    let (kind, ciphertext) = pair.budi.encrypt(ANI, 1, Some(&bundle), &text("halo")).unwrap();
    let read = companion.decrypt(BUDI, 0, kind, &ciphertext).unwrap();
    assert_eq!(read.conversation.as_deref(), Some("halo"));
}

#[test]
fn a_bundle_without_one_time_key_starts_a_session_too() {
    let mut pair = Pair::new();
    let bundle = super::super::KeyBundle { one_time: None, ..pair.budi.key_bundle() };
    let first = pair.ani.encrypt(BUDI, 0, Some(&bundle), &text("halo")).unwrap();
    assert_eq!(pair.budi_reads(&first).unwrap(), "halo");
}

#[test]
fn no_two_key_fetches_get_the_same_one_time_key() {
    let mut ani = phone(1);
    let bundles: Vec<_> = (0..20).map(|_| ani.key_bundle()).collect();
    let ids: std::collections::BTreeSet<_> = bundles.iter().map(|b| b.one_time.unwrap()).collect();
    assert_eq!(ids.len(), bundles.len());
    assert!(bundles.iter().all(|b| b.identity == ani.identity_public() && b.signed == bundles[0].signed));
}

#[test]
fn one_time_keys_that_nobody_uses_are_forgotten_oldest_first() {
    let mut pair = Pair::new();
    let oldest = pair.budi.key_bundle();
    let kept = pair.budi.key_bundle();
    for _ in 0..811 {
        pair.budi.key_bundle();
    }
    let first = pair.ani.encrypt(BUDI, 0, Some(&oldest), &text("lama")).unwrap();
    assert!(pair.budi_reads(&first).is_err());
    let first = pair.ani.encrypt(BUDI, 0, Some(&kept), &text("baru")).unwrap();
    assert_eq!(pair.budi_reads(&first).unwrap(), "baru");
}

#[test]
fn a_bundle_with_a_forged_signed_prekey_is_refused_and_starts_nothing() {
    let mut pair = Pair::new();
    let mut bundle = pair.budi.key_bundle();
    bundle.signed.signature[10] ^= 1;
    let result = pair.ani.encrypt(BUDI, 0, Some(&bundle), &text("halo"));
    assert!(matches!(result, Err(SignalError::Bundle { device: 0, .. })), "{result:?}");
    assert!(!pair.ani.has_session(BUDI, 0));
}

#[test]
fn a_spoilt_copy_is_refused_and_the_genuine_message_still_decrypts() {
    let mut pair = Pair::new();
    let first = pair.ani_sends_first("satu");
    for at in [0, first.1.len() / 2, first.1.len() - 1] {
        let mut spoilt = first.clone();
        spoilt.1[at] ^= 0x40;
        assert!(pair.budi_reads(&spoilt).is_err(), "byte {at}");
    }
    assert!(pair.budi_reads(&(Kind::Msg, first.1.clone())).is_err());
    assert_eq!(pair.budi_reads(&first).unwrap(), "satu");
}

#[test]
fn a_plaintext_that_no_client_sends_is_named_as_such() {
    let mut pair = Pair::talking();
    let unpadded = pair.ani.encrypt_bytes(BUDI, 0, None, b"\x0a\x04halo").unwrap();
    let result = pair.budi_reads(&unpadded);
    assert!(matches!(result, Err(DecryptError::Padding(_))), "{result:?}");
    let no_message = pair.ani.encrypt_bytes(BUDI, 0, None, b"\xff\xff\xff\x01").unwrap();
    let result = pair.budi_reads(&no_message);
    assert!(matches!(result, Err(DecryptError::NotAMessage(_))), "{result:?}");
}

#[test]
fn one_seed_gives_one_phone() {
    let (mut one, mut same, mut other) = (phone(1), phone(1), phone(2));
    assert_eq!(one.key_bundle(), same.key_bundle());
    assert_eq!(one.key_index_list(NOW), same.key_index_list(NOW));
    assert_ne!(one.identity_public(), other.identity_public());
    assert_ne!(one.key_bundle(), other.key_bundle());
}

#[test]
fn a_phone_moves_between_threads() {
    fn is_send<T: Send>() {}
    is_send::<Phone>();
}

/// What happens next between the two; numbers choose among what is under way.
#[derive(Debug, Clone)]
enum Event {
    AniSends,
    BudiSends,
    AniReads(prop::sample::Index),
    BudiReads(prop::sample::Index),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        Just(Event::AniSends),
        Just(Event::BudiSends),
        any::<prop::sample::Index>().prop_map(Event::AniReads),
        any::<prop::sample::Index>().prop_map(Event::BudiReads),
    ];
    // Few enough that no side turns the ratchet more often than a session keeps chains (5).
    prop::collection::vec(event, 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn in_any_order_each_message_decrypts_once_to_what_was_sent(events in events()) {
        let mut pair = Pair::talking();
        let (mut to_ani, mut to_budi): (Vec<(String, Sent, bool)>, Vec<_>) = (vec![], vec![]);
        for (n, event) in events.into_iter().enumerate() {
            let words = format!("pesan {n}");
            match event {
                Event::AniSends => {
                    let sent = pair.ani_sends(&words);
                    to_budi.push((words, sent, false));
                }
                Event::BudiSends => {
                    let sent = pair.budi_sends(&words);
                    to_ani.push((words, sent, false));
                }
                Event::AniReads(index) if !to_ani.is_empty() => {
                    let (words, sent, read) = index.get(&to_ani).clone();
                    let result = pair.ani_reads(&sent);
                    if read { prop_assert!(is_duplicate(&result), "{:?}", result) }
                    else { prop_assert_eq!(result.unwrap(), words) }
                    let at = index.index(to_ani.len());
                    to_ani[at].2 = true;
                }
                Event::BudiReads(index) if !to_budi.is_empty() => {
                    let (words, sent, read) = index.get(&to_budi).clone();
                    let result = pair.budi_reads(&sent);
                    if read { prop_assert!(is_duplicate(&result), "{:?}", result) }
                    else { prop_assert_eq!(result.unwrap(), words) }
                    let at = index.index(to_budi.len());
                    to_budi[at].2 = true;
                }
                Event::AniReads(_) | Event::BudiReads(_) => {}
            }
        }
    }

    #[test]
    fn any_bytes_from_outside_are_an_error_and_never_a_panic(bytes: Vec<u8>, pkmsg: bool) {
        let kind = if pkmsg { Kind::Pkmsg } else { Kind::Msg };
        prop_assert!(phone(1).decrypt(BUDI, 0, kind, &bytes).is_err());
    }
}
