//! Everything the server knows, and who may touch it.
//!
//! [`World`] is the pure part: stanzas and commands go in with the time, stanzas go out into the
//! sockets' queues. [`Hub`] guards it; it is entered by sockets, timers and the API, one at a time.

use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use wacore_binary::{Jid, Node};

use super::accounts::{Account, AccountId, Addressing, Companion, DeviceAddress, is_person};
use super::faults::Faults;
use super::groups::Groups;
use super::media::Media;
use super::pairing::Registration;
use super::presence::{TYPING_LIVES, Typing};
use super::relay::Relayed;
use super::stanza::{Stanza, server_jid};

/// Stanzas waiting to be written to one socket. A client that lets this many pile up is cut off.
const SOCKET_QUEUE: usize = 50_000;

pub type SocketId = u64;

/// The two clocks at the time of one event.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Unix seconds.
    pub unix: u64,
    pub instant: Instant,
}

impl Moment {
    /// Now, by a server whose clock is ahead of this machine's by so many seconds.
    pub fn now(ahead: i64) -> Moment {
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        Moment { unix: unix.saturating_add_signed(ahead), instant: Instant::now() }
    }
}

/// What a socket's writer gets.
pub enum Outgoing {
    Stanza(Node),
    /// Close the WebSocket properly.
    Close,
    /// Let the TCP connection end without a word.
    Drop,
}

/// Who is at the other end of a socket.
pub enum Peer {
    /// A device that wants to be linked.
    Unpaired(Box<Registration>),
    Device(DeviceAddress),
}

pub struct Socket {
    pub out: async_channel::Sender<Outgoing>,
    pub peer: Peer,
    /// A fault: open, but nothing passes in either direction.
    pub dead: bool,
    /// A fault: requests and acknowledgements pass, but nothing that others cause.
    pub deaf: bool,
}

/// Something to do at a later time.
pub enum Later {
    /// Deliver messages that a fault held up.
    Deliver { to: DeviceAddress, stanzas: Vec<Node> },
    /// Deliver what was held back to be overtaken, even if nothing overtook it.
    ReleaseHeld { to: DeviceAddress },
    /// Nobody asked for more of a backlog of which so much was handed out.
    RestOfBacklog { to: DeviceAddress, socket: SocketId, handed_out: usize },
    /// A message may still be owed its acknowledgement.
    Complain { at: DeviceAddress, socket: SocketId },
    /// A typing state ends.
    TypingEnds { from: DeviceAddress, to: AccountId },
    /// The phone adopts a client that has gone through linking behind a passkey.
    PairSuccess { to: SocketId, account: AccountId, adv_secret: Vec<u8> },
}

struct Timer {
    due: Instant,
    /// Keeps timers of the same instant in order.
    number: u64,
    action: Later,
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Timer {}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timer {
    /// The earliest is the greatest, as a heap gives the greatest first.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.due, other.number).cmp(&(self.due, self.number))
    }
}

pub struct World {
    pub now: Moment,
    /// Seconds by which the server's clock is ahead of this machine's.
    pub clock_ahead: i64,
    pub rng: StdRng,
    pub accounts: Vec<Account>,
    /// By phone number and by LID; the two never collide.
    by_user: HashMap<String, AccountId>,
    pub sockets: BTreeMap<SocketId, Socket>,
    next_socket: SocketId,
    timers: BinaryHeap<Timer>,
    next_number: u64,
    /// Stanzas for the phones, handed over when the event at hand is done.
    pub for_primaries: VecDeque<(AccountId, Node)>,
    /// TCP connections that came.
    pub connections: u64,
    pub faults: Faults,
    pub relayed: Relayed,
    pub groups: Groups,
    pub media: Media,
    /// A/B properties of everybody who has none of its own.
    pub properties: BTreeMap<u32, bool>,
    /// Who is typing to whom.
    pub typing: BTreeMap<(DeviceAddress, AccountId), Typing>,
    /// How long somebody counts as typing without typing on.
    pub typing_lives: Duration,
    /// Accounts' chats have moved from phone numbers to LIDs, as companions are told when they are linked.
    pub lid_migrated: bool,
    /// Phones that have companions send no delivery receipts.
    pub silent_phones: bool,
}

