//! What a value of the configuration file may be: one rule per kind of value. Each rule reads a
//! TOML value, says in words what it allows, and writes a value back as TOML.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;
use ureq::http::Uri;

use super::secret::SecretUrl;
use crate::personal::PhoneNumber;
use crate::registration::rulebook::{CardPrefix, PREFIX_DIGITS};
use crate::registration::{CardType, card};

/// Longest URL or path that is accepted, in bytes: Linux's `PATH_MAX`.
const LONGEST_TEXT_BYTES: usize = 4096;

/// Longest host name, in bytes (RFC 1035 §2.3.4).
const LONGEST_HOST_BYTES: usize = 253;

/// How one kind of value is read, described and written.
pub(super) trait Rule {
    type Value;

    /// What is allowed, in words that follow "allowed: ".
    fn allowed(&self) -> String;

    /// The value, or `None` if it is not allowed.
    fn read(&self, written: &DeValue<'_>) -> Option<Self::Value>;

    /// The value as TOML; `None` if it stands for "not set".
    fn toml(&self, value: &Self::Value) -> Option<String>;

    /// The value of a key that has no default and was not set, where that is possible.
    fn unset(&self) -> Option<Self::Value> {
        None
    }
}

/// A key that may stay away.
pub(super) struct Optional<R>(pub R);

impl<R: Rule> Rule for Optional<R> {
    type Value = Option<R::Value>;

    fn allowed(&self) -> String {
        self.0.allowed()
    }

    fn read(&self, written: &DeValue<'_>) -> Option<Self::Value> {
        self.0.read(written).map(Some)
    }

    fn toml(&self, value: &Self::Value) -> Option<String> {
        value.as_ref().and_then(|value| self.0.toml(value))
    }

    fn unset(&self) -> Option<Self::Value> {
        Some(None)
    }
}

/// A whole number, both bounds included.
pub(super) struct Whole {
    pub least: u32,
    pub most: u32,
    pub unit: &'static str,
}

impl Rule for Whole {
    type Value = u32;

    fn allowed(&self) -> String {
        format!("a whole number from {} to {} ({})", self.least, self.most, self.unit)
    }

    fn read(&self, written: &DeValue<'_>) -> Option<u32> {
        let number = written.as_integer()?;
        let number = u32::from_str_radix(number.as_str(), number.radix()).ok()?;
        (self.least..=self.most).contains(&number).then_some(number)
    }

    fn toml(&self, value: &u32) -> Option<String> {
        Some(value.to_string())
    }
}

/// A switch.
pub(super) struct YesOrNo;

impl Rule for YesOrNo {
    type Value = bool;

    fn allowed(&self) -> String {
        "true or false".to_owned()
    }

    fn read(&self, written: &DeValue<'_>) -> Option<bool> {
        written.as_bool()
    }

    fn toml(&self, value: &bool) -> Option<String> {
        Some(value.to_string())
    }
}

/// A length of time with its unit in the value: `"500ms"`, `"30s"`, `"5m"`, `"2h"`, `"1d"`.
/// Both bounds, in seconds or given as text, are included.
pub(super) struct Span {
    pub least: Duration,
    pub most: Duration,
}

/// Units of [`Span`], largest first, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

impl Rule for Span {
    type Value = Duration;

    fn allowed(&self) -> String {
        format!(
            "a length of time from \"{}\" to \"{}\", with unit ms, s, m, h or d",
            span_text(self.least),
            span_text(self.most)
        )
    }

    fn read(&self, written: &DeValue<'_>) -> Option<Duration> {
        let text = written.as_str()?;
        let number = text.trim_end_matches(|c: char| c.is_ascii_lowercase());
        let unit = &text[number.len()..];
        let (_, milliseconds) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
        if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let span = Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(milliseconds)?);
        (self.least..=self.most).contains(&span).then_some(span)
    }

    fn toml(&self, value: &Duration) -> Option<String> {
        Some(quoted(&span_text(*value)))
    }
}

/// A length of time in the largest unit that holds it without a fraction.
fn span_text(span: Duration) -> String {
    let milliseconds = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let fits = |&&(_, unit): &&(&str, u64)| milliseconds != 0 && milliseconds.is_multiple_of(unit);
    match UNITS.iter().find(fits) {
        Some((name, unit)) => format!("{}{name}", milliseconds / unit),
        None => "0s".to_owned(),
    }
}

