//! The transmission phase: from bytes to judged requests.
//!
//! What it keeps true: the machine never loses its place in the stream. A refused WRITE still has its payload, so the
//! payload passes by unread and the refusal comes out behind it; one too long to wait for ends the connection. A request
//! that passed leaves its payload to the caller, who must take all of it before asking for the next.

use super::request::Header;
use super::{Refusal, Request, Rules, wire};

#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// All bytes given were used, or the start of a request is still to be completed.
    NeedMore,
    /// Carry this out. For a WRITE its payload comes next in the stream.
    Start(Request),
    /// Answer this request with an error.
    Refuse { cookie: u64, command: u16, refusal: Refusal },
}

/// The stream cannot be followed any further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransmissionError {
    #[error("requests: bad magic {0:#010x}: the stream lost its place")]
    RequestMagic(u32),
    #[error("requests: WRITE of {0} bytes is too long to be read to its end")]
    WriteTooLong(u32),
}

#[derive(Debug)]
pub struct Transmission {
    rules: Rules,
    /// A refused WRITE whose payload is still passing by.
    discarding: Option<Discarding>,
}

#[derive(Debug)]
struct Discarding {
    cookie: u64,
    left: u32,
    refusal: Refusal,
}

impl Transmission {
    pub fn new(rules: Rules) -> Transmission {
        Transmission { rules, discarding: None }
    }

    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// No refused payload is passing by: the stream may end here.
    pub fn is_between_requests(&self) -> bool {
        self.discarding.is_none()
    }

    /// Takes at most one request from the front of `input` and says how many bytes it used. `NeedMore` comes when all that
    /// can be used was used: possibly some, when they belong to a payload that passes by. `stopping` refuses everything new.
    pub fn next(&mut self, input: &[u8], stopping: bool) -> Result<(usize, Step), TransmissionError> {
        let mut used = 0;
        if self.discarding.is_none() {
            let Some(bytes) = input.first_chunk() else { return Ok((0, Step::NeedMore)) };
            used = wire::REQUEST_LEN;
            let header = Header::decode(bytes).map_err(TransmissionError::RequestMagic)?;
            let Header { cookie, command, len, .. } = header;
            match self.rules.check(&header, stopping) {
                Ok(request) => return Ok((used, Step::Start(request))),
                Err(refusal) if command == wire::CMD_WRITE && len > 0 => {
                    if len > wire::MAXIMUM_DISCARD {
                        return Err(TransmissionError::WriteTooLong(len));
                    }
                    self.discarding = Some(Discarding { cookie, left: len, refusal });
                }
                Err(refusal) => return Ok((used, Step::Refuse { cookie, command, refusal })),
            }
        }
        let (passed, step) = self.discard(input.len() - used);
        Ok((used + passed, step))
    }

    /// Lets up to `available` bytes of a refused payload pass by.
    fn discard(&mut self, available: usize) -> (usize, Step) {
        let Some(mut discarding) = self.discarding.take() else { return (0, Step::NeedMore) };
        let passed = available.min(discarding.left as usize);
        discarding.left -= passed as u32;
        if discarding.left > 0 {
            self.discarding = Some(discarding);
            return (passed, Step::NeedMore);
        }
        let Discarding { cookie, refusal, .. } = discarding;
        (passed, Step::Refuse { cookie, command: wire::CMD_WRITE, refusal })
    }
}
