//! The line: home, cable, internet.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::network::Network;
use super::weather::Weather;
use crate::proxy::{self, Proxy};

/// The home's address when the line begins.
pub const HOME: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 2);

/// The router: the home's way out, and where a provider's router answers DNS. It is on the internet's
/// side of the cable.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);

/// The same two on a line of IPv6 alone.
pub const HOME6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 2);
pub const ROUTER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1);

/// Bits of its network.
const PREFIX6: u8 = 64;

/// Bits of the home's network.
const PREFIX: u8 = 24;

/// The ends of the cable.
const AT_HOME: &str = "eth0";
const AT_THE_ROUTER: &str = "cable";

/// Hosts on the internet's side.
const MAX_HOSTS: usize = 256;

/// A line. Both networks vanish when this is dropped and nothing runs in them any more.
pub struct Line {
    home: Network,
    internet: Network,
    state: Mutex<State>,
    folder: TempDir,
}

/// A server outside the line that the internet shall have. The address must be [`Line::host`]ed.
#[derive(Debug, Clone)]
pub struct Publication {
    /// Where it listens, as seen by the thread that publishes it.
    pub server: SocketAddr,
    /// Where the internet sees it.
    pub at: SocketAddr,
    /// What the proxy shows when it ends TLS in front of a server that speaks none.
    pub tls: Option<proxy::Tls>,
}

struct State {
    weather: Weather,
    address: Ipv4Addr,
    hosts: Vec<IpAddr>,
}

impl Line {
    /// Home and internet, connected, in fair weather.
    ///
    /// # Errors
    /// When this machine cannot: says what is missing.
    pub fn new() -> Result<Line> {
        let (home, internet) = (Network::new()?, Network::new()?);
        let there = internet.path().display().to_string();
        let pair = ["link", "add", AT_HOME, "type", "veth", "peer", "name", AT_THE_ROUTER, "netns", &there];
        home.run("ip", &pair).context("laying the cable")?;
        let router = format!("{ROUTER}/{PREFIX}");
        internet.run("ip", &["addr", "add", &router, "dev", AT_THE_ROUTER])?;
        internet.run("ip", &["link", "set", AT_THE_ROUTER, "up"])?;
        home.run("ip", &["link", "set", AT_HOME, "up"])?;
        let folder = tempfile::Builder::new().prefix("line-").tempdir()?;
        let state = State { weather: Weather::default(), address: HOME, hosts: Vec::new() };
        let line = Line { home, internet, state: Mutex::new(state), folder };
        line.give_address(HOME)?;
        // Proves that the kernel can filter, before a test needs it.
        line.change_weather(|_| {})?;
        Ok(line)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bot's side.
    pub fn home(&self) -> &Network {
        &self.home
    }

    /// The servers' side.
    pub fn network_of_the_internet(&self) -> &Network {
        &self.internet
    }

    /// A program to run at home. It is killed when the thread that starts it ends.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        self.home.command(program)
    }

