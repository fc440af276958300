//! The bot and Baileys, an independent client, as the other phone.

use serde_json::{Value, json};
use testbed::baileys::{Baileys, PATIENCE};
use testbed::customers::Customer;
use testbed::{Fault, Handset};

use super::scene::Scene;

/// A customer who writes with Baileys, linked to a phone of their own.
struct Writer {
    customer: Customer,
    phone: Handset,
    baileys: Baileys,
}

impl Writer {
    fn new(scene: &Scene) -> Self {
        let (customer, phone) = scene.customer(0);
        let mut baileys = Baileys::start().expect("Baileys starts");
        baileys
            .link(&scene.server.url(), customer.name(), |qr| phone.scan_qr(qr).map(drop))
            .expect("Baileys links to the phone by its QR code");
        scene.server.wait_online(phone.number(), PATIENCE).expect("Baileys is logged in");
        Self { customer, phone, baileys }
    }

    /// Sends a text to the chat `to` without waiting for an answer; returns the id.
    fn say(&mut self, to: &str, text: &str) -> String {
        self.baileys.send(to, text).expect("Baileys sends")
    }

    /// Waits for the bot's next answer: its id and text.
    fn answer(&mut self) -> (String, String) {
        let answer = self.baileys.wait("message", is_answer).expect("an answer that Baileys can read");
        let field = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
        (field("id"), field("text"))
    }

    fn ask(&mut self, to: &str, text: &str) -> String {
        self.say(to, text);
        self.answer().1
    }

    fn choose_foodstation(&mut self, to: &str) {
        self.ask(to, "1");
        self.ask(to, "3");
    }

    /// Registers the `n`th person in the chat `to`.
    fn register(&mut self, to: &str, n: usize) {
        let answer = self.ask(to, &self.customer.registration_text(n));
        assert!(answer.contains("berhasil") && answer.contains(&self.customer.person(n).nama), "{answer}");
    }

    /// Checks that there was no further answer, and that the phone shows the same ones.
    fn check(&mut self, answers: usize) {
        let further: Vec<Value> = self.baileys.leftover("message").into_iter().filter(is_answer).collect();
        assert!(further.is_empty(), "one answer per message, and not these as well: {further:#?}");
        let shown = self.phone.shown();
        let shown: Vec<_> = shown.iter().filter(|shown| !shown.from_me).collect();
        assert_eq!(shown.len(), answers, "{shown:#?}");
        assert!(shown.iter().all(|shown| shown.copies == 1));
    }
}

fn is_answer(message: &Value) -> bool {
    message["fromMe"] == false
}

/// The NIKs that the bot has registered for this phone number, in order.
fn registered(scene: &Scene, phone: &Handset) -> Vec<String> {
    scene
        .home
        .ledger()
        .texts(&format!("SELECT no_ktp FROM registration WHERE sender = '{}' ORDER BY id", phone.number()))
}

#[test]
fn baileys_registers_people_by_phone_number_and_by_lid() {
    let scene = Scene::new();
    let bot = scene.run();
    let mut ani = Writer::new(&scene);
    let by_number = scene.operator.number().to_owned();
    let by_lid = format!("{}@lid", scene.operator.lid());
    ani.choose_foodstation(&by_number);
    for (n, to) in [&by_number, &by_lid, &by_number, &by_lid].into_iter().enumerate() {
        ani.register(to, n);
    }
    ani.check(6);
    let _ = bot.terminate();
    let people: Vec<String> = (0..4).map(|n| ani.customer.person(n).nik).collect();
    assert_eq!(registered(&scene, &ani.phone), people, "all under the one phone number");
    assert_eq!(ani.phone.failed_decryptions(), 0);
    assert!(ani.baileys.leftover("undecryptable").is_empty());
}

/// Small messages with the right answer, one for each kind of sloppiness.
const CASES: &str = include_str!("../reading/cases.jsonl");

/// Second names for the people of the cases, so that nobody is called like somebody of another case.
const SECOND_NAMES: [&str; 10] =
    ["Lestari", "Pratama", "Hidayat", "Santoso", "Utami", "Wijaya", "Rahma", "Saputra", "Melati", "Kencana"];

/// Ten cases for one provider, of ten kinds, each with people of its own: text, and who is to be registered, as
/// [`people_of`] reads them.
fn ten_cases(provider: &str) -> Vec<(String, Vec<String>)> {
    let mut kinds = std::collections::HashSet::new();
    let cases = CASES.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let chosen = cases.filter(|case| {
        case["provider"] == *provider
            && case["asking_is_as_good"].is_null()
            && kinds.insert(case["why"].as_str().expect("why").to_owned())
    });
    chosen
        .zip(SECOND_NAMES)
        .enumerate()
        .map(|(number, (case, second_name))| {
            // A card and a NIK count once a day.
            let own = |text: &str| {
                let digits = [
                    ("504948850000", format!("50494885{number:02}00")),
                    ("504948130000", format!("50494813{number:02}00")),
                ];
                let births = [
                    ("31710101019", format!("317101{:02}019", number + 1)),
                    ("31710102029", format!("317101{:02}029", number + 1)),
                ];
                digits.iter().chain(&births).fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
            };
            let written = case["text"].as_str().expect("a text");
            // A number that is written in groups is left as it is.
            let own_of =
                |number: &str| if written.contains(number) { own(number) } else { number.to_owned() };
            let mut text = own(written);
            let mut people = Vec::new();
            for person in case["people"].as_array().expect("people") {
                let field = |name: &str| person[name].as_str().unwrap_or_default();
                let nama = format!("{} {second_name}", field("nama"));
                text = text.replacen(field("nama"), &nama, 1);
                if person["errors"].is_null() {
                    people.push(format!(
                        "{nama} {} {} {}",
                        own_of(field("no_kjp")),
                        own_of(field("no_ktp")),
                        field("no_kk")
                    ));
                }
            }
            (text, people)
        })
        .collect()
}

