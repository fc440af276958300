//! The connection to WhatsApp: one state machine owns it.
//!
//! offline → resolving → connecting → handshake → syncing → online, and back by one of the ends in
//! [`ends`], whose table says what follows: go on at once, wait, look up the version, pair again.
//! whatsapp-rust's own reconnect is off. It never opens a socket either: a WebSocket is opened here,
//! under the [`ceiling`], and handed to the client, so a line that is down costs a look-up and not a
//! client.
//!
//! One client serves all connections of a session. Its Signal state is written behind, so a second
//! client beside it would read keys that the first has moved on from.

mod ceiling;
mod ends;
mod linking;
pub mod standing;
mod way;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender};
use async_trait::async_trait;
use event_listener::Event as Signal;
use futures_lite::future::or;
use wacore::net::{Transport, TransportEvent, TransportFactory};
use wacore::store::DevicePropsOverride;
use wacore::store::commands::DeviceCommand;
use wacore::types::events::{ConnectFailureReason, Event, EventHandler, EventInterest, EventKind};
use wacore::types::message::MessageSource;
use wacore_binary::OwnedNodeRef;
use waproto::whatsapp::device_props::PlatformType;
use whatsapp_rust::anyhow;
use whatsapp_rust::bot::{Bot, BotBuilderError};
use whatsapp_rust::pair_code::PairCodeOptions;
use whatsapp_rust::{CacheConfig, CacheEntryConfig, Client};

use super::acks::{Ack, Acks};
use super::activity::Activity;
use super::backlog::Counted;
use super::http_client::WebClient;
use super::inbox::{Hook, PhoneRecoveries};
use super::missing_messages::Unreadable;
use super::owed_answers::OwedAnswers;
use super::reachout::Heard;
use super::runtime::SmolRuntime;
use super::session_store::{SessionError, SessionStore};
use super::transport::{WebSocketFactory, WebSocketTransport};
use crate::bell::Bell;
use crate::clock;
use crate::ledger::{LedgerError, connection_attempt, phone_seen};
use crate::net::Link;
use crate::net::deadline::within;
use crate::net::kernel_changes::KernelChanges;
use crate::pairing::{Happened, Pairing, Trouble};
use crate::personal::PhoneNumber;
use crate::trusted_clock;
use ceiling::Ceiling;
use ends::{Course, End};
use linking::Codes;
use standing::{Phase, Standing};
use way::{EndCounts, Way};

/// SIGTERM must not take longer than two seconds in all.
const FAREWELL: Duration = Duration::from_millis(1500);

/// The part of it in which replies on their way may still be acknowledged.
const LAST_ACKS: Duration = Duration::from_millis(500);

/// How often it is looked whether the phone was seen, and how much newer the time must be to be worth
/// a write.
const PHONE_CHECK: Duration = Duration::from_secs(600);
const PHONE_SEEN_STEP: i64 = 6 * 3600;

/// WhatsApp unlinks devices whose phone was away for 14 days. From this age on the phone is asked for
/// a sign of life, once a day, so that a phone that only has nothing to say is not taken for lost.
const PHONE_ASKED_AFTER: i64 = 10 * 86_400;
const PHONE_ASKED_EVERY: i64 = 86_400;

/// Life of a link code, and longest wait for one.
const LINK_CODE_LIFE: Duration = Duration::from_secs(180);

/// Between two looks whether there is a connection on which a link code can be asked for.
const LINK_CODE_RETRY: Duration = Duration::from_secs(3);

/// Notices that wait for the terminal. It prints at once; more than a few never wait.
pub const NOTICES: usize = 32;

/// Sent replies are kept this long, in seconds, for phones that could not decrypt them and ask
/// again when they are switched on.
const RESEND_WINDOW_SECONDS: u64 = 24 * 3600;

/// What the operator at the terminal is told; how linking stands is [`Pairing`]'s to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A session is there; WhatsApp is asked whether it still holds.
    CheckingSession,
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

