//! The configuration: one TOML file that may be missing, and the environment for secrets.
//!
//! Every key is declared once, in [`key`]; the parser, the table in the README, the annotated
//! example and the output of `bot-kjp check` are made from that list. All that is wrong is
//! reported at once, with file, line, key and what is allowed. No error repeats a value, and the
//! Supabase key has a type that cannot be printed.

pub mod environment_file;
mod file;
mod key;
pub mod nearest;
mod problem;
mod reference;
mod rule;
mod secret;

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use toml::de::DeValue;

pub use key::{
    Alert, Connection, Data, DiskLimits, Health, Inbox, Log, Network, Outbox, Registration, Settings,
    Supabase, WhatsApp,
};
pub use problem::{ConfigError, Problems};
use problem::{Fault, Place, Problem};
pub use reference::{example, markdown_table};
use rule::Rule as _;
pub use secret::SecretUrl;
use secret::{KEY_VARIABLE, OLD_KEY_VARIABLE, URL_VARIABLE};

/// The file that is read if no other is named and if it exists.
pub const DEFAULT_FILE: &str = "/etc/bot-kjp/config.toml";
/// Environment variable that names the file.
pub const FILE_VARIABLE: &str = "BOT_KJP_CONFIG";

/// Largest file that is read, in bytes; the annotated example has about 3000.
const LARGEST_FILE_BYTES: u64 = 64 * 1024;

/// What the command line says about the configuration; it wins over file and environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--config FILE`
    pub file: Option<PathBuf>,
    /// `--data DIR`
    pub data_folder: Option<PathBuf>,
}

/// The configuration that is in force.
#[derive(Debug)]
pub struct Config {
    /// What file, command line and defaults say.
    pub settings: Settings,
    /// The shared database; `None`: registrations stay on this box.
    pub supabase: Option<SupabaseAccess>,
    /// What works but should be changed.
    pub warnings: Vec<Warning>,
    file: Option<PathBuf>,
    origins: Vec<(&'static str, Origin)>,
}

/// Address and key of a Supabase project; there is never one without the other.
#[derive(Debug)]
pub struct SupabaseAccess {
    /// `https://…` without a slash at the end; `http://…` only to a local address.
    pub url: String,
    /// Goes into a request header, and nowhere else.
    pub key: SecretString,
    key_origin: Origin,
}

/// Something that works but should be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warning {
    /// The key came from `SUPABASE_SERVICE_ROLE_KEY`.
    OldKeyVariable,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OldKeyVariable => {
                write!(f, "{OLD_KEY_VARIABLE} is the old name of this variable; rename it to {KEY_VARIABLE}")
            }
        }
    }
}

/// Who set a value; what is not set has no origin.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    Place(Place),
    CommandLine(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place(Place::Line { line, .. }) => write!(f, "line {line}"),
            Self::Place(Place::Variable(name)) => f.write_str(name),
            Self::Place(Place::Credential(path)) => write!(f, "{}", path.display()),
            Self::CommandLine(option) => f.write_str(option),
        }
    }
}

