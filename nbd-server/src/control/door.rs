//! The door of the control socket: who may come in, how many at a time, how long and how much they may talk.
//!
//! The kernel names the peer when it connects; nothing in the request can change that. A peer that may not come in is told
//! so before a byte of it is read. Answers go out within a time too: a client that does not read costs one small buffer for
//! a few seconds.

use super::api::Event;
use super::http::{self, REQUEST_BYTES_MAX, Reject, Request};
use super::routes::{self, Answer, Served, Work};
use super::trouble::{Kind, Trouble};
use super::verbs;
use serde::Serialize;
use std::cell::Cell;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use treering_io::{Buffer, Io, Listener, Peer, Socket, Task};

#[derive(Debug, Clone)]
pub struct Limits {
    /// For a request to arrive, and for each part of an answer to leave.
    pub patience: Duration,
    pub connections: usize,
    /// Time between two lines of progress.
    pub progress: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { patience: Duration::from_secs(10), connections: 64, progress: Duration::from_millis(500) }
    }
}

/// An open control socket; it closes when this is dropped. Verbs in progress go on.
pub struct Control {
    _accepting: Task<()>,
}

struct Door {
    served: Served,
    limits: Limits,
    /// Whose server this is.
    owner: u32,
    open: Cell<usize>,
}

impl Control {
    /// Only `owner` and root get answers.
    pub fn listen(served: Served, path: &Path, owner: u32, limits: Limits) -> io::Result<Control> {
        let io = served.io.clone();
        let listener = io.listen_unix(path, 0o600)?;
        let door = Rc::new(Door { served, limits, owner, open: Cell::new(0) });
        Ok(Control { _accepting: io.spawn(accept(door, listener)) })
    }
}

async fn accept(door: Rc<Door>, listener: Listener) {
    let io = door.served.io.clone();
    loop {
        match io.accept(&listener).await {
            Ok(socket) if door.open.get() < door.limits.connections => {
                door.open.set(door.open.get() + 1);
                let visit = door.clone();
                let visit = async move {
                    visit.receive(socket).await;
                    visit.open.set(visit.open.get() - 1);
                };
                io.spawn(visit).detach();
            }
            Ok(_) => tracing::warn!(limit = door.limits.connections, "control: a client was turned away"),
            Err(error) => {
                tracing::warn!("control: accepting a client: {error}");
                io.sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

impl Door {
    async fn receive(&self, socket: Socket) {
        let io = &self.served.io;
        if let Err(trouble) = admit(socket.peer(), self.owner) {
            tracing::warn!(peer = ?socket.peer(), "control: refused");
            self.send(&socket, &http::error(403, trouble)).await;
            return drain(io, &socket).await;
        }
        let patience = self.limits.patience;
        let request = io.timeout(patience, read_request(io, &socket)).await;
        match request.unwrap_or(Err(Reject::TooSlow(patience.as_secs()))) {
            Ok(Some(request)) => {
                tracing::debug!(method = request.method, path = request.path, "control");
                match routes::answer(&self.served, &request).await {
                    Answer::Whole(bytes) => drop(self.send(&socket, &bytes).await),
                    Answer::Lines(work) => self.tell(&socket, work).await,
                }
            }
            Ok(None) => {}
            Err(reject) => {
                let trouble = Trouble::new(Kind::Usage, reject.to_string());
                self.send(&socket, &http::error(reject.status(), trouble)).await;
                drain(io, &socket).await;
            }
        }
    }

    /// False if the client is gone, or does not read.
    async fn send(&self, socket: &Socket, bytes: &[u8]) -> bool {
        let sent = self.served.io.send(socket, vec![Buffer::from(bytes)]);
        match self.served.io.timeout(self.limits.patience, sent).await {
            Some(Ok(())) => true,
            Some(Err(_)) => false,
            None => {
                socket.shutdown();
                false
            }
        }
    }

    /// Does long work and tells how it goes.
    async fn tell(&self, socket: &Socket, work: Work) {
        if !self.send(socket, &http::head_of_lines()).await {
            return;
        }
        let seen = Cell::new(0u64);
        let mut progress = |bytes| seen.set(seen.get() + bytes);
        let store = &self.served.store;
        let mut work = pin!(async {
            match work {
                Work::Check(asked) => last_line(verbs::check(store, asked.data, &mut progress).await),
                Work::Scrub(asked) => last_line(verbs::scrub(store, asked.bytes_per_second, &mut progress).await),
            }
        });
        let last = loop {
            if let Some(last) = self.served.io.timeout(self.limits.progress, work.as_mut()).await {
                break last;
            }
            // Nobody waits for the result of work whose client has left.
            if !self.send(socket, &line(&Event::<()>::Progress { bytes: seen.get() })).await {
                return;
            }
        };
        self.send(socket, &last).await;
    }
}

/// Whether this peer gets answers from a server of `owner`.
pub(super) fn admit(peer: Peer, owner: u32) -> Result<(), Trouble> {
    let who = match peer {
        Peer::Unix { uid, .. } if uid == owner || uid == 0 => return Ok(()),
        Peer::Unix { uid, .. } => format!("uid {uid}"),
        Peer::Tcp(address) => address.to_string(),
    };
    let what = format!("{who} may not control this server: it belongs to uid {owner}");
    Err(Trouble::new(Kind::NotAllowed, what).fix("run the command as that user, or as root"))
}

/// None if the client left before its request was whole.
async fn read_request(io: &Io, socket: &Socket) -> Result<Option<Request>, Reject> {
    let mut buffer = Buffer::with_len(REQUEST_BYTES_MAX);
    let mut filled = 0;
    loop {
        if let Some(request) = http::parse(&buffer[..filled])? {
            return Ok(Some(request));
        }
        if filled == buffer.len() {
            return Err(Reject::TooLarge);
        }
        let (received, back) = io.recv(socket, buffer, filled).await;
        buffer = back;
        match received {
            Ok(0) | Err(_) => return Ok(None),
            Ok(bytes) => filled += bytes,
        }
    }
}

/// Takes in what a refused client still sends, for a moment, so that it finds its answer and not a broken connection.
async fn drain(io: &Io, socket: &Socket) {
    let read = async {
        let mut buffer = Buffer::with_len(16 << 10);
        loop {
            let (received, back) = io.recv(socket, buffer, 0).await;
            buffer = back;
            if !matches!(received, Ok(bytes) if bytes > 0) {
                return;
            }
        }
    };
    let _ = io.timeout(Duration::from_millis(500), read).await;
}

fn last_line(result: Result<impl Serialize, Trouble>) -> Vec<u8> {
    match result {
        Ok(report) => line(&Event::Report(report)),
        Err(error) => line(&Event::<()>::Stopped { error }),
    }
}

fn line(event: &Event<impl Serialize>) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(event).expect("events are plain data");
    bytes.push(b'\n');
    bytes
}
