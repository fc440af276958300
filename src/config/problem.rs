//! What can be wrong with the configuration, as sentences that say where, what, and what is
//! allowed instead. No sentence repeats a value: a secret pasted into the wrong line must not
//! reach a terminal or the journal.

use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::nearest::repeated;

/// At most this many problems are shown; a file with more of them is not a configuration file.
const SHOWN_PROBLEMS: usize = 20;

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error(
        "{}: cannot read the configuration: {source}; correct the path or its permissions, or name another \
         file with --config FILE",
        path.display()
    )]
    Unreadable { path: PathBuf, source: io::Error },
    #[error(
        "{}: more than {limit} bytes: not a configuration file of this program; \
         `bot-kjp example` prints one",
        path.display()
    )]
    TooLarge { path: PathBuf, limit: u64 },
    #[error("{0}")]
    Refused(Problems),
}

/// Everything that is wrong, in the order of the file; never empty.
#[derive(Debug)]
pub struct Problems(pub(super) Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, problem) in self.0.iter().take(SHOWN_PROBLEMS).enumerate() {
            let line_break = if place == 0 { "" } else { "\n" };
            write!(f, "{line_break}{problem}")?;
        }
        match self.0.len().saturating_sub(SHOWN_PROBLEMS) {
            0 => Ok(()),
            more => write!(f, "\n({more} more problems)"),
        }
    }
}

/// One thing that is wrong: where, and what.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub place: Place,
    pub fault: Fault,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// Line of the configuration file, counted from 1.
    Line { file: PathBuf, line: usize },
    /// Environment variable.
    Variable(&'static str),
    /// Credential file that systemd laid down.
    Credential(PathBuf),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    NotUtf8,
    Syntax(String),
    UnknownKey {
        key: String,
        nearest: Option<&'static str>,
        instead: String,
    },
    /// `found` is set if the kind of value is wrong already.
    Value {
        key: Option<&'static str>,
        found: Option<&'static str>,
        allowed: String,
    },
    SecretInFile {
        key: String,
    },
    PublishableKey,
    Credential(String),
    KeyMissing,
    UrlMissing,
}

impl Problem {
    /// The line of the file, counted from 1; 0 if this is not about the file.
    pub(super) fn line(&self) -> usize {
        match self.place {
            Place::Line { line, .. } => line,
            Place::Variable(_) | Place::Credential(_) => 0,
        }
    }

    /// Whether this is about the value of the key `path`.
    pub(super) fn concerns(&self, path: &str) -> bool {
        matches!(&self.fault, Fault::Value { key: Some(key), .. } if *key == path)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Line { file, line } => write!(f, "{}:{line}: {}", file.display(), self.fault),
            Place::Variable(name) => write!(f, "environment: {name}: {}", self.fault),
            Place::Credential(path) => write!(f, "{}: {}", path.display(), self.fault),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUtf8 => f.write_str("not UTF-8 text; save the file as UTF-8"),
            Self::Syntax(message) => write!(f, "not TOML: {message}"),
            Self::UnknownKey { key, nearest: Some(nearest), .. } => {
                write!(f, "{}: unknown key; did you mean {nearest}?", repeated(key))
            }
            Self::UnknownKey { key, nearest: None, instead } => {
                write!(f, "{}: unknown key; {instead}", repeated(key))
            }
            Self::Value { key, found, allowed } => {
                if let Some(key) = key {
                    write!(f, "{key}: ")?;
                }
                write!(f, "{} is not allowed; allowed: {allowed}", found.unwrap_or("this value"))
            }
            Self::SecretInFile { key } => write!(
                f,
                "{}: a secret does not belong in this file; put it into the environment variable \
                 SUPABASE_SECRET_KEY or the systemd credential supabase-secret-key",
                repeated(key)
            ),
            Self::PublishableKey => f.write_str(
                "this is the project's publishable key, which may not write registrations; take a secret \
                 key (sb_secret_…) from the project's API settings",
            ),
            Self::Credential(reason) => write!(f, "cannot use this credential: {reason}"),
            Self::KeyMissing => f.write_str(
                "the Supabase address is set, but no key; set the environment variable \
                 SUPABASE_SECRET_KEY or the systemd credential supabase-secret-key",
            ),
            Self::UrlMissing => f.write_str(
                "a Supabase key is set, but no address; set the environment variable SUPABASE_URL or \
                 supabase.url in the configuration file",
            ),
        }
    }
}
