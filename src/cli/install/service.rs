//! The service on the machine that runs: under systemd, or under its init script.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::files::{Failure, Root};
use super::overlay::{ACCOUNT, INIT_SCRIPT, LOGS, RETRY_UNIT, RUN, UNIT, UNIT_FILE};
use super::plan::AtBoot;
use super::sandbox::Refusal;
use crate::logging::mask_numbers;

/// Where programs of root are looked for: nothing of the caller's environment reaches the service.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Exists while systemd runs (`sd_booted(3)`).
const SYSTEMD_RUNS: &str = "/run/systemd/system";

/// Keeps systemd from restarting a bot that is tried seldom; see `usr/local/lib/bot-kjp/retry`.
const TRIED_SELDOM: &str = "run/systemd/system/bot-kjp.service.d/50-tried-seldom.conf";

/// The link that `systemctl enable` makes.
const WANTED: &str = "etc/systemd/system/multi-user.target.wants/bot-kjp.service";

/// Units that come with the bot.
const UNITS: [&str; 4] = [UNIT, "bot-kjp-retry.timer", RETRY_UNIT, "bot-kjp-loosen.service"];

/// Folders of System V runlevels and the links that `update-rc.d defaults` makes in them.
const RUNLEVELS: [(&str, &str); 7] = [
    ("etc/rc0.d", "K01bot-kjp"),
    ("etc/rc1.d", "K01bot-kjp"),
    ("etc/rc2.d", "S01bot-kjp"),
    ("etc/rc3.d", "S01bot-kjp"),
    ("etc/rc4.d", "S01bot-kjp"),
    ("etc/rc5.d", "S01bot-kjp"),
    ("etc/rc6.d", "K01bot-kjp"),
];

/// Lines of the log that are repeated to the operator.
const LAST_LINES: usize = 12;

/// Bytes of a log file that are looked at for them.
const TAIL_BYTES: usize = 64 * 1024;

/// How the process stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    Stopped,
    Starting,
    Running {
        pid: u32,
    },
    /// systemd could not make its sandbox; `bot-kjp-loosen.service` takes off what is in the way and starts
    /// it again.
    Refused(Refusal),
    /// It ended, and is started again later or not.
    Failed(String),
}

/// Who keeps the bot running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    Systemd,
    InitScript,
}

impl Manager {
    /// Of the machine that this process runs on.
    pub fn here() -> Self {
        if Path::new(SYSTEMD_RUNS).is_dir() { Self::Systemd } else { Self::InitScript }
    }

    /// Of the machine in a folder.
    fn in_folder(root: &Root) -> Self {
        let systemd = ["usr/lib/systemd/systemd", "lib/systemd/systemd"];
        if systemd.iter().any(|path| root.exists(path)) { Self::Systemd } else { Self::InitScript }
    }

    pub fn of(root: &Root) -> Self {
        if root.is_this_machine() { Self::here() } else { Self::in_folder(root) }
    }

    /// Whether it starts at boot.
    pub fn at_boot(self, root: &Root) -> AtBoot {
        let enabled = match self {
            Self::Systemd => root.exists(WANTED),
            Self::InitScript => {
                let linked = RUNLEVELS.iter().any(|(folder, _)| !links(root, folder, 'S').is_empty());
                let named = ["etc/inittab", "etc/init.d/rcS", "etc/rc.local"].iter().any(|file| {
                    root.read_text(file).is_ok_and(|text| {
                        let commands = text.lines().filter(|line| !line.trim_start().starts_with('#'));
                        commands.into_iter().any(|line| line.contains(INIT_SCRIPT))
                    })
                });
                let possible = root.exists("etc/rc2.d");
                if !linked && !named && !possible {
                    return AtBoot::ByHand;
                }
                linked || named
            }
        };
        if enabled { AtBoot::Enabled } else { AtBoot::Disabled }
    }

