//! The conventions that other clients' test suites expect of a mock server: accounts by name, linking
//! over HTTP, names that switch behaviours, presence and typing.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;
use testbed::baileys::{Baileys, PATIENCE};
use testbed::interrupt::wait_until;
use testbed::{Options, WhatsApp};

/// A client of that name, linked over HTTP as a foreign test suite does it, and its `open` event.
fn link_over_http(server: &WhatsApp, name: Option<&str>) -> (Baileys, serde_json::Value) {
    let mut baileys = Baileys::start().unwrap();
    baileys.command(json!({ "do": "connect", "url": server.url(), "name": name })).unwrap();
    let qr = baileys.wait("qr", |_| true).unwrap();
    let text = qr["text"].as_str().unwrap();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let head = "POST /admin/mock-phone/scan-qr HTTP/1.1\r\nhost: test";
    write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{text}", text.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    let open = baileys.wait("open", |_| true).unwrap();
    (baileys, open)
}

/// User part and companion id of the JID that a client got.
fn user_and_device(open: &serde_json::Value) -> (String, u16) {
    let (user, device) = open["jid"].as_str().unwrap().split_once('@').unwrap().0.split_once(':').unwrap();
    (user.to_owned(), device.parse().unwrap())
}

#[test]
fn clients_of_one_name_are_companions_of_one_account_and_all_get_its_messages() {
    let server = WhatsApp::start(Options::default()).unwrap();
    let (mut first, opened_first) = link_over_http(&server, Some("Budi"));
    let (mut second, opened_second) = link_over_http(&server, Some("Budi"));
    let (mut other, opened_other) = link_over_http(&server, Some("Citra"));
    let budi = server.phone("Budi").unwrap();
    assert_eq!(user_and_device(&opened_first), (budi.number().to_owned(), 1));
    assert_eq!(user_and_device(&opened_second), (budi.number().to_owned(), 2));
    assert_eq!(user_and_device(&opened_other).1, 1);
    assert_eq!(server.phones().len(), 2);

    let ani = server.phone("Ani").unwrap();
    let id = ani.send_text(budi.number(), "halo Budi").unwrap();
    for companion in [&mut first, &mut second] {
        assert_eq!(companion.wait("message", |message| message["id"] == *id).unwrap()["text"], "halo Budi");
    }
    // Also what a client sends, and what one of them writes itself.
    let id = other.send(budi.number(), "halo juga").unwrap();
    for companion in [&mut first, &mut second] {
        assert_eq!(companion.wait("message", |message| message["id"] == *id).unwrap()["text"], "halo juga");
    }
    let id = first.send(ani.number(), "halo Ani").unwrap();
    let copy = second.wait("message", |message| message["id"] == *id).unwrap();
    assert_eq!((&copy["text"], &copy["fromMe"]), (&json!("halo Ani"), &json!(true)));
    assert_eq!(ani.wait_for(|shown| shown.id == id, PATIENCE).unwrap().text, "halo Ani");
}

#[test]
fn a_client_without_a_name_gets_an_account_of_its_own_and_a_name() {
    let server = WhatsApp::start(Options::default()).unwrap();
    let opened = [link_over_http(&server, None).1, link_over_http(&server, None).1];
    let phones = server.phones();
    assert_eq!(phones.len(), 2);
    for (phone, open) in phones.iter().zip(opened) {
        assert_eq!(user_and_device(&open), (phone.number().to_owned(), 1));
        assert!(!phone.push_name().is_empty());
        assert_eq!(open["name"], *phone.push_name());
        assert_eq!(phone.name(), "");
    }
}

#[test]
fn a_restricted_account_refuses_strangers_until_it_has_written_itself() {
    let server = WhatsApp::start(Options::default()).unwrap();
    let (mut baileys, _) = link_over_http(&server, Some("Budi"));
    let budi = server.phone("Budi").unwrap();
    for name in ["restricted:Ani", "scenario:restricted,cs_enabled=0:Citra"] {
        let restricted = server.phone(name).unwrap();
        let refused = baileys.send(restricted.number(), "siapa ini?").unwrap();
        let ack = baileys.wait("ack", |ack| ack["id"] == *refused).unwrap();
        assert_eq!((&ack["class"], &ack["error"]), (&json!("message"), &json!("463")));
        assert!(restricted.shown().is_empty());

        // It comes with the token that opens the way back.
        let id = restricted.send_text(budi.number(), "halo").unwrap();
        baileys.wait("message", |message| message["id"] == *id).unwrap();
        let answer = baileys.send(restricted.number(), "halo juga").unwrap();
        restricted.wait_for(|shown| shown.id == answer, PATIENCE).unwrap();
    }
}