impl Config {
    /// Reads the file that `overrides`, `BOT_KJP_CONFIG` or [`DEFAULT_FILE`] names (in this
    /// order; only the last may be missing), then the environment.
    ///
    /// # Errors
    /// The file cannot be read, or anything in file or environment is not as declared. All
    /// problems are reported together.
    pub fn load(
        overrides: &Overrides,
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, ConfigError> {
        let named =
            overrides.file.clone().or_else(|| secret::filled(variable, FILE_VARIABLE).map(PathBuf::from));
        let must_exist = named.is_some();
        let path = named.unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
        let content = match read_bounded(&path) {
            Err(ConfigError::Unreadable { source, .. })
                if !must_exist && source.kind() == io::ErrorKind::NotFound =>
            {
                None
            }
            content => Some(content?),
        };
        Self::build(content.as_deref().map(|content| (path.as_path(), content)), overrides, variable)
    }

    fn build(
        content: Option<(&Path, &[u8])>,
        overrides: &Overrides,
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, ConfigError> {
        let (path, bytes) = content.unwrap_or((Path::new(DEFAULT_FILE), b""));
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let line = file::line_of(bytes, error.valid_up_to());
            let place = Place::Line { file: path.to_owned(), line };
            ConfigError::Refused(Problems(vec![Problem { place, fault: Fault::NotUtf8 }]))
        })?;
        let file::Outcome { mut settings, set, mut problems } = file::read(path, text);
        let mut origins: Vec<_> = set.into_iter().map(|(key, place)| (key, Origin::Place(place))).collect();

        if let Some(folder) = &overrides.data_folder {
            settings.data.folder.clone_from(folder);
            set_origin(&mut origins, "data.folder", Origin::CommandLine("--data"));
        }
        if let Some(url) = secret::filled(variable, URL_VARIABLE) {
            let place = Place::Variable(URL_VARIABLE);
            match key::SUPABASE_URL.read(&DeValue::String(url.to_string_lossy())) {
                Some(url) => {
                    settings.supabase.url = Some(url);
                    set_origin(&mut origins, "supabase.url", Origin::Place(place));
                }
                None => {
                    let allowed = key::SUPABASE_URL.allowed();
                    problems.push(Problem { place, fault: Fault::Value { key: None, found: None, allowed } });
                }
            }
        }

        let mut warnings = vec![];
        let url = settings.supabase.url.clone();
        // A refused address is one problem, not also a missing address.
        let url_refused = problems.iter().any(|problem| {
            problem.concerns("supabase.url") || problem.place == Place::Variable(URL_VARIABLE)
        });
        let supabase = match (url, secret::find(variable)) {
            (_, Err(problem)) => {
                problems.push(problem);
                None
            }
            (Some(url), Ok(Some((key, place)))) => {
                if place == Place::Variable(OLD_KEY_VARIABLE) {
                    warnings.push(Warning::OldKeyVariable);
                }
                Some(SupabaseAccess { url, key, key_origin: Origin::Place(place) })
            }
            (Some(_), Ok(None)) => {
                if let Some(Origin::Place(place)) = origin_of(&origins, "supabase.url") {
                    problems.push(Problem { place: place.clone(), fault: Fault::KeyMissing });
                }
                None
            }
            (None, Ok(Some((_, place)))) => {
                if !url_refused {
                    problems.push(Problem { place, fault: Fault::UrlMissing });
                }
                None
            }
            (None, Ok(None)) => None,
        };
        if !problems.is_empty() {
            return Err(ConfigError::Refused(Problems(problems)));
        }
        Ok(Self { settings, supabase, warnings, file: content.map(|(path, _)| path.to_owned()), origins })
    }

    /// The file that was read, if one was.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The configuration in force as lines for an engineer: each key with its value and who set
    /// it. Secrets are shown as "set".
    pub fn report(&self) -> String {
        let mut report = match &self.file {
            Some(file) => format!("configuration file: {}\n", file.display()),
            None => format!("configuration file: none ({DEFAULT_FILE} does not exist)\n"),
        };
        let mut line = |key: &str, value: &str, origin: &str| {
            report.push_str(&format!("{key} = {value}  # {origin}\n"));
        };
        for (key, value) in self.settings.written() {
            let origin = origin_of(&self.origins, key).map_or("default".to_owned(), Origin::to_string);
            line(key, value.as_deref().unwrap_or("(not set)"), &origin);
        }
        match &self.supabase {
            Some(access) => line("Supabase key", "set", &access.key_origin.to_string()),
            None => line("Supabase key", "(not set)", "registrations stay on this box"),
        }
        for warning in &self.warnings {
            report.push_str(&format!("warning: {warning}\n"));
        }
        report
    }
}

fn origin_of<'o>(origins: &'o [(&'static str, Origin)], key: &str) -> Option<&'o Origin> {
    origins.iter().find(|(known, _)| *known == key).map(|(_, origin)| origin)
}

fn set_origin(origins: &mut Vec<(&'static str, Origin)>, key: &'static str, origin: Origin) {
    origins.retain(|(known, _)| *known != key);
    origins.push((key, origin));
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let mut content = vec![];
    let file = File::open(path).map_err(unreadable)?;
    file.take(LARGEST_FILE_BYTES + 1).read_to_end(&mut content).map_err(unreadable)?;
    if content.len() as u64 > LARGEST_FILE_BYTES {
        return Err(ConfigError::TooLarge { path: path.to_owned(), limit: LARGEST_FILE_BYTES });
    }
    Ok(content)
}

#[cfg(test)]
mod tests;
