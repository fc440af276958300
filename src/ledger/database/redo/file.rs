//! The file of the redo log: records at the borders of blocks, one behind the other.
//!
//! Each record begins in a block of its own, so a cut that damages the block being written damages nothing that
//! was durable before. A record counts if it has the database's id and generation, stands where the one before
//! it ends, and its checksum is right; the first that does not count is the end. The file has its full length
//! from the beginning, written and not merely reserved: a flush then concerns the record alone, and no file
//! system's tables.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0–7 | [`MAGIC`] |
//! | 8–23 | the database's id |
//! | 24–31 | generation, little endian like all numbers |
//! | 32–35 | the block in which it begins |
//! | 36–39 | bytes of content |
//! | 40–55 | the first 16 bytes of SHA-256 over bytes 0–39 and the content |
//! | 56–63 | 0 |
//! | from 64 | content, and 0 up to the end of the block |

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use sha2::{Digest as _, Sha256};

use super::super::MODE;
use crate::ledger::LedgerError;

/// How a record begins; the last character is the format.
const MAGIC: &[u8; 8] = b"kjpredo1";

/// What flash cards and eMMC write at least, in bytes.
const BLOCK: usize = 4096;

/// Blocks of the file: 1 MiB, more than a hundred registrations that come one by one. What changed in them is
/// read again at the start after a power cut, and lies in SQLite's cache until it is folded in.
pub(super) const BLOCKS: u32 = 256;

const HEAD: usize = 64;
const CHECKED_HEAD: usize = 40;
const CHECKSUM: usize = 16;

/// Which records count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Position {
    pub id: [u8; 16],
    pub generation: i64,
}

pub(super) struct RedoFile {
    pub(super) file: File,
    position: Position,
    /// Where the next record begins.
    next: u32,
    /// Head and content of a record; kept for its memory.
    buffer: Vec<u8>,
}

impl RedoFile {
    /// Opens or makes the log, for records of `position`, of which it has none that count.
    pub fn open(path: &Path, position: Position) -> io::Result<Self> {
        let is_new = !path.exists();
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(MODE).open(path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if is_new {
            let about = folder.metadata()?;
            if geteuid().is_root() && about.uid() != 0 {
                fchown(&file, Some(about.uid()), Some(about.gid()))?;
            }
        }
        if let Err(error) = make_full_length(&file) {
            // Records may still fit; where they do not, SQLite's own journal may have room.
            log::warn!("ledger: the redo log has not its full length: {error}");
        }
        // A file whose name a cut takes away has kept nothing.
        File::open(folder)?.sync_all()?;
        Ok(Self { file, position, next: 0, buffer: Vec::new() })
    }

    /// Opens the log as it was left.
    pub fn existing(path: &Path, position: Position) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, position, next: 0, buffer: Vec::new() })
    }

    pub fn generation(&self) -> i64 {
        self.position.generation
    }

    /// The database has all that stands here; records of `generation` come next.
    pub fn begin(&mut self, generation: i64) {
        self.position.generation = generation;
        self.next = 0;
    }

    pub fn is_empty(&self) -> bool {
        self.next == 0
    }

    /// Bytes of content that a record may still have.
    pub fn room(&self) -> usize {
        (BLOCKS - self.next) as usize * BLOCK - HEAD.min((BLOCKS - self.next) as usize * BLOCK)
    }

    /// Adds a record and returns when it is durable. One that failed is no part of the log: the next takes its
    /// place.
    pub fn append(&mut self, content: &[u8]) -> io::Result<()> {
        let length = u32::try_from(content.len()).map_err(io::Error::other)?;
        let begin = u64::from(self.next) * BLOCK as u64;
        let buffer = &mut self.buffer;
        buffer.clear();
        buffer.extend_from_slice(MAGIC);
        buffer.extend_from_slice(&self.position.id);
        buffer.extend_from_slice(&self.position.generation.to_le_bytes());
        buffer.extend_from_slice(&self.next.to_le_bytes());
        buffer.extend_from_slice(&length.to_le_bytes());
        let checksum = checksum(buffer, content);
        buffer.extend_from_slice(&checksum);
        buffer.resize(HEAD, 0);
        buffer.extend_from_slice(content);
        buffer.resize(buffer.len().next_multiple_of(BLOCK), 0);
        self.file.write_all_at(buffer, begin)?;
        self.file.sync_data()?;
        self.next += blocks_of(content.len());
        Ok(())
    }

    /// Hands over the content of each record that counts, from the first on. Afterwards the next one is added
    /// behind the last. What may stand behind those that are known to be durable is of a batch that failed.
    pub fn records(
        &mut self,
        mut each: impl FnMut(&[u8]) -> Result<(), LedgerError>,
    ) -> Result<(), LedgerError> {
        let unreadable =
            |error: io::Error| LedgerError::Unreadable { column: "the redo log", detail: error.to_string() };
        let (known, mut at) = (self.next, 0);
        let mut content = Vec::new();
        while (known == 0 || at < known) && self.read(at, &mut content).map_err(unreadable)? {
            each(&content)?;
            at += blocks_of(content.len());
        }
        if at < known {
            return Err(unreadable(io::Error::other("records that were durable are gone")));
        }
        self.next = at;
        Ok(())
    }

    /// Reads the content of the record at this block; `false` if none counts there.
    fn read(&self, at: u32, content: &mut Vec<u8>) -> io::Result<bool> {
        if at >= BLOCKS {
            return Ok(false);
        }
        let begin = u64::from(at) * BLOCK as u64;
        let mut head = [0; HEAD];
        if !read_whole(&self.file, &mut head, begin)? {
            return Ok(false);
        }
        let number =
            |from: usize| u32::from_le_bytes([head[from], head[from + 1], head[from + 2], head[from + 3]]);
        let length = number(36) as usize;
        let counts = head[..8] == *MAGIC
            && head[8..24] == self.position.id
            && head[24..32] == self.position.generation.to_le_bytes()
            && number(32) == at
            && length <= (BLOCKS - at) as usize * BLOCK - HEAD;
        if !counts {
            return Ok(false);
        }
        content.resize(length, 0);
        Ok(read_whole(&self.file, content, begin + HEAD as u64)?
            && head[CHECKED_HEAD..CHECKED_HEAD + CHECKSUM] == checksum(&head[..CHECKED_HEAD], content))
    }
}

