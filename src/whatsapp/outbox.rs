//! The outbox: replies that are rows in the ledger on their way to WhatsApp.
//!
//! A reply leaves the ledger when WhatsApp acknowledged it. Its message id is derived from the
//! message it answers, so a reply that is sent again after a crash or a lost line is the same
//! message to the phone that gets it. What is done when WhatsApp does not take a reply, or delivers it to
//! nobody, is decided in [`refusal`](super::refusal).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_lite::future::{or, pending, zip};
use sha2::{Digest, Sha256};
use smol::lock;
use wacore::iq::keepalive::KeepaliveSpec;
use wacore_binary::Jid;
use waproto::whatsapp as wa;
use whatsapp_rust::cache::Freshness;
use whatsapp_rust::{Client, NodeFilter, SendError, SendOptions};

use super::acks::{Ack, Pending};
use super::connection::Connection;
use super::pace::Pace;
use super::reachout;
use super::refusal::{self, Addresses, After, Answer, Before, Facts, Keyed, Reason};
use crate::bell::Bell;
use crate::clock;
use crate::executor::Executor;
use crate::ledger::outbox::{self, Due, DueReply, Lane};
use crate::ledger::{self, Database, LedgerError};
use crate::net::deadline::within;
use crate::trusted_clock;

/// Replies that may be on their way at once. Enough to reach 5 per second when an ack takes a
/// second and a half; small enough that a crash repeats only few.
const MAX_IN_FLIGHT: usize = 8;

/// Chats that are compared for the earliest slot.
const LOOK_AHEAD: usize = 16;

/// WhatsApp acknowledges within a second or not at all; then the reply is sent again.
const ACK_DEADLINE: Duration = Duration::from_secs(20);

/// An ack that is late by so much, on a line that has carried nothing since, has WhatsApp asked whether it is there:
/// else nobody could tell a reply that it does not take from a line that died. It has the rest of [`ACK_DEADLINE`] to
/// answer, and whatsapp-rust takes a socket for dead only after that.
const ASK_AFTER: Duration = Duration::from_secs(10);

/// How long the loop sleeps when nothing is due and nobody rings: covers replies whose next
/// attempt lies in the future.
const IDLE: Duration = Duration::from_secs(5);

/// Longest wait for the token of a person who gets a first reply. Longer would only annoy: whoever has
/// written first is mostly let in without.
const TOKEN_WAIT: Duration = Duration::from_secs(3);
const TOKEN_CHECK: Duration = Duration::from_millis(50);

/// Replies that may wait for tokens beside those on their way: so many that even if none ever comes, first
/// replies go out as fast as the pace of five a second allows.
const MAX_ASIDE: usize = 16;

/// Longest wait for the account's properties on a connection.
const PROPERTIES_DEADLINE: Duration = Duration::from_secs(5);

/// Seconds until a first reply is looked at again that has to wait for another one's outcome.
const NEXT_FIRST: i64 = 2;

