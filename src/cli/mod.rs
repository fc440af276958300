//! The command line: parses it, answers what needs nothing but the configuration, and hands the
//! rest to the bot.

pub mod arguments;
pub mod doctor;
pub mod exit_code;
pub mod install;
pub mod keyboard;
pub mod pair;
pub mod pairing_screen;
pub mod qr;
pub mod read;
pub mod status;
pub mod terminal;
pub mod wording;

use std::ffi::OsString;
use std::io::{self, BufRead, Write};

use arguments::{Answer, Command, Invocation, Reading};
use exit_code::ExitCode;
use install::InstallError;

use read::ReadError;
use status::Status;

use crate::app;
use crate::config::{self, Config, ConfigError, Overrides};
use crate::ledger::set_aside::{SetAsideError, set_aside};
use crate::personal::PhoneNumber;
use crate::registration::{Provider, Rulebook, day};
use crate::trusted_clock;

/// What is left to do once the command line and the configuration are understood.
#[derive(Debug)]
pub enum Task {
    /// Connect and answer until told to stop.
    Run(Config),
    /// Link this device, by QR code or by a code for the phone with this number.
    Pair(Config, Option<PhoneNumber>),
}

/// Where the program reads and writes; `main` gives the real ones.
pub struct Surroundings<'a> {
    /// Looks up an environment variable.
    pub variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// The SQL that `schema` prints.
    pub schema: &'a str,
    pub stdin: &'a mut dyn BufRead,
    pub stdout: &'a mut dyn Write,
    /// Whether `stdout` is a terminal, which may get colours.
    pub terminal: bool,
    pub stderr: &'a mut dyn Write,
}

/// Parses `arguments` (without the program's name), answers the commands that only print, and
/// gives the others with their configuration to `start`. Errors go to stderr in English with one
/// Indonesian sentence for the operator below.
pub fn execute(
    arguments: impl IntoIterator<Item = OsString>,
    surroundings: &mut Surroundings<'_>,
    start: impl FnOnce(Task) -> ExitCode,
) -> ExitCode {
    let Invocation { command, overrides } = match arguments::parse(arguments) {
        Ok(invocation) => invocation,
        Err(error) => return surroundings.fail(&error, ExitCode::Usage),
    };
    let printed = match command {
        Command::Help => arguments::help(),
        Command::Version => format!("bot-kjp {}\n", env!("CARGO_PKG_VERSION")),
        Command::Schema => surroundings.schema.to_owned(),
        Command::Example => config::example(),
        Command::Status { json } => return surroundings.status(&overrides, json),
        Command::Doctor => return surroundings.doctor(&overrides),
        Command::Read(reading) => return surroundings.read(&reading),
        Command::Install { root, start } => {
            let done = install::install(&root, start, surroundings.stdout);
            return surroundings.installed(done);
        }
        Command::Uninstall { root, purge } => {
            let done = install::uninstall(&root, purge, surroundings.stdout);
            return surroundings.installed(done);
        }
        Command::Pair { phone } => {
            return match surroundings.without_key(&overrides) {
                Ok((config, _)) => start(Task::Pair(config, phone)),
                Err(error) => surroundings.fail(&error, ExitCode::of_config(&error)),
            };
        }
        Command::SetAside => return surroundings.set_aside(&overrides),
        Command::Run | Command::Check => {
            let config = match Config::load(&overrides, surroundings.variable) {
                Ok(config) => config,
                Err(error) => return surroundings.fail(&error, ExitCode::of_config(&error)),
            };
            match command {
                Command::Check => config.report(),
                _ => return start(Task::Run(config)),
            }
        }
    };
    surroundings.print(&printed)
}

/// What `status` needs of the environment. The Supabase key belongs to the service and not to
/// whoever asks how it is, so a configuration without it must do; nothing connects with this one.
fn without_secrets(name: &str, variable: &dyn Fn(&str) -> Option<OsString>) -> Option<OsString> {
    match name {
        "SUPABASE_URL" => Some("https://status.invalid".into()),
        "SUPABASE_SECRET_KEY" => Some("not-needed".into()),
        other => variable(other),
    }
}

/// Variables that the Supabase key may come from.
const KEY_VARIABLES: [&str; 3] =
    ["SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY", "CREDENTIALS_DIRECTORY"];

