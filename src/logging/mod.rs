//! Logging to stderr, where journald or the init script picks it up, and to a file if one is set.
//!
//! Our own code logs masked numbers only. The libraries below us do not know that a JID holds a
//! phone number, so the last word is spoken here: every number that is long enough to be a phone,
//! card, KTP or KK number is masked before a line is written anywhere. What repeats is written once
//! and then counted ([`repeats`]), so that no trouble fills the flash.

mod file;
mod mask;
mod repeats;

use std::fmt;
use std::io::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use log::{Level, LevelFilter, Log, Metadata, Record};
use simple_logger::SimpleLogger;

use crate::clock;
use crate::config;
use crate::outlet;
use crate::trusted_clock;
use file::LogFile;
pub(crate) use mask::mask_numbers;
use repeats::Repeats;

/// Longest line in bytes; the rest of it is cut. journald has a similar bound.
const MAX_LINE_BYTES: usize = 8 * 1024;

/// `simple_logger` decides what is written. It does not write: it panics when stderr is full or
/// gone, and a bot must not die of a full log, nor wait for its reader.
struct MaskingLogger {
    levels: SimpleLogger,
    out: Mutex<Out>,
}

/// Where lines go.
struct Out {
    repeats: Repeats,
    file: Option<LogFile>,
}

impl Log for MaskingLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.levels.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        // Before the lock: what is written may itself log.
        let line = format!("{:<5} [{}] {}", record.level(), record.target(), record.args());
        let line = mask_numbers(cut(&line));
        let now = clock::now();
        let mut out = self.lock();
        for line in out.repeats.take(&line, now) {
            out.write(&line, now);
        }
    }

    /// Writes how often things were repeated that have not been said yet.
    fn flush(&self) {
        let now = clock::now();
        let mut out = self.lock();
        for line in out.repeats.end(now) {
            out.write(&line, now);
        }
    }
}

impl MaskingLogger {
    fn lock(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Out {
    /// A log that cannot be written is nobody's trouble but the reader's.
    fn write(&mut self, line: &str, now: Instant) {
        // One write, so that lines of several threads do not mix; journald adds the time.
        let _ = outlet::error().write_all(format!("{line}\n").as_bytes());
        if let Some(file) = &mut self.file {
            file.write(line, trusted_clock::now(), now);
        }
    }
}

/// Starts logging as the settings say; the libraries speak one level less than we do.
///
/// Also makes panics go through the same mask. Does nothing if a logger is set already.
pub fn start(settings: &config::Log) {
    let level = settings.level;
    let libraries = match level {
        LevelFilter::Off => LevelFilter::Off,
        LevelFilter::Error | LevelFilter::Warn => LevelFilter::Error,
        LevelFilter::Info => LevelFilter::Warn,
        LevelFilter::Debug => LevelFilter::Info,
        LevelFilter::Trace => LevelFilter::Debug,
    };
    let levels = SimpleLogger::new()
        .with_level(libraries)
        .with_module_level("bot_kjp", level)
        // Reports each undecryptable message over many lines, with keys; we say it in one.
        .with_module_level("wacore_libsignal", LevelFilter::Off)
        // Write the link code, which is a secret while it lasts.
        .with_module_level("Client/PairCode", libraries.min(LevelFilter::Warn))
        .with_module_level("Bot/PairCode", libraries.min(LevelFilter::Warn));
    let file = settings.file.as_ref().map(|path| LogFile::new(path.clone(), settings.file_size));
    let logger = MaskingLogger { levels, out: Mutex::new(Out { repeats: Repeats::default(), file }) };
    if log::set_boxed_logger(Box::new(logger)).is_ok() {
        log::set_max_level(level);
        std::panic::set_hook(Box::new(|panic| {
            log::error!("bug: {}", mask_numbers(&panic.to_string()));
            end();
        }));
    }
}

/// `log::debug!` for our own code. That one is compiled out of releases (Cargo.toml), and with it what the
/// libraries call debug, which no setting lets through: some hundred places with their texts.
macro_rules! debug {
    ($($argument:tt)+) => {
        if ::log::max_level() >= ::log::LevelFilter::Debug {
            $crate::logging::detail(module_path!(), format_args!($($argument)+));
        }
    };
}
pub(crate) use debug;

/// Logs at level debug, as [`debug`] does once it is known that somebody may want it.
#[cold]
pub(crate) fn detail(target: &'static str, message: fmt::Arguments<'_>) {
    let record = Record::builder()
        .level(Level::Debug)
        .target(target)
        .module_path_static(Some(target))
        .args(message)
        .build();
    log::logger().log(&record);
}

/// Writes what is still to be said. Call it before the process ends, and from time to time.
pub fn end() {
    log::logger().flush();
}

fn cut(line: &str) -> &str {
    &line[..line.floor_char_boundary(MAX_LINE_BYTES)]
}
