//! whatsapp-rust's HTTP client, and why its version look-up cannot stop a connection.
//!
//! Once a day whatsapp-rust reads the current client version from `web.whatsapp.com/sw.js`, and
//! does not connect when that fails. The version changes slowly, so this client always has an
//! answer: the page itself, or the last version that was read from it (kept in the ledger), or
//! the version that whatsapp-rust was built with. If WhatsApp no longer accepts that one, it says
//! so itself, which is a better error than a missing page.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ureq::http::{Method, Request, Response};
use ureq::{Agent, AsSendBody, Body, SendBody};
use wacore::net::{HttpClient, HttpRequest, HttpResponse, StreamingHttpResponse, UploadBody};
use wacore::stats::HttpResourceReport;
use wacore::store::Device;
use wacore::version::parse_sw_js;
use whatsapp_rust::anyhow;

use super::endpoint::Endpoint;
use super::kept_answers::KeptAnswers;
use crate::net::deadline::within;
use crate::net::http;
use crate::worker;

/// The page that names the current client version.
pub const VERSION_PAGE: &str = "https://web.whatsapp.com/sw.js";

/// Time for the version page, including the wait for the worker thread: well below the 20 s after
/// which whatsapp-rust gives up the connection.
const VERSION_DEADLINE: Duration = Duration::from_secs(12);

/// Time for the request itself, so that the worker thread is free again soon after.
const VERSION_CALL_TIMEOUT: Duration = Duration::from_secs(11);

/// Longest version page, in bytes. It has about 10 KiB.
const MAX_VERSION_PAGE_BYTES: u64 = 1024 * 1024;

/// Longest body of any other answer, in bytes: application state, pictures.
pub const MAX_BODY_BYTES: u64 = 8 * 1024 * 1024;

/// Why an exchange did not happen.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("{url} was not asked: {source}")]
    Request { url: String, source: ureq::http::Error },
    #[error("{url} gave no answer ({source}); check the network")]
    Exchange { url: String, source: Box<ureq::Error> },
    #[error("{url} was not asked: no worker thread ({source})")]
    Worker { url: String, source: std::io::Error },
}

/// HTTP for whatsapp-rust, on the worker thread.
#[derive(Clone)]
pub struct WebClient {
    pub agent: Agent,
    pub endpoint: Endpoint,
    pub answers: Arc<dyn KeptAnswers>,
}

#[async_trait]
impl HttpClient for WebClient {
    async fn execute(&self, request: HttpRequest) -> anyhow::Result<HttpResponse> {
        if request.url == VERSION_PAGE {
            return Ok(self.version_page(request, VERSION_DEADLINE).await);
        }
        Ok(self.exchange(request, http::CALL_TIMEOUT, MAX_BODY_BYTES).await?)
    }

    fn supports_streaming(&self) -> bool {
        true
    }

    fn execute_streaming(&self, request: HttpRequest) -> anyhow::Result<StreamingHttpResponse> {
        let url = self.endpoint.web_url(&request.url);
        let response = send(&self.agent, &url, request, http::CALL_TIMEOUT)?;
        Ok(StreamingHttpResponse {
            status_code: response.status().as_u16(),
            body: Box::new(response.into_body().into_with_config().limit(MAX_BODY_BYTES).reader()),
        })
    }

    fn supports_upload_streaming(&self) -> bool {
        true
    }

    fn execute_upload(
        &self,
        request: HttpRequest,
        body: UploadBody,
        content_length: u64,
    ) -> anyhow::Result<HttpResponse> {
        let url = self.endpoint.web_url(&request.url);
        let request = request.with_header("content-length", content_length.to_string());
        let body = SendBody::from_owned_reader(body.take(content_length));
        let response = send_body(&self.agent, &url, &request, body, http::CALL_TIMEOUT)?;
        Ok(read(&url, response, MAX_BODY_BYTES)?)
    }

    /// What one idle connection may hold. Bodies under way are not counted.
    fn resource_report(&self) -> Option<HttpResourceReport> {
        let connections = http::IDLE_CONNECTIONS as u64;
        // TCP and TLS have a pair of buffers each.
        let buffers = 2 * (http::INPUT_BUFFER_BYTES + http::OUTPUT_BUFFER_BYTES) as u64;
        Some(HttpResourceReport {
            pool_connections: Some(connections),
            pool_buffer_bytes: Some(connections * buffers),
            inflight_bytes: None,
        })
    }
}

