//! The server and its phones against Baileys, an independent client.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::baileys::{Baileys, PATIENCE};
use testbed::interrupt::wait_until;
use testbed::{Addressing, Fault, Handset, Options, SendAs, WhatsApp, text_message};

/// A server, Budi's phone, and a Baileys client linked to it.
fn linked() -> (WhatsApp, Handset, Baileys) {
    let server = WhatsApp::start(Options::default()).unwrap();
    let (budi, baileys) = link(&server, "Budi");
    (server, budi, baileys)
}

fn link(server: &WhatsApp, name: &str) -> (Handset, Baileys) {
    let phone = server.phone(name).unwrap();
    let mut baileys = Baileys::start().unwrap();
    baileys.link(&server.url(), name, |qr| phone.scan_qr(qr).map(drop)).unwrap();
    server.wait_online(phone.number(), PATIENCE).unwrap();
    (phone, baileys)
}

/// As [`link`], with a client that has other times than it usually has.
fn link_impatient(server: &WhatsApp, phone: &Handset, times: Value) -> Baileys {
    let mut baileys = Baileys::start().unwrap();
    let mut connect = json!({ "do": "connect", "url": server.url(), "name": phone.name() });
    connect.as_object_mut().unwrap().extend(times.as_object().unwrap().clone());
    baileys.command(connect).unwrap();
    let qr = baileys.wait("qr", |_| true).unwrap();
    phone.scan_qr(qr["text"].as_str().unwrap()).unwrap();
    baileys.wait("open", |_| true).unwrap();
    server.wait_online(phone.number(), PATIENCE).unwrap();
    baileys
}

#[test]
fn messages_pass_both_ways_in_both_addressings() {
    let (server, budi, mut baileys) = linked();
    let ani = server.phone("Ani").unwrap();

    for (addressing, own) in [(Addressing::Pn, ani.number()), (Addressing::Lid, ani.lid())] {
        let how = SendAs { id: None, addressing };
        let id = ani.send(budi.number(), text_message("halo Budi"), how).unwrap();
        let got = baileys.wait("message", |message| message["id"] == *id).unwrap();
        assert_eq!(got["text"], "halo Budi");
        assert!(got["from"].as_str().unwrap().starts_with(own), "{got}");
        ani.wait_delivered(&id, PATIENCE).unwrap();
    }
    assert!(budi.shown().iter().all(|shown| shown.from == ani.number() && shown.copies == 1));
    assert_eq!(budi.shown().len(), 2);

    for to in [ani.number().to_owned(), format!("{}@lid", ani.lid())] {
        let id = baileys.send(&to, "halo Ani").unwrap();
        let shown = ani.wait_for(|shown| shown.id == id, PATIENCE).unwrap();
        assert_eq!((shown.text.as_str(), shown.from.as_str(), shown.copies), ("halo Ani", budi.number(), 1));
        // Its own phone sees what the companion sent, in the right chat.
        let own = budi.wait_for(|shown| shown.id == id, PATIENCE).unwrap();
        assert_eq!((own.from_me, own.chat.as_str()), (true, ani.number()));
        baileys
            .wait("receipt", |receipt| receipt["id"] == *id && receipt["status"].as_u64() >= Some(3))
            .unwrap();
    }
    assert_eq!(ani.failed_decryptions() + budi.failed_decryptions(), 0);
}

#[test]
fn what_came_while_a_client_was_away_is_delivered_in_order_and_once() {
    let (server, budi, mut baileys) = linked();
    let ani = server.phone("Ani").unwrap();
    baileys.command(json!({ "do": "drop" })).unwrap();
    baileys.wait("close", |_| true).unwrap();
    let ids: Vec<String> =
        (1..=5).map(|n| ani.send_text(budi.number(), &format!("pesan {n}")).unwrap()).collect();
    assert_eq!(server.queue_len(budi.number()).unwrap(), 5);
    assert!(!ani.delivered(&ids[4]));

    baileys.command(json!({ "do": "reconnect" })).unwrap();
    for id in &ids {
        let next = baileys.wait("message", |_| true).unwrap();
        assert_eq!(next["id"], **id);
    }
    for id in &ids {
        ani.wait_delivered(id, PATIENCE).unwrap();
    }
    assert_eq!(server.queue_len(budi.number()).unwrap(), 0);
    assert_eq!(baileys.leftover("message").len(), 0);
}

