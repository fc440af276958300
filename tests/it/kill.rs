//! `kill -9` at any moment: nothing lost, nothing twice, no session broken.

use bot_kjp::clock;
use std::collections::HashMap;
use std::time::Duration;

use testbed::customers::Customer;
use testbed::{Handset, Options, Supabase, WhatsApp};

use super::bot::Home;
use super::scene::{wait_for, wait_for_rows};
use super::seed;

const CUSTOMERS: usize = 20;
const REGISTRATIONS_EACH: usize = 15;
const KILLS: usize = 100;

/// The bot lives at most so long before it is killed. Start, login and a few registrations take
/// less, so the kills fall on every stage.
const LONGEST_LIFE: Duration = Duration::from_millis(900);

#[test]
fn a_hundred_kills_lose_nothing_and_repeat_nothing() {
    let mut random = seed::announce("kill");
    let server = WhatsApp::start(Options::default()).expect("WhatsApp's side starts");
    let supabase = Supabase::start().expect("Supabase starts");
    let mut home =
        Home::with(&server, &format!("\n[supabase]\nurl = {:?}\ninterval = \"100ms\"\n", supabase.url()));
    home.secret("SUPABASE_SECRET_KEY", supabase.secret_key());
    supabase.apply(&home.output(&["schema"])).expect("the schema applies");
    let operator = server.phone("Operator").expect("a phone");
    home.pair(&operator);

    let customers: Vec<(Customer, Handset)> = (0..CUSTOMERS)
        .map(|n| {
            let customer = Customer::invented(n);
            let phone = server.phone(customer.name()).expect("a phone");
            (customer, phone)
        })
        .collect();

    // Everything a customer says, in order: choose Foodstation, then one registration a message.
    let script = |customer: &Customer, step: usize| match step {
        0 => "1".to_owned(),
        1 => "3".to_owned(),
        n => customer.registration_text(n - 2),
    };
    let steps = REGISTRATIONS_EACH + 2;
    let mut said: HashMap<usize, Vec<String>> = HashMap::new();
    let mut next = [0; CUSTOMERS];

    for _ in 0..KILLS {
        let bot = home.start(&["run"]);
        let life = LONGEST_LIFE.mul_f64(random.fraction());
        let until = clock::now() + life;
        // Some customers write at the start of each life, whatever state the bot is in.
        for _ in 0..(CUSTOMERS * steps).div_ceil(KILLS) {
            let waiting: Vec<usize> = (0..CUSTOMERS).filter(|&n| next[n] < steps).collect();
            if waiting.is_empty() {
                break;
            }
            let n = waiting[random.below(waiting.len())];
            let (customer, phone) = &customers[n];
            let id =
                phone.send_text(operator.number(), &script(customer, next[n])).expect("the message is sent");
            said.entry(n).or_default().push(id);
            next[n] += 1;
        }
        std::thread::sleep(until.saturating_duration_since(clock::now()));
        bot.kill();
    }

    let bot = home.start(&["run"]);
    for (n, (customer, phone)) in customers.iter().enumerate() {
        for step in next[n]..steps {
            let id =
                phone.send_text(operator.number(), &script(customer, step)).expect("the message is sent");
            said.entry(n).or_default().push(id);
        }
    }
    // A chat's answers come in order: whatever is answered too much comes before this one.
    for (n, (_, phone)) in customers.iter().enumerate() {
        let id = phone.send_text(operator.number(), "2").expect("the message is sent");
        said.entry(n).or_default().push(id);
    }
    for (n, (_, phone)) in customers.iter().enumerate() {
        wait_for(phone, |shown| (shown.len() >= said[&n].len()).then_some(()));
    }
    wait_for_rows(&supabase, "SELECT count(*) FROM data_harian", &expected_rows(), &bot);

    for (n, (customer, phone)) in customers.iter().enumerate() {
        let answers = phone.shown().len();
        assert_eq!(answers, said[&n].len(), "{}: one answer per message", customer.name());
        assert!(phone.shown().iter().all(|shown| shown.copies == 1), "{}: none shown twice", customer.name());
        assert_eq!(phone.failed_decryptions(), 0, "{}: every answer decrypted at once", customer.name());
        for id in &said[&n] {
            assert!(!phone.asked_again(id), "{}: the bot decrypted every message at once", customer.name());
        }
    }
    let (status, _) = bot.terminate();
    assert!(status.success(), "{status}");
    let ledger = home.ledger();
    assert_eq!(ledger.count("SELECT count(*) FROM registration"), (CUSTOMERS * REGISTRATIONS_EACH) as i64);
    assert_eq!(
        ledger.count("SELECT count(DISTINCT no_ktp) FROM registration"),
        (CUSTOMERS * REGISTRATIONS_EACH) as i64
    );
    assert_eq!(ledger.texts("PRAGMA integrity_check"), ["ok"]);
    let stored = supabase.query("SELECT count(*), count(DISTINCT no_ktp) FROM data_harian").expect("rows");
    assert_eq!(stored, [[expected_rows(), expected_rows()]]);
}

fn expected_rows() -> String {
    (CUSTOMERS * REGISTRATIONS_EACH).to_string()
}
