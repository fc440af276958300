//! The disk of an emulated box: a file of this machine with ext4 on it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::{Parts, run_here};

/// Bytes of a fresh disk; the file has holes where nothing was written.
const SIZE: u64 = 512 << 20;

/// Worst end of `e2fsck -p` that a power cut may lead to: it put right what needs no decision, such as
/// files that were deleted while somebody had them open (e2fsck(8), exit code).
const PUT_RIGHT: i32 = 1;

/// A disk. Its file vanishes with it.
#[derive(Debug)]
pub struct Disk {
    folder: TempDir,
}

impl Disk {
    fn file(folder: &TempDir) -> PathBuf {
        folder.path().join("disk.ext4")
    }

    pub fn path(&self) -> PathBuf {
        Self::file(&self.folder)
    }

    /// A disk without files.
    ///
    /// # Errors
    /// When it cannot be made (Debian: `e2fsprogs`).
    pub fn empty() -> Result<Self> {
        let disk = Self { folder: Self::folder()? };
        File::create(disk.path())?.set_len(SIZE)?;
        run_here(Command::new("/usr/sbin/mkfs.ext4").args(["-q", "-F"]).arg(disk.path()))?;
        Ok(disk)
    }

    /// Debian with systemd and sshd.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn debian(parts: &Parts) -> Result<Self> {
        Self::copy(&parts.folder.join("debian.ext4"))
    }

    /// The disk as it stands now, for looking at.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn snapshot(&self) -> Result<Self> {
        Self::copy(&self.path())
    }

    /// On the disk that holds the repository: too large for memory.
    pub(super) fn folder() -> Result<TempDir> {
        let parent = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/box");
        std::fs::create_dir_all(&parent)?;
        Ok(tempfile::Builder::new().prefix("disk-").tempdir_in(parent)?)
    }

    pub(super) fn copy(from: &Path) -> Result<Self> {
        let disk = Self { folder: Self::folder()? };
        copy(from, &disk.path())?;
        Ok(disk)
    }

    /// Only for a disk that no machine has.
    pub(super) fn become_like(&self, from: &Path) -> Result<()> {
        copy(from, &self.path())
    }

    pub(super) fn copy_to(&self, file: &Path) -> Result<()> {
        copy(&self.path(), file)
    }

    /// Replays the journal of a disk that lost power, as the kernel does when it mounts it.
    ///
    /// # Errors
    /// When the file system is broken beyond that.
    pub fn recover(&self) -> Result<()> {
        let mut check = Command::new("/usr/sbin/e2fsck");
        check.arg("-p").arg(self.path());
        let output = check.output().context("cannot run e2fsck (Debian: e2fsprogs)")?;
        let code = output.status.code();
        ensure!(
            code.is_some_and(|code| code <= PUT_RIGHT),
            "the file system is broken: e2fsck ended with {}:\n{}",
            output.status,
            String::from_utf8_lossy(&output.stdout)
        );
        Ok(())
    }

    /// Puts a file of this machine into a folder of the disk. Only for a disk that no machine has.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, from: &Path, folder: &str, name: &str, mode: u32) -> Result<()> {
        let commands = self.folder.path().join("commands");
        let text = format!(
            "cd {folder}\nwrite {} {name}\nset_inode_field {name} mode 0100{mode:o}\n\
             set_inode_field {name} uid 0\nset_inode_field {name} gid 0\n",
            from.display()
        );
        std::fs::write(&commands, text)?;
        run_here(Command::new("/usr/sbin/debugfs").arg("-w").arg("-f").arg(commands).arg(self.path()))
            .map(drop)
    }

    /// Copies a file out of the disk; `false` when it is not there. Only for a disk that no machine
    /// has, and that is recovered.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, path: &str, into: &Path) -> Result<bool> {
        let mut dump = Command::new("/usr/sbin/debugfs");
        dump.args(["-R", &format!("dump {path} {}", into.display())]).arg(self.path());
        run_here(&mut dump)?;
        Ok(into.exists())
    }
}

/// Leaves holes where nothing was written.
fn copy(from: &Path, to: &Path) -> Result<()> {
    run_here(Command::new("cp").arg("--sparse=always").arg(from).arg(to)).map(drop)
}
