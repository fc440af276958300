//! Emulated boxes: Debian's arm64 kernel in qemu, with the disk mounted as the TV boxes mount theirs.
//!
//! The test bed stays outside, so that WhatsApp's side and Supabase outlive a power cut. A program
//! in the box reaches what listens on this machine's loopback at [`HOST`], and nothing else.

mod booted;
mod disk;
mod files;
mod losing_disk;
mod monitor;

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::bot::child_command;
use crate::interrupt::{self, wait_until};

pub use booted::Booted;
pub use disk::Disk;
pub use files::Files;
pub use losing_disk::LosingDisk;
use monitor::Monitor;

/// This machine as the box sees it (qemu's user networking).
pub const HOST: &str = "10.0.2.2";

/// Memory of the box in MiB. The real ones have 2,048.
const MEMORY_MIB: u32 = 256;

/// Time that each instruction takes in a box that counts them: 2 ns, which is half a billion
/// instructions per second. The real ones run four Cortex-A53 at 1.2 GHz or more, which do at least
/// that each. (qemu: `shift` is the binary logarithm.)
const INSTRUCTION: &str = "shift=1,sleep=on";

/// The same as a rate.
pub const INSTRUCTIONS_PER_SECOND: f64 = 5e8;

/// From switching on until commands can be run: 3 s with busybox, 15 s with systemd on a machine
/// that does nothing else; ten times that where all other tests run.
const BOOT: Duration = Duration::from_secs(300);

/// How long a command in the box may take on a busy machine.
const COMMAND: Duration = Duration::from_secs(300);

/// The kernel isolates its page tables where its own place in memory is random, as qemu asks for, though a
/// Cortex-A53 needs no isolation. Each system call then changes the page table twice, and with each change qemu
/// forgets the addresses that it has translated.
const ONE_PAGE_TABLE: &str = "kpti=off";

const QEMU_PROGRAM: &str = "qemu-system-aarch64";

/// How long qemu may take to open its socket, to write the state of a box, and to end.
const QEMU: Duration = Duration::from_secs(30);

/// One look for an answer of the box.
const LOOK: Duration = Duration::from_millis(200);

/// Lines of the console that an error quotes.
const CONSOLE_TAIL: usize = 40;

/// What `shell.sh` puts before the exit code.
const SEPARATOR: u8 = 0x1e;

/// Longest answer of a command, in bytes.
const MAX_ANSWER: usize = 64 << 20;

/// What `scripts/box-parts` makes.
#[derive(Debug, Clone)]
pub struct Parts {
    folder: PathBuf,
}

impl Parts {
    /// # Errors
    /// When they are not made.
    pub fn find() -> Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/box/parts");
        ensure!(folder.join("key").exists(), "no parts of an emulated box; run scripts/box-parts");
        Ok(Self { folder: fs::canonicalize(folder)? })
    }

    fn kernel(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// The first file system alone: busybox and modules.
    pub fn first(&self) -> PathBuf {
        self.folder.join("first.cpio")
    }

    /// Private key that lets root in by ssh on Debian.
    pub fn ssh_key(&self) -> PathBuf {
        self.folder.join("ssh_key")
    }
}

/// How a box begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin<'a> {
    /// It is switched on.
    SwitchedOn,
    /// The same, and with busybox it waits for [`Machine::go_on`] before it looks at its disk; see
    /// [`Machine::wait_paused`].
    Pausing,
    /// It goes on from the state in this file, which [`Machine::keep`] has written.
    Kept(&'a Path),
}

/// Who is process 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Init {
    /// Busybox', in memory; the disk is `/var/lib`. Runs what `/etc/inittab` among the files says.
    Busybox,
    /// systemd of the Debian on the disk.
    Systemd,
}

/// What a machine is made of.
#[derive(Debug, Clone)]
pub struct Hardware<'a> {
    pub parts: &'a Parts,
    pub init: Init,
    /// First file system, from [`Files::first_file_system`] or [`Parts::first`].
    pub first: &'a Path,
    /// The file of its disk, or the socket of a [`LosingDisk`].
    pub disk: &'a Path,
    /// TCP ports of the box that shall be reachable from here.
    pub ports: &'a [u16],
    /// Whether time in the box goes by instructions, so that processor time read in it does not
    /// depend on this machine or on what else runs here: 2 ns each.
    pub counts_instructions: bool,
    /// What the clock says when it is switched on, as `1970-01-01T00:00:00`; the real time if none.
    pub clock: Option<&'a str>,
    /// Whether the kernel is given a seed for its random numbers. Without, there are none for a second or longer,
    /// until somebody waits for them.
    pub seed: bool,
    pub begin: Begin<'a>,
}