/// Why the connection cannot be kept up at all.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    #[error("WhatsApp's client cannot start: {0}")]
    Client(#[from] BotBuilderError),
    #[error("the session that the phone ended could not be put aside: {0}")]
    Session(#[from] SessionError),
    #[error("earlier tries to connect could not be read: {0}")]
    Ledger(#[from] LedgerError),
}

/// What the client is built from and how.
pub struct Parts {
    pub runtime: SmolRuntime,
    pub store: SessionStore,
    pub transport: WebSocketFactory,
    pub http: WebClient,
    pub hook: Hook,
    /// Rung when a message could not be read.
    pub missing_bell: Bell,
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
    /// Upper ends of the random waits after the first, second, third … failure.
    pub backoff: Vec<Duration>,
    /// A connection that held so long was a good one.
    pub stable: Duration,
    /// Hard ceiling on tries per hour.
    pub attempts_per_hour: u32,
    /// Longest time in opening hours without a message of anybody.
    pub longest_silence: Duration,
    /// Source of randomness for delays.
    pub random: fn() -> u64,
}

/// The one WebSocket that the client may take. It cannot open another one.
#[derive(Clone, Default)]
struct Handover(Arc<Mutex<Option<Opened>>>);

type Opened = (WebSocketTransport, Receiver<TransportEvent>);

impl Handover {
    fn put(&self, opened: Option<Opened>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = opened;
    }
}

#[async_trait]
impl TransportFactory for Handover {
    async fn create_transport(&self) -> anyhow::Result<(Arc<dyn Transport>, Receiver<TransportEvent>)> {
        let opened = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (transport, events) =
            opened.ok_or_else(|| anyhow::anyhow!("no WebSocket: the client may not open one itself"))?;
        Ok((Arc::new(transport), events))
    }
}

/// Shared handle: is there a client, did WhatsApp acknowledge, is the line up.
#[derive(Clone)]
pub struct Connection {
    shared: Arc<Shared>,
}

struct Shared {
    acks: Acks,
    heard: Heard,
    link: Link,
    activity: Activity,
    notices: Sender<Notice>,
    pairing: Pairing,
    renew_link_code: Bell,
    /// The client is to end, as its try to link is over.
    link_over: Bell,
    /// Notified once, when the bot is to stop.
    stop: Signal,
    state: Mutex<State>,
}

struct State {
    standing: Standing,
    client: Option<Arc<Client>>,
    /// Why the present connection ends, once that is known.
    end: Option<End>,
    /// What whatsapp-rust said of a connection that it lost.
    lost: Option<String>,
    /// When the present connection logged in.
    up_since: Option<Instant>,
    /// All of the offline queue is here.
    synced: bool,
    stopping: bool,
    /// Until when the link code on the screen is good, or one is waited for; `None` if none is
    /// wanted (any more).
    link_code_until: Option<Instant>,
    codes: Codes,
    /// Of the client that is heard.
    client_number: u64,
}

impl Connection {
    /// `notices` gets what the operator should see; when it is full, a notice is dropped. `pairing` is told
    /// how linking goes.
    pub fn new(link: Link, activity: Activity, notices: Sender<Notice>, pairing: Pairing) -> Self {
        let state = State {
            standing: Standing::new(clock::now(), 0),
            client: None,
            end: None,
            lost: None,
            up_since: None,
            synced: false,
            stopping: false,
            link_code_until: None,
            codes: Codes::default(),
            client_number: 0,
        };
        Self {
            shared: Arc::new(Shared {
                acks: Acks::default(),
                heard: Heard::default(),
                link,
                activity,
                notices,
                pairing,
                renew_link_code: Bell::default(),
                link_over: Bell::default(),
                stop: Signal::new(),
                state: Mutex::new(state),
            }),
        }
    }

    /// How the connection stands now.
    pub fn standing(&self) -> Standing {
        let heard = self.shared.activity.heard();
        let mut standing = self.state().standing.clone();
        standing.last_stanza = heard.stanza;
        standing.last_message = heard.message;
        standing.obstacle = self.shared.pairing.linking().obstacle;
        standing
    }

    pub fn acks(&self) -> &Acks {
        &self.shared.acks
    }

    /// What WhatsApp tells about whom this account may write to.
    pub fn heard(&self) -> &Heard {
        &self.shared.heard
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

    /// Keeps WhatsApp connected until [`stop`](Self::stop). Fails only if the session in the ledger
    /// cannot be read or put aside.
    pub async fn run(&self, parts: Parts) -> Result<(), ConnectionError> {
        let Parts { runtime, mut store, transport, http, hook, missing_bell, settings } = parts;
        let now = trusted_clock::now();
        let ages = store.database().read(|conn| connection_attempt::ages(conn, now))?;
        self.state().standing.phone_seen = store.database().read(phone_seen::load)?;
        let handover = Handover::default();
        let backlog = transport.backlog.clone();
        let unreadable = Unreadable::new(hook.clone(), missing_bell);
        let mut course = Course::new(&settings.backoff, settings.stable);
        let mut way = Way {
            connection: self.clone(),
            started: clock::now(),
            ceiling: Ceiling::new(settings.attempts_per_hour, ages),
            kernel: kernel_changes(),
            transport,
            handover: handover.clone(),
            store: store.clone(),
            settings: settings.clone(),
            said: Vec::new(),
            ends: EndCounts::default(),
            after_silence: false,
        };
        loop {
            let paired = store.is_paired()?;
            self.state().standing.paired = paired;
            let link_code = settings.pair_with.as_ref().filter(|_| !paired).map(link_code_options);
            if settings.pair_only && paired {
                self.tell(Notice::CheckingSession);
            }
            let number = {
                let mut state = self.state();
                state.client_number += 1;
                state.client_number
            };
            let mut builder = Bot::builder()
                .with_backend(store.clone())
                .with_transport_factory(handover.clone())
                .with_http_client(http.clone())
                .with_runtime(runtime)
                .with_inbound_durability_hook(Counted { hook: hook.clone(), backlog: backlog.clone() })
                .with_event_handler(backlog.clone())
                .with_event_handler(Ears { connection: self.clone(), client: number })
                .with_event_handler(PhoneRecoveries { hook: hook.clone(), executor: runtime.0 })
                .with_event_handler(unreadable.clone())
                .with_event_handler(OwedAnswers::new(self.clone(), runtime.0, unreadable.clone()))
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
                state.link_code_until = link_code.is_some().then(|| clock::now() + LINK_CODE_LIFE);
            }
            way.store = store.clone();
            self.linking_begins(link_code.is_some()).await;
            let kept = or(self.keep_phone_in_sight(&client, &store), self.take_over_salt(&client, &store));
            let beside = or(
                self.see_linking_through(&client, link_code.clone()),
                or(self.keep_link_code(&client, link_code), kept),
            );
            let (end, next) = or(way.go(bot, &client, &mut course), beside).await;
            // From now on it is not heard. Its link code is given up before the next client reads the store: the
            // timer behind it would write this one's view of the session there.
            self.state().client_number += 1;
            within(FAREWELL, client.cancel_pair_code()).await;
            // Ends the client's own tasks; nobody uses it after this.
            within(FAREWELL, client.disconnect()).await;
            drop(client);
            {
                let mut state = self.state();
                state.client = None;
                if state.stopping {
                    return Ok(());
                }
            }
            if next.pair_again && store.is_paired()? {
                store = store.set_aside(trusted_clock::now()).await?;
            }
            if end == End::Outdated {
                store.forget_version().await?;
            }
            way.rest(next).await;
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
        self.shared.stop.notify(usize::MAX);
        let Some(client) = client else { return };
        let farewell = async {
            // Replies that WhatsApp has and we still count as waiting would be sent again.
            within(LAST_ACKS, self.shared.acks.settled()).await;
            if client.is_logged_in()
                && let Err(error) = client.presence().set_unavailable().await
            {
                crate::logging::debug!("connection: farewell not sent: {error}");
            }
            client.disconnect().await;
        };
        if within(FAREWELL, farewell).await.is_none() {
            log::warn!("connection: WhatsApp did not answer the farewell in time");
        }
    }

    /// Asks for another link code whenever the server, a silent phone or a lost connection made the
    /// last one void, and says so when nobody used it while it was good. Never returns.
    async fn keep_link_code<T>(&self, client: &Arc<Client>, options: Option<PairCodeOptions>) -> T {
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
                    crate::logging::debug!("connection: no new link code: {error}");
                }
            }
        };
        let expired = async {
            while let Some(until) = { self.state().link_code_until } {
                let left = until.saturating_duration_since(clock::now());
                if left.is_zero() {
                    self.state().link_code_until = None;
                    self.linking(Happened::CodesUnused);
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

    /// Watches for signs of life of the operator's phone, keeps the time of the last one, and asks for
    /// one when there was none for long. Never returns.
    async fn keep_phone_in_sight<T>(&self, client: &Arc<Client>, store: &SessionStore) -> T {
        let mut kept = self.state().standing.phone_seen;
        let mut asked = None;
        loop {
            clock::sleep(PHONE_CHECK).await;
            let now = trusted_clock::now();
            let seen = self.state().standing.phone_seen;
            if let Some(seen) = seen.filter(|seen| kept.is_none_or(|kept| seen - kept >= PHONE_SEEN_STEP)) {
                match store.database().write(|tx| phone_seen::save(tx, seen)).await {
                    Ok(()) => kept = Some(seen),
                    Err(error) => {
                        log::warn!("connection: the phone's last sign of life was not kept: {error}")
                    }
                }
            }
            let overdue = seen.is_some_and(|seen| now - seen >= PHONE_ASKED_AFTER);
            let rested = asked.is_none_or(|at: i64| (now - at).abs() >= PHONE_ASKED_EVERY);
            if overdue && rested && client.is_logged_in() {
                asked = Some(now);
                ask_phone(client, now).await;
            }
        }
    }

    /// Gives a session that has no salt for tokens the one of the session before, if that was of the same
    /// phone number. What the phone itself says of it counts more. Never returns.
    async fn take_over_salt<T>(&self, client: &Arc<Client>, store: &SessionStore) -> T {
        self.shared.link.wait_until_up().await;
        match client.pn().map(|own| store.kept_salt(&own.user)).transpose() {
            Ok(salt) => {
                if let Some(salt) = salt.flatten() {
                    let set = DeviceCommand::SetNctSaltFromHistorySync(salt);
                    client.persistence_manager().process_command(set).await;
                }
            }
            Err(error) => log::warn!("connection: the salt of the session before could not be read: {error}"),
        }
        std::future::pending().await
    }

    fn end(&self, end: End, notice: Notice) {
        self.shared.link.set(false);
        self.state().end.get_or_insert(end);
        self.tell(notice);
    }

    fn enter(&self, phase: Phase) {
        self.state().standing.enter(phase, clock::now());
    }

    /// The phone gave a sign of life at `at`, in seconds since 1970 UTC by WhatsApp's clock.
    fn phone_was_there(&self, source: &MessageSource, at: i64) {
        if source.is_from_me && source.sender.device == 0 {
            let mut state = self.state();
            let seen = state.standing.phone_seen.map_or(at, |before| before.max(at));
            state.standing.phone_seen = Some(seen);
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time that WhatsApp's server names when it lets a client in, in seconds since 1970 UTC.
fn login_time(stanza: &OwnedNodeRef) -> Option<i64> {
    let time = stanza.get_attr("t").filter(|_| stanza.tag() == "success")?;
    time.as_str().parse().ok()
}

/// Hears one client, for as long as it is the present one. A client that has ended is not silent: its QR codes
/// rotate on to their end, whoever shows others meanwhile.
struct Ears {
    connection: Connection,
    client: u64,
}

impl EventHandler for Ears {
    fn interest(&self) -> EventInterest {
        self.connection.interest()
    }

    fn handle_event(&self, event: Arc<Event>) {
        if self.connection.state().client_number == self.client {
            self.connection.handle_event(event);
        }
    }
}

impl EventHandler for Connection {
    fn interest(&self) -> EventInterest {
        EventInterest::of(&[
            EventKind::RawNode,
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
            EventKind::PairPasskeyRequest,
            EventKind::PairPasskeyConfirmation,
            EventKind::PairPasskeyError,
            EventKind::ClientOutdated,
            EventKind::UndecryptableMessage,
            EventKind::StreamReplaced,
            EventKind::TemporaryBan,
            EventKind::ConnectFailure,
            EventKind::StreamError,
            EventKind::ServerAck,
            EventKind::OfflineSyncCompleted,
            EventKind::Messages,
            EventKind::MexNotification,
            EventKind::Receipt,
        ])
    }

    fn handle_event(&self, event: Arc<Event>) {
        match &*event {
            Event::ServerAck(ack) if ack.class.as_deref() == Some("message") => {
                // An ack comes at once, so its time is now, by WhatsApp's clock.
                if let Some(at) = ack.timestamp.as_ref().map(|at| at.timestamp()) {
                    trusted_clock::tell(at);
                }
                let said = ack.error.clone().map_or(Ack::Accepted, Ack::Refused);
                self.shared.acks.settle(&ack.id, said);
            }
            Event::RawNode(stanza) => {
                if let Some(now) = login_time(stanza) {
                    trusted_clock::tell(now);
                }
                self.look_for_link_code_taken(stanza);
                self.shared.heard.stanza(stanza.get());
            }
            Event::MexNotification(told) => self.shared.heard.told(&told.op_name, &told.payload),
            Event::Connected(_) => {
                let now = clock::now();
                {
                    let mut state = self.state();
                    state.up_since = Some(now);
                    state.standing.paired = true;
                    state.standing.logins += 1;
                    let phase = if state.synced { Phase::Online } else { Phase::Syncing };
                    state.standing.enter(phase, now);
                }
                // Up only when the offline queue is drained: whatsapp-rust stores what it decrypts of that in
                // batches, and a reply between would write Signal sessions ahead of their messages.
                let synced = self.state().synced;
                self.shared.link.set(synced);
                self.tell(Notice::Online);
            }
            Event::OfflineSyncCompleted(_) => {
                let mut state = self.state();
                state.synced = true;
                if state.standing.phase == Phase::Syncing {
                    state.standing.enter(Phase::Online, clock::now());
                }
                let logged_in = state.client.as_ref().is_some_and(|client| client.is_logged_in());
                drop(state);
                if logged_in {
                    self.shared.link.set(true);
                }
            }
            Event::Disconnected(lost) => {
                self.shared.link.set(false);
                self.state().lost = Some(lost.reason.to_string());
                self.tell(Notice::Offline);
            }
            Event::Messages(batch) => {
                for message in batch.iter() {
                    self.phone_was_there(&message.info.source, message.info.timestamp.timestamp());
                }
            }
            Event::Receipt(receipt) => self.phone_was_there(&receipt.source, receipt.timestamp.timestamp()),
            Event::PairingQrCode(qr) => {
                self.enter(Phase::Pairing);
                self.qr_code_came(&qr.code, qr.timeout);
            }
            // One that keeps the connection open is not for the operator.
            Event::PairingCode(_) if self.is_behind_passkey() || self.has_ended() => {}
            Event::PairingCode(link) => {
                self.state().link_code_until = Some(clock::now() + link.timeout);
                self.linking(Happened::LinkCode { code: link.code.clone(), valid: link.timeout });
            }
            Event::PairPasskeyRequest(asked) => self.passkey_asked(&asked.request_options_json),
            Event::PairPasskeyConfirmation(shown) => self.code_to_compare(&shown.code, shown.skip_handoff_ux),
            Event::PairPasskeyError(failed) => self.linking_failed(Trouble::BrokenOff(failed.error.clone())),
            Event::PairingCodeRefresh(_) => self.shared.renew_link_code.ring(),
            Event::PairingCodeError(refused) => {
                let connected = self.state().client.as_ref().is_some_and(|client| client.is_connected());
                if connected {
                    self.linking(Happened::LinkCodeRefused(refused.error.clone()));
                } else {
                    self.shared.renew_link_code.ring();
                }
            }
            Event::PairingQrCodesExhausted(exhausted) if exhausted.disconnected && !self.has_ended() => {
                self.state().end.get_or_insert(End::QrCodesExhausted);
                self.linking(Happened::CodesUnused);
            }
            Event::PairSuccess(_) => {
                {
                    let mut state = self.state();
                    state.link_code_until = None;
                    state.standing.phone_seen = Some(trusted_clock::now());
                    // `stream:error` 515 follows.
                    state.end = Some(End::Restart);
                }
                self.linking(Happened::Linked);
            }
            Event::PairError(failed) => self.pair_error(&failed.error),
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
                let end = match failure.reason {
                    ConnectFailureReason::InternalServerError | ConnectFailureReason::ServiceUnavailable => {
                        End::ServerDown(None)
                    }
                    ConnectFailureReason::Unknown(429) => End::SlowDown(None),
                    _ => End::Refused(reason.clone()),
                };
                self.end(end, Notice::Refused(reason));
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

/// The kernel's word on the network, if it gives any.
fn kernel_changes() -> Option<KernelChanges> {
    KernelChanges::listen()
        .inspect_err(|error| {
            log::warn!(
                "connection: the kernel does not tell of changes of the network ({error}); going on without"
            );
        })
        .ok()
}

/// Asks the operator's phone for something small, so that it gives a sign of life: the receipt for the
/// question is one. The message that is asked for does not exist.
async fn ask_phone(client: &Arc<Client>, now: i64) {
    let Some(own) = client.pn() else { return };
    let nothing = format!("3EB0{now:018X}");
    match client.fetch_message_history(&own.to_non_ad(), &nothing, true, now.saturating_mul(1000), 1).await {
        Ok(_) => log::info!("connection: the phone was not seen for long; asked it for a sign of life"),
        Err(error) => log::warn!("connection: the phone was not asked for a sign of life: {error:#}"),
    }
}
