//! Replies that WhatsApp does not take, or takes and delivers to nobody: kept, sent by the way that is open,
//! and never forced.

use bot_kjp::clock;
use rusqlite::Connection;
use testbed::{Addressing, Fault, Handset, Lock, Options, WhatsApp};

use super::bot::{Bot, DEADLINE, Home};
use super::health::Page;
use super::scene::{Scene, until, wait_for};

/// A person whom nobody may write to without a token, and who gives none.
fn closed(scene: &Scene, name: &str) -> Handset {
    let phone = scene.server.phone(name).expect("a phone");
    phone.set_restricted(true);
    phone.set_gives_tokens(false);
    phone
}

fn refused(scene: &Scene) -> u64 {
    scene.server.refused(scene.operator.number()).expect("an account")
}

fn wait_until_refused(scene: &Scene, times: u64, bot: &Bot) {
    let reached = until(|| (refused(scene) >= times).then_some(()));
    assert!(reached.is_some(), "refused {} times and not {times}:\n{}", refused(scene), bot.output());
}

/// Waits until so many replies are kept for later.
fn wait_until_parked(scene: &Scene, replies: i64, bot: &Bot) {
    let parked = || scene.home.ledger().count("SELECT count(*) FROM outbox WHERE parked_at IS NOT NULL");
    let reached = until(|| (parked() == replies).then_some(()));
    assert!(reached.is_some(), "{} replies are parked and not {replies}:\n{}", parked(), bot.output());
}

/// Waits until so many messages are received and their replies written.
fn wait_until_received(scene: &Scene, messages: i64) {
    let received = || scene.home.ledger().count("SELECT count(*) FROM inbound_message");
    until(|| (received() == messages).then_some(())).expect("the messages are received");
}

/// The replies that a phone shows, each once.
fn shown(phone: &Handset) -> Vec<String> {
    let shown = phone.shown();
    assert!(shown.iter().all(|reply| reply.copies == 1), "{shown:#?}");
    shown.into_iter().map(|reply| reply.text).collect()
}

fn wait_until_shown(phone: &Handset, replies: usize) -> Vec<String> {
    wait_for(phone, |shown| (shown.len() >= replies).then_some(()));
    shown(phone)
}

#[test]
fn a_reply_refused_with_463_is_kept_and_sent_once_when_the_person_writes_again() {
    let scene = Scene::new();
    let bot = scene.run();
    let ani = closed(&scene, "Ani");
    scene.say(&ani, "1");
    wait_until_parked(&scene, 1, &bot);
    ani.set_restricted(false);
    scene.say(&ani, "3");
    let shown = wait_until_shown(&ani, 2);
    assert!(shown[0] != shown[1], "both, in order: {shown:#?}");
    assert_eq!(refused(&scene), 1);

    let (_, budi) = scene.customer(1);
    assert_eq!([scene.ask(&budi, "1"), scene.ask(&budi, "3")].as_slice(), shown, "as everybody is answered");
    let ledger = {
        let _ = bot.terminate();
        scene.home.ledger()
    };
    assert_eq!(ledger.count("SELECT count(*) FROM outbox"), 0);
    assert_eq!(ledger.count("SELECT count(*) FROM shut_chat"), 0);
}

#[test]
fn whoever_goes_on_writing_in_vain_costs_one_more_attempt_and_their_token_opens_the_chat() {
    let scene = Scene::new();
    let bot = scene.run();
    let ani = closed(&scene, "Ani");
    scene.say(&ani, "1");
    wait_until_refused(&scene, 1, &bot);
    wait_until_parked(&scene, 1, &bot);
    scene.say(&ani, "3");
    wait_until_refused(&scene, 2, &bot);
    wait_until_parked(&scene, 1, &bot);
    for message in ["1", "3", "1"] {
        scene.say(&ani, message);
    }
    wait_until_received(&scene, 5);

    // What is kept survives a crash, and no new connection tries it again.
    bot.kill();
    let bot = scene.run();
    let (_, budi) = scene.customer(1);
    scene.ask(&budi, "1");
    assert_eq!(refused(&scene), 2, "{}", bot.output());
    assert!(shown(&ani).is_empty());

    ani.give_token(scene.operator.number()).expect("the token is handed over");
    wait_for(&ani, |shown| (!shown.is_empty()).then_some(()));
    until(|| (scene.home.ledger().count("SELECT count(*) FROM outbox") == 0).then_some(()))
        .unwrap_or_else(|| panic!("replies wait still:\n{}", bot.output()));
    assert_eq!(refused(&scene), 2);
    assert_eq!(shown(&ani).first(), Some(&shown(&budi)[0]), "the oldest first");
}