/// Where a machine is reached from outside.
#[derive(Debug)]
struct Ways {
    shell: PathBuf,
    monitor: PathBuf,
    /// Port of the box, and the one here that leads to it.
    ports: Vec<(u16, u16)>,
}

impl Hardware<'_> {
    /// qemu's arguments but for where it begins: a state that was kept fits only the same ones.
    fn arguments(&self, ways: &Ways) -> Vec<String> {
        let mut network = "user,id=network,ipv6=off".to_owned();
        for (inside, outside) in &ways.ports {
            network.push_str(&format!(",hostfwd=tcp:127.0.0.1:{outside}-:{inside}"));
        }
        let mut kernel_line = format!("console=ttyAMA0 quiet panic=-1 {ONE_PAGE_TABLE}");
        match self.init {
            Init::Systemd => kernel_line.push_str(" box.debian systemd.show_status=0"),
            Init::Busybox if self.begin != Begin::SwitchedOn => kernel_line.push_str(" box.pause"),
            Init::Busybox => {}
        }
        let memory = MEMORY_MIB.to_string();
        let kernel = self.parts.kernel().display().to_string();
        let first = self.first.display().to_string();
        // What the box did not flush is gone with qemu; what it did is in this machine's memory.
        let nbd =
            if self.disk.metadata().is_ok_and(|at| at.file_type().is_socket()) { "nbd:unix:" } else { "" };
        let drive = format!("file={nbd}{},format=raw,if=none,id=disk,cache=writeback", self.disk.display());
        // It waits for whoever asks: a box must not see its port closed when it goes on from a kept state.
        let shell = format!("socket,id=shell,path={},server=on,wait=on", ways.shell.display());
        let monitor = format!("unix:{},server=on,wait=off", ways.monitor.display());
        let mut arguments: Vec<String> = [
            ["-M", if self.seed { "virt" } else { "virt,dtb-randomness=off" }],
            ["-cpu", "cortex-a53"],
            ["-smp", "1"],
            ["-m", &memory],
            ["-display", "none"],
            ["-serial", "stdio"],
            ["-kernel", &kernel],
            ["-initrd", &first],
            ["-append", &kernel_line],
            ["-drive", &drive],
            ["-device", "virtio-blk-device,drive=disk"],
            ["-netdev", &network],
            ["-device", "virtio-net-device,netdev=network"],
            ["-device", "virtio-serial-device"],
            ["-chardev", &shell],
            ["-device", "virtserialport,chardev=shell,name=shell"],
            ["-monitor", &monitor],
        ]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect();
        arguments.extend(["-nodefaults", "-no-reboot"].map(str::to_owned));
        if self.counts_instructions {
            arguments.extend(["-icount", INSTRUCTION].map(str::to_owned));
        }
        if let Some(clock) = self.clock {
            arguments.extend(["-rtc".to_owned(), format!("base={clock},clock=vm")]);
        }
        arguments
    }
}

/// A machine that is switched on. Dropped, it loses power.
#[derive(Debug)]
pub struct Machine {
    qemu: Child,
    console: Arc<Mutex<String>>,
    shell: Mutex<UnixStream>,
    ways: Ways,
    switched_on: Instant,
    _folder: TempDir,
}

/// How a command in the box ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// What it printed on both streams.
    pub text: String,
    pub code: i32,
}

