//! Operations in flight, and who owns their memory.
//!
//! An operation's request, with its buffers, file and socket, must stay in its slot until the back end has reported the
//! operation's terminal completion. The future that waits for it holds only a token. Dropping that future marks the operation
//! abandoned; neither that nor a cancel frees anything. Short transfers are resumed here, for every back end alike, and a
//! failed sync is remembered by its file.
//!
//! What an abandoned receive or accept brought is not thrown away: it goes back to the socket or listener, for the next call.

use std::io;
use std::rc::Rc;
use std::task::Waker;

use crate::backend::Address;
use crate::buffer::Buffer;
use crate::error::checked;
use crate::file::File;
use crate::gather::Gather;
use crate::socket::{ListenerState, SocketHandle, SocketState};

/// Names an operation in flight: a slot and how often it was used, so that a late completion can't hit a newer operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Token(u64);

impl Token {
    fn new(slot: usize, generation: u32) -> Token {
        Token(u64::from(generation) << 32 | slot as u64)
    }

    pub(crate) fn from_bits(bits: u64) -> Token {
        Token(bits)
    }

    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    fn slot(self) -> usize {
        (self.0 & 0xffff_ffff) as usize
    }
}

pub(crate) enum Request {
    Read { file: File, offset: u64, buffer: Buffer, done: usize },
    Write { file: File, offset: u64, data: Gather, durable: bool },
    Sync { file: File },
    Receive { socket: Rc<SocketState>, buffer: Buffer, from: usize },
    Send { socket: Rc<SocketState>, data: Gather },
    Accept { listener: Rc<ListenerState>, accepted: Option<SocketHandle> },
    Connect { socket: Rc<SocketState>, address: Address, storage: Box<libc::sockaddr_storage> },
    Terminated,
}

enum Progress {
    /// A short transfer: start the request again for the rest.
    Again,
    Ended(io::Result<usize>),
}

impl Request {
    /// Requests that wait for somebody else's act, perhaps for ever.
    fn may_wait_for_ever(&self) -> bool {
        !matches!(self, Request::Read { .. } | Request::Write { .. } | Request::Sync { .. })
    }

    /// A send runs on without its future: half a message would ruin the stream for the next one.
    fn cancelled_when_dropped(&self) -> bool {
        self.may_wait_for_ever() && !matches!(self, Request::Send { .. })
    }

    /// Takes in one result of the back end.
    fn advance(&mut self, result: i32, abandoned: bool) -> Progress {
        let interrupted = match -result {
            libc::EINTR | libc::EAGAIN => true,
            // The connection was gone before it was accepted: not the listener's trouble.
            libc::ECONNABORTED => matches!(self, Request::Accept { .. }),
            _ => false,
        };
        if interrupted && !(abandoned && self.cancelled_when_dropped()) {
            return Progress::Again;
        }
        let count = match checked(result) {
            Ok(count) => count,
            Err(error) => {
                if let Request::Sync { file } | Request::Write { file, durable: true, .. } = self {
                    file.remember_failed_sync(&error);
                }
                return Progress::Ended(Err(error));
            }
        };
        match self {
            Request::Read { file, buffer, done, .. } => {
                *done += count;
                if *done == buffer.len() {
                    Progress::Ended(Ok(*done))
                } else if count == 0 || (file.is_direct() && !count.is_multiple_of(512)) {
                    Progress::Ended(Err(io::ErrorKind::UnexpectedEof.into()))
                } else {
                    Progress::Again
                }
            }
            Request::Write { data, .. } | Request::Send { data, .. } => {
                data.advance(count);
                if data.is_done() {
                    self.next_step()
                } else if count == 0 {
                    Progress::Ended(Err(io::ErrorKind::WriteZero.into()))
                } else {
                    Progress::Again
                }
            }
            Request::Accept { listener, accepted } => {
                *accepted = Some(listener.adopt(result));
                Progress::Ended(Ok(0))
            }
            _ => Progress::Ended(Ok(count)),
        }
    }

    /// Everything is transferred. A durable write goes on as a sync where the device can't do both at once.
    fn next_step(&mut self) -> Progress {
        match self {
            Request::Write { file, durable: true, .. } if !file.writes_through() => {
                *self = Request::Sync { file: file.clone() };
                Progress::Again
            }
            _ => Progress::Ended(Ok(0)),
        }
    }

    /// The terminal completion came: sockets may take the next request.
    fn release(&self) {
        match self {
            Request::Receive { socket, .. } => socket.receive_ended(),
            Request::Send { socket, .. } => socket.send_ended(),
            Request::Accept { listener, .. } => listener.accept_ended(),
            _ => {}
        }
    }

    /// Nobody waits for what this brought: keep it for the next call.
    fn give_back(&mut self, result: &io::Result<usize>) {
        match self {
            Request::Receive { socket, buffer, from } => {
                if let Ok(count) = result {
                    socket.keep_received(&buffer[*from..*from + count]);
                }
            }
            Request::Accept { listener, accepted } => {
                if let Some(socket) = accepted.take() {
                    listener.keep_accepted(socket);
                }
            }
            _ => {}
        }
    }
}