impl WebClient {
    async fn exchange(
        &self,
        request: HttpRequest,
        timeout: Duration,
        limit: u64,
    ) -> Result<HttpResponse, HttpError> {
        let agent = self.agent.clone();
        let url = self.endpoint.web_url(&request.url);
        let asked = url.clone();
        worker::run(move || read(&asked, send(&agent, &asked, request, timeout)?, limit))
            .await
            .map_err(|source| HttpError::Worker { url: shown(&url), source })?
    }

    /// The version page, or one in its place.
    async fn version_page(&self, request: HttpRequest, deadline: Duration) -> HttpResponse {
        let asked = self.exchange(request, VERSION_CALL_TIMEOUT, MAX_VERSION_PAGE_BYTES);
        let reason = match within(deadline, asked).await {
            Some(Ok(response)) => match revision(&response) {
                Some(revision) => {
                    let body = version_body(revision);
                    if self.answers.kept(VERSION_PAGE).as_ref() != Some(&body) {
                        self.answers.keep(VERSION_PAGE, &body).await;
                    }
                    return response;
                }
                None => format!("status {} without a version", response.status_code),
            },
            Some(Err(error)) => error.to_string(),
            None => format!("no answer within {} s", deadline.as_secs_f32()),
        };
        let built_in = Device::new().app_version_tertiary;
        let kept = self
            .answers
            .kept(VERSION_PAGE)
            .and_then(|body| revision(&HttpResponse { status_code: 200, body }));
        // A bot that was updated knows better than what it kept before.
        let revision = kept.map_or(built_in, |kept| kept.max(built_in));
        log::warn!("whatsapp version: page not usable ({reason}); going on with 2.3000.{revision}");
        HttpResponse { status_code: 200, body: version_body(revision) }
    }
}

/// The part of the page that matters, in the form that wacore reads it.
fn version_body(revision: u32) -> Vec<u8> {
    format!(r#"{{"client_revision":{revision}}}"#).into_bytes()
}

/// The revision named by a good answer. wacore reads 0 out of pages that name none.
fn revision(response: &HttpResponse) -> Option<u32> {
    if !(200..300).contains(&response.status_code) {
        return None;
    }
    let (_, _, revision) = parse_sw_js(std::str::from_utf8(&response.body).ok()?)?;
    (revision > 0).then_some(revision)
}

/// `url` for an error message: what follows the path holds WhatsApp's tokens.
fn shown(url: &str) -> String {
    url.split(['?', '#']).next().unwrap_or_default().to_owned()
}

fn send(
    agent: &Agent,
    url: &str,
    mut request: HttpRequest,
    timeout: Duration,
) -> Result<Response<Body>, HttpError> {
    match request.body.take() {
        Some(body) => send_body(agent, url, &request, &body[..], timeout),
        None => send_body(agent, url, &request, (), timeout),
    }
}

fn send_body(
    agent: &Agent,
    url: &str,
    request: &HttpRequest,
    body: impl AsSendBody,
    timeout: Duration,
) -> Result<Response<Body>, HttpError> {
    let refused = |source| HttpError::Request { url: shown(url), source };
    let method = Method::from_bytes(request.method.as_bytes()).map_err(|e| refused(e.into()))?;
    let mut built = Request::builder().method(method).uri(url);
    for (name, value) in &request.headers {
        built = built.header(name, value);
    }
    let built = built.body(body).map_err(refused)?;
    let built = agent.configure_request(built).timeout_global(Some(timeout)).build();
    agent.run(built).map_err(|source| HttpError::Exchange { url: shown(url), source: Box::new(source) })
}

fn read(url: &str, mut response: Response<Body>, limit: u64) -> Result<HttpResponse, HttpError> {
    let status_code = response.status().as_u16();
    let body = response
        .body_mut()
        .with_config()
        .limit(limit)
        .read_to_vec()
        .map_err(|source| HttpError::Exchange { url: shown(url), source: Box::new(source) })?;
    Ok(HttpResponse { status_code, body })
}

#[cfg(test)]
mod tests;
