//! The connection to WhatsApp: builds whatsapp-rust's client on our parts, keeps it running, and
//! decides what follows when it ends.
//!
//! whatsapp-rust reconnects by itself after ordinary losses of the line. What it gives up on ends
//! its run loop; [`after`] is the one table that says what each such end means.

pub mod standing;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender};
use async_trait::async_trait;
use futures_lite::future::or;
use wacore::net::{Transport, TransportEvent, TransportFactory};
use wacore::store::DevicePropsOverride;
use wacore::types::events::{Event, EventHandler, EventInterest, EventKind};
use waproto::whatsapp::device_props::PlatformType;
use whatsapp_rust::anyhow;
use whatsapp_rust::bot::{Bot, BotBuilderError};
use whatsapp_rust::pair_code::PairCodeOptions;
use whatsapp_rust::{CacheConfig, CacheEntryConfig, Client};

use super::acks::{Ack, Acks};
use super::http_client::WebClient;
use super::inbox::{Hook, PhoneRecoveries};
use super::runtime::SmolRuntime;
use super::session_store::{SessionError, SessionStore};
use super::transport::WebSocketFactory;
use crate::bell::Bell;
use crate::clock;
use crate::net::Link;
use crate::net::deadline::within;
use crate::personal::PhoneNumber;

/// After an end that nothing explains: long enough not to hammer WhatsApp.
const RETRY: Duration = Duration::from_secs(60);

/// Between two sets of pairing QR codes: the server closes the socket after each set.
const NEXT_QR_CODES: Duration = Duration::from_secs(2);

/// Another client took over the session. Ours comes back, in case the other was a mistake.
const REPLACED: Duration = Duration::from_secs(30);

/// The same end again within this time means that something fights back: another client with our
/// session (field notes B7.2), or a server that logs out whoever logs in.
const FIGHT: Duration = Duration::from_secs(10 * 60);

/// Pause in a fight.
const TRUCE: Duration = Duration::from_secs(15 * 60);

/// The server refuses this client version; a new one may be published any hour.
const OUTDATED: Duration = Duration::from_secs(15 * 60);

/// SIGTERM must not take longer than two seconds in all.
const FAREWELL: Duration = Duration::from_millis(1500);

/// The part of it in which replies on their way may still be acknowledged.
const LAST_ACKS: Duration = Duration::from_millis(500);

/// How often it is checked whether the client is still logged in. WhatsApp takes the login back
/// without closing the socket when it limits our rate (`stream:error` 429) or goes down (503), and
/// whatsapp-rust then waits for the socket to close.
const LOGIN_CHECK: Duration = Duration::from_secs(15);

/// Checks in a row that find the login gone before the connection is made anew: WhatsApp closes the
/// socket within seconds if it is going to.
const LOGIN_CHECKS_FAILED: u32 = 4;

/// Life of a link code (protocol brief §2.4), and longest wait for one.
const LINK_CODE_LIFE: Duration = Duration::from_secs(180);

/// Between two looks whether there is a connection on which a link code can be asked for.
const LINK_CODE_RETRY: Duration = Duration::from_secs(3);

/// Notices that wait for the terminal. It prints at once; more than a few never wait.
pub const NOTICES: usize = 32;

/// Sent replies are kept this long, in seconds, for phones that could not decrypt them and ask
/// again when they are switched on.
const RESEND_WINDOW_SECONDS: u64 = 24 * 3600;

/// What the operator at the terminal is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Show this QR code; it is good for so long.
    QrCode {
        code: String,
        valid: Duration,
    },
    /// Type this code on the phone; it is good for so long.
    LinkCode {
        code: String,
        valid: Duration,
    },
    LinkCodeRefused(String),
    /// No code was used while it was good.
    CodesExhausted,
    /// A session is there; WhatsApp is asked whether it still holds.
    CheckingSession,
    /// The phone accepted; the client now logs in for the first time.
    Paired,
    Online,
    Offline,
    LoggedOut,
    Replaced,
    Outdated,
    Banned {
        wait: Duration,
    },
    Refused(String),
}

/// Why the client's run loop ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    LoggedOut,
    Replaced,
    Outdated,
    Banned(Duration),
    Refused(String),
    QrCodesExhausted,
}

