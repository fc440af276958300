//! Accounts that take a linked device only with a passkey, and accounts that this bot cannot be linked to.

use bot_kjp::clock;
use bot_kjp::pairing::browser::{BUTTON, FIELD};
use serde_json::Value;
use testbed::phone::passkey::Ceremony;
use testbed::{Demand, Fault, Handset, Options, WhatsApp};

use super::bot::{Bot, Home};
use super::browser::Browser;
use super::health::Page;
use super::pairing::link_code;
use super::scene::{Scene, until};

/// What the bot says when it asks for a passkey, when a code is to be compared, and when time is over.
const ASKED: &str = "parseRequestOptionsFromJSON(";
const COMPARE: &str = "Cocokkan dengan kode yang tampil di HP: ";
const TOO_LATE: &str = "Waktu untuk passkey habis";
const REFUSED: &str = "WhatsApp menolak jawaban passkey";
const REFUSED_AGAIN: &str = "WhatsApp menolak lagi jawaban passkey";
const NOBODY_TYPES: &str = "di sini tidak ada yang dapat menjawabnya";
const HOSTED: &str = "Nomor ini tidak dapat ditautkan";

/// How many times faster a bot lives that has to wait for minutes; its connection has to bear that too.
const SPEED: &str = "15";

struct Gated {
    server: WhatsApp,
    home: Home,
    operator: Handset,
}

impl Gated {
    fn new(demand: Demand) -> Self {
        let server = WhatsApp::start(Options::default()).expect("WhatsApp's side starts");
        let home = Home::new(&server);
        let operator = server.phone("Operator").expect("a phone");
        operator.demand_passkey(demand);
        Self { server, home, operator }
    }

    fn fast(demand: Demand) -> Self {
        let mut gated = Self::new(demand);
        gated.home.secret(clock::SPEED_VARIABLE, SPEED);
        gated
    }

    /// The bot at work whose QR code was scanned, and the challenge that it shows.
    fn scanned(&self) -> (Bot, String) {
        let bot = self.home.start_with_keyboard(&["pair"]);
        let qr = bot.wait_for_qr();
        self.operator.scan_qr_only(&qr).expect("the phone takes the code");
        let challenge = nth_challenge(&bot, 1);
        (bot, challenge)
    }

    /// Scans the next QR code; gives the `n`th challenge that the bot shows.
    fn scan_again(&self, bot: &Bot, before: &str, n: usize) -> String {
        let qr = bot.wait_for_qr_after(before);
        self.operator.scan_qr_only(&qr).expect("the phone takes the code");
        nth_challenge(bot, n)
    }

    fn answer(&self, challenge: &str) -> String {
        self.answer_made(challenge, &Ceremony::default())
    }

    fn answer_made(&self, challenge: &str, ceremony: &Ceremony) -> String {
        self.operator.passkey_answer(challenge, ceremony).expect("a passkey")
    }

    /// Sees the rest through: same code on both sides, confirmed, linked, and the bot answers.
    fn finish(self, mut bot: Bot) {
        let line = bot.wait_for_line(COMPARE);
        let code = self.operator.comparison_code().expect("the phone shows a code");
        assert_eq!(line.strip_prefix(COMPARE), Some(code.as_str()), "{line}");
        bot.enter("ya");
        let status = bot.wait();
        assert!(status.success(), "{status}\n{}", bot.output());
        let Self { server, home, operator } = self;
        assert_eq!(operator.companions().len(), 1);
        let scene = Scene { server, home, operator };
        let _bot = scene.run();
        let (_, phone) = scene.customer(0);
        scene.ask(&phone, "1");
    }
}

/// The challenge in the `n`th line for the browser that the bot has shown.
fn nth_challenge(bot: &Bot, n: usize) -> String {
    let line = bot.wait_for("line for the browser", |lines| {
        lines.iter().filter(|line| line.contains(ASKED)).nth(n - 1).cloned()
    });
    let options = line.split_once(ASKED).expect("the options").1;
    let mut values = serde_json::Deserializer::from_str(options).into_iter::<Value>();
    let options = values.next().expect("options").expect("JSON");
    options["challenge"].as_str().expect("a challenge").to_owned()
}

fn wait_for_lines(bot: &Bot, part: &str, count: usize) {
    bot.wait_for(part, |lines| {
        (lines.iter().filter(|line| line.contains(part)).count() >= count).then_some(())
    });
}

#[test]
fn an_account_that_wants_its_passkey_is_linked_by_qr_code() {
    let gated = Gated::new(Demand::default());
    let (mut bot, challenge) = gated.scanned();
    bot.enter(&gated.answer(&challenge));
    assert!(gated.operator.passkey_refusals().is_empty());
    gated.finish(bot);
}

