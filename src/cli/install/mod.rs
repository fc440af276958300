//! `bot-kjp install` and `uninstall`: brings the box into the state that this version wants and
//! back. The program carries all that `rootfs/` holds.
//!
//! ```text
//! look ─▶ plan (pure: what differs → steps) ─▶ perform, step by step ─▶ wait until it is well
//!                                                                         └▶ else put all back
//! ```
//!
//! Nothing is stopped before the new file is in place, and a second run finds nothing to do. Settings
//! and data belong to the operator.

mod account;
mod files;
mod health;
mod overlay;
mod plan;
mod sandbox;
mod service;
pub mod wording;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use thiserror::Error;

use crate::cli::exit_code::ExitCode;
use crate::config::environment_file::{self, EnvironmentFile};
use crate::config::{Config, ConfigError, Overrides};
use crate::persistence::{self, Persistence};
use account::Ids;
pub use files::Failure;
use files::{Kept, Root, numbers};
use health::Unwell;
use overlay::{
    DATA, EXAMPLE, FILES, FOLDERS, INIT_SCRIPT, Keeper, LOGS, Owner, PREVIOUS, PROGRAM, PROGRAM_MODE, RUN,
    SETTINGS,
};
use plan::{Found, Need, Service, State, Step, plan};
use sandbox::DROP_INS;
pub use sandbox::{Loosened, Refusal};
pub use service::{Manager, Standing};
use wording::Outcome;

/// Space that must be left after the new files are written, in bytes: the bot itself warns below 200
/// MB, and a database that grows must not meet a disk that an update has filled.
const SPACE_LEFT: u64 = 32 * 1024 * 1024;

/// The file that this process runs from, whatever became of its name.
pub const THIS_PROGRAM: &str = "/proc/self/exe";

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Why it is not installed, or not well.
#[derive(Debug, Error)]
pub enum InstallError {
    #[error("only root can install and uninstall")]
    NotRoot,
    #[error("another install or uninstall is at work")]
    Busy,
    #[error("{} has {free} bytes free, {needed} are needed; nothing was changed", .folder.display())]
    NoSpace { folder: PathBuf, needed: u64, free: u64 },
    #[error("{0}")]
    Configuration(#[from] ConfigError),
    #[error("{} is in memory; what the bot stores there would be gone when the power is; nothing was changed", .0.display())]
    Volatile(PathBuf),
    #[error("{0}")]
    Failure(#[from] Failure),
    #[error("the new process is not well: {why}")]
    Unwell { why: Unwell, last_lines: Vec<String>, outcome: Outcome },
}

impl InstallError {
    /// What the operator has to know and do, in Indonesian.
    pub fn advice(&self) -> String {
        match self {
            Self::NotRoot => wording::ONLY_ROOT.to_owned(),
            Self::Busy => wording::BUSY.to_owned(),
            Self::NoSpace { needed, free, .. } => wording::no_space(*needed, *free),
            Self::Configuration(_) => wording::CONFIGURATION.to_owned(),
            Self::Volatile(_) => wording::volatile(),
            Self::Failure(_) => wording::FAILED.to_owned(),
            Self::Unwell { why, last_lines, outcome } => wording::unhealthy(why, last_lines, outcome),
        }
    }

    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::NotRoot => ExitCode::NotPermitted,
            Self::Busy => ExitCode::Temporary,
            Self::NoSpace { .. } => ExitCode::CannotCreate,
            Self::Configuration(error) => ExitCode::of_config(error),
            Self::Volatile(_) => ExitCode::Configuration,
            Self::Failure(failure) => ExitCode::of_io(&failure.cause),
            Self::Unwell { .. } => ExitCode::Unhealthy,
        }
    }
}

