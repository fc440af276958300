//! `bot-kjp doctor`: looks at everything that the bot needs, now, and says what to repair.
//!
//! It changes nothing, whether the bot runs or not: the database is not opened, nothing is sent to
//! anybody, and the one file that it writes it removes. What is found is data ([`finding`]); sentences
//! ([`wording`](super::wording)), the text and the exit code follow from it.

mod causes;
pub mod finding;
mod folder;
mod network;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_channel::Receiver;
use futures_rustls::rustls::ClientConfig;
use smol::Task;
use ureq::Agent;
use ureq::http::Uri;

use finding::{Check, Finding, Mark};
use network::Host;

use super::exit_code::ExitCode;
use super::install::{self, Loosened, Manager, Refusal, Standing};
use super::status::{Status, StatusError};
use super::wording;
use crate::app;
use crate::clock;
use crate::config::{self, Config};
use crate::entropy;
use crate::executor::{self, Executor};
use crate::net::deadline::within;
use crate::net::resolver::last_good;
use crate::net::{Resolver, http, tls};
use crate::supabase::client::Client;
use crate::supabase::verdict::{Action, Verdict, judge};
use crate::watch::facts::{CLOCK_TOLERANCE, EARLIEST_SANE};
use crate::watch::warning::Severity;
use crate::whatsapp::endpoint::Endpoint;
use crate::whatsapp::http_client::VERSION_PAGE;
use crate::worker;

/// Nobody waits longer than this for the whole; every check has a limit of its own below it.
const OVERALL: Duration = Duration::from_secs(29);

/// Time for WhatsApp's page, so that with the 20 s of the request to Supabase, which waits for the
/// same worker, it stays below [`OVERALL`].
const PAGE_TIMEOUT: Duration = Duration::from_secs(8);

/// How long Supabase may not know the function before that is said, and the time between two requests: it does not
/// while it reads the schema. 14 s were seen; whoever waits for the doctor waits longer only in that case.
const UNKNOWN: Duration = Duration::from_secs(15);
const UNKNOWN_RETRY: Duration = Duration::from_secs(3);

/// Time for the running bot's answer: it comes from this machine.
const BOT_TIMEOUT: Duration = Duration::from_secs(12);

/// Widest line, in characters: 80 columns, and none of them touched last.
const COLUMNS: usize = 78;

/// Looks at everything; what may be the cause of something else comes first. `key_given`: the Supabase key in
/// `config` is the real one.
pub fn examine(config: &Config, key_given: bool) -> Vec<Finding> {
    let executor = executor::new();
    smol::block_on(executor.run(checks(executor, config, key_given)))
}

/// 0, or 1 if something has to be repaired.
pub fn exit_code(findings: &[Finding]) -> ExitCode {
    match findings.iter().any(|finding| finding.mark() == Mark::Bad) {
        true => ExitCode::Unhealthy,
        false => ExitCode::Stopped,
    }
}

async fn checks(executor: Executor, config: &Config, key_given: bool) -> Vec<Finding> {
    let settings = &config.settings;
    let end = clock::now() + OVERALL;
    let mut findings = vec![Finding::ConfigurationFile(config.file().map(Into::into))];
    if config.warnings.contains(&config::Warning::OldKeyVariable) {
        findings.push(Finding::OldKeyVariable);
    }
    if !entropy::is_there().await {
        findings.push(Finding::NoRandomNumbers);
        return causes::first(findings);
    }
    let asked = ask_the_bot(config);
    let sandbox = on_a_thread("systemd", sandbox);
    let begun = match Network::new(executor, config) {
        Ok(network) => network.begin(config, key_given),
        Err(problem) => {
            findings.push(Finding::ConfigurationUnusable(problem));
            Vec::new()
        }
    };
    let folder = folder::examine(&settings.data.folder, settings.data.volatile, (&settings.disk).into());
    let answer = within(BOT_TIMEOUT, asked.recv()).await.and_then(Result::ok);
    findings.extend(within(BOT_TIMEOUT, sandbox.recv()).await.and_then(Result::ok).unwrap_or_default());
    let closed = folder.iter().any(|finding| matches!(finding, Finding::FolderClosed(_)));
    findings.extend(bot(answer, folder::holder(&settings.data.folder), closed));
    findings.extend(folder);
    findings.push(network::way_out());
    let mut way = Vec::new();
    for (check, task) in begun {
        let left = end.saturating_duration_since(clock::now());
        let found = within(left, task).await.unwrap_or_else(|| vec![Finding::TooSlow(check)]);
        match check {
            // Told with the answer.
            Check::Supabase => way = found,
            Check::SupabaseAnswer => findings.extend(cause_first(std::mem::take(&mut way), found)),
            _ => findings.extend(found),
        }
    }
    let alert = &settings.alert;
    if alert.operators.is_empty() && alert.ntfy.is_none() && alert.healthchecks.is_none() {
        findings.push(Finding::NobodyIsTold);
    }
    causes::first(findings)
}

