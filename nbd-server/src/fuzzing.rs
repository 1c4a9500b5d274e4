//! Doors for fuzzers: each takes any bytes, drives one protocol machine with them, and panics if a promise breaks.
//!
//! The seeded tests beside the machines go through the same doors, so that they are open even where no fuzzer is installed.
//! The promises: no panic, no endless loop, bounded output and memory; the same outcome however the stream is cut; a request
//! that passed lies inside the export.

use crate::protocol::{
    Directory, Handshake, HandshakeError, Listing, Negotiated, NotExported, Operation, Progress, Refusal, Request,
    Rules, Step, Transmission, TransmissionError, wire,
};

const SIZE: u64 = 1 << 20;

/// Option haggling. The first byte chooses how the rest is cut.
pub fn handshake(data: &[u8]) {
    let Some((cut, stream)) = data.split_first() else { return };
    let whole = haggle(stream, stream.len().max(1));
    assert!(whole.replies.len() <= 64 + stream.len() * 64, "replies outgrow the options that asked for them");
    let pieces = haggle(stream, usize::from(*cut).max(1));
    assert_eq!(whole, pieces, "the outcome depends on how the stream was cut");
    if let End::Finished(negotiated) = whole.end {
        assert!(!negotiated.rules.allocation_context || negotiated.rules.structured_replies);
    }
}

/// Requests. The first byte holds the rules, the second chooses how the rest is cut.
pub fn transmission(data: &[u8]) {
    let [choice, cut, stream @ ..] = data else { return };
    let rules = Rules {
        size: SIZE,
        read_only: choice & 1 != 0,
        structured_replies: choice & 2 != 0,
        allocation_context: choice & 4 != 0,
        block_size: (choice & 8 != 0).then_some(wire::MINIMUM_BLOCK),
    };
    let stopping = choice & 16 != 0;
    let whole = requests(rules, stopping, stream, stream.len().max(1));
    let pieces = requests(rules, stopping, stream, usize::from(*cut).max(1));
    assert_eq!(whole, pieces, "the outcome depends on how the stream was cut");
    for event in &whole.0 {
        if let Event::Started(request) = event {
            assert_allowed(&rules, stopping, request);
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Haggled {
    end: End,
    replies: Vec<u8>,
    used: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    Waiting,
    Finished(Box<Negotiated>),
    Aborted,
    Failed(HandshakeError),
}

fn haggle(stream: &[u8], piece: usize) -> Haggled {
    let mut machine = Handshake::new();
    let (mut replies, mut used, mut arrived) = (Vec::new(), 0, 0);
    loop {
        arrived = (arrived + piece).min(stream.len());
        let end = match machine.advance(&stream[used..arrived], &TwoVolumes, &mut replies) {
            Err(error) => Some(End::Failed(error)),
            Ok((taken, progress)) => {
                used += taken;
                match progress {
                    Progress::NeedMore => (taken == 0 && arrived == stream.len()).then_some(End::Waiting),
                    Progress::Finished(negotiated) => Some(End::Finished(negotiated)),
                    Progress::Aborted => Some(End::Aborted),
                }
            }
        };
        if let Some(end) = end {
            // How far a machine that failed had come is nobody's business.
            let used = if matches!(end, End::Failed(_)) { 0 } else { used };
            return Haggled { end, replies, used };
        }
    }
}

struct TwoVolumes;

impl Directory for TwoVolumes {
    fn list(&self) -> Vec<Listing> {
        ["shop.pg", "shop.redis"].iter().filter_map(|name| self.find(name).ok()).collect()
    }

    fn find(&self, name: &str) -> Result<Listing, NotExported> {
        match name {
            "shop.pg" | "shop.redis" => Ok(Listing {
                name: name.into(),
                description: "a volume".into(),
                size: if name == "shop.pg" { SIZE } else { SIZE + 1 },
                read_only: name == "shop.redis",
            }),
            "" => Err(NotExported::Refused("no default".into())),
            _ => Err(NotExported::Unknown("no such export".into())),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Event {
    Started(Request),
    Refused(u64, u16, Refusal),
}

fn requests(rules: Rules, stopping: bool, stream: &[u8], piece: usize) -> (Vec<Event>, Result<(), TransmissionError>) {
    let mut machine = Transmission::new(rules);
    let (mut events, mut used, mut arrived) = (Vec::new(), 0, 0);
    loop {
        let step = match machine.next(&stream[used.min(arrived)..arrived], stopping) {
            Ok((taken, step)) => {
                used += taken;
                step
            }
            Err(error) => return (events, Err(error)),
        };
        match step {
            Step::NeedMore if arrived == stream.len() => return (events, Ok(())),
            Step::NeedMore => arrived = (arrived + piece).min(stream.len()),
            Step::Refuse { cookie, command, refusal } => events.push(Event::Refused(cookie, command, refusal)),
            Step::Start(request) => {
                events.push(Event::Started(request));
                if request.operation == Operation::Disconnect {
                    return (events, Ok(()));
                }
                used += request.operation.payload() as usize;
                // The payload is the session's business: here it arrives at once, or the stream ends in it.
                if used > stream.len() {
                    return (events, Ok(()));
                }
                arrived = arrived.max(used);
            }
        }
    }
}

fn assert_allowed(rules: &Rules, stopping: bool, request: &Request) {
    let (offset, len) = match request.operation {
        Operation::Disconnect => return,
        Operation::Flush => (0, 0),
        Operation::Read { offset, len }
        | Operation::Write { offset, len, .. }
        | Operation::Trim { offset, len, .. }
        | Operation::WriteZeroes { offset, len, .. }
        | Operation::Cache { offset, len }
        | Operation::BlockStatus { offset, len, .. } => (offset, u64::from(len)),
    };
    assert!(!stopping, "started while stopping: {request:?}");
    assert!(offset + len <= rules.size, "outside: {request:?}");
    assert!(!(rules.read_only && request.operation.modifies()), "modifies a read-only export: {request:?}");
    assert!(request.operation.payload() <= wire::MAXIMUM_PAYLOAD);
    if let Some(block) = rules.block_size {
        assert!((offset | len).is_multiple_of(u64::from(block)), "not in whole blocks: {request:?}");
    }
}