/// Installs this very program below `folder`, and starts it there if that is this machine and
/// `start`. What is done is said on `out`.
///
/// # Errors
/// [`InstallError`]; a new version that is not well is replaced by the one before.
pub fn install(folder: &Path, start: bool, out: &mut dyn Write) -> Result<(), InstallError> {
    let root = Root::new(folder);
    let _lock = begin(&root)?;
    let program = std::fs::read(THIS_PROGRAM).map_err(|error| Failure::new(THIS_PROGRAM, error))?;
    let manager = Manager::of(&root);
    let found = look(&root, manager, &program)?;
    let plan = plan(&found, start);
    if !plan.steps.is_empty() {
        check_space(&root, &program)?;
    }
    // A version that does not understand the settings is not put in place.
    let settings = configuration(&root)?.settings;
    let (page, data) = (settings.health.listen, settings.data);
    if root.is_this_machine() && persistence::of(&data.folder) == Persistence::Volatile && !data.volatile {
        return Err(InstallError::Volatile(data.folder));
    }

    let mut undo = Vec::new();
    let (mut report, mut other_drop_ins) = (None, false);
    for step in &plan.steps {
        match step {
            Step::Write(file) if file.keeper == Keeper::Version => undo.push(root.keep(file.path)?),
            Step::TakeOff(_) | Step::GiveBack(_) => other_drop_ins = true,
            Step::Start => {
                say(out, wording::WAITING);
                if other_drop_ins {
                    manager.read_all_files()?;
                }
                manager.start(&root)?;
                let well = health::wait(manager, &root, page, Some(VERSION));
                report = well.map_err(|why| give_up(&root, manager, &found, &undo, why))?;
            }
            _ => {}
        }
        perform(&root, manager, step, &program)?;
        say(out, &wording::done(step));
    }
    if root.is_this_machine() && !plan.steps.is_empty() && !plan.steps.contains(&Step::Start) {
        match other_drop_ins {
            true => manager.read_all_files()?,
            false => manager.read_files()?,
        }
    }
    // What asking the kernel did not show, and was seen when it was started.
    if root.is_this_machine()
        && let Some(Loosened { directives, until_boot: true }) = Loosened::here()
        && !plan.steps.is_empty()
    {
        say(out, &wording::taken_off_until_boot(&directives));
    }
    for note in &plan.notes {
        say(out, &wording::note(*note));
    }
    let runs = found.service == Service::Running || plan.steps.contains(&Step::Start);
    if plan.steps.contains(&Step::SwitchProgram) && root.exists(PREVIOUS) {
        say(out, &wording::previous());
    }
    let last = match (plan.steps.is_empty(), root.is_this_machine(), runs) {
        (true, _, true) => wording::nothing_to_do(VERSION),
        (true, _, false) => wording::nothing_to_do_stopped(VERSION),
        (false, false, _) => wording::in_folder(&folder.display().to_string()),
        (false, true, false) => wording::not_started(manager),
        (false, true, true) => wording::next(report.as_ref()),
    };
    say(out, &last);
    Ok(())
}

/// Stops the bot and removes what [`install`] brought; with `purge` also settings, data and account.
///
/// # Errors
/// [`InstallError`]; what was removed before the error stays removed, and a second run goes on.
pub fn uninstall(folder: &Path, purge: bool, out: &mut dyn Write) -> Result<(), InstallError> {
    let root = Root::new(folder);
    let _lock = begin(&root)?;
    let manager = Manager::of(&root);
    let mut any = false;
    if root.is_this_machine() && root.exists(INIT_SCRIPT) && manager.standing(&root) != Standing::Stopped {
        manager.stop(&root)?;
        say(out, wording::STOPPED);
        any = true;
    }
    if manager.disable(&root)? {
        say(out, wording::DISABLED);
        any = true;
    }
    let ours = FILES.iter().filter(|file| file.keeper == Keeper::Version).map(|file| file.path);
    let mut paths: Vec<&str> = ours.chain([PROGRAM, PREVIOUS]).collect();
    paths.push(RUN);
    paths.extend(DROP_INS.iter().flat_map(|drop_in| [drop_in.lasting, drop_in.until_boot]));
    if purge {
        paths.extend([SETTINGS, "etc/bot-kjp", "etc/default/bot-kjp", DATA, LOGS]);
    }
    for path in paths {
        if root.remove(path)? {
            say(out, &wording::removed(path));
            any = true;
        }
    }
    for folder in ["usr/local/lib/bot-kjp", "usr/share/doc/bot-kjp", "usr/local/lib/systemd/system"] {
        root.remove_if_empty(folder);
    }
    for drop_in in &DROP_INS {
        drop_in.remove_folders_if_empty(&root);
    }
    if root.is_this_machine() {
        manager.forget();
    }
    if purge && account::find(&root)?.is_some() {
        account::remove(&root)?;
        say(out, wording::ACCOUNT_REMOVED);
        any = true;
    }
    let last = match (any, purge) {
        (false, _) => wording::NOT_INSTALLED.to_owned(),
        (true, false) => wording::kept(),
        (true, true) => wording::PURGED.to_owned(),
    };
    say(out, &last);
    Ok(())
}

