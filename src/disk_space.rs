//! How much room the disk of the data folder has, and whether that is enough to take registrations.
//!
//! Registrations stop while there is still room for everything else: answers, the WhatsApp session and
//! the log go on, and SQLite can fold its journal into the database. So a disk that fills up costs
//! registrations, which are refused politely and in time, and never what was promised.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{StatVfsMountFlags, statvfs};

use crate::config::DiskLimits;

/// Each limit is at most this share of the whole disk: 1/5 and 1/20. A box with 5.7 GB, of which its
/// system takes half, is fine with 200 MB left; so the smaller of the two decides, or it would be
/// "low" from its first day.
const WARN_SHARE: u64 = 5;
const STOP_SHARE: u64 = 20;

/// Registrations are taken again when there is this much room, as a share of what stopped them (3/2):
/// a log that is rotated must not open and close the bot with every line.
const RESUME: (u64, u64) = (3, 2);

/// Space on a disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// What the bot may still write.
    pub free: u64,
    pub total: u64,
    pub read_only: bool,
}

/// Limits of free space, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Below this somebody should look (`disk.warn_below`).
    pub warn_below: u64,
    /// Below this no registrations are taken (`disk.stop_below`).
    pub stop_below: u64,
}

impl From<&DiskLimits> for Limits {
    fn from(settings: &DiskLimits) -> Self {
        Self { warn_below: settings.warn_below, stop_below: settings.stop_below }
    }
}

impl Limits {
    /// Whether somebody should look.
    pub fn is_low(&self, disk: Disk) -> bool {
        disk.free < self.warn_below.min(disk.total / WARN_SHARE).max(self.stop(disk))
    }

    /// Whether there is room for registrations, when there was (`had_room`) or was none before.
    pub fn has_room(&self, had_room: bool, disk: Disk) -> bool {
        let stop = self.stop(disk);
        disk.free >= if had_room { stop } else { stop.saturating_mul(RESUME.0) / RESUME.1 }
    }

    fn stop(&self, disk: Disk) -> u64 {
        self.stop_below.min(disk.total / STOP_SHARE)
    }
}

/// Looks at the disk and remembers whether there was room; clones share that.
#[derive(Debug, Clone)]
pub struct DiskSpace {
    folder: PathBuf,
    limits: Limits,
    room: Arc<AtomicBool>,
}

impl DiskSpace {
    pub fn new(folder: PathBuf, limits: Limits) -> Self {
        Self { folder, limits, room: Arc::new(AtomicBool::new(true)) }
    }

    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The space now, and whether it is enough for registrations. Where the kernel does not tell, that
    /// stays as it was: nobody is refused because of a question.
    pub fn look(&self) -> (Option<Disk>, bool) {
        let had_room = self.room.load(Ordering::Relaxed);
        let Ok(disk) = disk(&self.folder) else { return (None, had_room) };
        let room = self.limits.has_room(had_room, disk);
        if room != had_room {
            self.room.store(room, Ordering::Relaxed);
            let megabytes = disk.free / 1_000_000;
            if room {
                log::info!("disk: {megabytes} MB are free again; registrations are taken");
            } else {
                log::error!("disk: {megabytes} MB are free; registrations are refused until there is more");
            }
        }
        (Some(disk), room)
    }
}

/// Space on the disk that holds `folder`, and whether it can be written to.
pub fn disk(folder: &Path) -> io::Result<Disk> {
    let found = statvfs(folder)?;
    Ok(Disk {
        free: found.f_bavail.saturating_mul(found.f_frsize),
        total: found.f_blocks.saturating_mul(found.f_frsize),
        // ext4 with errors=remount-ro, as on the boxes, comes to this when a card fails.
        read_only: found.f_flag.contains(StatVfsMountFlags::RDONLY),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MB: u64 = 1_000_000;
    const LIMITS: Limits = Limits { warn_below: 200 * MB, stop_below: 20 * MB };

    fn box_with(free: u64) -> Disk {
        Disk { free, total: 5_700 * MB, read_only: false }
    }

    #[test]
    fn a_box_is_low_below_200_mb_and_closes_below_20() {
        assert!(!LIMITS.is_low(box_with(200 * MB)) && LIMITS.is_low(box_with(200 * MB - 1)));
        assert!(LIMITS.has_room(true, box_with(20 * MB)) && !LIMITS.has_room(true, box_with(20 * MB - 1)));
        assert!(!LIMITS.has_room(false, box_with(30 * MB - 1)) && LIMITS.has_room(false, box_with(30 * MB)));
    }

    #[test]
    fn on_a_small_disk_a_share_of_it_decides() {
        let disk = |free| Disk { free, total: 100 * MB, read_only: false };
        assert!(!LIMITS.is_low(disk(20 * MB)) && LIMITS.is_low(disk(20 * MB - 1)));
        assert!(LIMITS.has_room(true, disk(5 * MB)) && !LIMITS.has_room(true, disk(5 * MB - 1)));
    }

    #[test]
    fn the_kernel_tells_of_a_disk_and_not_of_none() {
        let found = disk(Path::new("/")).unwrap();
        assert!(found.total >= found.free);
        let nowhere = DiskSpace::new("/nonexistent".into(), LIMITS);
        assert_eq!(nowhere.look(), (None, true));
        // More room than any disk has; so a twentieth of this one decides.
        let limits = Limits { warn_below: u64::MAX, stop_below: u64::MAX };
        let space = DiskSpace::new("/".into(), limits);
        assert_eq!(space.look().1, found.free >= found.total / STOP_SHARE);
    }

    proptest! {
        #[test]
        fn more_room_never_closes_and_what_closes_is_low(
            warn_below: u64, stop_below: u64, total: u64, free: u64, more: u64, had_room: bool
        ) {
            let limits = Limits { warn_below, stop_below };
            let disk = |free: u64| Disk { free: free.min(total), total, read_only: false };
            let (less, more) = (disk(free), disk(free.saturating_add(more)));
            let room = |disk| limits.has_room(had_room, disk);
            prop_assert!(!room(less) || room(more));
            prop_assert!(limits.has_room(true, less) || !limits.has_room(false, less));
            prop_assert!(limits.has_room(true, less) || limits.is_low(less));
        }
    }
}
