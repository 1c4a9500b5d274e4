//! Option haggling, fixed newstyle, from the greeting to the first request.
//!
//! What it keeps true: every option gets exactly one final reply; nothing an option says is remembered unless that option
//! succeeded (a failed SET_META_CONTEXT also forgets the earlier one, as the protocol asks); memory is bounded by one
//! option of [`wire::MAXIMUM_OPTION`] bytes; a metadata context counts only for the export it was asked for.
//!
//! What it does not do: time-outs (the session's), TLS (STARTTLS is answered "not supported", so that clients which only
//! prefer TLS go on without, and those that insist stop with a clear text).

use super::agreement::{Directory, HandshakeError, Listing, Negotiated, NotExported, Progress};
use super::option::{self, OptionRefusal};
use super::{Rules, wire};

#[derive(Debug)]
pub struct Handshake {
    state: State,
    fixed: bool,
    no_zeroes: bool,
    structured_replies: bool,
    /// The export for which `base:allocation` was selected.
    allocation_of: Option<String>,
    /// Set when every request for an export is to be refused with these words.
    closed: Option<OptionRefusal>,
}

#[derive(Debug)]
enum State {
    ClientFlags,
    Option,
    /// An option too long to parse: its bytes pass by, then it is refused.
    Skipping {
        option: u32,
        left: u32,
    },
}

impl Default for Handshake {
    fn default() -> Handshake {
        Handshake::new()
    }
}

impl Handshake {
    pub fn new() -> Handshake {
        Handshake {
            state: State::ClientFlags,
            fixed: false,
            no_zeroes: false,
            structured_replies: false,
            allocation_of: None,
            closed: None,
        }
    }

    /// From now on refuse all exports because there are too many connections.
    pub fn close_as_full(&mut self, text: impl Into<String>) {
        self.closed = Some(OptionRefusal::new(wire::REP_ERR_POLICY, text));
    }

    /// From now on refuse all exports because the server is going down.
    pub fn close_as_stopping(&mut self) {
        self.closed = Some(OptionRefusal::new(wire::REP_ERR_SHUTDOWN, "the server is shutting down"));
    }

    /// The first bytes on a connection, before the client says anything.
    pub fn greeting() -> [u8; 18] {
        let mut bytes = [0; 18];
        bytes[..8].copy_from_slice(&wire::NBD_MAGIC.to_be_bytes());
        bytes[8..16].copy_from_slice(&wire::OPTION_MAGIC.to_be_bytes());
        bytes[16..].copy_from_slice(&(wire::FLAG_FIXED_NEWSTYLE | wire::FLAG_NO_ZEROES).to_be_bytes());
        bytes
    }

