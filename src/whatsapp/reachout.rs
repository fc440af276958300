//! Keeps an eye on WhatsApp's reach-out time lock and on tokens that open chats which it had shut.
//!
//! The lock is asked for after a refusal, at most once an hour, also across restarts; WhatsApp tells of it by
//! itself as well. A token that comes gives the replies parked for its person another attempt. What follows
//! from either is decided in [`refusal`](super::refusal).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_lite::future::or;
use rusqlite::Connection;
use serde_json::Value;
use wacore::iq::mex_operations::fetch_reachout_timelock::Xwa2FetchAccountReachoutTimelock;
use wacore_binary::{Jid, NodeRef};
use whatsapp_rust::Client;

use super::connection;
use super::refusal::{Addresses, TOKEN_SECONDS};
use crate::bell::Bell;
use crate::clock;
use crate::ledger::reachout::{self, Lock};
use crate::ledger::{Database, LedgerError, outbox};
use crate::net::deadline::within;
use crate::trusted_clock;

/// From one question for the lock to the next, in seconds.
const ASK_EVERY: i64 = 3600;

/// WhatsApp answers a question within a second or not at all.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);

/// How often it is looked whether a question is due.
const LOOK: Duration = Duration::from_secs(60);

/// whatsapp-rust keeps a token some milliseconds after it tells of the notification that brought it.
const TOKEN_KEPT: Duration = Duration::from_secs(2);
const TOKEN_CHECK: Duration = Duration::from_millis(50);

/// People whose tokens have come and were not looked at yet. Beyond that a token is noticed when its person
/// writes, or at the next connection.
const MOST_TOKENS: usize = 256;

/// Chats with parked replies that are looked through for tokens when a connection is up: those that came
/// while nobody looked.
const MOST_CHATS: u32 = 256;

/// Name of WhatsApp's own message about the lock.
const LOCK_TOLD: &str = "NotificationUserReachoutTimelockUpdate";

/// What the connection hears and this room acts on; clones share it.
#[derive(Clone, Default)]
pub struct Heard {
    news: Arc<Mutex<News>>,
    bell: Bell,
}

#[derive(Default)]
struct News {
    tokens: Vec<Addresses>,
    lock: Option<Lock>,
}

impl Heard {
    /// A stanza came: a token of a contact is worth knowing.
    pub fn stanza(&self, stanza: &NodeRef<'_>) {
        let is_token = stanza.tag == "notification"
            && stanza.get_attr("type").is_some_and(|kind| kind.as_str() == "privacy_token");
        if !is_token {
            return;
        }
        let jid =
            |name| stanza.get_attr(name).and_then(|value| value.to_jid()).map(|jid: Jid| jid.to_non_ad());
        let (from, lid) = (jid("from"), jid("sender_lid"));
        let lid = lid.or_else(|| from.clone().filter(Jid::is_lid));
        let person = Addresses { phone: from.filter(Jid::is_pn), lid };
        let mut news = self.news();
        if news.tokens.len() < MOST_TOKENS && !news.tokens.contains(&person) {
            news.tokens.push(person);
        }
        drop(news);
        self.bell.ring();
    }

    /// WhatsApp told something about the account.
    pub fn told(&self, name: &str, payload: &Value) {
        if let Some(lock) = lock_told(name, payload) {
            self.news().lock = Some(lock);
            self.bell.ring();
        }
    }

    /// WhatsApp refused a reply with 463.
    pub fn refused(&self) {
        self.bell.ring();
    }

    fn take(&self) -> News {
        std::mem::take(&mut self.news())
    }

    /// What could not be written down is news still, unless something newer was heard.
    fn put_back(&self, lock: Option<Lock>) {
        let mut news = self.news();
        news.lock = news.lock.take().or(lock);
    }

