//! The little of NBD that the benches speak by themselves: name an export, ask, be answered plainly.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

const OPTION_MAGIC: &[u8; 8] = b"IHAVEOPT";
const EXPORT_NAME: u32 = 1;
const FIXED_NO_ZEROES: u32 = 3;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: [u8; 4] = [0x67, 0x44, 0x66, 0x98];

pub const READ: u16 = 0;
pub const WRITE: u16 = 1;
pub const DISCONNECT: u16 = 2;

pub const REPLY_BYTES: usize = 16;

/// Connects to a server on a unix socket and names the export.
pub fn connect(uri: &str) -> Result<UnixStream> {
    let (export, socket) = uri
        .strip_prefix("nbd+unix:///")
        .and_then(|rest| rest.split_once("?socket="))
        .context("not a unix NBD address")?;
    let mut stream = UnixStream::connect(socket).with_context(|| format!("connecting to {socket}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;

    let mut greeting = [0; 18];
    stream.read_exact(&mut greeting).context("reading the greeting")?;
    ensure!(&greeting[..8] == b"NBDMAGIC" && &greeting[8..16] == OPTION_MAGIC, "no NBD greeting: {greeting:02x?}");
    let mut hello = FIXED_NO_ZEROES.to_be_bytes().to_vec();
    hello.extend_from_slice(OPTION_MAGIC);
    hello.extend_from_slice(&EXPORT_NAME.to_be_bytes());
    hello.extend_from_slice(&u32::try_from(export.len())?.to_be_bytes());
    hello.extend_from_slice(export.as_bytes());
    stream.write_all(&hello)?;
    stream.read_exact(&mut [0; 10]).context("reading size and flags")?;
    Ok(stream)
}

/// The header of a request; offset and length in bytes.
pub fn request(command: u16, cookie: u64, offset: u64, length: u32) -> Vec<u8> {
    let mut bytes = REQUEST_MAGIC.to_be_bytes().to_vec();
    bytes.extend_from_slice(&0u16.to_be_bytes());
    bytes.extend_from_slice(&command.to_be_bytes());
    bytes.extend_from_slice(&cookie.to_be_bytes());
    bytes.extend_from_slice(&offset.to_be_bytes());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes
}

/// Which request a reply answers; one that failed is an error.
pub fn answered(reply: [u8; REPLY_BYTES]) -> Result<u64> {
    let (head, cookie) = reply.split_last_chunk::<8>().context("a reply is longer than its cookie")?;
    ensure!(head[..4] == REPLY_MAGIC && head[4..] == [0; 4], "a request failed: {reply:02x?}");
    Ok(u64::from_be_bytes(*cookie))
}
