//! The reception: takes deliveries from the inbox, lets the desk decide and keeps the effects.
//!
//! All deliveries that wait share one transaction: message seen, conversation, registrations and
//! replies are durable together or not at all. Only then does the inbox acknowledge to WhatsApp.
//! While the disk refuses, the reception waits: whatsapp-rust would not offer a message again before
//! the next login. A full outbox concerns those only whose reply would be one too many: their messages stay
//! with WhatsApp until then. What the ledger itself refuses, and would for ever, is set aside
//! ([`refused_message`]) and acknowledged: WhatsApp ends the connection every 50 minutes for a message
//! that nobody answers.

use async_channel::Receiver;
use jiff::civil::Date;
use rusqlite::Connection;

use crate::bell::Bell;
use crate::desk::{self, Action, Content, Registered, Reply, State, Submission, wording};
use crate::disk_space::DiskSpace;
use crate::ledger::database::MayPass as _;
use crate::ledger::missing_message::{self, Cause, Missing, Noted};
use crate::ledger::registration::{NewRegistration, Sender};
use crate::ledger::{
    Database, LedgerError, conversation, inbound, outbox, person, reachout, refused_message, registration,
};
use crate::registration::Rulebook;
use crate::trusted_clock;
use crate::whatsapp::inbox::{Delivery, Incoming};
use crate::whatsapp::outbox::reply_id;

/// With this many messages no further delivery joins the transaction: bounds how long the executor
/// is busy with one commit.
const MAX_MESSAGES_PER_COMMIT: usize = 512;

/// Nobody is asked to send a message again oftener than once in so many seconds, by WhatsApp's clock: what
/// keeps one message from being read as a rule keeps the next one too.
const ASK_AGAIN_SECONDS: i64 = 6 * 3600;

/// Works until the inbox closes.
pub struct Reception {
    pub database: Database,
    pub inbox: Receiver<Delivery>,
    pub disk_space: DiskSpace,
    /// What may be registered.
    pub rules: Rulebook,
    /// Rung when replies were committed.
    pub outbox_bell: Bell,
    /// Rung when registrations were committed.
    pub sync_bell: Bell,
    /// Rung when a message is missed.
    pub missing_bell: Bell,
}

impl Reception {
    pub async fn run(self) {
        while let Ok(first) = self.inbox.recv().await {
            let mut deliveries = vec![first];
            let mut messages = deliveries[0].messages.len();
            while messages < MAX_MESSAGES_PER_COMMIT
                && let Ok(next) = self.inbox.try_recv()
            {
                messages += next.messages.len();
                deliveries.push(next);
            }
            self.receive_together(deliveries).await;
        }
    }

    async fn receive_together(&self, deliveries: Vec<Delivery>) {
        let missed = deliveries.iter().flat_map(|delivery| &delivery.messages).any(|m| m.asked_of.is_some());
        let together = self.database.write_patiently("messages", |tx| {
            // A call of microseconds, asked again at every try: there may be room by then.
            let (_, room) = self.disk_space.look();
            let of_delivery = |delivery: &Delivery| {
                let mut outcome = Ok(());
                for message in &delivery.messages {
                    match receive(tx, &self.rules, message, room) {
                        // Nothing of the message was written.
                        Err(full @ LedgerError::Full { .. }) => outcome = Err(full),
                        received => received?,
                    }
                }
                Ok(outcome)
            };
            deliveries.iter().map(of_delivery).collect::<Result<Vec<_>, LedgerError>>()
        });
        match together.await {
            Ok(outcomes) => {
                for (delivery, outcome) in deliveries.into_iter().zip(outcomes) {
                    if let Err(error) = &outcome {
                        log::warn!("reception: messages stay with WhatsApp: {error}");
                    }
                    delivery.finish(outcome);
                }
            }
            Err(error) => {
                log::error!(
                    "reception: {} deliveries not kept: {error}; each message is tried alone",
                    deliveries.len()
                );
                self.receive_one_by_one(deliveries).await;
            }
        }
        self.outbox_bell.ring();
        self.sync_bell.ring();
        if missed {
            self.missing_bell.ring();
        }
    }

