//! The one place where a request is judged, and its errno chosen.
//!
//! | what is wrong | errno |
//! |---|---|
//! | unknown command; flag that this command or this session does not have | EINVAL |
//! | the server is stopping (any command but DISC) | ESHUTDOWN |
//! | WRITE, TRIM, WRITE_ZEROES on a read-only export | EPERM |
//! | READ longer than 32 MiB with DF (it cannot go unfragmented) | EOVERFLOW |
//! | READ longer than 32 MiB; WRITE longer than 32 MiB (its payload is thrown away) | EINVAL |
//! | FLUSH with an offset or a length (both are reserved) | EINVAL |
//! | offset or length not a multiple of the block size the client agreed to | EINVAL |
//! | READ, TRIM, CACHE, BLOCK_STATUS past the end | EINVAL |
//! | WRITE, WRITE_ZEROES past the end | ENOSPC |
//! | BLOCK_STATUS without a metadata context, or of no bytes | EINVAL |
//!
//! Rows are tried from the top. ENOTSUP never occurs: zeroing is one descriptor of any size here, so FAST_ZERO always holds.
//! A length of zero is no error elsewhere: it does nothing and succeeds. FUA is accepted on every command, as the protocol
//! asks, and means something on those that modify. What a device answers after these checks is mapped in
//! [`crate::export::DeviceError::errno`].

use super::wire;
use std::borrow::Cow;

/// Error numbers as the protocol fixes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Errno {
    NotPermitted = 1,
    Io = 5,
    NoMemory = 12,
    Invalid = 22,
    NoSpace = 28,
    Overflow = 75,
    ShuttingDown = 108,
}

/// A request that will not be carried out: the errno, and words for the person at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub errno: Errno,
    pub text: Cow<'static, str>,
    /// Where in the export the trouble lies, when that is known.
    pub offset: Option<u64>,
}

impl Refusal {
    pub fn new(errno: Errno, text: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal { errno, text: text.into(), offset: None }
    }
}

/// A request that passed: ranges lie inside the export, and modifying ones are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// The client's name for it, given back in the reply.
    pub cookie: u64,
    pub operation: Operation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Read {
        offset: u64,
        len: u32,
    },
    /// The payload of `len` bytes follows in the stream.
    Write {
        offset: u64,
        len: u32,
        fua: bool,
    },
    Flush,
    Trim {
        offset: u64,
        len: u32,
        fua: bool,
    },
    WriteZeroes {
        offset: u64,
        len: u32,
        keep_allocated: bool,
        fua: bool,
    },
    Cache {
        offset: u64,
        len: u32,
    },
    BlockStatus {
        offset: u64,
        len: u32,
        one: bool,
    },
    Disconnect,
}

impl Operation {
    /// Bytes of payload that follow the request.
    pub fn payload(&self) -> u32 {
        match self {
            Operation::Write { len, .. } => *len,
            _ => 0,
        }
    }

    pub fn modifies(&self) -> bool {
        matches!(self, Operation::Write { .. } | Operation::Trim { .. } | Operation::WriteZeroes { .. })
    }
}

/// What was agreed in the handshake, as far as it decides on requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// As it was when the client connected: growth is seen by those who negotiate anew.
    pub size: u64,
    pub read_only: bool,
    pub structured_replies: bool,
    pub allocation_context: bool,
    /// The unit the client agreed to; `None`: bytes.
    pub block_size: Option<u32>,
}

impl Rules {
    pub fn transmission_flags(&self) -> u16 {
        let mut flags = wire::HAS_FLAGS
            | wire::SEND_FLUSH
            | wire::SEND_FUA
            | wire::SEND_TRIM
            | wire::SEND_WRITE_ZEROES
            | wire::SEND_FAST_ZERO
            | wire::SEND_CACHE
            | wire::CAN_MULTI_CONN;
        if self.read_only {
            flags |= wire::READ_ONLY;
        }
        if self.structured_replies {
            flags |= wire::SEND_DF;
        }
        flags
    }

