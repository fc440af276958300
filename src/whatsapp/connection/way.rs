//! One connection after the other: asks the ceiling, opens a WebSocket, lets the client live on it,
//! finds out why it ended, and waits as long as the table of ends says.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future::{or, pending};
use whatsapp_rust::Client;
use whatsapp_rust::bot::Bot;

use super::ceiling::Ceiling;
use super::ends::{Course, End, Lasted, Next};
use super::standing::{LastEnd, Phase};
use super::{Connection, Handover, Notice, Settings};
use crate::clock;
use crate::ledger::connection_attempt;
use crate::net::Resolver;
use crate::net::kernel_changes::{Change, KernelChanges};
use crate::pairing::{Happened, Trouble};
use crate::registration::opening_hours;
use crate::trusted_clock;
use crate::whatsapp::session_store::SessionStore;
use crate::whatsapp::transport::{TransportError, WebSocketFactory};

/// How often it is checked whether the client is still logged in. WhatsApp takes the login back
/// without closing the socket when it limits our rate (`stream:error` 429) or goes down (503), and
/// whatsapp-rust then waits for the socket to close.
const LOGIN_CHECK: Duration = Duration::from_secs(15);

/// Checks in a row that find the login gone before the connection is made anew: WhatsApp closes the
/// socket within seconds if it is going to.
const LOGIN_CHECKS_FAILED: u32 = 4;

/// What whatsapp-rust adds to its count of errors when WhatsApp says `stream:error` 429, which it tells
/// in no other way. Nothing else adds so much at once.
const THROTTLED_ERRORS: u32 = 5;

/// Different ends that are remembered as said.
const MOST_SAID: usize = 8;

/// One cheap DNS packet so often while there is no line.
const PROBE_EVERY: Duration = Duration::from_secs(5);

/// How often it is looked whether people still write.
const SILENCE_CHECK: Duration = Duration::from_secs(60);

/// How often it is looked whether the offline queue of a fresh connection is empty.
const SYNC_CHECK: Duration = Duration::from_secs(1);

/// DHCP brings a link, an address and a route one after the other; one try after all of them.
const SETTLE: Duration = Duration::from_millis(500);

/// What the tries and the waits between them need.
pub(super) struct Way {
    pub connection: Connection,
    /// When the process started, for the ceiling.
    pub started: Instant,
    pub ceiling: Ceiling,
    /// `None` where the kernel does not tell.
    pub kernel: Option<KernelChanges>,
    pub transport: WebSocketFactory,
    pub handover: Handover,
    pub store: SessionStore,
    pub settings: Settings,
    /// Ends that were logged since the last good connection: the same again and again is said once.
    pub said: Vec<String>,
    /// Ends of the tries that the ceiling counts, for the day when it holds.
    pub ends: EndCounts,
    /// The last connection was ended because nobody wrote: the next one shows whether it was deaf.
    pub after_silence: bool,
}

impl Way {
    /// Connects `client` again and again until an end that it cannot go on after. The first time it
    /// goes by way of its `bot`.
    pub async fn go(&mut self, bot: Bot, client: &Arc<Client>, course: &mut Course) -> (End, Next) {
        let mut bot = Some(bot);
        loop {
            self.wait_for_leave().await;
            let (end, lasted) = self.connect_once(&mut bot, client).await;
            let mut next = course.ended(&end, lasted, (self.settings.random)());
            if self.connection.is_behind_passkey() {
                self.connection.linking(Happened::Ended(Trouble::LineLost));
            }
            next.new_client |= self.connection.has_codes_left();
            self.note(&end, course.failures());
            crate::logging::debug!(
                "connection: {}, {} failures, next try in {:?}",
                end.code(),
                course.failures(),
                next.wait
            );
            if next.new_client || self.connection.state().stopping {
                return (end, next);
            }
            self.rest(next).await;
        }
    }

    /// Waits until the ceiling allows another try, and writes that down before it is made.
    async fn wait_for_leave(&mut self) {
        while let Err(wait) = self.ceiling.take(clock::since(self.started)) {
            log::error!(
                "connection: {} tries in an hour ({}): the ceiling connection.attempts_per_hour holds the next \
                 one back for {} s",
                self.ceiling.most(),
                self.ends,
                wait.as_secs()
            );
            self.set_waiting(Some(clock::now() + wait), true);
            self.unless_stopped(clock::sleep(wait)).await;
            if self.connection.state().stopping {
                break;
            }
        }
        self.set_waiting(None, false);
        let now = trusted_clock::now();
        if let Err(error) = self.store.database().write(|tx| connection_attempt::record(tx, now)).await {
            log::warn!("connection: a try was not written down, a restart will not know of it: {error}");
        }
        let count = self.ceiling.count(clock::since(self.started));
        let mut state = self.connection.state();
        state.standing.attempts += 1;
        state.standing.attempts_last_hour = count;
        state.standing.attempts_per_hour = self.ceiling.most();
    }

