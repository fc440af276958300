//! What Linux says about a running process, from `/proc`.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// Units of `utime` and `stime` in `/proc/PID/stat`; Linux has shown 100 to programs on every
/// architecture for decades, whatever the kernel's own tick (`man 5 proc`, USER_HZ).
const TICKS_PER_SECOND: f64 = 100.0;

/// A process at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Snapshot {
    /// Resident memory in KiB (VmRSS).
    pub resident_kib: u64,
    /// The part of it that no file backs (RssAnon): heap and stacks.
    pub anonymous_kib: u64,
    /// The most that was ever resident (VmHWM).
    pub peak_kib: u64,
    pub threads: u64,
    /// User and system time since the start, all threads, in steps of 10 ms.
    pub cpu_seconds: f64,
    /// The same of the threads alive now, in nanosecond steps: for the idle time, when no thread
    /// ends and 10 ms is too coarse.
    pub cpu_seconds_of_living_threads: f64,
    /// Bytes that were sent towards a disk. Stays 0 on file systems in memory.
    pub written_bytes: u64,
}

impl Snapshot {
    /// Reads `/proc/PID`; fails when the process has ended.
    pub fn of(pid: u32) -> Result<Self> {
        let read = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            fs::read_to_string(&path).with_context(|| format!("read {path}"))
        };
        let (status, stat, io) = (read("status")?, read("stat")?, read("io")?);
        Ok(Self {
            resident_kib: field(&status, "VmRSS")?,
            anonymous_kib: field(&status, "RssAnon")?,
            peak_kib: field(&status, "VmHWM")?,
            threads: field(&status, "Threads")?,
            cpu_seconds: ticks(&stat)? / TICKS_PER_SECOND,
            cpu_seconds_of_living_threads: living_threads(pid)?,
            written_bytes: field(&io, "write_bytes")?,
        })
    }
}

/// Between two looks at what the kernel keeps no highest value of.
const LOOK: Duration = Duration::from_millis(100);

/// The most anonymous memory that a process is seen to have. The kernel remembers only the highest of all that is
/// resident, the program's own file included.
pub(super) struct Peak {
    kib: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
    looking: Option<JoinHandle<()>>,
}

impl Peak {
    pub(super) fn watch(pid: u32) -> Self {
        let (kib, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (highest, over) = (kib.clone(), done.clone());
        let looking = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                // Once the process has ended there is nothing more to see.
                if let Ok(now) = Snapshot::of(pid) {
                    highest.fetch_max(now.anonymous_kib, Ordering::Relaxed);
                }
                std::thread::sleep(LOOK);
            }
        });
        Self { kib, done, looking: Some(looking) }
    }

    /// In KiB.
    pub(super) fn end(mut self) -> u64 {
        self.stop();
        self.kib.load(Ordering::Relaxed)
    }

    fn stop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(looking) = self.looking.take() {
            looking.join().expect("looking does not panic");
        }
    }
}

impl Drop for Peak {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Forgets the peak so far: `peak_kib` then counts from now (`man 5 proc`, clear_refs).
pub fn forget_peak(pid: u32) -> Result<()> {
    const RESET_PEAK: &str = "5";
    let path = format!("/proc/{pid}/clear_refs");
    fs::write(&path, RESET_PEAK).with_context(|| format!("write {path}"))
}

/// The number after `name:` in a file of `name: number [unit]` lines.
pub(super) fn field(text: &str, name: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let word = line.and_then(|rest| rest.split_whitespace().next());
    word.with_context(|| format!("no {name} line"))?.parse().with_context(|| format!("{name} is no number"))
}

/// utime + stime: fields 14 and 15, counted behind the program's name, which may hold anything.
fn ticks(stat: &str) -> Result<f64> {
    let (_, rest) = stat.rsplit_once(')').context("stat has no program name")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    ensure!(fields.len() > 12, "stat is too short");
    Ok(fields[11].parse::<f64>()? + fields[12].parse::<f64>()?)
}

fn living_threads(pid: u32) -> Result<f64> {
    let mut nanoseconds = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end between listing and reading; its time is then not ours to count.
        if let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) {
            nanoseconds += text.split_whitespace().next().context("empty schedstat")?.parse::<u64>()?;
        }
    }
    Ok(nanoseconds as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn a_program_name_with_brackets_and_spaces_does_not_shift_the_times() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194304 100 0 0 0 150 25 9 9 20 0 1 0 100 1000 10";
        assert_eq!(ticks(stat).unwrap(), 175.0);
    }

    #[test]
    fn work_of_this_process_shows_in_its_own_snapshot() {
        let before = Snapshot::of(std::process::id()).unwrap();
        let held: Vec<u8> = (0..32 << 20).map(|n| n as u8).collect();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let after = Snapshot::of(std::process::id()).unwrap();
            let busy = after.cpu_seconds - before.cpu_seconds;
            if busy >= 0.05 {
                assert!(after.peak_kib >= 32 << 10, "{after:?} with {} bytes held", held.len());
                assert!(after.threads >= 1 && after.resident_kib >= after.anonymous_kib);
                return;
            }
            assert!(Instant::now() < deadline, "busy for 20 s, yet only {busy} s counted");
        }
    }

    #[test]
    fn a_process_that_ended_is_an_error() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert!(Snapshot::of(child.id()).is_err());
    }
}