#[test]
fn a_spoiled_message_is_asked_for_again_and_arrives() {
    let (server, budi, mut baileys) = linked();
    let ani = server.phone("Ani").unwrap();
    // A session first, so that both kinds of ciphertext get spoiled below.
    let first = ani.send_text(budi.number(), "satu").unwrap();
    ani.wait_delivered(&first, PATIENCE).unwrap();

    server.fault_on(budi.number(), Fault::Corrupt { count: Some(1) }).unwrap();
    let id = ani.send_text(budi.number(), "dua").unwrap();
    let got = baileys.wait("message", |message| message["id"] == *id).unwrap();
    assert_eq!(got["text"], "dua");
    assert!(ani.asked_again(&id));

    // And the other way: the phone cannot read it at first and asks the companion.
    server.fault_on(ani.number(), Fault::Corrupt { count: Some(1) }).unwrap();
    let id = baileys.send(ani.number(), "tiga").unwrap();
    assert_eq!(ani.wait_for(|shown| shown.id == id, PATIENCE).unwrap().text, "tiga");
    assert_eq!(ani.failed_decryptions(), 1);
}

#[test]
fn a_client_links_by_code_and_a_wrong_code_fails_cleanly() {
    let server = WhatsApp::start(Options::default()).unwrap();
    let budi = server.phone("Budi").unwrap();
    let mut baileys = Baileys::start().unwrap();
    let connect = json!({
        "do": "connect", "url": server.url(), "name": "Budi", "number": budi.number(), "code": "ABCD1234"
    });
    baileys.command(connect).unwrap();
    baileys.wait("code", |event| event["code"] == "ABCD1234").unwrap();
    budi.enter_link_code("ABCD-1234").unwrap();
    baileys.wait("open", |_| true).unwrap();
    server.wait_online(budi.number(), PATIENCE).unwrap();

    let tono = server.phone("Tono").unwrap();
    let mut other = Baileys::start().unwrap();
    let connect = json!({
        "do": "connect", "url": server.url(), "number": tono.number(), "code": "ABCD1234"
    });
    other.command(connect).unwrap();
    other.wait("code", |_| true).unwrap();
    let refusal = tono.enter_link_code("ABCD1235").unwrap_err().to_string();
    assert!(refusal.contains("code"), "{refusal}");
    assert!(tono.companions().is_empty());
}

#[test]
fn unlinking_from_the_phone_logs_the_client_out() {
    let (server, budi, mut baileys) = linked();
    budi.unlink_companions();
    let close = baileys.wait("close", |_| true).unwrap();
    assert_eq!(close["statusCode"], 401);
    // Its login is refused from now on.
    baileys.command(json!({ "do": "reconnect" })).unwrap();
    let close = baileys.wait("close", |_| true).unwrap();
    assert_eq!(close["statusCode"], 401);
    assert!(server.devices_online(budi.number()).unwrap().is_empty());
}

#[test]
fn two_clients_talk_with_each_other_and_in_a_group() {
    let server = WhatsApp::start(Options::default()).unwrap();
    let (budi, mut budis) = link(&server, "Budi");
    let (citra, mut citras) = link(&server, "Citra");

    let id = budis.send(citra.number(), "halo Citra").unwrap();
    let got = citras.wait("message", |message| message["id"] == *id).unwrap();
    assert_eq!(got["text"], "halo Citra");
    let id = citras.send(budi.number(), "halo Budi").unwrap();
    budis.wait("message", |message| message["id"] == *id && message["fromMe"] == false).unwrap();

    let group = server.group("Sembako", &[&budi, &citra], Addressing::Lid).unwrap();
    let id = budis.send(&format!("{group}@g.us"), "halo semua").unwrap();
    let got = citras.wait("message", |message| message["id"] == *id).unwrap();
    assert_eq!(got["text"], "halo semua");
    let id = citras.send(&format!("{group}@g.us"), "halo juga").unwrap();
    let got = budis.wait("message", |message| message["id"] == *id).unwrap();
    assert_eq!(got["chat"], format!("{group}@g.us"));
}

