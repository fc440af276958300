//! The test bed as a program, for shell scripts and for people.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use lexopt::prelude::*;
use testbed::control::Control;
use testbed::{Options, WhatsApp};

const HELP: &str = "\
WhatsApp's server side for tests of bot-kjp. Never use it for anything else.

testbed demo --bot PATH [--fast]      plays the bot on one machine; see testbed demo --help
testbed bench --bot PATH […]          measures it against Baileys; see testbed bench --help
testbed supabase --schema FILE        PostgreSQL and PostgREST as a Supabase project with that SQL (what
                                      `bot-kjp schema` prints); ends with its standard input
testbed whatsapp [--port N] [--tls] [--control PORT] [--listen ADDRESS] [--media-host HOST]
                 [--state FOLDER] [--log LEVEL]

  --port N           port of the server (default: a free one)
  --control PORT     port of the control connection (default: a free one)
  --listen ADDRESS   address of both ports (default 127.0.0.1)
  --tls              speak TLS too, under a throw-away authority
  --media-host HOST  host and port that clients are told for media
  --state FOLDER     write `url`, `control` and, with --tls, `ca.pem` into that folder
  --log LEVEL        off, error, warn, info (default), debug, trace

CHATSTATE_TTL_SECS in the environment sets how long somebody counts as typing (default 25).
Phones named restricted:NAME and scenario:flag[,flag]:NAME behave as they are named; the flags are
listed in src/whatsapp/scenario.rs.

The program prints one line `url=… control=…` when it is ready, and runs until it is killed.";

fn main() -> anyhow::Result<()> {
    let mut arguments = lexopt::Parser::from_env();
    match arguments.next()? {
        Some(Value(command)) if command == "whatsapp" => whatsapp(arguments),
        Some(Value(command)) if command == "demo" => testbed::demo::run(arguments),
        Some(Value(command)) if command == "bench" => testbed::bench::run(arguments),
        Some(Value(command)) if command == "supabase" => supabase(arguments),
        Some(Short('h') | Long("help")) => {
            println!("{HELP}");
            Ok(())
        }
        Some(other) => bail!("{}\n\n{HELP}", other.unexpected()),
        None => bail!("what shall run?\n\n{HELP}"),
    }
}

fn supabase(mut arguments: lexopt::Parser) -> anyhow::Result<()> {
    let mut schema: Option<PathBuf> = None;
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("schema") => schema = Some(arguments.value()?.into()),
            other => bail!("{}\n\n{HELP}", other.unexpected()),
        }
    }
    let file = schema.with_context(|| format!("which schema?\n\n{HELP}"))?;
    let sql = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    testbed::supabase::run_program(&sql)
}

fn whatsapp(mut arguments: lexopt::Parser) -> anyhow::Result<()> {
    let (mut port, mut control, mut address) = (0, 0, IpAddr::V4(Ipv4Addr::LOCALHOST));
    let mut options = Options::default();
    let mut state: Option<PathBuf> = None;
    let mut level = log::LevelFilter::Info;
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("port") => port = arguments.value()?.parse()?,
            Long("control") => control = arguments.value()?.parse()?,
            Long("listen") => address = arguments.value()?.parse()?,
            Long("tls") => options.tls = true,
            Long("media-host") => options.media_host = Some(arguments.value()?.string()?),
            Long("state") => state = Some(arguments.value()?.into()),
            Long("log") => level = arguments.value()?.parse()?,
            Short('h') | Long("help") => {
                println!("{HELP}");
                return Ok(());
            }
            other => bail!("{}\n\n{HELP}", other.unexpected()),
        }
    }
    if let Some(seconds) = std::env::var_os("CHATSTATE_TTL_SECS") {
        let seconds = seconds.to_str().and_then(|seconds| seconds.parse().ok());
        options.typing_lives = Duration::from_secs(seconds.context("CHATSTATE_TTL_SECS is no number")?);
    }
    simple_logger::SimpleLogger::new().with_level(level).init()?;
    options.address = SocketAddr::new(address, port);
    let server = WhatsApp::start(options)?;
    let control = Control::start(server, SocketAddr::new(address, control))?;
    let (url, control_address) = (control.server().url(), control.address());
    if let Some(folder) = state {
        let write = |name: &str, content: &str| {
            let path = folder.join(name);
            std::fs::write(&path, content).with_context(|| format!("writing {}", path.display()))
        };
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        if let Some(ca) = control.server().ca_pem() {
            write("ca.pem", &ca)?;
        }
        write("control", &format!("{control_address}\n"))?;
        write("url", &format!("{url}\n"))?;
    }
    println!("url={url} control={control_address}");
    std::io::stdout().flush()?;
    control.run_forever()
}