impl Machine {
    /// Switches a machine on; does not wait for it to boot.
    ///
    /// # Errors
    /// When qemu does not start (Debian: `qemu-system-arm`).
    pub fn start(hardware: &Hardware<'_>) -> Result<Self> {
        // Short: the path of a socket has at most 107 bytes.
        let folder = tempfile::Builder::new().prefix("box-").tempdir_in("/tmp")?;
        let ports = hardware.ports.iter().map(|&port| Ok((port, free_port()?))).collect::<Result<_>>()?;
        let (shell, monitor) = (folder.path().join("shell"), folder.path().join("monitor"));
        let ways = Ways { shell, monitor, ports };
        let mut qemu = child_command(Path::new(QEMU_PROGRAM));
        qemu.args(hardware.arguments(&ways));
        if let Begin::Kept(state) = hardware.begin {
            qemu.arg("-incoming").arg(format!("exec:cat {}", state.display()));
        }
        qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let switched_on = Instant::now();
        let mut qemu = qemu.spawn().context("cannot run qemu-system-aarch64 (Debian: qemu-system-arm)")?;
        let console = Arc::new(Mutex::new(String::new()));
        keep(qemu.stdout.take().context("qemu's output is not piped")?, console.clone());
        keep(qemu.stderr.take().context("qemu's errors are not piped")?, console.clone());
        let connected = wait_until("qemu to open its socket", QEMU, || {
            if let Some(status) = qemu.try_wait()? {
                bail!("qemu ended with {status}:\n{}", text_of(&console));
            }
            Ok(UnixStream::connect(&ways.shell).ok())
        });
        let shell = match connected {
            Ok(shell) => shell,
            Err(error) => {
                // Both fail only when it has ended already.
                let _ = qemu.kill();
                let _ = qemu.wait();
                return Err(error);
            }
        };
        shell.set_read_timeout(Some(LOOK))?;
        Ok(Self { qemu, console, shell: Mutex::new(shell), ways, switched_on, _folder: folder })
    }

    /// Waits until commands can be run. Returns what [`go_on`](Self::go_on) made it print on the way.
    ///
    /// # Errors
    /// When it does not boot; quotes the console.
    pub fn wait_booted(&self) -> Result<String> {
        self.wait_for_greeting("ready")
    }

    /// Waits until a box that is [`Begin::Pausing`] has come to the point before its disk.
    ///
    /// # Errors
    /// When it does not; quotes the console.
    pub fn wait_paused(&self) -> Result<()> {
        self.wait_for_greeting("paused").map(drop)
    }

    fn wait_for_greeting(&self, expected: &str) -> Result<String> {
        let answer = self.answer(&mut self.shell.lock().unwrap_or_else(PoisonError::into_inner), BOOT);
        let (before, greeting) = answer.context("the box does not boot").with_context(|| self.tail())?;
        ensure!(greeting == expected, "the box greets with {greeting:?}");
        Ok(before)
    }

    /// Writes the state of the box into a file: memory, processor and devices, but not its disk. It stands
    /// still from then on.
    ///
    /// # Errors
    /// When qemu cannot write it.
    pub fn keep(&self, file: &Path) -> Result<()> {
        Monitor::connect(&self.ways.monitor)?.keep(file)
    }

    /// Ends the standstill after [`keep`](Self::keep).
    ///
    /// # Errors
    /// When qemu cannot be told.
    pub fn resume(&self) -> Result<()> {
        Monitor::connect(&self.ways.monitor)?.resume()
    }