#[test]
fn stream_errors_and_failures_end_the_connection_with_their_code() {
    let (server, budi, mut baileys) = linked();
    for (fault, code) in [(Fault::stream_error(503), 503), (Fault::replaced(), 440), (Fault::Drop, 428)] {
        server.fault_on(budi.number(), fault).unwrap();
        let close = baileys.wait("close", |_| true).unwrap();
        assert_eq!(close["statusCode"], code);
        baileys.command(json!({ "do": "reconnect" })).unwrap();
        baileys.wait("open", |_| true).unwrap();
        server.wait_online(budi.number(), PATIENCE).unwrap();
    }
    let failing = Fault::FailLogin { reason: 503, attrs: Default::default(), count: Some(1) };
    server.fault_on(budi.number(), failing).unwrap();
    server.fault_on(budi.number(), Fault::Drop).unwrap();
    for expected in [428, 503] {
        let close = baileys.wait("close", |_| true).unwrap();
        assert_eq!(close["statusCode"], expected);
        baileys.command(json!({ "do": "reconnect" })).unwrap();
    }
    baileys.wait("open", |_| true).unwrap();
}

#[test]
fn delayed_duplicated_and_overtaken_messages_arrive_as_commanded() {
    let (server, budi, mut baileys) = linked();
    let ani = server.phone("Ani").unwrap();
    let first = ani.send_text(budi.number(), "satu").unwrap();
    baileys.wait("message", |message| message["id"] == *first).unwrap();

    server.fault_on(budi.number(), Fault::Reorder { count: Some(1) }).unwrap();
    let held = ani.send_text(budi.number(), "dua").unwrap();
    let overtaking = ani.send_text(budi.number(), "tiga").unwrap();
    assert_eq!(baileys.wait("message", |_| true).unwrap()["id"], *overtaking);
    assert_eq!(baileys.wait("message", |_| true).unwrap()["id"], *held);

    server.fault_on(budi.number(), Fault::Duplicate { count: Some(1) }).unwrap();
    server.fault_on(budi.number(), Fault::Delay { ms: 300 }).unwrap();
    let sent_at = Instant::now();
    let late = ani.send_text(budi.number(), "empat").unwrap();
    baileys.wait("message", |message| message["id"] == *late).unwrap();
    assert!(sent_at.elapsed() >= Duration::from_millis(300));
    ani.wait_delivered(&late, PATIENCE).unwrap();
    for copy in ["the first", "the second"] {
        baileys.wait("stanza", |stanza| stanza["id"] == *late).expect(copy);
    }
    server.clear_faults();

    server.fault_on(budi.number(), Fault::HoldOffline).unwrap();
    server.fault_on(budi.number(), Fault::Duplicate { count: Some(1) }).unwrap();
    let waiting = ani.send_text(budi.number(), "lima").unwrap();
    assert_eq!(server.queue_len(budi.number()).unwrap(), 2);
    server.clear_faults();
    baileys.wait("message", |message| message["id"] == *waiting).unwrap();
    for copy in ["the first", "the second"] {
        baileys.wait("stanza", |stanza| stanza["id"] == *waiting).expect(copy);
    }
    server.fault_on(budi.number(), Fault::Replay { id: waiting }).unwrap();
    let last = ani.send_text(budi.number(), "enam").unwrap();
    baileys.wait("message", |message| message["id"] == *last).unwrap();
    assert!(baileys.leftover("message").is_empty(), "a repeated message was taken for a new one");
}

/// A client that was just linked has still to acknowledge its phone's key.
fn wait_for_an_empty_queue(server: &WhatsApp, phone: &Handset) {
    let empty = || Ok((server.queue_len(phone.number())? == 0).then_some(()));
    wait_until("the client to have read its queue", PATIENCE, empty).unwrap();
}