    /// One message that the ledger refuses must not hold up the others for ever: what comes again with it
    /// is known by then.
    async fn receive_one_by_one(&self, deliveries: Vec<Delivery>) {
        for delivery in deliveries {
            let mut outcome = Ok(());
            for message in &delivery.messages {
                let alone = self.database.write_patiently("a message", |tx| {
                    match receive(tx, &self.rules, message, self.disk_space.look().1) {
                        Err(full @ LedgerError::Full { .. }) => Ok(Err(full)),
                        received => received.map(Ok),
                    }
                });
                let alone = match alone.await {
                    Ok(Err(full)) => {
                        log::warn!("reception: message {} stays with WhatsApp: {full}", message.message_id);
                        Err(full)
                    }
                    Ok(Ok(())) => Ok(()),
                    Err(error) => self.set_aside(message, error).await,
                };
                outcome = alone.and(outcome);
            }
            delivery.finish(outcome);
        }
    }
}

impl Reception {
    /// Sets a message aside that the ledger refuses and always will, so that it can be acknowledged, and has
    /// its sender asked to send it again. A damaged ledger takes no note: then the message stays with
    /// WhatsApp.
    async fn set_aside(&self, message: &Incoming, error: LedgerError) -> Result<(), LedgerError> {
        let Incoming { chat, from, message_id, .. } = message;
        if error.is_damage() {
            log::error!("reception: message {message_id} stays with WhatsApp: {error}");
            return Err(error);
        }
        let (reason, now) = (error.to_string(), trusted_clock::now());
        let noted = self
            .database
            .write_patiently("a refused message", |tx| {
                refused_message::note(tx, chat, from, message_id, &reason, now)
            })
            .await;
        if let Err(worse) = noted {
            log::error!("reception: message {message_id} stays with WhatsApp: {error}; not noted: {worse}");
            return Err(worse);
        }
        log::error!(
            "reception: message {message_id} set aside: {reason}; its sender is asked to send it again"
        );
        if let Err(error) = self.database.write(|tx| ask_again(tx, &self.rules, message)).await {
            log::error!("reception: the sender of message {message_id} was not asked: {error}");
        }
        Ok(())
    }
}

/// Everything that one message does to the ledger. A message that was received before does
/// nothing: (chat, sender, id) decides. Without `room` on the disk nobody is registered, and whoever
/// wanted to be is told so by the one reply; if there is not even room for that, the write fails and
/// the message stays with WhatsApp.
///
/// [`LedgerError::Full`] if there is no room for the reply; nothing is written then.
fn receive(tx: &Connection, rules: &Rulebook, incoming: &Incoming, room: bool) -> Result<(), LedgerError> {
    let Incoming { chat, from, message_id, .. } = incoming;
    let message = &incoming.message;
    if let Some(device) = incoming.asked_of {
        return miss(tx, incoming, device);
    }
    if message.content != Content::Other && !outbox::has_room(tx, chat)? {
        return Err(LedgerError::Full { table: "outbox", limit: outbox::CAPACITY as usize });
    }
    if message.content == Content::Lost {
        return lost_for_good(tx, rules, incoming);
    }
    forget_missing(tx, incoming)?;
    if message.content == Content::Other || refused_message::knows(tx, chat, message_id)? {
        return Ok(());
    }
    if !inbound::remember(tx, chat, from, message_id, message.at)? {
        crate::logging::debug!("reception: message {message_id} came again");
        return Ok(());
    }
    // Whoever writes again may be let in again: what WhatsApp refused to them gets another attempt.
    for chat in chats(incoming) {
        if reachout::wrote(tx, &chat, trusted_clock::now())? {
            outbox::release(tx, &chat)?;
        }
    }
    // Known by the person, not by the chat: the same person has two addresses.
    let sender = &person::recognise(tx, &incoming.sender, message.at)?;
    let (state, last_at) = match conversation::load(tx, sender.expose())? {
        Some((json, at)) => (State::restore(&json), at),
        None => (State::default(), message.at),
    };
    let step = desk::step(rules, &state, last_at, message);
    // A message that comes late must not make the conversation look older than it is.
    conversation::save(tx, sender.expose(), &step.state.to_json(), message.at.max(last_at))?;
    let reply = match step.action {
        Action::Ignore => return Ok(()),
        Action::Reply(reply) => reply,
        Action::ListToday { day } => desk::conclude_list(today(tx, sender, day)?),
        Action::Register(_) if !room => Reply::NoRoom,
        Action::Register(submission) => register(tx, incoming, sender, &submission)?,
    };
    outbox::enqueue(
        tx,
        &outbox::Reply {
            kind: kind(&reply),
            chat: chat.clone(),
            wa_message_id: reply_id(chat, from, message_id),
            text: reply.text(rules),
            at: message.at,
        },
        trusted_clock::now(),
        wording::joined,
    )
}

