//! The usual scene: WhatsApp's side, a bot paired with the operator's phone, customers.

use testbed::customers::Customer;
use testbed::{Account, Options, Shown, WhatsApp};

use super::bot::{Bot, DEADLINE, Home};

pub struct Scene {
    pub server: WhatsApp,
    pub home: Home,
    /// The phone that the bot is linked to.
    pub operator: Account,
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

    pub fn run(&self) -> Bot {
        self.home.start(&["run"])
    }

    /// The `n`th invented customer with a phone of their own.
    pub fn customer(&self, n: usize) -> (Customer, Account) {
        let customer = Customer::invented(n);
        let phone = self.server.phone(customer.name()).expect("a phone");
        (customer, phone)
    }

    /// Sends a message to the bot; returns the id.
    pub fn say(&self, phone: &Account, text: &str) -> String {
        phone.send_text(&self.operator.number(), text).expect("the message is sent")
    }

    /// Sends a message and waits for one more answer on the phone.
    pub fn ask(&self, phone: &Account, text: &str) -> String {
        let before = phone.shown().len();
        self.say(phone, text);
        self.answer_after(phone, before)
    }

    /// Waits until the phone shows more than `before` messages; returns the text of the newest.
    pub fn answer_after(&self, phone: &Account, before: usize) -> String {
        wait_for(phone, |shown| shown.get(before).map(|message| message.text.clone()))
    }

    /// Chooses Foodstation, whose people take four lines.
    pub fn choose_foodstation(&self, phone: &Account) {
        self.ask(phone, "1");
        self.ask(phone, "3");
    }
}

pub fn wait_for<T>(phone: &Account, found: impl FnMut(&[Shown]) -> Option<T>) -> T {
    phone.wait_for(found, DEADLINE).unwrap_or_else(|e| panic!("{}: {e}", phone.name()))
}
