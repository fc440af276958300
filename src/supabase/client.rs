//! PostgREST's side of Supabase: one function call that stores a batch of registrations.
//!
//! Runs on the worker thread and returns what came back, without judging it.

use std::fmt;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use ureq::http::HeaderValue;

use crate::ledger::sync_queue::QueuedRow;
use crate::worker;

/// Most rows of one request. Supabase answers with at most 1,000 rows, throughput is flat from 100
/// rows on, and 200 rows (about 110 KB) pass a slow mobile line within [`TIMEOUT`].
pub const MAX_BATCH_ROWS: u32 = 200;

/// Longest time for one request, from the DNS question to the last byte. Other work waits for the
/// worker meanwhile, so this is well below the 60 s after which Supabase itself gives up.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Longest answer in bytes; 200 verdicts are about 40 KB.
const MAX_ANSWER_BYTES: u64 = 1024 * 1024;

/// Not browser-like: Supabase refuses secret keys from what looks like a browser.
const USER_AGENT: &str = concat!("bot-kjp/", env!("CARGO_PKG_VERSION"));

/// Why a client cannot be made of a URL and a key.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("the Supabase URL must start with https:// (or http:// for tests) and name a host")]
    Url,
    #[error("the Supabase key holds characters that no key has; copy it again")]
    Key,
}

/// What came back for a request.
#[derive(Clone, PartialEq, Eq)]
pub enum Answer {
    /// An answer of the server or of something in between.
    Http {
        status: u16,
        /// `Retry-After`, if it was a number of seconds.
        retry_after: Option<Duration>,
        body: String,
    },
    /// Nothing usable came back. The request may have been carried out all the same.
    None { reason: String },
}

/// Bodies may hold numbers of people, so only their length is shown.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { status, body, .. } => write!(f, "Http({status}, {} bytes)", body.len()),
            Self::None { reason } => write!(f, "None({reason})"),
        }
    }
}

/// A Supabase project and the key to it.
#[derive(Clone)]
pub struct Client {
    agent: ureq::Agent,
    /// URL of the function.
    register_batch: String,
    key: SecretString,
}

impl Client {
    /// `url` is the project's URL (`https://….supabase.co`), `key` its secret key (`sb_secret_…`)
    /// or the service key of old projects (a JWT).
    pub fn new(agent: ureq::Agent, url: &str, key: SecretString) -> Result<Self, ClientError> {
        let url = url.trim_end_matches('/');
        let uri: ureq::http::Uri = url.parse().map_err(|_| ClientError::Url)?;
        if !matches!(uri.scheme_str(), Some("https" | "http")) || uri.host().is_none() {
            return Err(ClientError::Url);
        }
        if HeaderValue::from_str(key.expose_secret()).is_err() || key.expose_secret().is_empty() {
            return Err(ClientError::Key);
        }
        Ok(Self { agent, register_batch: format!("{url}/rest/v1/rpc/register_batch"), key })
    }

    /// Sends rows and returns what came back. `Err` only if no worker thread could be had.
    pub async fn register_batch(&self, rows: &[QueuedRow]) -> std::io::Result<Answer> {
        let client = self.clone();
        let body = request_body(rows);
        worker::run(move || client.post(&body)).await
    }

    fn post(&self, body: &str) -> Answer {
        self.try_post(body).unwrap_or_else(|error| Answer::None { reason: reason(&error) })
    }

    fn try_post(&self, body: &str) -> Result<Answer, ureq::Error> {
        let key = self.key.expose_secret();
        let mut request = self
            .agent
            .post(&self.register_batch)
            .config()
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            // A redirect would carry the key to wherever it points.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(USER_AGENT)
            .build()
            .header("apikey", secret_header(key)?)
            .header("Accept", "application/json")
            .content_type("application/json");
        if is_jwt(key) {
            request = request.header("Authorization", secret_header(&format!("Bearer {key}"))?);
        }
        let mut response = request.send(body)?;
        let retry_after = response
            .headers()
            .get("Retry-After")
            .and_then(|value| value.to_str().ok()?.trim().parse().ok())
            .map(Duration::from_secs);
        let status = response.status().as_u16();
        let body =
            response.body_mut().with_config().limit(MAX_ANSWER_BYTES).lossy_utf8(true).read_to_string()?;
        Ok(Answer::Http { status, retry_after, body })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.register_batch)
    }
}

/// A header that is not shown by any debug output on its way.
fn secret_header(value: &str) -> Result<HeaderValue, ureq::Error> {
    let mut value = HeaderValue::from_str(value).map_err(|error| ureq::Error::Http(error.into()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Old keys are JWTs and belong into `Authorization` too; new ones (`sb_secret_…`) must not be
/// there, because the data API takes whatever stands there for a JWT.
fn is_jwt(key: &str) -> bool {
    key.split('.').count() == 3 && key.split('.').all(|part| !part.is_empty())
}

/// What went wrong, for the log: without URL, key or content.
fn reason(error: &ureq::Error) -> String {
    match error {
        ureq::Error::BadUri(_) => "bad URL".into(),
        other => other.to_string(),
    }
}

#[derive(Serialize)]
struct Request<'a> {
    rows: Vec<RequestRow<'a>>,
}

/// A row as `register_batch` in `schema.sql` reads it.
#[derive(Serialize)]
struct RequestRow<'a> {
    row_key: String,
    processing_day_key: &'a str,
    received_at: String,
    sender_phone: &'a str,
    sender_name: Option<&'a str>,
    nama: &'a str,
    name_canonical: &'a str,
    no_kjp: &'a str,
    jenis_kartu: Option<&'a str>,
    jenis_kartu_sumber: Option<&'a str>,
    no_ktp: &'a str,
    no_kk: &'a str,
    tanggal_lahir: Option<&'a str>,
    lokasi: &'a str,
    meta: Meta<'a>,
}

/// As the old bot wrote it (`registration/RULES.md` 9.1).
#[derive(Serialize)]
struct Meta<'a> {
    message_id: &'a str,
    index: u32,
    received_at: String,
}

fn request_body(rows: &[QueuedRow]) -> String {
    let rows = rows.iter().map(|row| {
        let received_at = utc(row.received_at);
        RequestRow {
            row_key: row.row_key.to_string(),
            processing_day_key: &row.day,
            sender_phone: &row.sender,
            sender_name: row.sender_name.as_deref(),
            nama: &row.nama,
            name_canonical: &row.name_canonical,
            no_kjp: &row.no_kjp,
            jenis_kartu: row.jenis_kartu.as_deref(),
            jenis_kartu_sumber: row.jenis_kartu_sumber.as_deref(),
            no_ktp: &row.no_ktp,
            no_kk: &row.no_kk,
            tanggal_lahir: row.tanggal_lahir.as_deref(),
            lokasi: &row.lokasi,
            meta: Meta {
                message_id: &row.message_id,
                index: row.message_index,
                received_at: received_at.clone(),
            },
            received_at,
        }
    });
    // Strings and numbers always have a JSON form.
    serde_json::to_string(&Request { rows: rows.collect() }).expect("a request is plain JSON")
}

/// RFC 3339 in UTC.
fn utc(unix_seconds: i64) -> String {
    jiff::Timestamp::from_second(unix_seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}