/// Whether a reply still matters when a later one is written.
fn kind(reply: &Reply) -> outbox::Kind {
    match reply {
        Reply::Menu
        | Reply::Greeting
        | Reply::Help
        | Reply::ProviderMenu { .. }
        | Reply::PlaceMenu { .. }
        | Reply::NoSuchChoice(_)
        | Reply::FormatGuide(_)
        | Reply::Left
        | Reply::Today(_) => outbox::Kind::Guidance,
        Reply::NotRead { .. }
        | Reply::Incomplete { .. }
        | Reply::TooLong
        | Reply::WaitingFull
        | Reply::NoRoom
        | Reply::SendAgain
        | Reply::MediaUnread { .. }
        | Reply::Dropped(_)
        | Reply::Conclusion(_) => outbox::Kind::Verdict,
    }
}

/// Takes note of a message that was lost. It counts as received when it comes after all.
fn miss(tx: &Connection, incoming: &Incoming, device: u16) -> Result<(), LedgerError> {
    let Incoming { chat, from, message_id, message, .. } = incoming;
    if inbound::knows(tx, chat, message_id)? {
        return Ok(());
    }
    let missing = Missing {
        chat: chat.clone(),
        sender: from.clone(),
        id: message_id.clone(),
        device,
        at: message.at,
        cause: Cause::Lost,
    };
    if missing_message::note(tx, &missing)? == Noted::Full {
        log::warn!("reception: lost message {message_id} is not asked for: too many are missed already");
    }
    Ok(())
}

/// A message came: it is not missed any more, by whatever address it was.
fn forget_missing(tx: &Connection, incoming: &Incoming) -> Result<(), LedgerError> {
    let chats = chats(incoming);
    let chats: Vec<&str> = chats.iter().map(String::as_str).collect();
    missing_message::forget(tx, &chats, &incoming.message_id)
}

/// The chat of a message by every address of its sender that the message names.
fn chats(incoming: &Incoming) -> Vec<String> {
    let Incoming { chat, sender, .. } = incoming;
    let phone = sender.number().map(|digits| format!("{digits}@s.whatsapp.net"));
    let lid = sender.lid_digits().map(|digits| format!("{digits}@lid"));
    let others = [phone, lid].into_iter().flatten().filter(|other| other != chat);
    std::iter::once(chat.clone()).chain(others).collect()
}

/// Nobody has sent a missed message: its sender is asked to, unless it came meanwhile.
fn lost_for_good(tx: &Connection, rules: &Rulebook, incoming: &Incoming) -> Result<(), LedgerError> {
    let Incoming { chat, from, message_id, message, .. } = incoming;
    let Some(cause) = missing_message::cause_of(tx, chat, from, message_id)? else { return Ok(()) };
    forget_missing(tx, incoming)?;
    // One that could not be read may still come, from a phone that was off, and is welcome. One that was lost
    // is known from now on, as it would be found lost again whenever WhatsApp delivers it.
    if cause == Cause::Lost && !inbound::remember(tx, chat, from, message_id, message.at)? {
        return Ok(());
    }
    ask_again(tx, rules, incoming)
}

