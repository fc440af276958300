//! A home line with everything on it that a bot asks for, and the outages that it can have.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::super::baileys::Names;
use super::wire::Wire;
use super::{DeadDns, Scenario};
use crate::dns::{self, Scope};
use crate::line::ROUTER;
use crate::{Authority, DnsServer, Fault, Line, Options, WhatsApp};

/// WhatsApp's name, as both bots are shipped with it.
const WHATSAPP_NAME: &str = "web.whatsapp.com";
pub const WHATSAPP_URL: &str = "wss://web.whatsapp.com/ws/chat";

/// One of WhatsApp's addresses: a public one, as bot-kjp takes private ones for a lie.
pub const WHATSAPP: Ipv4Addr = Ipv4Addr::new(157, 240, 0, 60);
const HTTPS_PORT: u16 = 443;

/// The public resolvers that bot-kjp is shipped with.
const RESOLVERS: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1)),
    IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8)),
    IpAddr::V4(Ipv4Addr::new(9, 9, 9, 9)),
];

/// Seconds for which an answer may be kept: well below the shortest outage.
pub const ANSWERS_LIVE: u32 = 30;

/// The line with its servers.
pub struct Home {
    pub line: Line,
    pub server: WhatsApp,
    pub wire: Wire,
    pub names: Names,
    /// The router first.
    dns: [DnsServer; 2],
}

impl Home {
    /// In fair weather. `folder` gets the authority's certificate.
    ///
    /// # Errors
    /// When this machine has no network namespaces: says what is missing.
    pub fn new(folder: &Path) -> Result<Self> {
        let line = Line::new()?;
        let authority = Authority::new()?;
        line.host(WHATSAPP)?;
        for resolver in RESOLVERS {
            line.host(resolver)?;
        }
        let (server, router, resolvers) = line.internet(|| {
            let whatsapp = Options {
                address: (WHATSAPP, HTTPS_PORT).into(),
                tls: true,
                authority: Some(authority.clone()),
                media_host: Some(WHATSAPP_NAME.to_owned()),
                ..Options::default()
            };
            let resolvers =
                dns::Options { authority: Some(authority.clone()), ..dns::Options::resolver(&RESOLVERS) };
            let router = dns::Options::router(&[IpAddr::V4(ROUTER)]);
            anyhow::Ok((WhatsApp::start(whatsapp)?, DnsServer::start(router)?, DnsServer::start(resolvers)?))
        })??;
        let dns = [router, resolvers];
        for server in &dns {
            server.set_host(WHATSAPP_NAME, &[WHATSAPP.into()], ANSWERS_LIVE)?;
        }
        let ca_file = canonical(folder)?.join("ca.pem");
        fs::write(&ca_file, authority.pem()).with_context(|| format!("writing {}", ca_file.display()))?;
        let resolv_conf = line.resolv_conf(&format!("nameserver {ROUTER}\n"))?;
        let wire = Wire::tap(line.home())?;
        Ok(Self { line, server, wire, names: Names { resolv_conf, ca_file }, dns })
    }

    /// Begins an outage, which costs the account its connection. A dead DNS server takes so long to
    /// say so. Gives the moment.
    ///
    /// # Errors
    /// When a fault cannot be put there.
    pub fn fail(&self, scenario: Scenario, dead: DeadDns, delay: Duration, number: &str) -> Result<Instant> {
        let fault = match dead {
            DeadDns::Nxdomain => dns::Fault::Nxdomain,
            DeadDns::Silence => dns::Fault::Silence,
        };
        let ms = u64::try_from(delay.as_millis())?;
        let kill = |server: &DnsServer| {
            server.set_fault(Scope::everywhere(), fault.clone())?;
            server.set_fault(Scope::everywhere(), dns::Fault::Delay { ms })
        };
        let [router, resolvers] = &self.dns;
        match scenario {
            Scenario::Dns => {
                kill(router)?;
                kill(resolvers)?;
            }
            Scenario::Wan => {
                kill(router)?;
                for host in RESOLVERS.into_iter().chain([WHATSAPP.into()]) {
                    self.line.swallow_host(host)?;
                }
            }
            Scenario::Line => self.line.black_hole(true)?,
        }
        // Last, so that nobody comes back through the gap. Through a line that is dead in both
        // directions the bot hears nothing of it, as in life.
        let moment = Instant::now();
        self.server.fault_on(number, Fault::Drop)?;
        Ok(moment)
    }

    /// Ends the outage. Gives the moment.
    ///
    /// # Errors
    /// When the line cannot be mended.
    pub fn heal(&self) -> Result<Instant> {
        for server in &self.dns {
            server.clear_faults()?;
        }
        self.line.heal()?;
        Ok(Instant::now())
    }

    /// Questions about WhatsApp's name that a DNS server got so far, over any transport.
    pub fn questions(&self) -> u64 {
        self.dns.iter().map(|server| server.queries().about(WHATSAPP_NAME)).sum()
    }
}

fn canonical(folder: &Path) -> Result<PathBuf> {
    fs::canonicalize(folder).with_context(|| format!("no folder {}", folder.display()))
}
