//! What could get lost, loop or be forged between a customer's phone and the desk: messages that nobody can
//! read, stanzas that WhatsApp waits for an answer to, a phone whose program was changed.

use std::time::Duration;

use bot_kjp::clock;
use bot_kjp::desk::Reply;
use bot_kjp::registration::Rulebook;
use rusqlite::Connection;
use testbed::{Addressing, Fault, Handset, SendAs, text_message};

use super::bot::{Bot, DEADLINE};
use super::scene::{Scene, until, wait_for};

/// How much faster the bots live that wait for minutes.
const SPEED: &str = "60";

fn please_send_again() -> String {
    Reply::SendAgain.text(&Rulebook::default())
}

/// How often the phone is asked to send a message again.
fn asked_to_send_again(phone: &Handset) -> usize {
    phone.shown().iter().filter(|shown| shown.text == please_send_again()).count()
}

fn count(scene: &Scene, sql: &str) -> i64 {
    scene.home.ledger().count(sql)
}

fn logins(scene: &Scene) -> u64 {
    scene.server.logins(scene.operator.number()).expect("an account")
}

fn waiting_at_whatsapp(scene: &Scene) -> usize {
    scene.server.queue_len(scene.operator.number()).expect("a queue")
}

/// Sends messages that the bot cannot decrypt, and switches the phone off before it is asked for them, and
/// the operator's, which has them too.
fn say_unreadably(scene: &Scene, phone: &Handset, texts: &[&str]) {
    scene.on_the_bot(Fault::HoldOffline);
    let garbled = u32::try_from(texts.len()).expect("a few");
    scene.on_the_bot(Fault::Corrupt { count: Some(garbled) });
    for text in texts {
        scene.say(phone, text);
    }
    phone.set_online(false);
    scene.operator.set_online(false);
    scene.server.clear_faults();
}

fn ask_for_the_unreadable(scene: &Scene, bot: &Bot) {
    let noted = "SELECT count(*) FROM missing_message WHERE cause = 'unreadable'";
    bot.wait_for_line("is asked to");
    until(|| (count(scene, noted) == 0).then_some(())).expect("nothing is waited for any more");
}

#[test]
fn what_nobody_can_read_and_no_phone_sends_again_is_asked_for_once_and_answered_when_it_comes() {
    let mut scene = Scene::new();
    scene.home.secret(clock::SPEED_VARIABLE, SPEED);
    let bot = scene.run();
    let (_, phone) = scene.customer(0);
    scene.ask(&phone, "1");
    say_unreadably(&scene, &phone, &["3", "MENU"]);
    ask_for_the_unreadable(&scene, &bot);

    // The phone is switched on: it is asked for both by the retry receipts that waited for it.
    phone.set_online(true);
    wait_for(&phone, |shown| (shown.len() >= 4).then_some(()));
    assert_eq!(asked_to_send_again(&phone), 1, "{:#?}", phone.shown());
    assert!(scene.ask(&phone, "2").len() > 1);
    assert_eq!(phone.shown().len(), 5, "each message has its one answer, and one asks: {:#?}", phone.shown());
    let (status, _) = bot.terminate();
    assert!(status.success(), "{status}");
}

#[test]
fn what_nobody_could_read_before_a_restart_is_asked_for_after_it() {
    let mut scene = Scene::new();
    let bot = scene.run();
    let (_, phone) = scene.customer(0);
    scene.ask(&phone, "1");
    say_unreadably(&scene, &phone, &["3"]);
    bot.wait_for_line("could not be decrypted");
    let noted = "SELECT count(*) FROM missing_message WHERE cause = 'unreadable'";
    until(|| (count(&scene, noted) == 1).then_some(())).expect("it is noted");
    until(|| (waiting_at_whatsapp(&scene) == 0).then_some(())).expect("it is acknowledged");
    bot.kill();

    scene.home.secret(clock::SPEED_VARIABLE, SPEED);
    let bot = scene.run();
    ask_for_the_unreadable(&scene, &bot);
    phone.set_online(true);
    wait_for(&phone, |shown| shown.iter().find(|shown| shown.text == please_send_again()).map(|_| ()));
    assert_eq!(asked_to_send_again(&phone), 1);
}