/// Whether the service is installed on this machine.
pub fn service_installed() -> bool {
    let root = Root::new(Path::new("/"));
    root.exists(PROGRAM) && root.exists(INIT_SCRIPT)
}

/// Whether the user that the bot runs as is there; if that cannot be told, it is.
pub fn account_exists() -> bool {
    account::find(&Root::new(Path::new("/"))).map_or(true, |account| account.is_some())
}

/// Only one at a time, and only as root.
fn begin(root: &Root) -> Result<File, InstallError> {
    if !rustix::process::geteuid().is_root() {
        return Err(InstallError::NotRoot);
    }
    // A folder that every machine has, and one that is being built will have.
    let folder = root.path("etc");
    let opened = std::fs::create_dir_all(&folder).and_then(|()| File::open(&folder));
    let opened = opened.map_err(|error| Failure::new(&folder, error))?;
    match rustix::fs::flock(&opened, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(opened),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(InstallError::Busy),
        Err(error) => Err(Failure::new(folder, error.into()).into()),
    }
}

/// What is on the box.
fn look(root: &Root, manager: Manager, program: &[u8]) -> Result<Found, Failure> {
    let account = account::find(root)?;
    // Nothing belongs to an account that does not exist.
    let nobody = Ids { user: u32::MAX, group: u32::MAX };
    let ids = |owner| numbers(owner, account.unwrap_or(nobody));
    let example_before = root.read_text(EXAMPLE)?;
    let settings = root.read_text(SETTINGS)?;

    let folders = FOLDERS.iter().map(|folder| {
        Ok(match root.owned(folder.path, folder.mode, ids(folder.owner))? {
            None => State::Missing,
            // Whoever copies the data back from another card copies it as root.
            Some(true)
                if folder.owner == Owner::Bot && !root.content_owned(folder.path, ids(folder.owner))? =>
            {
                State::WrongOwner
            }
            Some(true) => State::Same,
            Some(false) => State::WrongOwner,
        })
    });
    let files = FILES.iter().map(|file| {
        let content = file.content();
        let state = root.compare(file.path, content.as_bytes(), file.mode, ids(file.owner))?;
        match (file.keeper, state) {
            // The content is the operator's affair, who may read it is not.
            (Keeper::Operator, State::Differs)
                if root.owned(file.path, file.mode, ids(file.owner))? == Some(false) =>
            {
                Ok(State::WrongOwner)
            }
            (_, state) => Ok(state),
        }
    });
    let (folders, files) = (folders.collect::<Result<_, _>>()?, files.collect::<Result<_, _>>()?);
    let installed = root.compare(PROGRAM, program, PROGRAM_MODE, numbers(Owner::Root, nobody))?;
    let service = match manager {
        _ if !root.is_this_machine() => Service::Elsewhere,
        manager => match manager.standing(root) {
            Standing::Running { pid } if service::runs_from(pid, &root.path(PROGRAM)) => Service::Running,
            _ => Service::NotRunning,
        },
    };
    let drop_ins = DROP_INS.iter().map(|drop_in| {
        let (content, mode, ids) = (drop_in.content.as_bytes(), sandbox::MODE, numbers(Owner::Root, nobody));
        Ok(Need {
            refused: match manager {
                Manager::Systemd if root.is_this_machine() => sandbox::refuses(drop_in.namespace),
                Manager::Systemd | Manager::InitScript => None,
            },
            lasting: root.compare(drop_in.lasting, content, mode, ids)?,
            until_boot: root.exists(drop_in.until_boot),
        })
    });
    Ok(Found {
        account: account.is_some(),
        folders,
        files,
        settings_untouched: root.exists(EXAMPLE) && settings == example_before,
        example_changed: root.exists(EXAMPLE) && example_before != crate::config::example(),
        program: installed,
        drop_ins: drop_ins.collect::<Result<_, Failure>>()?,
        at_boot: manager.at_boot(root),
        service,
    })
}

