//! The reception: takes deliveries from the inbox, lets the desk decide and keeps the effects.
//!
//! All deliveries that wait share one transaction: message seen, conversation, registrations and
//! replies are durable together or not at all. Only then does the inbox acknowledge to WhatsApp.
//! While the disk refuses, the reception waits: whatsapp-rust would not offer a message again before
//! the next login. A full outbox concerns those only whose reply would be one too many: their messages stay
//! with WhatsApp until then.

use async_channel::Receiver;
use jiff::civil::Date;
use rusqlite::Connection;

use crate::bell::Bell;
use crate::desk::{self, Action, Content, Registered, Reply, State, Submission, wording};
use crate::disk_space::DiskSpace;
use crate::ledger::missing_message::{self, Missing};
use crate::ledger::registration::{NewRegistration, Sender};
use crate::ledger::{Database, LedgerError, conversation, inbound, outbox, reachout, registration};
use crate::registration::Rulebook;
use crate::trusted_clock;
use crate::whatsapp::inbox::{Delivery, Incoming};
use crate::whatsapp::outbox::reply_id;

/// With this many messages no further delivery joins the transaction: bounds how long the executor
/// is busy with one commit.
const MAX_MESSAGES_PER_COMMIT: usize = 512;

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
                if let Err(error) = alone.await.flatten() {
                    log::error!("reception: message {} stays with WhatsApp: {error}", message.message_id);
                    outcome = Err(error);
                }
            }
            delivery.finish(outcome);
        }
    }
}

/// Everything that one message does to the ledger. A message that was received before does
/// nothing: (chat, sender, id) decides. Without `room` on the disk nobody is registered, and whoever
/// wanted to be is told so by the one reply; if there is not even room for that, the write fails and
/// the message stays with WhatsApp.
///
/// [`LedgerError::Full`] if there is no room for the reply; nothing is written then.
fn receive(tx: &Connection, rules: &Rulebook, incoming: &Incoming, room: bool) -> Result<(), LedgerError> {
    let Incoming { chat, from, sender, message_id, .. } = incoming;
    let message = &incoming.message;
    if let Some(device) = incoming.asked_of {
        return miss(tx, incoming, device);
    }
    if message.content != Content::Other && !outbox::has_room(tx, chat)? {
        return Err(LedgerError::Full { table: "outbox", limit: outbox::CAPACITY as usize });
    }
    missing_message::forget(tx, chat, from, message_id)?;
    if message.content == Content::Other {
        return Ok(());
    }
    if !inbound::remember(tx, chat, from, message_id, message.at)? {
        log::debug!("reception: message {message_id} came again");
        return Ok(());
    }
    // Whoever writes again may be let in again: what WhatsApp refused to them gets another attempt.
    if reachout::wrote(tx, chat, trusted_clock::now())? {
        outbox::release(tx, chat)?;
    }
    // Known by the sender, not by the chat: the same person has two addresses.
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
        Action::Register(submission) => register(tx, incoming, &submission)?,
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
    missing_message::note(
        tx,
        &Missing { chat: chat.clone(), sender: from.clone(), id: message_id.clone(), device, at: message.at },
    )
}

/// Offers the people of a submission to the ledger, one by one, and concludes.
fn register(tx: &Connection, incoming: &Incoming, submission: &Submission) -> Result<Reply, LedgerError> {
    let Incoming { chat, from, sender, message_id, push_name, message, .. } = incoming;
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
                let replies = outbox::due(tx, i64::MAX, 100)?.into_iter().map(|due| due.reply.text).collect();
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
    fn who_is_not_answered_for_a_lost_message_is_asked_to_send_it_again() {
        let messages = [incoming("M", Content::Lost, Some(0)), incoming("M", Content::Lost, None)];
        assert_eq!(after(&messages), (vec![], vec![Reply::SendAgain.text(&Rulebook::default())]));
    }
}