#[test]
fn an_account_that_wants_its_passkey_is_linked_by_link_code_without_any_qr_code() {
    let gated = Gated::new(Demand { options_on_request: true, ..Demand::default() });
    let mut bot = gated.home.start_with_keyboard(&["pair", "--phone", gated.operator.number()]);
    let code = bot.wait_for("link code", |lines| lines.iter().find_map(|line| link_code(line)));
    gated.operator.enter_link_code_only(&code).expect("the phone takes the code");
    let challenge = nth_challenge(&bot, 1);
    assert_eq!(bot.qr(), None);
    bot.enter(&gated.answer(&challenge));
    gated.finish(bot);
}

#[test]
fn on_a_terminal_the_answer_is_pasted_in_as_many_lines_as_the_browser_copies() {
    let gated = Gated::new(Demand::default());
    let mut bot = gated.home.start_on_terminal(&["pair"]);
    let qr = bot.wait_for_qr();
    gated.operator.scan_qr_only(&qr).expect("the phone takes the code");
    let challenge = nth_challenge(&bot, 1);
    let answer: Value = serde_json::from_str(&gated.answer(&challenge)).expect("JSON");
    bot.enter(&serde_json::to_string_pretty(&answer).expect("JSON"));
    gated.finish(bot);
}

/// Everything as the operator does it, but for the hand that copies.
#[test]
fn the_line_for_the_browser_makes_an_answer_that_whatsapp_takes() {
    let gated = Gated::new(Demand::default());
    let (mut bot, _) = gated.scanned();
    let (credential, pkcs8) = gated.operator.passkey_for_a_browser().expect("a passkey");
    let mut browser = Browser::with_passkey(&credential, &pkcs8);
    let line = bot.wait_for_line(ASKED);
    browser.run(&line);
    // Pasted twice, as people do, there is still one button.
    browser.run(&line);
    assert_eq!(browser.run(&format!("document.querySelectorAll('#{BUTTON},#{FIELD}').length")), 2);
    assert_eq!(browser.run(&format!("document.getElementById('{FIELD}').value")), "");

    browser.click(BUTTON);
    let answer = browser.wait_for_text(&format!("document.getElementById('{FIELD}').value"));
    let copied = "document.getElementById('bot-kjp').textContent.includes('tersalin')?'ya':''";
    browser.wait_for_text(copied);
    assert_eq!(browser.run("navigator.clipboard.readText()"), answer.as_str());
    assert!(answer.lines().count() > 5 && answer.lines().all(|line| line.len() < 4000), "{answer}");
    bot.enter(&answer);
    gated.finish(bot);
}

#[test]
fn wrong_answers_are_explained_and_the_right_one_in_many_lines_still_counts() {
    let gated = Gated::new(Demand::default());
    let (mut bot, challenge) = gated.scanned();
    let made = |ceremony| gated.answer_made(&challenge, &ceremony);
    let usual = Ceremony::default;
    let wrong = [
        ("sudah saya klik".to_owned(), "Itu bukan jawaban passkey"),
        (bot.wait_for_line(ASKED), "Itu baris untuk browser"),
        (
            made(Ceremony { origin: "https://example.com".into(), ..usual() }),
            "halaman lain (https://example.com)",
        ),
        (made(Ceremony { rp_id: "example.com".into(), ..usual() }), "bukan milik WhatsApp"),
        (made(Ceremony { flags: 1, ..usual() }), "tanpa sidik jari, wajah, atau PIN"),
        (gated.answer_made("b3RoZXI", &usual()), "permintaan yang lama"),
        ("{\"rawId\":\"AA\"}".to_owned(), "type tidak ada"),
        ("{\"rawId\":\"A A!\"}".to_owned(), "rusak saat disalin"),
    ];
    for (text, explained) in wrong {
        bot.enter(&text);
        bot.wait_for_line(explained);
    }
    assert_eq!(gated.operator.passkey_refusals(), [""; 0], "nothing of it went to WhatsApp");

    // Only WhatsApp can know that a signature is wrong.
    bot.enter(&made(Ceremony { forged: true, ..usual() }));
    bot.wait_for_line(REFUSED);
    assert_eq!(gated.operator.passkey_refusals(), ["the signature is not the passkey's"]);

    let right = gated.answer(&challenge);
    let cut_off = &right[..300];
    bot.enter(cut_off);
    bot.wait_for_line("Jawaban belum lengkap");
    let lines: Vec<&str> =
        right.as_bytes().chunks(70).map(|line| std::str::from_utf8(line).unwrap()).collect();
    bot.enter(&lines.join("\r\n\n"));
    gated.finish(bot);
}