/// What follows an end.
#[derive(Debug, PartialEq, Eq)]
struct Next {
    wait: Duration,
    /// The session is void: put it aside and offer to pair again.
    pair_again: bool,
}

/// The table of ends (protocol brief §4.10, field notes B1). `again`: the same end came within
/// [`FIGHT`] before.
fn after(end: Option<&End>, again: bool) -> Next {
    let next = |wait, pair_again| Next { wait, pair_again };
    match end {
        Some(End::LoggedOut) => next(if again { RETRY } else { Duration::ZERO }, true),
        Some(End::QrCodesExhausted) => next(NEXT_QR_CODES, false),
        Some(End::Replaced) => next(if again { TRUCE } else { REPLACED }, false),
        Some(End::Outdated) => next(OUTDATED, false),
        Some(End::Banned(remaining)) => next((*remaining).max(RETRY), false),
        Some(End::Refused(_)) | None => next(RETRY, false),
    }
}

/// Why the connection cannot be kept up at all.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    #[error("WhatsApp's client cannot start: {0}")]
    Client(#[from] BotBuilderError),
    #[error("the session that the phone ended could not be put aside: {0}")]
    Session(#[from] SessionError),
}

/// What the client is built from and how.
pub struct Parts {
    pub runtime: SmolRuntime,
    pub store: SessionStore,
    pub transport: WebSocketFactory,
    pub http: WebClient,
    pub hook: Hook,
    pub settings: Settings,
}

/// Settings of the connection; bounds are checked by the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Name in the phone's list of linked devices.
    pub device_name: String,
    /// Client version to claim instead of the one that WhatsApp publishes.
    pub version: Option<(u32, u32, u32)>,
    /// One-time pre-keys per upload.
    pub pre_keys: usize,
    /// Only a link is wanted: tell first if there is one already.
    pub pair_only: bool,
    /// Pair by 8-letter code with this phone instead of by QR code only.
    pub pair_with: Option<PhoneNumber>,
}

/// Opens sockets for the client. A new socket means that the last one is gone: whatsapp-rust says
/// so itself only of losses that it did not bring about (not of a dead socket that it gives up,
/// nor of `stream:error` 515). It does not say either why there is no line, so that is said here, once
/// for each reason.
struct Dialler {
    sockets: WebSocketFactory,
    link: Link,
    /// Why the last attempt failed; empty after one that did not.
    failed: Mutex<String>,
}

#[async_trait]
impl TransportFactory for Dialler {
    async fn create_transport(&self) -> anyhow::Result<(Arc<dyn Transport>, Receiver<TransportEvent>)> {
        self.link.set(false);
        let opened = self.sockets.create_transport().await;
        let reason = opened.as_ref().err().map(|error| format!("{error:#}")).unwrap_or_default();
        let before = {
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *failed, reason.clone())
        };
        if !reason.is_empty() && reason != before {
            log::warn!("connection: no line to WhatsApp, tried again and again: {reason}");
        }
        opened
    }
}

/// Shared handle: is there a client, did WhatsApp acknowledge, is the line up.
#[derive(Clone)]
pub struct Connection {
    shared: Arc<Shared>,
}

struct Shared {
    acks: Acks,
    link: Link,
    notices: Sender<Notice>,
    renew_link_code: Bell,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    client: Option<Arc<Client>>,
    end: Option<End>,
    stopping: bool,
    /// Until when the link code on the screen is good, or one is waited for; `None` if none is
    /// wanted (any more).
    link_code_until: Option<Instant>,
}

impl Connection {
    /// `notices` gets what the operator should see; when it is full, a notice is dropped.
    pub fn new(link: Link, notices: Sender<Notice>) -> Self {
        let state = Mutex::default();
        Self {
            shared: Arc::new(Shared {
                acks: Acks::default(),
                link,
                notices,
                renew_link_code: Bell::default(),
                state,
            }),
        }
    }

    pub fn acks(&self) -> &Acks {
        &self.shared.acks
    }

    pub fn link(&self) -> &Link {
        &self.shared.link
    }

