//! A disk that loses power while it writes: the block that it was at is torn, and nothing after it happens.
//!
//! qemu reaches it by NBD (<https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md>), of which it
//! speaks what qemu needs: one export, simple replies, reading, writing and flushing.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::disk::Disk;
use crate::interrupt::wait_until;

/// What flash writes at least, in bytes.
const BLOCK: usize = 4096;

/// Parts of a block that are written or not, in bytes.
const SECTOR: usize = 512;

/// The file system's own description of itself stands in its first block, is written without its journal and
/// has a checksum: a torn one is for `e2fsck` to bring back from its copies. The bot has no part in it.
const OF_THE_FILE_SYSTEM: u64 = BLOCK as u64;

/// Longest request in bytes; qemu sends at most 32 MiB.
const MAX_REQUEST: usize = 32 << 20;

/// How long the requests that a dead qemu has left behind may take.
const LEFT_BEHIND: Duration = Duration::from_secs(30);

const HANDSHAKE: &[u8; 8] = b"NBDMAGIC";
const OPTION: &[u8; 8] = b"IHAVEOPT";
const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
const REQUEST: u32 = 0x2560_9513;
const REPLY: u32 = 0x6744_6698;
/// Fixed newstyle.
const HANDSHAKE_FLAGS: u16 = 1;
/// It has flags, and takes orders to flush.
const EXPORT_FLAGS: u16 = 1 | 1 << 2;
const GO: u32 = 7;
const ACKNOWLEDGED: u32 = 1;
const INFORMATION: u32 = 3;
const UNSUPPORTED: u32 = 1 << 31 | 1;
const NO_SUCH_REQUEST: u32 = 22;

/// A disk of which the power may go at a write.
#[derive(Debug)]
pub struct LosingDisk {
    folder: TempDir,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    connected: bool,
    /// The write at which it dies: how many come before it, and the numbers that decide what is left.
    fate: Option<(usize, u64)>,
    died: bool,
    /// Blocks that were torn so far.
    torn: usize,
}

impl LosingDisk {
    /// Serves `disk`, which nobody else may write to meanwhile.
    ///
    /// # Errors
    /// When there is no socket to be had.
    pub fn serve(disk: &Disk) -> Result<Self> {
        // Short: the path of a socket has at most 107 bytes.
        let folder = tempfile::Builder::new().prefix("disk-").tempdir_in("/tmp")?;
        let listener = UnixListener::bind(folder.path().join("nbd"))?;
        let file = OpenOptions::new().read(true).write(true).open(disk.path()).context("the disk's file")?;
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                lock(&shared).connected = true;
                // How it ends is qemu's affair: it is killed as a rule.
                let _ = Export { stream, file: &file, state: &shared }.serve();
                lock(&shared).connected = false;
            }
        });
        Ok(Self { folder, state })
    }

    /// Where qemu finds it.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("nbd")
    }

    /// From now on `writes` are done whole. The last block of the one after them is torn as `numbers` decide,
    /// and nothing that comes later is done or answered.
    pub fn die_after(&self, writes: usize, numbers: u64) {
        lock(&self.state).fate = Some((writes, numbers));
    }

    pub fn has_died(&self) -> bool {
        lock(&self.state).died
    }

    /// Blocks that were torn so far.
    pub fn torn(&self) -> usize {
        lock(&self.state).torn
    }

    /// After the machine lost power: waits until what it had sent is done or lost, and forgets a fate that has
    /// not come.
    ///
    /// # Errors
    /// When it does not end.
    pub fn wait_off(&self) -> Result<()> {
        wait_until("the disk to be off", LEFT_BEHIND, || Ok((!lock(&self.state).connected).then_some(())))?;
        let mut state = lock(&self.state);
        (state.fate, state.died) = (None, false);
        Ok(())
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Export<'a> {
    stream: UnixStream,
    file: &'a File,
    state: &'a Mutex<State>,
}