    /// Judges one request header.
    pub(super) fn check(&self, header: &Header, stopping: bool) -> Result<Request, Refusal> {
        let Header { flags, command, cookie, offset, len } = *header;
        let operation = match command {
            wire::CMD_READ => Operation::Read { offset, len },
            wire::CMD_WRITE => Operation::Write { offset, len, fua: header.has(wire::CMD_FLAG_FUA) },
            wire::CMD_DISC => return Ok(Request { cookie, operation: Operation::Disconnect }),
            wire::CMD_FLUSH => Operation::Flush,
            wire::CMD_TRIM => Operation::Trim { offset, len, fua: header.has(wire::CMD_FLAG_FUA) },
            wire::CMD_CACHE => Operation::Cache { offset, len },
            wire::CMD_WRITE_ZEROES => Operation::WriteZeroes {
                offset,
                len,
                keep_allocated: header.has(wire::CMD_FLAG_NO_HOLE),
                fua: header.has(wire::CMD_FLAG_FUA),
            },
            wire::CMD_BLOCK_STATUS => Operation::BlockStatus { offset, len, one: header.has(wire::CMD_FLAG_REQ_ONE) },
            unknown => return Err(Refusal::new(Errno::Invalid, format!("command {unknown} is not known here"))),
        };
        let unknown_flags = flags & !self.flags_of(command);
        if unknown_flags != 0 {
            let text = format!("command {command} does not take flags {unknown_flags:#x} in this session");
            return Err(Refusal::new(Errno::Invalid, text));
        }
        if stopping {
            return Err(Refusal::new(Errno::ShuttingDown, "the server is shutting down"));
        }
        if self.read_only && operation.modifies() {
            return Err(Refusal::new(Errno::NotPermitted, "the export is read-only"));
        }
        self.check_length(header)?;
        self.check_range(header, &operation)?;
        Ok(Request { cookie, operation })
    }

    fn flags_of(&self, command: u16) -> u16 {
        wire::CMD_FLAG_FUA
            | match command {
                wire::CMD_READ if self.structured_replies => wire::CMD_FLAG_DF,
                wire::CMD_WRITE_ZEROES => wire::CMD_FLAG_NO_HOLE | wire::CMD_FLAG_FAST_ZERO,
                wire::CMD_BLOCK_STATUS => wire::CMD_FLAG_REQ_ONE,
                _ => 0,
            }
    }

    fn check_length(&self, header: &Header) -> Result<(), Refusal> {
        let Header { command, len, .. } = *header;
        if len > wire::MAXIMUM_PAYLOAD && matches!(command, wire::CMD_READ | wire::CMD_WRITE) {
            let errno = if header.has(wire::CMD_FLAG_DF) { Errno::Overflow } else { Errno::Invalid };
            let text = format!("{len} bytes are more than the {} one request may carry", wire::MAXIMUM_PAYLOAD);
            return Err(Refusal::new(errno, text));
        }
        if command == wire::CMD_BLOCK_STATUS {
            if !self.allocation_context {
                return Err(Refusal::new(
                    Errno::Invalid,
                    "block status: no metadata context was selected for this export",
                ));
            }
            if len == 0 {
                return Err(Refusal::new(Errno::Invalid, "block status of no bytes"));
            }
        }
        Ok(())
    }

    fn check_range(&self, header: &Header, operation: &Operation) -> Result<(), Refusal> {
        let Header { command, offset, len, .. } = *header;
        if command == wire::CMD_FLUSH {
            if offset != 0 || len != 0 {
                return Err(Refusal::new(Errno::Invalid, "flush: offset and length are reserved and must be zero"));
            }
            return Ok(());
        }
        if let Some(block) = self.block_size
            && (!offset.is_multiple_of(u64::from(block)) || !len.is_multiple_of(block))
        {
            let text = format!("{len} bytes at {offset} are not whole blocks of {block} bytes, as was agreed");
            return Err(Refusal::new(Errno::Invalid, text));
        }
        let inside = offset.checked_add(u64::from(len)).is_some_and(|end| end <= self.size);
        if !inside {
            let writes = matches!(operation, Operation::Write { .. } | Operation::WriteZeroes { .. });
            let errno = if writes { Errno::NoSpace } else { Errno::Invalid };
            let text = format!("{len} bytes at {offset} reach past the end of the export at {}", self.size);
            return Err(Refusal::new(errno, text));
        }
        Ok(())
    }
}

/// A request as it lies on the wire, not judged yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub flags: u16,
    pub command: u16,
    pub cookie: u64,
    pub offset: u64,
    pub len: u32,
}

impl Header {
    /// Fails with the magic that stood where a request's should be.
    pub fn decode(bytes: &[u8; wire::REQUEST_LEN]) -> Result<Header, u32> {
        let [m0, m1, m2, m3, f0, f1, c0, c1, rest @ ..] = *bytes;
        let magic = u32::from_be_bytes([m0, m1, m2, m3]);
        if magic != wire::REQUEST_MAGIC {
            return Err(magic);
        }
        let [k0, k1, k2, k3, k4, k5, k6, k7, o0, o1, o2, o3, o4, o5, o6, o7, l0, l1, l2, l3] = rest;
        Ok(Header {
            flags: u16::from_be_bytes([f0, f1]),
            command: u16::from_be_bytes([c0, c1]),
            cookie: u64::from_be_bytes([k0, k1, k2, k3, k4, k5, k6, k7]),
            offset: u64::from_be_bytes([o0, o1, o2, o3, o4, o5, o6, o7]),
            len: u32::from_be_bytes([l0, l1, l2, l3]),
        })
    }

    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}