    fn news(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lock in WhatsApp's own message about it.
fn lock_told(name: &str, payload: &Value) -> Option<Lock> {
    if name != LOCK_TOLD {
        return None;
    }
    let payload = payload.get("data").unwrap_or(payload);
    let lock = payload.get("xwa2_notify_account_reachout_timelock")?;
    serde_json::from_value::<Xwa2FetchAccountReachoutTimelock>(lock.clone())
        .inspect_err(|_| log::warn!("reachout: WhatsApp's message about its lock cannot be read"))
        .ok()
        .map(lock_of)
}

/// "0" and nothing mean that no end is known.
fn lock_of(told: Xwa2FetchAccountReachoutTimelock) -> Lock {
    let ends = told.time_enforcement_ends.and_then(|ends| ends.parse::<i64>().ok());
    Lock {
        active: told.is_active.unwrap_or(false),
        kind: told.enforcement_type,
        ends_at: ends.filter(|ends| *ends > 0),
    }
}

/// Acts on what is heard, for ever.
pub struct Reachout {
    pub database: Database,
    pub connection: connection::Connection,
    /// Rung when parked replies were released.
    pub outbox_bell: Bell,
}

impl Reachout {
    pub async fn run(self) {
        let heard = self.connection.heard().clone();
        let mut lines = 0;
        loop {
            self.connection.link().wait_until_up().await;
            let mut news = heard.take();
            if let Some(client) = self.connection.client() {
                let line = self.connection.link().times_up();
                let looked = async {
                    if let Some(lock) = &news.lock {
                        self.keep(lock).await?;
                        news.lock = None;
                    }
                    for person in &news.tokens {
                        if self.is_waited_for(person)? {
                            wait_until_kept(&client, person).await;
                            self.token_came(person).await?;
                        }
                    }
                    if lines != line {
                        self.look_for_tokens(&client).await?;
                    }
                    self.ask_if_due(&client).await
                };
                match looked.await {
                    Ok(()) => lines = line,
                    Err(error) => {
                        log::error!("reachout: not written down, tried again: {error}");
                        // Tokens that came are looked for among all.
                        lines = 0;
                    }
                }
            }
            heard.put_back(news.lock);
            or(heard.bell.heard(), async {
                clock::sleep(LOOK).await;
            })
            .await;
        }
    }

    /// Most tokens come from people to whom everything goes as ever.
    fn is_waited_for(&self, person: &Addresses) -> Result<bool, LedgerError> {
        self.database.read(|conn| {
            for chat in person.chats() {
                if reachout::refusal(conn, &chat)?.is_some() || outbox::is_parked(conn, &chat)? {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    async fn token_came(&self, person: &Addresses) -> Result<(), LedgerError> {
        let now = trusted_clock::now();
        if self.database.write(|tx| release(tx, person, now)).await? {
            log::info!("reachout: a token came for which replies waited");
            self.outbox_bell.ring();
        }
        Ok(())
    }

    /// Tokens that came while nobody looked.
    async fn look_for_tokens(&self, client: &Arc<Client>) -> Result<(), LedgerError> {
        let now = trusted_clock::now();
        for chat in self.database.read(|conn| outbox::parked_chats(conn, MOST_CHATS))? {
            let Ok(jid) = chat.parse::<Jid>() else { continue };
            let person = addresses(client, &jid).await;
            let refused_at =
                self.database.read(|conn| reachout::refusal(conn, &chat))?.map(|refusal| refusal.at);
            if let Some(at) = token_time(client, &person, now).await
                && refused_at.is_none_or(|refused| at > refused)
            {
                self.token_came(&person).await?;
            }
        }
        Ok(())
    }

    async fn ask_if_due(&self, client: &Arc<Client>) -> Result<(), LedgerError> {
        let now = trusted_clock::now();
        let (standing, refused) = self
            .database
            .read(|conn| Ok::<_, LedgerError>((reachout::standing(conn)?, reachout::last_refusal(conn)?)))?;
        if !is_due(standing.asked_at, refused, now) {
            return Ok(());
        }
        // Before it is asked, so that a process that dies of it does not ask for ever.
        self.database.write(|tx| reachout::asked(tx, now)).await?;
        match within(ANSWER_DEADLINE, client.mex().fetch_reachout_timelock()).await {
            Some(Ok(told)) => self.keep(&lock_of(told)).await,
            Some(Err(error)) => {
                log::warn!("reachout: WhatsApp did not tell whether it locks new chats: {error}");
                Ok(())
            }
            None => {
                log::warn!("reachout: WhatsApp did not tell in time whether it locks new chats");
                Ok(())
            }
        }
    }

    async fn keep(&self, lock: &Lock) -> Result<(), LedgerError> {
        match (lock.active, lock.ends_at) {
            (false, _) => log::info!("reachout: WhatsApp says that it locks no new chats"),
            (true, ends) => log::warn!(
                "reachout: WhatsApp locks new chats ({}) until {}",
                lock.kind.as_deref().unwrap_or("unknown kind"),
                ends.map_or("an unknown time".to_owned(), |ends| ends.to_string())
            ),
        }
        self.database.write(|tx| reachout::locked(tx, lock)).await
    }
}

/// Gives the replies that are parked for a person another attempt, because a token of theirs has come;
/// `true` if there are some.
pub(super) fn release(tx: &Connection, person: &Addresses, now: i64) -> Result<bool, LedgerError> {
    let mut released = false;
    for chat in person.chats() {
        let shut = reachout::refusal(tx, &chat)?.is_some();
        if reachout::token_came(tx, &chat, now)? || !shut {
            released |= outbox::release(tx, &chat)?;
        }
    }
    Ok(released)
}

/// Whether WhatsApp is to be asked for its lock: it refused somebody since it was asked, and was not asked
/// within the hour. A clock that was set back does not keep it from being asked.
fn is_due(asked_at: Option<i64>, refused_at: Option<i64>, now: i64) -> bool {
    match (asked_at, refused_at) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(asked), Some(refused)) => refused >= asked && (now - asked).abs() >= ASK_EVERY,
    }
}

/// Both addresses of a person, as far as they are known.
pub(super) async fn addresses(client: &Arc<Client>, jid: &Jid) -> Addresses {
    let known = client.get_lid_pn_entry(jid).await.unwrap_or_else(|error| {
        log::warn!("reachout: the other address of a chat could not be read: {error:#}");
        None
    });
    match known {
        Some(entry) => {
            Addresses { phone: Some(Jid::pn(&*entry.phone_number)), lid: Some(Jid::lid(&*entry.lid)) }
        }
        None => Addresses {
            phone: Some(jid.to_non_ad()).filter(Jid::is_pn),
            lid: Some(jid.to_non_ad()).filter(Jid::is_lid),
        },
    }
}

/// When the token of a person was made, if there is one that should still be good at `now`.
pub(super) async fn token_time(client: &Arc<Client>, person: &Addresses, now: i64) -> Option<i64> {
    // whatsapp-rust keeps it under the LID, or under the number while the LID is not known.
    let key = person.lid.as_ref().or(person.phone.as_ref())?;
    match client.tc_token().get(&key.user).await {
        Ok(entry) => entry
            .filter(|entry| !entry.token.is_empty() && entry.token_timestamp > now - TOKEN_SECONDS)
            .map(|entry| entry.token_timestamp),
        Err(error) => {
            log::warn!("reachout: a token could not be read: {error}");
            None
        }
    }
}

async fn wait_until_kept(client: &Arc<Client>, person: &Addresses) {
    let kept = async {
        while token_time(client, person, trusted_clock::now()).await.is_none() {
            clock::sleep(TOKEN_CHECK).await;
        }
        // One that was here before may be what was found; the new one follows at once.
        clock::sleep(TOKEN_CHECK).await;
    };
    within(TOKEN_KEPT, kept).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use wacore_binary::builder::NodeBuilder;

    const NOW: i64 = 1_795_410_000;

    #[test]
    fn the_lock_is_asked_for_after_a_refusal_and_once_an_hour_at_most() {
        assert!(!is_due(None, None, NOW));
        assert!(is_due(None, Some(NOW), NOW));
        assert!(!is_due(Some(NOW - ASK_EVERY), None, NOW));
        assert!(!is_due(Some(NOW - ASK_EVERY + 1), Some(NOW), NOW));
        assert!(is_due(Some(NOW - ASK_EVERY), Some(NOW), NOW));
        assert!(!is_due(Some(NOW - ASK_EVERY), Some(NOW - ASK_EVERY - 1), NOW), "nothing new");
        assert!(is_due(Some(NOW + ASK_EVERY), Some(NOW + ASK_EVERY), NOW), "the clock was set back");
    }

    #[test]
    fn a_lock_that_could_not_be_written_down_is_news_until_a_newer_one_is_heard() {
        let heard = Heard::default();
        let lock = |ends| Some(Lock { active: true, kind: None, ends_at: Some(ends) });
        heard.put_back(lock(1));
        assert_eq!(heard.take().lock, lock(1));
        let newer = json!({ "xwa2_notify_account_reachout_timelock":
            { "is_active": true, "time_enforcement_ends": "2" } });
        heard.told(LOCK_TOLD, &newer);
        heard.put_back(lock(1));
        assert_eq!(heard.take().lock, lock(2));
    }

    #[test]
    fn whatsapps_own_word_about_the_lock_is_understood_with_and_without_an_end() {
        let lock = |ends: Value| {
            json!({ "xwa2_notify_account_reachout_timelock":
                { "is_active": true, "enforcement_type": "DEFAULT", "time_enforcement_ends": ends } })
        };
        let expected = |ends_at| Some(Lock { active: true, kind: Some("DEFAULT".into()), ends_at });
        assert_eq!(lock_told(LOCK_TOLD, &lock(json!("1795500000"))), expected(Some(1_795_500_000)));
        assert_eq!(lock_told(LOCK_TOLD, &json!({ "data": lock(json!("0")) })), expected(None));
        assert_eq!(lock_told(LOCK_TOLD, &lock(Value::Null)), expected(None));
        assert_eq!(lock_told("NotificationOfSomethingElse", &lock(json!("1"))), None);
        for broken in [json!(null), json!([]), lock(json!({})), json!({ "data": 5 })] {
            assert_eq!(lock_told(LOCK_TOLD, &broken), None);
        }
    }

    #[test]
    fn tokens_are_heard_once_for_each_person_and_never_more_than_are_looked_at() {
        let heard = Heard::default();
        let notification = |kind: &'static str, n: usize| {
            NodeBuilder::new("notification")
                .attr("type", kind)
                .attr("from", Jid::pn(format!("62800{n:08}")))
                .attr("sender_lid", Jid::lid(format!("1000{n:08}")))
                .build()
        };
        heard.stanza(&notification("picture", 0).as_node_ref());
        assert!(heard.take().tokens.is_empty());
        for n in (0..MOST_TOKENS + 10).chain(0..5) {
            heard.stanza(&notification("privacy_token", n).as_node_ref());
        }
        let tokens = heard.take().tokens;
        assert_eq!(tokens.len(), MOST_TOKENS);
        assert_eq!(
            tokens[0].chats().collect::<Vec<_>>(),
            ["6280000000000@s.whatsapp.net", "100000000000@lid"]
        );
        assert!(heard.take().tokens.is_empty());
    }
}
