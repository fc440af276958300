//! The main job: a message becomes a registration, answered, kept and stored.

use std::time::Duration;

use testbed::{Addressing, Options, SendAs, Supabase, WhatsApp};
use waproto::whatsapp as wa;

use super::bot::{Home, is_emulated};
use super::scene::{Scene, enough_of_today, until, wait_for, wait_for_rows};

/// One-time keys that the bot keeps at WhatsApp: each first message of a customer takes one.
const PRE_KEYS: usize = 50;

#[test]
fn a_message_becomes_a_registration_in_sqlite_and_in_postgresql() {
    let server = WhatsApp::start(Options::default()).expect("WhatsApp's side starts");
    let supabase = Supabase::start().expect("Supabase starts");
    let more = format!("\n[supabase]\nurl = {:?}\ninterval = \"100ms\"\n", supabase.url());
    let mut home = Home::with(&server, &more);
    home.secret("SUPABASE_SECRET_KEY", supabase.secret_key());
    supabase.apply(&home.output(&["schema"])).expect("the schema applies");
    let operator = server.phone("Operator").expect("a phone");
    home.pair(&operator);
    let scene = Scene { server, home, operator };
    let bot = scene.run();

    let (ani, phone) = scene.customer(0);
    scene.choose_foodstation(&phone);
    let id = scene.say(&phone, &ani.registration_text(0));
    let answer = scene.answer_after(&phone, 2);
    assert!(answer.contains("berhasil"), "{answer}");
    assert!(phone.delivered(&id), "the phone shows two ticks");

    wait_for_rows(&supabase, "SELECT count(*) FROM data_harian", "1", &bot);
    let row = supabase.query("SELECT nama, lokasi, sender_phone FROM data_harian").expect("a row");
    let nama = ani.person(0).nama;
    assert_eq!(row, [[nama.as_str(), "FOODSTATION", phone.number()]]);

    assert!(is_emulated() || bot.status("Threads") <= 3, "executor, reactor and one worker");
    let (status, took) = bot.terminate();
    assert!(status.success(), "{status}");
    assert!(took < Duration::from_secs(2), "SIGTERM took {took:?}");
    let ledger = scene.home.ledger();
    assert_eq!(ledger.count("SELECT count(*) FROM registration WHERE sync_state = 'confirmed'"), 1);
    assert_eq!(ledger.count("SELECT count(*) FROM outbox"), 0);
}

#[test]
fn several_people_in_one_message_get_a_verdict_each() {
    let scene = Scene::new();
    let _bot = scene.run();
    let (ani, phone) = scene.customer(0);
    scene.choose_foodstation(&phone);
    let broken = ani.registration_text(1).replacen("5049", "504", 1);
    let text = format!("{}\n\n{broken}\n\n{}", ani.registration_text(0), ani.registration_text(2));
    let answer = scene.ask(&phone, &text);
    for n in 0..3 {
        assert!(answer.contains(&ani.person(n).nama), "{answer}");
    }
    let (_, refused) = answer.split_once("Belum tersimpan").expect("what was not stored is listed");
    assert!(refused.contains(&ani.person(1).nama) && refused.contains("kurang 1 angka"), "{answer}");
    assert_eq!(scene.home.ledger().count("SELECT count(*) FROM registration"), 2);
}

#[test]
fn two_messages_that_race_for_one_nik_give_one_registration_and_one_refusal() {
    enough_of_today();
    let scene = Scene::new();
    let _bot = scene.run();
    let (ani, ani_phone) = scene.customer(0);
    let (_, budi_phone) = scene.customer(1);
    for phone in [&ani_phone, &budi_phone] {
        scene.choose_foodstation(phone);
    }
    let text = ani.registration_text(0);
    scene.say(&ani_phone, &text);
    scene.say(&budi_phone, &text);
    let answers = [scene.answer_after(&ani_phone, 2), scene.answer_after(&budi_phone, 2)];
    let accepted = answers.iter().filter(|answer| answer.contains("berhasil")).count();
    assert_eq!(accepted, 1, "{answers:#?}");
    let refusal = answers.iter().find(|answer| !answer.contains("berhasil")).expect("one is refused");
    assert!(refusal.contains("nomor WhatsApp lain"), "it says who was first, without a name: {refusal}");
    assert_eq!(scene.home.ledger().count("SELECT count(*) FROM registration"), 1);
}