/// A number of bytes with its unit in the value: `"500kB"`, `"20MB"`, `"1GB"`, a thousand to the next.
/// Both bounds, in bytes, are included.
pub(super) struct Size {
    pub least: u64,
    pub most: u64,
}

/// Units of [`Size`], largest first, in bytes.
const SIZES: [(&str, u64); 3] = [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000)];

impl Rule for Size {
    type Value = u64;

    fn allowed(&self) -> String {
        format!(
            "a size from \"{}\" to \"{}\", with unit kB, MB or GB",
            size_text(self.least),
            size_text(self.most)
        )
    }

    fn read(&self, written: &DeValue<'_>) -> Option<u64> {
        let text = written.as_str()?;
        let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = &text[number.len()..];
        let (_, bytes) = SIZES.into_iter().find(|(name, _)| *name == unit)?;
        if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let size = number.parse::<u64>().ok()?.checked_mul(bytes)?;
        (self.least..=self.most).contains(&size).then_some(size)
    }

    fn toml(&self, value: &u64) -> Option<String> {
        Some(quoted(&size_text(*value)))
    }
}

/// A size in the largest unit that holds it without a fraction.
fn size_text(bytes: u64) -> String {
    let fits = |&&(_, unit): &&(&str, u64)| bytes != 0 && bytes.is_multiple_of(unit);
    match SIZES.iter().find(fits) {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => format!("{}kB", bytes / 1000),
    }
}

/// Text without control characters, from one character to a bound.
pub(super) struct Text {
    pub most_characters: usize,
}

impl Rule for Text {
    type Value = String;

    fn allowed(&self) -> String {
        format!("text of 1 to {} characters, without control characters", self.most_characters)
    }

    fn read(&self, written: &DeValue<'_>) -> Option<String> {
        let text = written.as_str()?.trim();
        let length = text.chars().count();
        let allowed = (1..=self.most_characters).contains(&length) && !text.contains(char::is_control);
        allowed.then(|| text.to_owned())
    }

    fn toml(&self, value: &String) -> Option<String> {
        Some(quoted(value))
    }
}

/// A path from the root: a service has no folder of its own that others could be relative to.
pub(super) struct AbsolutePath;

impl Rule for AbsolutePath {
    type Value = PathBuf;

    fn allowed(&self) -> String {
        "a path that starts with /".to_owned()
    }

    fn read(&self, written: &DeValue<'_>) -> Option<PathBuf> {
        let path = written.as_str()?;
        let allowed =
            Path::new(path).is_absolute() && path.len() <= LONGEST_TEXT_BYTES && !path.contains('\0');
        allowed.then(|| PathBuf::from(path))
    }

    fn toml(&self, value: &PathBuf) -> Option<String> {
        Some(quoted(&value.to_string_lossy()))
    }
}

/// A URL of a server: scheme, host, optional port, path where it is wanted. User names, passwords, queries and
/// fragments are refused; a slash at the end is dropped.
pub(super) struct Url {
    pub schemes: &'static [&'static str],
    /// The scheme that is only good enough towards an address that never leaves the house.
    pub local_only: Option<&'static str>,
    /// Whether the URL may go on after the host.
    pub path: bool,
}

impl Rule for Url {
    type Value = String;

    fn allowed(&self) -> String {
        let mut words = format!("a URL that starts with {}://", self.schemes.join(":// or "));
        if let Some(scheme) = self.local_only {
            let _ = write!(words, " ({scheme}:// only to localhost or a private address)");
        }
        words.push_str(if self.path { ", without " } else { ", without path, " });
        words.push_str("user name, password, query or fragment");
        words
    }

