//! Standard output and error of a bot that serves, which make nobody wait for whoever reads them.
//!
//! One thread runs everything, and a write into a full pipe holds it for as long as nobody reads; so does one to a
//! journal that stands still. The bot would fall silent towards WhatsApp for the sake of its log. So each write first
//! asks whether there is room, and what finds none within [`PATIENCE`] is lost and counted.
//!
//! systemd's journal, when it is stopped and not merely started anew, drops the streams that it had given to services,
//! and no service gets another. Lines then go to the journal's socket, where they can come at any time.

use std::ffi::OsString;
use std::io::{self, Write, stderr, stdout};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::fstat;
use rustix::io::Errno;

/// How long a reader may stand still before what is written is lost. Once it was, nobody waits for it any more until
/// it reads again: that costs this time at most once.
const PATIENCE: Duration = Duration::from_secs(1);

/// Most bytes written at once: so many fit whenever a pipe has any room at all (`PIPE_BUF` of Linux), and a socket
/// that has room has room for more.
const AT_ONCE: usize = 4096;

/// Where the journal takes single messages (systemd's "native journal protocol").
const JOURNAL: &str = "/run/systemd/journal/socket";

/// Variable in which systemd says which of our streams leads to the journal: its device and inode, with `:` between.
const JOURNAL_STREAM: &str = "JOURNAL_STREAM";

static OUT: Mutex<State> = Mutex::new(State::new());
static ERROR: Mutex<State> = Mutex::new(State::new());

/// One of the two streams. What is written is not kept back: whole lines are to be written in one go.
///
/// Writing fails when the reader is gone, and not when it stands still.
#[derive(Debug, Clone, Copy)]
pub struct Outlet(Stream);

#[derive(Debug, Clone, Copy)]
enum Stream {
    Out,
    Error,
}

/// Standard output.
pub fn out() -> Outlet {
    Outlet(Stream::Out)
}

