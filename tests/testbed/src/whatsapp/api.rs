//! The server as tests use it: blocking calls from any thread.

use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use smol::net::TcpListener;
use waproto::whatsapp::Message;

use super::accounts::{AccountId, Addressing, DeviceAddress};
use super::faults::Fault;
use super::noise::ServerKeys;
use super::passkey::{Demand, Gate};
use super::presence::TYPING_LIVES;
use super::primary::{SendAs, Shown, text_message};
use super::reachout::Lock;
use super::socket::{Port, Tls, listen, run_timers};
use super::world::{Hub, World};
use crate::authority::Authority;
use crate::phone::passkey::Ceremony;

/// How long linking may take once the phone has the code: two round trips and some cryptography.
const LINKING: Duration = Duration::from_secs(30);

/// How long a client may take to show its link code after the test wants to type it.
const CODE_SHOWN: Duration = Duration::from_secs(30);

/// Names that the server's certificate is good for: those that clients really use, and the local
/// ones that a test uses without DNS.
const NAMES: [&str; 6] =
    ["web.whatsapp.com", "mmg.whatsapp.net", "media.whatsapp.net", "localhost", "127.0.0.1", "10.0.2.2"];

/// How a server starts.
#[derive(Debug, Clone)]
pub struct Options {
    /// Address to listen on; port 0 takes a free one.
    pub address: SocketAddr,
    /// Further addresses of the same server, as WhatsApp's name has several.
    pub further_addresses: Vec<SocketAddr>,
    /// Speak TLS too. The certificate names WhatsApp's hosts and the addresses above.
    pub tls: bool,
    /// Who signs the certificate; an authority of its own when absent.
    pub authority: Option<Authority>,
    /// Host name (and port) that clients are told for media; the address when absent.
    pub media_host: Option<String>,
    /// How long somebody counts as typing without typing on.
    pub typing_lives: Duration,
    /// Accounts' chats have moved from phone numbers to LIDs, as all have by now: companions are told so when
    /// they are linked, and write to LIDs.
    pub lid_migrated: bool,
    /// Phones that have companions send no delivery receipts, so that a sender sees whether a companion got
    /// its message. A real phone acknowledges, whoever else is linked.
    pub silent_phones: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            further_addresses: Vec::new(),
            tls: false,
            authority: None,
            media_host: None,
            typing_lives: TYPING_LIVES,
            lid_migrated: true,
            silent_phones: false,
        }
    }
}

