//! `bot-kjp status`: asks the running bot how it is, over its status page, and says it to a person.
//!
//! The database is locked by the bot that runs, so it is not touched.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use thiserror::Error;

use super::exit_code::ExitCode;
use super::wording;
use crate::watch::report::{Part, Report, State};
use crate::watch::wording::duration;

/// Time for connecting, and for each wait for bytes after that: the bot answers within
/// milliseconds, a box that is busy within seconds.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Longest answer that is read, in bytes; the longest page has about 20,000.
const MAX_ANSWER_BYTES: u64 = 256 * 1024;

/// Header fields that an answer may have.
const MAX_HEADERS: usize = 32;

/// Columns for the names of the parts.
const NAME_COLUMNS: usize = 12;

/// Why the bot cannot be asked.
#[derive(Debug, Error)]
pub enum StatusError {
    #[error("no status page: health.listen is \"off\"")]
    Off,
    #[error("nobody answers at {address} (health.listen): {cause}")]
    NobodyThere { address: SocketAddr, cause: io::Error },
    #[error("what answers at {address} (health.listen) is not this bot: {detail}")]
    NotOurs { address: SocketAddr, detail: String },
}

impl StatusError {
    /// What the operator has to do, in Indonesian.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Off => wording::STATUS_OFF,
            Self::NobodyThere { .. } => wording::NOT_RUNNING,
            Self::NotOurs { .. } => wording::STATUS_NOT_OURS,
        }
    }

    pub const fn exit_code(&self) -> ExitCode {
        match self {
            Self::Off => ExitCode::Configuration,
            Self::NobodyThere { .. } | Self::NotOurs { .. } => ExitCode::Unavailable,
        }
    }
}

/// What the bot said about itself.
#[derive(Debug)]
pub struct Status {
    pub report: Report,
    /// As it came.
    pub json: String,
}

impl Status {
    /// Asks the bot whose page is at `listen`.
    ///
    /// # Errors
    /// Nobody is there, or somebody else.
    pub fn ask(listen: Option<SocketAddr>) -> Result<Self, StatusError> {
        let address = reachable(listen.ok_or(StatusError::Off)?);
        let answer = request(address).map_err(|cause| StatusError::NobodyThere { address, cause })?;
        let not_ours = |detail| StatusError::NotOurs { address, detail };
        let json = body(&answer).map_err(not_ours)?;
        let report = serde_json::from_str(json).map_err(|error| not_ours(error.to_string()))?;
        Ok(Self { report, json: json.to_owned() })
    }

    pub const fn exit_code(&self) -> ExitCode {
        match self.report.state {
            State::Healthy | State::Warned => ExitCode::Stopped,
            State::Unhealthy => ExitCode::Unhealthy,
        }
    }
}

/// A page on all addresses is asked on this machine's own.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn request(address: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(
        format!("GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer)?;
    Ok(answer)
}

/// The body of an answer that can be a report: 200 or 503. What is wrong otherwise.
fn body(answer: &[u8]) -> Result<&str, String> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut fields);
    let start = match response.parse(answer) {
        Ok(httparse::Status::Complete(start)) => start,
        Ok(httparse::Status::Partial) => return Err("it hung up early".to_owned()),
        Err(error) => return Err(format!("no HTTP: {error}")),
    };
    match response.code {
        Some(200 | 503) => {}
        code => return Err(format!("it answered {}", code.unwrap_or_default())),
    }
    std::str::from_utf8(&answer[start..]).map_err(|error| error.to_string())
}

/// The report for a person. `colours`: the reader is a terminal that wants them.
pub fn text(report: &Report, colours: bool) -> String {
    let paint = |colour: &str, text: &str| {
        if colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    };
    let (colour, headline) = match report.state {
        State::Healthy => (GREEN, wording::STATUS_HEALTHY),
        State::Warned => (YELLOW, wording::STATUS_WARNED),
        State::Unhealthy => (RED, wording::STATUS_UNHEALTHY),
    };
    let mut text = format!("{}\n\n", paint(colour, headline));
    let mut before = "";
    for part in &report.parts {
        // Several servers share one name.
        let name = if part.part == before { "" } else { wording::part(&part.part) };
        before = &part.part;
        let padding = " ".repeat(NAME_COLUMNS.saturating_sub(name.chars().count()));
        text.push_str(&format!("{name}{padding}{}{}\n", clean(&part.message), since(part)));
    }
    for warning in &report.warnings {
        let colour = if warning.severity == "unhealthy" { RED } else { YELLOW };
        text.push_str(&format!(
            "\n{} ({}, {})\n",
            paint(colour, &clean(&warning.message)),
            clean(&warning.code),
            wording::for_so_long(&duration(Duration::from_secs(warning.since_seconds)))
        ));
        text.push_str(&format!("  {}: {}\n", wording::WHAT_TO_DO, clean(&warning.action)));
        if let Some(error) = &warning.error {
            text.push_str(&format!("  {}: {}\n", wording::LAST_ERROR, clean(error)));
        }
    }
    text
}