#[test]
fn a_request_that_nobody_answers_in_time_ends_and_linking_begins_anew() {
    let gated = Gated::new(Demand { timeout: 2000, ..Demand::default() });
    let bot = gated.home.start_with_keyboard(&["pair"]);
    let first = bot.wait_for_qr();
    gated.operator.scan_qr_only(&first).expect("the phone takes the code");
    nth_challenge(&bot, 1);
    bot.wait_for_line(TOO_LATE);
    gated.operator.demand_passkey(Demand::default());
    let challenge = gated.scan_again(&bot, &first, 2);
    let mut bot = bot;
    bot.enter(&gated.answer(&challenge));
    gated.finish(bot);
}

#[test]
fn a_challenge_that_whatsapp_no_longer_takes_is_asked_for_anew_after_the_second_refusal() {
    let gated = Gated::new(Demand { challenge_lives: 0, ..Demand::default() });
    let mut bot = gated.home.start_with_keyboard(&["pair"]);
    let first = bot.wait_for_qr();
    gated.operator.scan_qr_only(&first).expect("the phone takes the code");
    let challenge = nth_challenge(&bot, 1);
    bot.enter(&gated.answer(&challenge));
    bot.wait_for_line(REFUSED);
    bot.enter(&gated.answer(&challenge));
    bot.wait_for_line(REFUSED_AGAIN);
    assert_eq!(gated.operator.passkey_refusals(), ["the challenge is older than 0 s"; 2]);
    gated.operator.demand_passkey(Demand::default());
    let challenge = gated.scan_again(&bot, &first, 2);
    bot.enter(&gated.answer(&challenge));
    gated.finish(bot);
}

#[test]
fn a_phone_that_never_answers_the_proof_is_not_waited_for_without_an_end() {
    let gated = Gated::fast(Demand { silent_phone: true, ..Demand::default() });
    let mut bot = gated.home.start_with_keyboard(&["pair"]);
    let first = bot.wait_for_qr();
    gated.operator.scan_qr_only(&first).expect("the phone takes the code");
    let challenge = nth_challenge(&bot, 1);
    bot.enter(&gated.answer(&challenge));
    bot.wait_for_line(TOO_LATE);
    gated.operator.demand_passkey(Demand::default());
    // The client that whatsapp-rust would keep "in progress" for ever is gone.
    let challenge = gated.scan_again(&bot, &first, 2);
    bot.enter(&gated.answer(&challenge));
    gated.finish(bot);
}

#[test]
fn by_link_code_the_passkey_may_take_longer_than_the_qr_codes_last() {
    let gated = Gated::fast(Demand::default());
    let mut bot = gated.home.start_with_keyboard(&["pair", "--phone", gated.operator.number()]);
    let code = bot.wait_for("link code", |lines| lines.iter().find_map(|line| link_code(line)));
    gated.operator.enter_link_code_only(&code).expect("the phone takes the code");
    let challenge = nth_challenge(&bot, 1);
    // whatsapp-rust's words at the end of its codes; without a link code it would hang up now.
    bot.wait_for_line("All QR codes for this session have expired");
    bot.enter(&gated.answer(&challenge));
    let shown = bot.output();
    assert_eq!(shown.lines().filter(|line| link_code(line).is_some()).count(), 1, "{shown}");
    assert_eq!(gated.operator.passkey_demands(), 1);
    gated.finish(bot);
}

#[test]
fn by_qr_code_the_end_of_the_codes_is_told_as_the_end_of_the_time_and_begins_anew() {
    let gated = Gated::fast(Demand::default());
    let mut bot = gated.home.start_with_keyboard(&["pair"]);
    let first = bot.wait_for_qr();
    gated.operator.scan_qr_only(&first).expect("the phone takes the code");
    nth_challenge(&bot, 1);
    // With the steps, and once more shortly before the end.
    wait_for_lines(&bot, "Waktu tinggal", 2);
    bot.wait_for_line(TOO_LATE);
    let challenge = gated.scan_again(&bot, &first, 2);
    bot.enter(&gated.answer(&challenge));
    gated.finish(bot);
}

