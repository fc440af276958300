//! bot-kjp as a child process: configured for the test bed, linked, started, stopped, killed, and
//! its ledger read.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rusqlite::Connection;
use serde_json::Value;
use tempfile::{NamedTempFile, TempDir};
use wacore::handshake::WA_CERT_PUB_KEY;

use crate::interrupt::{self, wait_until};
use crate::phone::passkey::Ceremony;
use crate::redo_log;
use crate::whatsapp::noise;
use crate::{Handset, WhatsApp};

/// How long each step of a child may take on a busy machine: start, link, log in, end.
const STEP: Duration = Duration::from_secs(60);

/// How long one look for the bot at the server takes before its process is looked at again.
const LOOK: Duration = Duration::from_millis(200);

/// Copies of a database that another process writes: each try takes milliseconds, and the writer
/// rests between messages.
const COPY_TRIES: u32 = 500;

/// Lines of a child's log that an error quotes.
const LOG_TAIL: usize = 15;

/// The bot as it is shipped, but for one thing: in a copy of the file, WhatsApp's root key is exchanged for the test
/// bed's, so that it talks to the test bed and to nobody else. It checks certificates as ever.
///
/// # Errors
/// When the file does not hold WhatsApp's root exactly once, or the copy cannot be written.
pub fn that_knows_the_test_bed(shipped: &Path) -> Result<PathBuf> {
    let mut bytes = fs::read(shipped).with_context(|| format!("cannot read {}", shipped.display()))?;
    let places: Vec<usize> = bytes
        .windows(WA_CERT_PUB_KEY.len())
        .enumerate()
        .filter(|(_, at)| *at == WA_CERT_PUB_KEY)
        .map(|(at, _)| at)
        .collect();
    let [place] = places[..] else {
        bail!("{} holds WhatsApp's root key {} times, not once", shipped.display(), places.len());
    };
    bytes[place..place + WA_CERT_PUB_KEY.len()].copy_from_slice(&noise::root_public());
    let name = shipped.file_name().context("a bot has a name")?;
    executable(name, &bytes)
}

/// A program that runs a bot for the box on this machine.
///
/// # Errors
/// When it is for a processor that no box has, or the program cannot be written.
pub fn emulated(bot: &Path) -> Result<PathBuf> {
    let bytes = fs::read(bot).with_context(|| format!("cannot read {}", bot.display()))?;
    // `e_machine` of the ELF header.
    let processor = match bytes.get(18..20) {
        Some([183, 0]) => "aarch64",
        Some([40, 0]) => "arm",
        machine => bail!("{} is for no box: its ELF machine is {machine:?}", bot.display()),
    };
    let mut name = bot.file_name().context("a bot has a name")?.to_owned();
    name.push(".emulated");
    let script = format!("#!/bin/sh\nexec qemu-{processor}-static {} \"$@\"\n", bot.display());
    executable(&name, script.as_bytes())
}

/// Puts a program into a folder of the test bed's own, in one step: another test program may run the one of before,
/// or write it as well.
fn executable(name: &OsStr, content: &[u8]) -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-bed");
    fs::create_dir_all(&folder)?;
    let file = folder.canonicalize()?.join(name);
    let mut copy = NamedTempFile::new_in(&folder)?;
    copy.write_all(content)?;
    fs::set_permissions(copy.path(), Permissions::from_mode(0o755))?;
    // Closed first: a program that somebody may still write cannot be run.
    copy.into_temp_path().persist(&file)?;
    Ok(file)
}

/// What the bot is told.
#[derive(Debug, Clone)]
pub struct Settings {
    pub whatsapp_url: String,
    /// 1–100
    pub per_chat_per_second: u32,
    /// 1–100
    pub total_per_second: u32,
    pub log_level: &'static str,
    /// URL and secret key; without them registrations stay in the ledger.
    pub supabase: Option<(String, String)>,
}

/// A bot with a folder of its own. Dropped, it is killed; the folder belongs to the caller.
#[derive(Debug)]
pub struct Bot {
    program: PathBuf,
    folder: PathBuf,
    environment: Vec<(&'static str, String)>,
    child: Option<Child>,
}

impl Bot {
    /// Writes the configuration into `folder`, which must exist. Starts nothing.
    ///
    /// # Errors
    /// When the program is not there or the folder cannot be written.
    pub fn new(program: &Path, folder: &Path, settings: &Settings) -> Result<Self> {
        let program = fs::canonicalize(program)
            .with_context(|| format!("no program {}; build it first", program.display()))?;
        let folder = fs::canonicalize(folder)?;
        fs::create_dir_all(folder.join("data"))?;
        let mut environment = Vec::new();
        if let Some((url, key)) = &settings.supabase {
            environment.push(("SUPABASE_URL", url.clone()));
            environment.push(("SUPABASE_SECRET_KEY", key.clone()));
        }
        let bot = Self { program, folder, environment, child: None };
        fs::write(bot.config(), bot.configuration(settings)).context("cannot write the configuration")?;
        Ok(bot)
    }

