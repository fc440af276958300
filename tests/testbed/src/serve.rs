//! The commands that run servers until they are killed.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lexopt::prelude::*;
use testbed::control::{Control, Driven};
use testbed::dns::Transport;
use testbed::{Authority, DnsServer, Options, Proxy, WhatsApp, dns, proxy};

use crate::HELP;

/// What `--dns` knows: the hosts that WhatsApp's clients dial.
const WHATSAPP_HOSTS: [&str; 3] = ["web.whatsapp.com", "mmg.whatsapp.net", "media.whatsapp.net"];

/// Seconds that an address of a host may be remembered.
const TTL: u32 = 60;

/// Arguments that all commands take.
const COMMON: [&str; 4] = ["control", "listen", "state", "log"];

/// What was given on the command line.
struct Given {
    port: u16,
    tls_port: u16,
    https_port: u16,
    control: u16,
    listen: Vec<IpAddr>,
    state: Option<PathBuf>,
    level: log::LevelFilter,
    tls: bool,
    media_host: Option<String>,
    not_lid_migrated: bool,
    silent_phones: bool,
    dns: bool,
    proxy: bool,
    hosts: Vec<(String, Vec<IpAddr>)>,
    to: Option<String>,
}

impl Given {
    /// Reads the arguments; those of other commands are refused. `None` when help was asked for.
    fn read(mut arguments: lexopt::Parser, own: &[&str]) -> Result<Option<Given>> {
        let mut given = Given {
            port: 0,
            tls_port: 0,
            https_port: 0,
            control: 0,
            listen: Vec::new(),
            state: None,
            level: log::LevelFilter::Info,
            tls: false,
            media_host: None,
            not_lid_migrated: false,
            silent_phones: false,
            dns: false,
            proxy: false,
            hosts: Vec::new(),
            to: None,
        };
        while let Some(argument) = arguments.next()? {
            let name = match argument {
                Short('h') | Long("help") => {
                    println!("{HELP}");
                    return Ok(None);
                }
                Long(name) if own.contains(&name) || COMMON.contains(&name) => name.to_owned(),
                other => bail!("{}\n\n{HELP}", other.unexpected()),
            };
            match name.as_str() {
                "tls" => given.tls = true,
                "not-lid-migrated" => given.not_lid_migrated = true,
                "silent-phones" => given.silent_phones = true,
                "dns" => given.dns = true,
                "proxy" => given.proxy = true,
                "port" => given.port = arguments.value()?.parse()?,
                "tls-port" => given.tls_port = arguments.value()?.parse()?,
                "https-port" => given.https_port = arguments.value()?.parse()?,
                "control" => given.control = arguments.value()?.parse()?,
                "listen" => given.listen.push(arguments.value()?.parse()?),
                "state" => given.state = Some(arguments.value()?.into()),
                "log" => given.level = arguments.value()?.parse()?,
                "media-host" => given.media_host = Some(arguments.value()?.string()?),
                "host" => given.hosts.push(host(&arguments.value()?.string()?)?),
                "to" => given.to = Some(arguments.value()?.string()?),
                other => bail!("--{other} is listed and not read: a bug"),
            }
        }
        if given.listen.is_empty() {
            given.listen.push(Ipv4Addr::LOCALHOST.into());
        }
        simple_logger::SimpleLogger::new().with_level(given.level).init()?;
        Ok(Some(given))
    }

    fn on(&self, port: u16) -> Vec<SocketAddr> {
        self.listen.iter().map(|address| SocketAddr::new(*address, port)).collect()
    }

    /// The one address of a command that takes no more.
    fn address(&self) -> Result<IpAddr> {
        let [address] = self.listen[..] else { bail!("--listen may be given once here\n\n{HELP}") };
        Ok(address)
    }

    /// Says what runs where, on standard output and in the state folder, and serves the control port.
    fn run(&self, driven: Driven, mut says: Vec<(&str, String)>, ca: Option<&str>) -> Result<()> {
        let control = Control::start(driven, SocketAddr::new(self.listen[0], self.control))?;
        // The place that scripts expect: behind the first.
        says.insert(1, ("control", control.address().to_string()));
        if let Some(folder) = &self.state {
            std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
            let write = |name: &str, content: &str| {
                let path = folder.join(name);
                std::fs::write(&path, content).with_context(|| format!("writing {}", path.display()))
            };
            if let Some(ca) = ca {
                write("ca.pem", ca)?;
            }
            // The first one last: whoever waits for it finds the others.
            for (name, value) in says.iter().rev() {
                write(name, &format!("{value}\n"))?;
            }
        }
        let line: Vec<String> = says.iter().map(|(name, value)| format!("{name}={value}")).collect();
        println!("{}", line.join(" "));
        std::io::stdout().flush()?;
        control.run_forever()
    }
}

