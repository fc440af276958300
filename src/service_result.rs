//! What the service manager says of the process before: whether its watchdog or the kernel killed it
//! cannot be seen from inside.
//!
//! systemd tells a unit's `ExecStopPost=` in three variables, and the unit leaves them for the next
//! process: `ExecStopPost=/bin/sh -c 'echo "$SERVICE_RESULT $EXIT_CODE $EXIT_STATUS" >
//! "$RUNTIME_DIRECTORY/service-result"'` (systemd.exec(5)). The folder lies in RAM, so the file never
//! speaks of another boot.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::ledger::process_start::Verdict;

/// Variable with the service's folder in RAM; the first of several, which colons part.
const FOLDER_VARIABLE: &str = "RUNTIME_DIRECTORY";

/// The file's name in that folder.
const FILE: &str = "service-result";

/// Longest file that is read, in bytes. Three words have about 30.
const MAX_BYTES: u64 = 200;

/// Takes the verdict on the process before: it is read once.
pub fn take() -> Option<Verdict> {
    let folders = std::env::var_os(FOLDER_VARIABLE)?;
    let first = std::env::split_paths(&folders).next().filter(|folder| folder.is_absolute())?;
    take_from(&first.join(FILE))
}

fn take_from(file: &Path) -> Option<Verdict> {
    let mut text = String::new();
    let read = File::open(file).and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text));
    let path: PathBuf = file.to_path_buf();
    if read.is_ok()
        && let Err(error) = fs::remove_file(&path)
    {
        // It would speak of the wrong process the next time.
        log::warn!("service result: {} was read and not removed: {error}", path.display());
    }
    parse(&text)
}

/// `None` for an end that was in order, and for what is not understood.
fn parse(text: &str) -> Option<Verdict> {
    let mut words = text.split_whitespace();
    let (result, code, status) = (words.next()?, words.next()?, words.next()?);
    match (result, code) {
        ("watchdog", _) => Some(Verdict::Watchdog),
        ("oom-kill", _) => Some(Verdict::OutOfMemory),
        (_, "exited") => status.parse().ok().filter(|code| *code != 0).map(Verdict::Exited),
        ("signal" | "core-dump" | "timeout", "killed" | "dumped") => Some(Verdict::Killed),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemds_words_are_understood() {
        for (text, verdict) in [
            ("watchdog dumped ABRT\n", Some(Verdict::Watchdog)),
            ("oom-kill killed KILL\n", Some(Verdict::OutOfMemory)),
            ("signal killed SEGV", Some(Verdict::Killed)),
            ("core-dump dumped ABRT", Some(Verdict::Killed)),
            ("exit-code exited 78", Some(Verdict::Exited(78))),
            ("success exited 0", None),
            ("success killed TERM", None),
            ("", None),
            ("exit-code exited 1000", None),
        ] {
            assert_eq!(parse(text), verdict, "{text}");
        }
    }

    #[test]
    fn it_is_taken_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        assert_eq!(take_from(&file), None);
        fs::write(&file, "watchdog dumped ABRT\n").unwrap();
        assert_eq!(take_from(&file), Some(Verdict::Watchdog));
        assert_eq!(take_from(&file), None);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,40}|(watchdog|exited|signal|killed|[0-9 ]){0,5}") {
            let _ = parse(&text);
        }
    }
}