    fn configuration(&self, settings: &Settings) -> String {
        let mut text = format!(
            "[data]\nfolder = '{}'\nvolatile = true\n\n[whatsapp]\nurl = '{}'\n\n\
             [outbox]\nper_chat_per_second = {}\ntotal_per_second = {}\n\n[log]\nlevel = '{}'\n",
            self.folder.join("data").display(),
            settings.whatsapp_url,
            settings.per_chat_per_second,
            settings.total_per_second,
            settings.log_level,
        );
        if settings.supabase.is_some() {
            // The shortest allowed: people watch.
            text.push_str("\n[supabase]\ninterval = '100ms'\n");
        }
        text
    }

    /// Adds sections to the configuration, in TOML; they hold from the next start on.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn configure(&self, sections: &str) -> Result<()> {
        let mut file = File::options().append(true).open(self.config())?;
        file.write_all(sections.as_bytes()).context("cannot add to the configuration")
    }

    /// Sets a variable of the environment from the next command on.
    pub fn set_environment(&mut self, name: &'static str, value: String) {
        self.environment.push((name, value));
    }

    fn config(&self) -> PathBuf {
        self.folder.join("config.toml")
    }

    /// The bot's database; locked while it runs, so read it with [`Bot::ledger`].
    pub fn database(&self) -> PathBuf {
        self.folder.join("data").join("bot-kjp.db")
    }

    /// What the bot wrote to stderr, all runs one after the other.
    pub fn log(&self) -> PathBuf {
        self.folder.join("bot-kjp.log")
    }

    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = child_command(&self.program);
        command.args(arguments).arg("--config").arg(self.config());
        // Whatever the developer's shell has set must not leak into the bot.
        for name in ["SUPABASE_URL", "SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY", "BOT_KJP_CONFIG"] {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        Ok(command)
    }

    /// Runs a command of the bot to its end and gives what it printed.
    ///
    /// # Errors
    /// When it ends with anything but 0.
    pub fn print(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(arguments)?.output()?;
        ensure!(output.status.success(), "bot-kjp {arguments:?} ended with {}{}", output.status, self.tail());
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Links the bot with a phone by the eight-letter code, which is returned as the bot showed it.
    ///
    /// # Errors
    /// When the bot shows no code, or the phone or the bot does not finish.
    pub fn pair(&self, phone: &Handset) -> Result<String> {
        let mut pairing = Running(self.command(&["pair", "--phone", phone.number()])?.spawn()?);
        let lines = lines_of(&mut pairing.0)?;
        let code = self.printed(&lines, "link code", |line| link_code(line).map(str::to_owned))?;
        phone.enter_link_code(&code.replace('-', "")).with_context(|| self.tail())?;
        self.linked(pairing)?;
        Ok(code)
    }

    /// The same with a phone whose account wants its passkey first, and with an operator who has it at hand:
    /// the passkey answers what the bot asks. Gives the link code and the code that both sides show at the end.
    ///
    /// # Errors
    /// As [`Bot::pair`], and when the two codes differ.
    pub fn pair_behind_passkey(&self, phone: &Handset) -> Result<(String, String)> {
        let mut command = self.command(&["pair", "--phone", phone.number()])?;
        let mut pairing = Running(command.stdin(Stdio::piped()).spawn()?);
        let mut keyboard = pairing.0.stdin.take().context("the child's input is not piped")?;
        let lines = lines_of(&mut pairing.0)?;
        let code = self.printed(&lines, "link code", |line| link_code(line).map(str::to_owned))?;
        phone.enter_link_code_only(&code.replace('-', "")).with_context(|| self.tail())?;
        let challenge = self.printed(&lines, "line for the browser", challenge)?;
        writeln!(keyboard, "{}", phone.passkey_answer(&challenge, &Ceremony::default())?)?;
        let shown = self.printed(&lines, "code to compare", |line| link_code(line).map(str::to_owned))?;
        let on_the_phone = phone.comparison_code().with_context(|| self.tail())?;
        ensure!(shown == on_the_phone, "the bot shows {shown} and the phone {on_the_phone}");
        writeln!(keyboard, "ya")?;
        self.linked(pairing)?;
        Ok((code, shown))
    }

    /// Waits until a child prints what `find` finds.
    fn printed(
        &self,
        lines: &mpsc::Receiver<String>,
        what: &str,
        find: impl Fn(&str) -> Option<String>,
    ) -> Result<String> {
        wait_until(&format!("bot-kjp's {what}"), STEP, || match lines.try_recv() {
            Ok(line) => Ok(find(&line)),
            Err(mpsc::TryRecvError::Empty) => Ok(None),
            Err(mpsc::TryRecvError::Disconnected) => bail!("bot-kjp pair ended without a {what}"),
        })
        .with_context(|| self.tail())
    }

    fn linked(&self, mut pairing: Running) -> Result<()> {
        let status = pairing.wait_end("bot-kjp pair to end").with_context(|| self.tail())?;
        ensure!(status.success(), "bot-kjp pair ended with {status}{}", self.tail());
        Ok(())
    }

    /// Starts the bot and waits until it is logged in and has what waited for it.
    ///
    /// # Errors
    /// When it ends or does not come online.
    pub fn start(&mut self, server: &WhatsApp, number: &str) -> Result<()> {
        ensure!(self.child.is_none(), "the bot runs already");
        let mut child = self.command(&["run"])?.stdout(Stdio::null()).spawn()?;
        let came = wait_until("bot-kjp to come online", STEP, || {
            if let Some(status) = child.try_wait()? {
                bail!("bot-kjp ended with {status} instead of coming online");
            }
            Ok(server.wait_online(number, LOOK).ok())
        });
        self.child = Some(child);
        came.with_context(|| self.tail())
    }

    /// Process id.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.child.as_ref().context("the bot does not run")?.id())
    }