    /// The client, if it is logged in right now and nobody has asked to stop. If it is not logged in,
    /// the link is down, whatever was known before.
    pub fn client(&self) -> Option<Arc<Client>> {
        let state = self.state();
        if state.stopping {
            // What is on its way still waits for its ack on this line.
            return None;
        }
        let client = state.client.clone().filter(|client| client.is_logged_in());
        if client.is_none() {
            self.shared.link.set(false);
        }
        client
    }

    /// Keeps a client connected until [`stop`](Self::stop). Fails only if the session in the
    /// ledger cannot be read or put aside.
    pub async fn run(&self, parts: Parts) -> Result<(), ConnectionError> {
        let Parts { runtime, mut store, transport, http, hook, settings } = parts;
        let mut last: Option<(Instant, Option<End>)> = None;
        loop {
            let paired = store.is_paired()?;
            let link_code = settings.pair_with.as_ref().filter(|_| !paired).map(link_code_options);
            if settings.pair_only && paired {
                self.tell(Notice::CheckingSession);
            }
            let mut builder = Bot::builder()
                .with_backend(store.clone())
                .with_transport_factory(Dialler {
                    sockets: transport.clone(),
                    link: self.shared.link.clone(),
                    failed: Mutex::default(),
                })
                .with_http_client(http.clone())
                .with_runtime(runtime)
                .with_inbound_durability_hook(hook.clone())
                .with_event_handler(self.clone())
                .with_event_handler(PhoneRecoveries { hook: hook.clone(), executor: runtime.0 })
                .with_cache_config(caches())
                .with_wanted_pre_key_count(settings.pre_keys)
                .with_device_props(
                    DevicePropsOverride::new()
                        .with_os(settings.device_name.clone())
                        .with_platform_type(PlatformType::DESKTOP),
                )
                .skip_history_sync();
            if let Some(version) = settings.version {
                builder = builder.with_version(version);
            }
            if let Some(options) = &link_code {
                builder = builder.with_pair_code(options.clone());
            }
            let bot = builder.build().await?;
            let client = bot.client();
            // Customers' phones then show two ticks as soon as a message is safe with us.
            client.set_force_active_delivery_receipts(true);
            {
                let mut state = self.state();
                if state.stopping {
                    return Ok(());
                }
                state.client = Some(client.clone());
                state.end = None;
                state.link_code_until = link_code.is_some().then(|| clock::now() + LINK_CODE_LIFE);
            }
            let kept = or(self.keep_login(&client), self.keep_link_code(&client, link_code));
            or(bot.run(), kept).await;
            self.shared.link.set(false);
            // Ends the client's own tasks; nobody uses it after this.
            within(FAREWELL, client.disconnect()).await;
            drop(client);
            let end = {
                let mut state = self.state();
                state.client = None;
                if state.stopping {
                    return Ok(());
                }
                state.end.take()
            };
            let again = last.as_ref().is_some_and(|(at, before)| clock::since(*at) < FIGHT && *before == end);
            let next = after(end.as_ref(), again);
            if next.pair_again && store.is_paired()? {
                store = store.set_aside(clock::unix_seconds()).await?;
            }
            if end == Some(End::Outdated) {
                store.forget_version().await?;
            }
            last = Some((clock::now(), end));
            clock::sleep(next.wait).await;
        }
    }

    /// Tells WhatsApp that we go, flushes what it has to flush and closes the socket, within
    /// 1.5 s.
    pub async fn stop(&self) {
        let client = {
            let mut state = self.state();
            state.stopping = true;
            state.client.clone()
        };
        let Some(client) = client else { return };
        let farewell = async {
            // Replies that WhatsApp has and we still count as waiting would be sent again.
            within(LAST_ACKS, self.shared.acks.settled()).await;
            if client.is_logged_in()
                && let Err(error) = client.presence().set_unavailable().await
            {
                log::debug!("connection: farewell not sent: {error}");
            }
            client.disconnect().await;
        };
        if within(FAREWELL, farewell).await.is_none() {
            log::warn!("connection: WhatsApp did not answer the farewell in time");
        }
    }

