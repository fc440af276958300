//! Puts a damaged ledger aside, when somebody says so, so that the bot can start with a new one. Nothing
//! is deleted: registrations can often be rescued from such a file.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::Offset;
use rustix::process::geteuid;

use super::{Database, OpenError};

/// What belongs to the database file, which comes last: without it, what remains is still damaged.
const SUFFIXES: [&str; 5] = ["-wal", "-shm", "-journal", "-redo", ""];

/// Folders of one second at most.
const MOST_NAMES: u32 = 100;

/// Why nothing was put aside.
#[derive(Debug, thiserror::Error)]
pub enum SetAsideError {
    #[error("{0}")]
    Open(#[from] OpenError),
    #[error("{} was not put aside: {cause}", file.display())]
    Move { file: PathBuf, cause: io::Error },
}

/// Moves `file` and what belongs to it into a new folder beside it, if it is damaged; returns that folder,
/// or `None` if the file is sound or not there. `now` (seconds since 1970 UTC) names the folder.
///
/// # Errors
/// Also while another process uses the file, or if it belongs to another program or version.
pub fn set_aside(file: &Path, now: i64) -> Result<Option<PathBuf>, SetAsideError> {
    if !file.exists() {
        return Ok(None);
    }
    match Database::open(file) {
        Ok(_) => return Ok(None),
        Err(OpenError::Damaged { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let parent = file.parent().unwrap_or(Path::new("/"));
    let fail = |file: &Path| {
        let file = file.to_path_buf();
        move |cause| SetAsideError::Move { file, cause }
    };
    let folder = make_folder(parent, now).map_err(fail(file))?;
    for suffix in SUFFIXES {
        let mut from = file.as_os_str().to_owned();
        from.push(suffix);
        let from = PathBuf::from(from);
        let Some(name) = from.file_name() else { continue };
        match fs::rename(&from, folder.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            moved => moved.map_err(fail(&from))?,
        }
    }
    for changed in [&*folder, parent] {
        File::open(changed).and_then(|folder| folder.sync_all()).map_err(fail(changed))?;
    }
    Ok(Some(folder))
}

/// A folder that was not there before, for its owner only: that of the folder around it.
fn make_folder(parent: &Path, now: i64) -> io::Result<PathBuf> {
    let moment = Timestamp::from_second(now).unwrap_or(Timestamp::UNIX_EPOCH);
    let local = Offset::constant(7).to_datetime(moment);
    let name = format!("rusak-{}", local.strftime("%Y-%m-%d-%H%M%S"));
    let mut folder = parent.join(&name);
    for number in 2..=MOST_NAMES {
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                folder = parent.join(format!("{name}-{number}"));
            }
            made => {
                made?;
                break;
            }
        }
    }
    if geteuid().is_root() {
        let about = parent.metadata()?;
        chown(&folder, Some(about.uid()), Some(about.gid()))?;
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{LedgerError, inbound};
    use std::os::unix::fs::PermissionsExt as _;

    const NOW: i64 = 1_795_402_800;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_damaged_file_goes_with_its_journal_and_nothing_of_it_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bot-kjp.db");
        let damaged = vec![7_u8; 8192];
        for _ in 0..2 {
            fs::write(&file, &damaged).unwrap();
            fs::write(folder.path().join("bot-kjp.db-wal"), "journal").unwrap();
            let aside = set_aside(&file, NOW).unwrap().unwrap();
            assert_eq!(names(&aside), ["bot-kjp.db", "bot-kjp.db-wal"]);
            assert_eq!(fs::read(aside.join("bot-kjp.db")).unwrap(), damaged);
            assert_eq!(aside.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        }
        assert_eq!(names(folder.path()), ["rusak-2026-11-23-100000", "rusak-2026-11-23-100000-2"]);
        Database::open(&file).unwrap();
    }

    #[test]
    fn a_sound_file_one_in_use_and_one_of_another_program_stay() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bot-kjp.db");
        assert_eq!(set_aside(&file, NOW).unwrap(), None);
        let database = Database::open(&file).unwrap();
        database.write_now::<_, LedgerError>(|tx| inbound::remember(tx, "a", "a", "1", 1).map(drop)).unwrap();
        assert!(matches!(set_aside(&file, NOW), Err(SetAsideError::Open(OpenError::InUse(_)))));
        drop(database);
        assert_eq!(set_aside(&file, NOW).unwrap(), None);
        assert!(file.exists());

        let theirs = folder.path().join("theirs.db");
        rusqlite::Connection::open(&theirs).unwrap().execute_batch("CREATE TABLE theirs(x)").unwrap();
        assert!(matches!(set_aside(&theirs, NOW), Err(SetAsideError::Open(OpenError::Foreign(_)))));
    }
}
