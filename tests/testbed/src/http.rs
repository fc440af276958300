//! HTTP as the servers need it: reads one request head and its body, writes one answer.

use anyhow::{Context, bail, ensure};
use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes of a request head; browsers' heads stay below 8 KiB.
const MAX_HEAD: usize = 16 * 1024;

/// Header lines of a request.
const MAX_HEADERS: usize = 64;

/// Bytes of a request body: encrypted media, at most what a phone sends as a document in a test.
const MAX_BODY: usize = 64 * 1024 * 1024;

/// One request, its body not yet read.
pub struct Request {
    pub method: String,
    /// Path without the query.
    pub path: String,
    pub query: String,
    headers: Vec<(String, String)>,
    /// What came in the same packets behind the head.
    pub rest: Vec<u8>,
}

impl Request {
    /// Reads a head. `None` when the peer closed before it sent anything.
    ///
    /// # Errors
    /// When the head is malformed, too long or cut off.
    pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> anyhow::Result<Option<Request>> {
        let mut bytes = Vec::new();
        let mut chunk = [0; 2048];
        loop {
            let read = stream.read(&mut chunk).await?;
            if read == 0 {
                ensure!(bytes.is_empty(), "the connection ended inside an HTTP head");
                return Ok(None);
            }
            bytes.extend_from_slice(&chunk[..read]);
            let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
            let mut head = httparse::Request::new(&mut headers);
            if let httparse::Status::Complete(length) = head.parse(&bytes).context("parsing an HTTP head")? {
                let target = head.path.unwrap_or("/");
                let (path, query) = target.split_once('?').unwrap_or((target, ""));
                return Ok(Some(Request {
                    method: head.method.unwrap_or_default().to_owned(),
                    path: path.to_owned(),
                    query: query.to_owned(),
                    headers: head
                        .headers
                        .iter()
                        .map(|h| (h.name.to_ascii_lowercase(), String::from_utf8_lossy(h.value).into_owned()))
                        .collect(),
                    rest: bytes[length..].to_vec(),
                }));
            }
            ensure!(bytes.len() < MAX_HEAD, "an HTTP head is longer than {MAX_HEAD} bytes");
        }
    }

    /// Value of a header by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Value of a query parameter, not percent-decoded.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    /// Reads the body, of a given length or chunked.
    ///
    /// # Errors
    /// When the body is longer than 64 MiB or cut off.
    pub async fn body(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> anyhow::Result<Vec<u8>> {
        if self.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            return self.chunked_body(stream).await;
        }
        let length: usize = match self.header("content-length") {
            Some(length) => length.trim().parse().context("parsing content-length")?,
            None => 0,
        };
        ensure!(length <= MAX_BODY, "an HTTP body is longer than {MAX_BODY} bytes");
        let mut body = std::mem::take(&mut self.rest);
        body.truncate(length);
        let have = body.len();
        body.resize(length, 0);
        stream.read_exact(&mut body[have..]).await.context("reading an HTTP body")?;
        Ok(body)
    }

    async fn chunked_body(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> anyhow::Result<Vec<u8>> {
        let mut raw = std::mem::take(&mut self.rest);
        let mut body = Vec::new();
        let mut at = 0;
        loop {
            match httparse::parse_chunk_size(&raw[at..]) {
                Ok(httparse::Status::Complete((header, 0))) if raw.len() >= at + header => return Ok(body),
                Ok(httparse::Status::Complete((header, size))) => {
                    let (start, size) = (at + header, usize::try_from(size)?);
                    ensure!(body.len() + size <= MAX_BODY, "an HTTP body is longer than {MAX_BODY} bytes");
                    if raw.len() >= start + size + 2 {
                        body.extend_from_slice(&raw[start..start + size]);
                        at = start + size + 2;
                        continue;
                    }
                }
                Ok(httparse::Status::Partial) => {}
                Err(_) => bail!("an HTTP body has an invalid chunk size"),
            }
            let mut chunk = [0; 16 * 1024];
            let read = stream.read(&mut chunk).await?;
            ensure!(read > 0, "the connection ended inside an HTTP body");
            raw.extend_from_slice(&chunk[..read]);
        }
    }
}

/// Writes an answer, with the time as real servers tell it, and announces the end of the connection.
///
/// # Errors
/// When the peer is gone.
pub async fn answer(
    stream: &mut (impl AsyncWrite + Unpin),
    status: &str,
    content_type: &str,
    body: &[u8],
) -> anyhow::Result<()> {
    let date = jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT");
    let head = format!(
        "HTTP/1.1 {status}\r\ndate: {date}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    stream.flush().await?;
    stream.close().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::io::Cursor;
    use smol::block_on;

    #[test]
    fn a_request_gives_its_parts_and_its_body() {
        let text = b"POST /mms/image/t?auth=a&token=b HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello!";
        let mut stream = Cursor::new(text.to_vec());
        let mut request = block_on(Request::read(&mut stream)).unwrap().unwrap();
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/mms/image/t"));
        assert_eq!(request.parameter("token"), Some("b"));
        assert_eq!(block_on(request.body(&mut stream)).unwrap(), b"hello");
    }

    #[test]
    fn a_chunked_body_is_put_together() {
        let text =
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
        let mut stream = Cursor::new(text.to_vec());
        let mut request = block_on(Request::read(&mut stream)).unwrap().unwrap();
        assert_eq!(block_on(request.body(&mut stream)).unwrap(), b"hello world");
    }

    #[test]
    fn a_cut_off_request_is_an_error() {
        for text in [&b"GET / HTT"[..], b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf"] {
            let mut stream = Cursor::new(text.to_vec());
            let failed = block_on(async {
                match Request::read(&mut stream).await {
                    Err(_) => true,
                    Ok(None) => false,
                    Ok(Some(mut request)) => request.body(&mut stream).await.is_err(),
                }
            });
            assert!(failed);
        }
    }
}
