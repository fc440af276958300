//! The outbox: replies that are rows in the ledger on their way to WhatsApp.
//!
//! A reply leaves the ledger when WhatsApp acknowledged it. Its message id is derived from the
//! message it answers, so a reply that is sent again after a crash or a lost line is the same
//! message to the phone that gets it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_lite::future::{or, zip};
use sha2::{Digest, Sha256};
use wacore_binary::Jid;
use waproto::whatsapp as wa;
use whatsapp_rust::{SendError, SendOptions};

use super::acks::Ack;
use super::connection::Connection;
use super::pace::Pace;
use crate::bell::Bell;
use crate::clock;
use crate::executor::Executor;
use crate::ledger::outbox::{self, DueReply};
use crate::ledger::{Database, LedgerError};
use crate::net::deadline::within;
use crate::trusted_clock;

/// Replies that may be on their way at once. Enough to reach 5 per second when an ack takes a
/// second and a half; small enough that a crash repeats only few.
const MAX_IN_FLIGHT: usize = 8;

/// Chats that are compared for the earliest slot.
const LOOK_AHEAD: usize = 16;

/// WhatsApp acknowledges within a second or not at all; then the reply is sent again.
const ACK_DEADLINE: Duration = Duration::from_secs(20);

/// How long the loop sleeps when nothing is due and nobody rings: covers replies whose next
/// attempt lies in the future.
const IDLE: Duration = Duration::from_secs(5);

/// Server codes that a repetition cannot cure: the account may not write to this person now
/// (463), or the stanza or its recipient is wrong (400, 404, 406, 479).
const HOPELESS: &[&str] = &["400", "404", "406", "463", "479"];

/// Sends what is due, for ever.
pub struct Outbox {
    pub database: Database,
    pub connection: Connection,
    /// Rung after a reply was committed.
    pub bell: Bell,
    pub per_chat_per_second: u32,
    pub total_per_second: u32,
}

/// The id of the reply to a message: 22 characters like those WhatsApp's web client makes
/// (`3EB0` and hexadecimal digits), the same for the same message on every run.
pub fn reply_id(chat: &str, from: &str, id: &str) -> String {
    let mut hash = Sha256::new();
    for part in [chat, from, id] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let digest = hash.finalize();
    let mut reply_id = String::from("3EB0");
    for byte in &digest[..9] {
        reply_id.push_str(&format!("{byte:02X}"));
    }
    reply_id
}

impl Outbox {
    pub async fn run(self, executor: Executor) {
        let start = clock::now();
        let outbox = Arc::new(self);
        let mut pace = Pace::new(outbox.per_chat_per_second, outbox.total_per_second);
        let busy = Busy::default();
        let mut lines = 0;
        loop {
            outbox.connection.link().wait_until_up().await;
            if lines != outbox.connection.link().times_up() {
                lines = outbox.connection.link().times_up();
                outbox.retry_now().await;
            }
            let now = clock::since(start);
            // Of those that may leave equally soon, the first: its chat has waited longest.
            let next =
                outbox.due(&busy).await.into_iter().min_by_key(|due| pace.earliest(&due.reply.chat, now));
            let Some(due) = next else {
                outbox.rung_within(IDLE).await;
                continue;
            };
            let slot = pace.earliest(&due.reply.chat, now);
            if slot > now {
                // Look again afterwards: another chat may have become due meanwhile.
                outbox.rung_within(slot - now).await;
                continue;
            }
            pace.leave(&due.reply.chat, now);
            let turn = busy.take(&due.reply.chat);
            let outbox = outbox.clone();
            executor
                .spawn(async move {
                    if let Err(error) = outbox.send(&due).await {
                        log::error!("outbox: reply {} not recorded: {error}", due.reply.wa_message_id);
                        // A disk that refuses is not asked again at once.
                        clock::sleep(IDLE).await;
                    }
                    drop(turn);
                    outbox.bell.ring();
                })
                .detach();
        }
    }

    /// The oldest reply of each chat that is due and has none on its way, whoever has waited longest first;
    /// none when enough are on their way.
    async fn due(&self, busy: &Busy) -> Vec<DueReply> {
        let taken = busy.count();
        if taken >= MAX_IN_FLIGHT {
            return Vec::new();
        }
        let now = trusted_clock::now();
        // One more than those on their way, which are due still, so that a free one is seen.
        let limit = u32::try_from(LOOK_AHEAD + taken).unwrap_or(u32::MAX);
        match self.database.read_durable(|conn| outbox::due(conn, now, limit)).await {
            Ok(mut due) => {
                due.retain(|due| !busy.holds(&due.reply.chat));
                due
            }
            Err(error) => {
                log::error!("outbox: due replies not read: {error}");
                Vec::new()
            }
        }
    }

    async fn retry_now(&self) {
        if let Err(error) = self.database.write(outbox::retry_now).await {
            log::error!("outbox: replies not made due after a reconnect: {error}");
        }
    }

    async fn rung_within(&self, time: Duration) {
        or(self.bell.heard(), async {
            clock::sleep(time).await;
        })
        .await;
    }