#[test]
fn a_deaf_connection_works_but_hears_nothing_until_the_next_login() {
    let (server, budi, mut baileys) = linked();
    let ani = server.phone("Ani").unwrap();
    let logins = server.logins(budi.number()).unwrap();
    wait_for_an_empty_queue(&server, &budi);
    server.fault_on(budi.number(), Fault::Deaf).unwrap();
    let unheard = ani.send_text(budi.number(), "halo?").unwrap();
    // Its own messages are taken, acknowledged and relayed; the receipts for them are withheld.
    let said = baileys.send(ani.number(), "ada orang?").unwrap();
    baileys.wait("ack", |ack| ack["id"] == *said).unwrap();
    ani.wait_for(|shown| shown.id == said, PATIENCE).unwrap();
    // Whatever was on its way before the acknowledgement has been read by now. What Baileys itself
    // said is among its messages, sooner or later.
    for event in ["stanza", "message"] {
        let heard = baileys.leftover(event);
        assert!(heard.iter().all(|heard| heard["id"] != *unheard), "{heard:?}");
    }
    assert_eq!(server.queue_len(budi.number()).unwrap(), 1);

    server.fault_on(budi.number(), Fault::Drop).unwrap();
    baileys.wait("close", |_| true).unwrap();
    baileys.command(json!({ "do": "reconnect" })).unwrap();
    baileys.wait("message", |message| message["id"] == *unheard).unwrap();
    ani.wait_delivered(&unheard, PATIENCE).unwrap();
    assert_eq!(server.logins(budi.number()).unwrap(), logins + 1);
    // A new connection is not deaf.
    let heard = ani.send_text(budi.number(), "akhirnya").unwrap();
    baileys.wait("message", |message| message["id"] == *heard).unwrap();
}

#[test]
fn a_deaf_connection_hears_what_it_missed_when_the_faults_are_cleared() {
    let (server, budi, mut baileys) = linked();
    let ani = server.phone("Ani").unwrap();
    wait_for_an_empty_queue(&server, &budi);
    server.fault(Fault::Deaf).unwrap();
    let late = ani.send_text(budi.number(), "halo?").unwrap();
    assert_eq!(server.queue_len(budi.number()).unwrap(), 1);
    server.clear_faults();
    baileys.wait("message", |message| message["id"] == *late).unwrap();
    ani.wait_delivered(&late, PATIENCE).unwrap();
}

#[test]
fn a_refused_handshake_and_a_refused_connection_pass_with_their_count() {
    let (server, budi, mut baileys) = linked();
    let (connections, logins) = (server.connections(), server.logins(budi.number()).unwrap());
    server.fault(Fault::RefuseHandshake { count: Some(1) }).unwrap();
    server.fault_on(budi.number(), Fault::Drop).unwrap();
    baileys.wait("close", |_| true).unwrap();
    baileys.command(json!({ "do": "reconnect" })).unwrap();
    baileys.wait("close", |_| true).unwrap();
    server.fault(Fault::Refuse { count: Some(1) }).unwrap();
    baileys.command(json!({ "do": "reconnect" })).unwrap();
    baileys.wait("close", |_| true).unwrap();
    baileys.command(json!({ "do": "reconnect" })).unwrap();
    baileys.wait("open", |_| true).unwrap();
    assert_eq!(server.devices_online(budi.number()).unwrap().len(), 1);
    // Two in vain and one login.
    assert_eq!(server.connections(), connections + 3);
    assert_eq!(server.logins(budi.number()).unwrap(), logins + 1);
}

#[test]
fn a_client_that_logs_out_is_no_device_of_the_account_any_more() {
    let (server, budi, mut baileys) = linked();
    baileys.command(json!({ "do": "logout" })).unwrap();
    baileys.wait("close", |close| close["statusCode"] == 401).unwrap();
    let ani = server.phone("Ani").unwrap();
    // What is sent now reaches the phone alone.
    let id = ani.send_text(budi.number(), "halo").unwrap();
    budi.wait_for(|shown| shown.id == id, PATIENCE).unwrap();
    assert!(budi.companions().is_empty());
}