/// A running server. It stops when this is dropped.
pub struct WhatsApp {
    port: Arc<Port>,
    address: SocketAddr,
    stop: Option<async_channel::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl WhatsApp {
    /// Starts a server on a thread of its own.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub fn start(options: Options) -> anyhow::Result<WhatsApp> {
        let mut listeners = Vec::new();
        for address in std::iter::once(options.address).chain(options.further_addresses) {
            let listener = StdListener::bind(address)
                .with_context(|| format!("listening on {address}: is the port taken?"))?;
            listeners.push((listener.local_addr()?, listener));
        }
        let address = listeners[0].0;
        let (hub, wake) = Hub::new();
        let media_host = options.media_host.unwrap_or_else(|| address.to_string());
        hub.enter(|world| {
            world.media.host = media_host;
            world.typing_lives = options.typing_lives;
            world.lid_migrated = options.lid_migrated;
            world.silent_phones = options.silent_phones;
        });
        let tls = match options.tls {
            true => {
                let authority = options.authority.map_or_else(Authority::new, Ok)?;
                let mut names = NAMES.map(str::to_owned).to_vec();
                names.extend(listeners.iter().map(|(address, _)| address.ip().to_string()));
                Some(Tls { acceptor: authority.acceptor(&names, &[])?, authority })
            }
            false => None,
        };
        let port = Arc::new(Port { hub, keys: ServerKeys::new(&mut rand::rng()), tls });
        let (stop, stopped) = async_channel::bounded::<()>(1);
        let shared = port.clone();
        let thread = std::thread::Builder::new().name("whatsapp-server".into()).spawn(move || {
            let executor = Arc::new(smol::Executor::new());
            let mut tasks = vec![executor.spawn(run_timers(shared.clone(), wake))];
            for (address, listener) in listeners {
                match smol::Async::new(listener) {
                    Ok(listener) => {
                        let listening = listen(shared.clone(), TcpListener::from(listener), executor.clone());
                        tasks.push(executor.spawn(listening));
                    }
                    Err(failed) => return log::error!("could not watch the socket of {address}: {failed}"),
                }
            }
            smol::block_on(executor.run(async {
                // Ends when the sender is dropped.
                let _ = stopped.recv().await;
                // They hold the executor, which holds the connections: all end here.
                for task in tasks {
                    task.cancel().await;
                }
            }));
        })?;
        log::info!("WhatsApp's server listens on {address}");
        Ok(WhatsApp { port, address, stop: Some(stop), thread: Some(thread) })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where clients connect: `ws:`, or `wss:` when TLS is on.
    pub fn url(&self) -> String {
        let scheme = if self.port.tls.is_some() { "wss" } else { "ws" };
        format!("{scheme}://{}/ws/chat", self.address)
    }

    /// Base of the HTTP side, without a slash at the end.
    pub fn http_url(&self) -> String {
        let scheme = if self.port.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Certificate of the authority that signed the server's, in PEM.
    pub fn ca_pem(&self) -> Option<String> {
        self.port.tls.as_ref().map(|tls| tls.authority.pem().to_owned())
    }

    /// The phone of the account that was opened under that name; opens it if there is none. Some
    /// names switch behaviours: see [`super::scenario`].
    ///
    /// # Errors
    /// When the name is empty, or wants a behaviour that there is not.
    pub fn phone(&self, name: &str) -> anyhow::Result<Handset> {
        ensure!(!name.is_empty(), "a phone needs a name");
        super::scenario::check(name)?;
        let account = self.port.hub.enter(|world| world.account_named(name));
        Ok(self.handset(account))
    }

    /// The phone of an existing account by its number.
    ///
    /// # Errors
    /// When no account has that number.
    pub fn phone_numbered(&self, number: &str) -> anyhow::Result<Handset> {
        let account = self.port.hub.enter(|world| world.account_numbered(number))?;
        Ok(self.handset(account))
    }

    /// All phones.
    pub fn phones(&self) -> Vec<Handset> {
        let accounts = self.port.hub.enter(|world| world.accounts.len());
        (0..accounts).map(|account| self.handset(account)).collect()
    }

    fn handset(&self, account: AccountId) -> Handset {
        let (number, lid) = self.port.hub.enter(|world| {
            let account = &world.accounts[account];
            (account.number.clone(), account.lid.clone())
        });
        Handset { port: self.port.clone(), account, number, lid }
    }

    /// Opens a group; the first phone creates it. Gives its id, to send to.
    ///
    /// # Errors
    /// When it has no members.
    pub fn group(
        &self,
        subject: &str,
        members: &[&Handset],
        addressing: Addressing,
    ) -> anyhow::Result<String> {
        ensure!(!members.is_empty(), "a group needs members");
        let members: Vec<AccountId> = members.iter().map(|member| member.account).collect();
        Ok(self.port.hub.enter(|world| world.create_group(subject, &members, addressing)))
    }

    /// A fault for everybody.
    ///
    /// # Errors
    /// See [`Fault`]: nothing to replay, or too many faults.
    pub fn fault(&self, fault: Fault) -> anyhow::Result<()> {
        self.port.hub.enter(|world| world.set_fault(None, fault))
    }

    /// A fault for one account.
    ///
    /// # Errors
    /// As [`WhatsApp::fault`], and when no account has that number.
    pub fn fault_on(&self, number: &str, fault: Fault) -> anyhow::Result<()> {
        self.port.hub.enter(|world| {
            let account = world.account_numbered(number)?;
            world.set_fault(Some(account), fault)
        })
    }

    /// Sets the server's clock ahead of this machine's by so many seconds, or behind it: it is another
    /// time of the day, or another day, for everything that is sent from now on.
    pub fn set_clock_ahead(&self, seconds: i64) {
        self.port.hub.enter(|world| world.clock_ahead = seconds);
    }

    /// Switches an A/B property for everybody who has none of its own; clients hear of it at their next
    /// login.
    pub fn set_property(&self, code: u32, on: bool) {
        self.port.hub.enter(|world| world.properties.insert(code, on));
    }

    /// Locks new chats of an account, or unlocks them: messages of its companions to people whom they have
    /// not reached before, and whose token they do not show, are refused with 463.
    ///
    /// # Errors
    /// When no account has that number.
    pub fn lock_new_chats(&self, number: &str, lock: Option<Lock>) -> anyhow::Result<()> {
        self.port.hub.enter(|world| {
            let account = world.account_numbered(number)?;
            world.set_lock(account, lock);
            Ok(())
        })
    }

    /// How often companions of an account asked for that lock.
    ///
    /// # Errors
    /// When no account has that number.
    pub fn lock_questions(&self, number: &str) -> anyhow::Result<u64> {
        self.port.hub.enter(|world| Ok(world.accounts[world.account_numbered(number)?].reachout.asked))
    }

    /// How often companions of an account were refused with 463.
    ///
    /// # Errors
    /// When no account has that number.
    pub fn refused(&self, number: &str) -> anyhow::Result<u64> {
        self.port.hub.enter(|world| Ok(world.accounts[world.account_numbered(number)?].reachout.refused))
    }

    /// Ends all faults and delivers what they held up.
    pub fn clear_faults(&self) {
        self.port.hub.enter(World::clear_faults);
    }

    /// Ids of an account's companions that are logged in.
    ///
    /// # Errors
    /// When no account has that number.
    pub fn devices_online(&self, number: &str) -> anyhow::Result<Vec<u16>> {
        self.port.hub.enter(|world| {
            let account = world.account_numbered(number)?;
            Ok(online(world, account))
        })
    }

    /// Waits until a companion of the account is logged in and has its backlog.
    ///
    /// # Errors
    /// When none is in time.
    pub fn wait_online(&self, number: &str, deadline: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + deadline;
        let account = self.port.hub.enter(|world| world.account_numbered(number))?;
        self.port
            .hub
            .wait(until, |world| {
                world.accounts[account].companions.values().any(|companion| companion.drained).then_some(())
            })
            .context("no companion of the account came online in time")
    }

    /// Messages that wait for an account's companions, acknowledged by none of them yet.
    ///
    /// # Errors
    /// When no account has that number.
    pub fn queue_len(&self, number: &str) -> anyhow::Result<usize> {
        self.port.hub.enter(|world| {
            let account = world.account_numbered(number)?;
            Ok(world.accounts[account].companions.values().map(|companion| companion.queue.messages()).sum())
        })
    }

    /// TCP connections that came, refused ones too.
    pub fn connections(&self) -> u64 {
        self.port.hub.enter(|world| world.connections)
    }

    /// How often companions of an account logged in.
    ///
    /// # Errors
    /// When no account has that number.
    pub fn logins(&self, number: &str) -> anyhow::Result<u64> {
        self.port.hub.enter(|world| {
            let account = world.account_numbered(number)?;
            Ok(world.accounts[account].logins)
        })
    }

    /// Messages that clients sent once more under an id they had used already.
    pub fn resent(&self) -> u64 {
        self.port.hub.enter(|world| world.relayed.resent)
    }
}

fn online(world: &World, account: AccountId) -> Vec<u16> {
    let companions = world.accounts[account].companions.iter();
    companions.filter(|(_, companion)| companion.socket.is_some()).map(|(id, _)| *id).collect()
}

impl Drop for WhatsApp {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A person's phone.
#[derive(Clone)]
pub struct Handset {
    port: Arc<Port>,
    account: AccountId,
    number: String,
    lid: String,
}

impl Handset {
    /// Digits with country code.
    pub fn number(&self) -> &str {
        &self.number
    }

    /// User part of the LID.
    pub fn lid(&self) -> &str {
        &self.lid
    }

    /// The name it was opened under; empty when a client opened it that gave none.
    pub fn name(&self) -> String {
        self.enter(|world| world.accounts[self.account].registered_as.clone())
    }

    /// What its messages carry as the sender's name.
    pub fn push_name(&self) -> String {
        self.enter(|world| world.accounts[self.account].name.clone())
    }

    fn enter<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        self.port.hub.enter(act)
    }

    /// Scans the QR code that a client shows and waits until the client is linked. Gives the
    /// companion's id.
    ///
    /// # Errors
    /// When no client waits with that code or the client refuses.
    pub fn scan_qr(&self, text: &str) -> anyhow::Result<u16> {
        let before = self.companions();
        self.enter(|world| {
            world.accounts[self.account].primary.link_failed = None;
            world.scan_qr(text, Some(self.account))
        })?;
        self.wait_linked(&before)
    }

    /// Types the eight-letter code that a client shows and waits until the client is linked. Waits
    /// for the client first, which may still be asking for its code.
    ///
    /// # Errors
    /// When no client waits for a code of this phone, the code is wrong or the client refuses.
    pub fn enter_link_code(&self, code: &str) -> anyhow::Result<u16> {
        let before = self.companions();
        self.port
            .hub
            .wait(Instant::now() + CODE_SHOWN, |world| world.link_code_awaited(self.account).then_some(()))
            .context("no client asked to be linked with this phone by code")?;
        self.enter(|world| world.enter_link_code(self.account, code))?;
        self.wait_linked(&before)
    }

    /// Scans the QR code that a client shows, and leaves what follows to it.
    ///
    /// # Errors
    /// When no client waits with that code.
    pub fn scan_qr_only(&self, text: &str) -> anyhow::Result<()> {
        self.enter(|world| world.scan_qr(text, Some(self.account))).map(drop)
    }

    /// Types the code that a client shows, and leaves what follows to it.
    ///
    /// # Errors
    /// When no client waits for a code of this phone.
    pub fn enter_link_code_only(&self, code: &str) -> anyhow::Result<()> {
        self.port
            .hub
            .wait(Instant::now() + CODE_SHOWN, |world| world.link_code_awaited(self.account).then_some(()))
            .context("no client asked to be linked with this phone by code")?;
        self.enter(|world| world.enter_link_code(self.account, code))
    }

    /// Gives the account a passkey, without which no further device is linked.
    pub fn demand_passkey(&self, demand: Demand) {
        self.enter(|world| world.accounts[self.account].primary.gate = Some(Gate::new(demand)));
    }

    /// Lets the account be one that a business's server hosts too ("coexistence").
    pub fn host(&self) {
        self.enter(|world| world.accounts[self.account].primary.phone.host_account());
    }

    /// What a browser gives when the passkey signs `challenge` (base64url).
    ///
    /// # Errors
    /// When the account has no passkey.
    pub fn passkey_answer(&self, challenge: &str, ceremony: &Ceremony) -> anyhow::Result<String> {
        self.with_gate(|gate| gate.passkey.assertion(challenge, ceremony))
    }

    /// The passkey's id and its private key in PKCS #8, for the authenticator of a browser.
    ///
    /// # Errors
    /// When the account has no passkey.
    pub fn passkey_for_a_browser(&self) -> anyhow::Result<(Vec<u8>, Vec<u8>)> {
        self.with_gate(|gate| (gate.passkey.credential().to_vec(), gate.passkey.pkcs8().to_vec()))
    }

    /// The code to compare that the phone shows, waited for as long as linking may take.
    ///
    /// # Errors
    /// When it shows none.
    pub fn comparison_code(&self) -> anyhow::Result<String> {
        self.port
            .hub
            .wait(Instant::now() + LINKING, |world| {
                world.accounts[self.account].primary.gate.as_ref()?.code.clone()
            })
            .context("the phone shows no code to compare")
    }

    /// Why what came after a demand for the passkey was refused, in order.
    pub fn passkey_refusals(&self) -> Vec<String> {
        self.with_gate(|gate| gate.refusals.clone()).unwrap_or_default()
    }

    /// How often the passkey was demanded.
    pub fn passkey_demands(&self) -> u32 {
        self.with_gate(|gate| gate.asked).unwrap_or_default()
    }

    fn with_gate<T>(&self, look: impl FnOnce(&mut Gate) -> T) -> anyhow::Result<T> {
        self.enter(|world| world.accounts[self.account].primary.gate.as_mut().map(look))
            .context("the account has no passkey")
    }

    fn wait_linked(&self, before: &[u16]) -> anyhow::Result<u16> {
        let outcome = self.port.hub.wait(Instant::now() + LINKING, |world| {
            let account = &mut world.accounts[self.account];
            if let Some(why) = account.primary.link_failed.take() {
                return Some(Err(anyhow!("the phone did not link the device: {why}")));
            }
            let new = account.companions.keys().find(|id| !before.contains(id));
            new.map(|id| Ok(*id))
        });
        match outcome {
            Some(outcome) => outcome,
            None => bail!("the client did not finish linking in time"),
        }
    }

    /// Ids of the linked companions.
    pub fn companions(&self) -> Vec<u16> {
        self.enter(|world| world.accounts[self.account].companions.keys().copied().collect())
    }

    /// Ids of the companions that are logged in.
    pub fn companions_online(&self) -> Vec<u16> {
        self.enter(|world| online(world, self.account))
    }

    /// Unlinks all companions: they are logged out.
    pub fn unlink_companions(&self) {
        self.enter(|world| {
            let devices: Vec<u16> = world.accounts[self.account].companions.keys().copied().collect();
            for device in devices {
                world.unlink(DeviceAddress { account: self.account, device });
            }
        });
    }

    /// Makes strangers need a token to write to it, or not.
    pub fn set_restricted(&self, restricted: bool) {
        self.enter(|world| world.accounts[self.account].restricted = restricted);
    }

    /// Whether the phone hands out its token with the messages that it sends; it does unless it is told.
    pub fn set_gives_tokens(&self, gives: bool) {
        self.enter(|world| world.accounts[self.account].reachout.gives_tokens = gives);
    }

    /// Hands the companions of that number the token with which they may write to this phone.
    ///
    /// # Errors
    /// When no account has that number.
    pub fn give_token(&self, number: &str) -> anyhow::Result<()> {
        self.enter(|world| {
            let to = world.account_numbered(number)?;
            world.give_token(self.account, to);
            Ok(())
        })
    }

    /// Sends a text by phone number addressing; gives the message id.
    ///
    /// # Errors
    /// As [`Handset::send`].
    pub fn send_text(&self, to: &str, text: &str) -> anyhow::Result<String> {
        self.send(to, text_message(text), SendAs::default())
    }

    /// Sends a message to a number, a LID, a group or, as a status, to `status@broadcast`; gives the
    /// message id.
    ///
    /// # Errors
    /// When there is no such receiver or the phone is offline.
    pub fn send(&self, to: &str, message: Message, how: SendAs) -> anyhow::Result<String> {
        self.enter(|world| world.phone_sends(self.account, to, message, how))
    }

    /// Everything the screen shows, in order of arrival.
    pub fn shown(&self) -> Vec<Shown> {
        self.enter(|world| world.accounts[self.account].primary.shown.clone())
    }

    /// How many messages the screen shows.
    pub fn count_shown(&self) -> usize {
        self.enter(|world| world.accounts[self.account].primary.shown.len())
    }

    /// Waits until the screen shows more messages than so many.
    ///
    /// # Errors
    /// When it does not before the deadline.
    pub fn wait_for_more(&self, than: usize, deadline: Duration) -> anyhow::Result<()> {
        self.port
            .hub
            .wait(Instant::now() + deadline, |world| {
                (world.accounts[self.account].primary.shown.len() > than).then_some(())
            })
            .with_context(|| format!("{} is shown no further message within {deadline:?}", self.name()))
    }

    /// Waits until the screen shows a message that `wanted` accepts.
    ///
    /// # Errors
    /// When none comes before the deadline; names what is shown instead.
    pub fn wait_for(&self, wanted: impl Fn(&Shown) -> bool, deadline: Duration) -> anyhow::Result<Shown> {
        let found = self.port.hub.wait(Instant::now() + deadline, |world| {
            world.accounts[self.account].primary.shown.iter().find(|shown| wanted(shown)).cloned()
        });
        found.with_context(|| {
            let texts: Vec<String> = self.shown().into_iter().map(|shown| shown.text).collect();
            format!("no such message within {deadline:?}; the phone shows {texts:?}")
        })
    }

    /// Messages that did not decrypt, each attempt counted.
    pub fn failed_decryptions(&self) -> u64 {
        self.enter(|world| world.accounts[self.account].primary.failed_decryptions)
    }

    /// Whether the receiver confirmed that a message arrived: a companion if it has any, else its
    /// phone.
    pub fn delivered(&self, id: &str) -> bool {
        self.enter(|world| world.accounts[self.account].primary.delivered(id))
    }

    /// Whether the receiver read a message.
    pub fn read(&self, id: &str) -> bool {
        self.enter(|world| world.accounts[self.account].primary.read(id))
    }

    /// Whether a receiver could not read a message and asked for it again.
    pub fn asked_again(&self, id: &str) -> bool {
        self.enter(|world| world.accounts[self.account].primary.asked_again(id))
    }

    /// Waits until the receiver confirmed a message.
    ///
    /// # Errors
    /// When it does not before the deadline.
    pub fn wait_delivered(&self, id: &str, deadline: Duration) -> anyhow::Result<()> {
        self.port
            .hub
            .wait(Instant::now() + deadline, |world| {
                world.accounts[self.account].primary.delivered(id).then_some(())
            })
            .with_context(|| format!("no receipt for the message within {deadline:?}"))
    }

    /// Whether that number is typing to this phone.
    pub fn sees_typing(&self, number: &str) -> bool {
        self.enter(|world| {
            let typing = world.account_of_user(number);
            typing.is_some_and(|account| world.accounts[self.account].primary.sees_typing(account))
        })
    }

    /// Takes the phone off the network, or puts it back; then it gets what waited.
    pub fn set_online(&self, online: bool) {
        self.enter(|world| world.set_online(self.account, online));
    }

    /// Forgets all Signal sessions with a number's devices, and that they have its sender keys, as a reinstalled
    /// phone would: its next message starts a new session.
    ///
    /// # Errors
    /// When no account has that number.
    pub fn forget_sessions(&self, number: &str) -> anyhow::Result<()> {
        self.enter(|world| {
            let other = world.account_numbered(number)?;
            let name = world.accounts[other].number.clone();
            let devices: Vec<u16> = world.accounts[other].devices().collect();
            for device in devices {
                let primary = &mut world.accounts[self.account].primary;
                primary.phone.forget_session(&name, device.into());
                primary.forget_sender_key_of(DeviceAddress { account: other, device });
            }
            Ok(())
        })
    }
}