    fn set_waiting(&self, until: Option<Instant>, storm: bool) {
        let mut state = self.connection.state();
        state.standing.next_attempt = until;
        state.standing.storm = storm;
    }

    /// One try: a WebSocket, and the client on it until it ends.
    async fn connect_once(&mut self, bot: &mut Option<Bot>, client: &Arc<Client>) -> (End, Lasted) {
        {
            let mut state = self.connection.state();
            state.end = None;
            state.lost = None;
            state.up_since = None;
            state.synced = false;
            if state.stopping {
                return (End::Restart, Lasted::default());
            }
            state.standing.enter(Phase::Resolving, clock::now());
        }
        if let Err(error) = self.transport.resolver.lookup(self.transport.endpoint.host()).await {
            return (End::NoLine(error.to_string()), Lasted::default());
        }
        self.connection.enter(Phase::Connecting);
        let opened = match self.transport.open().await {
            Ok(opened) => opened,
            Err(error) => return (no_line(&error), Lasted::default()),
        };
        self.connection.enter(Phase::Handshake);
        let local = opened.0.local_address();
        let open_since = clock::now();
        self.handover.put(Some(opened));
        let errors_before = client.stats().reconnect_errors;
        // The time stands in the login's stanza and in no event.
        let _stanzas = client.acquire_raw_node_forwarding();
        client.enable_auto_reconnect.store(false, std::sync::atomic::Ordering::Relaxed);
        let live = async {
            match bot.take() {
                Some(bot) => bot.run().await,
                None => client.run().await,
            }
        };
        let kernel = &mut self.kernel;
        let (connection, settings) = (&self.connection, &self.settings);
        let watched = or(
            keep_address(kernel, local, connection, client),
            or(
                keep_login(connection, client, errors_before),
                keep_hearing(connection, client, settings.longest_silence),
            ),
        );
        let after_silence = std::mem::take(&mut self.after_silence);
        let watched = or(watched, report_deafness(connection, after_silence));
        or(Box::pin(live), watched).await;
        // Nobody else may take it.
        self.handover.put(None);
        self.connection.shared.link.set(false);
        self.connection.shared.renew_link_code.ring();

        let throttled = client.stats().reconnect_errors >= errors_before.saturating_add(THROTTLED_ERRORS);
        let mut state = self.connection.state();
        let up = state.up_since.take().map(clock::since);
        let lasted = Lasted { open: clock::since(open_since), up };
        let end = match (state.end.take(), state.lost.take()) {
            (Some(end), _) => end,
            _ if throttled => End::SlowDown(None),
            (None, Some(reason)) if up.is_some() => End::Lost(reason),
            (None, None) if up.is_some() => End::Restart,
            (None, reason) => End::NoLogin(reason.unwrap_or_else(|| "the handshake failed".into())),
        };
        self.after_silence = end == End::Silence;
        (end, lasted)
    }

    /// Tells the rooms that watch, and the log when it is something new.
    fn note(&mut self, end: &End, failures: u32) {
        let detail = end.detail();
        self.ends.count(end.code());
        if failures <= 1 {
            // The first after a good connection.
            self.said.clear();
        }
        if !self.said.contains(&detail) {
            match end {
                End::QrCodesExhausted | End::LinkAnew | End::Restart | End::AddressGone | End::Silence => {
                    log::info!("connection: {detail}");
                }
                _ => log::warn!("connection: {detail}"),
            }
            // The oldest makes room: a bound on memory, not on what may be said.
            self.said.truncate(MOST_SAID - 1);
            self.said.insert(0, detail.clone());
        }
        let now = clock::now();
        let mut state = self.connection.state();
        state.standing.failures = failures;
        state.standing.last_end = Some(LastEnd { code: end.code(), detail, at: now });
        state.standing.enter(Phase::Offline, now);
    }

    /// Waits before the next try, less if the line comes back meanwhile.
    pub async fn rest(&mut self, next: Next) {
        if next.wait.is_zero() {
            return;
        }
        self.set_waiting(Some(clock::now() + next.wait), false);
        let host = self.transport.endpoint.host().to_owned();
        let mut kernel = self.kernel.take();
        let woken = async {
            if !next.woken_by_line {
                return pending().await;
            }
            or(line_came_back(&mut kernel), name_came_back(&self.transport.resolver, &host)).await;
        };
        self.unless_stopped(or(clock::sleep(next.wait), woken)).await;
        self.kernel = kernel;
        self.set_waiting(None, false);
    }

    /// Does `work`, less if the bot is asked to stop.
    async fn unless_stopped(&self, work: impl Future<Output = ()>) {
        let stop = self.connection.shared.stop.listen();
        if self.connection.state().stopping {
            return;
        }
        or(work, stop).await;
    }
}

