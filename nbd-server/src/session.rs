//! One connection, from greeting to farewell.
//!
//! ```text
//! receive ─► handshake ─► requests ─► (one task each, if they do not finish at once) ─► outbox ─► one send in flight
//! ```
//!
//! What it keeps true:
//! - replies leave in the order in which requests complete, gathered into as few sends as the client's pace allows;
//! - memory is bounded: request data by the server's [`Budget`], requests in flight and replies not yet taken by [`Limits`];
//!   a client that does not read its replies is not read from either;
//! - a WRITE reaches the device whole or not at all: its payload is received first;
//! - whatever ends the connection, requests in flight finish first, and only then is the volume given up.
//!
//! It does not judge requests (`protocol`) and does not know what a volume is (`export`).

mod budget;
mod connection;
mod outbox;
mod perform;
mod receive;

pub use budget::{Budget, Permit};
pub use connection::{Connection, Phase};

use crate::export::writers::ClientGroup;
use crate::export::{Catalog, Exports};
use crate::protocol::{
    Handshake, HandshakeError, Negotiated, NotExported, Operation, Progress, Step, Transmission, TransmissionError,
    reply,
};
use crate::server::Stats;
use connection::InFlight;
use receive::{Receiver, Stream};
use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use treering_io::{Buffer, Io};

/// Requests begun in a row before what they asked of the disk goes to the kernel and the other connections have a turn.
const BURST: usize = 8;
/// How long a client that leaves may take for the last replies.
const FAREWELL: Duration = Duration::from_secs(10);

/// What one connection may use.
#[derive(Debug, Clone)]
pub struct Limits {
    /// From the greeting to the end of option haggling.
    pub handshake: Duration,
    /// Requests that were started and not answered.
    pub requests_in_flight: usize,
    /// Replies that wait for the client to take them; past this, no more requests are read.
    pub reply_backlog: u64,
    /// Bytes received at a time.
    pub receive_buffer: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            handshake: Duration::from_secs(30),
            requests_in_flight: 256,
            reply_backlog: 8 << 20,
            receive_buffer: 64 << 10,
        }
    }
}

/// What all sessions of a server share.
pub struct Context<C: Catalog> {
    pub io: Io,
    pub exports: Exports<C>,
    pub budget: Budget,
    pub limits: Limits,
    pub stats: Stats,
    pub stopping: Cell<bool>,
}

/// How a client is let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Welcome {
    Open,
    /// Only to be told why not.
    Full(String),
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error("the client closed the connection in the middle of {0}")]
    Cut(&'static str),
    #[error("option haggling took longer than {0:?}")]
    HandshakeTimeout(Duration),
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error(transparent)]
    Transmission(#[from] TransmissionError),
    #[error("the export vanished between haggling and use: {0:?}")]
    Gone(NotExported),
    #[error("the connection failed: {0}")]
    Broken(#[from] io::Error),
}

/// Serves one client until it leaves or must be dropped. Requests in flight are finished before this returns.
pub async fn run<C: Catalog>(
    context: Rc<Context<C>>,
    connection: Rc<Connection>,
    group: ClientGroup,
    welcome: Welcome,
) -> Result<(), SessionError> {
    let mut receiver = Receiver::new(&connection, context.limits.receive_buffer);
    let haggling = haggle(&context, &connection, &mut receiver, welcome);
    let timeout = context.limits.handshake;
    let haggled = context.io.timeout(timeout, haggling).await;
    let Some(negotiated) = haggled.ok_or(SessionError::HandshakeTimeout(timeout))?? else {
        return Ok(());
    };
    let export = context.exports.attach(&negotiated.export.name, group).map_err(SessionError::Gone)?;
    let export = Rc::new(export);
    connection.set_phase(Phase::Serving);
    tracing::debug!(export = export.name(), client = %export.claim.group(), rules = ?negotiated.rules, "client attached");

    let sender = context.io.spawn(connection.clone().send_replies(context.stats.clone()));
    let mut machine = Transmission::new(negotiated.rules);
    let mut requests =
        Requests { context: &context, connection: &connection, export: &export, receiver: &mut receiver };
    let ended = requests.serve(&mut machine).await;
    connection.finish();
    connection.all_answered().await;
    // The last replies may take a moment to leave; a client that does not take them must not keep its place for ever.
    let mut sender = sender;
    if context.io.timeout(FAREWELL, &mut sender).await.is_none() {
        connection.socket().shutdown();
        sender.await;
    }
    connection.socket().shutdown();
    ended
}

/// Option haggling. `None`: the client left in good order.
async fn haggle<C: Catalog>(
    context: &Context<C>,
    connection: &Connection,
    receiver: &mut Receiver,
    welcome: Welcome,
) -> Result<Option<Negotiated>, SessionError> {
    let mut machine = Handshake::new();
    if let Welcome::Full(text) = welcome {
        machine.close_as_full(text);
    }
    let mut out = Handshake::greeting().to_vec();
    loop {
        if !out.is_empty() {
            context.io.send(connection.socket(), vec![Buffer::from(&out[..])]).await?;
            out.clear();
        }
        if context.stopping.get() {
            machine.close_as_stopping();
        }
        let (used, progress) = match machine.advance(receiver.bytes(), &context.exports, &mut out) {
            Ok(advanced) => advanced,
            Err(error) => {
                // What was answered before the error still goes out; whether it arrives changes nothing.
                if !out.is_empty() {
                    let _ = context.io.send(connection.socket(), vec![Buffer::from(&out[..])]).await;
                }
                return Err(error.into());
            }
        };
        receiver.consume(used);
        match progress {
            Progress::NeedMore if !out.is_empty() => {}
            Progress::NeedMore => match receiver.fill().await? {
                Stream::Flows => {}
                Stream::Ended if receiver.bytes().is_empty() => return Ok(None),
                Stream::Ended => return Err(SessionError::Cut("an option")),
            },
            Progress::Finished(negotiated) => {
                context.io.send(connection.socket(), vec![Buffer::from(&out[..])]).await?;
                return Ok(Some(*negotiated));
            }
            Progress::Aborted => {
                context.io.send(connection.socket(), vec![Buffer::from(&out[..])]).await?;
                return Ok(None);
            }
        }
    }
}

/// The receiving half of the transmission phase.
struct Requests<'a, C: Catalog> {
    context: &'a Context<C>,
    connection: &'a Rc<Connection>,
    export: &'a Rc<crate::export::Export<C::Device>>,
    receiver: &'a mut Receiver,
}