/// What was found of the way to Supabase and of its answer. If the server was reached, what is wrong with its answer
/// stands before names and addresses; else these tell why there is none.
fn cause_first(way: Vec<Finding>, answer: Vec<Finding>) -> Vec<Finding> {
    let reached = way.iter().any(|finding| matches!(finding, Finding::Reached { .. }));
    let (first, then) = if reached { (answer, way) } else { (way, answer) };
    first.into_iter().chain(then).collect()
}

/// Asks the running bot.
fn ask_the_bot(config: &Config) -> Receiver<Result<Status, StatusError>> {
    let listen = config.settings.health.listen;
    on_a_thread("status", move || Status::ask(listen))
}

/// Asks on a thread of its own somebody for whom the thread waits.
fn on_a_thread<T: Send + 'static>(name: &str, ask: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (send, receive) = async_channel::bounded(1);
    let ask = move || {
        // Nobody waits any more when it takes too long.
        let _ = send.try_send(ask());
    };
    // Without a thread nobody answers, as when nobody is there.
    let _ = std::thread::Builder::new().name(name.into()).spawn(ask);
    receive
}

/// Whether systemd can make the sandbox of the service that is installed here, and what was taken off it.
fn sandbox() -> Vec<Finding> {
    if Manager::here() != Manager::Systemd || !install::service_installed() {
        return Vec::new();
    }
    let refused = match Manager::Systemd.standing_here() {
        Standing::Refused(Refusal::User) if !install::account_exists() => Some(Finding::AccountMissing),
        Standing::Refused(refusal) => Some(Finding::SandboxRefused(refusal)),
        _ => None,
    };
    refused.into_iter().chain(Loosened::here().map(Finding::SandboxLoosened)).collect()
}

/// What is known of the bot from its page and from the lock on its database; `closed`: whoever asks may
/// not see the lock.
fn bot(
    answer: Option<Result<Status, StatusError>>,
    holder: Option<folder::Holder>,
    closed: bool,
) -> Vec<Finding> {
    let not_ours = match &answer {
        Some(Ok(status)) => return running(status),
        Some(Err(StatusError::NotOurs { address, .. })) => Some(Finding::PageNotOurs(*address)),
        _ => None,
    };
    let page_off = matches!(answer, Some(Err(StatusError::Off)));
    let bot = match holder {
        Some(folder::Holder { pid }) => Finding::BotHolds { pid, page_off },
        // Nothing tells; that the folder is closed is said where it belongs.
        None if page_off && closed => return Vec::new(),
        None if answer.is_none() => Finding::TooSlow(Check::Bot),
        None => Finding::BotDoesNotRun,
    };
    not_ours.into_iter().chain([bot]).collect()
}

fn running(status: &Status) -> Vec<Finding> {
    let warnings = status.report.warnings.iter().map(|warning| Finding::BotWarning {
        unhealthy: warning.severity == Severity::Unhealthy.name(),
        message: warning.message.clone(),
        action: warning.action.clone(),
    });
    [Finding::BotRuns(status.report.state)].into_iter().chain(warnings).collect()
}