/// Standard error.
pub fn error() -> Outlet {
    Outlet(Stream::Error)
}

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let lock = |state: &'static Mutex<State>| -> MutexGuard<'static, State> {
            state.lock().unwrap_or_else(PoisonError::into_inner)
        };
        let journal = Journal { socket: JOURNAL, stream: std::env::var_os(JOURNAL_STREAM) };
        match self.0 {
            Stream::Out => lock(&OUT).write(stdout().as_fd(), bytes, &journal),
            Stream::Error => lock(&ERROR).write(stderr().as_fd(), bytes, &journal),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How a stream stands.
#[derive(Debug)]
struct State {
    /// Nobody reads, and so many lines were lost.
    stalled: bool,
    lost: u64,
    /// What came last has no end of line.
    torn: bool,
    /// The journal has dropped the stream.
    dropped: bool,
}

impl State {
    const fn new() -> Self {
        Self { stalled: false, lost: 0, torn: false, dropped: false }
    }

    fn write(&mut self, stream: BorrowedFd<'_>, bytes: &[u8], journal: &Journal<'_>) -> io::Result<usize> {
        if self.dropped {
            journal.take(bytes);
            return Ok(bytes.len());
        }
        let bytes = &bytes[..bytes.len().min(AT_ONCE)];
        if bytes.is_empty() {
            return Ok(0);
        }
        if !has_room(stream, if self.stalled { Duration::ZERO } else { PATIENCE }) {
            return Ok(self.lose(bytes));
        }
        if std::mem::take(&mut self.stalled) {
            let lost = std::mem::take(&mut self.lost);
            let begin = if self.torn { "\n" } else { "" };
            let said = format!("{begin}WARN  [bot_kjp::outlet] {lost} lines were lost: nobody read them\n");
            self.torn = false;
            // If the reader has gone away, the next write says so.
            let _ = rustix::io::write(stream, said.as_bytes());
            if !has_room(stream, PATIENCE) {
                return Ok(self.lose(bytes));
            }
        }
        loop {
            match rustix::io::write(stream, bytes) {
                Ok(written) => {
                    self.torn = bytes[..written].last().is_some_and(|last| *last != b'\n');
                    return Ok(written);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(self.lose(bytes)),
                Err(Errno::PIPE | Errno::CONNRESET) if journal.had(stream) => {
                    self.dropped = true;
                    journal.take(bytes);
                    return Ok(bytes.len());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn lose(&mut self, bytes: &[u8]) -> usize {
        self.stalled = true;
        self.lost += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        bytes.len()
    }
}

/// Whether something can be written, or fails, without anybody waiting for the reader.
fn has_room(stream: BorrowedFd<'_>, patience: Duration) -> bool {
    let mut streams = [PollFd::new(&stream, PollFlags::OUT)];
    let patience = Timespec::try_from(patience).unwrap_or_default();
    loop {
        match poll(&mut streams, Some(&patience)) {
            Ok(ready) => return ready > 0,
            Err(Errno::INTR) => {}
            // Better to try than to lose it.
            Err(_) => return true,
        }
    }
}

/// systemd's journal.
struct Journal<'a> {
    socket: &'a str,
    /// What [`JOURNAL_STREAM`] says.
    stream: Option<OsString>,
}

impl Journal<'_> {
    /// Whether the stream was given to us by the journal.
    fn had(&self, stream: BorrowedFd<'_>) -> bool {
        let (Some(named), Ok(about)) = (&self.stream, fstat(stream)) else { return false };
        named.to_str() == Some(&format!("{}:{}", about.st_dev, about.st_ino))
    }

    /// Sends each line as a message of its own. What the journal cannot take now is lost.
    fn take(&self, bytes: &[u8]) {
        let Ok(socket) = UnixDatagram::unbound() else { return };
        // A journal that stands still must not hold us either.
        if socket.set_nonblocking(true).is_err() {
            return;
        }
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            // 6: informational, as what comes by the stream.
            let head: &[u8] = b"PRIORITY=6\nSYSLOG_IDENTIFIER=bot-kjp\nMESSAGE=";
            let _ = socket.send_to(&[head, line, b"\n"].concat(), self.socket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader, PipeReader, PipeWriter, Read as _, pipe};
    use std::os::unix::net::UnixStream;

    const NO_JOURNAL: Journal<'_> = Journal { socket: "/nonexistent", stream: None };

    /// A pipe that has no room left, and what is in it.
    fn full() -> (PipeReader, PipeWriter, usize) {
        let (reader, mut writer) = pipe().unwrap();
        let mut inside = 0;
        while has_room(writer.as_fd(), Duration::ZERO) {
            writer.write_all(&[b'.'; AT_ONCE]).unwrap();
            inside += AT_ONCE;
        }
        (reader, writer, inside)
    }

    #[test]
    fn what_nobody_reads_is_lost_and_counted_and_then_everything_goes_on() {
        let (mut reader, writer, inside) = full();
        let mut state = State::new();
        let mut write = |text: &str| state.write(writer.as_fd(), text.as_bytes(), &NO_JOURNAL).unwrap();
        for n in 0..1000 {
            let line = format!("line {n}\n");
            assert_eq!(write(&line), line.len());
        }
        reader.read_exact(&mut vec![0; inside]).unwrap();
        assert_eq!(write("there\n"), 6);
        let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
        assert_eq!(lines.next().unwrap(), "WARN  [bot_kjp::outlet] 1000 lines were lost: nobody read them");
        assert_eq!(lines.next().unwrap(), "there");
    }

    #[test]
    fn a_line_that_was_cut_off_is_ended_before_the_next() {
        let (mut reader, writer) = pipe().unwrap();
        let mut state = State::new();
        state.write(writer.as_fd(), b"half a l", &NO_JOURNAL).unwrap();
        state.lose(b"ine\n");
        state.write(writer.as_fd(), b"next\n", &NO_JOURNAL).unwrap();
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "half a l\nWARN  [bot_kjp::outlet] 1 lines were lost: nobody read them\nnext\n");
    }

    #[test]
    fn a_reader_that_is_gone_is_an_error_and_no_end() {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let mut state = State::new();
        for _ in 0..2 {
            let error = state.write(writer.as_fd(), b"to nobody\n", &NO_JOURNAL).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        }
    }

    #[test]
    fn a_stream_that_the_journal_has_dropped_is_followed_by_messages_to_its_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let socket = path.to_str().unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let about = fstat(&ours).unwrap();
        let stream = Some(format!("{}:{}", about.st_dev, about.st_ino).into());
        let journal = Journal { socket, stream };
        let mut state = State::new();
        state.write(ours.as_fd(), b"by the stream\n", &journal).unwrap();
        drop(theirs);
        // No journal at all.
        state.write(ours.as_fd(), b"lost\n", &journal).unwrap();
        let there = UnixDatagram::bind(socket).unwrap();
        state.write(ours.as_fd(), b"one\ntwo\n", &journal).unwrap();
        let mut buffer = [0; 1000];
        for expected in ["one", "two"] {
            let length = there.recv(&mut buffer).unwrap();
            let message = std::str::from_utf8(&buffer[..length]).unwrap();
            assert!(message.ends_with(&format!("\nMESSAGE={expected}\n")), "{message}");
        }
    }
}
