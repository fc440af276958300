//! What the program tells the one who started it when it ends.

use std::io;

use crate::config::ConfigError;
use crate::ledger::OpenError;

/// Exit codes; those from 64 on have their meaning from BSD's `sysexits.h`. The service must not
/// be started again after 64, 65, 66, 77 and 78: a person has to change something first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Asked to stop, or done.
    Stopped = 0,
    /// `status`: the bot runs, and something needs help. `doctor`: something has to be repaired.
    /// `install`: what was installed is not well.
    Unhealthy = 1,
    /// The command line is wrong (`EX_USAGE`).
    Usage = 64,
    /// The database is damaged or of a newer version (`EX_DATAERR`).
    DamagedDatabase = 65,
    /// A file or folder is missing (`EX_NOINPUT`).
    Missing = 66,
    /// `status`: the bot does not run, or cannot be asked (`EX_UNAVAILABLE`).
    Unavailable = 69,
    /// A defect of the program (`EX_SOFTWARE`).
    Bug = 70,
    /// A file or folder cannot be made: disk full, read-only (`EX_CANTCREAT`).
    CannotCreate = 73,
    /// Reading or writing failed (`EX_IOERR`).
    InputOutput = 74,
    /// Another process uses the database, or it may work later (`EX_TEMPFAIL`).
    Temporary = 75,
    /// The operating system does not permit it (`EX_NOPERM`).
    NotPermitted = 77,
    /// The configuration is wrong (`EX_CONFIG`).
    Configuration = 78,
}

impl ExitCode {
    /// All codes in rising order.
    pub const ALL: [Self; 12] = [
        Self::Stopped,
        Self::Unhealthy,
        Self::Usage,
        Self::DamagedDatabase,
        Self::Missing,
        Self::Unavailable,
        Self::Bug,
        Self::CannotCreate,
        Self::InputOutput,
        Self::Temporary,
        Self::NotPermitted,
        Self::Configuration,
    ];

    /// What the code means, for `--help`.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Stopped => "asked to stop, or done; status, doctor: all is well, or only worth knowing",
            Self::Unhealthy => "status, doctor: something needs help; install: it is not well",
            Self::Usage => "the command line is wrong",
            Self::DamagedDatabase => "the database is damaged",
            Self::Missing => "a file or folder is missing",
            Self::Unavailable => "status: the bot does not run",
            Self::Bug => "a defect of this program",
            Self::CannotCreate => "a file or folder cannot be made",
            Self::InputOutput => "reading or writing failed",
            Self::Temporary => "in use by another process, or may work later",
            Self::NotPermitted => "not permitted",
            Self::Configuration => "the configuration is wrong",
        }
    }

    /// The code for a failed operation on a file or folder.
    pub fn of_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            io::ErrorKind::PermissionDenied => Self::NotPermitted,
            io::ErrorKind::StorageFull | io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::QuotaExceeded => {
                Self::CannotCreate
            }
            _ => Self::InputOutput,
        }
    }

    /// The code for a database that cannot be opened.
    pub fn of_ledger(error: &OpenError) -> Self {
        match error {
            OpenError::FolderMissing(_) => Self::Missing,
            OpenError::NotAccessible { cause, .. } => Self::of_io(cause),
            OpenError::FolderOpenToOthers { .. } => Self::NotPermitted,
            OpenError::ReadOnly(_) | OpenError::NoSpace(_) => Self::CannotCreate,
            OpenError::InUse(_) => Self::Temporary,
            OpenError::Damaged { .. } | OpenError::Foreign(_) | OpenError::Newer { .. } => {
                Self::DamagedDatabase
            }
            OpenError::Sqlite { .. } => Self::InputOutput,
        }
    }

    /// The code for a configuration that cannot be used.
    pub fn of_config(error: &ConfigError) -> Self {
        match error {
            ConfigError::Unreadable { source, .. } => Self::of_io(source),
            ConfigError::TooLarge { .. } | ConfigError::Refused(_) => Self::Configuration,
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}