/// A check that is under way.
type Begun = (Check, Task<Vec<Finding>>);

/// What goes out.
struct Network {
    executor: Executor,
    resolver: Resolver,
    tls: Arc<ClientConfig>,
    agent: Agent,
    endpoint: Endpoint,
    supabase: Option<Supabase>,
}

struct Supabase {
    host: Host,
    client: Client,
}

impl Network {
    /// The same parts as the bot's; an error says which setting cannot be used, in English.
    fn new(executor: Executor, config: &Config) -> Result<Self, String> {
        let settings = &config.settings;
        let endpoint = Endpoint::parse(&settings.whatsapp.url).map_err(|error| error.to_string())?;
        let tls =
            tls::client_config(settings.network.ca_file.as_deref()).map_err(|error| error.to_string())?;
        // What the bot has proved lies in its database, which is not opened.
        let resolver = Resolver::new(executor, app::names(&settings.network), &tls, last_good::Nothing);
        let agent = http::agent(&resolver, &tls);
        let supabase = match &config.supabase {
            Some(access) => {
                let client = Client::new(agent.clone(), &access.url, access.key.clone())
                    .map_err(|error| format!("supabase.url: {error}"))?;
                let host = host_of(&access.url).ok_or("supabase.url names no host")?;
                Some(Supabase { host, client })
            }
            None => None,
        };
        Ok(Self { executor, resolver, tls, agent, endpoint, supabase })
    }

    /// Begins every check; they run beside each other, except that the worker makes one call at a time.
    fn begin(self, config: &Config, key_given: bool) -> Vec<Begun> {
        let Self { executor, resolver, tls, agent, endpoint, supabase } = self;
        let whatsapp = Host {
            name: endpoint.host().to_owned(),
            port: endpoint.port(),
            tls: endpoint.tls(),
            exists: endpoint.is_whatsapp(),
        };
        let examine = |host: &Host| {
            executor.spawn(network::examine(executor, resolver.clone(), tls.clone(), host.clone()))
        };
        let mut begun = vec![(Check::WhatsApp, examine(&whatsapp))];
        begun.push((Check::VersionPage, executor.spawn(version_page(agent, endpoint.web_url(VERSION_PAGE)))));
        match supabase {
            Some(Supabase { host, client }) => {
                begun.push((Check::Supabase, examine(&host)));
                let answer = async move {
                    match key_given {
                        true => ask_supabase(client).await,
                        false => vec![Finding::SupabaseKeyNotGiven],
                    }
                };
                begun.push((Check::SupabaseAnswer, executor.spawn(answer)));
            }
            None => begun.push((Check::SupabaseAnswer, executor.spawn(async { vec![Finding::SupabaseOff] }))),
        }
        let alert = &config.settings.alert;
        for url in [&alert.ntfy, &alert.healthchecks].into_iter().flatten() {
            if let Some(host) = host_of(url.expose()) {
                begun.push((Check::Alerts, executor.spawn(hook(resolver.clone(), host.name))));
            }
        }
        begun
    }
}

fn host_of(url: &str) -> Option<Host> {
    let uri: Uri = url.parse().ok()?;
    let tls = uri.scheme_str() != Some("http");
    let name = uri.host()?.to_owned();
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    Some(Host { name, port, tls, exists: false })
}

