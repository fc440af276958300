//! Files and folders below the root of a machine: read, compared, and written so that a power cut
//! leaves either the old or the new.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown, lchown};
use std::path::{Path, PathBuf};

use rustix::fs::statvfs;
use thiserror::Error;

use super::account::Ids;
use super::overlay::{self, Owner, PREVIOUS, PROGRAM, PROGRAM_MODE};
use super::plan::State;

/// Mode bits that are compared.
const MODE: u32 = 0o7777;

/// What could not be done, with a file, folder or program.
#[derive(Debug, Error)]
#[error("{}: {cause}", what.display())]
pub struct Failure {
    pub what: PathBuf,
    pub cause: io::Error,
}

impl Failure {
    pub fn new(what: impl Into<PathBuf>, cause: io::Error) -> Self {
        Self { what: what.into(), cause }
    }
}

/// A file as it was, to be put back.
#[derive(Debug)]
pub struct Kept {
    path: &'static str,
    before: Option<(Vec<u8>, u32)>,
}

/// The root folder of a machine: this one's, or a folder in which an image is built.
#[derive(Debug)]
pub struct Root {
    folder: PathBuf,
}

impl Root {
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    pub fn is_this_machine(&self) -> bool {
        self.folder == Path::new("/")
    }

    /// Where `path`, which has no leading slash, lies.
    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    pub fn exists(&self, path: &str) -> bool {
        fs::symlink_metadata(self.path(path)).is_ok()
    }

    /// A text file; empty if it is missing.
    ///
    /// # Errors
    /// It cannot be read, or is no text.
    pub fn read_text(&self, path: &str) -> Result<String, Failure> {
        let path = self.path(path);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(Failure::new(path, error)),
        }
    }

    /// How a file compares with what it should be.
    pub fn compare(&self, path: &str, content: &[u8], mode: u32, ids: (u32, u32)) -> Result<State, Failure> {
        let path = self.path(path);
        let metadata = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(State::Missing),
            Err(error) => return Err(Failure::new(path, error)),
        };
        let same = metadata.is_file()
            && metadata.len() == content.len() as u64
            && fs::read(&path).map_err(|error| Failure::new(&path, error))? == content;
        Ok(match same {
            false => State::Differs,
            true if right(&metadata, mode, ids) => State::Same,
            true => State::WrongOwner,
        })
    }

    /// Whether a file or folder has this owner and mode; `None` if it is missing.
    pub fn owned(&self, path: &str, mode: u32, ids: (u32, u32)) -> Result<Option<bool>, Failure> {
        let path = self.path(path);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(right(&metadata, mode, ids))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::new(path, error)),
        }
    }

    /// Creates a folder with its parents.
    pub fn make_folder(&self, path: &str, mode: u32, ids: (u32, u32)) -> Result<(), Failure> {
        let full = self.path(path);
        fs::create_dir_all(&full).map_err(|error| Failure::new(&full, error))?;
        self.correct(path, mode, ids)
    }

    /// Gives a file or folder its owner and mode.
    pub fn correct(&self, path: &str, mode: u32, (user, group): (u32, u32)) -> Result<(), Failure> {
        let path = self.path(path);
        chown(&path, Some(user), Some(group))
            .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(mode)))
            .map_err(|error| Failure::new(path, error))
    }

    /// Whether all that lies in a folder has this owner.
    pub fn content_owned(&self, path: &str, (user, group): (u32, u32)) -> Result<bool, Failure> {
        let mut entries = self.content(path)?;
        Ok(entries.all(|(_, metadata)| (metadata.uid(), metadata.gid()) == (user, group)))
    }

    /// Gives all that lies in a folder to this owner. No link is followed: others write there.
    pub fn correct_content(&self, path: &str, (user, group): (u32, u32)) -> Result<(), Failure> {
        for (entry, _) in self.content(path)? {
            lchown(&entry, Some(user), Some(group)).map_err(|error| Failure::new(entry, error))?;
        }
        Ok(())
    }

    fn content(&self, path: &str) -> Result<impl Iterator<Item = (PathBuf, fs::Metadata)>, Failure> {
        let folder = self.path(path);
        let entries = fs::read_dir(&folder).map_err(|error| Failure::new(folder, error))?;
        // What goes away meanwhile is nobody's.
        Ok(entries.filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.path(), entry.metadata().ok()?))
        }))
    }

    /// Writes a file beside its place, flushes it, and moves it there.
    pub fn write(&self, path: &str, content: &[u8], mode: u32, ids: (u32, u32)) -> Result<(), Failure> {
        let path = self.path(path);
        let fresh = beside(&path);
        let written = write_durably(&fresh, content, mode, ids).and_then(|()| fs::rename(&fresh, &path));
        if let Err(error) = written {
            let _ = fs::remove_file(&fresh);
            return Err(Failure::new(path, error));
        }
        flush_folder(&path)
    }

    /// Replaces a text file that belongs to the system, and keeps its owner and mode; `mode` if it is
    /// missing.
    pub fn replace_text(&self, path: &str, text: &str, mode: u32) -> Result<(), Failure> {
        let (mode, ids) = match fs::metadata(self.path(path)) {
            Ok(metadata) => (metadata.mode() & MODE, (metadata.uid(), metadata.gid())),
            Err(_) => (mode, (0, 0)),
        };
        self.write(path, text.as_bytes(), mode, ids)
    }

    /// Puts the new program in its place and keeps the one before beside it. At no moment is there
    /// none.
    pub fn switch_program(&self, content: &[u8]) -> Result<(), Failure> {
        let (program, previous) = (self.path(PROGRAM), self.path(PREVIOUS));
        let kept = beside(&previous);
        if self.exists(PROGRAM) {
            let _ = fs::remove_file(&kept);
            fs::hard_link(&program, &kept)
                .and_then(|()| fs::rename(&kept, &previous))
                .map_err(|error| Failure::new(&previous, error))?;
        }
        self.write(PROGRAM, content, PROGRAM_MODE, (0, 0))
    }

    /// Puts the program before back in its place.
    pub fn switch_program_back(&self) -> Result<(), Failure> {
        let program = self.path(PROGRAM);
        fs::rename(self.path(PREVIOUS), &program).map_err(|error| Failure::new(&program, error))?;
        flush_folder(&program)
    }

    /// A file as it is now.
    pub fn keep(&self, path: &'static str) -> Result<Kept, Failure> {
        let full = self.path(path);
        let before = match fs::metadata(&full) {
            Ok(metadata) => {
                let content = fs::read(&full).map_err(|error| Failure::new(&full, error))?;
                Some((content, metadata.mode() & MODE))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(Failure::new(full, error)),
        };
        Ok(Kept { path, before })
    }

    /// Makes it as it was. Only for files that belong to root.
    pub fn put_back(&self, kept: &Kept) -> Result<(), Failure> {
        match &kept.before {
            Some((content, mode)) => self.write(kept.path, content, *mode, (0, 0)),
            None => self.remove(kept.path).map(|_| ()),
        }
    }

    /// Removes a file, or a folder with all that is in it; whether there was one.
    pub fn remove(&self, path: &str) -> Result<bool, Failure> {
        let path = self.path(path);
        let removed = match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(&path),
            Ok(_) => fs::remove_file(&path),
            Err(error) => Err(error),
        };
        match removed {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Failure::new(path, error)),
        }
    }

    /// Removes a folder if nothing is in it.
    pub fn remove_if_empty(&self, path: &str) {
        let _ = fs::remove_dir(self.path(path));
    }

    /// Bytes that root can still write on the disk that `path`, or the nearest folder above that
    /// exists, lies on.
    pub fn free(&self, path: &str) -> Result<u64, Failure> {
        let mut folder = self.path(path);
        loop {
            match statvfs(&folder) {
                Ok(found) => return Ok(found.f_bavail.saturating_mul(found.f_frsize)),
                Err(rustix::io::Errno::NOENT) if folder.pop() => {}
                Err(error) => return Err(Failure::new(folder, error.into())),
            }
        }
    }
}