    /// Kills it as a power cut would (SIGKILL), and waits until it is gone and the server has
    /// noticed.
    ///
    /// # Errors
    /// When it does not run or ended by itself before.
    pub fn kill(&mut self, server: &WhatsApp, number: &str) -> Result<()> {
        let mut child = self.child.take().context("the bot does not run")?;
        child.kill()?;
        let status = child.wait()?;
        ensure!(status.signal() == Some(9), "the bot ended by itself with {status}{}", self.tail());
        self.wait_offline(server, number)
    }

    /// Asks it to stop (SIGTERM) and waits until it has.
    ///
    /// # Errors
    /// When it does not end with 0.
    pub fn stop(&mut self, server: &WhatsApp, number: &str) -> Result<()> {
        let mut running = Running(self.child.take().context("the bot does not run")?);
        running.ask_to_end()?;
        let status = running.wait_end("bot-kjp to stop").with_context(|| self.tail())?;
        ensure!(status.success(), "asked to stop, bot-kjp ended with {status}{}", self.tail());
        self.wait_offline(server, number)
    }

    fn wait_offline(&self, server: &WhatsApp, number: &str) -> Result<()> {
        wait_until("the server to notice that the bot is gone", STEP, || {
            Ok(server.devices_online(number)?.is_empty().then_some(()))
        })
    }

    /// A copy of the ledger as it stands on disk now.
    ///
    /// # Errors
    /// As [`copy_database`].
    pub fn ledger(&self) -> Result<DatabaseCopy> {
        copy_database(&self.database())
    }

    /// The end of the log, to be added to an error.
    fn tail(&self) -> String {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n");
        format!("\nend of {}:\n{tail}", self.log().display())
    }
}

impl Drop for Bot {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            drop(Running(child));
        }
    }
}

/// A command whose process is killed when the thread that started it ends, however it ends, and
/// that Ctrl-C on the terminal does not reach.
pub(crate) fn child_command(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program).process_group(0);
    command
}

/// A child that does not outlive its owner.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    /// Sends SIGTERM.
    pub(crate) fn ask_to_end(&self) -> Result<()> {
        let pid = self.0.id().to_string();
        let asked = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &pid]).status()?;
        ensure!(asked.success(), "cannot send SIGTERM to process {pid}");
        Ok(())
    }

    pub(crate) fn wait_end(&mut self, what: &str) -> Result<ExitStatus> {
        wait_until(what, STEP, || Ok(self.0.try_wait()?))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The lines a child prints, read to the end on a thread of its own so that it never blocks.
pub(crate) fn lines_of(child: &mut Child) -> Result<mpsc::Receiver<String>> {
    let output = BufReader::new(child.stdout.take().context("the child's output is not piped")?);
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            // Nobody listens any more once the code was seen.
            let _ = sender.send(line);
        }
    });
    Ok(lines)
}

/// A link code as people read it: four letters or digits, a dash, four more, standing alone.
pub(crate) fn link_code(line: &str) -> Option<&str> {
    let is_half =
        |half: &str| half.len() == 4 && half.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase());
    line.split_whitespace().find(|word| {
        let mut halves = word.split('-');
        halves.next().is_some_and(is_half) && halves.next().is_some_and(is_half) && halves.next().is_none()
    })
}

/// The challenge in the line for the browser.
fn challenge(line: &str) -> Option<String> {
    let (_, options) = line.split_once("parseRequestOptionsFromJSON(")?;
    let options: Value = serde_json::Deserializer::from_str(options).into_iter().next()?.ok()?;
    options["challenge"].as_str().map(str::to_owned)
}