#[test]
fn what_the_phone_sends_again_is_answered_and_nobody_is_bothered() {
    let mut scene = Scene::new();
    scene.home.secret(clock::SPEED_VARIABLE, SPEED);
    let bot = scene.run();
    let (_, phone) = scene.customer(0);
    scene.ask(&phone, "1");
    scene.on_the_bot(Fault::Corrupt { count: Some(1) });
    let id = scene.say(&phone, "3");
    wait_for(&phone, |shown| (shown.len() >= 2).then_some(()));
    assert!(phone.asked_again(&id));
    assert_eq!(count(&scene, "SELECT count(*) FROM missing_message"), 0, "it came");
    assert!(!bot.output().contains("is asked to"), "{}", bot.output());
}

#[test]
fn a_message_older_than_a_day_is_not_asked_for() {
    let mut scene = Scene::new();
    scene.home.secret(clock::SPEED_VARIABLE, SPEED);
    let (_, phone) = scene.customer(0);
    let bot = scene.run();
    scene.ask(&phone, "1");
    bot.kill();
    scene.on_the_bot(Fault::Corrupt { count: Some(1) });
    scene.say(&phone, "3");
    phone.set_online(false);
    scene.operator.set_online(false);
    scene.server.set_clock_ahead(2 * 86_400);
    let bot = scene.run();
    bot.wait_for_line("is too old to be asked for");
    until(|| (count(&scene, "SELECT count(*) FROM missing_message") == 0).then_some(()))
        .expect("it is let go");
    phone.set_online(true);
    wait_for(&phone, |shown| (shown.len() >= 2).then_some(()));
    assert_eq!(asked_to_send_again(&phone), 0, "{:#?}", phone.shown());
}

#[test]
fn a_message_that_is_owed_an_acknowledgement_is_answered_before_it_ends_a_third_connection() {
    let mut scene = Scene::new();
    scene.home.secret(clock::SPEED_VARIABLE, "20");
    let bot = scene.run();
    let (_, phone) = scene.customer(0);
    scene.on_the_bot(Fault::Owed { id: "OWED".into() });
    let named = SendAs { id: Some("OWED".into()), ..SendAs::default() };
    phone.send(scene.operator.number(), text_message("1"), named).expect("the message is sent");
    scene.answer_after(&phone, 0);
    let before = logins(&scene);
    // The receipt did not count: the server delivers the message at each login, and complains.
    scene.on_the_bot(Fault::Drop);
    bot.wait_for_line("WhatsApp waits for an answer to message OWED");
    bot.wait_for_line("ends the connection again for message OWED");
    bot.wait_for_line("message OWED was answered");
    until(|| (waiting_at_whatsapp(&scene) == 0).then_some(())).expect("WhatsApp has its answer");
    assert_eq!(logins(&scene) - before, 3, "dropped, and ended twice");
    // It was answered once, and the connection holds past the time of the next complaint.
    let held = clock::now();
    until(|| (clock::since(held) > Duration::from_secs(4)).then_some(())).expect("seconds pass");
    assert_eq!(logins(&scene) - before, 3);
    scene.ask(&phone, "2");
    assert!(phone.shown().iter().all(|shown| shown.copies == 1));
}

#[test]
fn a_message_with_nothing_in_it_is_acknowledged_and_its_sender_asked() {
    let mut scene = Scene::new();
    scene.home.secret(clock::SPEED_VARIABLE, SPEED);
    let bot = scene.run();
    let (_, phone) = scene.customer(0);
    scene.ask(&phone, "1");
    scene.on_the_bot(Fault::EmptyMessage { from: phone.number().into(), id: "EMPTY".into() });
    until(|| (waiting_at_whatsapp(&scene) == 0).then_some(())).expect("it is acknowledged");
    bot.wait_for_line("message EMPTY was answered");
    wait_for(&phone, |shown| (shown.len() >= 2).then_some(()));
    assert_eq!(asked_to_send_again(&phone), 1);
}