impl Export<'_> {
    fn serve(mut self) -> io::Result<()> {
        self.negotiate()?;
        loop {
            let header: [u8; 28] = self.take()?;
            let field = |at: usize, bytes: usize| {
                header[at..at + bytes].iter().fold(0_u64, |number, &byte| number << 8 | u64::from(byte))
            };
            if field(0, 4) != u64::from(REQUEST) {
                return Err(ErrorKind::InvalidData.into());
            }
            let (kind, offset) = (field(6, 2), field(16, 8));
            let length = field(24, 4) as usize;
            if length > MAX_REQUEST {
                return Err(ErrorKind::InvalidData.into());
            }
            let mut data = vec![0; if kind <= 1 { length } else { 0 }];
            let mut error = 0;
            match kind {
                0 if self.is_alive() => self.file.read_exact_at(&mut data, offset)?,
                1 => {
                    self.stream.read_exact(&mut data)?;
                    if self.is_alive() {
                        self.write(&data, offset)?;
                    }
                    data.clear();
                }
                2 => return Ok(()),
                // What was written is in this machine's memory, which nobody takes the power from.
                0 | 3 => {}
                _ => error = NO_SUCH_REQUEST,
            }
            // A dead disk says nothing; whoever waits for it waits until the machine is off.
            if self.is_alive() {
                let mut reply = REPLY.to_be_bytes().to_vec();
                reply.extend(u32::to_be_bytes(error));
                reply.extend(&header[8..16]);
                reply.extend(data);
                self.stream.write_all(&reply)?;
            }
        }
    }

    fn negotiate(&mut self) -> io::Result<()> {
        let hello = [&HANDSHAKE[..], OPTION, &HANDSHAKE_FLAGS.to_be_bytes()].concat();
        self.stream.write_all(&hello)?;
        let _flags: [u8; 4] = self.take()?;
        loop {
            let magic: [u8; 8] = self.take()?;
            let option = u32::from_be_bytes(self.take()?);
            let length = u32::from_be_bytes(self.take()?) as usize;
            if magic != *OPTION || length > MAX_REQUEST {
                return Err(ErrorKind::InvalidData.into());
            }
            self.stream.read_exact(&mut vec![0; length])?;
            if option == GO {
                let mut about = 0_u16.to_be_bytes().to_vec();
                about.extend(self.file.metadata()?.len().to_be_bytes());
                about.extend(EXPORT_FLAGS.to_be_bytes());
                self.answer(option, INFORMATION, &about)?;
                return self.answer(option, ACKNOWLEDGED, &[]);
            }
            self.answer(option, UNSUPPORTED, &[])?;
        }
    }

    fn answer(&mut self, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
        let mut reply = OPTION_REPLY.to_be_bytes().to_vec();
        reply.extend(option.to_be_bytes());
        reply.extend(kind.to_be_bytes());
        reply.extend((data.len() as u32).to_be_bytes());
        reply.extend(data);
        self.stream.write_all(&reply)
    }

    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn is_alive(&self) -> bool {
        !lock(self.state).died
    }

    fn write(&mut self, data: &[u8], offset: u64) -> io::Result<()> {
        let end = offset + data.len() as u64;
        let last = (end - 1) / BLOCK as u64 * BLOCK as u64;
        let tears = {
            let mut state = lock(self.state);
            match state.fate {
                Some((0, numbers)) if last >= OF_THE_FILE_SYSTEM => {
                    state.died = true;
                    state.torn += 1;
                    Some(numbers)
                }
                Some((writes, numbers)) => {
                    state.fate = Some((writes.saturating_sub(1), numbers));
                    None
                }
                None => None,
            }
        };
        let Some(numbers) = tears else { return self.file.write_all_at(data, offset) };
        let whole = last.saturating_sub(offset) as usize;
        self.file.write_all_at(&data[..whole], offset)?;
        let mut block = vec![0; BLOCK];
        self.file.read_exact_at(&mut block, last)?;
        // Where the write begins inside this block, its neighbours before it are no safer than what it brings.
        let begin = offset.saturating_sub(last) as usize;
        let mut new = block.clone();
        let brought = &data[whole..];
        new[begin..begin + brought.len()].copy_from_slice(brought);
        tear(&mut block, &new, numbers);
        self.file.write_all_at(&block, last)
    }
}

/// Makes of a block what a cut may leave while it is turned into `new`: a part of its sectors is new, the others
/// keep what was there, or are empty, or hold what nobody wrote.
fn tear(block: &mut [u8], new: &[u8], mut numbers: u64) {
    let sectors = (BLOCK / SECTOR) as u64;
    let mut below = |bound: u64| {
        let number = numbers % bound;
        // Knuth's constants for linear congruences; the high bits are the random ones.
        numbers = numbers
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407)
            .rotate_left(32);
        number
    };
    let (first, length, manner) = (below(sectors), 1 + below(sectors), below(3));
    for sector in 0..sectors {
        let at = sector as usize * SECTOR..(sector as usize + 1) * SECTOR;
        if (sector + sectors - first) % sectors >= length {
            block[at].copy_from_slice(&new[sector as usize * SECTOR..(sector as usize + 1) * SECTOR]);
            continue;
        }
        match manner {
            0 => {}
            1 => block[at].fill(0),
            _ => block[at].iter_mut().for_each(|byte| *byte = below(256) as u8),
        }
    }
}
