//! The real bot as a child process: its folder, its terminal, its ledger.

use bot_kjp::clock;
use bot_kjp::persistence::{self, Persistence};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tempfile::TempDir;
use testbed::bot::{DatabaseCopy, copy_database, emulated, that_knows_the_test_bed};
use testbed::{Line, WhatsApp};

use super::disk::Disk;
use super::qr_camera;

/// Longest wait for anything that the bot should do; a passing test never waits that long.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Variable with the path of the bot for the box, if it is to be tested in an emulator instead.
const EMULATED: &str = "BOT_KJP_EMULATED";

/// A program that runs the box's bot here.
static EMULATOR: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let shipped = PathBuf::from(std::env::var_os(EMULATED)?);
    Some(that_knows_the_test_bed(&shipped).and_then(|bot| emulated(&bot)).expect("a bot for the box"))
});

/// The bot to test: the one built together with these tests, which accepts the test bed, or the one for the box.
pub fn program() -> PathBuf {
    EMULATOR.clone().unwrap_or_else(|| env!("CARGO_BIN_EXE_bot-kjp").into())
}

/// Whether the bot runs in an emulator, whose threads and memory would be counted as the bot's.
pub fn is_emulated() -> bool {
    EMULATOR.is_some()
}

/// A bot's command line without its arguments. What the developer's shell has set does not leak
/// into the bot, and the bot is killed when the thread that started it ends, however it ends: a
/// test program that is killed leaves none behind.
pub fn command(program: impl AsRef<OsStr>, network: Option<&Path>) -> Command {
    let mut command = match network {
        Some(network) => {
            let mut command = Command::new("nsenter");
            command.arg(format!("--net={}", network.display())).args(["--", "setpriv"]);
            command
        }
        None => Command::new("setpriv"),
    };
    command
        .args(["--pdeathsig", "KILL", "--"])
        .arg(program)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A data folder with its configuration.
pub struct Home {
    folder: TempDir,
    secrets: Vec<(String, String)>,
    /// The network namespace that its bots run in, if it is not this process's.
    network: Option<PathBuf>,
    /// What its bots find at /etc/hosts, if it is not this machine's.
    hosts: Option<PathBuf>,
    /// The disk that the data lies on, if it is one of its own.
    disk: Option<Disk>,
}

impl Home {
    /// A fresh folder whose bot dials `server` and answers as fast as it can.
    pub fn new(server: &WhatsApp) -> Self {
        Self::with(server, "")
    }

    /// The same with further lines of configuration.
    pub fn with(server: &WhatsApp, more: &str) -> Self {
        Self::at(&server.url(), more)
    }

    /// A fresh folder on a line of its own, whose bot dials what every bot dials.
    pub fn on(line: &Line, more: &str) -> Self {
        let home = Self::at("wss://web.whatsapp.com/ws/chat", more);
        Self { network: Some(line.home().path()), ..home }
    }

    /// The same with the data on a disk of its own.
    pub fn on_disk(server: &WhatsApp, disk: Disk, more: &str) -> Self {
        let home = Self::at(&server.url(), more);
        let file = home.path().join("config.toml");
        let config = std::fs::read_to_string(&file).expect("the configuration");
        let folder = |path: &Path| format!("{:?}", path.display().to_string());
        let config = config.replacen(&folder(home.path()), &folder(&disk.folder()), 1);
        std::fs::write(&file, config).expect("the configuration is written");
        Self { disk: Some(disk), ..home }
    }

    /// The disk that the data lies on.
    pub fn disk(&self) -> &Disk {
        self.disk.as_ref().expect("a disk of its own")
    }

    /// The data folder, as this process sees it.
    pub fn data(&self) -> PathBuf {
        self.disk.as_ref().map_or_else(|| self.path().to_path_buf(), Disk::outside_view)
    }

    fn at(url: &str, more: &str) -> Self {
        let usual = std::env::temp_dir();
        // Where that is in memory, no bot would work there.
        let lasts = persistence::of(&usual) != Persistence::Volatile;
        let parent = if lasts { usual } else { env!("CARGO_TARGET_TMPDIR").into() };
        let folder = tempfile::tempdir_in(parent).expect("a temporary folder");
        // Many bots live beside each other here, and some lose their connection more often than any bot
        // would.
        let mut more = more.to_owned();
        for (section, key) in [
            ("connection", "attempts_per_hour = 3600\nbackoff = [\"1s\"]"),
            ("health", "listen = \"off\""),
            ("log", "level = \"debug\""),
        ] {
            if !more.contains(&format!("[{section}]")) {
                more.push_str(&format!("\n[{section}]\n{key}\n"));
            }
        }
        let config = format!(
            "[data]\nfolder = {data:?}\n\n[whatsapp]\nurl = {url:?}\n\n\
             [outbox]\nper_chat_per_second = 100\ntotal_per_second = 100\n\n{more}",
            data = folder.path().display().to_string(),
        );
        std::fs::write(folder.path().join("config.toml"), config).expect("the configuration is written");
        Self { folder, secrets: Vec::new(), network: None, hosts: None, disk: None }
    }

    pub fn secret(&mut self, name: &str, value: &str) {
        self.secrets.push((name.to_owned(), value.to_owned()));
    }

    /// Gives the bots that start after this a hosts file of their own, which may be written to later.
    pub fn hosts_file(&mut self, text: &str) -> PathBuf {
        let file = self.path().join("hosts");
        std::fs::write(&file, text).expect("the hosts file is written");
        self.hosts = Some(file.clone());
        file
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Further lines of configuration, for the bots that start after this.
    pub fn add_to_config(&self, lines: &str) {
        let file = self.path().join("config.toml");
        let config = std::fs::read_to_string(&file).expect("the configuration");
        std::fs::write(file, config + lines).expect("the configuration is written");
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match &self.disk {
            None => match &self.hosts {
                None => command(program(), self.network.as_deref()),
                Some(hosts) => {
                    let mut command = command("unshare", self.network.as_deref());
                    let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
                    command.args(["--mount", "--", "sh", "-c", script]).arg(hosts).arg(program());
                    command
                }
            },
            Some(disk) => {
                let mut command = command("nsenter", None);
                command.arg(format!("--mount={}", disk.namespace().display())).arg("--").arg(program());
                command
            }
        };
        command
            .args(arguments)
            .arg("--config")
            .arg(self.path().join("config.toml"))
            .envs(self.secrets.iter().cloned());
        command
    }

    pub fn start(&self, arguments: &[&str]) -> Bot {
        Bot::start(self.command(arguments))
    }

    /// A bot that reads what is typed.
    pub fn start_with_keyboard(&self, arguments: &[&str]) -> Bot {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped());
        Bot::start(command)
    }

    /// A bot on a terminal of its own, where what is typed is shown too.
    pub fn start_on_terminal(&self, arguments: &[&str]) -> Bot {
        let line = self.command(arguments);
        let quoted = |part: &OsStr| format!("'{}'", part.to_str().expect("UTF-8"));
        let words: Vec<String> =
            std::iter::once(line.get_program()).chain(line.get_args()).map(quoted).collect();
        let mut command = command("script", None);
        command.args(["--quiet", "--return", "--command"]).arg(words.join(" ")).arg("/dev/null");
        command.envs(self.secrets.iter().cloned()).stdin(Stdio::piped());
        Bot::start(command)
    }

    /// What a command that ends by itself prints.
    pub fn output(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("the bot starts");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Links the bot to `phone` by the QR code that it shows.
    pub fn pair(&self, phone: &testbed::Handset) {
        let mut bot = self.start(&["pair"]);
        let qr = bot.wait_for_qr();
        phone.scan_qr(&qr).expect("the phone accepts the QR code");
        let status = bot.wait();
        assert!(status.success(), "pairing failed: {status}\n{}", bot.output());
    }

    /// A copy of the ledger as it lies on the disk now: the bot holds the original locked.
    pub fn ledger(&self) -> Ledger {
        Ledger { copy: copy_database(&self.data().join("bot-kjp.db")).expect("the ledger is copied") }
    }
}

/// A readable copy of a bot's database.
pub struct Ledger {
    copy: DatabaseCopy,
}

impl Ledger {
    pub fn count(&self, sql: &str) -> i64 {
        self.copy.connection.query_row(sql, [], |row| row.get(0)).unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    pub fn texts(&self, sql: &str) -> Vec<String> {
        let mut statement = self.copy.connection.prepare(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
        let rows = statement.query_map([], |row| row.get(0)).expect("rows");
        rows.map(|row| row.expect("text")).collect()
    }
}

/// A running bot; killed when dropped.
pub struct Bot {
    child: Child,
    keyboard: Option<ChildStdin>,
    screen: Arc<Screen>,
    readers: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Screen {
    lines: Mutex<Lines>,
    printed: Condvar,
}

/// What the bot has printed so far.
#[derive(Default)]
struct Lines {
    /// Both streams, as they came.
    all: Vec<String>,
    /// Standard output alone: a log line between two rows of a QR code would spoil it.
    stdout: Vec<String>,
}

impl Bot {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let screen = Arc::new(Screen::default());
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        let read = |stream: Box<dyn Read + Send>, is_stdout| {
            let screen = screen.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let mut lines = screen.lines.lock().unwrap();
                    if is_stdout {
                        lines.stdout.push(line.clone());
                    }
                    lines.all.push(line);
                    screen.printed.notify_all();
                }
            })
        };
        let readers = vec![read(Box::new(stdout), true), read(Box::new(stderr), false)];
        let keyboard = child.stdin.take();
        Self { child, keyboard, screen, readers }
    }

    /// Types a text, or pastes it, with Enter at its end.
    pub fn enter(&mut self, text: &str) {
        let keyboard = self.keyboard.as_mut().expect("it was started with a keyboard");
        keyboard.write_all(format!("{text}\n").as_bytes()).expect("the bot reads");
    }

    /// Nobody types any more.
    pub fn hang_up(&mut self) {
        self.keyboard = None;
    }

    /// Waits until `found` sees what it looks for in the lines printed so far.
    pub fn wait_for<T>(&self, what: &str, mut found: impl FnMut(&[String]) -> Option<T>) -> T {
        self.look_for(what, |lines| found(&lines.all))
    }

    fn look_for<T>(&self, what: &str, mut found: impl FnMut(&Lines) -> Option<T>) -> T {
        let deadline = clock::now() + DEADLINE;
        let mut lines = self.screen.lines.lock().unwrap();
        loop {
            if let Some(value) = found(&lines) {
                return value;
            }
            let left = deadline.saturating_duration_since(clock::now());
            assert!(
                !left.is_zero(),
                "no {what} within {DEADLINE:?}; the bot printed:\n{}",
                lines.all.join("\n")
            );
            lines = self.screen.printed.wait_timeout(lines, left).unwrap().0;
        }
    }

    pub fn wait_for_line(&self, part: &str) -> String {
        self.wait_for(part, |lines| lines.iter().find(|line| line.contains(part)).cloned())
    }

    /// Waits until the bot has logged in a second time.
    pub fn wait_until_online_again(&self) {
        let online = |line: &&String| line.contains("terhubung ke WhatsApp");
        self.wait_for("second login", |lines| (lines.iter().filter(online).count() >= 2).then_some(()));
    }

    /// Reads the QR code off the terminal, as a phone's camera would.
    pub fn wait_for_qr(&self) -> String {
        self.look_for("QR code", |lines| qr_camera::read(&lines.stdout))
    }

    /// The same, once the code is another one than `last`.
    pub fn wait_for_qr_after(&self, last: &str) -> String {
        self.look_for("next QR code", |lines| qr_camera::read(&lines.stdout).filter(|code| code != last))
    }

    /// The QR code on the terminal now.
    pub fn qr(&self) -> Option<String> {
        qr_camera::read(&self.screen.lines.lock().unwrap().stdout)
    }

    pub fn output(&self) -> String {
        self.screen.lines.lock().unwrap().all.join("\n")
    }

    /// Everything that a bot which ended has printed.
    pub fn last_words(mut self) -> String {
        for reader in self.readers.drain(..) {
            reader.join().expect("the reader ends with its stream");
        }
        self.output()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A number from /proc/PID/status, for example `Threads` or `VmRSS` (kB).
    pub fn status(&self, key: &str) -> u64 {
        let status = std::fs::read_to_string(PathBuf::from(format!("/proc/{}/status", self.pid())))
            .expect("the bot runs");
        let line = status.lines().find(|line| line.starts_with(key)).expect(key);
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect(key)
    }

    /// Processor time that it has used, in user mode and in the kernel.
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("the bot runs");
        // The name in brackets may hold anything; the fields are counted from behind it (proc(5)).
        let fields = stat.rsplit_once(')').expect("a name").1;
        let ticks =
            |n: usize| fields.split_whitespace().nth(n).and_then(|n| n.parse::<u64>().ok()).expect("ticks");
        // USER_HZ is 100 on every Linux.
        Duration::from_millis((ticks(11) + ticks(12)) * 10)
    }

    /// SIGTERM; returns how it ended and how long that took.
    pub fn terminate(mut self) -> (ExitStatus, Duration) {
        let asked = clock::now();
        // The shell's own `kill`: a minimal Debian has no such program.
        let told = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &self.pid().to_string()]).status();
        assert!(told.expect("sh runs").success());
        (self.wait(), clock::since(asked))
    }

    /// SIGKILL: what a crash or the OOM killer does.
    pub fn kill(mut self) {
        self.child.kill().expect("the bot runs");
        self.child.wait().expect("the bot is gone");
    }

    pub fn wait(&mut self) -> ExitStatus {
        let deadline = clock::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().expect("waiting works") {
                return status;
            }
            assert!(clock::now() < deadline, "the bot did not end; it printed:\n{}", self.output());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Bot {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_bot_does_not_outlive_whoever_started_it() {
    let server = WhatsApp::start(testbed::Options::default()).expect("WhatsApp's side starts");
    let home = Home::new(&server);
    let starter = || {
        let bot = home.start(&["pair"]);
        bot.wait_for_qr();
        bot
    };
    let mut orphan = std::thread::scope(|scope| scope.spawn(starter).join().expect("the bot starts"));
    assert_eq!(orphan.wait().signal(), Some(9), "{}", orphan.output());
}