/// Asks the sender of a message to send it again, unless they were asked lately.
fn ask_again(tx: &Connection, rules: &Rulebook, incoming: &Incoming) -> Result<(), LedgerError> {
    let Incoming { chat, from, sender, message_id, message, .. } = incoming;
    let person = person::recognise(tx, sender, message.at)?;
    if !person::ask_again(tx, &person, message.at, ASK_AGAIN_SECONDS)? {
        return Ok(());
    }
    outbox::enqueue(
        tx,
        &outbox::Reply {
            kind: outbox::Kind::Verdict,
            chat: chat.clone(),
            // Not the id of the answer that the message may still get.
            wa_message_id: reply_id(chat, from, &format!("{message_id} again")),
            text: Reply::SendAgain.text(rules),
            at: message.at,
        },
        trusted_clock::now(),
        wording::joined,
    )
}

/// Offers the people of a submission to the ledger, one by one, and concludes.
fn register(
    tx: &Connection,
    incoming: &Incoming,
    sender: &Sender,
    submission: &Submission,
) -> Result<Reply, LedgerError> {
    let Incoming { chat, from, message_id, push_name, message, .. } = incoming;
    let outcomes = submission
        .people()
        .zip(0..)
        .map(|(person, index)| {
            registration::insert(
                tx,
                &NewRegistration {
                    chat,
                    from,
                    sender,
                    sender_name: push_name.as_deref(),
                    message_id,
                    index,
                    day: submission.day,
                    received_at: message.at,
                    place: &submission.place,
                    person,
                },
            )
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(desk::conclude(submission, &outcomes, &today(tx, sender, submission.day)?))
}

/// The sender's rows of a day, as the desk shows them.
fn today(tx: &Connection, sender: &Sender, day: Date) -> Result<Vec<Registered>, LedgerError> {
    let rows = registration::of_day(tx, sender, day)?;
    Ok(rows
        .into_iter()
        .map(|row| Registered {
            nama: row.nama,
            kjp: row.kjp,
            jenis_kartu: row.jenis_kartu,
            ktp: row.ktp,
            kk: row.kk,
            tanggal_lahir: row.tanggal_lahir,
            lokasi: row.lokasi,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::personal::PhoneNumber;

    const ANI: &str = "6280000000001@s.whatsapp.net";

    fn incoming(id: &str, content: Content, asked_of: Option<u16>) -> Incoming {
        Incoming {
            chat: ANI.into(),
            from: ANI.into(),
            sender: Sender::phone(&PhoneNumber::new("6280000000001")),
            message_id: id.into(),
            push_name: None,
            message: desk::Message { at: 1_795_410_000, content },
            asked_of,
        }
    }

    /// What is missed after these messages, and the replies.
    fn after(messages: &[Incoming]) -> (Vec<String>, Vec<String>) {
        Database::in_memory()
            .unwrap()
            .write_now::<_, LedgerError>(|tx| {
                for message in messages {
                    receive(tx, &Rulebook::default(), message, true)?;
                }
                let missed = missing_message::all(tx)?.into_iter().map(|missing| missing.id).collect();
                let mut texts = tx.prepare("SELECT text FROM outbox ORDER BY id")?;
                let replies = texts.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
                Ok((missed, replies))
            })
            .unwrap()
    }

    #[test]
    fn a_full_outbox_concerns_those_only_who_do_not_wait_yet() {
        let written = |id: &str, chat: &str| Incoming {
            chat: chat.into(),
            ..incoming(id, Content::Text("1".into()), None)
        };
        Database::in_memory()
            .unwrap()
            .write_now::<_, LedgerError>(|tx| {
                let rules = Rulebook::default();
                receive(tx, &rules, &written("A", "ani@lid"), true)?;
                let mut insert = tx.prepare(
                    "INSERT INTO outbox (chat, wa_message_id, text, at, next_attempt_at)
                     VALUES (?1, ?1, '', 0, 0)",
                )?;
                for n in 1..outbox::CAPACITY {
                    insert.execute([n])?;
                }
                receive(tx, &rules, &written("B", "ani@lid"), true)?;
                let refused = receive(tx, &rules, &written("C", "budi@lid"), true);
                assert!(matches!(refused, Err(LedgerError::Full { .. })));
                assert!(!inbound::knows(tx, "budi@lid", "C")?, "nothing of it is kept");
                outbox::remove(tx, "1")?;
                receive(tx, &rules, &written("C", "budi@lid"), true)
            })
            .unwrap();
    }

    #[test]
    fn a_lost_message_is_missed_until_it_comes_and_then_answered_once() {
        let lost = || incoming("M", Content::Lost, Some(0));
        let text = || incoming("M", Content::Text("1".into()), None);
        assert_eq!(after(&[lost(), lost()]), (vec!["M".to_owned()], vec![]));
        let (missed, replies) = after(&[lost(), text(), text(), lost()]);
        assert_eq!((missed.len(), replies), (0, after(&[text()]).1));
    }

    #[test]
    fn a_lost_message_that_says_nothing_is_not_missed_any_more_when_it_comes() {
        let lost = incoming("M", Content::Lost, Some(0));
        assert_eq!(after(&[lost, incoming("M", Content::Other, None)]), (vec![], vec![]));
    }

    #[test]
    fn a_missed_message_may_come_by_the_other_address_of_its_sender() {
        let other = Incoming {
            chat: "100000000000001@lid".into(),
            from: "100000000000001@lid".into(),
            sender: Sender::of(Some("6280000000001"), Some("100000000000001")).unwrap(),
            ..incoming("M", Content::Text("1".into()), None)
        };
        let (missed, replies) = after(&[incoming("M", Content::Lost, Some(0)), other]);
        assert_eq!((missed.len(), replies.len()), (0, 1));
    }

    /// Nobody has sent message `id` again.
    fn given_up(id: &str) -> Incoming {
        incoming(id, Content::Lost, None)
    }

    fn send_again() -> String {
        Reply::SendAgain.text(&Rulebook::default())
    }

    #[test]
    fn who_is_not_answered_for_a_lost_message_is_asked_to_send_it_again() {
        let messages = [incoming("M", Content::Lost, Some(0)), given_up("M")];
        assert_eq!(after(&messages), (vec![], vec![send_again()]));
        // It came while the customer was about to be asked.
        let text = incoming("M", Content::Text("1".into()), None);
        let answered = after(std::slice::from_ref(&text)).1;
        assert_eq!(after(&[incoming("M", Content::Lost, Some(0)), text, given_up("M")]), (vec![], answered));
    }

    #[test]
    fn several_lost_messages_are_asked_for_once() {
        let lost = |id| [incoming(id, Content::Lost, Some(0)), given_up(id)];
        let later = |hours: i64| {
            lost("C").map(|mut message| {
                message.message.at += hours * 3600;
                message
            })
        };
        let (missed, replies) = after(&[lost("A"), lost("B"), later(5)].concat());
        assert_eq!((missed.len(), replies), (0, vec![send_again()]));
        assert_eq!(after(&[lost("A"), lost("B"), later(6)].concat()).1.len(), 2);
    }

    #[test]
    fn what_could_not_be_read_is_answered_though_it_comes_after_the_customer_was_asked() {
        let (database, text) =
            (Database::in_memory().unwrap(), incoming("M", Content::Text("1".into()), None));
        let replies = database
            .write_now::<_, LedgerError>(|tx| {
                let unreadable = Missing {
                    chat: ANI.into(),
                    sender: ANI.into(),
                    id: "M".into(),
                    device: 0,
                    at: 1_795_410_000,
                    cause: Cause::Unreadable,
                };
                missing_message::note(tx, &unreadable)?;
                for message in [given_up("M"), given_up("M"), text.clone(), text.clone()] {
                    receive(tx, &Rulebook::default(), &message, true)?;
                }
                outbox::count(tx)
            })
            .unwrap();
        assert_eq!(replies.waiting, 2, "one asks, and one answers");
    }

    #[test]
    fn who_comes_under_another_address_goes_on_where_they_were_and_repeats_only_themselves() {
        let (phone, lid) = ("6280000000001", "100000000000001");
        let says = |id: &str, sender: &Sender, text: &str| Incoming {
            chat: format!("{lid}@lid"),
            from: format!("{lid}@lid"),
            sender: sender.clone(),
            ..incoming(id, Content::Text(text.into()), None)
        };
        let family = "Ani Lestari\nKJP 5049488500000001\n3171010101900001\n3171010101100001";
        let hidden = Sender::lid(lid);
        let known = Sender::of(Some(phone), Some(lid)).unwrap();
        // The number is told only after the registration, in the midst of a conversation.
        let replies = after(&[
            says("1", &hidden, "1"),
            says("2", &hidden, "3"),
            says("3", &hidden, family),
            says("4", &known, family),
            says("5", &Sender::phone(&PhoneNumber::new(phone)), "2"),
        ])
        .1;
        let one_person = after(&[
            says("1", &known, "1"),
            says("2", &known, "3"),
            says("3", &known, family),
            says("4", &known, family),
            says("5", &known, "2"),
        ])
        .1;
        assert_eq!(replies, one_person);
        assert!(!replies.concat().contains("nomor lain"), "{replies:#?}");
    }

    #[test]
    fn what_the_ledger_refuses_for_ever_is_set_aside_and_acknowledged() {
        let executor = crate::executor::new();
        let database = Database::in_memory().unwrap();
        // A row that no version of the bot writes: the customer's list cannot be read.
        database
            .write_now::<_, LedgerError>(|tx| {
                tx.execute(
                    "INSERT INTO registration (row_key, day, received_at, sender, message_id, message_index, nama,
                       name_canonical, no_kjp, no_ktp, no_kk, tanggal_lahir, lokasi)
                     VALUES (zeroblob(16), ?1, 1, '6280000000001', 'M', 0, 'x', 'x', '1', '1', '1', 'never', 'x')",
                    [crate::registration::day::of(1_795_410_000).to_string()],
                )?;
                Ok(())
            })
            .unwrap();
        let store = crate::whatsapp::SessionStore::new(database.clone());
        let activity = crate::whatsapp::activity::Activity::default();
        let (hook, inbox) = crate::whatsapp::inbox::inbox(4, store, activity);
        let folder = tempfile::tempdir().unwrap();
        let limits = crate::disk_space::Limits { warn_below: 0, stop_below: 0 };
        let reception = Reception {
            database: database.clone(),
            inbox,
            disk_space: DiskSpace::new(folder.path().into(), limits),
            rules: Rulebook::default(),
            outbox_bell: Bell::default(),
            sync_bell: Bell::default(),
            missing_bell: Bell::default(),
        };
        smol::block_on(executor.run(async {
            executor.spawn(reception.run()).detach();
            for id in ["POISON", "POISON"] {
                hook.take(vec![incoming(id, Content::Text("2".into()), None)])
                    .await
                    .expect("it is acknowledged");
            }
            hook.take(vec![incoming("NEXT", Content::Text("1".into()), None)]).await.unwrap();
        }));
        let (refused, replies) = database
            .read::<_, LedgerError>(|conn| {
                let refused = conn.query_row("SELECT id, reason FROM refused_message", [], |row| {
                    Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
                })?;
                let replies: Vec<String> = conn
                    .prepare("SELECT text FROM outbox ORDER BY id")?
                    .query_map([], |row| row.get(0))?
                    .collect::<Result<_, _>>()?;
                let all: u32 = conn.query_row("SELECT count(*) FROM outbox", [], |row| row.get(0))?;
                Ok((refused, (replies[0].clone(), all)))
            })
            .unwrap();
        assert_eq!(refused.0, "POISON");
        assert!(refused.1.contains("tanggal_lahir"), "{}", refused.1);
        assert_eq!(replies, (send_again(), 2), "one asks, and one answers the next message");
    }
}