impl World {
    pub fn new(rng: StdRng) -> World {
        World {
            now: Moment::now(0),
            clock_ahead: 0,
            rng,
            accounts: Vec::new(),
            by_user: HashMap::new(),
            sockets: BTreeMap::new(),
            next_socket: 1,
            timers: BinaryHeap::new(),
            next_number: 0,
            for_primaries: VecDeque::new(),
            connections: 0,
            faults: Faults::default(),
            relayed: Relayed::default(),
            groups: Groups::default(),
            media: Media::default(),
            properties: World::usual_properties(),
            typing: BTreeMap::new(),
            typing_lives: TYPING_LIVES,
            lid_migrated: true,
            silent_phones: false,
        }
    }

    /// The account that was opened under that name, made if there is none.
    pub fn account_named(&mut self, name: &str) -> AccountId {
        match self.accounts.iter().position(|account| account.registered_as == name) {
            Some(id) => id,
            None => self.new_account(name),
        }
    }

    /// An account with a fresh number, and the behaviours that its name asks for.
    pub fn new_account(&mut self, name: &str) -> AccountId {
        let id = self.accounts.len();
        let account = Account::new(id, name, &mut self.rng);
        log::info!("opened account {id}");
        self.by_user.insert(account.number.clone(), id);
        self.by_user.insert(account.lid.clone(), id);
        self.accounts.push(account);
        self.stage(id, name);
        id
    }

    /// The account with that phone number or LID.
    pub fn account_of_user(&self, user: &str) -> Option<AccountId> {
        self.by_user.get(user).copied()
    }

    /// As [`World::account_of_user`], for a person at the API.
    ///
    /// # Errors
    /// When there is no such account.
    pub fn account_numbered(&self, number: &str) -> anyhow::Result<AccountId> {
        self.account_of_user(number.trim_start_matches('+'))
            .context("no account has that number: open one with its phone's name first")
    }

    /// The account an address belongs to.
    pub fn account_of(&self, jid: &Jid) -> Option<AccountId> {
        if !is_person(jid) {
            return None;
        }
        self.account_of_user(jid.user_base())
    }

    /// The existing device that an address names.
    pub fn device_of(&self, jid: &Jid) -> Option<DeviceAddress> {
        let account = self.account_of(jid)?;
        let device = jid.device;
        (device == 0 || self.accounts[account].companions.contains_key(&device))
            .then_some(DeviceAddress { account, device })
    }

    pub fn companion(&mut self, at: DeviceAddress) -> Option<&mut Companion> {
        self.accounts[at.account].companions.get_mut(&at.device)
    }

    pub fn jid(&self, at: DeviceAddress, addressing: Addressing) -> Jid {
        self.accounts[at.account].jid(at.device, addressing)
    }

    /// A stanza id of the server's own.
    pub fn fresh_id(&mut self) -> String {
        self.next_number += 1;
        format!("{}.{}", 100_000 + self.rng.next_u32() % 900_000, self.next_number)
    }

    /// A message id as phones make them.
    pub fn fresh_message_id(&mut self) -> String {
        format!("3EB0{:016X}", self.rng.next_u64())
    }

    pub fn open_socket(&mut self, out: async_channel::Sender<Outgoing>, peer: Peer) -> SocketId {
        let id = self.next_socket;
        self.next_socket += 1;
        self.sockets.insert(id, Socket { out, peer, dead: false, deaf: false });
        id
    }

    /// Queue between a socket's owner in the world and its writer. What it may hold is looked at with each
    /// [`push`](Self::push): a bounded queue would make room for all of it with each connection.
    pub fn socket_queue() -> (async_channel::Sender<Outgoing>, async_channel::Receiver<Outgoing>) {
        async_channel::unbounded()
    }

    /// The transport of a socket ended.
    pub fn socket_ended(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.remove(&id) else { return };
        if let Peer::Device(at) = socket.peer {
            log::info!("device {}:{} went offline", at.account, at.device);
            let was_available = match self.companion(at) {
                Some(companion) if companion.socket == Some(id) => {
                    companion.socket = None;
                    companion.drained = false;
                    companion.handed_out = None;
                    std::mem::take(&mut companion.available)
                }
                _ => return,
            };
            if was_available {
                self.presence_changed(at.account);
            }
        }
    }

    /// Writes to a socket; a dead one swallows it.
    pub fn write(&mut self, id: SocketId, stanza: Node) {
        if self.sockets.get(&id).is_some_and(|socket| !socket.dead) {
            log::trace!("-> {id} {stanza:?}");
            self.push(id, Outgoing::Stanza(stanza));
        }
    }