impl Surroundings<'_> {
    /// The configuration for a command that needs no Supabase key, which is the service's; and whether
    /// there is one all the same.
    fn without_key(&self, overrides: &Overrides) -> Result<(Config, bool), ConfigError> {
        let variable = self.variable;
        let refused = match Config::load(overrides, variable) {
            Ok(config) => return Ok((config, true)),
            Err(error) => error,
        };
        let unset = |name: &&str| variable(name).is_none_or(|value| value.is_empty());
        if KEY_VARIABLES.iter().all(unset) {
            let without = |name: &str| match name {
                "SUPABASE_SECRET_KEY" => Some("not-needed".into()),
                other => variable(other),
            };
            if let Ok(config) = Config::load(overrides, &without) {
                return Ok((config, false));
            }
        }
        Err(refused)
    }

    fn installed(&mut self, done: Result<(), InstallError>) -> ExitCode {
        match done {
            Ok(()) => ExitCode::Stopped,
            Err(error) => {
                let _ = writeln!(self.stderr, "bot-kjp: {error}\n{}", error.advice());
                error.exit_code()
            }
        }
    }

    fn doctor(&mut self, overrides: &Overrides) -> ExitCode {
        let (config, key_given) = match self.without_key(overrides) {
            Ok(loaded) => loaded,
            Err(error) => return self.fail(&error, ExitCode::of_config(&error)),
        };
        if self.terminal {
            let _ = writeln!(self.stderr, "{}", wording::DOCTOR_BEGINS);
        }
        let findings = doctor::examine(&config, key_given);
        match self.print(&doctor::text(&findings, self.colours())) {
            ExitCode::Stopped => doctor::exit_code(&findings),
            failed => failed,
        }
    }

    /// Whether stdout gets colours. https://no-color.org: any value but an empty one says no.
    fn colours(&self) -> bool {
        let plain = (self.variable)("NO_COLOR").is_some_and(|value| !value.is_empty());
        self.terminal && !plain
    }

    fn read(&mut self, reading: &Reading) -> ExitCode {
        let today = day::of(trusted_clock::now());
        let rules = Rulebook::default();
        let provider = reading.provider.unwrap_or(Provider::DharmaJaya);
        let colours = self.colours();
        let done = read::open(reading.file.as_deref(), self.stdin).and_then(|input| match reading.answer {
            Answer::JsonLines => read::lines(&rules, input, self.stdout, today),
            Answer::Json => {
                let text = read::message(input)?;
                Ok(writeln!(self.stdout, "{}", read::json(&rules, provider, &text, today))?)
            }
            Answer::Text => {
                let text = read::message(input)?;
                Ok(write!(self.stdout, "{}", read::explained(&rules, provider, &text, today, colours))?)
            }
        });
        match done {
            Ok(()) => ExitCode::Stopped,
            // Whoever has seen enough hangs up.
            Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::Stopped,
            Err(error) => self.fail(&error, error.exit_code()),
        }
    }

    fn status(&mut self, overrides: &Overrides, json: bool) -> ExitCode {
        let variable = self.variable;
        let config = match Config::load(overrides, &|name| without_secrets(name, variable)) {
            Ok(config) => config,
            Err(error) => return self.fail(&error, ExitCode::of_config(&error)),
        };
        let status = match Status::ask(config.settings.health.listen) {
            Ok(status) => status,
            Err(error) => {
                let _ = writeln!(self.stderr, "bot-kjp: {error}\n{}", error.advice());
                return error.exit_code();
            }
        };
        let text = if json { status.json.clone() } else { status::text(&status.report, self.colours()) };
        match self.print(&text) {
            ExitCode::Stopped => status.exit_code(),
            failed => failed,
        }
    }

    fn set_aside(&mut self, overrides: &Overrides) -> ExitCode {
        let variable = self.variable;
        let config = match Config::load(overrides, &|name| without_secrets(name, variable)) {
            Ok(config) => config,
            Err(error) => return self.fail(&error, ExitCode::of_config(&error)),
        };
        let file = config.settings.data.folder.join(app::LEDGER_FILE);
        match set_aside(&file, trusted_clock::now()) {
            Ok(aside) => self.print(&wording::set_aside(aside.as_deref())),
            Err(error) => {
                let code = match &error {
                    SetAsideError::Open(error) => ExitCode::of_ledger(error),
                    SetAsideError::Move { cause, .. } => ExitCode::of_io(cause),
                };
                self.fail(&error, code)
            }
        }
    }

    fn print(&mut self, text: &str) -> ExitCode {
        let written = self.stdout.write_all(text.as_bytes()).and_then(|()| self.stdout.flush());
        match written {
            Ok(()) => ExitCode::Stopped,
            // `bot-kjp check | head`: the reader has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::Stopped,
            Err(error) => self.fail(&format!("cannot write to stdout: {error}"), ExitCode::InputOutput),
        }
    }

    /// Reports `error` and what it means for the operator. With stderr gone too, the exit code is
    /// all that is left to say it.
    fn fail(&mut self, error: &dyn std::fmt::Display, code: ExitCode) -> ExitCode {
        let _ = writeln!(self.stderr, "bot-kjp: {error}");
        if let Some(summary) = wording::summary(code) {
            let _ = writeln!(self.stderr, "{summary}");
        }
        code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program prints for a command line, and its exit code.
    fn answer(line: &str) -> (ExitCode, String, String) {
        let (mut stdout, mut stderr) = (vec![], vec![]);
        let code = execute(
            line.split_whitespace().map(OsString::from),
            &mut Surroundings {
                variable: &|_| None,
                schema: "create table data_harian ();\n",
                stdin: &mut io::empty(),
                stdout: &mut stdout,
                terminal: false,
                stderr: &mut stderr,
            },
            |task| match task {
                Task::Run(config) if config.settings.data.folder.as_os_str() == "/from/option" => {
                    ExitCode::Stopped
                }
                Task::Pair(_, Some(phone)) if phone.expose() == "6280000000001" => ExitCode::Temporary,
                task => panic!("unexpected {task:?}"),
            },
        );
        (code, String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    }

    #[test]
    fn commands_that_only_print_start_nothing() {
        for (line, printed) in [
            ("--help", arguments::help()),
            ("--version", concat!("bot-kjp ", env!("CARGO_PKG_VERSION"), "\n").to_owned()),
            ("schema", "create table data_harian ();\n".to_owned()),
            ("example", config::example()),
        ] {
            assert_eq!(answer(line), (ExitCode::Stopped, printed, String::new()), "{line}");
        }
    }

    #[test]
    fn check_reads_the_file_and_prints_what_is_in_force() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.toml");
        std::fs::write(&file, "inbox.capacity = 7").unwrap();
        let (code, printed, _) = answer(&format!("check --config {}", file.display()));
        assert_eq!(code, ExitCode::Stopped);
        assert!(printed.contains("inbox.capacity = 7  # line 1\n"), "{printed}");

        std::fs::write(&file, "inbox.capacity = 0").unwrap();
        let (code, printed, errors) = answer(&format!("check --config {}", file.display()));
        assert_eq!((code, printed.as_str()), (ExitCode::Configuration, ""));
        let expected = format!(
            "bot-kjp: {}:1: inbox.capacity: this value is not allowed; allowed: a whole number from 1 to 256 (deliveries)\n{}\n",
            file.display(),
            wording::summary(ExitCode::Configuration).unwrap()
        );
        assert_eq!(errors, expected);
    }

    #[test]
    fn run_and_pair_are_started_with_their_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("empty.toml");
        std::fs::write(&file, "").unwrap();
        let file = file.display();
        assert_eq!(answer(&format!("--data /from/option --config {file}")).0, ExitCode::Stopped);
        let pair = format!("pair -p 080000000001 -c {file}");
        assert_eq!(answer(&pair).0, ExitCode::Temporary);
        // Supabase's key is the service's affair.
        std::fs::write(folder.path().join("empty.toml"), "supabase.url = \"https://x.supabase.co\"").unwrap();
        assert_eq!(answer(&pair).0, ExitCode::Temporary);
        assert_eq!(answer(&format!("--data /from/option -c {file}")).0, ExitCode::Configuration);
    }

    #[test]
    fn status_needs_no_secret_and_says_how_to_start_a_bot_that_does_not_run() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.toml");
        let config = format!("health.listen = \"{free}\"\nsupabase.url = \"https://x.supabase.co\"");
        std::fs::write(&file, config).unwrap();
        let (code, printed, errors) = answer(&format!("status --config {}", file.display()));
        assert_eq!((code, printed.as_str()), (ExitCode::Unavailable, ""));
        assert!(errors.ends_with(&format!("{}\n", wording::NOT_RUNNING)), "{errors}");
    }

    #[test]
    fn the_doctor_needs_no_secret_and_names_what_is_wrong() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.toml");
        let config = format!(
            "health.listen = \"off\"\ndata.folder = \"/nonexistent/kjp\"\nwhatsapp.url = \"ws://{free}\"\n\
             supabase.url = \"http://{free}\""
        );
        std::fs::write(&file, config).unwrap();
        let (code, printed, errors) = answer(&format!("doctor --config {}", file.display()));
        assert_eq!((code, errors.as_str()), (ExitCode::Unhealthy, ""));
        let words = printed.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in [
            "! Bot tidak berjalan.",
            "✖ Folder /nonexistent/kjp tidak ada.",
            &format!("✖ {free}: ditolak (Connection refused"),
            "! Kunci tidak terbaca oleh perintah ini",
        ] {
            assert!(words.contains(part), "{part}: {printed}");
        }
        std::fs::write(&file, "inbox.capacity = 0").unwrap();
        let (code, ..) = answer(&format!("doctor --config {}", file.display()));
        assert_eq!(code, ExitCode::Configuration);
    }

    #[test]
    fn the_exit_code_tells_a_wrong_command_from_a_missing_file() {
        assert_eq!(answer("--nonsense").0, ExitCode::Usage);
        assert_eq!(answer("check --config /nonexistent/config.toml").0, ExitCode::Missing);
        assert_eq!(answer("check --config /").0, ExitCode::InputOutput);
    }

    #[test]
    fn a_reader_that_has_seen_enough_is_not_an_error() {
        struct Closed(io::ErrorKind);
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        for (kind, code) in [
            (io::ErrorKind::BrokenPipe, ExitCode::Stopped),
            (io::ErrorKind::StorageFull, ExitCode::InputOutput),
        ] {
            let mut surroundings = Surroundings {
                variable: &|_| None,
                schema: "",
                stdin: &mut io::empty(),
                stdout: &mut Closed(kind),
                terminal: false,
                stderr: &mut vec![],
            };
            let found = execute(["--help".into()], &mut surroundings, |task| panic!("unexpected {task:?}"));
            assert_eq!(found, code);
        }
    }
}