#[derive(Default)]
pub(crate) struct Operations {
    slots: Vec<Slot>,
    free: Vec<usize>,
    in_flight: usize,
}

struct Slot {
    generation: u32,
    request: Option<Request>,
    state: State,
}

enum State {
    InFlight(Option<Waker>),
    Abandoned,
    Ended(io::Result<usize>),
}

/// What a completion leads to.
pub(crate) enum Outcome {
    Again,
    Wake(Option<Waker>),
    /// Nobody waits: the request may be dropped, outside of every borrow.
    Over(Request),
}

/// What dropping a future leads to.
pub(crate) enum Abandoned {
    /// Runs to its end by itself.
    RunsOn,
    /// May wait for ever: cancel it.
    Cancel,
    Over(Request),
}

impl Operations {
    pub(crate) fn insert(&mut self, request: Request) -> Token {
        self.in_flight += 1;
        let state = State::InFlight(None);
        match self.free.pop() {
            Some(slot) => {
                let generation = self.slots[slot].generation.wrapping_add(1) & 0x7fff_ffff;
                self.slots[slot] = Slot { generation, request: Some(request), state };
                Token::new(slot, generation)
            }
            None => {
                self.slots.push(Slot { generation: 0, request: Some(request), state });
                Token::new(self.slots.len() - 1, 0)
            }
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(crate) fn request(&mut self, token: Token) -> &mut Request {
        self.slot(token).request.as_mut().expect("an operation in flight has its request")
    }

    pub(crate) fn complete(&mut self, token: Token, result: i32) -> Outcome {
        let slot = self.slot(token);
        let request = slot.request.as_mut().expect("a completion belongs to an operation in flight");
        let abandoned = matches!(slot.state, State::Abandoned);
        let result = match request.advance(result, abandoned) {
            Progress::Again => return Outcome::Again,
            Progress::Ended(result) => result,
        };
        let outcome = match std::mem::replace(&mut slot.state, State::Abandoned) {
            State::InFlight(waker) => {
                slot.request.as_ref().inspect(|request| request.release());
                slot.state = State::Ended(result);
                Outcome::Wake(waker)
            }
            State::Abandoned => {
                let mut request = slot.request.take().expect("checked above");
                request.give_back(&result);
                request.release();
                self.free.push(token.slot());
                Outcome::Over(request)
            }
            State::Ended(_) => panic!("{token:?} was reported twice"),
        };
        self.in_flight -= 1;
        outcome
    }

    /// Takes the result and the request back if the operation has ended, else leaves a waker.
    pub(crate) fn poll(&mut self, token: Token, waker: &Waker) -> Option<(io::Result<usize>, Request)> {
        let slot = self.slot(token);
        match &mut slot.state {
            State::InFlight(waiting) => {
                match waiting {
                    Some(waiting) => waiting.clone_from(waker),
                    None => *waiting = Some(waker.clone()),
                }
                None
            }
            State::Ended(_) => {
                let State::Ended(result) = std::mem::replace(&mut slot.state, State::Abandoned) else { unreachable!() };
                let request = slot.request.take().expect("an ended operation has its request until it is taken");
                self.free.push(token.slot());
                Some((result, request))
            }
            State::Abandoned => panic!("{token:?} was polled after its end"),
        }
    }

    pub(crate) fn abandon(&mut self, token: Token) -> Abandoned {
        let slot = self.slot(token);
        match std::mem::replace(&mut slot.state, State::Abandoned) {
            State::InFlight(waker) => {
                // A task's waker may be its last trace; dropping it only schedules the task.
                drop(waker);
                let cancel = slot.request.as_ref().is_some_and(Request::cancelled_when_dropped);
                if cancel { Abandoned::Cancel } else { Abandoned::RunsOn }
            }
            State::Ended(result) => {
                let mut request = slot.request.take().expect("an ended operation has its request until it is taken");
                request.give_back(&result);
                self.free.push(token.slot());
                Abandoned::Over(request)
            }
            State::Abandoned => panic!("{token:?} was abandoned twice"),
        }
    }

    /// All operations in flight that may wait for ever.
    pub(crate) fn waiting_tokens(&self) -> Vec<Token> {
        let waits = |slot: &Slot| {
            !matches!(slot.state, State::Ended(_)) && slot.request.as_ref().is_some_and(Request::may_wait_for_ever)
        };
        let slots = self.slots.iter().enumerate();
        slots.filter(|(_, slot)| waits(slot)).map(|(index, slot)| Token::new(index, slot.generation)).collect()
    }

    fn slot(&mut self, token: Token) -> &mut Slot {
        let slot = &mut self.slots[token.slot()];
        assert_eq!(Token::new(token.slot(), slot.generation), token, "a completion came for an operation that is over");
        slot
    }
}