/// Numbers of the owner and group.
pub fn numbers(owner: Owner, account: Ids) -> (u32, u32) {
    match owner {
        Owner::Root => (0, 0),
        Owner::RootForBot => (0, account.group),
        Owner::Bot => (account.user, account.group),
    }
}

fn right(metadata: &fs::Metadata, mode: u32, (user, group): (u32, u32)) -> bool {
    metadata.mode() & MODE == mode && metadata.uid() == user && metadata.gid() == group
}

/// Where a file is written before it takes its place: in the same folder, hidden.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}-new", overlay::ACCOUNT))
}

fn write_durably(path: &Path, content: &[u8], mode: u32, (user, group): (u32, u32)) -> io::Result<()> {
    let _ = fs::remove_file(path);
    // Closed to others until it is complete.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    chown(path, Some(user), Some(group))?;
    file.set_permissions(Permissions::from_mode(mode))?;
    // The boxes mount ext4 with data=writeback: without this a file could be there and be empty.
    file.sync_all()
}

/// Makes a rename survive a power cut.
fn flush_folder(path: &Path) -> Result<(), Failure> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| Failure::new(folder, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> (u32, u32) {
        (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw())
    }

    #[test]
    fn what_is_written_is_the_same_and_what_differs_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        assert_eq!(root.compare("a", b"x", 0o640, me()).unwrap(), State::Missing);
        root.write("a", b"x", 0o640, me()).unwrap();
        assert_eq!(root.compare("a", b"x", 0o640, me()).unwrap(), State::Same);
        assert_eq!(root.compare("a", b"x", 0o600, me()).unwrap(), State::WrongOwner);
        assert_eq!(root.compare("a", b"y", 0o640, me()).unwrap(), State::Differs);
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["a"]);
    }

    #[test]
    fn a_kept_file_comes_back_and_one_that_was_not_there_goes() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        fs::write(root.path("a"), "old").unwrap();
        let (there, missing) = (root.keep("a").unwrap(), root.keep("b").unwrap());
        for path in ["a", "b"] {
            fs::write(root.path(path), "new").unwrap();
        }
        if me() == (0, 0) {
            root.put_back(&there).unwrap();
            assert_eq!(root.read_text("a").unwrap(), "old");
        }
        root.put_back(&missing).unwrap();
        assert!(!root.exists("b"));
    }

    #[test]
    fn free_space_is_asked_of_the_nearest_folder_that_exists() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        assert!(root.free("not/yet/there").unwrap() > 0);
    }
}