impl<C: Catalog> Requests<'_, C> {
    async fn serve(&mut self, machine: &mut Transmission) -> Result<(), SessionError> {
        let mut burst = 0;
        loop {
            if burst == BURST {
                burst = 0;
                self.context.io.yield_now().await;
            }
            burst += 1;
            let (used, step) = machine.next(self.receiver.bytes(), self.context.stopping.get())?;
            self.receiver.consume(used);
            match step {
                Step::NeedMore => match self.receiver.fill().await? {
                    Stream::Flows => burst = 0,
                    Stream::Ended if machine.is_between_requests() && self.receiver.bytes().is_empty() => return Ok(()),
                    Stream::Ended => return Err(SessionError::Cut("a request")),
                },
                Step::Refuse { cookie, command, refusal } => {
                    self.context.stats.count_refused();
                    tracing::debug!(export = self.export.name(), command, errno = ?refusal.errno, "refused: {}", refusal.text);
                    self.connection.room_for_reply(&self.context.limits).await?;
                    self.connection.reply(&reply::error(cookie, machine.rules().structured_replies, &refusal));
                }
                Step::Start(request) => {
                    if request.operation == Operation::Disconnect {
                        return Ok(());
                    }
                    self.start(request, machine.rules()).await?;
                }
            }
        }
    }

    /// Gathers what the request needs, and sets it going.
    async fn start(
        &mut self,
        request: crate::protocol::Request,
        rules: &crate::protocol::Rules,
    ) -> Result<(), SessionError> {
        self.connection.room_for_reply(&self.context.limits).await?;
        let budget = &self.context.budget;
        let permit = match request.operation {
            Operation::Write { len, .. } => match budget.try_acquire_to_write(len.into()) {
                Some(permit) => permit,
                None => budget.acquire_to_write(len.into()).await,
            },
            Operation::Read { len, .. } => match budget.try_acquire(len.into()) {
                Some(permit) => permit,
                None => budget.acquire(len.into()).await,
            },
            _ => budget.nothing(),
        };
        let payload = match request.operation.payload() {
            0 => None,
            len => Some(self.receiver.payload(len as usize).await?),
        };
        let work = perform::Work {
            connection: self.connection.clone(),
            export: self.export.clone(),
            stats: self.context.stats.clone(),
            structured: rules.structured_replies,
            request,
            payload,
            permit,
            in_flight: InFlight::new(self.connection),
        };
        // Most requests are done at the first look. Only those that are not become a task.
        let mut work = Box::pin(work.run());
        let done = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx).is_ready())).await;
        if !done {
            self.context.io.spawn(work).detach();
        }
        Ok(())
    }
}
