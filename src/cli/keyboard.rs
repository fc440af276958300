//! What the operator types or pastes, line by line, without a thread and without changing how the terminal
//! works: it is shared with the shell.

use std::io;
use std::os::fd::AsFd as _;

use smol::Async;

/// Bytes taken at once.
const CHUNK: usize = 4096;

/// Bytes of one line; a terminal gives no more than 4,095 itself.
const LONGEST_LINE: usize = 64 * 1024;

/// Standard input.
pub struct Keyboard {
    /// `None` once there is nothing to read from any more.
    input: Option<Async<io::Stdin>>,
    buffer: Vec<u8>,
}

impl Keyboard {
    /// Fails where nobody can type: `/dev/null`, a file, a closed input.
    pub fn open() -> io::Result<Self> {
        // Not set to non-blocking, which would hold for the shell and for what we print, too. It is read only
        // when there is something, and by nobody else.
        let input = Async::new_nonblocking(io::stdin())?;
        Ok(Self { input: Some(input), buffer: Vec::new() })
    }

    /// The next line, without its end; `None` at the end of the input.
    pub async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            let input = self.input.as_ref()?;
            let mut chunk = [0; CHUNK];
            let read = match input.readable().await {
                Ok(()) => rustix::io::read(input.get_ref().as_fd(), &mut chunk).map_err(io::Error::from),
                Err(error) => Err(error),
            };
            match read {
                Ok(0) => {
                    self.input = None;
                    let rest = std::mem::take(&mut self.buffer);
                    return (!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned());
                }
                // No line that anybody means is so long.
                Ok(_) if self.buffer.len() > LONGEST_LINE => self.buffer.clear(),
                Ok(length) => self.buffer.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    log::warn!("keyboard: nothing more can be read: {error}");
                    self.input = None;
                }
            }
        }
    }
}
