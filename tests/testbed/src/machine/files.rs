//! Files of the emulated box, laid out as on it.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::{Parts, run_here};

/// Packs a folder as the kernel unpacks it; everything belongs to root.
/// Arguments: the folder, the archive.
const PACK: &str = r#"cd "$1" && find . | cpio -o --quiet -H newc -R 0:0 >"$2""#;

/// Files that come to those of busybox.
#[derive(Debug)]
pub struct Files {
    folder: TempDir,
}

impl Files {
    /// # Errors
    /// When there is no temporary folder.
    pub fn new() -> Result<Self> {
        Ok(Self { folder: tempfile::tempdir()? })
    }

    /// The place of `path` of the box, with the folders above it.
    fn place(&self, path: &str) -> Result<PathBuf> {
        let place = self.folder.path().join("root").join(path.trim_start_matches('/'));
        let above = place.parent().context("a file of the box has a folder")?;
        fs::create_dir_all(above)?;
        Ok(place)
    }

    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>, mode: u32) -> Result<()> {
        let place = self.place(path)?;
        fs::write(&place, content)?;
        Ok(fs::set_permissions(&place, Permissions::from_mode(mode))?)
    }

    /// Takes a file of this machine.
    ///
    /// # Errors
    /// When it is not there.
    pub fn copy(&self, from: &Path, path: &str, mode: u32) -> Result<()> {
        let place = self.place(path)?;
        fs::copy(from, &place).with_context(|| format!("copying {}", from.display()))?;
        Ok(fs::set_permissions(&place, Permissions::from_mode(mode))?)
    }

    /// Takes a tree of this machine, with its permissions.
    ///
    /// # Errors
    /// When it is not there.
    pub fn copy_tree(&self, from: &Path) -> Result<()> {
        let root = self.folder.path().join("root");
        fs::create_dir_all(&root)?;
        run_here(Command::new("cp").arg("-r").arg("--preserve=mode,links").arg(from.join(".")).arg(root))
            .map(drop)
    }

    /// Writes the first file system of a box: busybox, modules and these files.
    ///
    /// # Errors
    /// When they cannot be packed (Debian: `cpio`).
    pub fn first_file_system(&self, parts: &Parts, into: &Path) -> Result<()> {
        let archive = self.folder.path().join("files.cpio");
        let mut pack = Command::new("sh");
        pack.args(["-c", PACK, "pack"]).arg(self.folder.path().join("root")).arg(&archive);
        run_here(&mut pack)?;
        // The kernel unpacks archives that follow each other.
        let mut all = File::create(into)?;
        for part in [&parts.first(), &archive] {
            io::copy(&mut File::open(part)?, &mut all)?;
        }
        Ok(())
    }
}