    async fn send(&self, due: &DueReply) -> Result<(), LedgerError> {
        let Some(client) = self.connection.client() else { return Ok(()) };
        let now = trusted_clock::now();
        if let Some(reason) = due.exhausted(now) {
            return self.give_up(due, reason).await;
        }
        let id = &due.reply.wa_message_id;
        let Ok(chat) = due.reply.chat.parse::<Jid>() else {
            return self.give_up(due, "the address of the chat cannot be read").await;
        };
        // Recorded before it is tried: a reply that brings the process down does so only so often.
        let next = now + retry_after(due.attempts);
        let recorded = self.database.write(|tx| outbox::record_attempt(tx, due, next));
        // The message that this answers may have moved the Signal session on. whatsapp-rust writes
        // that down a moment later, so a reply that is faster would leave under keys that a crash
        // forgets, while the phone has moved on to them: nothing it says would be decrypted again.
        // Beside the record, so that both share a commit.
        let session = within(ACK_DEADLINE, client.flush_pending_signal_state());
        let (recorded, session) = zip(recorded, session).await;
        if !recorded? {
            log::debug!("outbox: a later reply has taken the place of {id}");
            return Ok(());
        }
        match session {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                log::warn!("outbox: reply {id} waits: its Signal session could not be written: {error}");
                return Ok(());
            }
            None => {
                log::warn!("outbox: reply {id} waits: its Signal session was not written in time");
                return Ok(());
            }
        }
        let message = wa::Message { conversation: Some(due.reply.text.clone()), ..wa::Message::default() };
        let options = SendOptions::default().with_message_id(id.clone());
        let ack = self.connection.acks().expect(id);
        let sent_at = clock::now();
        let answered = async {
            match client.send_message_with_options(chat, message, options).await {
                Ok(_) => ack.answer().await.map_or(Sent::Unanswered, Sent::Answered),
                Err(error) => Sent::Failed(error),
            }
        };
        let lost = async {
            self.connection.link().wait_until_down().await;
            Sent::LineLost
        };
        match within(ACK_DEADLINE, or(answered, lost)).await.unwrap_or(Sent::Unanswered) {
            Sent::Answered(Ack::Accepted) => {
                // A power cut in the next moment has it sent again, as the same message.
                self.database.write_lazily(|tx| outbox::remove(tx, id))?;
            }
            Sent::Answered(Ack::Refused(code)) if HOPELESS.contains(&code.as_str()) => {
                self.give_up(due, &format!("WhatsApp refused it with code {code}")).await?;
            }
            Sent::Answered(Ack::Refused(code)) => {
                log::warn!("outbox: WhatsApp refused reply {id} with code {code}, tried again later");
            }
            Sent::Unanswered
                if self.connection.standing().last_stanza.is_none_or(|heard| heard < sent_at) =>
            {
                // A line that carries nothing says nothing about the reply.
                log::warn!(
                    "outbox: reply {id} not acknowledged, sent again later; nothing else was heard either"
                );
                self.database.write(|tx| outbox::take_back_attempt(tx, due.id)).await?;
            }
            Sent::Unanswered => log::warn!("outbox: reply {id} not acknowledged, sent again later"),
            Sent::Failed(error) if client.is_logged_in() => {
                log::warn!("outbox: reply {id} not sent, tried again later: {error}");
            }
            Sent::Failed(_) | Sent::LineLost => {
                log::info!("outbox: the line was lost before reply {id} was acknowledged");
                self.database.write(|tx| outbox::take_back_attempt(tx, due.id)).await?;
            }
        }
        Ok(())
    }

    async fn give_up(&self, due: &DueReply, reason: &str) -> Result<(), LedgerError> {
        log::error!("outbox: reply {} given up: {reason}", due.reply.wa_message_id);
        self.database.write(|tx| outbox::give_up(tx, due.id, reason, trusted_clock::now())).await
    }
}

/// What became of a reply that was handed to WhatsApp.
enum Sent {
    Answered(Ack),
    Unanswered,
    Failed(SendError),
    LineLost,
}

/// Chats that have a reply on its way: their next one waits, so that replies arrive in order.
#[derive(Clone, Default)]
struct Busy {
    chats: Arc<Mutex<HashSet<String>>>,
}

/// Frees the chat when dropped.
struct Turn {
    busy: Busy,
    chat: String,
}

impl Busy {
    fn take(&self, chat: &str) -> Turn {
        self.lock().insert(chat.to_owned());
        Turn { busy: self.clone(), chat: chat.to_owned() }
    }

    fn holds(&self, chat: &str) -> bool {
        self.lock().contains(chat)
    }

    fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.chats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.busy.lock().remove(&self.chat);
    }
}

/// Seconds until a reply that got no ack is sent again: 20, 40, 80 … at most ten minutes.
fn retry_after(attempts: u32) -> i64 {
    const FIRST: i64 = 20;
    const LAST: i64 = 600;
    FIRST.saturating_mul(1 << attempts.min(8)).min(LAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_id_depends_on_the_whole_key_and_nothing_else() {
        let id = reply_id("a@lid", "628", "M1");
        assert_eq!(id, reply_id("a@lid", "628", "M1"));
        assert_eq!(id.len(), 22);
        for other in
            [reply_id("b@lid", "628", "M1"), reply_id("a@lid6", "28", "M1"), reply_id("a@lid", "628", "M2")]
        {
            assert_ne!(id, other);
        }
    }

    #[test]
    fn retries_slow_down_and_stay_bounded() {
        assert_eq!([0, 1, 2].map(retry_after), [20, 40, 80]);
        assert_eq!(retry_after(u32::MAX), 600);
    }
}