#[test]
fn a_scenario_in_a_name_is_a_fault_on_that_account_alone() {
    let server = WhatsApp::start(Options::default()).unwrap();
    let ani = server.phone("Ani").unwrap();
    let twice = server.phone("scenario:duplicate=1,delay=100:Budi").unwrap();
    let refused = server.phone("scenario:reject=479:Citra").unwrap();
    let id = ani.send_text(twice.number(), "satu").unwrap();
    assert!(twice.shown().is_empty(), "it comes later");
    assert_eq!(twice.wait_for(|shown| shown.id == id && shown.copies == 2, PATIENCE).unwrap().text, "satu");
    let id = ani.send_text(refused.number(), "dua").unwrap();
    assert_eq!(refused.wait_for(|shown| shown.id == id, PATIENCE).unwrap().copies, 1);

    let (mut client, _) = link_over_http(&server, Some("scenario:reject=479:Citra"));
    let id = client.send(ani.number(), "tiga").unwrap();
    assert_eq!(client.wait("ack", |ack| ack["id"] == *id).unwrap()["error"], "479");
    assert!(ani.shown().is_empty());
}

#[test]
fn presence_typing_and_reading_reach_the_other_side() {
    let server = WhatsApp::start(Options::default()).unwrap();
    let (mut ani, _) = link_over_http(&server, Some("Ani"));
    let (mut budi, _) = link_over_http(&server, Some("Budi"));
    let (anis, budis) = (server.phone("Ani").unwrap(), server.phone("Budi").unwrap());
    let ani_s_jid = format!("{}@s.whatsapp.net", anis.number());
    let sees = |budi: &mut Baileys, state: &str| {
        let next = budi.wait("presence", |_| true).unwrap();
        assert_eq!(next, json!({ "event": "presence", "of": ani_s_jid, "state": state }));
    };

    // Who subscribes hears at once how it stands, and of every change.
    ani.command(json!({ "do": "presence", "available": false })).unwrap();
    budi.command(json!({ "do": "subscribe", "to": anis.number() })).unwrap();
    sees(&mut budi, "unavailable");
    ani.command(json!({ "do": "presence", "available": true })).unwrap();
    sees(&mut budi, "available");

    // Baileys calls whoever paused available.
    ani.command(json!({ "do": "typing", "to": budis.number(), "on": true })).unwrap();
    sees(&mut budi, "composing");
    assert!(budis.sees_typing(anis.number()));
    ani.command(json!({ "do": "typing", "to": budis.number(), "on": false })).unwrap();
    sees(&mut budi, "available");
    assert!(!budis.sees_typing(anis.number()));

    // Who comes online hears who is typing.
    budi.command(json!({ "do": "drop" })).unwrap();
    budi.wait("close", |_| true).unwrap();
    ani.command(json!({ "do": "typing", "to": budis.number(), "on": true })).unwrap();
    wait_until("Ani to type", PATIENCE, || Ok(budis.sees_typing(anis.number()).then_some(()))).unwrap();
    budi.command(json!({ "do": "reconnect" })).unwrap();
    sees(&mut budi, "composing");

    let id = ani.send(budis.number(), "halo").unwrap();
    budi.wait("message", |message| message["id"] == *id).unwrap();
    budi.command(json!({ "do": "read", "chat": anis.number(), "id": id })).unwrap();
    const READ: u64 = 4;
    ani.wait("receipt", |receipt| receipt["id"] == *id && receipt["status"] == READ).unwrap();

    let citra = server.phone("Citra").unwrap();
    let id = citra.send_text(budis.number(), "halo").unwrap();
    budi.wait("message", |message| message["id"] == *id).unwrap();
    assert!(!citra.read(&id));
    budi.command(json!({ "do": "read", "chat": citra.number(), "id": id })).unwrap();
    wait_until("Citra to see that Budi read it", PATIENCE, || Ok(citra.read(&id).then_some(()))).unwrap();
}