#[test]
fn lost_sessions_cost_no_message() {
    let (server, budi, mut baileys) = linked();
    let ani = server.phone("Ani").unwrap();
    let first = ani.send_text(budi.number(), "satu").unwrap();
    baileys.wait("message", |message| message["id"] == *first).unwrap();
    let answer = baileys.send(ani.number(), "dua").unwrap();
    ani.wait_for(|shown| shown.id == answer, PATIENCE).unwrap();

    baileys.command(json!({ "do": "forget_sessions" })).unwrap();
    let id = ani.send_text(budi.number(), "tiga").unwrap();
    let got = baileys.wait("message", |message| message["id"] == *id).unwrap();
    assert_eq!(got["text"], "tiga");

    ani.forget_sessions(budi.number()).unwrap();
    let id = ani.send_text(budi.number(), "empat").unwrap();
    baileys.wait("message", |message| message["id"] == *id).unwrap();
    assert_eq!(server.resent(), 0);
}

#[test]
fn unanswered_pings_make_a_client_give_its_connection_up() {
    let server = WhatsApp::start(Options::default()).unwrap();
    let budi = server.phone("Budi").unwrap();
    let mut baileys = link_impatient(&server, &budi, json!({ "keepAliveMs": 200 }));
    baileys.wait("pong", |_| true).unwrap();

    server.fault_on(budi.number(), Fault::IgnorePings).unwrap();
    // Everything else is answered meanwhile.
    let ani = server.phone("Ani").unwrap();
    let id = baileys.send(ani.number(), "halo").unwrap();
    ani.wait_for(|shown| shown.id == id, PATIENCE).unwrap();
    const CONNECTION_LOST: u16 = 408;
    assert_eq!(baileys.wait("close", |_| true).unwrap()["statusCode"], CONNECTION_LOST);

    server.clear_faults();
    while baileys.take("pong").is_some() {}
    baileys.command(json!({ "do": "reconnect" })).unwrap();
    baileys.wait("pong", |_| true).unwrap();
}

#[test]
fn a_request_can_be_refused_or_left_without_an_answer() {
    let server = WhatsApp::start(Options::default()).unwrap();
    let budi = server.phone("Budi").unwrap();
    let patience = Duration::from_secs(5);
    let mut baileys = link_impatient(&server, &budi, json!({ "queryMs": patience.as_millis() as u64 }));
    let ani = server.phone("Ani").unwrap();
    let iq = |xmlns: &str, code| Fault::Iq { xmlns: xmlns.into(), code, count: None };
    // To write to somebody for the first time, a client asks for the devices and for their keys.
    for (name, xmlns) in [("Ani", "encrypt"), ("Citra", "usync")] {
        let other = server.phone(name).unwrap();
        server.fault_on(budi.number(), iq(xmlns, Some(503))).unwrap();
        baileys.command(json!({ "do": "send", "to": other.number(), "text": "halo" })).unwrap();
        assert_eq!(baileys.wait("error", |_| true).unwrap()["message"], "fault", "{xmlns}");
        assert!(other.shown().is_empty());
        server.clear_faults();
        let id = baileys.send(other.number(), "halo lagi").unwrap();
        other.wait_for(|shown| shown.id == id, PATIENCE).unwrap();
    }

    let create = json!({ "do": "create_group", "subject": "Sembako", "members": [ani.number()] });
    server.fault_on(budi.number(), iq("w:g2", None)).unwrap();
    let asked = Instant::now();
    baileys.command(create.clone()).unwrap();
    baileys.wait("error", |error| error["command"] == "create_group").unwrap();
    assert!(asked.elapsed() >= patience, "it was answered");
    server.clear_faults();
    baileys.command(create).unwrap();
    baileys.wait("group", |_| true).unwrap();
}

#[test]
fn a_swallowed_ack_is_missing_but_what_it_was_for_arrives() {
    let (server, budi, mut baileys) = linked();
    let ani = server.phone("Ani").unwrap();
    let first = ani.send_text(budi.number(), "satu").unwrap();
    baileys.wait("ack", |ack| ack["class"] == "receipt" && ack["id"] == *first).unwrap();

    server.fault_on(budi.number(), Fault::SwallowAcks { class: "receipt".into(), count: Some(1) }).unwrap();
    let second = ani.send_text(budi.number(), "dua").unwrap();
    ani.wait_delivered(&second, PATIENCE).unwrap();
    assert_eq!(server.queue_len(budi.number()).unwrap(), 0);
    // Acknowledgements come in order: with the third one here, the second will not come any more.
    let third = ani.send_text(budi.number(), "tiga").unwrap();
    baileys.wait("ack", |ack| ack["class"] == "receipt" && ack["id"] == *third).unwrap();
    assert!(baileys.leftover("ack").iter().all(|ack| ack["id"] != *second));

    server.fault_on(budi.number(), Fault::SwallowAcks { class: "message".into(), count: Some(1) }).unwrap();
    let swallowed = baileys.send(ani.number(), "empat").unwrap();
    ani.wait_for(|shown| shown.id == swallowed, PATIENCE).unwrap();
    let confirmed = baileys.send(ani.number(), "lima").unwrap();
    baileys.wait("ack", |ack| ack["class"] == "message" && ack["id"] == *confirmed).unwrap();
    let leftover = baileys.leftover("ack");
    assert!(leftover.iter().all(|ack| ack["class"] != "message" || ack["id"] != *swallowed), "{leftover:?}");
}