    /// Closes a socket after what was written before.
    pub fn close(&mut self, id: SocketId) {
        self.push(id, Outgoing::Close);
    }

    /// Cuts a socket's TCP connection after what was written before.
    pub fn cut(&mut self, id: SocketId) {
        self.push(id, Outgoing::Drop);
    }

    /// Cuts a socket's TCP connection, and nothing that was on its way passes any more.
    fn lose(&mut self, id: SocketId) {
        self.sockets.entry(id).and_modify(|socket| socket.dead = true);
        self.cut(id);
    }

    fn push(&mut self, id: SocketId, outgoing: Outgoing) {
        let Some(socket) = self.sockets.get(&id) else { return };
        if socket.out.len() >= SOCKET_QUEUE {
            log::warn!("socket {id} does not read: cut it off");
            socket.out.close();
            return;
        }
        // Closed: its writer has ended.
        let _ = socket.out.try_send(outgoing);
    }

    /// Writes to a companion if it is online, whether or not it has its backlog.
    pub fn write_to(&mut self, at: DeviceAddress, stanza: Node) {
        if let Some(socket) = self.companion(at).and_then(|companion| companion.socket) {
            self.write(socket, stanza);
        }
    }

    /// Whether a fault keeps from a companion what others cause, though it is online.
    fn hears_nothing(&self, at: DeviceAddress) -> bool {
        let companion = self.accounts[at.account].companions.get(&at.device);
        let socket = companion.and_then(|companion| self.sockets.get(&companion.socket?));
        socket.is_some_and(|socket| socket.deaf)
    }

    /// Writes presence or typing to a companion, which is lost when nobody hears it.
    pub fn tell(&mut self, at: DeviceAddress, stanza: Node) {
        if !self.hears_nothing(at) {
            self.write_to(at, stanza);
        }
    }

    /// A stanza that a companion must acknowledge: queued, and written if it is online.
    pub fn deliver_to_companion(&mut self, at: DeviceAddress, stanza: Node) {
        let held = self.faults.holds_offline(at.account) || self.hears_nothing(at);
        let Some(companion) = self.companion(at) else { return };
        let at_once = companion.drained && !held;
        companion.queue.push(stanza.clone(), at_once);
        if at_once {
            self.write_to(at, stanza);
        }
    }

    /// A notification for one companion.
    pub fn notify(&mut self, at: DeviceAddress, kind: &'static str, from: Jid, children: Vec<Node>) {
        if at.device == 0 {
            return;
        }
        let stanza = super::stanza::node("notification")
            .attr("from", from)
            .attr("type", kind)
            .attr("id", self.fresh_id())
            .attr("t", self.now.unix)
            .children(children)
            .build();
        self.deliver_to_companion(at, stanza);
    }

    pub fn after(&mut self, delay: Duration, action: Later) {
        self.next_number += 1;
        self.timers.push(Timer { due: self.now.instant + delay, number: self.next_number, action });
    }

