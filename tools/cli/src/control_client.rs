//! A blocking client of the control socket: one request, one connection.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use treering_nbd_server::control::api::{ErrorReply, Event};
use treering_nbd_server::control::{Kind, Trouble};

/// Longer than the server waits for anything but the disk; a change of the catalog may wait for that.
const PATIENCE: Duration = Duration::from_secs(60);
/// More than any answer of ours.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
const HEADERS_MAX: usize = 32;

pub struct ControlClient {
    path: PathBuf,
}

impl ControlClient {
    /// None if nobody listens there.
    pub fn find(path: &Path) -> Result<Option<ControlClient>, Trouble> {
        match UnixStream::connect(path) {
            Ok(_) => Ok(Some(ControlClient { path: path.to_owned() })),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory => Ok(None),
                io::ErrorKind::PermissionDenied => {
                    let what = format!("control socket {}: {error}", path.display());
                    Err(Trouble::new(Kind::NotAllowed, what).fix("run the command as the user who runs the server"))
                }
                _ => Err(Trouble::new(Kind::Other, format!("control socket {}: {error}", path.display()))),
            },
        }
    }

    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Trouble> {
        self.ask("GET", path, b"")
    }

    pub fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Trouble> {
        self.ask("DELETE", path, b"")
    }

    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Trouble> {
        self.ask("POST", path, &serde_json::to_vec(body).expect("requests are plain data"))
    }

    pub fn patch<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Trouble> {
        self.ask("PATCH", path, &serde_json::to_vec(body).expect("requests are plain data"))
    }

    /// Has long work done by the server. `progress` is told the bytes looked at so far.
    pub fn work<T: DeserializeOwned>(
        &self,
        path: &str,
        asked: &impl Serialize,
        progress: &mut dyn FnMut(u64),
    ) -> Result<T, Trouble> {
        let body = serde_json::to_vec(asked).expect("requests are plain data");
        let answer = self.send("POST", path, &body)?;
        if answer.status != 200 {
            return Err(self.trouble(answer));
        }
        for line in answer.body.lines() {
            let line = line.map_err(|error| self.broken(&error))?;
            let event: Event<T> = serde_json::from_str(&line).map_err(|error| self.strange(&error.to_string()))?;
            match event {
                Event::Progress { bytes } => progress(bytes),
                Event::Report(report) => return Ok(report),
                Event::Stopped { error } => return Err(error),
            }
        }
        Err(self.strange("it ended before the report"))
    }

    fn ask<T: DeserializeOwned>(&self, method: &str, path: &str, body: &[u8]) -> Result<T, Trouble> {
        let mut answer = self.send(method, path, body)?;
        if !(200..300).contains(&answer.status) {
            return Err(self.trouble(answer));
        }
        let bytes = answer.read().map_err(|error| self.broken(&error))?;
        serde_json::from_slice(&bytes).map_err(|error| self.strange(&error.to_string()))
    }

    fn send(&self, method: &str, path: &str, body: &[u8]) -> Result<Answer, Trouble> {
        let exchange = || {
            let mut stream = UnixStream::connect(&self.path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            let head = format!("{method} {path} HTTP/1.1\r\nHost: treering\r\nContent-Length: {}\r\n\r\n", body.len());
            let sent = stream.write_all(&[head.as_bytes(), body].concat());
            // A server that refuses us at once may have closed its ear already; its answer says why.
            if let Err(error) = sent
                && error.kind() != io::ErrorKind::BrokenPipe
            {
                return Err(error);
            }
            Answer::receive(stream)
        };
        exchange().map_err(|error| self.broken(&error))
    }

    fn trouble(&self, mut answer: Answer) -> Trouble {
        let status = answer.status;
        let body = answer.read().unwrap_or_default();
        match serde_json::from_slice::<ErrorReply>(&body) {
            Ok(reply) => reply.error,
            Err(_) => self.strange(&format!("status {status} without an error of ours")),
        }
    }

    fn broken(&self, error: &io::Error) -> Trouble {
        let kind = match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Kind::TimedOut,
            _ => Kind::NoDaemon,
        };
        Trouble::new(kind, format!("asking the server at {}: {error}", self.path.display()))
    }

    fn strange(&self, what: &str) -> Trouble {
        Trouble::new(Kind::Other, format!("the answer of the server at {}: {what}", self.path.display()))
            .fix("treering version     and compare it with the version in treering status --json")
    }
}

struct Answer {
    status: u16,
    length: Option<u64>,
    body: BufReader<Box<dyn Read>>,
}

impl Answer {
    fn receive(stream: UnixStream) -> io::Result<Answer> {
        let mut stream = BufReader::new(stream);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let got = stream.by_ref().take(64 << 10).read_until(b'\n', &mut head)?;
            if got == 0 || head.len() > 64 << 10 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the answer has no head"));
            }
        }
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        response.parse(&head).map_err(|error| invalid(error.to_string()))?;
        let status = response.code.ok_or_else(|| invalid("the answer has no status".into()))?;
        let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
        let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok());
        Ok(Answer { status, length, body: BufReader::new(Box::new(stream)) })
    }

    fn read(&mut self) -> io::Result<Vec<u8>> {
        let limit = self.length.unwrap_or(ANSWER_BYTES_MAX).min(ANSWER_BYTES_MAX);
        let mut bytes = Vec::new();
        self.body.by_ref().take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}