#[test]
fn it_works_over_tls_too() {
    let server = WhatsApp::start(Options { tls: true, ..Options::default() }).unwrap();
    assert!(server.url().starts_with("wss://"));
    assert!(server.ca_pem().unwrap().contains("BEGIN CERTIFICATE"));
    let (budi, mut baileys) = link(&server, "Budi");
    let ani = server.phone("Ani").unwrap();
    let id = baileys.send(ani.number(), "halo").unwrap();
    assert_eq!(ani.wait_for(|shown| shown.id == id, PATIENCE).unwrap().from, budi.number());
}

#[test]
fn phones_and_baileys_read_each_other_in_a_group() {
    let (server, budi, mut baileys) = linked();
    let (ani, citra) = (server.phone("Ani").unwrap(), server.phone("Citra").unwrap());
    let group = server.group("Sembako", &[&ani, &budi, &citra], Addressing::Lid).unwrap();
    // The first brings the sender key, the second is read with it.
    for text in ["satu", "dua"] {
        let id = ani.send_text(&group, text).unwrap();
        let got = baileys.wait("message", |message| message["id"] == *id).unwrap();
        assert_eq!(got["text"], *text);
        assert!(got["from"].as_str().unwrap().starts_with(ani.lid()), "{got}");
        assert_eq!(citra.wait_for(|shown| shown.id == id, PATIENCE).unwrap().text, text);
        ani.wait_delivered(&id, PATIENCE).unwrap();
    }
    for text in ["tiga", "empat"] {
        let id = baileys.send(&format!("{group}@g.us"), text).unwrap();
        for phone in [&ani, &budi, &citra] {
            let shown = phone.wait_for(|shown| shown.id == id, PATIENCE).unwrap();
            assert_eq!((shown.text.as_str(), shown.chat.as_str(), shown.copies), (text, group.as_str(), 1));
        }
    }
    // Who forgot everything starts anew, and who cannot read asks again.
    ani.forget_sessions(budi.number()).unwrap();
    server.fault_on(budi.number(), Fault::Corrupt { count: Some(1) }).unwrap();
    let id = ani.send_text(&group, "lima").unwrap();
    assert_eq!(baileys.wait("message", |message| message["id"] == *id).unwrap()["text"], "lima");
    assert!(ani.asked_again(&id));
    assert_eq!(ani.failed_decryptions() + budi.failed_decryptions() + citra.failed_decryptions(), 0);
}

#[test]
fn a_client_that_asks_for_its_backlog_once_gets_all_of_it() {
    // More than what it asks for and what comes unasked.
    const WAITING: usize = 130;
    let (server, budi, mut baileys) = linked();
    let ani = server.phone("Ani").unwrap();
    baileys.command(json!({ "do": "drop" })).unwrap();
    baileys.wait("close", |_| true).unwrap();
    let ids: Vec<String> =
        (1..=WAITING).map(|n| ani.send_text(budi.number(), &format!("pesan {n}")).unwrap()).collect();
    baileys.command(json!({ "do": "reconnect" })).unwrap();
    for id in &ids {
        assert_eq!(baileys.wait("message", |_| true).unwrap()["id"], **id);
    }
    ani.wait_delivered(&ids[WAITING - 1], PATIENCE).unwrap();
    assert_eq!(server.queue_len(budi.number()).unwrap(), 0);
}