/// A database that nobody else has open, in a folder that vanishes with it.
#[derive(Debug)]
pub struct DatabaseCopy {
    pub connection: Connection,
    _folder: TempDir,
}

/// Copies a SQLite database with its write-ahead log, and the bot's redo log, while its owner goes on writing.
/// The copy holds what the owner would find after a power cut.
///
/// A copy counts only when none of the files changed meanwhile and SQLite finds it sound.
///
/// # Errors
/// When the database is not there or its owner never rests.
pub fn copy_database(database: &Path) -> Result<DatabaseCopy> {
    let (wal, redo) = (beside(database, "-wal"), beside(database, "-redo"));
    let stamps = || Ok::<_, anyhow::Error>([stamp(database)?, stamp(&wal)?, stamp(&redo)?]);
    for _ in 0..COPY_TRIES {
        let before = stamps()?;
        ensure!(before[0].is_some(), "there is no database {}", database.display());
        let folder = tempfile::tempdir()?;
        let copy = folder.path().join("copy.db");
        fs::copy(database, &copy)?;
        if before[1].is_some() {
            // It may vanish now that the owner stops; then the stamps differ.
            let _ = fs::copy(&wal, beside(&copy, "-wal"));
        }
        let log = if before[2].is_some() { fs::read(&redo).unwrap_or_default() } else { Vec::new() };
        if before == stamps()? {
            let connection = Connection::open(&copy)?;
            redo_log::apply(&connection, &log)?;
            let sound: String = connection.query_row("PRAGMA quick_check", [], |row| row.get(0))?;
            ensure!(sound == "ok", "{} is damaged: {sound}", database.display());
            return Ok(DatabaseCopy { connection, _folder: folder });
        }
        interrupt::pause(Duration::from_millis(5))?;
    }
    bail!("{} changes all the time and cannot be copied", database.display())
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Length and time of the last change; `None` when the file is not there.
fn stamp(path: &Path) -> Result<Option<(u64, std::time::SystemTime)>> {
    let of = |metadata: Metadata| Ok((metadata.len(), metadata.modified()?));
    match fs::metadata(path) {
        Ok(metadata) => of(metadata).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot look at {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_whatsapps_root_is_no_bot_and_one_with_it_twice_is_not_guessed_about() {
        let folder = tempfile::tempdir().unwrap();
        for (bytes, times) in [(Vec::new(), 0), ([WA_CERT_PUB_KEY, WA_CERT_PUB_KEY].concat(), 2)] {
            let file = folder.path().join("bot");
            fs::write(&file, bytes).unwrap();
            let error = that_knows_the_test_bed(&file).unwrap_err().to_string();
            assert!(error.contains(&format!("{times} times")), "{error}");
        }
    }

    #[test]
    fn a_program_for_another_processor_is_not_emulated() {
        let file = tempfile::NamedTempFile::new().unwrap();
        // x86-64
        fs::write(file.path(), [&[0; 18][..], &[62, 0]].concat()).unwrap();
        assert!(emulated(file.path()).unwrap_err().to_string().contains("for no box"));
    }

    #[test]
    fn the_link_code_is_found_among_words_and_nothing_else_is() {
        assert_eq!(link_code("ketik kode ini: ABCD-12Z4"), Some("ABCD-12Z4"));
        for line in ["", "62800-0000", "abcd-1234", "ABCD-1234-XY12", "Kode berlaku 160 detik lagi."] {
            assert_eq!(link_code(line), None, "{line}");
        }
    }

    #[test]
    fn the_challenge_is_read_off_the_line_for_the_browser() {
        let line = r#"x.parseRequestOptionsFromJSON({"challenge":"AA","rpId":"a"})}),j=c.toJSON()"#;
        assert_eq!(challenge(line).as_deref(), Some("AA"));
        assert_eq!(challenge("x.parseRequestOptionsFromJSON?.(y)"), None);
    }

    #[test]
    fn a_copy_holds_what_was_committed_while_the_owner_has_it_locked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("owner.db");
        let owner = Connection::open(&path).unwrap();
        owner
            .execute_batch(
                "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL;
                 CREATE TABLE t (n); INSERT INTO t VALUES (1), (2);
                 BEGIN; INSERT INTO t VALUES (3);",
            )
            .unwrap();
        let copy = copy_database(&path).unwrap();
        let count: i64 = copy.connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
        assert_eq!(count, 2);
    }

    #[test]
    fn a_missing_database_is_an_error_that_names_it() {
        let error = copy_database(Path::new("/nowhere/bot-kjp.db")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/bot-kjp.db"), "{error}");
    }

    #[test]
    fn a_child_ends_with_its_owner() {
        let child = child_command(Path::new("sleep")).arg("600").spawn().unwrap();
        let pid = child.id();
        drop(Running(child));
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
}