const GREEN: &str = "32";
const YELLOW: &str = "33";
const RED: &str = "31";

/// Since when the connection is as it is; of other parts that says little.
fn since(part: &Part) -> String {
    match part.since_seconds.filter(|_| part.part == "whatsapp") {
        None => String::new(),
        Some(seconds) => format!(" ({})", wording::for_so_long(&duration(Duration::from_secs(seconds)))),
    }
}

/// Text that came over a socket does not get to control the terminal.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::report::Shown;
    use std::net::TcpListener;

    fn report(state: State) -> Report {
        let part = |part: &str, message: &str| Part {
            part: part.into(),
            code: format!("{part}.ok"),
            since_seconds: Some(5340),
            error: None,
            message: message.into(),
            action: None,
        };
        let warning = Shown {
            code: "whatsapp.offline".into(),
            severity: "unhealthy".into(),
            since_seconds: 240,
            error: Some("timed out".into()),
            message: "WhatsApp terputus: 7 kali gagal.".into(),
            action: "Periksa modem.".into(),
        };
        Report {
            state,
            version: "0.1.0".into(),
            time: 0,
            uptime_seconds: 9,
            promise_kept: true,
            parts: vec![
                part("whatsapp", "terhubung"),
                part("dns", "dari ISP/modem: baik"),
                part("dns", "lewat HTTPS: baik"),
                part("memory", "9,8 MB"),
            ],
            warnings: if state == State::Healthy { vec![] } else { vec![warning] },
        }
    }

    /// A server that says `answer` to whoever comes first.
    fn server(answer: String) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            let _ = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    fn served(status: &str, state: State) -> SocketAddr {
        let json = serde_json::to_string(&report(state)).unwrap();
        server(format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\n\r\n{json}"))
    }

    #[test]
    fn the_exit_code_tells_scripts_how_it_is() {
        let healthy = Status::ask(Some(served("200 OK", State::Healthy))).unwrap();
        assert_eq!(healthy.exit_code(), ExitCode::Stopped);
        let unhealthy = Status::ask(Some(served("503 Service Unavailable", State::Unhealthy))).unwrap();
        assert_eq!(unhealthy.exit_code(), ExitCode::Unhealthy);
        assert_eq!(serde_json::from_str::<Report>(&unhealthy.json).unwrap(), unhealthy.report);
    }

    #[test]
    fn a_bot_that_does_not_run_is_told_apart_from_another_program_on_its_port() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = Status::ask(Some(free)).unwrap_err();
        assert!(matches!(error, StatusError::NobodyThere { .. }));
        assert_eq!((error.exit_code(), error.advice()), (ExitCode::Unavailable, wording::NOT_RUNNING));
        for answer in ["HTTP/1.1 404 Not Found\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\nhello", "SSH-2.0-x\r\n", ""]
        {
            let error = Status::ask(Some(server(answer.into()))).unwrap_err();
            assert!(matches!(error, StatusError::NotOurs { .. }), "{answer:?}: {error}");
        }
        assert_eq!(Status::ask(None).unwrap_err().exit_code(), ExitCode::Configuration);
    }

    #[test]
    fn a_page_on_all_addresses_is_asked_on_this_machine() {
        let reached = |listen: &str| reachable(listen.parse().unwrap()).to_string();
        assert_eq!(reached("0.0.0.0:8788"), "127.0.0.1:8788");
        assert_eq!(reached("[::]:8788"), "[::1]:8788");
        assert_eq!(reached("192.0.2.1:8788"), "192.0.2.1:8788");
    }

    #[test]
    fn a_person_reads_the_parts_and_then_what_to_do() {
        assert_eq!(
            text(&report(State::Unhealthy), false),
            "Ada gangguan yang perlu dibantu.\n\n\
             WhatsApp    terhubung (sejak 1 jam 29 menit)\n\
             DNS         dari ISP/modem: baik\n\
             \u{20}           lewat HTTPS: baik\n\
             Memori      9,8 MB\n\
             \n\
             WhatsApp terputus: 7 kali gagal. (whatsapp.offline, sejak 4 menit)\n\
             \u{20} Yang harus dilakukan: Periksa modem.\n\
             \u{20} Kesalahan terakhir: timed out\n"
        );
    }

    #[test]
    fn only_a_terminal_gets_control_sequences() {
        let mut report = report(State::Unhealthy);
        report.warnings[0].message = "\x1b[2Jkosong".into();
        assert!(!text(&report, false).contains('\x1b'));
        let coloured = text(&report, true);
        assert!(coloured.starts_with("\x1b[31m") && !coloured.contains("\x1b[2J"));
    }

    proptest::proptest! {
        #[test]
        fn no_answer_makes_the_reader_panic(
            answer in "(HTTP/1\\.1 |200 OK|503|\r\n|Content-Length: 4|\\{\\}|\\PC){0,12}",
        ) {
            let _ = body(answer.as_bytes());
        }
    }
}