    /// Makes the connection anew when WhatsApp has taken the login back and left the socket open.
    /// Never returns.
    async fn keep_login(&self, client: &Arc<Client>) {
        let before = self.shared.link.times_up();
        let mut failed = 0;
        loop {
            clock::sleep(LOGIN_CHECK).await;
            if client.is_logged_in() {
                failed = 0;
            } else if self.shared.link.times_up() > before && client.is_connected() {
                failed += 1;
            }
            if failed == LOGIN_CHECKS_FAILED {
                log::warn!(
                    "connection: WhatsApp took the login back and left the line open; connecting anew"
                );
                failed = 0;
                self.shared.link.set(false);
                client.reconnect().await;
            }
        }
    }

    /// Asks for another link code whenever the server, a silent phone or a lost connection made the
    /// last one void, and says so when nobody used it while it was good. Never returns.
    async fn keep_link_code(&self, client: &Arc<Client>, options: Option<PairCodeOptions>) {
        let Some(options) = options else { return std::future::pending().await };
        let wanted = || self.state().link_code_until.is_some();
        let renewed = async {
            loop {
                self.shared.renew_link_code.heard().await;
                while wanted() && !client.is_connected() {
                    clock::sleep(LINK_CODE_RETRY).await;
                }
                if wanted()
                    && let Err(error) = client.pair_with_code(options.clone()).await
                {
                    // The operator hears of it by the event.
                    log::debug!("connection: no new link code: {error}");
                }
            }
        };
        let expired = async {
            while let Some(until) = { self.state().link_code_until } {
                let left = until.saturating_duration_since(clock::now());
                if left.is_zero() {
                    self.state().link_code_until = None;
                    self.tell(Notice::CodesExhausted);
                } else {
                    // It is put off whenever a new code comes.
                    clock::sleep(left).await;
                }
            }
            std::future::pending().await
        };
        or(renewed, expired).await
    }

    fn tell(&self, notice: Notice) {
        if self.shared.notices.try_send(notice).is_err() {
            log::warn!("connection: a notice for the terminal was dropped");
        }
    }