    fn read(&self, written: &DeValue<'_>) -> Option<String> {
        let text = written.as_str()?;
        if text.len() > LONGEST_TEXT_BYTES || text.contains(['#', '?', '@']) {
            return None;
        }
        let uri: Uri = text.parse().ok()?;
        let scheme = uri.scheme_str()?;
        let authority = uri.authority()?;
        let port = authority.as_str().strip_prefix(authority.host())?;
        let port_allowed = port.is_empty() || authority.port_u16().is_some_and(|port| port != 0);
        let allowed = self.schemes.contains(&scheme)
            && !authority.host().is_empty()
            && port_allowed
            && (self.path || matches!(uri.path(), "" | "/"))
            && (self.local_only != Some(scheme) || is_local(authority.host()));
        allowed.then(|| text.trim_end_matches('/').to_owned())
    }

    fn toml(&self, value: &String) -> Option<String> {
        Some(quoted(value))
    }
}

/// Whether `host` is this machine or an address of a private network (RFC 1918, RFC 4193).
fn is_local(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse() {
        Ok(std::net::IpAddr::V4(address)) => address.is_loopback() || address.is_private(),
        Ok(std::net::IpAddr::V6(address)) => address.is_loopback() || address.is_unique_local(),
        Err(_) => host == "localhost",
    }
}

/// A version of WhatsApp Web, as whatsapp-rust's `with_version` takes it.
pub(super) struct WebVersion;

impl Rule for WebVersion {
    type Value = (u32, u32, u32);

    fn allowed(&self) -> String {
        "a version of WhatsApp Web, as \"2.3000.1040000000\"".to_owned()
    }

    fn read(&self, written: &DeValue<'_>) -> Option<Self::Value> {
        let mut parts = written.as_str()?.split('.').map(|part| {
            let digits = part.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| part.parse::<u32>().ok()).flatten()
        });
        let version = (parts.next()??, parts.next()??, parts.next()??);
        (parts.next().is_none() && version.0 > 0).then_some(version)
    }

    fn toml(&self, (first, second, third): &Self::Value) -> Option<String> {
        Some(format!("\"{first}.{second}.{third}\""))
    }
}

/// A list of values of one kind, without repetition. Both bounds on its length are included.
pub(super) struct List<R> {
    pub each: R,
    pub least: usize,
    pub most: usize,
}

impl<R: Rule<Value: PartialEq>> Rule for List<R> {
    type Value = Vec<R::Value>;

    fn allowed(&self) -> String {
        let Self { each, least, most } = self;
        let length = if *least == 0 { format!("at most {most}") } else { format!("{least} to {most}") };
        format!("a list of {length}, without repetition, each {}", each.allowed())
    }

    fn read(&self, written: &DeValue<'_>) -> Option<Self::Value> {
        let written = written.as_array()?;
        let mut values = Vec::new();
        for value in written {
            let value = self.each.read(value.get_ref())?;
            if values.contains(&value) || values.len() == self.most {
                return None;
            }
            values.push(value);
        }
        (values.len() >= self.least).then_some(values)
    }

    fn toml(&self, value: &Self::Value) -> Option<String> {
        let values: Option<Vec<String>> = value.iter().map(|value| self.each.toml(value)).collect();
        Some(format!("[{}]", values?.join(", ")))
    }
}

/// An IP address.
pub(super) struct Ip;

impl Rule for Ip {
    type Value = IpAddr;

    fn allowed(&self) -> String {
        "an IP address".to_owned()
    }

    fn read(&self, written: &DeValue<'_>) -> Option<IpAddr> {
        written.as_str()?.parse().ok()
    }

    fn toml(&self, value: &IpAddr) -> Option<String> {
        Some(quoted(&value.to_string()))
    }
}

/// The address of a server: an IP address, and its port if that is not the usual one.
pub(super) struct Server {
    pub usual_port: u16,
}

impl Rule for Server {
    type Value = SocketAddr;

    fn allowed(&self) -> String {
        format!("an IP address, with its port if that is not {}", self.usual_port)
    }

    fn read(&self, written: &DeValue<'_>) -> Option<SocketAddr> {
        let text = written.as_str()?;
        let bare = text.parse().ok().map(|ip| SocketAddr::new(ip, self.usual_port));
        bare.or_else(|| text.parse().ok()).filter(|server: &SocketAddr| server.port() != 0)
    }

    fn toml(&self, value: &SocketAddr) -> Option<String> {
        let usual = value.port() == self.usual_port;
        Some(quoted(&if usual { value.ip().to_string() } else { value.to_string() }))
    }
}

/// An address to listen on; `"off"` for none.
pub(super) struct ListenOn;