#[test]
fn a_token_that_comes_with_the_first_message_is_waited_for_and_properties_that_do_not_come_are_not() {
    let scene = Scene::new();
    // whatsapp-rust asks for them as well; one of the two goes without.
    scene.on_the_bot(Fault::Iq { xmlns: "abt".into(), code: None, count: Some(1) });
    let bot = scene.run();
    for name in ["restricted:Ani", "restricted:Budi"] {
        let phone = scene.server.phone(name).expect("a phone");
        scene.ask(&phone, "1");
        scene.ask(&phone, "3");
    }
    assert_eq!(refused(&scene), 0, "{}", bot.output());
}

#[test]
fn the_third_refusal_lets_first_replies_pause_and_the_operator_is_told_until_when() {
    /// Seconds: more than the refusals need, less than a test may take.
    const LOCKED: u64 = 90;
    let scene = Scene::new();
    let (_, boss) = scene.customer(0);
    scene.home.add_to_config(&format!("\n[alert]\noperators = [{:?}]\n", boss.number()));
    let bot = scene.run();
    scene.ask(&boss, "1");

    let bots = scene.operator.number();
    let ends_at = clock::unix_seconds().unsigned_abs() + LOCKED;
    let lock = Lock { ends_at: Some(ends_at), ..Lock::default() };
    scene.server.lock_new_chats(bots, Some(lock)).expect("the lock is set");
    let strangers: Vec<Handset> = ["Ani", "Budi", "Citra", "Dewi", "Eka"]
        .map(|name| {
            let phone = scene.server.phone(name).expect("a phone");
            phone.set_gives_tokens(false);
            phone
        })
        .into();
    for (phone, times) in strangers[..3].iter().zip(1..) {
        scene.say(phone, "1");
        wait_until_refused(&scene, times, &bot);
        wait_until_parked(&scene, times.cast_signed(), &bot);
    }
    for phone in &strangers[3..] {
        scene.say(phone, "1");
    }
    wait_until_parked(&scene, 5, &bot);
    // Whoever was answered before is answered as ever, and so is who has given a token.
    scene.ask(&boss, "3");
    let (_, fatma) = scene.customer(6);
    scene.ask(&fatma, "1");
    assert_eq!(refused(&scene), 3, "{}", bot.output());

    let told = wait_for(&boss, |shown| {
        shown.iter().find(|message| message.text.contains("Balasan ditolak WhatsApp")).cloned()
    });
    assert!(told.text.contains("orang ditolak"), "{}", told.text);
    let ends = bot_kjp::watch::wording::moment(ends_at.cast_signed());
    assert!(told.text.contains(&format!("sampai sekitar {ends} WIB")), "{}", told.text);
    assert_eq!(scene.server.lock_questions(bots).expect("an account"), 1);

    // Those who were not refused themselves get theirs by themselves, the others when they write.
    for phone in &strangers[3..] {
        wait_until_shown(phone, 1);
    }
    for phone in &strangers[..3] {
        assert!(shown(phone).is_empty());
        scene.say(phone, "3");
        wait_until_shown(phone, 2);
    }
    assert_eq!(refused(&scene), 3, "{}", bot.output());
}

