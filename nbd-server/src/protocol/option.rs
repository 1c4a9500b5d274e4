//! The payloads of options, and the replies to them.
//!
//! Parsing takes a whole option payload, of at most [`wire::MAXIMUM_OPTION`] bytes, and says in words what is wrong with
//! it. It must never read past the payload, whatever lengths the payload claims.

use super::wire;

/// Why an option was refused: the reply type and a text for the person at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionRefusal {
    pub reply: u32,
    pub text: String,
}

impl OptionRefusal {
    pub fn new(reply: u32, text: impl Into<String>) -> OptionRefusal {
        OptionRefusal { reply, text: text.into() }
    }

    fn invalid(text: impl Into<String>) -> OptionRefusal {
        OptionRefusal::new(wire::REP_ERR_INVALID, text)
    }
}

/// INFO and GO: which export, and what to tell about it.
#[derive(Debug, PartialEq, Eq)]
pub struct InfoOption<'a> {
    pub name: &'a str,
    pub wants_name: bool,
    pub wants_description: bool,
    pub wants_block_size: bool,
}

/// LIST_META_CONTEXT and SET_META_CONTEXT: which export, and which contexts of it.
#[derive(Debug, PartialEq, Eq)]
pub struct MetaOption<'a> {
    pub name: &'a str,
    pub queries: u32,
    /// One of the queries is `base:allocation` itself.
    pub names_allocation: bool,
    /// One of the queries is the wildcard `base:`.
    pub names_base: bool,
}

pub fn parse_info(payload: &[u8]) -> Result<InfoOption<'_>, OptionRefusal> {
    let mut rest = Cursor { bytes: payload };
    let name = rest.string("export name")?;
    let count = rest.u16("number of information requests")?;
    let mut option = InfoOption { name, wants_name: false, wants_description: false, wants_block_size: false };
    for _ in 0..count {
        match rest.u16("information request")? {
            wire::INFO_NAME => option.wants_name = true,
            wire::INFO_DESCRIPTION => option.wants_description = true,
            wire::INFO_BLOCK_SIZE => option.wants_block_size = true,
            _ => {} // The protocol asks servers to ignore what they do not know.
        }
    }
    rest.end()?;
    Ok(option)
}

pub fn parse_meta(payload: &[u8]) -> Result<MetaOption<'_>, OptionRefusal> {
    let mut rest = Cursor { bytes: payload };
    let name = rest.string("export name")?;
    let queries = rest.u32("number of queries")?;
    let mut option = MetaOption { name, queries, names_allocation: false, names_base: false };
    for _ in 0..queries {
        // Each round consumes at least four bytes or fails, so a huge count ends with the payload.
        match rest.string("query")? {
            wire::BASE_ALLOCATION => option.names_allocation = true,
            "base:" => option.names_base = true,
            query if !query.contains(':') => {
                return Err(OptionRefusal::invalid(format!(
                    "query {query:?} has no namespace: expected NAMESPACE:NAME"
                )));
            }
            _ => {} // Contexts of others are no error, they only select nothing.
        }
    }
    rest.end()?;
    Ok(option)
}

/// The payload of EXPORT_NAME is the name and nothing else.
pub fn parse_name(payload: &[u8]) -> Result<&str, OptionRefusal> {
    text(payload, "export name")
}

pub fn expect_empty(payload: &[u8]) -> Result<(), OptionRefusal> {
    Cursor { bytes: payload }.end()
}

pub fn push_reply(out: &mut Vec<u8>, option: u32, reply: u32, payload: &[u8]) {
    out.extend_from_slice(&wire::OPTION_REPLY_MAGIC.to_be_bytes());
    out.extend_from_slice(&option.to_be_bytes());
    out.extend_from_slice(&reply.to_be_bytes());
    // Payloads are ours: names, texts and fixed records, far below 4 GiB.
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    out.extend_from_slice(payload);
}

pub fn push_refusal(out: &mut Vec<u8>, option: u32, refusal: &OptionRefusal) {
    push_reply(out, option, refusal.reply, clip(&refusal.text).as_bytes());
}

/// The longest prefix of `text` that the protocol's limit on strings allows.
pub fn clip(text: &str) -> &str {
    let mut end = text.len().min(wire::MAXIMUM_STRING);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

struct Cursor<'a> {
    bytes: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize, what: &str) -> Result<&'a [u8], OptionRefusal> {
        if count > self.bytes.len() {
            let left = self.bytes.len();
            return Err(OptionRefusal::invalid(format!("{what} needs {count} bytes, the option has {left} left")));
        }
        let (front, rest) = self.bytes.split_at(count);
        self.bytes = rest;
        Ok(front)
    }

    fn u16(&mut self, what: &str) -> Result<u16, OptionRefusal> {
        let bytes = self.take(2, what)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn u32(&mut self, what: &str) -> Result<u32, OptionRefusal> {
        let bytes = self.take(4, what)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn string(&mut self, what: &str) -> Result<&'a str, OptionRefusal> {
        let length = self.u32(what)? as usize;
        text(self.take(length, what)?, what)
    }

    fn end(&self) -> Result<(), OptionRefusal> {
        match self.bytes.len() {
            0 => Ok(()),
            left => Err(OptionRefusal::invalid(format!("{left} bytes follow the end of the option"))),
        }
    }
}

fn text<'a>(bytes: &'a [u8], what: &str) -> Result<&'a str, OptionRefusal> {
    if bytes.len() > wire::MAXIMUM_STRING {
        let limit = wire::MAXIMUM_STRING;
        return Err(OptionRefusal::new(
            wire::REP_ERR_TOO_BIG,
            format!("{what} has {} bytes, the protocol allows {limit}", bytes.len()),
        ));
    }
    std::str::from_utf8(bytes).map_err(|_| OptionRefusal::invalid(format!("{what} is not UTF-8")))
}