#[test]
fn without_supabase_the_bot_serves_and_keeps_the_rows() {
    let scene = Scene::new();
    let bot = scene.run();
    let (ani, phone) = scene.customer(0);
    scene.choose_foodstation(&phone);
    scene.ask(&phone, &ani.registration_text(0));
    bot.kill();
    assert_eq!(
        scene.home.ledger().count("SELECT count(*) FROM registration WHERE sync_state = 'pending'"),
        1
    );
}

#[test]
fn text_is_read_from_every_kind_of_message() {
    let scene = Scene::new();
    let _bot = scene.run();
    let (_, phone) = scene.customer(0);
    let plain = |text: &str| wa::Message { conversation: Some(text.into()), ..Default::default() };
    let wrapped = |message: wa::Message| wa::message::FutureProofMessage { message: buffa_field(message) };
    let kinds: Vec<(&str, wa::Message)> = vec![
        ("conversation", plain("1")),
        (
            "extended text",
            wa::Message {
                extended_text_message: buffa_field(wa::message::ExtendedTextMessage {
                    text: Some("1".into()),
                    ..Default::default()
                }),
                ..Default::default()
            },
        ),
        (
            "picture caption",
            wa::Message {
                image_message: buffa_field(wa::message::ImageMessage {
                    caption: Some("1".into()),
                    ..Default::default()
                }),
                ..Default::default()
            },
        ),
        (
            "ephemeral",
            wa::Message { ephemeral_message: buffa_field(wrapped(plain("1"))), ..Default::default() },
        ),
        (
            "view once",
            wa::Message {
                view_once_message_v2: buffa_field(wrapped(wa::Message {
                    image_message: buffa_field(wa::message::ImageMessage {
                        caption: Some("1".into()),
                        ..Default::default()
                    }),
                    ..Default::default()
                })),
                ..Default::default()
            },
        ),
        ("edited", wa::Message { edited_message: buffa_field(wrapped(plain("1"))), ..Default::default() }),
        (
            "button",
            wa::Message {
                buttons_response_message: buffa_field(wa::message::ButtonsResponseMessage {
                    selected_button_id: Some("1".into()),
                    ..Default::default()
                }),
                ..Default::default()
            },
        ),
        (
            "list",
            wa::Message {
                list_response_message: buffa_field(wa::message::ListResponseMessage {
                    single_select_reply: buffa_field(wa::message::list_response_message::SingleSelectReply {
                        selected_row_id: Some("1".into()),
                    }),
                    ..Default::default()
                }),
                ..Default::default()
            },
        ),
    ];
    let menu = scene.ask(&phone, "1");
    for (n, (kind, message)) in kinds.into_iter().enumerate() {
        scene.ask(&phone, "0");
        let before = phone.shown().len();
        phone.send(scene.operator.number(), message, SendAs::default()).expect("the message is sent");
        assert_eq!(scene.answer_after(&phone, before), menu, "{kind} (message {n})");
    }
}

#[test]
fn customers_are_answered_by_phone_number_and_by_lid() {
    let scene = Scene::new();
    let _bot = scene.run();
    for (n, addressing) in [Addressing::Pn, Addressing::Lid].into_iter().enumerate() {
        let (ani, phone) = scene.customer(n);
        let to = scene.operator.number().to_owned();
        for text in ["1".to_owned(), "3".to_owned(), ani.registration_text(0)] {
            let before = phone.shown().len();
            let message = wa::Message { conversation: Some(text), ..Default::default() };
            phone
                .send(&to, message, SendAs { addressing, ..SendAs::default() })
                .expect("the message is sent");
            scene.answer_after(&phone, before);
        }
    }
    let ledger = scene.home.ledger();
    let mut senders = ledger.texts("SELECT sender FROM registration");
    senders.sort();
    let mut numbers = vec![scene.customer(0).1.number().to_owned(), scene.customer(1).1.number().to_owned()];
    numbers.sort();
    assert_eq!(senders, numbers, "both are known by their phone number");
}

