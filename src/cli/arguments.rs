//! The command line as data: parsed once, nothing opened.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;

use lexopt::Arg;
use thiserror::Error;

use super::exit_code::ExitCode;
use super::install::wording::PURGE_WORD;
use crate::config::nearest::{nearest, repeated};
use crate::config::{DEFAULT_FILE, FILE_VARIABLE, Overrides};
use crate::personal::{PhoneNumber, PhoneNumberError};
use crate::registration::Provider;

/// What the program is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Connect and answer until told to stop.
    Run,
    /// Link this device: by QR code, or by an eight-character code on the phone with this number.
    Pair { phone: Option<PhoneNumber> },
    /// Ask the running bot how it is; `json`: as it says it itself.
    Status { json: bool },
    /// Look at everything that the bot needs and say what to repair.
    Doctor,
    /// Show what would become of a message.
    Read(Reading),
    /// Put a damaged database aside, so that the bot can start with a new one.
    SetAside,
    /// Validate the configuration and show it.
    Check,
    /// Print the SQL that Supabase needs.
    Schema,
    /// Print an annotated configuration file.
    Example,
    /// Install this program as a service below `root`, and start it unless told not to.
    Install { root: PathBuf, start: bool },
    /// Remove it again; `purge`: with data and settings.
    Uninstall { root: PathBuf, purge: bool },
    /// Print the help.
    Help,
    /// Print the version.
    Version,
}

/// What `read` reads, and how it answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// `None`: standard input.
    pub file: Option<PathBuf>,
    /// `None`: Dharmajaya, whose form most providers share.
    pub provider: Option<Provider>,
    pub answer: Answer,
}

/// How `read` answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Answer {
    /// For a person.
    #[default]
    Text,
    /// As JSON.
    Json,
    /// A message a line in JSON, and an answer a line.
    JsonLines,
}

/// The whole command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    pub command: Command,
    pub overrides: Overrides,
}

