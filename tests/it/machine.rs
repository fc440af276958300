//! A machine of its own for tests that install: its own processes, network, `/etc`, `/usr/local`,
//! `/var` and `/run`, on this machine's kernel and programs. No systemd runs in it. What happens in it
//! does not outlive it.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::Duration;

use bot_kjp::clock;
use tempfile::TempDir;

use super::bot::{DEADLINE, command, program};

/// Where a bot is carried to a box.
pub const CARRIED: &str = "/root/bot-kjp.new";

/// Which programs the machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Programs {
    /// Debian's, with dash.
    Debian,
    /// Nothing but busybox, whose shell is ash.
    Busybox,
}

/// Whether it has a network of its own, in which nobody answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    Own,
    Shared,
}

pub struct Machine {
    holder: Child,
    init: u32,
    /// Holds busybox's programs.
    _folder: TempDir,
}

/// Makes the machine's folders. `$1`: a folder for busybox's programs, or nothing; `$2`: anything if
/// the network is its own; `$3`: where its `/etc` is made; `$4`: its `/var`, which lasts on every machine.
const SETUP: &str = r#"
set -e
mount --make-rprivate /
[ -z "$2" ] || ip link set lo up
mkdir "$3"
mount -t tmpfs tmpfs "$3"
cp -a /etc/. "$3"
mount --bind "$3" /etc
mkdir "$4"
mount --bind "$4" /var
for folder in /usr/local /usr/share/doc /run /root; do mount -t tmpfs -o mode=755 tmpfs "$folder"; done
mkdir -p /var/lib /var/log /var/tmp
if [ -n "$1" ]; then
    mkdir "$1"
    cp "$(command -v busybox)" "$1/busybox"
    for name in $("$1/busybox" --list); do [ -e "$1/$name" ] || ln -s busybox "$1/$name"; done
    mount --bind "$1" /usr/bin
    mount --bind "$1" /usr/sbin
fi
echo ready
while :; do sleep 1; done
"#;

impl Machine {
    /// Needs real root, as users, owners and namespaces do.
    pub fn start(programs: Programs, network: Network) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder");
        let busybox = match programs {
            Programs::Debian => String::new(),
            Programs::Busybox => folder.path().join("bin").display().to_string(),
        };
        let mut unshare = command("unshare", None);
        unshare.args(["--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--ipc", "--uts"]);
        if network == Network::Own {
            unshare.arg("--net");
        }
        let own_network = if network == Network::Own { "yes" } else { "" };
        let place = |name| folder.path().join(name).display().to_string();
        let (etc, var) = (place("etc"), place("var"));
        unshare.args(["--", "sh", "-c", SETUP, "machine", &busybox, own_network, &etc, &var]);
        unshare.env("PATH", PATH);
        let mut holder = unshare.spawn().expect("a machine of its own");
        let mut said = BufReader::new(holder.stdout.take().expect("stdout is piped"));
        let mut line = String::new();
        said.read_line(&mut line).expect("the machine speaks");
        if line.trim() != "ready" {
            let _ = holder.kill();
            let output = holder.wait_with_output().expect("it ends");
            panic!("no machine, which only root can make: {}", String::from_utf8_lossy(&output.stderr));
        }
        // setpriv and unshare become one process; its child is the machine's first.
        let children = format!("/proc/{0}/task/{0}/children", holder.id());
        let init = fs::read_to_string(children).expect("children").trim().parse().expect("one child");
        Self { holder, init, _folder: folder }
    }

    /// The path of a file of the machine, as seen from outside.
    pub fn path(&self, path: &str) -> PathBuf {
        Path::new(&format!("/proc/{}/root", self.init)).join(path.trim_start_matches('/'))
    }

    /// Its network, for programs outside of it.
    pub fn network(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.init).into()
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    pub fn write(&self, path: &str, text: &str) {
        fs::write(self.path(path), text).unwrap_or_else(|e| panic!("{path}: {e}"));
    }

    /// Owner, group and mode.
    pub fn owner(&self, path: &str) -> (String, String, u32) {
        let shown = self.run(&["stat", "-c", "%U %G %a", path]);
        let text = String::from_utf8(shown.stdout).expect("UTF-8");
        let mut words = text.split_whitespace();
        let mut word = || words.next().unwrap_or_else(|| panic!("{path}: {text:?}")).to_owned();
        let (user, group, mode) = (word(), word(), word());
        (user, group, u32::from_str_radix(&mode, 8).expect("a mode"))
    }

    /// Carries a program to the machine, changed by `change`, as an operator copies a new version.
    pub fn carry(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut program = fs::read(program()).expect("the bot");
        change(&mut program);
        let mut original = tempfile::NamedTempFile::new().expect("a file");
        original.write_all(&program).expect("it is written");
        fs::set_permissions(original.path(), Permissions::from_mode(0o755)).expect("its mode");
        // Not written here: a child that another test starts at this moment would hold it open for
        // writing, and nobody could run it (ETXTBSY).
        let file = self.path(CARRIED);
        let _ = fs::remove_file(&file);
        let copied = Command::new("cp").arg("-p").arg(original.path()).arg(&file).status();
        assert!(copied.expect("cp runs").success());
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = command("nsenter", None);
        command
            .args(["--target", &self.init.to_string(), "--mount", "--pid", "--net", "--uts", "--ipc", "--"])
            .args(words)
            .env("PATH", PATH);
        command
    }

    pub fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("a command")
    }

    /// Runs something that must succeed, and gives what it printed.
    pub fn done(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(
            output.status.success(),
            "{words:?}: {}\n{}{}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
            self.log()
        );
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// The exit code and all that was printed.
    pub fn tried(&self, words: &[&str]) -> (i32, String) {
        let output = self.run(words);
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
    }

    /// The service's log: there is no syslog here.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("/var/log/bot-kjp/bot-kjp.log")).unwrap_or_default()
    }

    /// The process in a file below `/run/bot-kjp`, by the machine's own number, if it is there.
    pub fn pid(&self, file: &str) -> Option<u32> {
        fs::read_to_string(self.path(&format!("/run/bot-kjp/{file}"))).ok()?.trim().parse().ok()
    }

    pub fn kill(&self, signal: &str, pid: u32) {
        self.done(&["sh", "-c", &format!("kill -{signal} {pid}")]);
    }

    pub fn lives(&self, pid: u32) -> bool {
        // Of a process that nobody has waited for yet, the line is empty.
        fs::read(self.path(&format!("/proc/{pid}/cmdline"))).is_ok_and(|line| !line.is_empty())
    }

    /// Waits until `seen` sees something.
    pub fn until<T>(&self, what: &str, mut seen: impl FnMut() -> Option<T>) -> T {
        let deadline = clock::now() + DEADLINE;
        loop {
            if let Some(value) = seen() {
                return value;
            }
            assert!(clock::now() < deadline, "no {what} within {DEADLINE:?}; the log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for the bot's process, another one than `last`.
    pub fn next_bot(&self, last: u32) -> u32 {
        self.until("next bot", || self.pid("bot-kjp.pid").filter(|pid| *pid != last && self.lives(*pid)))
    }
}

/// As on a box.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
