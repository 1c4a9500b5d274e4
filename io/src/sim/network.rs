//! Simulated sockets: byte streams in memory between tasks of one process.
//!
//! A stream holds a bounded number of bytes on their way, hands them over in pieces of seed-chosen size, and moves data only in
//! events, so that other tasks run in between. A shutdown lets the other side read what was sent before it.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::rc::Rc;

use crate::backend::{Address, Completion};
use crate::operation::{Operations, Request, Token};
use crate::socket::{Listener, ListenerHandle, ListenerState, Peer, SocketHandle, SocketState};

use super::host::Machine;
use super::random::Random;

/// What may be on its way in one direction.
const STREAM_BYTES: usize = 256 << 10;

#[derive(Default)]
pub(crate) struct Network {
    ends: BTreeMap<u32, End>,
    listeners: BTreeMap<u32, ListeningEnd>,
    next: u32,
    /// Events that became possible and have no moment yet.
    due: VecDeque<SocketEvent>,
}

#[derive(Default)]
struct End {
    peer: Option<u32>,
    inbound: VecDeque<u8>,
    /// Nothing more will arrive.
    ended: bool,
    /// Nothing more may be sent.
    broken: bool,
    receiver: Option<Token>,
    sender: Option<Token>,
    connector: Option<(Token, Address)>,
}

struct ListeningEnd {
    address: Address,
    backlog: VecDeque<u32>,
    accepter: Option<Token>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum SocketEvent {
    Receive(u32),
    Send(u32),
    Connect(u32),
    Accept(u32),
}

impl Network {
    pub(super) fn take_due(&mut self) -> Option<SocketEvent> {
        self.due.pop_front()
    }

    fn new_end(&mut self) -> u32 {
        self.next += 1;
        self.ends.insert(self.next, End::default());
        self.next
    }

    pub(super) fn start(&mut self, token: Token, request: &Request) {
        match request {
            Request::Receive { socket, .. } => {
                let number = number_of(socket);
                self.end(number).receiver = Some(token);
                self.due.push_back(SocketEvent::Receive(number));
            }
            Request::Send { socket, .. } => {
                let number = number_of(socket);
                self.end(number).sender = Some(token);
                self.due.push_back(SocketEvent::Send(number));
            }
            Request::Connect { socket, address, .. } => {
                let number = number_of(socket);
                self.end(number).connector = Some((token, address.clone()));
                self.due.push_back(SocketEvent::Connect(number));
            }
            Request::Accept { listener, .. } => {
                let number = listener_number(listener);
                self.listeners.get_mut(&number).expect("an open listener is known").accepter = Some(token);
                self.due.push_back(SocketEvent::Accept(number));
            }
            _ => unreachable!("only socket operations come here"),
        }
    }

    /// Takes a waiting operation out; false if it is not waiting any more.
    pub(super) fn cancel(&mut self, token: Token) -> bool {
        let here = |waiting: &mut Option<Token>| waiting.take_if(|waiting| *waiting == token).is_some();
        self.ends.values_mut().any(|end| {
            here(&mut end.receiver)
                || here(&mut end.sender)
                || end.connector.take_if(|(waiting, _)| *waiting == token).is_some()
        }) || self.listeners.values_mut().any(|listener| here(&mut listener.accepter))
    }

    /// Carries an event out; an operation that can't go on yet keeps waiting.
    pub(super) fn perform(
        &mut self,
        event: SocketEvent,
        operations: &mut Operations,
        random: &mut Random,
    ) -> Option<Completion> {
        match event {
            SocketEvent::Receive(number) => self.receive(number, operations, random),
            SocketEvent::Send(number) => self.send(number, operations, random),
            SocketEvent::Connect(number) => self.connect(number),
            SocketEvent::Accept(number) => {
                let listener = self.listeners.get_mut(&number)?;
                let token = listener.accepter?;
                let accepted = listener.backlog.pop_front()?;
                listener.accepter = None;
                Some(Completion { token, result: accepted as i32 })
            }
        }
    }

    fn receive(&mut self, number: u32, operations: &mut Operations, random: &mut Random) -> Option<Completion> {
        let end = self.ends.get_mut(&number)?;
        let token = end.receiver?;
        if end.inbound.is_empty() {
            end.receiver.take_if(|_| end.ended)?;
            return Some(Completion { token, result: 0 });
        }
        let Request::Receive { buffer, from, .. } = operations.request(token) else { unreachable!("a receive waits") };
        let room = &mut buffer[*from..];
        let count = piece(room.len().min(end.inbound.len()), random);
        for (place, byte) in room.iter_mut().zip(end.inbound.drain(..count)) {
            *place = byte;
        }
        end.receiver = None;
        if let Some(peer) = end.peer {
            self.due.push_back(SocketEvent::Send(peer));
        }
        Some(Completion { token, result: count as i32 })
    }