    /// Takes whole messages from the front of `input` until they run out, haggling ends, or `out` holds enough to be sent
    /// first: a few bytes of LIST can ask for many of reply. Returns how many bytes it used; replies are appended to `out`,
    /// also before an error. Having used nothing and replied nothing, it needs more input.
    pub fn advance(
        &mut self,
        input: &[u8],
        directory: &dyn Directory,
        out: &mut Vec<u8>,
    ) -> Result<(usize, Progress), HandshakeError> {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            match self.state {
                State::ClientFlags => {
                    let Some(flags) = rest.first_chunk::<4>() else { return Ok((used, Progress::NeedMore)) };
                    self.client_flags(u32::from_be_bytes(*flags))?;
                    used += 4;
                }
                State::Skipping { option, left } => {
                    let step = rest.len().min(left as usize);
                    used += step;
                    let left = left - step as u32;
                    self.state = State::Skipping { option, left };
                    if left > 0 {
                        return Ok((used, Progress::NeedMore));
                    }
                    let text = format!("the option is longer than {} bytes", wire::MAXIMUM_OPTION);
                    self.refuse(option, &OptionRefusal::new(wire::REP_ERR_TOO_BIG, text), out);
                    self.state = State::Option;
                }
                State::Option => {
                    let Some((option, payload, length)) = self.next_option(rest)? else {
                        return Ok((used, Progress::NeedMore));
                    };
                    used += length;
                    let Some(payload) = payload else { continue };
                    if let Some(end) = self.answer(option, payload, directory, out)? {
                        return Ok((used, end));
                    }
                    if out.len() >= wire::ENOUGH_REPLIES {
                        return Ok((used, Progress::NeedMore));
                    }
                }
            }
        }
    }

    fn client_flags(&mut self, flags: u32) -> Result<(), HandshakeError> {
        let known = u32::from(wire::FLAG_FIXED_NEWSTYLE | wire::FLAG_NO_ZEROES);
        if flags & !known != 0 {
            return Err(HandshakeError::ClientFlags(flags));
        }
        self.fixed = flags & u32::from(wire::FLAG_FIXED_NEWSTYLE) != 0;
        self.no_zeroes = flags & u32::from(wire::FLAG_NO_ZEROES) != 0;
        self.state = State::Option;
        Ok(())
    }

    /// The option at the front of `rest`, with the bytes it used; without a payload if it is one to skip; `None` if it is
    /// not whole yet.
    #[allow(clippy::type_complexity)]
    fn next_option<'a>(&mut self, rest: &'a [u8]) -> Result<Option<(u32, Option<&'a [u8]>, usize)>, HandshakeError> {
        let Some(magic) = rest.first_chunk::<8>() else { return Ok(None) };
        let magic = u64::from_be_bytes(*magic);
        if magic != wire::OPTION_MAGIC {
            return Err(HandshakeError::OptionMagic(magic));
        }
        let Some(header) = rest.first_chunk::<16>() else { return Ok(None) };
        let option = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
        let length = u32::from_be_bytes([header[12], header[13], header[14], header[15]]);
        if !self.fixed && option != wire::OPT_EXPORT_NAME {
            return Err(HandshakeError::NotFixed(option));
        }
        if length > wire::MAXIMUM_OPTION {
            if length > wire::MAXIMUM_SKIPPED_OPTION || option == wire::OPT_EXPORT_NAME {
                return Err(HandshakeError::OptionLength { option, length });
            }
            self.state = State::Skipping { option, left: length };
            return Ok(Some((option, None, 16)));
        }
        let end = 16 + length as usize;
        Ok(rest.get(16..end).map(|payload| (option, Some(payload), end)))
    }

    fn answer(
        &mut self,
        option: u32,
        payload: &[u8],
        directory: &dyn Directory,
        out: &mut Vec<u8>,
    ) -> Result<Option<Progress>, HandshakeError> {
        let outcome = match option {
            wire::OPT_EXPORT_NAME => return self.export_name(payload, directory, out).map(Some),
            wire::OPT_ABORT => {
                option::push_reply(out, option, wire::REP_ACK, &[]);
                return Ok(Some(Progress::Aborted));
            }
            wire::OPT_LIST => self.list(payload, directory, out),
            wire::OPT_INFO => self.info(option, payload, directory, out).map(|_| ()),
            wire::OPT_GO => match self.info(option, payload, directory, out) {
                Ok(negotiated) => {
                    option::push_reply(out, option, wire::REP_ACK, &[]);
                    return Ok(Some(Progress::Finished(Box::new(negotiated))));
                }
                Err(refusal) => Err(refusal),
            },
            wire::OPT_STRUCTURED_REPLY => option::expect_empty(payload).map(|()| self.structured_replies = true),
            wire::OPT_LIST_META_CONTEXT | wire::OPT_SET_META_CONTEXT => self.meta(option, payload, directory, out),
            wire::OPT_STARTTLS => Err(OptionRefusal::new(
                wire::REP_ERR_UNSUP,
                "this server does not offer TLS yet: connect without it, over a unix socket or loopback",
            )),
            unknown => Err(OptionRefusal::new(wire::REP_ERR_UNSUP, format!("option {unknown} is not known here"))),
        };
        match outcome {
            Ok(()) => option::push_reply(out, option, wire::REP_ACK, &[]),
            Err(refusal) => self.refuse(option, &refusal, out),
        }
        Ok(None)
    }

    fn refuse(&mut self, option: u32, refusal: &OptionRefusal, out: &mut Vec<u8>) {
        if option == wire::OPT_SET_META_CONTEXT {
            self.allocation_of = None;
        }
        option::push_refusal(out, option, refusal);
    }

    fn list(&self, payload: &[u8], directory: &dyn Directory, out: &mut Vec<u8>) -> Result<(), OptionRefusal> {
        option::expect_empty(payload)?;
        self.still_open()?;
        for export in directory.list() {
            let mut entry = Vec::with_capacity(4 + export.name.len() + export.description.len());
            entry.extend_from_slice(&(export.name.len() as u32).to_be_bytes());
            entry.extend_from_slice(export.name.as_bytes());
            entry.extend_from_slice(option::clip(&export.description).as_bytes());
            option::push_reply(out, wire::OPT_LIST, wire::REP_SERVER, &entry);
        }
        Ok(())
    }

    fn info(
        &self,
        option: u32,
        payload: &[u8],
        directory: &dyn Directory,
        out: &mut Vec<u8>,
    ) -> Result<Negotiated, OptionRefusal> {
        let request = option::parse_info(payload)?;
        let export = self.find(request.name, directory)?;
        let rules = self.rules(&export, request.wants_block_size);
        let mut item = Vec::with_capacity(16);
        item.extend_from_slice(&wire::INFO_EXPORT.to_be_bytes());
        item.extend_from_slice(&export.size.to_be_bytes());
        item.extend_from_slice(&rules.transmission_flags().to_be_bytes());
        option::push_reply(out, option, wire::REP_INFO, &item);
        if request.wants_name {
            push_text_item(out, option, wire::INFO_NAME, &export.name);
        }
        if request.wants_description {
            push_text_item(out, option, wire::INFO_DESCRIPTION, &export.description);
        }
        if request.wants_block_size {
            item.clear();
            item.extend_from_slice(&wire::INFO_BLOCK_SIZE.to_be_bytes());
            for size in [rules.block_size.unwrap_or(1), wire::PREFERRED_BLOCK, wire::MAXIMUM_PAYLOAD] {
                item.extend_from_slice(&size.to_be_bytes());
            }
            option::push_reply(out, option, wire::REP_INFO, &item);
        }
        Ok(Negotiated { export, rules })
    }

    fn meta(
        &mut self,
        option: u32,
        payload: &[u8],
        directory: &dyn Directory,
        out: &mut Vec<u8>,
    ) -> Result<(), OptionRefusal> {
        let selects = option == wire::OPT_SET_META_CONTEXT;
        if !self.structured_replies {
            let text = "metadata contexts need structured replies: send STRUCTURED_REPLY first";
            return Err(OptionRefusal::new(wire::REP_ERR_INVALID, text));
        }
        let request = option::parse_meta(payload)?;
        let export = self.find(request.name, directory)?;
        let matches = request.names_allocation || (!selects && (request.names_base || request.queries == 0));
        if matches {
            let id = if selects { wire::BASE_ALLOCATION_ID } else { 0 };
            let mut entry = id.to_be_bytes().to_vec();
            entry.extend_from_slice(wire::BASE_ALLOCATION.as_bytes());
            option::push_reply(out, option, wire::REP_META_CONTEXT, &entry);
        }
        if selects {
            self.allocation_of = matches.then_some(export.name);
        }
        Ok(())
    }

    /// The old way to end haggling. It knows no error reply, so any trouble ends the connection.
    fn export_name(
        &self,
        payload: &[u8],
        directory: &dyn Directory,
        out: &mut Vec<u8>,
    ) -> Result<Progress, HandshakeError> {
        let found = option::parse_name(payload).and_then(|name| self.find(name, directory));
        let export = found.map_err(|refusal| HandshakeError::ExportName(refusal.text))?;
        let rules = self.rules(&export, false);
        out.extend_from_slice(&export.size.to_be_bytes());
        out.extend_from_slice(&rules.transmission_flags().to_be_bytes());
        if !self.no_zeroes {
            out.extend_from_slice(&[0; wire::EXPORT_NAME_PADDING]);
        }
        Ok(Progress::Finished(Box::new(Negotiated { export, rules })))
    }

    fn find(&self, name: &str, directory: &dyn Directory) -> Result<Listing, OptionRefusal> {
        self.still_open()?;
        directory.find(name).map_err(|why| match why {
            NotExported::Unknown(text) => OptionRefusal::new(wire::REP_ERR_UNKNOWN, text),
            NotExported::Refused(text) => OptionRefusal::new(wire::REP_ERR_POLICY, text),
        })
    }

    fn still_open(&self) -> Result<(), OptionRefusal> {
        self.closed.clone().map_or(Ok(()), Err)
    }

    fn rules(&self, export: &Listing, agrees_on_blocks: bool) -> Rules {
        // A size that is no multiple of the minimum could never be read to its end: then bytes are the unit.
        let whole_blocks = export.size.is_multiple_of(u64::from(wire::MINIMUM_BLOCK));
        Rules {
            size: export.size,
            read_only: export.read_only,
            structured_replies: self.structured_replies,
            allocation_context: self.allocation_of.as_deref() == Some(export.name.as_str()),
            block_size: (agrees_on_blocks && whole_blocks).then_some(wire::MINIMUM_BLOCK),
        }
    }
}

fn push_text_item(out: &mut Vec<u8>, option: u32, kind: u16, text: &str) {
    let mut item = kind.to_be_bytes().to_vec();
    item.extend_from_slice(option::clip(text).as_bytes());
    option::push_reply(out, option, wire::REP_INFO, &item);
}