    /// Runs `act` at home, on a thread of its own.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn at_home<T: Send>(&self, act: impl FnOnce() -> T + Send) -> Result<T> {
        self.home.enter(act)
    }

    /// Runs `act` on the internet's side, on a thread of its own: it starts servers there, which stay
    /// there when they are handed out and told what to do from here.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn internet<T: Send>(&self, act: impl FnOnce() -> T + Send) -> Result<T> {
        self.internet.enter(act)
    }

    /// Puts an address on the internet, for servers to listen on. Once is enough for all ports.
    ///
    /// # Errors
    /// When it is there already or there are too many.
    pub fn host(&self, address: impl Into<IpAddr>) -> Result<IpAddr> {
        let address = address.into();
        let mut state = self.lock();
        ensure!(state.hosts.len() < MAX_HOSTS, "a line has at most {MAX_HOSTS} hosts");
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        self.internet
            .run("ip", &["addr", "add", &format!("{address}/{prefix}"), "dev", "lo"])
            .with_context(|| format!("putting {address} on the internet"))?;
        state.hosts.push(address);
        Ok(address)
    }

    /// Puts a server that runs outside the line on an address of the internet, behind a proxy of its
    /// own that can misbehave: a Supabase project, for example.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub fn publish(&self, publication: Publication) -> Result<Proxy> {
        let Publication { server, at, tls } = publication;
        let dial_from = Some(Network::here()?);
        let options = proxy::Options { listen: at, to: server, dial_from, tls };
        self.internet(|| Proxy::start(options))?
    }

    /// The home's address now.
    pub fn address(&self) -> Ipv4Addr {
        self.lock().address
    }

    /// Pulls the cable: the home's kernel sees the carrier go.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn down(&self) -> Result<()> {
        self.internet.run("ip", &["link", "set", AT_THE_ROUTER, "down"])
    }

    /// Puts the cable back.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn up(&self) -> Result<()> {
        self.internet.run("ip", &["link", "set", AT_THE_ROUTER, "up"])
    }

    /// The router gives the home another address, as after a reconnection. Open connections know
    /// nothing of it.
    ///
    /// # Errors
    /// When the address is not of the home's network.
    pub fn change_address(&self, address: Ipv4Addr) -> Result<()> {
        ensure!(
            address.octets()[..3] == HOME.octets()[..3] && address != ROUTER,
            "{address} is no address of a home behind {ROUTER}/{PREFIX}"
        );
        self.home.run("ip", &["addr", "flush", "dev", AT_HOME])?;
        self.give_address(address)?;
        self.lock().address = address;
        Ok(())
    }

    /// The home's address is gone, and its ways with it, though the cable is in: a lease that nobody renews.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn lose_address(&self) -> Result<()> {
        self.home.run("ip", &["addr", "flush", "dev", AT_HOME])
    }

    /// The home has the address again that it lost.
    ///
    /// # Errors
    /// When it has it already.
    pub fn regain_address(&self) -> Result<()> {
        self.give_address(self.address())
    }

    /// The home gets IPv6 alone, as from a provider that translates addresses: [`HOME6`], and a way out by
    /// [`ROUTER6`]. For [`Line::host`]s of both families the line is there already.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn ipv6_only(&self) -> Result<()> {
        let at_home = format!("{HOME6}/{PREFIX6}");
        let at_the_router = format!("{ROUTER6}/{PREFIX6}");
        self.internet.run("ip", &["addr", "add", &at_the_router, "dev", AT_THE_ROUTER, "nodad"])?;
        self.home.run("ip", &["addr", "flush", "dev", AT_HOME, "scope", "global"])?;
        self.home.run("ip", &["addr", "add", &at_home, "dev", AT_HOME, "nodad"])?;
        self.home.run("ip", &["-6", "route", "add", "default", "via", &ROUTER6.to_string()])
    }

    fn give_address(&self, address: Ipv4Addr) -> Result<()> {
        self.home.run("ip", &["addr", "add", &format!("{address}/{PREFIX}"), "dev", AT_HOME])?;
        self.home.run("ip", &["route", "replace", "default", "via", &ROUTER.to_string()])
    }

    /// Loses so many of a hundred packets, in both directions.
    ///
    /// # Errors
    /// When `nft` fails.
    pub fn loss(&self, percent: u8) -> Result<()> {
        ensure!(percent <= 100, "{percent} of 100 packets cannot be lost");
        self.change_weather(|weather| weather.loss = percent)
    }

    /// Lets the first packet of every connection vanish; open ones go on.
    ///
    /// # Errors
    /// When `nft` fails.
    pub fn swallow_syn(&self, on: bool) -> Result<()> {
        self.change_weather(|weather| weather.swallow_syn = on)
    }

    /// Swallows packets of more than so many bytes, headers included, and tells nobody: a modem that wraps
    /// packets, and a firewall without ICMP. What open connections send in larger ones is lost too.
    ///
    /// # Errors
    /// When `ip` or `nft` fails.
    pub fn swallow_larger_than(&self, bytes: u16) -> Result<()> {
        // Else the kernel hands over many segments as one packet, as no cable carries it.
        for (network, interface) in [(&self.home, AT_HOME), (&self.internet, AT_THE_ROUTER)] {
            network
                .run("ip", &["link", "set", interface, "gso_max_size", "1500", "gso_max_segs", "1"])
                .context("limiting packets to what a cable carries")?;
        }
        self.change_weather(|weather| weather.largest_packet = Some(bytes))
    }

    /// The home's interface gets this MTU, as whoever owns the box can set it.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn set_mtu(&self, bytes: u16) -> Result<()> {
        self.home.run("ip", &["link", "set", AT_HOME, "mtu", &bytes.to_string()])
    }

    /// Lets everything vanish, though the cable is in.
    ///
    /// # Errors
    /// When `nft` fails.
    pub fn black_hole(&self, on: bool) -> Result<()> {
        self.change_weather(|weather| weather.black_hole = on)
    }

    /// Answers every TCP packet from home with a reset, of open connections and of new ones, as a
    /// router does that has lost its table. An idle connection feels it when it sends.
    ///
    /// # Errors
    /// When `nft` fails.
    pub fn reset_connections(&self, on: bool) -> Result<()> {
        self.change_weather(|weather| weather.resets = on)
    }

    /// Answers "closed" on a port of every host, over TCP and UDP.
    ///
    /// # Errors
    /// When `nft` fails.
    pub fn refuse(&self, port: u16) -> Result<()> {
        self.change_weather(|weather| {
            weather.refused_ports.insert(port);
        })
    }

    /// Swallows everything to a port of every host, as providers do with 853.
    ///
    /// # Errors
    /// When `nft` fails.
    pub fn swallow_port(&self, port: u16) -> Result<()> {
        self.change_weather(|weather| {
            weather.swallowed_ports.insert(port);
        })
    }

    /// Swallows everything to one host.
    ///
    /// # Errors
    /// When `nft` fails.
    pub fn swallow_host(&self, host: IpAddr) -> Result<()> {
        self.change_weather(|weather| {
            weather.swallowed_hosts.insert(host);
        })
    }

    /// Fair weather, and the cable in. The home's address stays as it is.
    ///
    /// # Errors
    /// When `ip` or `nft` fails.
    pub fn heal(&self) -> Result<()> {
        self.up()?;
        self.change_weather(|weather| *weather = Weather::default())
    }

    fn change_weather(&self, change: impl FnOnce(&mut Weather)) -> Result<()> {
        let mut state = self.lock();
        let mut weather = state.weather.clone();
        change(&mut weather);
        let [at_home, far] = weather.rules(AT_HOME, AT_THE_ROUTER);
        self.home.run_with_input("nft", &["-f", "-"], &at_home)?;
        self.internet.run_with_input("nft", &["-f", "-"], &far)?;
        log::info!("the line's weather: {weather:?}");
        state.weather = weather;
        Ok(())
    }

    /// Writes a resolv.conf of the home's own, and gives its path for the bot's setting
    /// `network.resolv_conf`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn resolv_conf(&self, text: &str) -> Result<PathBuf> {
        // Whoever reads it sees the old one or the new one, never a half.
        let (path, new) =
            (self.folder.path().join("resolv.conf"), self.folder.path().join("resolv.conf.new"));
        fs::write(&new, text).and_then(|()| fs::rename(&new, &path)).context("writing resolv.conf")?;
        Ok(path)
    }
}
