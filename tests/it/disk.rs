//! A small ext4 disk of its own for a bot's data, mounted as on the boxes in a mount namespace that
//! nobody else sees: it can be full, and it can fail. Needs real root, as every loop device does.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bot_kjp::disk_space;
use tempfile::TempDir;

/// How the boxes mount theirs, apart from the loop device.
const OPTIONS: &str = "loop,data=writeback,commit=120,errors=remount-ro";

/// What fills the disk.
const FILLER: &str = "filler";

/// The disk; dropped, it is unmounted.
pub struct Disk {
    folder: TempDir,
    /// Holds the namespace for as long as its input is open.
    holder: Child,
}

impl Disk {
    /// A fresh disk of so many megabytes.
    pub fn new(megabytes: u64) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let image = folder.path().join("image");
        File::create(&image).and_then(|file| file.set_len(megabytes << 20)).expect("an image");
        let made = Command::new("/usr/sbin/mkfs.ext4").args(["-q", "-m", "0"]).arg(&image).status();
        assert!(made.expect("mkfs.ext4 runs").success());
        fs::create_dir(folder.path().join("mounted")).expect("a mount point");
        let script = format!("mount -o {OPTIONS} \"$0/image\" \"$0/mounted\" && echo mounted && read -r _");
        let mut holder = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "unshare", "--mount", "--", "sh", "-c", &script])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare runs");
        let mut said = String::new();
        let stdout = holder.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut said).expect("the disk is mounted");
        assert_eq!(said, "mounted\n", "a loop device cannot be mounted: run the tests as root");
        Self { folder, holder }
    }

    /// The data folder as the bot sees it.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    /// The same folder as this process sees it.
    pub fn outside_view(&self) -> PathBuf {
        let folder = self.folder();
        let below = folder.strip_prefix("/").expect("an absolute path");
        Path::new("/proc").join(self.holder.id().to_string()).join("root").join(below)
    }

    /// The namespace in which it is mounted.
    pub fn namespace(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/mnt", self.holder.id()))
    }

    /// Takes all space but about so many bytes.
    pub fn fill(&self, leave: u64) {
        let path = self.outside_view().join(FILLER);
        let mut filler = File::options().append(true).create(true).open(path).expect("a file");
        let block = [0xAA; 4096];
        loop {
            let free = disk_space::disk(&self.outside_view()).expect("the disk is there").free;
            if free <= leave {
                break;
            }
            let bytes = usize::try_from((free - leave).min(block.len() as u64)).expect("a block");
            if filler.write_all(&block[..bytes]).is_err() {
                break;
            }
        }
        // Delayed allocation: it takes its space now.
        let _ = filler.sync_all();
    }

    /// Gives all space back.
    pub fn empty(&self) {
        fs::remove_file(self.outside_view().join(FILLER)).expect("it was filled");
    }

    /// The kernel finds an error on it: nothing can be written any more.
    pub fn fail(&self) {
        self.inside(&["mount", "-o", "remount,abort"], &[&self.folder()]);
    }

    /// The machine is started anew: nobody uses the disk, and it is mounted again.
    pub fn mount_again(&self) {
        self.inside(&["umount"], &[&self.folder()]);
        self.inside(&["mount", "-o", OPTIONS], &[&self.folder.path().join("image"), &self.folder()]);
    }

    pub fn mount_read_only(&self) {
        self.inside(&["mount", "-o", "remount,ro"], &[&self.folder()]);
    }

    fn inside(&self, command: &[&str], paths: &[&Path]) {
        let namespace = format!("--mount={}", self.namespace().display());
        let status = Command::new("nsenter").arg(namespace).arg("--").args(command).args(paths).status();
        assert!(status.expect("nsenter runs").success(), "{command:?}");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
