//! The data folder and its files, looked at from outside: the running bot has the database locked, so
//! SQLite is not asked.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::process::{Flock, FlockType, fcntl_getlk};

use super::finding::{Finding, NotWritable};
use crate::app::LEDGER_FILE;
use crate::disk_space::{Limits, disk};
use crate::ledger::APPLICATION_ID;
use crate::persistence::{self, Persistence};

/// The database and what lies beside it.
const SUFFIXES: [&str; 4] = ["", "-wal", "-journal", "-redo"];

/// How an SQLite file begins (sqlite.org/fileformat.html §1.3), where the program's number stands in
/// it, and how long its head is.
const MAGIC: &[u8] = b"SQLite format 3\0";
const APPLICATION_ID_AT: usize = 68;
const HEAD_BYTES: u64 = 100;

/// Who has the database locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Holder {
    /// `None`: somebody of another container.
    pub pid: Option<i32>,
}

/// All about the folder and the files in it.
/// `may_be_volatile`: the settings let the bot work in memory.
pub(super) fn examine(folder: &Path, may_be_volatile: bool, limits: Limits) -> Vec<Finding> {
    let path = || folder.to_path_buf();
    let about = match fs::metadata(folder) {
        Ok(about) if about.is_dir() => about,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return vec![Finding::FolderClosed(path())];
        }
        _ => return vec![Finding::FolderMissing(path())],
    };
    if let Err(error) = fs::read_dir(folder)
        && error.kind() == io::ErrorKind::PermissionDenied
    {
        return vec![Finding::FolderClosed(path())];
    }
    let disk = disk(folder).ok();
    let mut findings = vec![match try_to_write(folder) {
        Ok(()) => Finding::FolderWritable { folder: path(), free: disk.map_or(0, |disk| disk.free) },
        Err(error) => Finding::FolderNotWritable { folder: path(), why: why_not(&error) },
    }];
    match persistence::of(folder) {
        Persistence::Lasting => {}
        Persistence::Volatile => findings.push(Finding::Volatile { allowed: may_be_volatile }),
        Persistence::Unknown => findings.push(Finding::MaybeVolatile),
    }
    if let Some(disk) = disk {
        let (free, total) = (disk.free, disk.total);
        if !limits.has_room(true, disk) {
            findings.push(Finding::DiskFull { free, total });
        } else if limits.is_low(disk) {
            findings.push(Finding::DiskLow { free, total });
        }
    }
    findings.push(database(&folder.join(LEDGER_FILE)));
    findings.extend(SUFFIXES.iter().flat_map(|suffix| {
        let file = folder.join(format!("{LEDGER_FILE}{suffix}"));
        fs::symlink_metadata(&file).map(|found| ownership(&about, folder, file, &found)).unwrap_or_default()
    }));
    findings
}

/// Who has the database of this folder locked, if somebody has.
pub(super) fn holder(folder: &Path) -> Option<Holder> {
    let file = File::open(folder.join(LEDGER_FILE)).ok()?;
    // Asks who would stand in a reader's way; locks nothing.
    let lock = fcntl_getlk(&file, &Flock::from(FlockType::ReadLock)).ok()??;
    Some(Holder { pid: lock.pid.map(|pid| pid.as_raw_nonzero().get()) })
}

/// Writes a file of a name that nobody has, and removes it.
fn try_to_write(folder: &Path) -> io::Result<()> {
    let name = format!(".doctor-{:016x}", getrandom::u64().unwrap_or_default());
    let path = folder.join(name);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    let written = file.write_all(b"bot-kjp doctor\n").and_then(|()| file.sync_all());
    let removed = fs::remove_file(&path);
    written.and(removed)
}

fn why_not(error: &io::Error) -> NotWritable {
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => NotWritable::ReadOnly,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => NotWritable::NoSpace,
        io::ErrorKind::PermissionDenied => NotWritable::NotPermitted,
        _ => NotWritable::Other(error.to_string()),
    }
}

/// Whether the database is there and looks like ours.
fn database(file: &Path) -> Finding {
    let mut head = Vec::new();
    let read = File::open(file).and_then(|file| {
        let bytes = file.metadata()?.len();
        file.take(HEAD_BYTES).read_to_end(&mut head)?;
        Ok(bytes)
    });
    match read {
        Ok(bytes) => judge_database(file.to_path_buf(), bytes, &head),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Finding::NoDatabase,
        Err(_) => Finding::FolderClosed(file.to_path_buf()),
    }
}