/// How often tries ended in which way since the process started.
#[derive(Default)]
pub(super) struct EndCounts(BTreeMap<&'static str, u64>);

impl EndCounts {
    fn count(&mut self, code: &'static str) {
        *self.0.entry(code).or_default() += 1;
    }
}

impl std::fmt::Display for EndCounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return f.write_str("all of earlier processes");
        }
        f.write_str("since the start: ")?;
        for (place, (code, times)) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{code} {times}")?;
        }
        Ok(())
    }
}

/// The end of a try that brought no WebSocket.
fn no_line(error: &TransportError) -> End {
    match error.server_wish() {
        Some((429, wish)) => End::SlowDown(wish),
        Some((500..=599, wish)) => End::ServerDown(wish),
        _ => End::NoLine(error.to_string()),
    }
}

/// Ends the present connection for `end`. What is under way is finished as far as it can be.
async fn cut(connection: &Connection, client: &Arc<Client>, end: End) {
    connection.state().end.get_or_insert(end);
    connection.shared.link.set(false);
    connection.tell(Notice::Offline);
    client.reconnect().await;
}

/// Ends the connection when the address that it was made from is gone: nothing will ever come on it.
/// Never returns.
async fn keep_address(
    kernel: &mut Option<KernelChanges>,
    local: Option<IpAddr>,
    connection: &Connection,
    client: &Arc<Client>,
) {
    loop {
        let change = next_change(kernel).await;
        if let (Change::AddressGone(gone), Some(local)) = (change, local)
            && gone == local
        {
            cut(connection, client, End::AddressGone).await;
        }
    }
}

/// Makes the connection anew when WhatsApp has taken the login back and left the socket open. Never
/// returns.
async fn keep_login(connection: &Connection, client: &Arc<Client>, errors_before: u32) {
    let mut failed = 0;
    loop {
        clock::sleep(LOGIN_CHECK).await;
        let was_logged_in = connection.state().up_since.is_some();
        if client.is_logged_in() || !was_logged_in || !client.is_connected() {
            failed = 0;
            continue;
        }
        failed += 1;
        if client.stats().reconnect_errors >= errors_before.saturating_add(THROTTLED_ERRORS) {
            cut(connection, client, End::SlowDown(None)).await;
        } else if failed == LOGIN_CHECKS_FAILED {
            cut(connection, client, End::LoginTakenBack).await;
        }
    }
}

/// Makes the connection anew when nobody has written for longer than is usual. Never returns.
async fn keep_hearing(connection: &Connection, client: &Arc<Client>, longest: Duration) {
    loop {
        clock::sleep(SILENCE_CHECK).await;
        let Some(up_since) = connection.state().up_since else { continue };
        let heard =
            connection.shared.activity.heard().message.map_or(up_since, |message| message.max(up_since));
        // Silence at night is nothing unusual.
        let open = || trusted_clock::told().and_then(opening_hours::open_for).is_some();
        if clock::since(heard) >= longest && open() {
            cut(connection, client, End::Silence).await;
        }
    }
}

/// Says so when messages waited for a connection that was made because of silence: those that come
/// before the offline queue is empty. Never returns.
async fn report_deafness(connection: &Connection, after_silence: bool) {
    let started = clock::now();
    while after_silence && !connection.state().synced {
        clock::sleep(SYNC_CHECK).await;
    }
    let heard = connection.shared.activity.heard().message;
    if after_silence && heard.is_some_and(|message| message >= started) {
        log::warn!("connection: the last connection was deaf: messages waited that it never brought");
        connection.state().standing.deaf_connections += 1;
    }
    pending().await
}

/// Returns when the kernel says that something about the network is better than before.
async fn line_came_back(kernel: &mut Option<KernelChanges>) {
    while next_change(kernel).await != Change::Better {}
    log::info!("connection: the network has changed; trying again");
    clock::sleep(SETTLE).await;
}

/// The next change that the kernel tells of; without a kernel that tells, there is none.
async fn next_change(kernel: &mut Option<KernelChanges>) -> Change {
    loop {
        let Some(listening) = kernel else { return pending().await };
        match listening.next().await {
            Ok(change) => return change,
            Err(error) => {
                log::warn!("connection: the kernel no longer tells of changes of the network: {error}");
                *kernel = None;
            }
        }
    }
}

/// Returns when a DNS server answers that did not before. Each is compared with itself: one that has
/// answered all the time says nothing of the line.
async fn name_came_back(resolver: &Resolver, host: &str) {
    let mut answered: BTreeMap<SocketAddr, bool> = BTreeMap::new();
    loop {
        let Some((server, answers)) = resolver.probe(host).await else { return pending().await };
        if answered.insert(server, answers) == Some(false) && answers {
            log::info!("connection: {server} answers again; trying again");
            return;
        }
        clock::sleep(PROBE_EVERY).await;
    }
}
