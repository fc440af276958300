//! What the kernel says about the process.

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::facts::Memory;

/// The process's memory; `None` where the kernel does not tell.
pub fn memory() -> Option<Memory> {
    // The file is made by the kernel and has about 1,500 bytes.
    parse_memory(&fs::read_to_string("/proc/self/status").ok()?)
}

/// `VmRSS` and `RssAnon` of proc_pid_status(5). Kernels before 4.5 have no `RssAnon`; the box's has.
fn parse_memory(status: &str) -> Option<Memory> {
    let bytes = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1024)
    };
    Some(Memory { resident: bytes("VmRSS")?, anonymous: bytes("RssAnon")?, heap: heap() })
}

/// In a build for the test bed every allocation is counted.
#[cfg(feature = "danger-accept-test-bed")]
#[global_allocator]
static HEAP: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

#[cfg(feature = "danger-accept-test-bed")]
fn heap() -> Option<u64> {
    u64::try_from(HEAP.current_usage()).ok()
}

#[cfg(not(feature = "danger-accept-test-bed"))]
fn heap() -> Option<u64> {
    None
}

/// CPU time of all threads of the process since its start.
pub fn cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_the_kernels_lines() {
        let status = "Name:\tbot-kjp\nVmPeak:\t  200000 kB\nVmRSS:\t    9876 kB\nRssAnon:\t    1234 kB\n";
        let expected = Memory { resident: 9876 * 1024, anonymous: 1234 * 1024, heap: None };
        let found = parse_memory(status).map(|memory| Memory { heap: None, ..memory });
        assert_eq!(found, Some(expected));
        assert_eq!(parse_memory("VmRSS:\t9876 kB\n"), None);
        assert_eq!(parse_memory("VmRSS:\t9876\nRssAnon:\t1 kB"), None);
    }

    #[test]
    fn the_kernel_tells_about_this_very_process() {
        let memory = memory().unwrap();
        assert!(memory.resident >= memory.anonymous && memory.anonymous > 0);
        assert!(cpu() > Duration::ZERO);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(status in "(VmRSS|RssAnon|[:\t\n ]|kB|[0-9]{1,25}|\\PC){0,12}") {
            let _ = parse_memory(&status);
        }
    }
}
