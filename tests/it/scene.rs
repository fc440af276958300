//! The usual scene: WhatsApp's side, a bot paired with the operator's phone, customers.

use bot_kjp::clock;
use std::time::Duration;

use testbed::customers::Customer;
use testbed::{Fault, Handset, Options, Shown, Supabase, WhatsApp};

use super::bot::{Bot, DEADLINE, Home};
use super::disk::Disk;

pub struct Scene {
    pub server: WhatsApp,
    pub home: Home,
    /// The phone that the bot is linked to.
    pub operator: Handset,
}

impl Scene {
    pub fn new() -> Self {
        Self::with("")
    }

    /// A scene whose configuration has these further lines.
    pub fn with(more: &str) -> Self {
        let server = WhatsApp::start(Options::default()).expect("WhatsApp's side starts");
        let home = Home::with(&server, more);
        let operator = server.phone("Operator").expect("a phone");
        home.pair(&operator);
        Self { server, home, operator }
    }

    /// A scene whose bot has its data on a disk of its own, of so many megabytes.
    pub fn on_disk(megabytes: u64, more: &str) -> Self {
        let server = WhatsApp::start(Options::default()).expect("WhatsApp's side starts");
        let home = Home::on_disk(&server, Disk::new(megabytes), more);
        let operator = server.phone("Operator").expect("a phone");
        home.pair(&operator);
        Self { server, home, operator }
    }

    pub fn run(&self) -> Bot {
        self.home.start(&["run"])
    }

    /// Puts a fault on the bot's account.
    pub fn on_the_bot(&self, fault: Fault) {
        self.server.fault_on(self.operator.number(), fault).expect("the fault is set");
    }

    /// The `n`th invented customer with a phone of their own.
    pub fn customer(&self, n: usize) -> (Customer, Handset) {
        let customer = Customer::invented(n);
        let phone = self.server.phone(customer.name()).expect("a phone");
        (customer, phone)
    }

    /// Sends a message to the bot; returns the id.
    pub fn say(&self, phone: &Handset, text: &str) -> String {
        phone.send_text(self.operator.number(), text).expect("the message is sent")
    }

    /// Sends a message and waits for one more answer on the phone.
    pub fn ask(&self, phone: &Handset, text: &str) -> String {
        let before = phone.shown().len();
        self.say(phone, text);
        self.answer_after(phone, before)
    }

    /// Waits until the phone shows more than `before` messages; returns the text of the newest.
    pub fn answer_after(&self, phone: &Handset, before: usize) -> String {
        wait_for(phone, |shown| shown.get(before).map(|message| message.text.clone()))
    }

    /// Chooses Foodstation, whose people take four lines.
    pub fn choose_foodstation(&self, phone: &Handset) {
        self.ask(phone, "1");
        self.ask(phone, "3");
    }
}

/// Waits past midnight in Jakarta when it is near, in tests whose messages must fall on one day.
pub fn enough_of_today() {
    const DAY: i64 = 24 * 3600;
    /// 00:00 WIB is 17:00 UTC.
    const MIDNIGHT: i64 = 17 * 3600;
    /// Longer than any of these tests takes.
    const ENOUGH: i64 = 2 * 60;
    while (MIDNIGHT - clock::unix_seconds()).rem_euclid(DAY) < ENOUGH {
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Waits until `found` sees what it looks for among the messages that the phone shows.
pub fn wait_for<T>(phone: &Handset, found: impl Fn(&[Shown]) -> Option<T>) -> T {
    until(|| found(&phone.shown())).unwrap_or_else(|| {
        let shown: Vec<String> = phone.shown().into_iter().map(|message| message.text).collect();
        panic!("{} waited {DEADLINE:?} in vain and shows {shown:#?}", phone.name())
    })
}

/// Waits until a query of PostgreSQL answers `expected` in its first column.
pub fn wait_for_rows(supabase: &Supabase, sql: &str, expected: &str, bot: &Bot) {
    let answer = || supabase.query(sql).expect("the query runs");
    until(|| (answer()[0][0] == expected).then_some(())).unwrap_or_else(|| {
        panic!("{sql} gives {:?} and not {expected}; the bot printed:\n{}", answer(), bot.output())
    });
}

/// Looks until there is something to find; `None` when the deadline passes first.
pub fn until<T>(mut found: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = clock::now() + DEADLINE;
    loop {
        if let Some(found) = found() {
            return Some(found);
        }
        if clock::now() > deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
