//! Whether the process that was just started is well: it runs from the installed file, answers on
//! its status page with its own version, and still does some seconds later.
//!
//! Well does not mean connected: a bot that nobody has linked yet, or whose line is down, is.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::files::Root;
use super::overlay::PROGRAM;
use super::service::{Manager, Standing, runs_from};
use crate::cli::status::Status;
use crate::clock;
use crate::watch::report::Report;

/// Longest wait: it takes two seconds on a box at rest; one that checks its disk after a power cut
/// takes longer.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// How long it must stay well, which is longer than the pause before a restart.
const STEADY: Duration = Duration::from_secs(7);

/// Between two looks: so many times what the first of them took, for a look asks the service manager, which keeps
/// a slow box from starting what is looked at …
const LOOK_SHARE: u32 = 4;
/// … but at least, and at most.
const LOOK: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(5);

/// Why it is not well.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unwell {
    /// It ended; how, in English.
    #[error("it ended: {0}")]
    Ended(String),
    /// It did not become well in time; what was seen last, in English.
    #[error("it was not well in time: {0}")]
    TooLate(String),
}

/// Waits until it is well. `version`: what it must answer; `None`: any. The report is that of its
/// status page, if it has one.
///
/// # Errors
/// It ended, or was not well in time.
pub fn wait(
    manager: Manager,
    root: &Root,
    page: Option<SocketAddr>,
    version: Option<&str>,
) -> Result<Option<Report>, Unwell> {
    let deadline = clock::now() + PATIENCE;
    let mut well: Option<(u32, Instant)> = None;
    loop {
        let begun = clock::now();
        let seen = look(manager, root, page, version);
        let pause = (clock::since(begun) * LOOK_SHARE).clamp(*LOOK.start(), *LOOK.end());
        let (pid, report) = match seen {
            Ok(seen) => seen,
            Err(Seen::Ended(how)) => return Err(Unwell::Ended(how)),
            Err(Seen::NotYet(what)) => {
                if clock::now() >= deadline {
                    return Err(Unwell::TooLate(what));
                }
                well = None;
                thread::sleep(pause);
                continue;
            }
        };
        match well {
            Some((same, since)) if same == pid => {
                if clock::since(since) >= STEADY {
                    return Ok(report);
                }
            }
            Some(_) => return Err(Unwell::Ended("it was started a second time".to_owned())),
            None => well = Some((pid, clock::now())),
        }
        thread::sleep(pause);
    }
}

enum Seen {
    Ended(String),
    NotYet(String),
}

fn look(
    manager: Manager,
    root: &Root,
    page: Option<SocketAddr>,
    version: Option<&str>,
) -> Result<(u32, Option<Report>), Seen> {
    let pid = match manager.standing(root) {
        Standing::Running { pid } => pid,
        Standing::Failed(how) => return Err(Seen::Ended(how)),
        Standing::Refused(refusal) => return Err(Seen::NotYet(refusal.to_string())),
        Standing::Starting => return Err(Seen::NotYet("it is still starting".to_owned())),
        Standing::Stopped => return Err(Seen::NotYet("it does not run".to_owned())),
    };
    if !runs_from(pid, &root.path(PROGRAM)) {
        return Err(Seen::NotYet(format!("process {pid} does not run the installed file")));
    }
    let Some(page) = page else { return Ok((pid, None)) };
    let report = Status::ask(Some(page)).map_err(|error| Seen::NotYet(error.to_string()))?.report;
    match version {
        Some(version) if report.version != version => {
            Err(Seen::NotYet(format!("version {} answers at {page}", report.version)))
        }
        _ => Ok((pid, Some(report))),
    }
}