/// Reads the page on which WhatsApp says which version is current, and looks at the clock of the server.
async fn version_page(agent: Agent, url: String) -> Vec<Finding> {
    let begin = clock::now();
    let call = move || {
        agent.get(&url).config().timeout_global(Some(PAGE_TIMEOUT)).build().call().map(|answer| {
            let date = answer.headers().get("Date").and_then(|date| date.to_str().ok().map(str::to_owned));
            (answer.status(), date)
        })
    };
    let answer = worker::run(call).await;
    let failed = |reason| (Finding::NoVersionPage { reason }, None);
    let (page, date) = match answer {
        Ok(Ok((status, date))) if status.is_success() => {
            (Finding::VersionPage { took: clock::since(begin) }, date)
        }
        Ok(Ok((status, date))) => {
            (Finding::NoVersionPage { reason: Some(format!("HTTP {}", status.as_u16())) }, date)
        }
        // No connection: why, stands with the addresses.
        Ok(Err(ureq::Error::Other(_) | ureq::Error::Timeout(_))) => failed(None),
        Ok(Err(error)) => failed(Some(error.to_string())),
        Err(error) => failed(Some(error.to_string())),
    };
    vec![page, time(date.as_deref(), clock::unix_seconds())]
}

/// How this machine's clock stands against a server's `Date` (RFC 9110 §6.6.1).
fn time(date: Option<&str>, unix: i64) -> Finding {
    let told = date.and_then(|date| jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok());
    match told.map(|told| told.as_second() - unix) {
        Some(behind) if behind.abs() > CLOCK_TOLERANCE => Finding::ClockWrong { behind },
        _ if unix < EARLIEST_SANE => Finding::ClockInThePast,
        Some(behind) => Finding::ClockRight { behind },
        None => Finding::ClockNotCompared,
    }
}

/// Stores nothing at all, and sees what Supabase says to that.
async fn ask_supabase(client: Client) -> Vec<Finding> {
    let first = clock::now();
    loop {
        let begin = clock::now();
        let verdict = client.register_batch(&[]).await.map(|answer| judge(&answer, &[]));
        if matches!(verdict, Ok(Verdict::NotKnown { .. })) && clock::since(first) < UNKNOWN {
            clock::sleep(UNKNOWN_RETRY).await;
            continue;
        }
        return vec![supabase(verdict, begin)];
    }
}

/// What an answer to a request without rows shows; `begin`: when it was sent.
fn supabase(verdict: std::io::Result<Verdict>, begin: Instant) -> Finding {
    match verdict {
        Ok(verdict) => match verdict {
            Verdict::Rows(_) => Finding::SupabaseWorks { took: clock::since(begin) },
            Verdict::Retry { reason, .. } | Verdict::HalveBatch { reason } => {
                Finding::SupabaseSilent { reason: reason.to_string() }
            }
            Verdict::NotKnown { .. } => Finding::SupabaseRefuses(Action::InstallSchema),
            Verdict::Operator(action) => Finding::SupabaseRefuses(action),
            Verdict::Bug(reason) => Finding::SupabaseBroken { reason: reason.to_string() },
            Verdict::Quarantine { code, .. } => Finding::SupabaseBroken { reason: code },
        },
        Err(error) => Finding::SupabaseSilent { reason: error.to_string() },
    }
}

/// Looks up the host of a hook, which is not called: that would tell somebody something.
async fn hook(resolver: Resolver, host: String) -> Vec<Finding> {
    vec![match resolver.lookup(&host).await {
        Ok(_) => Finding::HookHost { host },
        Err(_) => Finding::HookHostUnknown { host },
    }]
}

/// All findings for a person: those about one thing together, what to do below each that needs it, and
/// a last sentence. `colours`: the reader is a terminal that wants them.
pub fn text(findings: &[Finding], colours: bool) -> String {
    let mut sections = Vec::new();
    for finding in findings {
        let section = finding.section();
        if !sections.contains(&section) {
            sections.push(section);
        }
    }
    let mut text = String::new();
    for section in sections {
        text.push_str(&paint(colours, BOLD, &wording::doctor_section(&section)));
        text.push('\n');
        let mut all = findings.iter().filter(|finding| finding.section() == section).peekable();
        while let Some(finding) = all.next() {
            let (sign, colour) = match finding.mark() {
                Mark::Good => ("✔", GREEN),
                Mark::Note => ("!", YELLOW),
                Mark::Bad => ("✖", RED),
            };
            let lines = wrapped(&clean(&wording::doctor_finding(finding)), 4);
            text.push_str(&format!("  {} {lines}\n", paint(colours, colour, sign)));
            let advice = wording::doctor_advice(finding);
            // Said once, below the last of those that it is for.
            let again = all.peek().is_some_and(|next| wording::doctor_advice(next) == advice);
            if let Some(advice) = advice.filter(|_| !again) {
                text.push_str(&format!("    → {}\n", wrapped(&clean(&advice), 6)));
            }
        }
        text.push('\n');
    }
    let count = |mark| findings.iter().filter(|finding| finding.mark() == mark).count();
    let (bad, notes) = (count(Mark::Bad), count(Mark::Note));
    let colour = if bad > 0 { RED } else { GREEN };
    text.push_str(&paint(colours, colour, &wrapped(&wording::doctor_summary(bad, notes), 0)));
    text.push('\n');
    text
}

