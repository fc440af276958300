//! A customer in conversation with the bot, and the check that the conversation came out right.

use std::collections::HashSet;

use testbed::customers::Customer;
use testbed::{Handset, SendAs, Shown, text_message};

use bot_kjp::ledger::outbox::MOST_PER_CHAT;
use bot_kjp::whatsapp::outbox::reply_id;

use super::bot::{Bot, DEADLINE, Ledger};
use super::scene::{Scene, until, wait_for};

/// What every state of the conversation answers with today's list.
const LIST: &str = "2";

/// Remembers what was said and who should be registered by it.
pub struct Guest {
    pub customer: Customer,
    pub phone: Handset,
    /// Ids of the messages that the bot must answer.
    said: Vec<String>,
    /// Which people were registered.
    people: Vec<usize>,
    /// Said so much before the answers came that one of them may answer several messages.
    pub piled: bool,
    /// The last word was a question and no registration.
    asked_for_list: bool,
}

impl Guest {
    /// The `n`th customer, who chose Foodstation.
    pub fn new(scene: &Scene, n: usize) -> Self {
        let (customer, phone) = scene.customer(n);
        let mut guest = Self {
            customer,
            phone,
            said: Vec::new(),
            people: Vec::new(),
            piled: false,
            asked_for_list: false,
        };
        for choice in ["1", "3"] {
            guest.say(scene, choice);
            guest.wait_answered();
        }
        guest
    }

    /// Says something that must be answered; returns the message's id.
    pub fn say(&mut self, scene: &Scene, text: &str) -> String {
        self.piled |= self.said.len() >= self.phone.shown().len() + MOST_PER_CHAT;
        let id = self
            .phone
            .send(scene.operator.number(), text_message(text), SendAs::default())
            .expect("the message is sent");
        self.said.push(id.clone());
        id
    }

    /// Registers the next person; returns the message's id.
    pub fn register(&mut self, scene: &Scene) -> String {
        let person = self.people.len();
        self.people.push(person);
        self.asked_for_list = false;
        self.say(scene, &self.customer.registration_text(person))
    }

    /// Waits until everything is answered.
    pub fn wait_answered(&self) {
        wait_for(&self.phone, |shown| self.is_answered(shown).then_some(()));
    }

    fn is_answered(&self, shown: &[Shown]) -> bool {
        if !self.piled {
            return shown.len() >= self.said.len();
        }
        let named = |person: &usize| {
            let nama = self.customer.person(*person).nama;
            shown.iter().any(|shown| shown.text.contains(&nama))
        };
        let listed = |id: &String| {
            [format!("{}@s.whatsapp.net", self.phone.number()), format!("{}@lid", self.phone.lid())]
                .iter()
                .any(|address| shown.iter().any(|shown| shown.id == reply_id(address, address, id)))
        };
        self.people.iter().all(named) && (!self.asked_for_list || self.said.last().is_some_and(listed))
    }

    /// Registers the next person and waits for the answer.
    pub fn register_and_wait(&mut self, scene: &Scene) -> String {
        let id = self.register(scene);
        self.wait_answered();
        id
    }
}

/// Waits until the bot knows that WhatsApp has every answer: a phone shows it a moment before.
pub fn wait_acknowledged(scene: &Scene) {
    let waiting = || scene.home.ledger().count("SELECT count(*) FROM outbox WHERE failed_at IS NULL");
    until(|| (waiting() == 0).then_some(())).expect("every answer is acknowledged");
}

/// Ends the bot and checks that every message of every guest was answered once, by the answer
/// that belongs to it (or, where more came at once than answers may wait, by one for several), and that exactly the right people are registered. Returns the ledger.
pub fn check(scene: &Scene, bot: Bot, guests: &mut [Guest]) -> Ledger {
    for guest in &mut *guests {
        guest.wait_answered();
    }
    // A chat's answers come in order: whatever is answered too much comes before this one.
    for guest in &mut *guests {
        guest.say(scene, LIST);
        guest.asked_for_list = true;
        guest.wait_answered();
    }
    for guest in &*guests {
        for id in &guest.said {
            guest.phone.wait_delivered(id, DEADLINE).expect("the customer sees two ticks");
        }
    }
    wait_acknowledged(scene);
    let (status, _) = bot.terminate();
    assert!(status.success(), "{status}");
    assert_eq!(
        scene.server.queue_len(scene.operator.number()).expect("a queue"),
        0,
        "nothing waits at WhatsApp"
    );
    let ledger = scene.home.ledger();
    for guest in &*guests {
        let name = guest.customer.name();
        let number = guest.phone.number();
        let shown = guest.phone.shown();
        assert!(
            shown.iter().all(|shown| shown.copies == 1),
            "{name}: every answer is shown once: {shown:#?}"
        );
        let mut answers: Vec<String> = shown.into_iter().map(|shown| shown.id).collect();
        let known = format!(
            "FROM inbound_message WHERE sender IN ('{number}@s.whatsapp.net', '{}@lid') ORDER BY chat, sender, id",
            guest.phone.lid()
        );
        let column = |column: &str| ledger.texts(&format!("SELECT {column} {known}"));
        let (chats, senders, ids) = (column("chat"), column("sender"), column("id"));
        let mut expected: Vec<String> =
            (0..ids.len()).map(|n| reply_id(&chats[n], &senders[n], &ids[n])).collect();
        assert_eq!(expected.len(), guest.said.len(), "{name}: every message is known once");
        if guest.piled {
            let expected: HashSet<&String> = expected.iter().collect();
            assert!(answers.iter().all(|id| expected.contains(id)), "{name}: nothing else is said");
        } else {
            answers.sort();
            expected.sort();
            assert_eq!(answers, expected, "{name}: every message has its own answer");
        }

        let mut registered =
            ledger.texts(&format!("SELECT no_ktp FROM registration WHERE sender = '{number}'"));
        let mut people: Vec<String> = guest.people.iter().map(|&n| guest.customer.person(n).nik).collect();
        registered.sort();
        people.sort();
        assert_eq!(registered, people, "{name}: exactly these people are registered");
    }
    let all: usize = guests.iter().map(|guest| guest.people.len()).sum();
    assert_eq!(ledger.count("SELECT count(*) FROM registration"), all as i64, "nobody else is registered");
    ledger
}

/// As [`check`], where nothing gives the bot a reason to send an answer again. The server passes
/// a repeated id on only once, so the phones cannot show such a repetition.
pub fn check_all_sent_once(scene: &Scene, bot: Bot, guests: &mut [Guest]) -> Ledger {
    let ledger = check(scene, bot, guests);
    assert_eq!(scene.server.resent(), 0, "no answer left the bot twice");
    ledger
}