    fn send(&mut self, number: u32, operations: &mut Operations, random: &mut Random) -> Option<Completion> {
        let end = self.ends.get_mut(&number)?;
        let token = end.sender?;
        let peer = end.peer.filter(|_| !end.broken);
        let Some(peer) = peer.filter(|peer| self.ends.contains_key(peer)) else {
            self.end(number).sender = None;
            return Some(Completion { token, result: -libc::EPIPE });
        };
        let Request::Send { data, .. } = operations.request(token) else { unreachable!("a send waits") };
        let target = self.end(peer);
        let left = data.total() - data.transferred();
        let room = STREAM_BYTES - target.inbound.len();
        if room == 0 && left > 0 {
            return None;
        }
        let count = piece(room.min(left), random);
        let mut bytes = Vec::with_capacity(left);
        data.capture().iter().for_each(|piece| piece.append_to(&mut bytes));
        target.inbound.extend(&bytes[..count]);
        self.end(number).sender = None;
        self.due.push_back(SocketEvent::Receive(peer));
        Some(Completion { token, result: count as i32 })
    }

    fn connect(&mut self, number: u32) -> Option<Completion> {
        let (token, address) = self.ends.get_mut(&number)?.connector.take()?;
        let listening =
            self.listeners.iter().find(|(_, listener)| listener.address == address).map(|(number, _)| *number);
        let Some(listener) = listening else {
            return Some(Completion { token, result: -libc::ECONNREFUSED });
        };
        let other = self.new_end();
        self.end(other).peer = Some(number);
        self.end(number).peer = Some(other);
        self.listeners.get_mut(&listener).expect("just found").backlog.push_back(other);
        self.due.push_back(SocketEvent::Accept(listener));
        Some(Completion { token, result: 0 })
    }

    fn end(&mut self, number: u32) -> &mut End {
        self.ends.get_mut(&number).expect("an open socket is known to its network")
    }

    fn shutdown(&mut self, number: u32) {
        let Some(end) = self.ends.get_mut(&number) else { return };
        let peer = end.peer;
        for number in [Some(number), peer].into_iter().flatten() {
            if let Some(end) = self.ends.get_mut(&number) {
                (end.ended, end.broken) = (true, true);
                self.due.extend([SocketEvent::Receive(number), SocketEvent::Send(number)]);
            }
        }
    }
}

/// How much of `available` is handed over at once: mostly all of it.
fn piece(available: usize, random: &mut Random) -> usize {
    if available > 1 && random.chance(0.25) { 1 + random.below(available as u64) as usize } else { available }
}

fn number_of(socket: &SocketState) -> u32 {
    match socket.handle() {
        SocketHandle::Sim(socket) => socket.number,
        SocketHandle::Os(_) => panic!("a socket of the operating system was given to the simulator"),
    }
}

fn listener_number(listener: &ListenerState) -> u32 {
    match listener.handle() {
        ListenerHandle::Sim(listener) => listener.number,
        ListenerHandle::Os(_) => panic!("a listener of the operating system was given to the simulator"),
    }
}

/// One end of a simulated connection; closing it is a shutdown.
pub(crate) struct SimSocket {
    machine: Rc<Machine>,
    process: u64,
    number: u32,
}

impl SimSocket {
    pub(crate) fn shutdown(&self) {
        self.machine.with_network(self.process, |network| network.shutdown(self.number));
    }

    pub(crate) fn peer(&self) -> Peer {
        Peer::Unix { pid: self.process as u32, uid: 0, gid: 0 }
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        self.machine.with_network(self.process, |network| {
            network.shutdown(self.number);
            network.ends.remove(&self.number);
        });
    }
}

pub(crate) struct SimListener {
    machine: Rc<Machine>,
    process: u64,
    number: u32,
}

impl SimListener {
    pub(crate) fn adopt(&self, accepted: i32) -> SimSocket {
        SimSocket { machine: self.machine.clone(), process: self.process, number: accepted as u32 }
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        self.machine.with_network(self.process, |network| {
            let listener = network.listeners.remove(&self.number);
            for end in listener.into_iter().flat_map(|listener| listener.backlog) {
                network.shutdown(end);
                network.ends.remove(&end);
            }
        });
    }
}

impl Machine {
    /// Nothing happens if the process is gone, and its network with it.
    fn with_network<T>(&self, process: u64, act: impl FnOnce(&mut Network) -> T) -> Option<T> {
        let mut state = self.state.borrow_mut();
        state
            .processes
            .get_mut(&process)
            .filter(|process| !process.crashed.get())
            .map(|process| act(&mut process.network))
    }

    pub(super) fn listen(self: &Rc<Self>, process: u64, address: &Address) -> io::Result<Listener> {
        let number = self.with_network(process, |network| {
            if network.listeners.values().any(|listener| listener.address == *address) {
                return Err(io::Error::from(io::ErrorKind::AddrInUse));
            }
            network.next += 1;
            let end = ListeningEnd { address: address.clone(), backlog: VecDeque::new(), accepter: None };
            network.listeners.insert(network.next, end);
            Ok(network.next)
        });
        let number = number.ok_or(io::ErrorKind::BrokenPipe)??;
        let listener = SimListener { machine: self.clone(), process, number };
        Ok(Listener::new(ListenerHandle::Sim(listener), address.clone()))
    }

    pub(super) fn new_socket(self: &Rc<Self>, process: u64) -> io::Result<SocketHandle> {
        let number = self.with_network(process, Network::new_end).ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(SocketHandle::Sim(SimSocket { machine: self.clone(), process, number }))
    }
}
