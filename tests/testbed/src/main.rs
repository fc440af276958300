//! The test bed as a program, for shell scripts and for people.

mod serve;

use std::path::PathBuf;

use anyhow::{Context, bail};
use lexopt::prelude::*;

const HELP: &str = r#"WhatsApp's server side for tests of bot-kjp. Never use it for anything else.

testbed demo --bot PATH [--fast]      plays the bot on one machine; see testbed demo --help
testbed bench --bot PATH […]          measures it against Baileys; see testbed bench --help
testbed supabase --schema FILE        PostgreSQL and PostgREST as a Supabase project with that SQL (what
                                      `bot-kjp schema` prints); ends with its standard input
testbed whatsapp [--port N] [--tls] [--media-host HOST] [--not-lid-migrated] [--silent-phones] [--dns]
                 [--proxy] [COMMON]
testbed dns      [--port N] [--tls-port N] [--https-port N] [--host NAME=ADDRESS[,ADDRESS]] [COMMON]
testbed proxy    --to HOST:PORT [--port N] [COMMON]

  --port N           port of the server (default: a free one); of dns: for UDP and TCP
  --tls              speak TLS too, under a throw-away authority
  --media-host HOST  host and port that clients are told for media
  --not-lid-migrated clients are told that their account's chats still go by phone number
  --silent-phones    phones with linked devices send no delivery receipts, as other suites expect
  --dns              a DNS server beside it that knows WhatsApp's hosts; its certificate is of the
                     same authority
  --proxy            a TCP proxy in front of it
  --tls-port N       port of DNS over TLS (default: a free one)
  --https-port N     port of DNS over HTTPS, /dns-query (default: a free one)
  --host NAME=…      a host that the DNS server knows; may be repeated
  --to HOST:PORT     where the proxy passes connections on to

COMMON are --control PORT, --listen ADDRESS, --state FOLDER and --log LEVEL:
  --control PORT     port of the control connection (default: a free one)
  --listen ADDRESS   address of all ports (default 127.0.0.1); of dns: may be repeated
  --state FOLDER     write what is printed into files of these names, and the authority's `ca.pem`
  --log LEVEL        off, error, warn, info (default), debug, trace

The control port takes one JSON object per line and answers with one; src/control/mod.rs lists the
commands. Faults, for example:
  {"do":"fault","fault":{"kind":"deaf"}}
  {"do":"dns_fault","fault":{"kind":"nxdomain"},"scope":{"transport":"udp","name":"web.whatsapp.com"}}
  {"do":"proxy_fault","fault":{"kind":"reset","when":{"from_server":1000}},"whom":"new"}

CHATSTATE_TTL_SECS in the environment sets how long somebody counts as typing (default 25).
Phones named restricted:NAME and scenario:flag[,flag]:NAME behave as they are named; the flags are
listed in src/whatsapp/scenario.rs.

The program prints one line when it is ready, and runs until it is killed: `url=… control=…`, with
`dns=… dns_tls=… dns_https=…` and `proxy=…` for what else was started."#;

fn main() -> anyhow::Result<()> {
    let mut arguments = lexopt::Parser::from_env();
    match arguments.next()? {
        Some(Value(command)) if command == "whatsapp" => serve::whatsapp(arguments),
        Some(Value(command)) if command == "dns" => serve::dns(arguments),
        Some(Value(command)) if command == "proxy" => serve::proxy(arguments),
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
