//! A Debian that has booted already: its disk and the state of the box. It is made once and kept for all tests and
//! later runs; what is done to it then can be kept for some tests of one run.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::{Begin, Disk, Hardware, Init, Machine, Parts, QEMU_PROGRAM, Ways, run_here};

/// What a kernel's last words begin with.
const KERNEL_DIED: &str = "Kernel panic";

/// Ends when systemd has started everything.
const STARTED: &str =
    "until systemctl is-system-running --quiet; do sleep 1; done; systemctl is-active --quiet ssh";

/// From the first command until systemd has started everything, on a busy machine.
const SETTLE: Duration = Duration::from_secs(300);

/// A box with Debian and systemd that stands where everything has been started.
#[derive(Debug)]
pub struct Booted {
    folder: PathBuf,
    /// Removes the folder in the end.
    _vanishing: Option<TempDir>,
}

impl Booted {
    /// Boots one, unless that was done before with the same parts, the same qemu and the same devices. Whoever
    /// comes meanwhile, on another thread or in another process, waits for it.
    ///
    /// # Errors
    /// When it does not boot, or its state cannot be written.
    pub fn debian(parts: &Parts, ports: &[u16]) -> Result<Self> {
        let folder = parts.folder.with_file_name("booted");
        fs::create_dir_all(&folder)?;
        let booted = Self { folder, _vanishing: None };
        let lock = File::create(booted.folder.join("lock"))?;
        lock.lock().context("cannot lock the folder of the booted Debian")?;
        let key = key(parts)?;
        if fs::read_to_string(booted.key()).is_ok_and(|made| made == key) {
            return Ok(booted);
        }
        let _ = fs::remove_file(booted.key());
        booted.make(parts, ports)?;
        fs::write(booted.key(), key)?;
        Ok(booted)
    }

    fn make(&self, parts: &Parts, ports: &[u16]) -> Result<()> {
        let disk = Disk::debian(parts)?;
        let (first, file) = (parts.first(), disk.path());
        let machine = Machine::start(&hardware(parts, &first, &file, ports, Begin::SwitchedOn))?;
        machine.wait_booted()?;
        // It looks by itself: to be asked all the time would keep its processor busy.
        let said = machine.run_for(STARTED, SETTLE)?;
        ensure!(said.code == 0, "sshd does not run: {}", said.text);
        self.keep(&machine, &disk)?;
        machine.power_cut()
    }

    /// A box as it stands now, which goes on. Vanishes with this value.
    ///
    /// # Errors
    /// When it does not answer, or its state cannot be written.
    pub fn as_it_stands(machine: &Machine, disk: &Disk) -> Result<Self> {
        let folder = Disk::folder()?;
        let booted = Self { folder: folder.path().to_owned(), _vanishing: Some(folder) };
        booted.keep(machine, disk)?;
        machine.resume()?;
        Ok(booted)
    }

    /// It stands still from then on.
    fn keep(&self, machine: &Machine, disk: &Disk) -> Result<()> {
        // What is on the disk may be looked at from outside, too.
        machine.print("sync")?;
        machine.keep(&self.state())?;
        disk.copy_to(&self.disk())
    }

    /// A box that goes on from there with a disk of its own, which must be a [`disk`](Self::disk_of_a_box).
    ///
    /// The emulated kernel has been seen to die while it was woken (a null pointer in its interrupt handler),
    /// before anything of ours had begun: then it goes on once more.
    ///
    /// # Errors
    /// When qemu does not start, or the box does not answer.
    pub fn start(&self, parts: &Parts, disk: &Disk, ports: &[u16]) -> Result<Machine> {
        let (first, state) = (parts.first(), self.state());
        let goes_on = || Machine::start(&hardware(parts, &first, &disk.path(), ports, Begin::Kept(&state)));
        let machine = goes_on()?;
        let Err(error) = machine.wake() else { return Ok(machine) };
        if !machine.console().contains(KERNEL_DIED) {
            return Err(error);
        }
        eprintln!("the kernel of an emulated box died of being woken; once more from the kept state");
        drop(machine);
        disk.become_like(&self.disk())?;
        let machine = goes_on()?;
        machine.wake()?;
        Ok(machine)
    }

    /// The disk as it stood.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn disk_of_a_box(&self) -> Result<Disk> {
        Disk::copy(&self.disk())
    }

    fn key(&self) -> PathBuf {
        self.folder.join("key")
    }

    fn disk(&self) -> PathBuf {
        self.folder.join("disk.ext4")
    }

    fn state(&self) -> PathBuf {
        self.folder.join("state")
    }
}

fn hardware<'a>(
    parts: &'a Parts,
    first: &'a Path,
    disk: &'a Path,
    ports: &'a [u16],
    begin: Begin<'a>,
) -> Hardware<'a> {
    let init = Init::Systemd;
    Hardware { parts, init, first, disk, ports, counts_instructions: false, clock: None, seed: true, begin }
}

/// All that a state depends on.
fn key(parts: &Parts) -> Result<String> {
    let made_of = fs::read_to_string(parts.folder.join("key"))?;
    let version = run_here(Command::new(QEMU_PROGRAM).arg("--version"))?;
    let (first, nowhere) = (parts.first(), Path::new(""));
    let ways = Ways { shell: nowhere.into(), monitor: nowhere.into(), ports: Vec::new() };
    let devices = hardware(parts, &first, nowhere, &[], Begin::SwitchedOn).arguments(&ways);
    Ok(format!("{made_of}\n{}\n{}\n", String::from_utf8_lossy(&version), devices.join(" ")))
}