#[test]
fn a_lock_of_which_whatsapp_tells_by_itself_is_passed_on() {
    let scene = Scene::new();
    let (_, boss) = scene.customer(0);
    scene.home.add_to_config(&format!("\n[alert]\noperators = [{:?}]\n", boss.number()));
    let bot = scene.run();
    scene.ask(&boss, "1");
    let ends_at = clock::unix_seconds().unsigned_abs() + 7 * 86_400;
    let lock = Lock { ends_at: Some(ends_at), told: true, hidden: false };
    scene.server.lock_new_chats(scene.operator.number(), Some(lock)).expect("the lock is set");
    let ends = bot_kjp::watch::wording::moment(ends_at.cast_signed());
    let told = wait_for(&boss, |shown| shown.iter().find(|message| message.text.contains(&ends)).cloned());
    assert!(told.text.contains("whatsapp.replies_refused"), "{}", told.text);
    assert_eq!(
        scene.server.lock_questions(scene.operator.number()).expect("an account"),
        0,
        "{}",
        bot.output()
    );
}

#[test]
fn tokens_outlive_a_session_that_the_phone_ends() {
    let scene = Scene::new();
    let bot = scene.run();
    let ani = scene.server.phone("restricted:Ani").expect("a phone");
    scene.ask(&ani, "1");
    ani.set_gives_tokens(false);
    scene.operator.unlink_companions();
    let qr = bot.wait_for_qr();
    scene.operator.scan_qr(&qr).expect("the phone accepts the QR code");
    scene.server.wait_online(scene.operator.number(), DEADLINE).expect("the bot comes online");
    scene.ask(&ani, "3");
    assert_eq!(refused(&scene), 0, "{}", bot.output());
}

/// Takes away what the stopped bot knows of everybody's devices, and leaves it a reply to send.
fn forget_sessions_and_owe_a_reply(scene: &Scene, text: &str) {
    let ledger = Connection::open(scene.home.data().join("bot-kjp.db")).expect("the ledger opens");
    ledger.execute_batch("DELETE FROM wa_session; DELETE FROM wa_identity;").expect("the sessions go");
    let owed = ledger.execute(
        "INSERT INTO outbox (chat, wa_message_id, text, at, next_attempt_at)
         SELECT chat, '3EB0FFFFFFFFFFFFFFFFFF', ?1, at, 0 FROM inbound_message LIMIT 1",
        [text],
    );
    assert_eq!(owed.expect("a reply is owed"), 1);
}

#[test]
fn a_reply_that_is_keyed_for_nobody_is_noticed_and_sent_again_with_a_fresh_list_of_devices() {
    let mut scene = Scene::new();
    scene.home.secret(clock::SPEED_VARIABLE, "10");
    let bot = scene.run();
    let (_, ani) = scene.customer(0);
    scene.ask(&ani, "1");
    let (status, _) = bot.terminate();
    assert!(status.success(), "{status}");
    forget_sessions_and_owe_a_reply(&scene, "sampai juga");

    scene.server.fault_on(ani.number(), Fault::RefuseKeys { count: None }).expect("the fault is set");
    let bot = scene.run();
    bot.wait_for_line("there is no ciphertext for the recipient's phone");
    assert_eq!(shown(&ani).len(), 1, "nobody has got it, though WhatsApp took it");
    scene.server.clear_faults();
    assert_eq!(wait_until_shown(&ani, 2)[1], "sampai juga");
    until(|| (scene.home.ledger().count("SELECT count(*) FROM outbox") == 0).then_some(()))
        .unwrap_or_else(|| panic!("it waits still:\n{}", bot.output()));
}