#[test]
fn a_message_that_the_ledger_refuses_for_ever_is_set_aside_and_never_delivered_again() {
    let scene = Scene::new();
    let bot = scene.run();
    let (ani, phone) = scene.customer(0);
    scene.choose_foodstation(&phone);
    scene.ask(&phone, &ani.registration_text(0));
    let (status, _) = bot.terminate();
    assert!(status.success(), "{status}");
    let ledger = Connection::open(scene.home.data().join("bot-kjp.db")).expect("the ledger opens");
    ledger.execute("UPDATE registration SET tanggal_lahir = 'never'", []).expect("a row that cannot be read");
    drop(ledger);

    let bot = scene.run();
    let answer = scene.ask(&phone, "2");
    assert_eq!(answer, please_send_again());
    bot.wait_for_line("set aside");
    assert_eq!(waiting_at_whatsapp(&scene), 0, "it was acknowledged");
    let before = logins(&scene);
    scene.on_the_bot(Fault::Drop);
    until(|| (logins(&scene) > before).then_some(())).expect("another login");
    let (budi, other) = scene.customer(1);
    scene.choose_foodstation(&other);
    scene.ask(&other, &budi.registration_text(0));
    assert_eq!(phone.shown().len(), 4, "the message is not worked off again");
    assert_eq!(count(&scene, "SELECT count(*) FROM refused_message"), 1);
    let (status, _) = bot.terminate();
    assert!(status.success(), "{status}");
}

#[test]
fn the_words_that_once_stood_for_a_lost_message_are_a_text_like_any_other() {
    const FORGED: &str = "\0bot-kjp: lost\0";
    let scene = Scene::new();
    let _bot = scene.run();
    let (_, phone) = scene.customer(0);
    let sent: Vec<String> = (0..30).map(|_| scene.say(&phone, FORGED)).collect();
    wait_for(&phone, |shown| shown.iter().find(|_| sent.iter().all(|id| phone.delivered(id))).map(|_| ()));
    assert_eq!(count(&scene, "SELECT count(*) FROM missing_message"), 0);
    assert!(sent.iter().all(|id| !phone.asked_again(id)), "no retry receipt");
    assert_eq!(asked_to_send_again(&phone), 0);
}

#[test]
fn who_is_known_by_a_lid_first_keeps_conversation_and_rows_when_the_number_is_told() {
    let scene = Scene::new();
    let _bot = scene.run();
    let (ani, phone) = scene.customer(0);
    let ask = |text: &str| {
        let before = phone.shown().len();
        let by_lid = SendAs { addressing: Addressing::Lid, ..SendAs::default() };
        phone.send(scene.operator.number(), text_message(text), by_lid).expect("the message is sent");
        scene.answer_after(&phone, before)
    };
    scene.on_the_bot(Fault::HideOtherAddress);
    ask("1");
    ask("3");
    ask(&ani.registration_text(0));
    let senders = || scene.home.ledger().texts("SELECT DISTINCT sender FROM registration");
    assert_eq!(senders(), [format!("{}@lid", phone.lid())]);

    // In the midst of the conversation the number is told, by the attributes of a message.
    scene.server.clear_faults();
    let repeated = ask(&ani.registration_text(0));
    assert!(!repeated.contains("nomor lain"), "{repeated}");
    assert!(repeated.contains(&ani.person(0).nama), "{repeated}");
    ask(&ani.registration_text(1));
    assert_eq!(senders(), [phone.number()]);
    // And from the other address.
    let list = scene.ask(&phone, "2");
    assert!([0, 1].iter().all(|n| list.contains(&ani.person(*n).nama)), "{list}");
    assert_eq!(count(&scene, "SELECT count(*) FROM person"), 1);
    assert_eq!(count(&scene, "SELECT count(*) FROM conversation"), 1);
}

