//! The key of the Supabase project: where it may come from, and what it looks like.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::problem::{Fault, Place, Problem};

/// Environment variable with the project's secret key.
pub const KEY_VARIABLE: &str = "SUPABASE_SECRET_KEY";
/// The name of that variable in Supabase's older documents; accepted with a warning.
pub const OLD_KEY_VARIABLE: &str = "SUPABASE_SERVICE_ROLE_KEY";
/// Environment variable with the project's address.
pub const URL_VARIABLE: &str = "SUPABASE_URL";
/// Folder in which systemd lays down credentials (systemd.exec(5), `LoadCredential=`).
pub const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";
/// Name of the credential with the project's secret key.
pub const KEY_CREDENTIAL: &str = "supabase-secret-key";

/// A URL whose path is all that keeps strangers out (a webhook): shown as scheme and host only.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// Wraps a URL that was already checked.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The whole URL. Never pass it to a log, an error or an alert.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Scheme and host: fit for a log.
    pub fn masked(&self) -> String {
        let after_scheme = self.0.find("://").map_or(0, |at| at + 3);
        let host = self.0[after_scheme..].find(['/', '?']).map_or(self.0.len(), |at| after_scheme + at);
        format!("{}/…", &self.0[..host])
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretUrl({})", self.masked())
    }
}

/// Longest key that is accepted, in bytes; a Supabase JWT has about 220.
const LONGEST_KEY_BYTES: usize = 4096;

/// Whether text has the shape of a Supabase key: `sb_secret_…`, or a JWT (RFC 7519 §3: three
/// parts, the first of which is base64 of `{"`).
pub(super) fn looks_like_a_secret(text: &str) -> bool {
    let text = text.trim();
    text.starts_with("sb_secret_") || (text.starts_with("eyJ") && text.matches('.').count() == 2)
}

/// The key and the place it came from, by rank: `SUPABASE_SECRET_KEY`, the systemd credential,
/// `SUPABASE_SERVICE_ROLE_KEY`. A variable without content counts as not set.
pub(super) fn find(
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Option<(SecretString, Place)>, Problem> {
    if let Some(value) = filled(variable, KEY_VARIABLE) {
        return checked(value, Place::Variable(KEY_VARIABLE)).map(Some);
    }
    if let Some(folder) = filled(variable, CREDENTIALS_VARIABLE)
        && let Some((value, path)) = credential(&PathBuf::from(folder))?
    {
        return checked(value, Place::Credential(path)).map(Some);
    }
    match filled(variable, OLD_KEY_VARIABLE) {
        Some(value) => checked(value, Place::Variable(OLD_KEY_VARIABLE)).map(Some),
        None => Ok(None),
    }
}

/// An environment variable that is set to something.
pub(super) fn filled(variable: &dyn Fn(&str) -> Option<OsString>, name: &str) -> Option<OsString> {
    variable(name).filter(|value| !value.is_empty())
}

/// The credential in `folder`, if there is one.
fn credential(folder: &Path) -> Result<Option<(OsString, PathBuf)>, Problem> {
    let path = folder.join(KEY_CREDENTIAL);
    let fault =
        |reason: String| Problem { place: Place::Credential(path.clone()), fault: Fault::Credential(reason) };
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fault(error.to_string())),
    };
    let mut text = String::new();
    file.take(LONGEST_KEY_BYTES as u64 + 1).read_to_string(&mut text).map_err(|e| fault(e.to_string()))?;
    Ok(Some((text.into(), path)))
}

/// The key without white space around it (editors add a line break), fit for an HTTP header.
fn checked(value: OsString, place: Place) -> Result<(SecretString, Place), Problem> {
    let text = value.to_string_lossy();
    let text = text.trim();
    if text.starts_with("sb_publishable_") {
        return Err(Problem { place, fault: Fault::PublishableKey });
    }
    let fits = (1..=LONGEST_KEY_BYTES).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if !fits {
        let allowed = format!("1 to {LONGEST_KEY_BYTES} ASCII characters without white space");
        return Err(Problem { place, fault: Fault::Value { key: None, found: None, allowed } });
    }
    Ok((SecretString::from(text), place))
}
