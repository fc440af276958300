//! Tells others over HTTP: an ntfy topic gets the messages, a dead man's switch is fed for as long as
//! the promise is kept and told at once when it is not.
//!
//! Calls run on the worker thread, one at a time, and never wait for each other's retries.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_lite::future::or;
use ureq::Agent;

use super::alert::{Kind, Message};
use super::warning::{Cause, Severity};
use crate::bell::Bell;
use crate::clock;
use crate::config::SecretUrl;
use crate::worker;

/// Time for one call. Registrations wait for the worker meanwhile.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Waits between tries: twice as long each time, from the first to the longest. With so many tries
/// a message is given up after some six hours; by then WhatsApp's own message has gone out, or
/// nobody is there to read this one.
const FIRST_RETRY: Duration = Duration::from_secs(10);
const LONGEST_RETRY: Duration = Duration::from_secs(15 * 60);
const MOST_TRIES: u32 = 30;

/// While the promise is not kept, how often it is looked whether it is again.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Tries of one call to the dead man's switch: a silent one is what it is there to notice.
const SWITCH_TRIES: u32 = 3;

/// What one call is made of.
#[derive(Clone)]
struct Call {
    url: SecretUrl,
    /// POST with this body, else GET.
    body: Option<String>,
    headers: Vec<(&'static str, String)>,
}

impl Call {
    /// Makes the call; an error says what happened without the secret part of the address.
    async fn make(&self, agent: &Agent) -> Result<(), String> {
        let (call, agent) = (self.clone(), agent.clone());
        worker::run(move || call.make_blocking(&agent))
            .await
            .unwrap_or_else(|error| Err(format!("no worker thread: {error}")))
    }

