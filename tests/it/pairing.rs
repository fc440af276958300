//! Linking the bot to a phone, losing the link, linking again.

use testbed::{Fault, Options, WhatsApp};

use super::bot::Home;
use super::scene::{Scene, enough_of_today};

#[test]
fn the_eight_letter_code_pairs_as_well_as_the_qr_code() {
    let server = WhatsApp::start(Options::default()).expect("WhatsApp's side starts");
    let home = Home::new(&server);
    let operator = server.phone("Operator").expect("a phone");
    let mut pairing = home.start(&["pair", "--phone", operator.number()]);
    let code = pairing.wait_for("link code", |lines| lines.iter().find_map(|line| link_code(line)));
    operator.enter_link_code(&code).expect("the phone accepts the code");
    let status = pairing.wait();
    assert!(status.success(), "{status}\n{}", pairing.output());
    assert_eq!(pairing.qr(), None, "who asks for a link code is shown no QR code");

    let scene = Scene { server, home, operator };
    let _bot = scene.run();
    let (_, phone) = scene.customer(0);
    scene.ask(&phone, "1");
}

#[test]
fn a_connection_lost_while_the_phone_is_waited_for_brings_a_new_code() {
    let server = WhatsApp::start(Options::default()).expect("WhatsApp's side starts");
    let home = Home::new(&server);
    let operator = server.phone("Operator").expect("a phone");
    let mut pairing = home.start(&["pair", "--phone", operator.number()]);
    let void = pairing.wait_for("link code", |lines| lines.iter().find_map(|line| link_code(line)));
    server.fault(Fault::Drop).expect("the fault is set");
    let code = pairing.wait_for("second link code", |lines| {
        lines.iter().filter_map(|line| link_code(line)).find(|code| *code != void)
    });
    operator.enter_link_code(&code).expect("the phone accepts the second code");
    assert!(pairing.wait().success(), "{}", pairing.output());
}

#[test]
fn pairing_a_bot_that_is_linked_says_so_and_changes_nothing() {
    let scene = Scene::new();
    let mut pairing = scene.home.start(&["pair"]);
    assert!(pairing.wait().success(), "{}", pairing.output());
    // Its last line may still be on its way when it has ended.
    let said = pairing.last_words();
    assert!(said.contains("Bot sudah tertaut"), "{said}");
    assert_eq!(scene.operator.companions().len(), 1);
}

#[test]
fn a_bot_that_was_logged_out_while_it_was_off_can_be_paired_again() {
    let scene = Scene::new();
    scene.operator.unlink_companions();
    let mut pairing = scene.home.start(&["pair"]);
    let qr = pairing.wait_for_qr();
    scene.operator.scan_qr(&qr).expect("the phone accepts the code");
    assert!(pairing.wait().success(), "{}", pairing.output());
    let _bot = scene.run();
    let (_, phone) = scene.customer(0);
    scene.ask(&phone, "1");
}

#[test]
fn a_session_survives_restarts() {
    let scene = Scene::new();
    let (_, phone) = scene.customer(0);
    for _ in 0..3 {
        let bot = scene.run();
        scene.ask(&phone, "1");
        let (status, _) = bot.terminate();
        assert!(status.success(), "{status}");
    }
    assert_eq!(scene.operator.companions().len(), 1, "one linked device, not one per start");
    assert_eq!(phone.failed_decryptions(), 0);
}

#[test]
fn the_qr_code_is_drawn_anew_when_it_rotates() {
    let server = WhatsApp::start(Options::default()).expect("WhatsApp's side starts");
    let home = Home::new(&server);
    let operator = server.phone("Operator").expect("a phone");
    let mut pairing = home.start(&["pair"]);
    let first = pairing.wait_for_qr();
    // The first code of a set lives for a minute: the longest wait of all tests.
    let second = pairing.wait_for_qr_after(&first);
    operator.scan_qr(&second).expect("the phone accepts the second code");
    assert!(pairing.wait().success());
}

#[test]
fn logged_out_from_the_phone_it_says_so_keeps_all_data_and_pairs_again() {
    enough_of_today();
    let scene = Scene::new();
    let bot = scene.run();
    let (ani, phone) = scene.customer(0);
    scene.choose_foodstation(&phone);
    scene.ask(&phone, &ani.registration_text(0));

    scene.operator.unlink_companions();
    bot.wait_for_line("dikeluarkan");
    let qr = bot.wait_for_qr();
    assert_eq!(scene.home.ledger().count("SELECT count(*) FROM registration"), 1);
    scene.operator.scan_qr(&qr).expect("the phone accepts the new code");
    bot.wait_until_online_again();
    let answer = scene.ask(&phone, "2");
    assert!(answer.contains(&ani.person(0).nama), "{answer}");
}

/// Eight characters of the link code's alphabet, shown as two groups of four.
pub fn link_code(line: &str) -> Option<String> {
    line.split_whitespace().find_map(|word| {
        let code: String = word.chars().filter(|c| *c != '-').collect();
        let valid = word.len() == 9
            && word.as_bytes()[4] == b'-'
            && code.chars().all(|c| "123456789ABCDEFGHJKLMNPQRSTVWXYZ".contains(c));
        valid.then_some(code)
    })
}
