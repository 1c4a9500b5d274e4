//! The smallest client of the control socket: one request, one connection, JSON both ways.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

pub struct Control {
    pub socket: PathBuf,
}

impl Control {
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let mut stream =
            UnixStream::connect(&self.socket).with_context(|| format!("connecting to {}", self.socket.display()))?;
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: treering\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).with_context(|| format!("{method} {path}"))?;
        let text = String::from_utf8_lossy(&answer);
        let (head, body) = text.split_once("\r\n\r\n").with_context(|| format!("{method} {path}: no answer"))?;
        let status = head.split_whitespace().nth(1).unwrap_or_default();
        if !status.starts_with('2') {
            bail!("{method} {path}: {status}: {body}");
        }
        // Long work tells how it goes, a line at a time; the last line is its result.
        let result = body.trim_end().lines().last().unwrap_or_default();
        serde_json::from_str(result).with_context(|| format!("{method} {path}: the answer is no JSON: {body}"))
    }
}