    /// Makes it start at boot.
    ///
    /// # Errors
    /// The system's program refused, or the links cannot be made.
    pub fn enable(self, root: &Root) -> Result<(), Failure> {
        match self {
            Self::Systemd if root.is_this_machine() => {
                // It reads the unit's file itself; systemd does so in `read_files`.
                succeed("systemctl", &["--quiet", "--no-reload", "enable", UNIT])
            }
            Self::Systemd => link(root, WANTED, &format!("/{UNIT_FILE}")),
            Self::InitScript => {
                if root.is_this_machine() && has("update-rc.d") {
                    return succeed("update-rc.d", &[ACCOUNT, "defaults"]);
                }
                for (folder, name) in RUNLEVELS {
                    if root.exists(folder) {
                        link(root, &format!("{folder}/{name}"), "../init.d/bot-kjp")?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Undoes [`Manager::enable`]; whether there was anything to undo.
    ///
    /// # Errors
    /// The system's program refused, or the links cannot be removed.
    pub fn disable(self, root: &Root) -> Result<bool, Failure> {
        let mut found = root.exists(WANTED);
        if found && self == Self::Systemd && root.is_this_machine() {
            succeed("systemctl", &["--quiet", "disable", UNIT])?;
        }
        root.remove(WANTED)?;
        for (folder, _) in RUNLEVELS {
            for name in ['S', 'K'].into_iter().flat_map(|kind| links(root, folder, kind)) {
                found |= root.remove(&format!("{folder}/{name}"))?;
            }
        }
        Ok(found)
    }

    /// Lets the service manager of this machine read its files again, if one of them is another than it knows.
    ///
    /// # Errors
    /// It cannot be asked.
    pub fn read_files(self) -> Result<(), Failure> {
        match self {
            Self::Systemd if !knows_its_files() => self.read_all_files(),
            Self::Systemd | Self::InitScript => Ok(()),
        }
    }

    /// Lets the service manager of this machine read its files again, whatever it says of them: it does not look
    /// into a folder for drop-ins that was not there when it read them last.
    ///
    /// # Errors
    /// It cannot be asked.
    pub fn read_all_files(self) -> Result<(), Failure> {
        match self {
            Self::Systemd => succeed("systemctl", &["daemon-reload"]),
            Self::InitScript => Ok(()),
        }
    }

    /// Starts it, anew if it runs, and does not wait for it.
    ///
    /// # Errors
    /// The service manager cannot be asked. A bot that ends at once is no error here.
    pub fn start(self, root: &Root) -> Result<(), Failure> {
        match self {
            Self::Systemd => {
                root.remove(TRIED_SELDOM)?;
                self.read_files()?;
                // What failed before does not count against the one that is started now.
                let _ = run("systemctl", &["reset-failed", UNIT]);
                // Not restarted: nobody could tell the old process from the new one meanwhile.
                succeed("systemctl", &["stop", UNIT])?;
                succeed("systemctl", &["--no-block", "start", UNIT])
            }
            Self::InitScript => {
                let script = root.path(INIT_SCRIPT);
                let output = run(&script.display().to_string(), &["restart"])?;
                // 1: it was started, and ended at once; its standing tells.
                match output.status.code() {
                    Some(0 | 1) => Ok(()),
                    _ => Err(refused(&script.display().to_string(), &output)),
                }
            }
        }
    }

    /// Stops it.
    ///
    /// # Errors
    /// It does not stop.
    pub fn stop(self, root: &Root) -> Result<(), Failure> {
        match self {
            Self::Systemd => {
                root.remove(TRIED_SELDOM)?;
                succeed("systemctl", &["stop", UNIT])
            }
            Self::InitScript => succeed(&root.path(INIT_SCRIPT).display().to_string(), &["stop"]),
        }
    }

    /// [`Manager::standing`], [`Manager::start`] and [`Manager::stop`] on this machine.
    pub fn standing_here(self) -> Standing {
        self.standing(&Root::new(Path::new("/")))
    }

    /// # Errors
    /// As [`Manager::start`].
    pub fn start_here(self) -> Result<(), Failure> {
        self.start(&Root::new(Path::new("/")))
    }

    /// # Errors
    /// As [`Manager::stop`].
    pub fn stop_here(self) -> Result<(), Failure> {
        self.stop(&Root::new(Path::new("/")))
    }

    /// Lets systemd forget what was removed.
    pub fn forget(self) {
        if self == Self::Systemd {
            let _ = run("systemctl", &["daemon-reload"]);
            let _ = run("systemctl", &["reset-failed", UNIT]);
        }
    }

    pub fn standing(self, root: &Root) -> Standing {
        match self {
            Self::Systemd => {
                let properties = "ActiveState,SubState,MainPID,Result,NRestarts,ExecMainStatus";
                match run("systemctl", &["show", UNIT, "--property", properties]) {
                    Ok(output) => of_systemd(&String::from_utf8_lossy(&output.stdout)),
                    Err(error) => Standing::Failed(error.to_string()),
                }
            }
            Self::InitScript => {
                let state = root.read_text(&format!("{RUN}/state")).unwrap_or_default();
                let pid =
                    |file: &str| root.read_text(&format!("{RUN}/{file}")).ok()?.trim().parse::<u32>().ok();
                let lives = |pid: &u32| Path::new(&format!("/proc/{pid}")).exists();
                let supervised = pid("supervise.pid").filter(lives).is_some();
                of_supervisor(supervised, &state, pid("bot-kjp.pid").filter(lives))
            }
        }
    }

    /// The last lines that the bot wrote, without personal numbers and without pairing codes.
    pub fn last_lines(self, root: &Root) -> Vec<String> {
        let text = match self {
            Self::Systemd => {
                run("journalctl", &["--unit", UNIT, "--output", "cat", "--no-pager", "--lines", "200"])
                    .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
                    .unwrap_or_default()
            }
            Self::InitScript => {
                let own = format!("{LOGS}/bot-kjp.log");
                [own.as_str(), "var/log/syslog", "var/log/messages"]
                    .iter()
                    .filter_map(|file| fs::read(root.path(file)).ok())
                    .map(|bytes| {
                        let tail = &bytes[bytes.len().saturating_sub(TAIL_BYTES)..];
                        String::from_utf8_lossy(tail).into_owned()
                    })
                    .find(|text| text.contains(ACCOUNT))
                    .unwrap_or_default()
            }
        };
        // A code is made of blocks.
        let readable = |line: &&str| !line.trim().is_empty() && !line.contains(['█', '▀', '▄']);
        let lines: Vec<&str> = text.lines().filter(readable).collect();
        let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
        last.iter().map(|line| mask_numbers(line).into_owned()).collect()
    }
}

/// Whether the process runs from the file that is at `path` now, and not from one that was replaced.
pub fn runs_from(pid: u32, path: &Path) -> bool {
    let same = |executable: fs::Metadata, file: fs::Metadata| {
        (executable.dev(), executable.ino()) == (file.dev(), file.ino())
    };
    match (fs::metadata(format!("/proc/{pid}/exe")), fs::metadata(path)) {
        (Ok(executable), Ok(file)) => same(executable, file),
        _ => false,
    }
}

/// Whether systemd has read the units as they are on the disk now, and not made one of its own of the init script. To
/// have it read everything again takes a slow box seconds.
fn knows_its_files() -> bool {
    let properties = ["show", "--property", "LoadState,NeedDaemonReload,SourcePath"];
    let shown = run("systemctl", &[&properties[..], &UNITS].concat());
    shown.is_ok_and(|output| output.status.success() && all_known(&String::from_utf8_lossy(&output.stdout)))
}

/// `shown`: these properties of each of [`UNITS`]. What a generator made has a source.
fn all_known(shown: &str) -> bool {
    let lines = |line: &str| shown.lines().filter(|shown| *shown == line).count();
    ["LoadState=loaded", "NeedDaemonReload=no", "SourcePath="].iter().all(|line| lines(line) == UNITS.len())
}

fn of_systemd(properties: &str) -> Standing {
    let value = |name: &str| {
        properties.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default()
    };
    let pid = value("MainPID").parse::<u32>().unwrap_or(0);
    let failed = || match Refusal::of_status(value("ExecMainStatus")) {
        Some(refusal) => Standing::Refused(refusal),
        None => Standing::Failed(format!("{}, exit code {}", value("Result"), value("ExecMainStatus"))),
    };
    match (value("ActiveState"), value("SubState")) {
        (_, "auto-restart") => failed(),
        ("failed", _) => failed(),
        ("active", _) if pid > 0 => Standing::Running { pid },
        // It is on its second life already.
        ("activating", _) if value("NRestarts") != "0" => failed(),
        ("activating" | "reloading" | "deactivating", _) => Standing::Starting,
        _ => Standing::Stopped,
    }
}

fn of_supervisor(supervised: bool, state: &str, bot: Option<u32>) -> Standing {
    let state = state.trim();
    match (supervised, bot) {
        (true, _) if state.starts_with("failed") => {
            Standing::Failed(state.trim_start_matches("failed").trim().to_owned())
        }
        (_, Some(pid)) => Standing::Running { pid },
        (true, None) => Standing::Starting,
        (false, None) => Standing::Stopped,
    }
}

/// Names of the bot's links of this kind (S or K) in a runlevel's folder.
fn links(root: &Root, folder: &str, kind: char) -> Vec<String> {
    let Ok(entries) = fs::read_dir(root.path(folder)) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    // S01bot-kjp
    let ours = |name: &String| {
        let number = name.strip_prefix(kind).and_then(|rest| rest.strip_suffix(ACCOUNT));
        number.is_some_and(|number| number.len() == 2 && number.bytes().all(|b| b.is_ascii_digit()))
    };
    names.filter(ours).collect()
}

fn link(root: &Root, path: &str, to: &str) -> Result<(), Failure> {
    let full = root.path(path);
    if root.exists(path) {
        return Ok(());
    }
    let made = full.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| symlink(to, &full));
    made.map_err(|error| Failure::new(full, error))
}

fn has(program: &str) -> bool {
    PATH.split(':').any(|folder| Path::new(folder).join(program).is_file())
}

pub fn run(program: &str, arguments: &[&str]) -> Result<Output, Failure> {
    let mut command = Command::new(program);
    // As service(8) does.
    command.args(arguments).env_clear().env("PATH", PATH).env("LANG", "C.UTF-8").stdin(Stdio::null());
    if program == "systemctl" {
        // Else it has the init script's runlevels set as well, by a program in Perl, for which a slow box takes
        // seconds; nothing but the unit counts where systemd runs.
        command.env("SYSTEMCTL_SKIP_SYSV", "1");
    }
    command.output().map_err(|error| Failure::new(program, error))
}

fn succeed(program: &str, arguments: &[&str]) -> Result<(), Failure> {
    let output = run(program, arguments)?;
    if output.status.success() { Ok(()) } else { Err(refused(program, &output)) }
}

fn refused(program: &str, output: &Output) -> Failure {
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Failure::new(program, io::Error::other(format!("{}: {said}", output.status)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_says_becomes_a_standing() {
        let ended = |status: u8, active: &str, sub: &str, restarts: u32| {
            of_systemd(&format!(
                "Result=exit-code\nNRestarts={restarts}\nExecMainStatus={status}\nMainPID=42\nActiveState={active}\nSubState={sub}\n"
            ))
        };
        let shown = |active: &str, sub: &str, restarts| ended(78, active, sub, restarts);
        assert_eq!(shown("active", "running", 0), Standing::Running { pid: 42 });
        assert_eq!(shown("activating", "start", 0), Standing::Starting);
        let failed = Standing::Failed("exit-code, exit code 78".to_owned());
        assert_eq!(shown("activating", "auto-restart", 1), failed);
        assert_eq!(shown("activating", "start", 1), failed);
        assert_eq!(shown("failed", "failed", 0), failed);
        assert_eq!(ended(217, "failed", "failed", 0), Standing::Refused(Refusal::User));
        assert_eq!(ended(226, "activating", "auto-restart", 1), Standing::Refused(Refusal::Namespace));
        assert_eq!(ended(226, "active", "running", 1), Standing::Running { pid: 42 });
        assert_eq!(shown("inactive", "dead", 0), Standing::Stopped);
        assert_eq!(of_systemd(""), Standing::Stopped);
    }

    #[test]
    fn systemd_reads_its_files_again_only_when_one_of_them_is_another() {
        let known = "SourcePath=\nLoadState=loaded\nNeedDaemonReload=no\n";
        let changed = "SourcePath=\nLoadState=loaded\nNeedDaemonReload=yes\n";
        let missing = "SourcePath=\nLoadState=not-found\nNeedDaemonReload=no\n";
        let of_the_init_script = "SourcePath=/etc/init.d/bot-kjp\nLoadState=loaded\nNeedDaemonReload=no\n";
        assert!(all_known(&[known; UNITS.len()].join("\n")));
        for other in [changed, missing, of_the_init_script] {
            assert!(!all_known(&[known, other, known, known].join("\n")), "{other}");
        }
        assert!(!all_known(""));
    }

    #[test]
    fn what_the_supervisor_wrote_becomes_a_standing() {
        assert_eq!(of_supervisor(true, "running\n", Some(7)), Standing::Running { pid: 7 });
        assert_eq!(of_supervisor(true, "running\n", None), Standing::Starting);
        assert_eq!(
            of_supervisor(true, "failed bot-kjp ended with exit code 74\n", None),
            Standing::Failed("bot-kjp ended with exit code 74".to_owned())
        );
        assert_eq!(of_supervisor(false, "", None), Standing::Stopped);
    }

    #[test]
    fn a_runlevel_is_enabled_by_its_link_or_by_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let manager = Manager::of(&root);
        assert_eq!((manager, manager.at_boot(&root)), (Manager::InitScript, AtBoot::ByHand));
        for (runlevel, _) in RUNLEVELS {
            fs::create_dir_all(root.path(runlevel)).unwrap();
        }
        assert_eq!(manager.at_boot(&root), AtBoot::Disabled);
        manager.enable(&root).unwrap();
        manager.enable(&root).unwrap();
        assert_eq!(manager.at_boot(&root), AtBoot::Enabled);
        assert_eq!(links(&root, "etc/rc2.d", 'S'), ["S01bot-kjp"]);
        assert!(manager.disable(&root).unwrap() && !manager.disable(&root).unwrap());
        assert_eq!(manager.at_boot(&root), AtBoot::Disabled);
        fs::write(root.path("etc/inittab"), "# ::once:/etc/init.d/bot-kjp start\n").unwrap();
        assert_eq!(manager.at_boot(&root), AtBoot::Disabled);
        fs::write(root.path("etc/inittab"), "::once:/etc/init.d/bot-kjp start\n").unwrap();
        assert_eq!(manager.at_boot(&root), AtBoot::Enabled);
    }

    #[test]
    fn systemd_in_a_folder_is_enabled_by_its_link() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        fs::create_dir_all(root.path("lib/systemd")).unwrap();
        fs::write(root.path("lib/systemd/systemd"), "").unwrap();
        let manager = Manager::of(&root);
        assert_eq!((manager, manager.at_boot(&root)), (Manager::Systemd, AtBoot::Disabled));
        manager.enable(&root).unwrap();
        let target = fs::read_link(root.path(WANTED)).unwrap();
        assert_eq!(target, Path::new("/usr/local/lib/systemd/system/bot-kjp.service"));
        assert_eq!(manager.at_boot(&root), AtBoot::Enabled);
    }
}