    /// Tells a box from a kept state the time, and bytes of this machine's random numbers.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn wake(&self) -> Result<()> {
        self.print(&here_and_now()?).map(drop)
    }

    /// Lets a paused box go on, be it the one that paused or one from its kept state, and
    /// [wakes](Self::wake) it. It then draws random numbers, for [`wait_booted`](Self::wait_booted) to
    /// return.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn go_on(&self) -> Result<()> {
        let line = format!("{}; head -c 16 /dev/urandom | base64 >&3\n", here_and_now()?);
        Ok(self.shell.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes())?)
    }

    /// Time since it was switched on.
    pub fn uptime(&self) -> Duration {
        self.switched_on.elapsed()
    }

    /// Runs a line of shell in the box as root.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn run(&self, command: &str) -> Result<Output> {
        self.run_for(command, COMMAND)
    }

    /// The same for a command that takes its time.
    ///
    /// # Errors
    /// When no answer comes before the deadline.
    pub fn run_for(&self, command: &str, deadline: Duration) -> Result<Output> {
        ensure!(!command.contains('\n'), "the box takes one line at a time");
        let mut shell = self.shell.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = shell
            .write_all(format!("{command}\n").as_bytes())
            .map_err(anyhow::Error::from)
            .and_then(|()| self.answer(&mut shell, deadline));
        let (text, code) =
            answer.with_context(|| format!("`{command}` in the box")).with_context(|| self.tail())?;
        Ok(Output { text, code: code.parse().with_context(|| format!("the box answers {code:?}"))? })
    }

    /// What a command prints that must end with 0.
    ///
    /// # Errors
    /// When it does not, or does not answer.
    pub fn print(&self, command: &str) -> Result<String> {
        let Output { text, code } = self.run(command)?;
        ensure!(code == 0, "`{command}` in the box ended with {code}:\n{text}");
        Ok(text)
    }

    /// Writes a file in the box.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &str, content: &[u8], mode: u32) -> Result<()> {
        use base64::Engine as _;
        let text = base64::prelude::BASE64_STANDARD.encode(content);
        self.print(&format!("echo {text} | base64 -d >{path} && chmod {mode:o} {path}")).map(drop)
    }

    /// Reads until the separator, then the line behind it.
    fn answer(&self, shell: &mut UnixStream, deadline: Duration) -> Result<(String, String)> {
        let until = Instant::now() + deadline;
        let mut bytes = Vec::new();
        let mut chunk = [0; 64 << 10];
        loop {
            if let Some(at) = bytes.iter().position(|&byte| byte == SEPARATOR)
                && bytes.ends_with(b"\n")
            {
                let code = String::from_utf8_lossy(&bytes[at + 1..]).trim().to_owned();
                bytes.truncate(at);
                return Ok((String::from_utf8_lossy(&bytes).into_owned(), code));
            }
            interrupt::check()?;
            match shell.read(&mut chunk) {
                Ok(0) => bail!("qemu hung up; it answered {:?}", String::from_utf8_lossy(&bytes)),
                Ok(read) => bytes.extend_from_slice(&chunk[..read]),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(error.into()),
            }
            ensure!(bytes.len() <= MAX_ANSWER, "the answer is longer than {MAX_ANSWER} bytes");
            ensure!(
                Instant::now() < until,
                "no end of the answer within {deadline:?}; so far: {:?}",
                String::from_utf8_lossy(&bytes)
            );
        }
    }

    /// Where a port of the box is reached on this machine's loopback.
    ///
    /// # Panics
    /// When the hardware has no such port.
    pub fn port(&self, inside: u16) -> u16 {
        let port = self.ways.ports.iter().find(|(port, _)| *port == inside);
        port.unwrap_or_else(|| panic!("port {inside} of the box is not forwarded")).1
    }

    /// What came on the serial console so far.
    pub fn console(&self) -> String {
        text_of(&self.console)
    }

    /// The end of the console, to be added to an error.
    fn tail(&self) -> String {
        let console = self.console();
        let lines: Vec<&str> = console.lines().collect();
        format!("the console ends with:\n{}", lines[lines.len().saturating_sub(CONSOLE_TAIL)..].join("\n"))
    }

    /// Takes the power away.
    ///
    /// # Errors
    /// When it had ended by itself before.
    pub fn power_cut(mut self) -> Result<()> {
        if let Some(status) = self.qemu.try_wait()? {
            bail!("the box was off already, qemu ended with {status}; {}", self.tail());
        }
        self.qemu.kill()?;
        self.qemu.wait()?;
        Ok(())
    }

    /// Shuts it down in good order and waits until it is off.
    ///
    /// # Errors
    /// When it does not end.
    pub fn shut_down(mut self) -> Result<()> {
        {
            let mut shell = self.shell.lock().unwrap_or_else(PoisonError::into_inner);
            shell.write_all(b"poweroff\n")?;
        }
        let ended = wait_until("the box to shut down", BOOT, || Ok(self.qemu.try_wait()?));
        ended.map(drop).with_context(|| self.tail())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// Reads a stream to its end on a thread of its own.
fn keep(stream: impl Read + Send + 'static, console: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        while stream.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&line);
            console.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
            line.clear();
        }
    });
}

fn text_of(console: &Mutex<String>) -> String {
    console.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// A port of the loopback that nobody has now.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Makes a kernel take in what was stirred into its random numbers: it does so when it wakes up, and in this
/// test of its own it wakes up as soon as it has frozen its processes (Documentation/power/basic-pm-debugging
/// in its sources).
const TAKE_IN: &str = "echo 0 >/sys/module/suspend/parameters/pm_test_delay; echo freezer >/sys/power/pm_test; \
                       echo freeze >/sys/power/state; echo none >/sys/power/pm_test";

/// A line of shell that tells a box from a kept state what it cannot know: the time, and bytes of this
/// machine's random numbers, without which all boxes from one state would draw the same.
fn here_and_now() -> Result<String> {
    use base64::Engine as _;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let random = base64::prelude::BASE64_STANDARD.encode(rand::random::<[u8; 32]>());
    Ok(format!("echo {random} >/dev/urandom; {TAKE_IN}; date -u -s @{now} >/dev/null"))
}

/// Runs a program of this machine that must end with 0.
fn run_here(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} ended with {}:\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output.stdout)
}
