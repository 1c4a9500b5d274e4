//! As much of HTTP/1.1 as a control socket needs: one request in, one response out, no I/O.
//!
//! Refused rather than guessed: bodies of unknown length, two lengths, more than a few headers. `httparse` reads the head.

use super::api::{ErrorReply, SCHEMA};
use super::trouble::Trouble;
use serde::Serialize;

/// A request with its head.
pub const REQUEST_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 32;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub body: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    #[error("this is not an HTTP/1.1 request: {0}")]
    Malformed(String),
    #[error("the request is larger than {REQUEST_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the request did not arrive within {0} seconds")]
    TooSlow(u64),
}

impl Reject {
    pub fn status(&self) -> u16 {
        match self {
            Reject::Malformed(_) => 400,
            Reject::TooSlow(_) => 408,
            Reject::TooLarge => 413,
        }
    }
}

/// Reads one request from the beginning of `bytes`; None if more must come.
pub fn parse(bytes: &[u8]) -> Result<Option<Request>, Reject> {
    let malformed = |what: &str| Reject::Malformed(what.to_owned());
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    let parsed = head.parse(bytes).map_err(|error| Reject::Malformed(error.to_string()))?;
    let httparse::Status::Complete(head_bytes) = parsed else {
        return if bytes.len() >= REQUEST_BYTES_MAX { Err(Reject::TooLarge) } else { Ok(None) };
    };
    let mut length = None;
    for header in head.headers.iter() {
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(malformed("bodies need a Content-Length here"));
        }
        if header.name.eq_ignore_ascii_case("content-length") {
            let digits = std::str::from_utf8(header.value).ok().filter(|v| v.bytes().all(|b| b.is_ascii_digit()));
            let value: u64 =
                digits.and_then(|v| v.parse().ok()).ok_or_else(|| malformed("Content-Length is no number"))?;
            if length.is_some_and(|earlier| earlier != value) {
                return Err(malformed("it has two lengths"));
            }
            length = Some(value);
        }
    }
    let whole = (head_bytes as u64).checked_add(length.unwrap_or(0)).filter(|whole| *whole <= REQUEST_BYTES_MAX as u64);
    let whole = whole.ok_or(Reject::TooLarge)? as usize;
    let Some(body) = bytes.get(head_bytes..whole) else { return Ok(None) };
    let method = head.method.ok_or_else(|| malformed("it has no method"))?.to_owned();
    let path = head.path.ok_or_else(|| malformed("it has no path"))?.to_owned();
    Ok(Some(Request { method, path, body: body.to_vec() }))
}

/// A whole response with a JSON body.
pub fn response(status: u16, document: &impl Serialize) -> Vec<u8> {
    let mut body = serde_json::to_vec(document).expect("documents of the control socket are plain data");
    body.push(b'\n');
    let reason = reason(status);
    let mut bytes = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.append(&mut body);
    bytes
}

pub fn error(status: u16, trouble: Trouble) -> Vec<u8> {
    response(status, &ErrorReply { schema: SCHEMA, error: trouble })
}

/// The head of a response whose body is lines of JSON until the connection closes.
pub fn head_of_lines() -> Vec<u8> {
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n\r\n".to_vec()
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        423 => "Locked",
        503 => "Service Unavailable",
        507 => "Insufficient Storage",
        _ => "Internal Server Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_however_it_is_split() {
        let bytes = b"POST /v1/dots HTTP/1.1\r\nHost: x\r\ncontent-length: 4\r\n\r\n{  }GET";
        let end = bytes.len() - 3;
        for cut in 0..end {
            assert_eq!(parse(&bytes[..cut]), Ok(None), "cut at {cut}");
        }
        let request = parse(bytes).expect("well-formed").expect("whole");
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/v1/dots"));
        assert_eq!(request.body, b"{  }");
    }

    #[test]
    fn what_is_not_http_is_refused_and_not_waited_for() {
        for bad in [
            &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
            b"GET /v1/status\r\n\r\n",
            b"GET  /v1/status HTTP/9.9\r\n\r\n",
            b"POST /v1/dots HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
            b"POST /v1/dots HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            b"POST /v1/dots HTTP/1.1\r\nContent-Length: +1\r\n\r\n1",
            b"POST /v1/dots HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ] {
            assert!(matches!(parse(bad), Err(Reject::Malformed(_))), "{:?}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn a_request_past_the_limit_is_refused_as_soon_as_that_is_known() {
        let announced = format!("POST /v1/dots HTTP/1.1\r\nContent-Length: {REQUEST_BYTES_MAX}\r\n\r\n");
        assert_eq!(parse(announced.as_bytes()), Err(Reject::TooLarge));
        let absurd = format!("POST /v1/dots HTTP/1.1\r\nContent-Length: {}\r\n\r\n", u64::MAX);
        assert_eq!(parse(absurd.as_bytes()), Err(Reject::TooLarge));
        let endless = format!("GET /{} HTTP/1.1\r\n", "a".repeat(REQUEST_BYTES_MAX));
        assert_eq!(parse(endless.as_bytes()), Err(Reject::TooLarge));
    }

    #[test]
    fn no_prefix_or_flip_of_a_request_panics() {
        let bytes = b"POST /v1/dots HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n{  }";
        for at in 0..bytes.len() {
            for value in 0..=255u8 {
                let mut changed = bytes.to_vec();
                changed[at] = value;
                let _ = parse(&changed);
            }
        }
    }
}