/// Everybody whom the bot has registered for this phone number, in order.
fn people_of(scene: &Scene, phone: &Handset) -> Vec<String> {
    scene.home.ledger().texts(&format!(
        "SELECT nama || ' ' || no_kjp || ' ' || no_ktp || ' ' || no_kk FROM registration WHERE sender = '{}' ORDER BY id",
        phone.number()
    ))
}

#[test]
fn families_who_write_with_baileys_are_understood_as_they_write() {
    let scene = Scene::new();
    let bot = scene.run();
    let mut ani = Writer::new(&scene);
    let to = scene.operator.number().to_owned();
    for choice in ["1", "2", "4"] {
        ani.ask(&to, choice);
    }
    let cases = ten_cases("DHARMAJAYA");
    assert_eq!(cases.len(), SECOND_NAMES.len());
    let mut all = Vec::new();
    for (text, people) in &cases {
        let answer = ani.ask(&to, text);
        all.extend(people.iter().cloned());
        assert_eq!(people_of(&scene, &ani.phone), all, "{text}\n{answer}");
    }
    ani.check(3 + cases.len());
    let _ = bot.terminate();
}

#[test]
fn baileys_and_the_bot_survive_each_others_reconnects() {
    let scene = Scene::new();
    let bot = scene.run();
    let mut ani = Writer::new(&scene);
    let to = scene.operator.number().to_owned();
    ani.choose_foodstation(&to);
    ani.register(&to, 0);

    // Baileys is away while the bot answers.
    let text = ani.customer.registration_text(1);
    scene.server.fault_on(&to, Fault::HoldOffline).expect("the fault is set");
    ani.say(&to, &text);
    ani.baileys.command(json!({ "do": "drop" })).expect("the command is sent");
    ani.baileys.wait("close", |_| true).expect("Baileys is offline");
    scene.server.clear_faults();
    let shown = ani
        .phone
        .wait_for(|shown| shown.text.contains(&ani.customer.person(1).nama) && !shown.from_me, PATIENCE);
    shown.expect("the phone shows the answer");
    ani.baileys.command(json!({ "do": "reconnect" })).expect("the command is sent");
    ani.baileys.wait("open", |_| true).expect("Baileys is back");
    assert!(ani.answer().1.contains("berhasil"));

    // The bot is killed, and away while Baileys writes.
    bot.kill();
    ani.say(&to, &ani.customer.registration_text(2));
    let bot = scene.run();
    assert!(ani.answer().1.contains("berhasil"));
    ani.register(&to, 3);

    ani.check(6);
    let _ = bot.terminate();
    let people: Vec<String> = (0..4).map(|n| ani.customer.person(n).nik).collect();
    assert_eq!(registered(&scene, &ani.phone), people);
    assert!(ani.baileys.leftover("undecryptable").is_empty(), "no session broke");
}

#[test]
fn baileys_and_the_bot_answer_each_others_retry_receipts() {
    let scene = Scene::new();
    let bot = scene.run();
    let mut ani = Writer::new(&scene);
    let to = scene.operator.number().to_owned();
    ani.choose_foodstation(&to);

    // The bot cannot read the message.
    scene.server.fault_on(&to, Fault::Corrupt { count: Some(1) }).expect("the fault is set");
    ani.register(&to, 0);
    bot.wait_for_line("could not be decrypted");

    // Baileys cannot read the answer.
    scene.server.fault_on(ani.phone.number(), Fault::Corrupt { count: Some(1) }).expect("the fault is set");
    let text = ani.customer.registration_text(1);
    ani.say(&to, &text);
    let (id, text) = ani.answer();
    assert!(text.contains("berhasil"), "{text}");
    ani.baileys.wait("undecryptable", |message| message["id"] == *id).expect("it could not be read at first");

    // Baileys has forgotten the session that the answer is encrypted in.
    scene.server.fault_on(&to, Fault::HoldOffline).expect("the fault is set");
    ani.say(&to, &ani.customer.registration_text(2));
    ani.baileys.command(json!({ "do": "forget_sessions" })).expect("the command is sent");
    scene.server.clear_faults();
    let (id, text) = ani.answer();
    assert!(text.contains("berhasil"), "{text}");
    ani.baileys.wait("undecryptable", |message| message["id"] == *id).expect("it could not be read at first");
    ani.register(&to, 3);

    ani.check(6);
    let _ = bot.terminate();
    let people: Vec<String> = (0..4).map(|n| ani.customer.person(n).nik).collect();
    assert_eq!(registered(&scene, &ani.phone), people);
}