#[test]
fn a_status_is_acknowledged_and_not_answered() {
    let scene = Scene::new();
    let bot = scene.run();
    let (_, phone) = scene.customer(0);
    scene.ask(&phone, "1");
    phone.send("status@broadcast", text_message("1"), SendAs::default()).expect("a status is posted");
    assert!(scene.ask(&phone, "3").len() > 1);
    assert_eq!(phone.shown().iter().filter(|shown| !shown.from_me).count(), 2, "{:#?}", phone.shown());
    assert_eq!(waiting_at_whatsapp(&scene), 0, "the status is acknowledged");
    let (status, _) = bot.terminate();
    assert!(status.success(), "{status}");
}

/// The server's clock goes on by a week, and the bot logs in anew.
fn a_week_later(scene: &Scene, week: i64) {
    let before = logins(scene);
    scene.server.set_clock_ahead(week * 8 * 86_400);
    scene.on_the_bot(Fault::Drop);
    until(|| (logins(scene) > before).then_some(())).expect("another login");
    scene.server.wait_online(scene.operator.number(), DEADLINE).expect("the bot comes online");
}

#[test]
fn a_message_under_a_key_of_five_weeks_ago_is_read_without_asking_again() {
    let scene = Scene::new();
    let bot = scene.run();
    let (_, phone) = scene.customer(0);
    // The first message of a session, under the key of the first week; it lies at WhatsApp.
    scene.on_the_bot(Fault::HoldOffline);
    let id = scene.say(&phone, "1");
    let key = || count(&scene, "SELECT json_extract(body, '$.signed_pre_key_id') FROM wa_device");
    let first = key();
    for week in 1..=5 {
        a_week_later(&scene, week);
        until(|| (key() == first + week).then_some(())).expect("the key of the week");
    }
    scene.server.clear_faults();
    scene.answer_after(&phone, 0);
    assert!(!phone.asked_again(&id), "the old key was still there");
    let (status, _) = bot.terminate();
    assert!(status.success(), "{status}");
}

#[test]
fn a_box_that_was_off_for_a_month_comes_back_reads_everything_and_serves() {
    const KEYS: usize = 5;
    const MONTH: i64 = 31 * 86_400;
    let scene = Scene::new();
    let bot = scene.run();
    let (ani, known) = scene.customer(0);
    scene.choose_foodstation(&known);
    scene.ask(&known, &ani.registration_text(0));
    let (status, _) = bot.terminate();
    assert!(status.success(), "{status}");

    // While it is off, so many strangers write that its one-time keys run out, and somebody it knows links
    // another device.
    let left = |scene: &Scene| count(scene, "SELECT count(*) FROM wa_prekey WHERE uploaded = 1");
    let strangers: Vec<Handset> =
        (1..=usize::try_from(left(&scene)).expect("keys") + KEYS).map(|n| scene.customer(n).1).collect();
    let sent: Vec<String> = strangers.iter().map(|phone| scene.say(phone, "1")).collect();
    let late = scene.say(&known, "2");
    let other = super::bot::Home::new(&scene.server);
    other.pair(&known);
    scene.server.set_clock_ahead(MONTH);

    let bot = scene.run();
    for (phone, id) in strangers.iter().zip(&sent) {
        phone.wait_delivered(id, DEADLINE).expect("the message is read");
        wait_for(phone, |shown| (!shown.is_empty()).then_some(()));
        assert!(!phone.asked_again(id), "read at once");
    }
    known.wait_delivered(&late, DEADLINE).expect("the message is read");
    wait_for(&known, |shown| (shown.len() >= 4).then_some(()));
    assert_eq!(waiting_at_whatsapp(&scene), 0);

    // Today's families are served, the known one on all its devices, and the keys are filled up.
    assert!(scene.ask(&strangers[0], "3").len() > 1);
    let before = scene.server.queue_len(known.number()).expect("a queue");
    scene.ask(&known, "1");
    // Its own copy of what the phone says, and the answer.
    until(|| (scene.server.queue_len(known.number()).expect("a queue") >= before + 2).then_some(()))
        .expect("the new device has the answer too");
    until(|| (left(&scene) > 0).then_some(())).expect("new one-time keys");
    let (status, _) = bot.terminate();
    assert!(status.success(), "{status}");
}