fn judge_database(file: PathBuf, bytes: u64, head: &[u8]) -> Finding {
    if bytes == 0 {
        // SQLite makes the file and writes its head with the first commit.
        return Finding::NoDatabase;
    }
    if !head.starts_with(MAGIC) {
        return Finding::BrokenDatabase(file);
    }
    let program = head.get(APPLICATION_ID_AT..).and_then(|rest| rest.first_chunk::<4>());
    match program.map(|bytes| i32::from_be_bytes(*bytes)) {
        // What was written last may still stand in the journal.
        Some(APPLICATION_ID | 0) => Finding::Database { bytes },
        Some(_) => Finding::ForeignDatabase(file),
        None => Finding::BrokenDatabase(file),
    }
}

/// What is wrong with who may do what with a file: after a `sudo bot-kjp pair`, its files may be root's,
/// and the service cannot open them.
fn ownership(folder: &Metadata, path: &Path, file: PathBuf, found: &Metadata) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mode = found.mode() & 0o777;
    if mode & 0o077 != 0 {
        findings.push(Finding::OpenToOthers { file: file.clone(), mode });
    }
    if found.uid() != folder.uid() {
        findings.push(Finding::OwnedByAnother { file, folder: path.to_path_buf() });
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::finding::Mark;
    use super::*;
    use crate::ledger::Database;
    use std::os::unix::fs::PermissionsExt as _;

    const LIMITS: Limits = Limits { warn_below: 0, stop_below: 0 };

    fn bad(folder: &Path) -> Vec<Finding> {
        examine(folder, true, LIMITS).into_iter().filter(|finding| finding.mark() == Mark::Bad).collect()
    }

    #[test]
    fn a_folder_with_a_ledger_is_well_and_nothing_is_left_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let has =
            |finding: &dyn Fn(&Finding) -> bool| examine(folder.path(), true, LIMITS).iter().any(finding);
        assert!(has(&|finding| *finding == Finding::NoDatabase));
        drop(Database::open(&folder.path().join(LEDGER_FILE)).unwrap());
        assert_eq!(bad(folder.path()), []);
        assert!(has(&|finding| matches!(finding, Finding::Database { bytes: 1.. })));
        assert!(has(&|finding| matches!(finding, Finding::FolderWritable { free: 1.., .. })));
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(names.iter().all(|name| name.to_string_lossy().starts_with(LEDGER_FILE)), "{names:?}");
    }

    #[test]
    fn a_folder_that_is_none_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let nowhere = folder.path().join("nowhere");
        assert_eq!(examine(&nowhere, true, LIMITS), [Finding::FolderMissing(nowhere.clone())]);
        fs::write(&nowhere, "a file").unwrap();
        assert_eq!(examine(&nowhere, true, LIMITS), [Finding::FolderMissing(nowhere.clone())]);
    }

    #[test]
    fn a_database_that_others_may_read_or_that_is_not_ours_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(LEDGER_FILE);
        drop(Database::open(&file).unwrap());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(bad(folder.path()), [Finding::OpenToOthers { file: file.clone(), mode: 0o644 }]);

        let mut head = [0; HEAD_BYTES as usize];
        head[..MAGIC.len()].copy_from_slice(MAGIC);
        head[APPLICATION_ID_AT] = 1;
        let judged = |bytes: &[u8]| judge_database(file.clone(), bytes.len() as u64, bytes);
        assert_eq!(judged(&head), Finding::ForeignDatabase(file.clone()));
        assert_eq!(judged(&head[..40]), Finding::BrokenDatabase(file.clone()));
        assert_eq!(judged(b"not a database"), Finding::BrokenDatabase(file.clone()));
        assert_eq!(judged(b""), Finding::NoDatabase);
    }

    #[test]
    fn errors_of_the_disk_are_told_apart() {
        for (kind, why) in [
            (io::ErrorKind::ReadOnlyFilesystem, NotWritable::ReadOnly),
            (io::ErrorKind::StorageFull, NotWritable::NoSpace),
            (io::ErrorKind::PermissionDenied, NotWritable::NotPermitted),
        ] {
            assert_eq!(why_not(&kind.into()), why);
        }
    }
}
