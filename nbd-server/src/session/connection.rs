//! What the receiving half, the requests in flight and the sending half of one connection share.

use super::outbox::Outbox;
use super::{Budget, Limits, Permit, SessionError};
use crate::server::Stats;
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use treering_io::{Buffer, Io, Notify, Socket};

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Haggling,
    Serving,
    /// Nothing more is read; requests in flight are being finished.
    Leaving,
}

pub struct Connection {
    io: Io,
    socket: Socket,
    budget: Budget,
    phase: Cell<Phase>,
    outbox: RefCell<Outbox>,
    /// Rung for the sender: there is something to send, or the end has come nearer.
    outgoing: Notify,
    /// Rung for the receiver: a request was answered, or replies have left.
    progress: Notify,
    in_flight: Cell<usize>,
    /// Replies that a send in flight carries.
    sending: Cell<u64>,
    /// Sending failed: replies are thrown away.
    broken: Cell<bool>,
    /// Since when, and with how many bytes, it waits for its client to take replies.
    giving: Cell<Option<(u64, u64)>>,
    /// Since when, and for how many bytes, it waits for its client to send a payload.
    receiving: Cell<Option<(u64, u64)>>,
}

impl Connection {
    pub fn new(io: &Io, socket: Socket, budget: &Budget) -> Rc<Connection> {
        Rc::new(Connection {
            io: io.clone(),
            socket,
            budget: budget.clone(),
            phase: Cell::new(Phase::Haggling),
            outbox: RefCell::new(Outbox::new(budget.nothing())),
            outgoing: Notify::new(),
            progress: Notify::new(),
            in_flight: Cell::new(0),
            sending: Cell::new(0),
            broken: Cell::new(false),
            giving: Cell::new(None),
            receiving: Cell::new(None),
        })
    }

    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    pub fn io(&self) -> &Io {
        &self.io
    }

    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    pub fn set_phase(&self, phase: Phase) {
        self.phase.set(phase);
    }

    /// Nothing is in flight, nothing waits to be sent, and no payload is on its way.
    pub fn is_idle(&self) -> bool {
        self.in_flight.get() == 0 && self.unsent() == 0 && self.receiving.get().is_none()
    }

    /// For how long (ns) and for how many bytes this connection has waited for its client to take or give data.
    pub fn stalled(&self) -> Option<(u64, u64)> {
        let now = self.io.now();
        let waits = [self.giving.get(), self.receiving.get()];
        waits.into_iter().flatten().map(|(since, bytes)| (now.saturating_sub(since), bytes)).max()
    }

    /// A payload of `bytes` is now being received; zero: no longer.
    pub(super) fn set_receiving(&self, bytes: u64) {
        self.receiving.set((bytes > 0).then(|| (self.io.now(), bytes)));
    }

    /// Waits until the client has taken enough replies for another request to be begun.
    pub(super) async fn room_for_reply(&self, limits: &Limits) -> Result<(), SessionError> {
        loop {
            if self.broken.get() {
                return Err(SessionError::Broken(io::ErrorKind::BrokenPipe.into()));
            }
            if self.in_flight.get() < limits.requests_in_flight && self.unsent() < limits.reply_backlog {
                return Ok(());
            }
            self.progress.notified().await;
        }
    }

    pub(super) fn reply(&self, bytes: &[u8]) {
        if self.broken.get() {
            return;
        }
        let mut outbox = self.outbox.borrow_mut();
        let first = outbox.is_empty();
        outbox.push(bytes);
        drop(outbox);
        if first {
            self.outgoing.notify_all();
        }
    }

    pub(super) fn reply_with_data(&self, header: &[u8], data: Buffer, permit: Permit) {
        if self.broken.get() {
            return;
        }
        let mut outbox = self.outbox.borrow_mut();
        let first = outbox.is_empty();
        outbox.push_data(header, data, permit);
        drop(outbox);
        if first {
            self.outgoing.notify_all();
        }
    }

    /// No request will follow.
    pub(super) fn finish(&self) {
        self.phase.set(Phase::Leaving);
        self.outgoing.notify_all();
    }

    pub(super) async fn all_answered(&self) {
        while self.in_flight.get() > 0 {
            self.progress.notified().await;
        }
    }

    /// The sending half: all that is ready in one send, again and again, until the connection was finished and the last
    /// reply has left, or sending fails.
    pub(super) async fn send_replies(self: Rc<Connection>, stats: Stats) {
        loop {
            let batch = self.outbox.borrow_mut().take(self.budget.nothing());
            if batch.bytes == 0 {
                if self.phase.get() == Phase::Leaving && self.in_flight.get() == 0 {
                    return;
                }
                self.outgoing.notified().await;
                continue;
            }
            self.sending.set(batch.bytes);
            self.giving.set(Some((self.io.now(), batch.bytes)));
            let sent = self.io.send(&self.socket, batch.buffers).await;
            drop(batch.permit);
            self.giving.set(None);
            self.sending.set(0);
            stats.count_sent(batch.bytes);
            if let Err(error) = sent {
                tracing::debug!("replies could not be sent: {error}");
                self.broken.set(true);
                drop(self.outbox.borrow_mut().take(self.budget.nothing()));
                // Ends a receive in flight, so that the other half notices.
                self.socket.shutdown();
                self.progress.notify_all();
                return;
            }
            self.progress.notify_all();
        }
    }

    fn unsent(&self) -> u64 {
        self.outbox.borrow().bytes() + self.sending.get()
    }
}

/// Counts a request as long as it is not answered.
pub(super) struct InFlight {
    connection: Rc<Connection>,
}

impl InFlight {
    pub fn new(connection: &Rc<Connection>) -> InFlight {
        connection.in_flight.set(connection.in_flight.get() + 1);
        InFlight { connection: connection.clone() }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let connection = &self.connection;
        connection.in_flight.set(connection.in_flight.get() - 1);
        connection.progress.notify_all();
        if connection.phase.get() == Phase::Leaving {
            connection.outgoing.notify_all();
        }
    }
}