    fn make_blocking(&self, agent: &Agent) -> Result<(), String> {
        let url = self.url.expose();
        let answer = match &self.body {
            Some(body) => {
                let mut request = agent.post(url).config().timeout_global(Some(TIMEOUT)).build();
                for (name, value) in &self.headers {
                    request = request.header(*name, value);
                }
                request.send(body)
            }
            None => agent.get(url).config().timeout_global(Some(TIMEOUT)).build().call(),
        };
        match answer {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(format!("it answered {}", answer.status().as_u16())),
            Err(ureq::Error::BadUri(_)) => Err("bad URL".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Messages on their way to an ntfy topic: at most one for each cause, the newest.
#[derive(Clone, Default)]
pub struct Topic {
    waiting: Arc<Mutex<BTreeMap<Cause, Note>>>,
    bell: Bell,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Note {
    kind: Kind,
    text: String,
    tries: u32,
    due: Instant,
}

impl Topic {
    /// Puts a message on its way in place of an older one about the same cause.
    pub fn put(&self, message: &Message, text: String) {
        let note = Note { kind: message.kind, text, tries: 0, due: clock::now() };
        self.lock().insert(message.cause, note);
        self.bell.ring();
    }

    /// Sends what comes, for ever.
    pub async fn run(self, agent: Agent, url: SecretUrl) {
        loop {
            let next = self.next();
            let Some((cause, note)) = next else {
                self.bell.heard().await;
                continue;
            };
            let wait = note.due.saturating_duration_since(clock::now());
            if !wait.is_zero() {
                or(self.bell.heard(), clock::sleep(wait)).await;
                continue;
            }
            let outcome = call(&url, cause, &note).make(&agent).await;
            self.settle(cause, &note, outcome, &url);
        }
    }

    fn next(&self) -> Option<(Cause, Note)> {
        let waiting = self.lock();
        let (cause, note) = waiting.iter().min_by_key(|(_, note)| note.due)?;
        Some((*cause, note.clone()))
    }

    /// What becomes of a note after a try. A newer one about the same cause is not touched.
    fn settle(&self, cause: Cause, tried: &Note, outcome: Result<(), String>, url: &SecretUrl) {
        let mut waiting = self.lock();
        let Some(note) = waiting.get_mut(&cause).filter(|note| *note == tried) else { return };
        match outcome {
            Ok(()) => {
                waiting.remove(&cause);
            }
            Err(reason) if note.tries + 1 >= MOST_TRIES => {
                log::warn!("watch: {} not told {}, given up: {reason}", url.masked(), cause.code());
                waiting.remove(&cause);
            }
            Err(reason) => {
                crate::logging::debug!(
                    "watch: {} not told {}, tried again: {reason}",
                    url.masked(),
                    cause.code()
                );
                note.due = clock::now() + retry_after(note.tries);
                note.tries += 1;
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Cause, Note>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn retry_after(tries: u32) -> Duration {
    FIRST_RETRY.saturating_mul(1 << tries.min(16)).min(LONGEST_RETRY)
}

/// A note as ntfy takes it (docs.ntfy.sh/publish): header fields in ASCII, the text as the body.
fn call(url: &SecretUrl, cause: Cause, note: &Note) -> Call {
    let (priority, tags) = match (note.kind, cause.warnable().severity) {
        (Kind::Recovered, _) => ("default", "white_check_mark"),
        (_, Severity::Unhealthy) => ("high", "rotating_light"),
        (_, Severity::Warning) => ("default", "warning"),
    };
    Call {
        url: url.clone(),
        body: Some(note.text.clone()),
        headers: vec![
            ("Title", format!("Bot KJP: {}", cause.code())),
            ("Priority", priority.to_owned()),
            ("Tags", tags.to_owned()),
        ],
    }
}

/// Handle to the dead man's switch.
#[derive(Clone, Default)]
pub struct Switch {
    broken: Bell,
}

impl Switch {
    /// Something that needs help has begun: says so at once instead of waiting to be missed.
    pub fn break_off(&self) {
        self.broken.ring();
    }

    /// Feeds the switch at `interval` for as long as `kept` says so, for ever.
    pub async fn run(self, agent: Agent, url: SecretUrl, interval: Duration, kept: impl Fn() -> bool) {
        let fed = Call { url: url.clone(), body: None, headers: Vec::new() };
        let failed = fail_call(&url);
        let mut told = String::new();
        let mut next = clock::now();
        loop {
            let wait = if kept() { next.saturating_duration_since(clock::now()) } else { LOOK_AGAIN };
            let broken = or(
                async {
                    self.broken.heard().await;
                    true
                },
                async {
                    clock::sleep(wait).await;
                    false
                },
            );
            let call = match broken.await {
                true => &failed,
                false if kept() && clock::now() >= next => {
                    next = clock::now() + interval;
                    &fed
                }
                false => continue,
            };
            let mut outcome = Ok(());
            for tries in 0..SWITCH_TRIES {
                outcome = call.make(&agent).await;
                if outcome.is_ok() {
                    break;
                }
                clock::sleep(retry_after(tries)).await;
            }
            // A change is worth a line, not each call.
            let reason = outcome.err().unwrap_or_default();
            if reason != told && !reason.is_empty() {
                log::warn!("watch: {} was not reached: {reason}", url.masked());
            }
            told = reason;
        }
    }
}

/// The call that says that the promise is broken. healthchecks.io: POST to `…/fail`
/// (healthchecks.io/docs/http_api). Uptime Kuma's push address carries its state in the query.
fn fail_call(url: &SecretUrl) -> Call {
    let address = url.expose();
    if address.contains("status=up") {
        let url = SecretUrl::new(address.replacen("status=up", "status=down", 1));
        return Call { url, body: None, headers: Vec::new() };
    }
    let (path, query) = match address.find('?') {
        Some(at) => address.split_at(at),
        None => (address, ""),
    };
    let url = SecretUrl::new(format!("{}/fail{query}", path.trim_end_matches('/')));
    Call { url, body: Some(String::new()), headers: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::warning::Detail;

    fn message(cause: Cause, kind: Kind) -> Message {
        Message { cause, kind, since: 0, detail: Detail::None }
    }

    #[test]
    fn the_newest_message_about_a_cause_takes_the_place_of_the_older() {
        let topic = Topic::default();
        topic.put(&message(Cause::Offline, Kind::Raised), "raised".into());
        let (cause, old) = topic.next().unwrap();
        topic.put(&message(Cause::Offline, Kind::Recovered), "recovered".into());
        let url = SecretUrl::new("https://ntfy.sh/x");
        // The answer to the older one arrives late.
        topic.settle(cause, &old, Ok(()), &url);
        let (_, new) = topic.next().unwrap();
        assert_eq!(new.text, "recovered");
        topic.settle(cause, &new, Ok(()), &url);
        assert_eq!(topic.next(), None);
    }

    #[test]
    fn tries_slow_down_and_end() {
        let topic = Topic::default();
        let url = SecretUrl::new("https://ntfy.sh/x");
        topic.put(&message(Cause::Offline, Kind::Raised), "raised".into());
        let mut tries = 0;
        while let Some((cause, note)) = topic.next() {
            topic.settle(cause, &note, Err("timed out".into()), &url);
            tries += 1;
        }
        assert_eq!(tries, MOST_TRIES);
        assert_eq!([0, 1, 2, 99].map(|tries| retry_after(tries).as_secs()), [10, 20, 40, 900]);
    }

    #[test]
    fn header_fields_of_a_note_are_ascii() {
        let url = SecretUrl::new("https://ntfy.sh/x");
        for &cause in Cause::ALL {
            for kind in [Kind::Raised, Kind::Reminded { days: 1 }, Kind::Recovered] {
                let note = Note { kind, text: "🔴".into(), tries: 0, due: clock::now() };
                let call = call(&url, cause, &note);
                assert!(call.headers.iter().all(|(_, value)| value.is_ascii()), "{cause:?}");
                assert_eq!(call.body.as_deref(), Some("🔴"));
            }
        }
    }

    #[test]
    fn a_broken_promise_is_told_in_the_services_own_way() {
        let failing = |url: &str| fail_call(&SecretUrl::new(url)).url.expose().to_owned();
        assert_eq!(failing("https://hc-ping.com/uuid"), "https://hc-ping.com/uuid/fail");
        assert_eq!(failing("https://hc-ping.com/uuid/?rid=1"), "https://hc-ping.com/uuid/fail?rid=1");
        assert_eq!(
            failing("http://192.168.1.9:3001/api/push/x?status=up&msg=OK"),
            "http://192.168.1.9:3001/api/push/x?status=down&msg=OK"
        );
    }
}