/// Sends what is due, for ever.
pub struct Outbox {
    pub database: Database,
    pub connection: Connection,
    /// Rung after a reply was committed.
    pub bell: Bell,
    pub per_chat_per_second: u32,
    pub total_per_second: u32,
    /// Held by the one first reply that may be on its way while WhatsApp is suspected to refuse them.
    pub firsts: lock::Mutex<()>,
    /// The connection, by its number, on which the account's properties were fetched.
    pub properties_of: lock::Mutex<u64>,
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
        let pace = Arc::new(Mutex::new(Pace::new(outbox.per_chat_per_second, outbox.total_per_second)));
        let busy = Busy::default();
        let mut lines = 0;
        let mut last = Lane::Much;
        loop {
            outbox.connection.link().wait_until_up().await;
            if lines != outbox.connection.link().times_up() {
                lines = outbox.connection.link().times_up();
                outbox.retry_now().await;
            }
            let now = clock::since(start);
            let slot_of = |due: &Due| locked(&pace).earliest(&due.chat, now);
            let next = earliest(outbox.due(&busy).await, last, slot_of);
            let Some((slot, lane, due)) = next else {
                outbox.rung_within(IDLE).await;
                continue;
            };
            if slot > now {
                // Look again afterwards: another chat may have become due meanwhile.
                outbox.rung_within(slot - now).await;
                continue;
            }
            // Nothing was waited for since it was found: it is still there.
            let due = match outbox.database.read(|conn| outbox::read(conn, due.id)) {
                Ok(Some(due)) => due,
                Ok(None) => continue,
                Err(error) => {
                    log::error!("outbox: a due reply was not read: {error}");
                    outbox.rung_within(IDLE).await;
                    continue;
                }
            };
            last = lane;
            locked(&pace).leave(&due.reply.chat, now);
            let turn = busy.take(&due.reply.chat);
            let (outbox, pace) = (outbox.clone(), pace.clone());
            executor
                .spawn(async move {
                    match outbox.send(&due, &turn).await {
                        Ok(true) => {}
                        Ok(false) => locked(&pace).take_back(&due.reply.chat),
                        Err(error) => {
                            log::error!("outbox: reply {} not recorded: {error}", due.reply.wa_message_id);
                            // A disk that refuses is not asked again at once.
                            clock::sleep(IDLE).await;
                        }
                    }
                    drop(turn);
                    outbox.bell.ring();
                })
                .detach();
        }
    }

    /// In each lane the oldest reply of each chat that is due and has none on its way, whoever has waited
    /// longest first; none when enough are on their way.
    async fn due(&self, busy: &Busy) -> Vec<(Lane, Due)> {
        let taken = busy.count();
        if taken >= MAX_IN_FLIGHT {
            return Vec::new();
        }
        let now = trusted_clock::now();
        // One more than those on their way, which are due still, so that a free one is seen.
        let limit = u32::try_from(LOOK_AHEAD + busy.len()).unwrap_or(u32::MAX);
        let due = self.database.read_durable(|conn| {
            let mut due = Vec::new();
            for lane in Lane::ALL {
                due.extend(outbox::due(conn, lane, now, limit)?.into_iter().map(|due| (lane, due)));
            }
            Ok::<_, LedgerError>(due)
        });
        match due.await {
            Ok(mut due) => {
                due.retain(|(_, due)| !busy.holds(&due.chat));
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

    /// Whether an attempt was made. If not, others need not wait for it.
    async fn send(&self, due: &DueReply, turn: &Turn) -> Result<bool, LedgerError> {
        let Some(client) = self.connection.client() else { return Ok(false) };
        let Ok(chat) = due.reply.chat.parse::<Jid>() else {
            self.give_up(due, &Reason::AddressUnreadable).await?;
            return Ok(false);
        };
        self.know_properties(&client).await;
        let person = reachout::addresses(&client, &chat).await;
        let facts = self.facts(&client, due, &person, turn).await?;
        let decision = refusal::before(&facts);
        if let Before::GiveUp(reason) = decision {
            self.give_up(due, &reason).await?;
            return Ok(false);
        }
        if let Some(why) = due.exhausted(facts.now) {
            self.give_up(due, &Reason::Exhausted(why)).await?;
            return Ok(false);
        }
        if let Before::Park(until) = decision {
            log::info!("outbox: reply {} waits: WhatsApp does not let it in now", due.reply.wa_message_id);
            self.unless_replaced(due, |tx| outbox::park(tx, due.id, until, facts.now)).await?;
            return Ok(false);
        }
        let alone = (decision == Before::SendFirst).then(|| self.firsts.try_lock());
        if matches!(alone, Some(None)) && self.is_suspicious(facts.now)? {
            let until = facts.now + NEXT_FIRST;
            self.unless_replaced(due, |tx| outbox::put_off(tx, due.id, until)).await?;
            return Ok(false);
        }
        let _alone = alone.flatten();
        self.attempt(&client, due, chat, &person, &facts).await?;
        Ok(true)
    }

    /// What is known about a reply whose turn it is. Waits a moment for a token of who gets a first reply.
    async fn facts(
        &self,
        client: &Arc<Client>,
        due: &DueReply,
        person: &Addresses,
        turn: &Turn,
    ) -> Result<Facts, LedgerError> {
        // Whoever writes to their own phone needs nobody's leave.
        let own = client.pn().is_some_and(|own| person.phone.as_ref().is_some_and(|to| to.user == own.user));
        // Operators must hear of it.
        let vouched = own || due.reply.kind == outbox::Kind::Alert;
        let read = || {
            self.database.read(|conn| {
                let mut answered = vouched || ledger::reachout::was_answered(conn, &due.reply.chat)?;
                for chat in person.chats() {
                    answered = answered || ledger::reachout::was_answered(conn, &chat)?;
                }
                Ok::<_, LedgerError>(Facts {
                    now: trusted_clock::now(),
                    written_at: due.reply.at,
                    parked_at: outbox::difficulty(conn, due.id)?.parked_at,
                    answered,
                    has_token: false,
                    refusal: ledger::reachout::refusal(conn, &due.reply.chat)?,
                    paused_until: ledger::reachout::standing(conn)?.paused_until,
                })
            })
        };
        let has_token = async || reachout::token_time(client, person, trusted_clock::now()).await.is_some();
        let facts = Facts { has_token: has_token().await, ..read()? };
        if facts.has_token || facts.answered || facts.refusal.is_some() || !turn.steps_aside() {
            return Ok(facts);
        }
        // Phones send their token beside their first message.
        let came = async {
            while !has_token().await {
                clock::sleep(TOKEN_CHECK).await;
            }
        };
        let came = within(TOKEN_WAIT, came).await.is_some();
        turn.steps_back();
        // Others may have been refused meanwhile.
        Ok(Facts { has_token: came, ..read()? })
    }

    /// One attempt, recorded before it is made, and what follows from its outcome.
    async fn attempt(
        &self,
        client: &Arc<Client>,
        due: &DueReply,
        chat: Jid,
        person: &Addresses,
        facts: &Facts,
    ) -> Result<(), LedgerError> {
        let id = &due.reply.wa_message_id;
        // Recorded before it is tried: a reply that brings the process down does so only so often.
        let recorded = self.record_attempt(due, due.attempts);
        // The message that this answers may have moved the Signal session on. whatsapp-rust writes
        // that down a moment later, so a reply that is faster would leave under keys that a crash
        // forgets, while the phone has moved on to them: nothing it says would be decrypted again.
        // Beside the record, so that both share a commit.
        let session = within(ACK_DEADLINE, client.flush_pending_signal_state());
        let (recorded, session) = zip(recorded, session).await;
        if !recorded? {
            crate::logging::debug!("outbox: a later reply has taken the place of {id}");
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
        let unkeyed = self.database.read(|conn| outbox::difficulty(conn, due.id))?.unkeyed;
        let message = wa::Message { conversation: Some(due.reply.text.clone()), ..wa::Message::default() };
        let mut options = SendOptions::default().with_message_id(id.clone());
        if unkeyed > 0 {
            options = options.with_device_freshness(Freshness::Refresh);
        }
        let own = Addresses { phone: client.pn(), lid: client.lid() };
        let mut sent = client.wait_for_sent_node(NodeFilter::tag("message").attr("id", id.as_str()));
        let mut ack = self.connection.acks().expect(id);
        let mut sent_at = clock::now();
        let mut outcome = self
            .answer(client, &ack, async {
                client.send_message_with_options(chat, message, options).await.map(drop)
            })
            .await;
        let stanza = sent.try_recv().ok().flatten();
        let mut other = stanza.as_deref().and_then(|stanza| refusal::readdressed(stanza, person, &own));
        loop {
            let answer = match &outcome {
                Sent::Answered(Ack::Accepted) => Answer::Taken(
                    stanza.as_deref().map_or(Keyed::Unknown, |stanza| refusal::keyed(stanza, &own)),
                ),
                Sent::Answered(Ack::Refused(code)) => Answer::Refused(code),
                _ => break,
            };
            match (refusal::after(&answer, unkeyed, other.is_some()), other.take()) {
                (After::OtherAddress, Some(stanza)) => {
                    log::warn!(
                        "outbox: reply {id} was refused ({answer:?}); trying the person's other address"
                    );
                    self.record_attempt(due, due.attempts + 1).await?;
                    // The first one must be gone: it takes its id along.
                    drop(ack);
                    ack = self.connection.acks().expect(id);
                    sent_at = clock::now();
                    outcome = self
                        .answer(client, &ack, async {
                            client.send_node(stanza).await.map_err(SendError::from)
                        })
                        .await;
                }
                (After::Delivered, _) => return self.delivered(due, person, facts),
                (After::Park, _) => return self.park_refused(client, due, person, facts).await,
                (After::Afresh, _) => {
                    log::warn!(
                        "outbox: WhatsApp took reply {id}, but there is no ciphertext for the recipient's phone; \
                         sent again later with a fresh list of devices"
                    );
                    return self.database.write(|tx| outbox::count_unkeyed(tx, due.id)).await;
                }
                (After::GiveUp(reason), _) => return self.give_up(due, &reason).await,
                (After::Later | After::OtherAddress, _) => {
                    log::warn!("outbox: WhatsApp refused reply {id} ({answer:?}), tried again later");
                    return Ok(());
                }
            }
        }
        match outcome {
            Sent::Unanswered if !self.heard_since(sent_at) => {
                // A line that carries nothing says nothing about the reply.
                log::warn!(
                    "outbox: reply {id} not acknowledged, sent again later; nothing else was heard either"
                );
                self.database.write(|tx| outbox::take_back_attempt(tx, due.id)).await?;
            }
            Sent::Failed(error) if client.is_logged_in() => {
                log::warn!("outbox: reply {id} not sent, tried again later: {error}");
            }
            Sent::Failed(_) | Sent::LineLost => {
                log::info!("outbox: the line was lost before reply {id} was acknowledged");
                self.database.write(|tx| outbox::take_back_attempt(tx, due.id)).await?;
            }
            // Answers are dealt with above.
            Sent::Unanswered | Sent::Answered(_) => {
                log::warn!("outbox: reply {id} not acknowledged, sent again later");
            }
        }
        Ok(())
    }

    /// `false`: a later reply has taken its place.
    async fn record_attempt(&self, due: &DueReply, attempts: u32) -> Result<bool, LedgerError> {
        let next = trusted_clock::now() + retry_after(attempts);
        self.database.write(|tx| outbox::record_attempt(tx, due, next)).await
    }

    /// Sends, and waits for WhatsApp's answer for as long as it makes sense.
    async fn answer(
        &self,
        client: &Arc<Client>,
        ack: &Pending,
        send: impl Future<Output = Result<(), SendError>>,
    ) -> Sent {
        let begun = clock::now();
        let answered = async {
            match send.await {
                Ok(()) => ack.answer().await.map_or(Sent::Unanswered, Sent::Answered),
                Err(error) => Sent::Failed(error),
            }
        };
        let lost = async {
            self.connection.link().wait_until_down().await;
            Sent::LineLost
        };
        let asking = async {
            clock::sleep(ASK_AFTER).await;
            if !self.heard_since(begun) {
                // That something comes is what counts; what keeps it away shows by the end of the wait.
                let _ = client.execute(KeepaliveSpec::with_timeout(ACK_DEADLINE - ASK_AFTER)).await;
            }
            pending().await
        };
        within(ACK_DEADLINE, or(or(answered, lost), asking)).await.unwrap_or(Sent::Unanswered)
    }

    /// Whether the line has carried anything from WhatsApp since then.
    fn heard_since(&self, then: Instant) -> bool {
        self.connection.standing().last_stanza.is_some_and(|heard| heard >= then)
    }

    /// The recipient's phone has it, or will. What was parked behind it follows.
    fn delivered(&self, due: &DueReply, person: &Addresses, facts: &Facts) -> Result<(), LedgerError> {
        let chat = &due.reply.chat;
        // A power cut in the next moment has it sent again, as the same message.
        self.database.write_lazily(|tx| {
            outbox::remove(tx, &due.reply.wa_message_id)?;
            let mut was_shut = ledger::reachout::accepted(tx, chat, facts.now)?;
            let others: Vec<String> = person.chats().filter(|other| other != chat).collect();
            for other in &others {
                was_shut |= ledger::reachout::opened(tx, other)?;
            }
            if was_shut || facts.parked_at.is_some() {
                for chat in others.iter().chain([chat]) {
                    outbox::release(tx, chat)?;
                }
            }
            if !facts.answered && !facts.has_token {
                // A first reply that nothing vouched for: WhatsApp lets them through again.
                ledger::reachout::end_pause(tx)?;
            }
            Ok(())
        })
    }

    /// Keeps a reply that WhatsApp does not let in, and lets first replies pause if it is one of many.
    async fn park_refused(
        &self,
        client: &Arc<Client>,
        due: &DueReply,
        person: &Addresses,
        facts: &Facts,
    ) -> Result<(), LedgerError> {
        let id = &due.reply.wa_message_id;
        let now = trusted_clock::now();
        // One that came while the reply was on its way.
        let token_came = !facts.has_token && reachout::token_time(client, person, now).await.is_some();
        let paused = self.database.write(|tx| {
            ledger::reachout::refused(tx, &due.reply.chat, now)?;
            outbox::park(tx, due.id, refusal::parked_until(due.reply.at), now)?;
            if token_came {
                reachout::release(tx, person, now)?;
            }
            let people = ledger::reachout::people_refused_since(tx, now - refusal::COUNTED_SECONDS)?;
            let paused = refusal::pause(people, &ledger::reachout::standing(tx)?.lock, now);
            if let Some(until) = paused {
                ledger::reachout::pause(tx, until)?;
            }
            Ok::<_, LedgerError>(paused)
        });
        match paused.await? {
            None => log::warn!("outbox: WhatsApp did not let reply {id} in (463); it is kept for its person"),
            Some(until) => log::error!(
                "outbox: WhatsApp did not let reply {id} in (463), nor those to others; first replies pause \
                 until {until}"
            ),
        }
        self.connection.heard().refused();
        Ok(())
    }

    /// Whether somebody was refused lately, or a pause has ended and no first reply has got through since.
    fn is_suspicious(&self, now: i64) -> Result<bool, LedgerError> {
        self.database.read(|conn| {
            let since = now - refusal::SUSPICION_SECONDS;
            Ok(ledger::reachout::standing(conn)?.paused_until.is_some()
                || ledger::reachout::people_refused_since(conn, since)? > 0)
        })
    }

    /// Fetches the account's properties once on each connection before the first reply: without them
    /// whatsapp-rust attaches no tokens. It fetches them by itself as well, at some time after the login.
    async fn know_properties(&self, client: &Arc<Client>) {
        let line = self.connection.link().times_up();
        let mut known = self.properties_of.lock().await;
        if *known == line {
            return;
        }
        match within(PROPERTIES_DEADLINE, client.fetch_props()).await {
            Some(Ok(())) => {}
            Some(Err(error)) => log::warn!("outbox: the account's properties were not fetched: {error}"),
            None => log::warn!("outbox: the account's properties did not come in time; going on without"),
        }
        *known = line;
    }

    async fn give_up(&self, due: &DueReply, reason: &Reason) -> Result<(), LedgerError> {
        log::error!("outbox: reply {} given up: {reason}", due.reply.wa_message_id);
        let (reason, now) = (reason.to_string(), trusted_clock::now());
        self.unless_replaced(due, |tx| outbox::give_up(tx, due.id, &reason, now)).await
    }

    /// Until its first attempt is recorded, a later reply may take its place, and its row's number with it.
    async fn unless_replaced(
        &self,
        due: &DueReply,
        change: impl Fn(&rusqlite::Connection) -> Result<(), LedgerError>,
    ) -> Result<(), LedgerError> {
        self.database.write(|tx| if outbox::stands(tx, due)? { change(tx) } else { Ok(()) }).await
    }
}

/// The reply that may leave first, of those that may leave now one of the other lane than the `last` one, and
/// of those the first: its chat has waited longest. With the moment at which it may.
fn earliest(
    due: Vec<(Lane, Due)>,
    last: Lane,
    slot_of: impl Fn(&Due) -> Duration,
) -> Option<(Duration, Lane, Due)> {
    due.into_iter()
        .map(|(lane, due)| (slot_of(&due), lane, due))
        .min_by_key(|(slot, lane, _)| (*slot, *lane == last))
}

fn locked(pace: &Mutex<Pace>) -> std::sync::MutexGuard<'_, Pace> {
    pace.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// With each, whether it has stepped aside.
    chats: Arc<Mutex<HashMap<String, bool>>>,
}

/// Frees the chat when dropped.
struct Turn {
    busy: Busy,
    chat: String,
}

impl Busy {
    fn take(&self, chat: &str) -> Turn {
        self.lock().insert(chat.to_owned(), false);
        Turn { busy: self.clone(), chat: chat.to_owned() }
    }

    fn holds(&self, chat: &str) -> bool {
        self.lock().contains_key(chat)
    }

    fn len(&self) -> usize {
        self.lock().len()
    }

    /// Those that have not stepped aside.
    fn count(&self) -> usize {
        self.lock().values().filter(|aside| !**aside).count()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, bool>> {
        self.chats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Lets others pass while this one only waits; `false` if too many do so already.
    fn steps_aside(&self) -> bool {
        let mut chats = self.busy.lock();
        let room = chats.values().filter(|aside| **aside).count() < MAX_ASIDE;
        if room {
            chats.insert(self.chat.clone(), true);
        }
        room
    }

    /// Goes on: for a moment there may be more on their way than [`MAX_IN_FLIGHT`], by [`MAX_ASIDE`] at most.
    fn steps_back(&self) {
        self.busy.lock().insert(self.chat.clone(), false);
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
    fn who_waits_for_a_token_lets_others_pass_and_so_many_may() {
        let busy = Busy::default();
        let turns: Vec<Turn> = (0..=MAX_ASIDE).map(|n| busy.take(&n.to_string())).collect();
        let aside = turns.iter().filter(|turn| turn.steps_aside()).count();
        assert_eq!((aside, busy.count(), busy.len()), (MAX_ASIDE, 1, MAX_ASIDE + 1));
        turns[0].steps_back();
        assert_eq!(busy.count(), 2);
        drop(turns);
        assert_eq!(busy.len(), 0);
    }

    #[test]
    fn turns_alternate_between_those_who_wrote_little_and_those_who_wrote_much() {
        let reply = |id, chat: &str| Due { id, chat: chat.into() };
        let next = |lanes: &[Lane], last, held: &str| {
            let due = lanes.iter().zip(0..).map(|(lane, n)| (*lane, reply(n, &n.to_string())));
            let slot = |due: &Due| Duration::from_secs(u64::from(due.chat == held));
            earliest(due.collect(), last, slot).map(|(_, _, due)| due.id)
        };
        let both = [Lane::Little, Lane::Little, Lane::Much, Lane::Much];
        assert_eq!(next(&both, Lane::Much, ""), Some(0));
        assert_eq!(next(&both, Lane::Little, ""), Some(2));
        assert_eq!(next(&both, Lane::Little, "2"), Some(3), "not who had one just now");
        assert_eq!(next(&both[..1], Lane::Little, ""), Some(0), "alone, a lane has all turns");
        assert_eq!(next(&both[1..3], Lane::Little, "1"), Some(0), "no turn is left empty");
        assert_eq!(next(&[], Lane::Little, ""), None);
    }

    #[test]
    fn retries_slow_down_and_stay_bounded() {
        assert_eq!([0, 1, 2].map(retry_after), [20, 40, 80]);
        assert_eq!(retry_after(u32::MAX), 600);
    }
}
