//! The HTTP gateway in front of PostgREST: checks the API key as Supabase does, passes the request
//! on, and loses or replaces answers on command. One thread and one request per connection.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Result;

/// Longest request head in bytes, and most header lines.
const MAX_HEAD_BYTES: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;

/// Longest request body in bytes.
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// A connection on which nothing comes for this long is closed.
const IDLE: Duration = Duration::from_secs(30);

/// What can go wrong with one request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The request is carried out, and the connection closes in place of the answer.
    LoseAnswer,
    /// The connection closes and nothing was carried out.
    LoseRequest,
    /// The request is carried out, and half of the answer comes before the connection closes.
    CutAnswer,
    /// Nothing is carried out; this comes back.
    Answer { status: u16, retry_after: Option<u64>, body: String },
}

/// The project's API keys.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    pub service_jwt: String,
    pub anon_jwt: String,
    pub secret: String,
    pub publishable: String,
}

#[derive(Debug)]
pub(super) struct Gateway {
    shared: Arc<Shared>,
    address: SocketAddr,
    listener: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    keys: Keys,
    postgrest: PathBuf,
    faults: Mutex<VecDeque<Fault>>,
    requests: AtomicUsize,
    closing: AtomicBool,
}

impl Gateway {
    pub fn start(keys: Keys, postgrest: PathBuf) -> Result<Self> {
        let shared = Shared {
            keys,
            postgrest,
            faults: Mutex::default(),
            requests: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
        };
        let mut gateway =
            Self { shared: Arc::new(shared), address: (Ipv4Addr::LOCALHOST, 0).into(), listener: None };
        gateway.open()?;
        Ok(gateway)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens, the first time on a free port, later on the same one.
    pub fn open(&mut self) -> Result<()> {
        if self.listener.is_some() {
            return Ok(());
        }
        let listener = TcpListener::bind(self.address)?;
        self.address = listener.local_addr()?;
        self.shared.closing.store(false, Ordering::SeqCst);
        let shared = self.shared.clone();
        self.listener = Some(thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.closing.load(Ordering::SeqCst) {
                    return;
                }
                let shared = shared.clone();
                thread::spawn(move || {
                    if let Err(error) = shared.serve(stream) {
                        log::debug!("gateway: connection ended: {error}");
                    }
                });
            }
        }));
        Ok(())
    }

    /// Stops listening; connections end after the request that they carry.
    pub fn close(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        if let Some(listener) = self.listener.take() {
            // Wakes the listening thread.
            drop(TcpStream::connect(self.address));
            if listener.join().is_err() {
                log::warn!("gateway: the listening thread panicked");
            }
        }
    }

    pub fn fail_next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.shared.faults.lock().unwrap_or_else(PoisonError::into_inner).extend(faults);
    }

    pub fn fail_no_more(&self) {
        self.shared.faults.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Whether PostgREST has read the schema and answers.
    pub fn postgrest_is_ready(&self) -> bool {
        forward(&self.shared.postgrest, b"HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200"))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.close();
    }
}

/// One HTTP request, as far as the gateway cares.
struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(IDLE))?;
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let Some(request) = read_request(&mut reader)? else {
            return Ok(());
        };
        self.requests.fetch_add(1, Ordering::SeqCst);
        let fault = self.faults.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let answer = match fault {
            None => self.answer(&request),
            Some(Fault::LoseRequest) => return Ok(()),
            Some(Fault::LoseAnswer) => {
                self.answer(&request);
                return Ok(());
            }
            Some(Fault::CutAnswer) => {
                let mut answer = self.answer(&request);
                answer.truncate(answer.len() - answer.len() / 4);
                answer
            }
            Some(Fault::Answer { status, retry_after, body }) => {
                let extra = retry_after.map(|s| format!("Retry-After: {s}\r\n")).unwrap_or_default();
                response(status, &extra, &body)
            }
        };
        // One request per connection; the client has to know before it keeps the connection.
        let status_line = answer.iter().position(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        stream.write_all(&answer[..status_line])?;
        stream.write_all(b"Connection: close\r\n")?;
        stream.write_all(&answer[status_line..])
    }

    /// What Supabase would answer.
    fn answer(&self, request: &Request) -> Vec<u8> {
        let Some(path) = request.path.strip_prefix("/rest/v1") else {
            return response(404, "", r#"{"message":"no Route matched with those values"}"#);
        };
        let unauthorized = |message: &str| {
            let hint = "Double check your Supabase `anon` or `service_role` API key.";
            response(401, "", &serde_json::json!({"message": message, "hint": hint}).to_string())
        };
        let Some(key) = request.header("apikey") else {
            return unauthorized("No API key found in request");
        };
        let keys = &self.keys;
        // New keys stand for a role; old ones are checked here and say their role in `Authorization`.
        let role = if key == keys.secret {
            if request.header("User-Agent").is_some_and(|agent| agent.contains("Mozilla")) {
                return unauthorized("Forbidden use of secret API key in browser");
            }
            Some(&keys.service_jwt)
        } else if key == keys.publishable {
            Some(&keys.anon_jwt)
        } else if key == keys.service_jwt || key == keys.anon_jwt {
            None
        } else {
            return unauthorized("Invalid API key");
        };
        let path = if path.is_empty() { "/" } else { path };
        let mut forwarded = format!("{} {path} HTTP/1.1\r\n", request.method);
        for (name, value) in &request.headers {
            if !["connection", "apikey", "content-length"].contains(&name.to_lowercase().as_str()) {
                forwarded += &format!("{name}: {value}\r\n");
            }
        }
        if let (Some(jwt), None) = (role, request.header("Authorization")) {
            forwarded += &format!("Authorization: Bearer {jwt}\r\n");
        }
        forwarded += &format!("Content-Length: {}\r\nConnection: close\r\n\r\n", request.body.len());
        let mut forwarded = forwarded.into_bytes();
        forwarded.extend_from_slice(&request.body);
        match forward(&self.postgrest, &forwarded) {
            Ok(answer) if !answer.is_empty() => answer,
            _ => response(503, "", r#"{"message":"name resolution failed"}"#),
        }
    }
}

/// Sends a request to PostgREST and returns everything up to the end of the connection.
fn forward(postgrest: &Path, request: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(postgrest)?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

fn response(status: u16, extra: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status} Test\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{extra}\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Reads a request whose body has a length; `None` if the peer has closed.
fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let read = reader.by_ref().take(MAX_HEAD_BYTES as u64).read_until(b'\n', &mut head)?;
        if read == 0 {
            return Ok(None);
        }
        if head.len() > MAX_HEAD_BYTES {
            return Err(io::Error::other("the request's head is too long"));
        }
    }
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    parsed.parse(&head).map_err(io::Error::other)?;
    let headers: Vec<_> = parsed
        .headers
        .iter()
        .map(|header| (header.name.to_owned(), String::from_utf8_lossy(header.value).into_owned()))
        .collect();
    let mut request = Request {
        method: parsed.method.unwrap_or_default().to_owned(),
        path: parsed.path.unwrap_or_default().to_owned(),
        headers,
        body: Vec::new(),
    };
    let length = match request.header("Content-Length") {
        Some(length) => length.parse().map_err(io::Error::other)?,
        None => 0,
    };
    if length > MAX_BODY_BYTES {
        return Err(io::Error::other("the request's body is too long"));
    }
    request.body = vec![0; length];
    reader.read_exact(&mut request.body)?;
    Ok(Some(request))
}