const BOLD: &str = "1";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const RED: &str = "31";

fn paint(colours: bool, colour: &str, text: &str) -> String {
    if colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
}

/// What others say does not get to control the terminal.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `text` broken between words so that no line is wider than [`COLUMNS`]; each begins `indent` to the
/// right, the first being there already.
fn wrapped(text: &str, indent: usize) -> String {
    let mut lines = String::new();
    let mut width = indent;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if width > indent && width + 1 + length > COLUMNS {
            lines.push('\n');
            lines.push_str(&" ".repeat(indent));
            width = indent;
        } else if width > indent {
            lines.push(' ');
            width += 1;
        }
        lines.push_str(word);
        width += length;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::finding::{Dns, Leads, NoReach, NotWritable, Said, Section};
    use super::*;
    use crate::net::rung::Kind;
    use crate::watch::report::{Report, Shown, State};

    const SECOND: Duration = Duration::from_secs(1);

    fn dns(kind: Kind, said: Said, others: bool) -> Finding {
        Finding::Dns(Dns {
            host: "web.whatsapp.com".into(),
            kind,
            server: "192.168.1.1:53".parse().unwrap(),
            took: Duration::from_millis(23),
            said,
            others,
            beside: false,
        })
    }

    /// One of every kind, and of every shade that has words of its own.
    fn every() -> Vec<Finding> {
        let folder = || "/var/lib/bot-kjp".into();
        let file = || "/var/lib/bot-kjp/bot-kjp.db".into();
        let host = || "web.whatsapp.com".to_owned();
        let address = "157.240.0.60:443".parse().unwrap();
        let mut all = vec![
            Finding::ConfigurationFile(Some("/etc/bot-kjp/config.toml".into())),
            Finding::ConfigurationFile(None),
            Finding::OldKeyVariable,
            Finding::ConfigurationUnusable("the certificate file /x was not read".into()),
            Finding::BotRuns(State::Healthy),
            Finding::BotRuns(State::Warned),
            Finding::BotRuns(State::Unhealthy),
            Finding::BotHolds { pid: Some(12), page_off: true },
            Finding::BotHolds { pid: None, page_off: false },
            Finding::BotDoesNotRun,
            Finding::AccountMissing,
            Finding::NoRandomNumbers,
            Finding::PageNotOurs("127.0.0.1:8788".parse().unwrap()),
            Finding::FolderMissing(folder()),
            Finding::FolderClosed(folder()),
            Finding::FolderWritable { folder: folder(), free: 4_000_000_000 },
            Finding::Volatile { allowed: false },
            Finding::Volatile { allowed: true },
            Finding::MaybeVolatile,
            Finding::DiskLow { free: 90_000_000, total: 4_000_000_000 },
            Finding::DiskFull { free: 1_000, total: 4_000_000_000 },
            Finding::Database { bytes: 90_112 },
            Finding::NoDatabase,
            Finding::ForeignDatabase(file()),
            Finding::BrokenDatabase(file()),
            Finding::OpenToOthers { file: file(), mode: 0o644 },
            Finding::OwnedByAnother { file: file(), folder: folder() },
            Finding::Address([192, 168, 1, 2].into()),
            Finding::NoWayOut,
            Finding::ClockRight { behind: -1 },
            Finding::ClockWrong { behind: 7200 },
            Finding::ClockWrong { behind: -7200 },
            Finding::ClockInThePast,
            Finding::ClockNotCompared,
            Finding::NoDnsNeeded { host: host() },
            Finding::LargePacketsVanish { host: host() },
            Finding::NobodyAnswers { servers: 12, reached: false },
            Finding::NobodyAnswers { servers: 12, reached: true },
            Finding::NobodyToAsk { host: host() },
            Finding::NoSuchName { host: host() },
            Finding::Reached { host: host(), address, took: SECOND, tls: true },
            Finding::Reached { host: host(), address, took: SECOND, tls: false },
            Finding::NowhereToGo { host: host() },
            Finding::VersionPage { took: 2 * SECOND },
            Finding::NoVersionPage { reason: Some("HTTP 503".into()) },
            Finding::NoVersionPage { reason: None },
            Finding::SupabaseOff,
            Finding::SupabaseKeyNotGiven,
            Finding::SupabaseWorks { took: SECOND },
            Finding::SupabaseBroken { reason: "HTTP 405".into() },
            Finding::SupabaseSilent { reason: "HTTP 540".into() },
            Finding::NobodyIsTold,
            Finding::HookHost { host: "ntfy.sh".into() },
            Finding::HookHostUnknown { host: "ntfy.sh".into() },
        ];
        all.extend(Refusal::ALL.map(Finding::SandboxRefused));
        for until_boot in [true, false] {
            let directives = vec!["PrivateUsers", "ProtectHostname"];
            all.push(Finding::SandboxLoosened(Loosened { directives, until_boot }));
        }
        for unhealthy in [true, false] {
            let (message, action) = ("WhatsApp terputus.".to_owned(), "Tunggu sebentar.".to_owned());
            all.push(Finding::BotWarning { unhealthy, message, action });
        }
        for why in [
            NotWritable::ReadOnly,
            NotWritable::NoSpace,
            NotWritable::NotPermitted,
            NotWritable::Other("Input/output error".into()),
        ] {
            all.push(Finding::FolderNotWritable { folder: folder(), why });
        }
        for why in [
            NoReach::NoRoute,
            NoReach::Refused("Connection refused".into()),
            NoReach::Silent,
            NoReach::Disproved("invalid peer certificate".into()),
            NoReach::Clock,
        ] {
            for others in [true, false] {
                all.push(Finding::NotReached { host: host(), address, why: why.clone(), others });
            }
        }
        for leads in [Leads::ToTheHost, Leads::Nowhere, Leads::Astray(NoReach::Silent)] {
            let (file, address) = ("/etc/hosts".into(), [157, 240, 0, 60].into());
            all.push(Finding::HostsLine { host: host(), file, line: 12, address, leads });
        }
        for kind in [Kind::System, Kind::Https, Kind::Tls, Kind::Public] {
            for others in [true, false] {
                for said in [
                    Said::Denied { lie: others },
                    Said::Private("10.10.10.10".into()),
                    Said::Wrong(vec![[1, 1, 1, 1].into()]),
                    Said::DeadEnd(vec![[1, 1, 1, 1].into()]),
                    Said::Silent,
                    Said::Intercepted,
                    Said::Failed("answered \"Server Failure\"".into()),
                ] {
                    all.push(dns(kind, said, others));
                }
            }
            all.push(dns(kind, Said::Right(vec![[157, 240, 0, 60].into(); 8]), true));
        }
        all.extend(Action::ALL.map(Finding::SupabaseRefuses));
        for check in [
            Check::Bot,
            Check::WhatsApp,
            Check::VersionPage,
            Check::Supabase,
            Check::SupabaseAnswer,
            Check::Alerts,
        ] {
            all.push(Finding::TooSlow(check));
        }
        all
    }

    #[test]
    fn whatever_is_bad_says_what_to_do_and_what_is_good_says_nothing_more() {
        for finding in every() {
            let advice = wording::doctor_advice(&finding);
            match finding.mark() {
                Mark::Good => assert_eq!(advice, None, "{finding:?}"),
                Mark::Note => {}
                Mark::Bad => assert!(advice.is_some_and(|advice| !advice.is_empty()), "{finding:?}"),
            }
            let sentence = wording::doctor_finding(&finding);
            assert!(sentence.ends_with(['.', '!', '?']) || sentence.contains("bot-kjp check"), "{sentence}");
        }
    }

    #[test]
    fn only_what_is_bad_makes_the_exit_code() {
        for finding in every() {
            let bad = finding.mark() == Mark::Bad;
            let expected = if bad { ExitCode::Unhealthy } else { ExitCode::Stopped };
            assert_eq!(exit_code(&[Finding::SupabaseOff, finding.clone()]), expected, "{finding:?}");
        }
        assert_eq!(exit_code(&[]), ExitCode::Stopped);
    }

    #[test]
    fn everything_fits_into_80_columns_and_has_no_colours_unless_wanted() {
        let all = every();
        let plain = text(&all, false);
        for line in plain.lines() {
            assert!(line.chars().count() < 80, "{line}");
        }
        assert!(!plain.contains('\x1b'));
        let coloured = text(&all, true);
        for part in ["\x1b[32m✔\x1b[0m", "\x1b[33m!\x1b[0m", "\x1b[31m✖\x1b[0m", "\x1b[1mFolder data\x1b[0m"]
        {
            assert!(coloured.contains(part), "{part:?}");
        }
        let evil = Finding::ConfigurationUnusable("\x1b[2Jkosong".into());
        assert!(!text(&[evil], true).contains("\x1b[2J"));
    }

    #[test]
    fn a_long_reason_is_cut_short() {
        let reason = "no address for `x.supabase.co` (system 192.168.1.1:53 was silent) ".repeat(9);
        let text = text(&[Finding::SupabaseSilent { reason }], false);
        assert!(text.lines().count() < 9 && text.contains('…'), "{text}");
    }

    #[test]
    fn what_supabase_answers_stands_before_its_addresses_and_why_it_does_not_after_them() {
        let host = || "x.supabase.co".to_owned();
        let address = "104.18.38.10:443".parse().unwrap();
        let reached = Finding::Reached { host: host(), address, took: SECOND, tls: true };
        let silent = Finding::NotReached { host: host(), address, why: NoReach::Silent, others: false };
        let unpaid = Finding::SupabaseRefuses(Action::LiftRestriction);
        let down = Finding::SupabaseSilent { reason: "HTTP 503".into() };
        for answer in [unpaid, down] {
            let both = cause_first(vec![reached.clone()], vec![answer.clone()]);
            assert_eq!(both, [answer, reached.clone()]);
        }
        let nothing = Finding::SupabaseSilent { reason: "timeout".into() };
        let both = cause_first(vec![silent.clone()], vec![nothing.clone()]);
        assert_eq!(both, [silent, nothing]);
    }

    #[test]
    fn a_person_reads_what_is_wrong_and_below_it_what_to_do() {
        let right = || Said::Right(vec![[157, 240, 0, 60].into()]);
        let findings = [
            Finding::Address([192, 168, 1, 2].into()),
            dns(Kind::System, Said::Denied { lie: true }, true),
            dns(Kind::Https, right(), true),
            dns(Kind::Tls, Said::Silent, true),
            dns(Kind::Tls, Said::Silent, true),
            Finding::SupabaseOff,
        ];
        let expected = "\
Jaringan
  ✔ Ada alamat (192.168.1.2) dan jalan ke internet.

DNS: alamat web.whatsapp.com
  ✖ DNS dari ISP/modem (192.168.1.1) menjawab salah: katanya web.whatsapp.com
    tidak ada (23 ms).
    → Ganti DNS di modem (atau di perangkat ini) menjadi 1.1.1.1 atau 8.8.8.8,
      atau hubungi ISP. Bot sendiri memakai jalur lain yang bertanda ✔.
  ✔ DNS lewat HTTPS (192.168.1.1): 157.240.0.60 (23 ms).
  ! DNS lewat TLS (192.168.1.1) tidak menjawab.
  ! DNS lewat TLS (192.168.1.1) tidak menjawab.
    → Biasanya ISP yang memblokir atau membelokkan; tidak mendesak selama
      jalur lain bertanda ✔.

Supabase
  ! Tidak diatur pada perintah ini: data hanya disimpan di perangkat.

Ada 1 hal bertanda ✖ yang perlu diperbaiki, dan 3 bertanda ! yang perlu
diketahui.
";
        assert_eq!(text(&findings, false), expected);
        assert!(text(&[Finding::SupabaseWorks { took: SECOND }], false).ends_with("Semua baik.\n"));
    }

    #[test]
    fn the_clock_is_compared_with_a_servers_and_with_the_programs_own_age() {
        let unix = 1_795_402_800;
        let date = |unix: i64| {
            let moment = jiff::Timestamp::from_second(unix).unwrap();
            jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&moment).unwrap()
        };
        assert_eq!(time(Some(&date(unix + 2)), unix), Finding::ClockRight { behind: 2 });
        assert_eq!(time(Some(&date(unix + 7200)), unix), Finding::ClockWrong { behind: 7200 });
        assert_eq!(time(Some(&date(unix - 7200)), unix), Finding::ClockWrong { behind: -7200 });
        assert_eq!(time(Some(&date(unix)), 0), Finding::ClockWrong { behind: unix });
        assert_eq!(time(None, 0), Finding::ClockInThePast);
        assert_eq!(time(None, unix), Finding::ClockNotCompared);
        assert_eq!(time(Some("yesterday"), unix), Finding::ClockNotCompared);
    }

    #[test]
    fn a_bot_that_runs_is_told_by_its_page_or_by_its_lock() {
        let off = || Some(Err(StatusError::Off));
        let nobody = || {
            let address = "127.0.0.1:8788".parse().unwrap();
            Some(Err(StatusError::NobodyThere {
                address,
                cause: std::io::ErrorKind::ConnectionRefused.into(),
            }))
        };
        let holder = Some(folder::Holder { pid: Some(7) });
        assert_eq!(bot(off(), holder, false), [Finding::BotHolds { pid: Some(7), page_off: true }]);
        assert_eq!(bot(nobody(), holder, false), [Finding::BotHolds { pid: Some(7), page_off: false }]);
        assert_eq!(bot(nobody(), None, true), [Finding::BotDoesNotRun]);
        assert_eq!(bot(off(), None, false), [Finding::BotDoesNotRun]);
        assert_eq!(bot(off(), None, true), []);
        assert_eq!(bot(None, None, false), [Finding::TooSlow(Check::Bot)]);
        let report = Report {
            state: State::Unhealthy,
            version: "0.1.0".into(),
            time: 0,
            uptime_seconds: 9,
            promise_kept: false,
            parts: vec![],
            warnings: vec![Shown {
                code: "whatsapp.offline".into(),
                severity: "unhealthy".into(),
                since_seconds: 240,
                error: None,
                message: "WhatsApp terputus.".into(),
                action: "Periksa modem.".into(),
            }],
        };
        let findings = bot(Some(Ok(Status { report, json: String::new() })), None, false);
        assert_eq!(findings.iter().map(Finding::mark).collect::<Vec<_>>(), [Mark::Bad, Mark::Bad]);
        assert!(text(&findings, false).contains("    → Periksa modem.\n"));
    }

    #[test]
    fn findings_about_one_thing_stand_together() {
        let text = text(&every(), false);
        let headings: Vec<_> =
            text.lines().filter(|line| !line.is_empty() && !line.starts_with(' ')).collect();
        let mut once = headings.clone();
        once.dedup();
        assert_eq!(headings, once);
        assert!(headings.contains(&wording::doctor_section(&Section::Bot).as_str()));
    }
}
