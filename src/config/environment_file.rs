//! The service's environment file, as systemd reads it (systemd.exec(5), `EnvironmentFile=`) and our
//! init script does. Commands that root types on the box see by it what the service sees.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// Where it lies; only root can read it.
pub const PATH: &str = "/etc/default/bot-kjp";

/// Largest file that is read, in bytes; it holds two lines.
const LARGEST_BYTES: u64 = 64 * 1024;

/// The lines of an environment file. It holds secrets, so it cannot be printed.
#[derive(Default)]
pub struct EnvironmentFile {
    text: String,
}

impl EnvironmentFile {
    /// Reads a file; one that is missing, closed to this user or no text has nothing in it.
    pub fn read(path: &Path) -> Self {
        let mut text = String::new();
        let read = File::open(path).and_then(|file| file.take(LARGEST_BYTES).read_to_string(&mut text));
        match read {
            Ok(_) => Self { text },
            Err(_) => Self::default(),
        }
    }

    /// The last value of a variable.
    pub fn get(&self, name: &str) -> Option<OsString> {
        let value = |line: &str| {
            let value = line.trim().strip_prefix(name)?.strip_prefix('=')?;
            let quoted = |quote| value.strip_prefix(quote)?.strip_suffix(quote);
            Some(quoted('"').or_else(|| quoted('\'')).unwrap_or(value).into())
        };
        self.text.lines().rev().find_map(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_be_quoted_and_comments_are_none() {
        let text = "# SUPABASE_URL=https://a\n#B=1\nA=1\nQ=\"x y\"\nR='z'\n A=2 \nAB=3\nE=\nU=\"\n";
        let file = EnvironmentFile { text: text.to_owned() };
        let got = |name: &str| file.get(name).map(|value| value.into_string().unwrap());
        assert_eq!(got("SUPABASE_URL"), None);
        assert_eq!(got("B"), None);
        for (name, value) in [("A", "2"), ("Q", "x y"), ("R", "z"), ("AB", "3"), ("E", ""), ("U", "\"")] {
            assert_eq!(got(name).as_deref(), Some(value), "{name}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_empty() {
        assert_eq!(EnvironmentFile::read(Path::new("/nonexistent/file")).get("A"), None);
    }
}