    /// When the next timer is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.timers.peek().map(|timer| timer.due)
    }

    /// Does what is due.
    pub fn run_timers(&mut self) {
        while self.next_due().is_some_and(|due| due <= self.now.instant) {
            match self.timers.pop().map(|timer| timer.action) {
                Some(Later::Deliver { to, stanzas }) => self.deliver_messages(to, stanzas),
                Some(Later::ReleaseHeld { to }) => self.release_held(to),
                Some(Later::RestOfBacklog { to, socket, handed_out }) => {
                    self.hand_out_rest(socket, to, handed_out);
                }
                Some(Later::Complain { at, socket }) => self.complain(at, socket),
                Some(Later::TypingEnds { from, to }) => self.typing_ended(from, to),
                Some(Later::PairSuccess { to, account, adv_secret }) => {
                    if let Err(failed) = self.pair_success(to, account, &adv_secret) {
                        log::warn!("linking behind a passkey came to nothing: {failed:#}");
                    }
                }
                None => {}
            }
        }
    }

    /// One stanza from a client.
    pub fn on_stanza(&mut self, id: SocketId, stanza: Node) {
        log::trace!("<- {id} {stanza:?}");
        let at = match self.sockets.get(&id) {
            None | Some(Socket { dead: true, .. }) => return,
            Some(Socket { peer: Peer::Unpaired(_), .. }) => return self.on_unpaired(id, stanza),
            Some(Socket { peer: Peer::Device(at), .. }) => *at,
        };
        match stanza.tag.as_ref() {
            "iq" => self.on_iq(id, at, &stanza),
            "message" if self.faults.loses_message(at.account) => {
                self.sockets.entry(id).and_modify(|socket| socket.dead = true);
            }
            "message" => self.on_message(at, stanza),
            "receipt" if self.faults.loses_receipt(at.account, &stanza) => self.lose(id),
            "receipt" => self.on_receipt(at, stanza),
            "ack" => self.on_ack(at, &stanza),
            "presence" => self.on_presence(at, &stanza),
            "chatstate" => self.on_chatstate(at, &stanza),
            "ib" => self.on_ib(id, at, &stanza),
            "xmlstreamend" => self.close(id),
            other => log::warn!("ignored a stanza <{other}> of device {}:{}", at.account, at.device),
        }
    }

    /// A client acknowledged something of ours.
    fn on_ack(&mut self, at: DeviceAddress, ack: &Node) {
        let (Some(class), Some(id)) = (ack.attr("class"), ack.attr("id")) else { return };
        if let Some(code) = ack.attr("error") {
            log::info!("device {}:{} refused <{class}> with {code}", at.account, at.device);
        }
        if let Some(companion) = self.companion(at) {
            companion.queue.acknowledge(&class, &id, ack.attr("type").as_deref());
        }
    }

    /// `<ack>` for something a companion sent.
    pub fn acknowledge(&mut self, at: DeviceAddress, class: &'static str, stanza: &Node, error: Option<u16>) {
        if at.device == 0 || self.faults.swallows_ack(at.account, class) {
            return;
        }
        let mut ack = super::stanza::node("ack")
            .attr("class", class)
            .attr("id", stanza.attr("id").unwrap_or_default().into_owned())
            .attr("from", stanza.jid("to").unwrap_or_else(server_jid));
        if class == "message" {
            ack = ack.attr("t", self.now.unix);
            if let (Some(hash), Some(to)) = (stanza.attr("phash"), stanza.jid("to"))
                && !is_person(&to)
            {
                ack = ack.attr("phash", hash.into_owned());
            }
        } else {
            if let Some(kind) = stanza.attr("type") {
                ack = ack.attr("type", kind.into_owned());
            }
            if let Some(participant) = stanza.jid("participant") {
                ack = ack.attr("participant", participant);
            }
        }
        if let Some(error) = error {
            ack = ack.attr("error", error);
        }
        self.write_to(at, ack.build());
    }

    /// Lets the phones look at what came for them, until nothing is left.
    pub fn settle(&mut self) {
        while let Some((account, stanza)) = self.for_primaries.pop_front() {
            self.primary_received(account, stanza);
        }
    }
}

/// The world behind its lock.
pub struct Hub {
    world: Mutex<World>,
    /// Something happened; whoever waits for a condition looks again.
    changed: Condvar,
    timers_changed: async_channel::Sender<()>,
}

impl Hub {
    /// The hub, and what wakes the task that runs its timers.
    pub fn new() -> (Hub, async_channel::Receiver<()>) {
        let (timers_changed, wake) = async_channel::bounded(1);
        let world = Mutex::new(World::new(StdRng::from_rng(&mut rand::rng())));
        (Hub { world, changed: Condvar::new(), timers_changed }, wake)
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.now = Moment::now(world.clock_ahead);
        world
    }

    /// One event: `act` sees the world at this moment, everything it causes is done on return.
    pub fn enter<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        let mut world = self.lock();
        let due = world.next_due();
        let done = act(&mut world);
        world.settle();
        let due_changed = world.next_due() != due;
        drop(world);
        self.changed.notify_all();
        if due_changed {
            // Full means that the task is awake already.
            let _ = self.timers_changed.try_send(());
        }
        done
    }

    /// Waits until `look` finds something, at most until `deadline`.
    pub fn wait<T>(&self, deadline: Instant, mut look: impl FnMut(&mut World) -> Option<T>) -> Option<T> {
        let mut world = self.lock();
        loop {
            if let Some(found) = look(&mut world) {
                return Some(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            world = self.changed.wait_timeout(world, left).unwrap_or_else(PoisonError::into_inner).0;
            world.now = Moment::now(world.clock_ahead);
        }
    }
}