#[test]
fn a_reply_whose_recipient_never_has_keys_is_given_up_with_its_reason() {
    let page = Page::new();
    let mut scene = Scene::with(&page.configuration());
    let deputy = scene.server.phone("Wakil").expect("a phone");
    scene.home.add_to_config(&format!("\n[alert]\noperators = [{:?}]\n", deputy.number()));
    scene.home.secret(clock::SPEED_VARIABLE, "30");
    let bot = scene.run();
    let (_, ani) = scene.customer(0);
    scene.ask(&ani, "1");
    let (status, _) = bot.terminate();
    assert!(status.success(), "{status}");
    forget_sessions_and_owe_a_reply(&scene, "tidak pernah sampai");

    scene.server.fault_on(ani.number(), Fault::RefuseKeys { count: None }).expect("the fault is set");
    let bot = scene.run();
    bot.wait_for_line("given up: no_phone");
    // The word comes before the deed.
    let given_up = "SELECT count(*) FROM outbox WHERE failed_at IS NOT NULL AND unkeyed = 3";
    until(|| (scene.home.ledger().count(given_up) == 1).then_some(()))
        .unwrap_or_else(|| panic!("three attempts and one more that was the last:\n{}", bot.output()));
    let metrics = page.metrics();
    assert_eq!(metrics["bot_kjp_outbox_given_up{reason=\"no_phone\"}"], 1.0);
    let said = scene.home.command(&["status"]).output().expect("status runs").stdout;
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("1 balasan gagal (1 HP penerima tidak terjangkau)"), "{said}");
    let told = until(|| deputy.shown().into_iter().find(|shown| shown.text.contains("(outbox.given_up)")))
        .unwrap_or_else(|| panic!("the operator is not told:\n{}", bot.output()));
    assert!(told.text.contains("1 balasan tidak dapat dikirim"), "{}", told.text);
}

#[test]
fn a_reply_refused_at_one_address_goes_to_the_persons_other_one() {
    let scene = Scene::new();
    let bot = scene.run();
    let (_, ani) = scene.customer(0);
    scene.ask(&ani, "1");
    for code in [400, 404, 406, 479] {
        for addressing in [Addressing::Pn, Addressing::Lid] {
            let fault = Fault::RefuseAddress { addressing, code, count: None };
            scene.server.fault_on(ani.number(), fault).expect("the fault is set");
            scene.ask(&ani, "1");
            scene.server.clear_faults();
        }
    }
    // One of the two is the one that it takes first.
    let tried = bot.output().matches("trying the person's other address").count();
    assert_eq!(tried, 4, "{}", bot.output());
    assert_eq!((shown(&ani).len(), ani.failed_decryptions()), (9, 0));
}

#[test]
fn who_gives_no_token_is_reached_by_one_made_from_the_salt_that_the_phone_synchronises() {
    let server = WhatsApp::start(Options::default()).expect("WhatsApp's side starts");
    let home = Home::new(&server);
    let operator = server.phone("scenario:nct_send_ab,nct_syncd_delivery:Operator").expect("a phone");
    let scene = Scene { server, home, operator };
    let bot = scene.run();
    scene.operator.scan_qr(&bot.wait_for_qr()).expect("the phone accepts the QR code");
    // It comes some time after the login, and is written down with the next save of the device.
    let salted = "SELECT count(*) FROM wa_device WHERE json_type(body, '$.nct_salt') = 'array'";
    until(|| (scene.home.ledger().count(salted) == 1).then_some(()))
        .unwrap_or_else(|| panic!("no salt came:\n{}", bot.output()));
    let ani = scene.server.phone("scenario:restricted,cs_enabled=1:Ani").expect("a phone");
    ani.set_gives_tokens(false);
    scene.say(&ani, "1");
    until(|| (!ani.shown().is_empty() || refused(&scene) > 0).then_some(())).expect("an attempt");
    assert_eq!(refused(&scene), 0, "{}", bot.output());
    // Whoever does not take such tokens stays closed.
    let budi = closed(&scene, "Budi");
    scene.say(&budi, "1");
    wait_until_refused(&scene, 1, &bot);
}

#[test]
fn without_the_property_no_token_is_shown_and_the_reply_is_kept() {
    /// "Clients attach tokens of contacts."
    const SEND_TOKENS: u32 = 10_518;
    let scene = Scene::new();
    scene.server.set_property(SEND_TOKENS, false);
    let bot = scene.run();
    let ani = scene.server.phone("restricted:Ani").expect("a phone");
    scene.say(&ani, "1");
    wait_until_refused(&scene, 1, &bot);
    wait_until_parked(&scene, 1, &bot);
    assert!(shown(&ani).is_empty());
}
