//! Whether what is written into a folder is still there after the box was switched off.
//!
//! Armbian's configuration tool offers to protect the card by an overlay whose upper layer is memory
//! (overlayroot): everything works, and at the next boot the WhatsApp session is back at keys that were used
//! long ago, and registrations that were confirmed are gone.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{statfs, statvfs};

/// Where the kernel tells what is mounted (proc_pid_mountinfo(5)).
const MOUNTS: &str = "/proc/self/mountinfo";

/// `f_type` of statfs(2).
const OVERLAY: u64 = 0x794c_7630;
const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58f6;

/// Block devices of memory.
const MEMORY_DEVICES: [&str; 2] = ["/dev/zram", "/dev/ram"];

/// What becomes of a folder's files when the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// As far as can be told, they stay.
    Lasting,
    /// They are in memory.
    Volatile,
    /// It is an overlay, and what lies below it cannot be seen from here.
    Unknown,
}

/// A folder as the kernel describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileSystem {
    kind: u64,
    /// The file system's number; of an overlay, on most kernels that of its upper layer. 0: it has none.
    number: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    at: PathBuf,
    kind: String,
    source: String,
    /// Of an overlay: where its upper layer was when it was mounted.
    upper: Option<PathBuf>,
    number: u64,
}

/// What becomes of the files in a folder. A folder that is not there yet is judged by the one that it will be
/// in.
pub fn of(folder: &Path) -> Persistence {
    let Some(folder) = folder.ancestors().find_map(|folder| fs::canonicalize(folder).ok()) else {
        return Persistence::Unknown;
    };
    let Ok(found) = statfs(&folder) else { return Persistence::Unknown };
    // Its width differs between machines; a file system's number has 32 bits.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let kind = u64::from(found.f_type as u32);
    let file_system = FileSystem { kind, number: number(&folder) };
    let mounts = mounts(&fs::read_to_string(MOUNTS).unwrap_or_default(), number);
    judge(&folder, file_system, &mounts)
}

fn number(path: &Path) -> u64 {
    statvfs(path).map_or(0, |found| found.f_fsid)
}

fn judge(folder: &Path, file_system: FileSystem, mounts: &[Mount]) -> Persistence {
    match file_system.kind {
        TMPFS | RAMFS => Persistence::Volatile,
        OVERLAY => {
            let below = mounts
                .iter()
                .filter(|mount| mount.kind != "overlay")
                .find(|mount| file_system.number != 0 && mount.number == file_system.number);
            let upper =
                || mount_of(folder, mounts)?.upper.as_deref().and_then(|upper| mount_of(upper, mounts));
            match below.or_else(upper) {
                Some(mount) if mount.kind != "overlay" => mount.persistence(),
                _ => Persistence::Unknown,
            }
        }
        _ => mount_of(folder, mounts).map_or(Persistence::Lasting, Mount::persistence),
    }
}

/// The mount that a path lies on. Of several at one place the last one is seen.
fn mount_of<'a>(path: &Path, mounts: &'a [Mount]) -> Option<&'a Mount> {
    let over = mounts.iter().filter(|mount| path.starts_with(&mount.at));
    over.max_by_key(|mount| mount.at.components().count())
}

impl Mount {
    fn persistence(&self) -> Persistence {
        let in_memory = matches!(self.kind.as_str(), "tmpfs" | "ramfs" | "rootfs")
            || MEMORY_DEVICES.iter().any(|device| self.source.starts_with(device));
        if in_memory { Persistence::Volatile } else { Persistence::Lasting }
    }
}

/// Reads what the kernel says of the mounts; a line that says nothing of use is passed over.
fn mounts(text: &str, number: impl Fn(&Path) -> u64) -> Vec<Mount> {
    let mount = |line: &str| {
        let (place, about) = line.split_once(" - ")?;
        let at = PathBuf::from(unescaped(place.split(' ').nth(4)?));
        let mut about = about.split(' ');
        let (kind, source, options) = (about.next()?.to_owned(), unescaped(about.next()?), about.next()?);
        let upper = options.split(',').find_map(|option| option.strip_prefix("upperdir="));
        let upper = upper.map(|upper| PathBuf::from(unescaped(upper)));
        Some(Mount { number: number(&at), at, kind, source, upper })
    };
    text.lines().filter_map(mount).collect()
}