impl Rule for ListenOn {
    type Value = Option<SocketAddr>;

    fn allowed(&self) -> String {
        "an IP address with a port, or \"off\"".to_owned()
    }

    fn read(&self, written: &DeValue<'_>) -> Option<Self::Value> {
        match written.as_str()? {
            "off" => Some(None),
            address => address.parse().ok().map(Some),
        }
    }

    fn toml(&self, value: &Self::Value) -> Option<String> {
        Some(quoted(&value.map_or("off".to_owned(), |address| address.to_string())))
    }
}

/// One of a fixed set of words.
pub(super) struct Word<T: 'static>(pub &'static [(&'static str, T)]);

impl<T: Copy + PartialEq> Rule for Word<T> {
    type Value = T;

    fn allowed(&self) -> String {
        let words: Vec<String> = self.0.iter().map(|(word, _)| quoted(word)).collect();
        match words.split_last() {
            Some((last, [])) => last.clone(),
            Some((last, others)) => format!("{} or {last}", others.join(", ")),
            None => "nothing".to_owned(),
        }
    }

    fn read(&self, written: &DeValue<'_>) -> Option<T> {
        let text = written.as_str()?;
        self.0.iter().find(|(word, _)| *word == text).map(|(_, value)| *value)
    }

    fn toml(&self, value: &T) -> Option<String> {
        self.0.iter().find(|(_, known)| known == value).map(|(word, _)| quoted(word))
    }
}

/// A host name and the address that it has when nobody else knows one: `"name=address"`.
pub(super) struct PinnedHost;

impl Rule for PinnedHost {
    type Value = (String, IpAddr);

    fn allowed(&self) -> String {
        "a host name and its IP address, as \"web.whatsapp.com=192.0.2.1\"".to_owned()
    }

    fn read(&self, written: &DeValue<'_>) -> Option<Self::Value> {
        let (host, address) = written.as_str()?.split_once('=')?;
        let fits = |label: &str| {
            !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        let named = host.len() <= LONGEST_HOST_BYTES && host.split('.').all(fits);
        Some((host.to_ascii_lowercase(), address.parse().ok().filter(|_| named)?))
    }

    fn toml(&self, (host, address): &Self::Value) -> Option<String> {
        Some(quoted(&format!("{host}={address}")))
    }
}

/// The first digits of cards and their kind: `"digits=kind"`.
pub(super) struct PrefixOfCards;

impl Rule for PrefixOfCards {
    type Value = CardPrefix;

    fn allowed(&self) -> String {
        let kinds = CardType::ALL.map(CardType::stored).join(", ");
        format!(
            "{PREFIX_DIGITS} digits that begin with {} and a kind of card ({kinds}), as \"50494812=KJP\"",
            card::PREFIX
        )
    }

    fn read(&self, written: &DeValue<'_>) -> Option<CardPrefix> {
        let (digits, kind) = written.as_str()?.split_once('=')?;
        let named = |known: &CardType| known.stored().eq_ignore_ascii_case(kind.trim());
        CardPrefix::new(digits.trim(), CardType::ALL.into_iter().find(named)?)
    }

    fn toml(&self, value: &CardPrefix) -> Option<String> {
        Some(quoted(&format!("{}={}", value.digits(), value.kind().stored())))
    }
}

/// The phone number of a person, in any usual spelling.
pub(super) struct Phone;

impl Rule for Phone {
    type Value = PhoneNumber;

    fn allowed(&self) -> String {
        "a phone number, as \"62812…\" or \"0812…\"".to_owned()
    }

    fn read(&self, written: &DeValue<'_>) -> Option<PhoneNumber> {
        PhoneNumber::parse(written.as_str()?).ok()
    }

    /// Masked: `check` prints this.
    fn toml(&self, value: &PhoneNumber) -> Option<String> {
        Some(quoted(&value.masked()))
    }
}

/// A URL whose path is all that keeps strangers out.
pub(super) struct HookUrl;

impl Rule for HookUrl {
    type Value = SecretUrl;

    fn allowed(&self) -> String {
        "a URL that starts with https:// (http:// only to localhost or a private address), without user \
         name, password or fragment"
            .to_owned()
    }

    fn read(&self, written: &DeValue<'_>) -> Option<SecretUrl> {
        let text = written.as_str()?;
        if text.len() > LONGEST_TEXT_BYTES || text.contains(['#', '@']) {
            return None;
        }
        let uri: Uri = text.parse().ok()?;
        let host = uri.host().filter(|host| !host.is_empty())?;
        let allowed = match uri.scheme_str()? {
            "https" => true,
            "http" => is_local(host),
            _ => false,
        };
        allowed.then(|| SecretUrl::new(text))
    }

    /// Scheme and host only: `check` prints this.
    fn toml(&self, value: &SecretUrl) -> Option<String> {
        Some(quoted(&value.masked()))
    }
}

/// How much is logged.
pub(super) struct Level;

/// The levels in rising detail. `trace` is missing: the protocol library's traces show personal
/// numbers.
const LEVELS: [(&str, log::LevelFilter); 4] = [
    ("error", log::LevelFilter::Error),
    ("warn", log::LevelFilter::Warn),
    ("info", log::LevelFilter::Info),
    ("debug", log::LevelFilter::Debug),
];

impl Rule for Level {
    type Value = log::LevelFilter;

    fn allowed(&self) -> String {
        "\"error\", \"warn\", \"info\" or \"debug\"".to_owned()
    }

    fn read(&self, written: &DeValue<'_>) -> Option<log::LevelFilter> {
        let text = written.as_str()?;
        LEVELS.into_iter().find(|(name, _)| *name == text).map(|(_, level)| level)
    }

    fn toml(&self, value: &log::LevelFilter) -> Option<String> {
        LEVELS.into_iter().find(|(_, level)| level == value).map(|(name, _)| quoted(name))
    }
}

/// `text` as a TOML basic string (TOML 1.0, "String").
fn quoted(text: &str) -> String {
    let mut toml = String::with_capacity(text.len() + 2);
    toml.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => toml.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(toml, "\\u{:04X}", c as u32);
            }
            c => toml.push(c),
        }
    }
    toml.push('"');
    toml
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read<R: Rule>(rule: &R, toml: &str) -> Option<R::Value> {
        rule.read(DeValue::parse(toml).expect("TOML").get_ref())
    }

    const SPAN: Span = Span { least: Duration::from_millis(100), most: Duration::from_secs(86_400) };
    const PROJECT: Url = Url { schemes: &["https", "http"], local_only: Some("http"), path: false };

    #[test]
    fn lengths_of_time_need_a_unit_and_keep_their_bounds() {
        assert_eq!(read(&SPAN, "\"500ms\""), Some(Duration::from_millis(500)));
        assert_eq!(read(&SPAN, "\"30s\""), Some(Duration::from_secs(30)));
        assert_eq!(read(&SPAN, "\"5m\""), Some(Duration::from_secs(300)));
        assert_eq!(read(&SPAN, "\"1d\""), Some(Duration::from_secs(86_400)));
        for wrong in ["5", "\"5\"", "\"s\"", "\"+5s\"", "\"5 s\"", "\"99ms\"", "\"25h\"", "\"9e9d\"", "5.0"] {
            assert_eq!(read(&SPAN, wrong), None, "{wrong}");
        }
        assert_eq!(read(&SPAN, "\"99999999999999999999d\""), None);
    }

    #[test]
    fn a_clear_text_url_is_refused_unless_it_stays_in_the_house() {
        for url in ["https://abc.supabase.co", "http://localhost:3000", "http://127.0.0.1", "http://[::1]:80"]
        {
            assert_eq!(read(&PROJECT, &quoted(url)).as_deref(), Some(url));
        }
        assert_eq!(read(&PROJECT, "\"https://a.b/\"").as_deref(), Some("https://a.b"));
        for url in [
            "http://abc.supabase.co",
            "https://user:word@abc.supabase.co",
            "https://abc.supabase.co:0",
            "https://abc.supabase.co:99999",
            "https://abc.supabase.co/rest/v1/",
            "https://",
            "https://a?b",
            "https://a#b",
            "/path",
            "abc.supabase.co",
            "ftp://a.b",
            "https://a b",
        ] {
            assert_eq!(read(&PROJECT, &quoted(url)), None, "{url}");
        }
    }

    #[test]
    fn a_list_keeps_its_order_its_bound_and_has_no_repetition() {
        let rule = List { each: Server { usual_port: 853 }, least: 1, most: 2 };
        let servers = read(&rule, r#"["9.9.9.9", "[::1]:8853"]"#).unwrap();
        assert_eq!(servers, ["9.9.9.9:853".parse().unwrap(), "[::1]:8853".parse().unwrap()]);
        assert_eq!(rule.toml(&servers).as_deref(), Some(r#"["9.9.9.9", "[::1]:8853"]"#));
        for wrong in
            ["[]", r#"["1.1.1.1", "1.1.1.1:853"]"#, r#"["1.1.1.1", "::1", "::2"]"#, r#"["dns.google"]"#, "1"]
        {
            assert_eq!(read(&rule, wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_listener_is_an_address_with_a_port_or_off() {
        assert_eq!(read(&ListenOn, "\"off\""), Some(None));
        assert_eq!(read(&ListenOn, "\"127.0.0.1:80\""), Some("127.0.0.1:80".parse().ok()));
        for wrong in ["\"127.0.0.1\"", "\"\"", "\"localhost:80\"", "80"] {
            assert_eq!(read(&ListenOn, wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_pinned_host_has_a_name_and_an_address() {
        let pinned = read(&PinnedHost, "\"Web.WhatsApp.com=192.0.2.1\"");
        assert_eq!(pinned, Some(("web.whatsapp.com".to_owned(), "192.0.2.1".parse().unwrap())));
        for wrong in
            ["\"web.whatsapp.com\"", "\"=192.0.2.1\"", "\"a..b=192.0.2.1\"", "\"a=b\"", "\"a b=::1\""]
        {
            assert_eq!(read(&PinnedHost, wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_prefix_of_cards_has_eight_digits_and_a_known_kind() {
        let prefix = read(&PrefixOfCards, "\"50494812 = guru honorer\"");
        assert_eq!(prefix, CardPrefix::new("50494812", CardType::GuruHonorer));
        for wrong in
            ["\"50494812\"", "\"5049481=KJP\"", "\"12345678=KJP\"", "\"50494812=SIM\"", "\"50494885=KAJ\""]
        {
            assert_eq!(read(&PrefixOfCards, wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_keeps_strangers_out_is_not_shown() {
        let url = read(&HookUrl, "\"https://ntfy.sh/rahasia?auth=x\"").unwrap();
        assert_eq!(url.expose(), "https://ntfy.sh/rahasia?auth=x");
        assert_eq!(HookUrl.toml(&url).as_deref(), Some("\"https://ntfy.sh/…\""));
        assert_eq!(format!("{url:?}"), "SecretUrl(https://ntfy.sh/…)");
        for wrong in ["\"http://ntfy.sh/x\"", "\"https://u@ntfy.sh/x\"", "\"ntfy.sh\"", "\"https://\""] {
            assert_eq!(read(&HookUrl, wrong), None, "{wrong}");
        }
        let phone = read(&Phone, "\"0800-0000-0001\"").unwrap();
        assert_eq!(phone.expose(), "6280000000001");
        assert_eq!(Phone.toml(&phone).as_deref(), Some("\"*********0001\""));
    }

    #[test]
    fn a_web_version_has_three_numbers() {
        assert_eq!(read(&WebVersion, "\"2.3000.1040000000\""), Some((2, 3000, 1_040_000_000)));
        for wrong in ["\"2.3000\"", "\"2.3000.1.1\"", "\"2.3000.\"", "\"2.+3.1\"", "2.3", "\"a.b.c\""] {
            assert_eq!(read(&WebVersion, wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn every_value_written_as_toml_reads_back_the_same(text in "\\PC{1,20}", ms in 100u64..86_400_000) {
            let rule = Text { most_characters: 40 };
            if let Some(value) = rule.read(&DeValue::String(text.into())) {
                prop_assert_eq!(read(&rule, &rule.toml(&value).unwrap()), Some(value));
            }
            let span = Duration::from_millis(ms);
            prop_assert_eq!(read(&SPAN, &SPAN.toml(&span).unwrap()), Some(span));
        }
    }
}
