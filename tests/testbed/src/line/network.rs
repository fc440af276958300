//! A network namespace that lives as long as somebody uses it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::geteuid;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// What must be installed, and Debian's package of it.
const PROGRAMS: [(&str, &str); 5] = [
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
];

/// A network namespace; clones are the same one. It ends with the last of them and the last process
/// and socket in it.
#[derive(Debug, Clone)]
pub struct Network(Arc<File>);

impl Network {
    /// A new one, empty and without a name. Its loopback interface is up.
    ///
    /// # Errors
    /// When this machine cannot: says what is missing.
    pub fn new() -> Result<Network> {
        check_requirements()?;
        // The child lives until the namespace is held open here; its echo says that it is in it.
        let mut child = Command::new("unshare")
            .args(["--net", "--", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("running unshare")?;
        let mut input = child.stdin.take().context("unshare has no input")?;
        let mut output = child.stdout.take().context("unshare has no output")?;
        let entered = input.write_all(b"\n").and_then(|()| output.read_exact(&mut [0]));
        let path = format!("/proc/{}/ns/net", child.id());
        let file = File::open(&path);
        drop((input, output));
        let ended = child.wait_with_output()?;
        if entered.is_err() || !ended.status.success() {
            let why = String::from_utf8_lossy(&ended.stderr).trim().to_owned();
            bail!(
                "the kernel gives no network namespace (is this a container without CAP_SYS_ADMIN?): {why}"
            );
        }
        let network = Network(Arc::new(file.with_context(|| format!("opening {path}"))?));
        network.run("ip", &["link", "set", "lo", "up"])?;
        Ok(network)
    }

    /// The one that the calling thread is in.
    ///
    /// # Errors
    /// When /proc is not mounted.
    pub fn here() -> Result<Network> {
        let path = "/proc/thread-self/ns/net";
        Ok(Network(Arc::new(File::open(path).with_context(|| format!("opening {path}"))?)))
    }

    /// Runs `act` on a thread of its own inside. Threads and sockets that it makes stay inside;
    /// processes too, but those with a death signal die when `act` returns: start them with
    /// [`Network::command`].
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn enter<T: Send>(&self, act: impl FnOnce() -> T + Send) -> Result<T> {
        let inside = || {
            move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))
                .context("entering a network namespace")?;
            Ok(act())
        };
        let joined = std::thread::scope(|scope| {
            std::thread::Builder::new()
                .name("in-a-network".into())
                .spawn_scoped(scope, inside)
                .map(|it| it.join())
        });
        match joined.context("starting a thread")? {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Where a program finds it, as long as this process holds it.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }

    /// A program to run inside. It is killed when the thread that starts it ends, however it ends,
    /// and Ctrl-C on the terminal does not reach it. Its process id is the child's.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--");
        command.args(["setpriv", "--pdeathsig", "KILL", "--"]).arg(program.as_ref());
        command.process_group(0);
        command
    }

    /// Runs a program inside to its end.
    pub(super) fn run(&self, program: &str, arguments: &[&str]) -> Result<()> {
        self.run_with_input(program, arguments, "")
    }

    /// The same with a text as its input.
    pub(super) fn run_with_input(&self, program: &str, arguments: &[&str], input: &str) -> Result<()> {
        let mut child = self
            .command(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("running {program}"))?;
        // What is written here fits into a pipe.
        let written = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output()?;
        ensure!(
            output.status.success() && matches!(written, Some(Ok(()))),
            "{program} {arguments:?} failed ({}): {} {input}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }
}

fn check_requirements() -> Result<()> {
    ensure!(cfg!(target_os = "linux"), "network namespaces need Linux");
    let path = std::env::var_os("PATH").unwrap_or_default();
    for (program, package) in PROGRAMS {
        let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
        ensure!(found, "{program} is not installed or not in PATH (Debian: apt-get install {package})");
    }
    match geteuid().is_root() {
        true => Ok(()),
        false => Err(anyhow!("network namespaces need root: run the tests as root or with sudo")),
    }
}
