//! The log file: bounded, private, and never in anybody's way.
//!
//! Two files, the one that is written and the one before it (`.1`), each of half the size that is
//! allowed. The crate file-rotate does the same and much more, and brings chrono and compression for
//! it; what is needed here is a rename.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::Offset;

/// How long to wait before a file that could not be opened is tried again.
const REOPEN: Duration = Duration::from_secs(10);

/// Owner only: the log names times and places of people, if not people.
const MODE: u32 = 0o600;

pub(super) struct LogFile {
    path: PathBuf,
    /// Most bytes of each of the two files.
    most: u64,
    open: Option<Open>,
    failed: Option<Instant>,
}

struct Open {
    file: File,
    bytes: u64,
    /// The last line was cut off by a full disk.
    torn: bool,
}

impl LogFile {
    /// A log that takes at most `size` bytes with the file before it. Nothing is opened yet.
    pub fn new(path: PathBuf, size: u64) -> Self {
        Self { path, most: size / 2, open: None, failed: None }
    }

    /// Writes a line with its time, in seconds since 1970 UTC. What cannot be written is dropped: the line
    /// stands on stderr too.
    pub fn write(&mut self, line: &str, time: i64, now: Instant) {
        if self.failed.is_some_and(|failed| now.saturating_duration_since(failed) < REOPEN) {
            return;
        }
        let line = format!("{} {line}\n", stamp(time));
        if self.append(&line).is_err() {
            self.failed = Some(now);
        }
    }

    fn append(&mut self, line: &str) -> io::Result<()> {
        let length = line.len() as u64;
        if length > self.most {
            return Ok(());
        }
        if self.open.as_ref().is_some_and(|open| open.bytes > 0 && open.bytes + length > self.most) {
            self.open = None;
            fs::rename(&self.path, before(&self.path))?;
        }
        let open = match &mut self.open {
            Some(open) => open,
            none => none.insert(open(&self.path)?),
        };
        if open.bytes + length > self.most {
            // A long file of an earlier run.
            self.open = None;
            fs::rename(&self.path, before(&self.path))?;
            return self.append(line);
        }
        if open.torn {
            open.file.write_all(b"\n")?;
            open.bytes += 1;
        }
        let written = open.file.write_all(line.as_bytes());
        open.torn = written.is_err();
        // As long as it is, and not as was meant: a full disk takes a part.
        open.bytes = open.file.metadata().map_or(open.bytes + length, |about| about.len());
        written
    }
}

fn open(path: &Path) -> io::Result<Open> {
    let file = OpenOptions::new().append(true).create(true).mode(MODE).open(path)?;
    let about = file.metadata()?;
    // Whoever logs to a device or a pipe did not make it.
    if about.is_file() && about.permissions().mode() & 0o777 != MODE {
        file.set_permissions(Permissions::from_mode(MODE))?;
    }
    Ok(Open { file, bytes: about.len(), torn: false })
}

/// The file that was full before this one.
fn before(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

/// Day and time in Jakarta.
fn stamp(time: i64) -> String {
    let moment = Timestamp::from_second(time).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{}+07:00", Offset::constant(7).to_datetime(moment))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const TIME: i64 = 1_795_402_800;

    fn length(path: &Path) -> u64 {
        path.metadata().map_or(0, |about| about.len())
    }

    #[test]
    fn lines_carry_the_time_in_jakarta_and_nobody_else_reads_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bot.log");
        fs::write(&path, "an earlier run\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        LogFile::new(path.clone(), 1000).write("INFO  [bot_kjp] hello", TIME, clock::now());
        let expected = "an earlier run\n2026-11-23T10:00:00+07:00 INFO  [bot_kjp] hello\n";
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn both_files_together_stay_within_the_size() {
        const SIZE: u64 = 2_000;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bot.log");
        fs::write(&path, "x".repeat(5_000)).unwrap();
        let mut log = LogFile::new(path.clone(), SIZE);
        for n in 0..500 {
            log.write(&"y".repeat(n % 300), TIME, clock::now());
            assert!(length(&path) <= SIZE / 2, "{n}: {}", length(&path));
            if n > 50 {
                assert!(length(&before(&path)) <= SIZE / 2);
            }
        }
        log.write("the last", TIME, clock::now());
        log.write(&"z".repeat(3_000), TIME, clock::now());
        assert!(fs::read_to_string(&path).unwrap().ends_with(" the last\n"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_file_that_cannot_be_made_harms_nobody_and_is_tried_again_later() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("later");
        let mut log = LogFile::new(missing.join("bot.log"), 1000);
        let begin = clock::now();
        log.write("lost", TIME, begin);
        fs::create_dir(&missing).unwrap();
        log.write("not yet", TIME, begin + REOPEN / 2);
        assert_eq!(length(&missing.join("bot.log")), 0);
        log.write("there", TIME, begin + REOPEN);
        assert!(length(&missing.join("bot.log")) > 0);
        // On Linux every write to it fails as on a full disk.
        let mut full = LogFile::new("/dev/full".into(), 1000);
        full.write("lost", TIME, begin);
        assert!(full.failed.is_some());
    }
}
