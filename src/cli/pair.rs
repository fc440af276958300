//! `pair` on a box: the running service holds the database, and its folder belongs to its user.
//!
//! Root says `bot-kjp pair`; the service is stopped, the pairing is done by a child that is the
//! folder's owner, and the service is started again, however the pairing ended.

use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use async_signal::{Signal, Signals};

use super::exit_code::ExitCode;
use super::install::{Failure, Manager, Standing, THIS_PROGRAM, service_installed, wording};

/// Pairs as the owner of `data_folder` if this is root and that is not, and gives that process's
/// exit code; `None`: there is nothing to hand over.
///
/// # Errors
/// The service does not stop, or the child does not start.
pub fn as_owner(data_folder: &Path) -> Result<Option<ExitCode>, Failure> {
    let Ok(folder) = std::fs::metadata(data_folder) else { return Ok(None) };
    if !rustix::process::geteuid().is_root() || folder.uid() == 0 {
        // The child of below is called after the link, "exe": `killall bot-kjp` has to find it too.
        let _ = rustix::thread::set_name(c"bot-kjp");
        return Ok(None);
    }
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
    // Its path would be walked as the folder's owner, who may not enter root's home, where files that are
    // copied to a box lie. Through the link only the file itself has to be theirs to run.
    let mut arguments = std::env::args_os();
    let ended = Command::new(THIS_PROGRAM)
        .arg0(arguments.next().unwrap_or_else(|| "bot-kjp".into()))
        .args(arguments)
        .uid(folder.uid())
        .gid(folder.gid())
        .status()
        .map_err(|error| not_started(error, folder.uid()));
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

/// Says what to do if the owner of the folder may not run this program.
fn not_started(error: io::Error, owner: u32) -> Failure {
    let program = std::env::current_exe().unwrap_or_else(|_| THIS_PROGRAM.into());
    if error.kind() != io::ErrorKind::PermissionDenied {
        return Failure::new(program, error);
    }
    let mend = format!("{error}: user {owner}, who owns the data folder, may not run it; chmod 755 it");
    Failure::new(program, io::Error::new(error.kind(), mend))
}

/// The terminal may be closed.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
