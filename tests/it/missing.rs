//! Messages whose keys are used up and that are nowhere, as a power cut leaves them.

use rusqlite::Connection;
use testbed::{Fault, Handset};

use super::bot::DEADLINE;
use super::scene::{Scene, until};

/// Takes a message and everything that it did out of the ledger, and leaves the Signal session, which has
/// decrypted it.
fn lose(scene: &Scene, id: &str) {
    let ledger = Connection::open(scene.home.data().join("bot-kjp.db")).expect("the ledger opens");
    let known = ledger.execute("DELETE FROM inbound_message WHERE id = ?1", [id]);
    assert_eq!(known.expect("its key goes"), 1);
    ledger.execute("DELETE FROM registration WHERE message_id = ?1", [id]).expect("its registration goes");
    ledger.execute("DELETE FROM outbox", []).expect("its reply goes");
}

fn has_come_back(scene: &Scene, id: &str) -> bool {
    let ledger = scene.home.ledger();
    let missed = ledger.count("SELECT count(*) FROM missing_message");
    missed == 0 && ledger.texts("SELECT id FROM inbound_message").iter().any(|known| known == id)
}

fn deliver_again_and_wait(scene: &Scene, phone: &Handset, id: &str) {
    assert!(!phone.asked_again(id), "nobody has asked yet");
    scene.on_the_bot(Fault::Replay { id: id.to_owned() });
    until(|| has_come_back(scene, id).then_some(())).expect("the message comes back");
    assert!(phone.asked_again(id), "the phone that sent it was asked");
}

#[test]
fn what_was_lost_after_its_decryption_comes_back_from_the_phone_that_sent_it() {
    let scene = Scene::new();
    let bot = scene.run();
    let (ani, phone) = scene.customer(0);
    // The first message of a session, and one of a session that stands.
    let first = scene.say(&phone, "1");
    scene.answer_after(&phone, 0);
    scene.ask(&phone, "3");
    let later = scene.say(&phone, &ani.registration_text(0));
    scene.answer_after(&phone, 2);
    let (status, _) = bot.terminate();
    assert!(status.success(), "{status}");
    lose(&scene, &first);
    lose(&scene, &later);

    let bot = scene.run();
    scene.server.wait_online(scene.operator.number(), DEADLINE).expect("the bot comes online");
    deliver_again_and_wait(&scene, &phone, &later);
    deliver_again_and_wait(&scene, &phone, &first);
    let registered = scene.home.ledger().texts("SELECT no_ktp FROM registration");
    assert_eq!(registered, [ani.person(0).nik]);
    assert!(phone.shown().iter().all(|shown| !shown.text.contains("tidak terbaca")), "nobody was bothered");

    // The sessions hold.
    scene.ask(&phone, "2");
    assert_eq!(phone.failed_decryptions(), 0);
    let (status, _) = bot.terminate();
    assert!(status.success(), "{status}");
}