/// `NAME=ADDRESS[,ADDRESS]`.
fn host(text: &str) -> Result<(String, Vec<IpAddr>)> {
    let (name, addresses) = text.split_once('=').with_context(|| format!("{text:?} is no NAME=ADDRESS"))?;
    let addresses = addresses.split(',').map(str::parse).collect::<Result<_, _>>();
    Ok((name.to_owned(), addresses.with_context(|| format!("in the addresses of {name}"))?))
}

/// Where a DNS server listens, as it is printed.
fn places(server: &DnsServer) -> Vec<(&'static str, String)> {
    let of = |transport| {
        let addresses = server.addresses(transport);
        addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(",")
    };
    vec![("dns", of(Transport::Udp)), ("dns_tls", of(Transport::Tls)), ("dns_https", of(Transport::Https))]
}

pub fn whatsapp(arguments: lexopt::Parser) -> Result<()> {
    let own = ["port", "tls", "media-host", "not-lid-migrated", "silent-phones", "dns", "proxy"];
    let Some(given) = Given::read(arguments, &own)? else { return Ok(()) };
    let authority = Authority::new()?;
    let mut options = Options {
        address: SocketAddr::new(given.address()?, given.port),
        tls: given.tls,
        authority: Some(authority.clone()),
        media_host: given.media_host.clone(),
        lid_migrated: !given.not_lid_migrated,
        silent_phones: given.silent_phones,
        ..Options::default()
    };
    if let Some(seconds) = std::env::var_os("CHATSTATE_TTL_SECS") {
        let seconds = seconds.to_str().and_then(|seconds| seconds.parse().ok());
        options.typing_lives = Duration::from_secs(seconds.context("CHATSTATE_TTL_SECS is no number")?);
    }
    let server = WhatsApp::start(options)?;
    let mut says = vec![("url", server.url())];
    let mut driven = Driven::default();
    if given.dns {
        let server = DnsServer::start(dns::Options {
            plain: given.on(0),
            tls: given.on(0),
            https: given.on(0),
            authority: Some(authority.clone()),
            ..dns::Options::default()
        })?;
        for host in WHATSAPP_HOSTS {
            server.set_host(host, &given.listen, TTL)?;
        }
        says.extend(places(&server));
        driven.dns = Some(Arc::new(server));
    }
    if given.proxy {
        let listen = SocketAddr::new(given.address()?, 0);
        let proxy = Proxy::start(proxy::Options { listen, ..proxy::Options::to(server.address()) })?;
        says.push(("proxy", proxy.address().to_string()));
        driven.proxy = Some(Arc::new(proxy));
    }
    driven.whatsapp = Some(Arc::new(server));
    let ca = (given.tls || given.dns).then(|| authority.pem());
    given.run(driven, says, ca)
}

pub fn dns(arguments: lexopt::Parser) -> Result<()> {
    let Some(given) = Given::read(arguments, &["port", "tls-port", "https-port", "host"])? else {
        return Ok(());
    };
    let server = DnsServer::start(dns::Options {
        plain: given.on(given.port),
        tls: given.on(given.tls_port),
        https: given.on(given.https_port),
        ..dns::Options::default()
    })?;
    for (name, addresses) in &given.hosts {
        server.set_host(name, addresses, TTL)?;
    }
    let (says, authority) = (places(&server), server.authority().clone());
    given.run(Driven { dns: Some(Arc::new(server)), ..Driven::default() }, says, Some(authority.pem()))
}

pub fn proxy(arguments: lexopt::Parser) -> Result<()> {
    let Some(given) = Given::read(arguments, &["port", "to"])? else { return Ok(()) };
    let to = given.to.as_deref().with_context(|| format!("where to?\n\n{HELP}"))?;
    let mut found = to.to_socket_addrs().with_context(|| format!("looking up {to}"))?;
    let to = found.next().with_context(|| format!("{to} has no address"))?;
    let listen = SocketAddr::new(given.address()?, given.port);
    ensure!(listen != to, "a proxy in front of itself carries nothing");
    let proxy = Proxy::start(proxy::Options { listen, ..proxy::Options::to(to) })?;
    let says = vec![("proxy", proxy.address().to_string())];
    given.run(Driven { proxy: Some(Arc::new(proxy)), ..Driven::default() }, says, None)
}