#[test]
fn the_same_message_again_changes_nothing() {
    let scene = Scene::new();
    let _bot = scene.run();
    let (ani, phone) = scene.customer(0);
    scene.choose_foodstation(&phone);
    let id = scene.say(&phone, &ani.registration_text(0));
    scene.answer_after(&phone, 2);
    let message = wa::Message { conversation: Some(ani.registration_text(0)), ..Default::default() };
    phone
        .send(scene.operator.number(), message, SendAs { id: Some(id), ..SendAs::default() })
        .expect("sent again");
    // Whatever the repetition did, it did it before the next message is answered.
    scene.ask(&phone, "2");
    assert_eq!(phone.shown().len(), 4, "choice, place, registration, list: {:#?}", phone.shown());
    // The server passes a repeated id on only once: the phone could not show a second answer.
    assert_eq!(scene.server.resent(), 0, "no answer left the bot twice");
    assert_eq!(scene.home.ledger().count("SELECT count(*) FROM registration"), 1);
}

#[test]
fn more_new_customers_than_the_bot_has_pre_keys_are_all_served_and_the_keys_refilled() {
    let scene = Scene::new();
    let _bot = scene.run();
    let made = || scene.home.ledger().count("SELECT max(id) FROM wa_prekey WHERE uploaded = 1");
    assert_eq!(made(), PRE_KEYS as i64, "no more were uploaded at first");
    let (_, phones): (Vec<_>, Vec<_>) = (0..PRE_KEYS + 10).map(|n| scene.customer(n)).unzip();
    for phone in &phones {
        scene.say(phone, "1");
    }
    for phone in &phones {
        scene.answer_after(phone, 0);
    }
    until(|| (made() > PRE_KEYS as i64).then_some(())).expect("WhatsApp has further keys");
}

#[test]
fn a_tls_connection_works_as_well() {
    let server =
        WhatsApp::start(Options { tls: true, ..Options::default() }).expect("WhatsApp's side starts");
    let folder = tempfile::tempdir().expect("a folder");
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, server.ca_pem().expect("a certificate authority")).expect("written");
    let home = Home::with(&server, &format!("\n[network]\nca_file = {:?}\n", ca.display().to_string()));
    let operator = server.phone("Operator").expect("a phone");
    home.pair(&operator);
    let scene = Scene { server, home, operator };
    let _bot = scene.run();
    let (_, phone) = scene.customer(0);
    scene.ask(&phone, "1");
    wait_for(&phone, |shown| (shown.len() == 1).then_some(()));
}

fn buffa_field<T: Default>(message: T) -> whatsapp_rust::buffa::MessageField<T> {
    whatsapp_rust::buffa::MessageField::some(message)
}

#[test]
fn data_sent_again_is_called_known_and_a_correction_of_it_is_not() {
    super::scene::enough_of_today();
    let scene = Scene::new();
    let _bot = scene.run();
    let (ani, phone) = scene.customer(0);
    scene.choose_foodstation(&phone);
    let text = ani.registration_text(0);
    scene.ask(&phone, &text);
    let again = scene.ask(&phone, &text);
    assert!(again.contains("tidak perlu dikirim ulang") && !again.contains("perbaiki"), "{again}");
    let corrected = text.replace(&ani.person(0).nik, &ani.person(1).nik);
    assert_ne!(corrected, text);
    let refused = scene.ask(&phone, &corrected);
    assert!(refused.contains("Nomor kartu ini sudah Anda daftarkan"), "{refused}");
    assert_eq!(scene.home.ledger().count("SELECT count(*) FROM registration"), 1);
}