#[test]
fn a_connection_lost_behind_the_passkey_and_codes_that_differ_begin_anew() {
    let gated = Gated::new(Demand::default());
    let mut bot = gated.home.start_with_keyboard(&["pair"]);
    let first = bot.wait_for_qr();
    gated.operator.scan_qr_only(&first).expect("the phone takes the code");
    nth_challenge(&bot, 1);
    gated.server.fault(Fault::Drop).expect("the fault is set");
    bot.wait_for_line("Koneksi terputus di tengah tautan");

    let second = bot.wait_for_qr_after(&first);
    gated.operator.scan_qr_only(&second).expect("the phone takes the code");
    let challenge = nth_challenge(&bot, 2);
    bot.enter(&gated.answer(&challenge));
    bot.wait_for_line(COMPARE);
    bot.enter("mungkin");
    bot.wait_for_line("Ketik YA");
    bot.enter("tidak");
    bot.wait_for_line("Tautan dibatalkan");
    assert!(gated.operator.companions().is_empty());

    let challenge = gated.scan_again(&bot, &second, 3);
    bot.enter(&gated.answer(&challenge));
    wait_for_lines(&bot, COMPARE, 2);
    bot.enter("YA");
    assert!(bot.wait().success(), "{}", bot.output());
    assert_eq!(gated.operator.companions().len(), 1);
}

#[test]
fn where_nobody_can_type_pair_says_what_to_do_and_ends() {
    let gated = Gated::new(Demand::default());
    for keyboard in [false, true] {
        let mut bot =
            if keyboard { gated.home.start_with_keyboard(&["pair"]) } else { gated.home.start(&["pair"]) };
        let qr = bot.wait_for_qr();
        gated.operator.scan_qr_only(&qr).expect("the phone takes the code");
        if keyboard {
            nth_challenge(&bot, 1);
            bot.hang_up();
        }
        assert_eq!(bot.wait().code(), Some(75), "{}", bot.output());
        let said = bot.last_words();
        assert!(said.contains(NOBODY_TYPES) && said.contains("bot-kjp pair"), "{said}");
    }
}

#[test]
fn a_service_says_who_can_answer_the_passkey_and_goes_on() {
    let mut gated = Gated::new(Demand::default());
    gated.home = Home::with(&gated.server, &Page::new().configuration());
    gated.home.secret(clock::SPEED_VARIABLE, SPEED);
    let bot = gated.home.start(&["run"]);
    let first = bot.wait_for_qr();
    gated.operator.scan_qr_only(&first).expect("the phone takes the code");
    bot.wait_for_line(NOBODY_TYPES);
    bot.wait_for_line(TOO_LATE);
    bot.wait_for_qr_after(&first);
    assert!(!bot.output().contains(ASKED), "nobody can paste into a journal");
    for command in ["status", "doctor"] {
        let told = until(|| {
            let mut command = gated.home.command(&[command]);
            let told = command.env_remove(clock::SPEED_VARIABLE).output().expect("it runs");
            let told = String::from_utf8(told.stdout).expect("UTF-8");
            // The doctor breaks lines.
            let words = told.split_whitespace().collect::<Vec<_>>().join(" ");
            words.contains("WhatsApp meminta passkey sebelum bot boleh tertaut").then_some(words)
        });
        let told = told.unwrap_or_else(|| panic!("{command} says nothing of it; the bot:\n{}", bot.output()));
        assert!(told.contains("jalankan di terminal: sudo bot-kjp pair"), "{told}");
    }
    let (status, _) = bot.terminate();
    assert!(status.success(), "{status}");
}

#[test]
fn a_hosted_account_is_told_with_what_to_do_and_no_more_codes_come() {
    for by_code in [false, true] {
        let server = WhatsApp::start(Options::default()).expect("WhatsApp's side starts");
        let home = Home::new(&server);
        let operator = server.phone("Operator").expect("a phone");
        operator.host();
        let mut arguments = vec!["pair"];
        if by_code {
            arguments.extend(["--phone", operator.number()]);
        }
        let mut bot = home.start(&arguments);
        let refused = if by_code {
            let code = bot.wait_for("link code", |lines| lines.iter().find_map(|line| link_code(line)));
            operator.enter_link_code(&code)
        } else {
            operator.scan_qr(&bot.wait_for_qr())
        };
        let refused = refused.expect_err("whatsapp-rust refuses it").to_string();
        assert!(refused.contains("401"), "{refused}");
        assert_eq!(bot.wait().code(), Some(75), "{}", bot.output());
        let said = bot.last_words();
        assert!(said.contains(HOSTED) && said.contains("Business API"), "{said}");
        assert!(operator.companions().is_empty());

        if !by_code {
            let bot = home.start(&["run"]);
            let first = bot.wait_for_qr();
            operator.scan_qr(&first).expect_err("whatsapp-rust refuses it");
            bot.wait_for_line(HOSTED);
            // Its next try is a day away.
            bot.wait_for_line("the account is hosted by a business's server too");
            assert_eq!(bot.qr().as_deref(), Some(first.as_str()));
            let (status, took) = bot.terminate();
            assert!(status.success() && took.as_secs() < 5, "{status} {took:?}");
        }
    }
}
