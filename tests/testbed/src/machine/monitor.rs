//! qemu's monitor, as a person types into it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::QEMU;

/// What qemu shows when it waits for a command.
const PROMPT: &[u8] = b"(qemu) ";

/// Longest answer that is read, in bytes: the commands used here answer with a line at most, after an
/// echo that the line editor repeats for every letter.
const MAX_ANSWER: usize = 256 << 10;

pub(super) struct Monitor {
    socket: UnixStream,
}

impl Monitor {
    pub(super) fn connect(socket: &Path) -> Result<Self> {
        let socket = UnixStream::connect(socket).context("qemu's monitor does not answer")?;
        socket.set_read_timeout(Some(QEMU))?;
        let mut monitor = Self { socket };
        monitor.answer()?;
        Ok(monitor)
    }

    /// Writes the state of the machine into a file, and stops it.
    pub(super) fn keep(&mut self, file: &Path) -> Result<()> {
        let path = file.display().to_string();
        ensure!(!path.contains(['"', '\\', '\'', ' ']), "{path:?} cannot be named to qemu");
        self.command(&format!("migrate \"exec:cat >{path}\""))?;
        let state = self.command("info migrate")?;
        ensure!(state.contains("Migration status: completed"), "qemu did not write {path}: {state}");
        Ok(())
    }

    pub(super) fn resume(&mut self) -> Result<()> {
        self.command("cont").map(drop)
    }

    fn command(&mut self, command: &str) -> Result<String> {
        self.socket.write_all(format!("{command}\n").as_bytes()).context("qemu's monitor is gone")?;
        self.answer().with_context(|| format!("`{command}` in qemu's monitor"))
    }

    fn answer(&mut self) -> Result<String> {
        let mut answer = Vec::new();
        let mut chunk = [0; 4096];
        while !answer.ends_with(PROMPT) {
            let read = self.socket.read(&mut chunk)?;
            ensure!(read > 0, "qemu hung up; it answered {:?}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&chunk[..read]);
            ensure!(answer.len() <= MAX_ANSWER, "the answer is longer than {MAX_ANSWER} bytes");
        }
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}