/// Spaces and the like are written as a backslash and three octal digits.
fn unescaped(text: &str) -> String {
    [(r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", r"\")]
        .iter()
        .fold(text.to_owned(), |text, (written, meant)| text.replace(written, meant))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXT4: u64 = 0xef53;

    fn judged(folder: &str, kind: u64, number: u64, lines: &[&str]) -> Persistence {
        // The mounts are numbered 1, 2, 3 …
        let numbers = std::cell::Cell::new(0);
        let number_of = |_: &Path| {
            numbers.set(numbers.get() + 1);
            numbers.get()
        };
        let mounts = mounts(&lines.join("\n"), number_of);
        judge(Path::new(folder), FileSystem { kind, number }, &mounts)
    }

    const ROOT: &str = "25 1 179:1 / / rw,noatime shared:1 - ext4 /dev/mmcblk0p1 rw,commit=120";
    const DATA: &str = "/var/lib/bot-kjp";

    #[test]
    fn a_card_lasts_and_memory_does_not() {
        assert_eq!(judged(DATA, EXT4, 1, &[ROOT]), Persistence::Lasting);
        assert_eq!(judged(DATA, TMPFS, 9, &[ROOT]), Persistence::Volatile);
        assert_eq!(judged(DATA, RAMFS, 0, &[]), Persistence::Volatile);
        let zram = "40 25 252:1 / /var/lib rw shared:9 - ext4 /dev/zram1 rw";
        assert_eq!(judged(DATA, EXT4, 2, &[ROOT, zram]), Persistence::Volatile);
        assert_eq!(judged("/var/library", EXT4, 1, &[ROOT, zram]), Persistence::Lasting);
    }

    #[test]
    fn of_an_overlay_the_upper_layer_decides_by_its_number_or_by_its_place() {
        let overlay = "22 1 0:20 / / rw shared:1 - overlay overlayroot rw,lowerdir=/media/root-ro,\
                       upperdir=/media/root-rw/overlay,workdir=/media/root-rw/overlay-workdir/_";
        let tmpfs = "30 22 0:19 / /media/root-rw rw shared:2 - tmpfs tmpfs-root rw";
        let card = "30 22 0:19 / /media/root-rw rw shared:2 - ext4 /dev/sda1 rw";
        // By the number, wherever the upper layer was once mounted.
        assert_eq!(judged(DATA, OVERLAY, 2, &[overlay, tmpfs]), Persistence::Volatile);
        assert_eq!(judged(DATA, OVERLAY, 2, &[overlay, card]), Persistence::Lasting);
        // By the place, where the kernel gives overlays a number of their own, or none.
        for number in [0, 77] {
            assert_eq!(judged(DATA, OVERLAY, number, &[overlay, tmpfs]), Persistence::Volatile);
            assert_eq!(judged(DATA, OVERLAY, number, &[overlay, card]), Persistence::Lasting);
        }
        // Nothing of it is visible, as in a container.
        assert_eq!(judged(DATA, OVERLAY, 77, &[overlay]), Persistence::Unknown);
        assert_eq!(judged(DATA, OVERLAY, 0, &[]), Persistence::Unknown);
    }

    #[test]
    fn places_with_spaces_are_understood() {
        let spaced = r"40 25 0:30 / /mnt/a\040b\134 rw - tmpfs none rw";
        assert_eq!(judged(r"/mnt/a b\", EXT4, 0, &[ROOT, spaced]), Persistence::Volatile);
    }

    #[test]
    fn this_machines_memory_is_known_for_what_it_is() {
        assert_eq!(of(Path::new("/dev/shm/not/there/yet")), Persistence::Volatile);
    }
}
