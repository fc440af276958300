//! DNS over HTTPS (RFC 8484) on HTTP/1.1.

use anyhow::Context;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures_lite::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::http::Request;

/// Where the resolvers of the world have it.
const PATH: &str = "/dns-query";

/// The one media type of RFC 8484.
const MESSAGE: &str = "application/dns-message";

/// One request: its DNS message, or the status that refuses it.
pub struct Question {
    pub message: Result<Vec<u8>, u16>,
    /// The client sends no further request.
    pub last: bool,
}

/// `None` when the client closed.
///
/// # Errors
/// When what comes is no HTTP.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> anyhow::Result<Option<Question>> {
    let Some(mut request) = Request::read(stream).await? else { return Ok(None) };
    let last = request.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    let body = request.body(stream).await?;
    let message = match (request.method.as_str(), request.path.as_str()) {
        (_, path) if path != PATH => Err(404),
        ("POST", _) if request.header("content-type") == Some(MESSAGE) => Ok(body),
        ("POST", _) => Err(415),
        ("GET", _) => {
            request.parameter("dns").and_then(|text| BASE64_URL_SAFE_NO_PAD.decode(text).ok()).ok_or(400)
        }
        _ => Err(405),
    };
    Ok(Some(Question { message, last }))
}

/// Writes a DNS message, or an empty answer with a status.
///
/// # Errors
/// When the client is gone.
pub async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    answer: Result<&[u8], u16>,
    last: bool,
) -> anyhow::Result<()> {
    let (status, body) = match answer {
        Ok(message) => (200, message),
        Err(status) => (status, &[][..]),
    };
    let connection = if last { "close" } else { "keep-alive" };
    let head = format!(
        "HTTP/1.1 {status} Test\r\ncontent-type: {MESSAGE}\r\ncontent-length: {}\r\nconnection: {connection}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).await.context("writing an HTTP answer")?;
    stream.flush().await?;
    Ok(())
}
