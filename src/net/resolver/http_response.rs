//! HTTP/1.1 responses (RFC 9112), as far as DNS over HTTPS needs them.

/// Longest head, in bytes.
const MAX_HEAD_BYTES: usize = 8 * 1024;

/// What bytes of a connection hold.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Response {
    /// The beginning of a response.
    Incomplete,
    /// A whole response, which has `length` of the bytes.
    Complete { status: u16, body: Vec<u8>, length: usize },
}

/// Reads one response. `Err` says in what way it is none that we understand.
pub(super) fn parse(bytes: &[u8]) -> Result<Response, String> {
    let Some(head_length) = find(bytes, b"\r\n\r\n") else {
        let plausible = b"HTTP/1.".iter().zip(bytes).all(|(expected, byte)| expected == byte);
        return match plausible && bytes.len() <= MAX_HEAD_BYTES {
            true => Ok(Response::Incomplete),
            false => Err(not_http()),
        };
    };
    let head = std::str::from_utf8(&bytes[..head_length]).map_err(|_| not_http())?;
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let status = status_line
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1))
        .filter(|code| code.len() == 3)
        .and_then(|code| code.parse::<u16>().ok())
        .ok_or_else(not_http)?;
    let mut length = None;
    let mut chunked = false;
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { return Err(not_http()) };
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.trim().parse::<usize>().map_err(|_| not_http())?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            chunked = value.trim().eq_ignore_ascii_case("chunked");
        }
    }
    let start = head_length + 4;
    let rest = &bytes[start..];
    if status != 200 {
        // Its body says nothing to us, and nothing is read behind it.
        return Ok(Response::Complete { status, body: Vec::new(), length: bytes.len() });
    }
    if chunked {
        return Ok(match unchunk(rest)? {
            Some((body, length)) => Response::Complete { status, body, length: start + length },
            None => Response::Incomplete,
        });
    }
    let length = length.ok_or("answered with an HTTP response of no known length")?;
    Ok(match rest.get(..length) {
        Some(body) => Response::Complete { status, body: body.to_vec(), length: start + length },
        None => Response::Incomplete,
    })
}

/// The body in chunks (RFC 9112 §7.1) and how many bytes it took; `None` if its end is missing.
fn unchunk(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, String> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let Some(line) = find(&bytes[at..], b"\r\n") else { return Ok(None) };
        let size = std::str::from_utf8(&bytes[at..at + line]).map_err(|_| not_http())?;
        let size = size.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).ok().filter(|size| *size <= u16::MAX.into());
        let size = size.ok_or_else(not_http)?;
        at += line + 2;
        if size == 0 {
            // No trailers are asked for, so an empty line ends it.
            return Ok((bytes.len() >= at + 2).then_some((body, at + 2)));
        }
        let Some(chunk) = bytes.get(at..at + size) else { return Ok(None) };
        body.extend_from_slice(chunk);
        at += size;
        match bytes.get(at..at + 2) {
            Some(b"\r\n") => at += 2,
            Some(_) => return Err(not_http()),
            None => return Ok(None),
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn not_http() -> String {
    "answered with something that is not HTTP/1.1".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(bytes: &[u8]) -> (u16, Vec<u8>, usize) {
        match parse(bytes).unwrap() {
            Response::Complete { status, body, length } => (status, body, length),
            Response::Incomplete => panic!("incomplete"),
        }
    }

    #[test]
    fn a_body_of_known_length_and_one_in_chunks_are_read() {
        let plain = b"HTTP/1.1 200 OK\r\nServer: x\r\ncontent-length: 4\r\n\r\nbodyHTTP/1.1 200";
        assert_eq!(complete(plain), (200, b"body".to_vec(), plain.len() - 12));
        let chunked =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2;x=y\r\nbo\r\n2\r\ndy\r\n0\r\n\r\nmore";
        assert_eq!(complete(chunked), (200, b"body".to_vec(), chunked.len() - 4));
        assert_eq!(complete(b"HTTP/1.1 302 Found\r\nLocation: http://portal\r\n\r\nlogin").0, 302);
    }

    #[test]
    fn a_response_is_incomplete_until_its_last_byte() {
        for whole in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"[..],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        ] {
            for length in 0..whole.len() {
                assert_eq!(parse(&whole[..length]), Ok(Response::Incomplete), "{length}");
            }
            assert_eq!(complete(whole).1, b"body");
        }
    }

    #[test]
    fn what_is_not_http_is_refused() {
        for bytes in [
            &b"SSH-2.0-OpenSSH\r\n"[..],
            b"HTTP/2 200\r\n\r\n",
            b"HTTP/1.1 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nbody\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
        ] {
            assert!(parse(bytes).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }

        #[test]
        fn no_response_is_too_strange(text in "HTTP/1.1 200 (\r\nContent-Length: [0-9]{0,25}|\r\nTransfer-Encoding: chunked|\r\n[a-f0-9]{0,20}\r\n.{0,9}|\r\n){0,6}") {
            if let Ok(Response::Complete { length, .. }) = parse(text.as_bytes()) {
                proptest::prop_assert!(length <= text.len());
            }
        }
    }
}