/// Where the log of a database lies.
pub(in crate::ledger) fn path_of(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push("-redo");
    path.into()
}

fn blocks_of(content: usize) -> u32 {
    // At most BLOCKS, as `room` says.
    (HEAD + content).div_ceil(BLOCK) as u32
}

fn checksum(head: &[u8], content: &[u8]) -> [u8; CHECKSUM] {
    let digest = Sha256::new().chain_update(head).chain_update(content).finalize();
    let mut checksum = [0; CHECKSUM];
    checksum.copy_from_slice(&digest[..CHECKSUM]);
    checksum
}

/// `false` if the file ends before.
fn read_whole(file: &File, bytes: &mut [u8], at: u64) -> io::Result<bool> {
    match file.read_exact_at(bytes, at) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        read => read.map(|()| true),
    }
}

fn make_full_length(file: &File) -> io::Result<()> {
    let empty = [0; BLOCK];
    let has = file.metadata()?.len() / BLOCK as u64;
    for block in has..u64::from(BLOCKS) {
        file.write_all_at(&empty, block * BLOCK as u64)?;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(file: &mut RedoFile) -> Vec<Vec<u8>> {
        let mut contents = Vec::new();
        file.records(|content| {
            contents.push(content.to_vec());
            Ok(())
        })
        .unwrap();
        contents
    }

    #[test]
    fn a_record_whose_flush_failed_does_not_come_back_while_the_bot_lives() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let position = Position { id: [7; 16], generation: 3 };
        let mut file = RedoFile::open(&path, position).unwrap();
        file.append(b"one").unwrap();
        let durable = file.next;
        file.append(&[b'2'; 3 * BLOCK]).unwrap();
        // As a flush leaves it that fails when all was written.
        file.next = durable;
        assert_eq!(contents(&mut file), [b"one".to_vec()]);
        file.append(b"three").unwrap();
        let kept = [b"one".to_vec(), b"three".to_vec()];
        assert_eq!(contents(&mut file), kept);
        assert_eq!(contents(&mut RedoFile::existing(&path, position).unwrap()), kept);
    }
}
