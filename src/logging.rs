//! Logging to stderr, where journald or the init script picks it up.
//!
//! Our own code logs masked numbers only. The libraries below us do not know that a JID holds a
//! phone number, so the last word is spoken here: every run of digits that is long enough to be
//! a phone, card, KTP or KK number is masked before a line is written.

use std::borrow::Cow;
use std::io::{Write as _, stderr};

use log::{LevelFilter, Log, Metadata, Record};
use simple_logger::SimpleLogger;

use crate::personal::mask;

/// Longer runs of digits are masked. Indonesian phone numbers have at least ten (domain §1).
const LONGEST_HARMLESS_RUN: usize = 9;

/// `simple_logger` decides what is written. It does not write: it panics when stderr is full or
/// gone, and a bot must not die of a full log.
struct MaskingLogger {
    levels: SimpleLogger,
}

impl Log for MaskingLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.levels.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        // One write, so that lines of several threads do not mix; journald adds the time.
        let line = format!("{:<5} [{}] {}\n", record.level(), record.target(), record.args());
        let _ = stderr().lock().write_all(mask_numbers(&line).as_bytes());
    }

    fn flush(&self) {}
}

/// Starts logging at `level`; the libraries speak one level less.
///
/// Also makes panics go through the same mask. Does nothing if a logger is set already.
pub fn start(level: LevelFilter) {
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
    if log::set_boxed_logger(Box::new(MaskingLogger { levels })).is_ok() {
        log::set_max_level(level);
        std::panic::set_hook(Box::new(|panic| {
            log::error!("bug: {}", mask_numbers(&panic.to_string()));
        }));
    }
}

/// Masks every run of digits that could identify a person.
pub(crate) fn mask_numbers(text: &str) -> Cow<'_, str> {
    let mut masked = String::new();
    let mut copied = 0;
    let mut rest = 0;
    while let Some(start) = text[rest..].find(|c: char| c.is_ascii_digit()).map(|at| rest + at) {
        let end = text[start..].find(|c: char| !c.is_ascii_digit()).map_or(text.len(), |at| start + at);
        if end - start > LONGEST_HARMLESS_RUN {
            masked.push_str(&text[copied..start]);
            masked.push_str(&mask(&text[start..end]));
            copied = end;
        }
        rest = end;
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    masked.push_str(&text[copied..]);
    Cow::Owned(masked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phone_number_inside_a_jid_is_masked() {
        assert_eq!(
            mask_numbers("to 6280000000001:33@s.whatsapp.net failed (463)"),
            "to *********0001:33@s.whatsapp.net failed (463)"
        );
    }

    #[test]
    fn several_numbers_and_text_around_them() {
        assert_eq!(mask_numbers("3171010101900000 3171010101100000!"), "************0000 ************0000!");
        assert_eq!(mask_numbers("port 5432, 20 s"), "port 5432, 20 s");
        assert_eq!(mask_numbers(""), "");
    }

    proptest::proptest! {
        #[test]
        fn no_line_ever_shows_ten_digits_in_a_row(text in ".*", number in "[0-9]{10,20}", tail in ".*") {
            let line = format!("{text}{number}{tail}");
            let masked = mask_numbers(&line);
            let longest = masked.split(|c: char| !c.is_ascii_digit()).map(str::len).max().unwrap_or(0);
            proptest::prop_assert!(longest <= LONGEST_HARMLESS_RUN);
        }
    }
}