fn check_space(root: &Root, program: &[u8]) -> Result<(), InstallError> {
    let new = program.len() as u64 + FILES.iter().map(|file| file.content().len() as u64).sum::<u64>();
    for (path, needed) in [(PROGRAM, new + SPACE_LEFT), (DATA, SPACE_LEFT)] {
        let free = root.free(path)?;
        if free < needed {
            return Err(InstallError::NoSpace { folder: root.path(path), needed, free });
        }
    }
    Ok(())
}

/// The settings as the service there has them.
fn configuration(root: &Root) -> Result<Config, ConfigError> {
    let environment = EnvironmentFile::read(&root.path(environment_file::PATH.trim_start_matches('/')));
    let file = Some(root.path(SETTINGS)).filter(|path| path.exists());
    Config::load(&Overrides { file, data_folder: None }, &|name| environment.get(name))
}

fn perform(root: &Root, manager: Manager, step: &Step, program: &[u8]) -> Result<(), Failure> {
    // Whoever needs the account comes after the step that creates it.
    let ids = |owner| -> Result<(u32, u32), Failure> {
        match (owner, account::find(root)?) {
            (owner, Some(account)) => Ok(numbers(owner, account)),
            (Owner::Root, None) => Ok((0, 0)),
            (_, None) => Err(Failure::new(overlay::ACCOUNT, io::Error::other("the account is missing"))),
        }
    };
    match step {
        Step::CreateAccount => account::create(root),
        Step::MakeFolder(folder) => root.make_folder(folder.path, folder.mode, ids(folder.owner)?),
        Step::CorrectFolder(folder) => {
            root.correct(folder.path, folder.mode, ids(folder.owner)?)?;
            match folder.owner {
                Owner::Bot => root.correct_content(folder.path, ids(folder.owner)?),
                Owner::Root | Owner::RootForBot => Ok(()),
            }
        }
        Step::Write(file) => root.write(file.path, file.content().as_bytes(), file.mode, ids(file.owner)?),
        Step::Correct(file) => root.correct(file.path, file.mode, ids(file.owner)?),
        Step::SwitchProgram => root.switch_program(program),
        Step::CorrectProgram => root.correct(PROGRAM, PROGRAM_MODE, (0, 0)),
        Step::TakeOff(drop_in) => drop_in.put(root),
        Step::GiveBack(drop_in) => drop_in.remove(root),
        Step::Enable => manager.enable(root),
        // Done by the caller, who waits for it.
        Step::Start => Ok(()),
    }
}

/// Puts everything back as it was, but for what the kernel refuses, which no version gets; starts the version
/// before, and tells what became of it.
fn give_up(root: &Root, manager: Manager, found: &Found, undo: &[Kept], why: Unwell) -> InstallError {
    let last_lines = manager.last_lines(root);
    if found.program == State::Missing {
        return InstallError::Unwell { why, last_lines, outcome: Outcome::FirstInstall };
    }
    let back = || -> Result<Result<(), Unwell>, Failure> {
        for kept in undo {
            root.put_back(kept)?;
        }
        if found.program == State::Differs {
            root.switch_program_back()?;
        }
        manager.start(root)?;
        // Its settings may be such that only it understands them; without its page it is enough that
        // it runs.
        let page = configuration(root).ok().and_then(|config| config.settings.health.listen);
        Ok(health::wait(manager, root, page, None).map(|_| ()))
    };
    let outcome = match back() {
        Ok(Ok(())) => Outcome::RolledBack,
        Ok(Err(unwell)) => Outcome::RolledBackUnwell(unwell),
        Err(failure) => Outcome::RolledBackUnwell(Unwell::Ended(failure.to_string())),
    };
    InstallError::Unwell { why, last_lines, outcome }
}

/// Whoever listens may have gone; the work goes on.
fn say(out: &mut dyn Write, line: &str) {
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