/// What is wrong with the command line. No variant repeats a phone number.
#[derive(Debug, Error)]
pub enum UsageError {
    #[error("unknown command {word}{}; see bot-kjp --help", meant(.nearest))]
    UnknownCommand { word: String, nearest: Option<&'static str> },
    #[error("unknown option {option}{}; see bot-kjp --help", meant(.nearest))]
    UnknownOption { option: String, nearest: Option<&'static str> },
    #[error("unexpected argument {word} after the command; see bot-kjp --help")]
    UnexpectedArgument { word: String },
    #[error("option {option} needs a value; see bot-kjp --help")]
    ValueMissing { option: &'static str },
    #[error("option {option} takes no value; see bot-kjp --help")]
    ValueNotWanted { option: String },
    #[error("option {option} is given twice; give it once")]
    Twice { option: &'static str },
    #[error("option --phone belongs to the command pair: bot-kjp pair --phone NUMBER")]
    PhoneWithoutPair,
    #[error("option --json belongs to the commands status and read: bot-kjp status --json")]
    JsonElsewhere,
    #[error("there is no provider {name}; there are PASARJAYA, DHARMAJAYA and FOODSTATION")]
    Provider { name: String },
    #[error("option --jsonl has the provider and the text on each line; leave out {option}")]
    WithLines { option: &'static str },
    #[error("option {option} belongs to the command {commands}: bot-kjp {commands} {option}")]
    OptionElsewhere { option: &'static str, commands: &'static str },
    #[error(
        "option --purge deletes all registrations and the WhatsApp session for good; if that is wanted: --purge \
         {PURGE_WORD}"
    )]
    PurgeWord,
    #[error("option --phone: {0}")]
    Phone(#[from] PhoneNumberError),
    #[error("option {option}: {source}")]
    Path { option: &'static str, source: std::io::Error },
}

fn meant(nearest: &Option<&'static str>) -> String {
    nearest.map(|nearest| format!("; did you mean {nearest}?")).unwrap_or_default()
}

const COMMANDS: [&str; 11] = [
    "run",
    "pair",
    "status",
    "doctor",
    "read",
    "set-aside",
    "check",
    "schema",
    "example",
    "install",
    "uninstall",
];
const OPTIONS: [&str; 11] = [
    "--config",
    "--data",
    "--phone",
    "--json",
    "--jsonl",
    "--provider",
    "--root",
    "--no-start",
    "--purge",
    "--help",
    "--version",
];

/// The root folder of the machine that this runs on.
const MACHINE: &str = "/";

/// Parses the arguments that follow the program's name.
///
/// # Errors
/// [`UsageError`] for the first thing that is wrong.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, UsageError> {
    let mut parser = lexopt::Parser::from_args(arguments);
    let mut command = None;
    let (mut file, mut data_folder, mut phone, mut json) = (None, None, None, None);
    let (mut root, mut no_start, mut purge) = (None, None, None);
    let (mut jsonl, mut provider, mut message) = (None, None, None);
    loop {
        let argument = parser.next().map_err(|error| match error {
            lexopt::Error::UnexpectedValue { option, .. } => {
                UsageError::ValueNotWanted { option: repeated(&option) }
            }
            // The parser reports nothing else between arguments.
            _ => UsageError::UnexpectedArgument { word: repeated("") },
        })?;
        match argument {
            None => break,
            Some(Arg::Short('h') | Arg::Long("help")) => command = Some(Command::Help),
            Some(Arg::Short('V') | Arg::Long("version")) => command = Some(Command::Version),
            Some(Arg::Short('c') | Arg::Long("config")) => {
                set(&mut file, "--config", path(&mut parser, "--config")?)?;
            }
            Some(Arg::Short('d') | Arg::Long("data")) => {
                set(&mut data_folder, "--data", path(&mut parser, "--data")?)?;
            }
            Some(Arg::Short('p') | Arg::Long("phone")) => {
                let number = value(&mut parser, "--phone")?;
                set(&mut phone, "--phone", PhoneNumber::parse(&number.to_string_lossy())?)?;
            }
            Some(Arg::Long("json")) => set(&mut json, "--json", ())?,
            Some(Arg::Long("jsonl")) => set(&mut jsonl, "--jsonl", ())?,
            Some(Arg::Long("provider")) => {
                let name = value(&mut parser, "--provider")?;
                let name = name.to_string_lossy();
                let known =
                    Provider::named(&name).ok_or_else(|| UsageError::Provider { name: repeated(&name) })?;
                set(&mut provider, "--provider", known)?;
            }
            Some(Arg::Long("root")) => set(&mut root, "--root", path(&mut parser, "--root")?)?,
            Some(Arg::Long("no-start")) => set(&mut no_start, "--no-start", ())?,
            Some(Arg::Long("purge")) => match value(&mut parser, "--purge") {
                Ok(word) if word == PURGE_WORD => set(&mut purge, "--purge", ())?,
                _ => return Err(UsageError::PurgeWord),
            },
            Some(Arg::Short(letter)) => {
                return Err(UsageError::UnknownOption {
                    option: repeated(&format!("-{letter}")),
                    nearest: None,
                });
            }
            Some(Arg::Long(name)) => {
                let option = format!("--{name}");
                return Err(UsageError::UnknownOption {
                    nearest: nearest(&option, OPTIONS),
                    option: repeated(&option),
                });
            }
            Some(Arg::Value(word)) => {
                if matches!(command, Some(Command::Read(_))) && message.is_none() {
                    message = Some(
                        std::path::absolute(&word)
                            .map_err(|source| UsageError::Path { option: "FILE", source })?,
                    );
                    continue;
                }
                let word = word.to_string_lossy();
                if command.is_some() {
                    return Err(UsageError::UnexpectedArgument { word: repeated(&word) });
                }
                command = Some(named_command(&word)?);
            }
        }
        // Whoever asks for help gets it, whatever else stands on the line.
        if matches!(command, Some(Command::Help | Command::Version)) {
            break;
        }
    }
    let mut command = command.unwrap_or(Command::Run);
    // Taken by the command that they belong to; what is left belongs elsewhere.
    match &mut command {
        Command::Install { root: here, start } => {
            *start = no_start.take().is_none();
            *here = root.take().unwrap_or_else(|| MACHINE.into());
        }
        Command::Uninstall { root: here, purge: all } => {
            *all = purge.take().is_some();
            *here = root.take().unwrap_or_else(|| MACHINE.into());
        }
        Command::Read(reading) => {
            let answer = match (json.take(), jsonl.take()) {
                (None, None) => Answer::Text,
                (Some(()), None) => Answer::Json,
                (None, Some(())) => Answer::JsonLines,
                (Some(()), Some(())) => return Err(UsageError::WithLines { option: "--json" }),
            };
            *reading = Reading { file: message.take(), provider: provider.take(), answer };
            if reading.answer == Answer::JsonLines && reading.provider.is_some() {
                return Err(UsageError::WithLines { option: "--provider" });
            }
        }
        Command::Help | Command::Version => {
            (root, no_start, purge, jsonl, provider) = (None, None, None, None, None);
        }
        _ => {}
    }
    for (given, option, commands) in [
        (jsonl.is_some(), "--jsonl", "read"),
        (provider.is_some(), "--provider", "read"),
        (root.is_some(), "--root", "install"),
        (no_start.is_some(), "--no-start", "install"),
        (purge.is_some(), "--purge", "uninstall"),
    ] {
        if given {
            return Err(UsageError::OptionElsewhere { option, commands });
        }
    }
    let command = match (command, phone, json) {
        (command @ (Command::Help | Command::Version), ..) => command,
        (Command::Pair { .. }, phone, None) => Command::Pair { phone },
        (Command::Status { .. }, None, json) => Command::Status { json: json.is_some() },
        (_, Some(_), _) => return Err(UsageError::PhoneWithoutPair),
        (_, None, Some(())) => return Err(UsageError::JsonElsewhere),
        (command, None, None) => command,
    };
    Ok(Invocation { command, overrides: Overrides { file, data_folder } })
}

fn named_command(word: &str) -> Result<Command, UsageError> {
    match word {
        "run" => Ok(Command::Run),
        "pair" => Ok(Command::Pair { phone: None }),
        "status" => Ok(Command::Status { json: false }),
        "doctor" => Ok(Command::Doctor),
        "read" => Ok(Command::Read(Reading::default())),
        "set-aside" => Ok(Command::SetAside),
        "check" => Ok(Command::Check),
        "schema" => Ok(Command::Schema),
        "example" => Ok(Command::Example),
        "install" => Ok(Command::Install { root: MACHINE.into(), start: true }),
        "uninstall" => Ok(Command::Uninstall { root: MACHINE.into(), purge: false }),
        "help" => Ok(Command::Help),
        _ => Err(UsageError::UnknownCommand { nearest: nearest(word, COMMANDS), word: repeated(word) }),
    }
}

fn set<T>(slot: &mut Option<T>, option: &'static str, value: T) -> Result<(), UsageError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(UsageError::Twice { option }),
    }
}

fn value(parser: &mut lexopt::Parser, option: &'static str) -> Result<OsString, UsageError> {
    match parser.value() {
        Ok(value) if !value.is_empty() => Ok(value),
        _ => Err(UsageError::ValueMissing { option }),
    }
}

/// A path as the shell means it: relative to the folder in which the command was typed.
fn path(parser: &mut lexopt::Parser, option: &'static str) -> Result<PathBuf, UsageError> {
    std::path::absolute(value(parser, option)?).map_err(|source| UsageError::Path { option, source })
}

/// The answer to `--help`.
pub fn help() -> String {
    let mut help = format!(
        "bot-kjp {version}: WhatsApp registration bot for subsidised food in Jakarta

Usage: bot-kjp [COMMAND] [--config FILE] [--data DIR]

Commands:
  run       connect to WhatsApp and answer until told to stop (the default)
  pair      link this device: shows a QR code to scan with the phone
            --phone NUMBER  show a code to type into the phone with this number instead
                            (62812…, 0812… or +62 812…)
  status    ask the running bot how it is (in Indonesian); the exit code tells scripts
            --json  print the state as JSON
  doctor    check disk, clock, DNS, WhatsApp and Supabase now and say what to repair (in
            Indonesian); takes up to 30 s, changes nothing, also while the bot runs
  read      show what would become of a message, and why (in Indonesian), without a
            configuration or a database: bot-kjp read [FILE], or on standard input
            --provider NAME  PASARJAYA, DHARMAJAYA (the default) or FOODSTATION
            --json  print what was understood as JSON
            --jsonl the same for many: on each line a message
                    {{\"provider\": …, \"text\": …}}, and an answer
  set-aside move a damaged database into a folder beside it, so that the bot can start anew;
            deletes nothing, and leaves a sound one alone
  check     validate the configuration and print what is in force; opens nothing else
  schema    print the SQL to run once in the Supabase project
  example   print an annotated configuration file (in Indonesian)
  install   install this program as a service that starts at boot, or update it, and wait
            until it is well; a version that is not is replaced by the one before; as root
            --no-start  do not start it
            --root DIR  install into the machine whose root folder is DIR; start nothing
  uninstall stop and remove the service; settings and data stay; as root
            --purge {PURGE_WORD}  delete them as well, for good
            --root DIR  as above

Options:
  -c, --config FILE   configuration file
                      (default: {FILE_VARIABLE}, else {DEFAULT_FILE} if it exists)
  -d, --data DIR      folder of the database (default: data.folder of the configuration)
  -h, --help          print this
  -V, --version       print the version

Environment: {FILE_VARIABLE}, SUPABASE_URL, SUPABASE_SECRET_KEY, CREDENTIALS_DIRECTORY

Exit codes:
",
        version = env!("CARGO_PKG_VERSION")
    );
    for code in ExitCode::ALL {
        let _ = writeln!(help, "  {:>2}  {}", code as u8, code.meaning());
    }
    help
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(line: &str) -> Result<Invocation, String> {
        parse(line.split_whitespace().map(OsString::from)).map_err(|error| error.to_string())
    }

    fn command(line: &str) -> Command {
        parsed(line).unwrap().command
    }

    #[test]
    fn every_command_is_understood_and_run_is_the_default() {
        assert_eq!(command(""), Command::Run);
        assert_eq!(command("run"), Command::Run);
        assert_eq!(command("pair"), Command::Pair { phone: None });
        assert_eq!(command("status"), Command::Status { json: false });
        assert_eq!(command("status --json"), Command::Status { json: true });
        assert_eq!(command("doctor"), Command::Doctor);
        assert_eq!(command("set-aside"), Command::SetAside);
        assert_eq!(command("read"), Command::Read(Reading::default()));
        let reading = Reading {
            file: Some("/message".into()),
            provider: Some(Provider::PasarJaya),
            answer: Answer::Json,
        };
        assert_eq!(command("read --json /message --provider pasarjaya"), Command::Read(reading));
        let lines = Reading { answer: Answer::JsonLines, ..Reading::default() };
        assert_eq!(command("read --jsonl"), Command::Read(lines));
        assert_eq!(command("check"), Command::Check);
        assert_eq!(command("schema"), Command::Schema);
        assert_eq!(command("example"), Command::Example);
        assert_eq!(command("install"), Command::Install { root: "/".into(), start: true });
        assert_eq!(
            command("install --no-start --root /mnt"),
            Command::Install { root: "/mnt".into(), start: false }
        );
        assert_eq!(command("uninstall"), Command::Uninstall { root: "/".into(), purge: false });
        assert_eq!(
            command("--purge hapus-semua-data uninstall"),
            Command::Uninstall { root: "/".into(), purge: true }
        );
        for line in ["--help", "-h", "help", "run --help", "--help --nonsense"] {
            assert_eq!(command(line), Command::Help, "{line}");
        }
        assert_eq!(command("-V"), Command::Version);
    }

    #[test]
    fn options_stand_before_or_after_the_command() {
        let overrides = Overrides { file: Some("/a.toml".into()), data_folder: Some("/b".into()) };
        for line in ["--config /a.toml --data=/b check", "check -c /a.toml -d /b"] {
            assert_eq!(
                parsed(line).unwrap(),
                Invocation { command: Command::Check, overrides: overrides.clone() }
            );
        }
        let relative = parsed("--data here").unwrap().overrides.data_folder.unwrap();
        assert_eq!(relative, std::env::current_dir().unwrap().join("here"));
    }

    #[test]
    fn the_phone_number_is_taken_in_any_usual_spelling() {
        let phone = Some(PhoneNumber::new("6280000000001"));
        for line in ["pair --phone 6280000000001", "--phone=+6280000000001 pair", "pair -p 080000000001"] {
            assert_eq!(command(line), Command::Pair { phone: phone.clone() }, "{line}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_the_nearest_valid_word() {
        for (line, message) in [
            ("chek", "unknown command chek; did you mean check?; see bot-kjp --help"),
            ("start", "unknown command start; see bot-kjp --help"),
            ("docter", "unknown command docter; did you mean doctor?; see bot-kjp --help"),
            ("statsu", "unknown command statsu; did you mean status?; see bot-kjp --help"),
            ("run --json", "option --json belongs to the commands status and read: bot-kjp status --json"),
            ("status --jsonl", "option --jsonl belongs to the command read: bot-kjp read --jsonl"),
            (
                "read --jsonl --json",
                "option --jsonl has the provider and the text on each line; leave out --json",
            ),
            (
                "read --provider pasar",
                "there is no provider pasar; there are PASARJAYA, DHARMAJAYA and FOODSTATION",
            ),
            ("read a b", "unexpected argument b after the command; see bot-kjp --help"),
            ("status --json --json", "option --json is given twice; give it once"),
            (
                "status -p 080000000001",
                "option --phone belongs to the command pair: bot-kjp pair --phone NUMBER",
            ),
            ("--confg /a", "unknown option --confg; did you mean --config?; see bot-kjp --help"),
            ("-x", "unknown option -x; see bot-kjp --help"),
            ("run now", "unexpected argument now after the command; see bot-kjp --help"),
            ("--config", "option --config needs a value; see bot-kjp --help"),
            ("check=1", "unknown command (a word that is not repeated here); see bot-kjp --help"),
            ("--data /a --data /b", "option --data is given twice; give it once"),
            (
                "run --no-start",
                "option --no-start belongs to the command install: bot-kjp install --no-start",
            ),
            ("status --root /a", "option --root belongs to the command install: bot-kjp install --root"),
            (
                "uninstall --purge yes",
                "option --purge deletes all registrations and the WhatsApp session for good; if that is wanted: \
                 --purge hapus-semua-data",
            ),
            ("instal", "unknown command instal; did you mean install?; see bot-kjp --help"),
            (
                "run --phone 6280000000001",
                "option --phone belongs to the command pair: bot-kjp pair --phone NUMBER",
            ),
        ] {
            assert_eq!(parsed(line).expect_err(line), message);
        }
    }

    #[test]
    fn no_error_repeats_a_phone_number() {
        for line in ["pair 6280000000001", "6280000000001", "pair --phone 628000000000x", "--6280000000001"] {
            let message = parsed(line).expect_err(line);
            assert!(!message.contains("62800"), "{message}");
        }
    }

    #[test]
    fn the_help_names_every_command_option_and_exit_code() {
        let help = help();
        for word in COMMANDS.iter().chain(&OPTIONS) {
            assert!(help.contains(word), "{word}");
        }
        for code in ExitCode::ALL {
            assert!(help.contains(&format!("{:>4}  {}", code as u8, code.meaning())), "{code:?}");
        }
        assert!(help.lines().all(|line| line.chars().count() <= 100));
    }

    proptest! {
        #[test]
        fn no_command_line_panics(arguments in prop::collection::vec("(-{0,2}[a-z=]{0,8}|\\PC{0,6}|run|pair)", 0..6)) {
            let _ = parse(arguments.into_iter().map(OsString::from));
        }
    }
}
