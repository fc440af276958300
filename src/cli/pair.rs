//! `pair` on a box: the running service holds the database, and its folder belongs to its user.
//!
//! Root says `bot-kjp pair`; the service is stopped, the pairing is done by a child that is the
//! folder's owner, and the service is started again, however the pairing ended.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use async_signal::{Signal, Signals};

use super::exit_code::ExitCode;
use super::install::{Failure, Manager, Standing, service_installed, wording};

/// Pairs as the owner of `data_folder` if this is root and that is not, and gives that process's
/// exit code; `None`: there is nothing to hand over.
///
/// # Errors
/// The service does not stop, or the child does not start.
pub fn as_owner(data_folder: &Path) -> Result<Option<ExitCode>, Failure> {
    let Ok(folder) = std::fs::metadata(data_folder) else { return Ok(None) };
    if !rustix::process::geteuid().is_root() || folder.uid() == 0 {
        return Ok(None);
    }
    let program = std::env::current_exe().map_err(|error| Failure::new("this program", error))?;
    let manager = Manager::here();
    let installed = service_installed();
    let paused = installed && manager.standing_here() != Standing::Stopped;
    // From here on whoever closes the terminal ends the child only: the service has to come back.
    let _signals = Signals::new([Signal::Int, Signal::Hup, Signal::Term])
        .map_err(|error| Failure::new("signals", error))?;
    if paused {
        manager.stop_here()?;
        say(wording::SERVICE_PAUSED);
    }
    let ended = Command::new(&program)
        .args(std::env::args_os().skip(1))
        .uid(folder.uid())
        .gid(folder.gid())
        .status()
        .map_err(|error| Failure::new(program, error));
    if paused {
        match manager.start_here() {
            Ok(()) => say(wording::SERVICE_RESUMED),
            Err(error) => {
                log::error!("pair: {error}");
                say(&wording::service_not_resumed(manager));
            }
        }
    }
    let ended = ended?;
    if installed && !paused && ended.success() {
        say(&wording::service_still_stopped(manager));
    }
    // A child that was killed, as by Ctrl-C before it was up, has nothing to say.
    let code = ExitCode::ALL.into_iter().find(|code| Some(i32::from(*code as u8)) == ended.code());
    Ok(Some(code.unwrap_or(ExitCode::Temporary)))
}

/// The terminal may be closed.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
