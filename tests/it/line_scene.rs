//! A bot at home, on a line that can go wrong in every way, with the settings that it is shipped
//! with: names are asked of the router, of 1.1.1.1 over HTTPS and so on, on their real ports.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bot_kjp::clock;
use testbed::dns::{self, Scope};
use testbed::line::ROUTER;
use testbed::proxy;
use testbed::{Authority, DnsServer, Fault, Line, Options, Proxy, WhatsApp};

use super::bot::{Bot, DEADLINE, Home};
use super::scene::{Scene, until};

pub const NAME: &str = "web.whatsapp.com";

/// Where WhatsApp is, for everybody; and where it is when it has moved.
pub const WHATSAPP: Ipv4Addr = Ipv4Addr::new(157, 240, 0, 60);
pub const MOVED: Ipv4Addr = Ipv4Addr::new(157, 240, 0, 61);

/// Where the server itself stands, behind the proxy that spoils its connections.
pub const BEHIND: Ipv4Addr = Ipv4Addr::new(157, 240, 200, 1);

/// Public resolvers that the bot knows.
pub const RESOLVERS: [Ipv4Addr; 4] = [
    Ipv4Addr::new(1, 1, 1, 1),
    Ipv4Addr::new(8, 8, 8, 8),
    Ipv4Addr::new(9, 9, 9, 9),
    Ipv4Addr::new(1, 0, 0, 1),
];

pub const HTTPS: u16 = 443;

/// Seconds that answers may be kept: long enough to count, short enough to pass in a test.
const TTL: u32 = 30;

/// A usual scene whose bot stands behind a line of its own.
pub struct LineScene {
    pub scene: Scene,
    pub line: Line,
    /// In front of WhatsApp's server, at both of its addresses.
    pub proxies: [Proxy; 2],
    /// The provider's DNS.
    pub router: DnsServer,
    /// All public resolvers, by every transport.
    pub public: DnsServer,
    /// Whom the bot trusts.
    pub authority: Authority,
    speed: u32,
    /// WhatsApp is at its second address.
    moved: AtomicBool,
}

/// What a bot has spent so far.
#[derive(Debug, Clone, Copy)]
pub struct Toll {
    /// Tries to connect.
    pub attempts: i64,
    pub cpu: Duration,
    /// Anonymous memory, in KiB.
    pub memory: u64,
    /// Logins at WhatsApp.
    pub logins: u64,
}

impl LineScene {
    /// A paired bot that is not running yet, which will live `speed` times faster than the clock.
    pub fn new(speed: u32, more: &str) -> Self {
        let line = Line::new().expect("a line");
        let authority = Authority::new().expect("an authority");
        for host in [WHATSAPP, MOVED, BEHIND].iter().chain(&RESOLVERS) {
            line.host(*host).expect("a host");
        }
        let behind = SocketAddr::new(BEHIND.into(), HTTPS);
        let further_addresses = Vec::new();
        let options = Options {
            address: behind,
            further_addresses,
            tls: true,
            authority: Some(authority.clone()),
            ..Options::default()
        };
        let server = line.internet(|| WhatsApp::start(options)).unwrap().expect("WhatsApp's side starts");
        let proxies = [WHATSAPP, MOVED].map(|address| {
            let options = proxy::Options {
                listen: SocketAddr::new(address.into(), HTTPS),
                ..proxy::Options::to(behind)
            };
            line.internet(|| Proxy::start(options)).unwrap().expect("a proxy")
        });
        let start = |options: dns::Options| {
            let server = line.internet(|| DnsServer::start(options)).unwrap().expect("a DNS server");
            server.set_host(NAME, &[WHATSAPP.into()], TTL).expect("a host");
            server
        };
        let router = start(dns::Options::router(&[ROUTER.into()]));
        let resolvers = RESOLVERS.map(IpAddr::from);
        let public =
            start(dns::Options { authority: Some(authority.clone()), ..dns::Options::resolver(&resolvers) });

        let resolv_conf = line.resolv_conf(&format!("nameserver {ROUTER}\n")).expect("a resolv.conf");
        let home = Home::on(&line, more);
        let ca_file = home.path().join("ca.pem");
        std::fs::write(&ca_file, authority.pem()).expect("the authority is written");
        home.add_to_config(&format!(
            "\n[network]\nresolv_conf = {:?}\nca_file = {:?}\n",
            resolv_conf.display().to_string(),
            ca_file.display().to_string()
        ));
        let operator = server.phone("Operator").expect("a phone");
        home.pair(&operator);
        let mut scene = Scene { server, home, operator };
        scene.home.secret(clock::SPEED_VARIABLE, &speed.to_string());
        Self { scene, line, proxies, router, public, authority, speed, moved: AtomicBool::new(false) }
    }

    /// A bot that is online.
    pub fn run(&self) -> Bot {
        let bot = self.scene.run();
        bot.wait_for_line("terhubung ke WhatsApp");
        bot
    }

    /// Both kinds of DNS servers.
    pub fn servers(&self) -> [&DnsServer; 2] {
        [&self.router, &self.public]
    }

    /// The same fault with every DNS server, by every transport.
    pub fn everywhere(&self, fault: &dns::Fault) {
        for server in self.servers() {
            server.set_fault(Scope::everywhere(), fault.clone()).expect("the fault is set");
        }
    }

    /// WhatsApp moves to its other address, and the one where it was is dead: names are needed.
    pub fn move_whatsapp(&self) {
        let (from, to) = match self.moved.fetch_not(Ordering::Relaxed) {
            false => (WHATSAPP, MOVED),
            true => (MOVED, WHATSAPP),
        };
        for server in self.servers() {
            server.set_host(NAME, &[to.into()], TTL).expect("a host");
        }
        self.line.heal().expect("fair weather");
        self.line.swallow_host(from.into()).expect("the old address is dead");
    }

    /// Everything is well again.
    pub fn heal(&self) {
        for server in self.servers() {
            server.clear_faults().expect("no faults");
        }
        for proxy in &self.proxies {
            proxy.clear_faults().expect("no faults");
        }
        self.scene.server.clear_faults();
        self.line.heal().expect("fair weather");
    }

    /// Cuts the connection that the bot has.
    pub fn cut(&self) {
        self.scene.on_the_bot(Fault::Drop);
    }

    pub fn logins(&self) -> u64 {
        self.scene.server.logins(self.scene.operator.number()).expect("an account")
    }

    pub fn toll(&self, bot: &Bot) -> Toll {
        Toll {
            attempts: self.scene.home.ledger().count("SELECT coalesce(max(id), 0) FROM connection_attempt"),
            cpu: bot.cpu_time(),
            memory: bot.status("RssAnon"),
            logins: self.logins(),
        }
    }

    /// Lets `time` pass in the bot's life, while things are as they are: that is what is tested.
    pub fn let_pass(&self, time: Duration) {
        std::thread::sleep(time / self.speed);
    }

    /// Waits until the bot has logged in more often than `before`; tells how long that took in the
    /// bot's life.
    pub fn wait_for_login(&self, before: u64, bot: &Bot) -> Duration {
        let asked = clock::now();
        until(|| (self.logins() > before).then_some(()))
            .unwrap_or_else(|| panic!("no login within {DEADLINE:?}; the bot printed:\n{}", bot.output()));
        clock::since(asked) * self.speed
    }
}