    fn end(&self, end: End, notice: Notice) {
        self.shared.link.set(false);
        self.state().end = Some(end);
        self.tell(notice);
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EventHandler for Connection {
    fn interest(&self) -> EventInterest {
        EventInterest::of(&[
            EventKind::Connected,
            EventKind::Disconnected,
            EventKind::PairSuccess,
            EventKind::PairError,
            EventKind::LoggedOut,
            EventKind::PairingQrCode,
            EventKind::PairingCode,
            EventKind::PairingCodeRefresh,
            EventKind::PairingCodeError,
            EventKind::PairingQrCodesExhausted,
            EventKind::ClientOutdated,
            EventKind::UndecryptableMessage,
            EventKind::StreamReplaced,
            EventKind::TemporaryBan,
            EventKind::ConnectFailure,
            EventKind::StreamError,
            EventKind::ServerAck,
        ])
    }

    fn handle_event(&self, event: Arc<Event>) {
        match &*event {
            Event::ServerAck(ack) if ack.class.as_deref() == Some("message") => {
                let said = ack.error.clone().map_or(Ack::Accepted, Ack::Refused);
                self.shared.acks.settle(&ack.id, said);
            }
            Event::Connected(_) => {
                self.shared.link.set(true);
                self.tell(Notice::Online);
            }
            Event::Disconnected(lost) => {
                self.shared.link.set(false);
                self.shared.renew_link_code.ring();
                log::info!("connection: lost: {}", lost.reason);
                self.tell(Notice::Offline);
            }
            Event::PairingQrCode(qr) => {
                self.tell(Notice::QrCode { code: qr.code.clone(), valid: qr.timeout });
            }
            Event::PairingCode(link) => {
                self.state().link_code_until = Some(clock::now() + link.timeout);
                self.tell(Notice::LinkCode { code: link.code.clone(), valid: link.timeout });
            }
            Event::PairingCodeRefresh(_) => self.shared.renew_link_code.ring(),
            Event::PairingCodeError(refused) => {
                let connected = self.state().client.as_ref().is_some_and(|client| client.is_connected());
                if connected {
                    self.tell(Notice::LinkCodeRefused(refused.error.clone()));
                } else {
                    self.shared.renew_link_code.ring();
                }
            }
            Event::PairingQrCodesExhausted(exhausted) if exhausted.disconnected => {
                self.end(End::QrCodesExhausted, Notice::CodesExhausted);
            }
            Event::PairSuccess(_) => {
                self.state().link_code_until = None;
                self.tell(Notice::Paired);
            }
            Event::PairError(failed) => log::warn!("connection: pairing failed: {}", failed.error),
            Event::LoggedOut(_) => self.end(End::LoggedOut, Notice::LoggedOut),
            Event::StreamReplaced(_) => self.end(End::Replaced, Notice::Replaced),
            Event::ClientOutdated(_) => self.end(End::Outdated, Notice::Outdated),
            Event::TemporaryBan(ban) => {
                // A negative time is over.
                let wait = ban.expire.to_std().unwrap_or_default();
                self.end(End::Banned(wait), Notice::Banned { wait });
            }
            Event::ConnectFailure(failure) => {
                let reason = failure.message.clone().unwrap_or_else(|| format!("{:?}", failure.reason));
                self.end(End::Refused(reason.clone()), Notice::Refused(reason));
            }
            Event::StreamError(error) => log::warn!("connection: stream error {}", error.code),
            Event::UndecryptableMessage(message) => {
                let asked = if message.is_unavailable { "the operator's phone" } else { "its sender" };
                log::warn!(
                    "connection: message {} could not be decrypted; {asked} was asked for it",
                    message.info.id
                );
            }
            _ => {}
        }
    }
}

fn link_code_options(phone: &PhoneNumber) -> PairCodeOptions {
    PairCodeOptions {
        phone_number: phone.expose().to_owned(),
        // What whatsapp-rust would send for a device named like ours, less its warning.
        display_os: Some("Linux".to_owned()),
        ..PairCodeOptions::default()
    }
}

/// Bounds of whatsapp-rust's caches, for a bot that talks to a few thousand people one by one on a
/// box with 2 GB. What is evicted is read from the ledger again; what is in use is never evicted.
///
/// The cache of LIDs and phone numbers keeps its size (all that are known): what is not in it is
/// taken for unknown, and the wrong Signal session is looked for.
fn caches() -> CacheConfig {
    let hour = Some(Duration::from_secs(3600));
    CacheConfig {
        group_cache: CacheEntryConfig::new(hour, 8),
        device_registry_cache: CacheEntryConfig::new(hour, 256),
        message_retry_counts: CacheEntryConfig::new(hour, 256),
        undecryptable_dispatched: CacheEntryConfig::new(hour, 256),
        pdo_pending_requests: CacheEntryConfig::new(Some(Duration::from_secs(30)), 64),
        pdo_requested: CacheEntryConfig::new(Some(Duration::from_secs(24 * 3600)), 256),
        sender_key_devices_cache: CacheEntryConfig::new(hour, 8),
        // Some 31 KB for each chat that wrote since the connection was made (whatsapp-rust's figure).
        chat_lanes_capacity: 32,
        session_locks_capacity: 512,
        sent_message_ttl_secs: RESEND_WINDOW_SECONDS,
        seed_msg_secrets_from_history: false,
        ..CacheConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_logout_voids_the_session() {
        let ends = [
            End::Replaced,
            End::Outdated,
            End::Banned(Duration::ZERO),
            End::Refused(String::new()),
            End::QrCodesExhausted,
        ];
        for end in &ends {
            for again in [false, true] {
                assert!(!after(Some(end), again).pair_again, "{end:?}");
                assert!(after(Some(end), again).wait >= NEXT_QR_CODES, "{end:?} must not spin");
            }
        }
        assert!(after(Some(&End::LoggedOut), false).pair_again);
        assert_eq!(after(None, false).wait, RETRY);
    }

    #[test]
    fn nobody_fights_over_a_session() {
        assert_eq!(after(Some(&End::Replaced), false).wait, REPLACED);
        assert_eq!(after(Some(&End::Replaced), true).wait, TRUCE);
        assert_eq!(after(Some(&End::LoggedOut), false).wait, Duration::ZERO);
        assert_eq!(after(Some(&End::LoggedOut), true).wait, RETRY);
    }

    #[test]
    fn a_ban_is_waited_out() {
        let day = Duration::from_secs(86_400);
        assert_eq!(after(Some(&End::Banned(day)), false).wait, day);
    }
}
