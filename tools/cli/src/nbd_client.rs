//! A small blocking NBD client over a unix socket: fixed newstyle, simple replies, requests in flight as the caller likes.
//!
//! It is for `demo` and `bench`, which must not depend on other programs. It trusts its server as far as lengths go.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use treering_nbd_server::protocol::wire;

const FIXED_NEWSTYLE_NO_ZEROES: u32 = (wire::FLAG_FIXED_NEWSTYLE | wire::FLAG_NO_ZEROES) as u32;
const REP_ERROR: u32 = 1 << 31;

/// A server that says nothing for so long is taken for stuck.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct NbdClient {
    stream: UnixStream,
    size: u64,
    next: u64,
    /// Bytes that the replies in flight bring.
    expected: HashMap<u64, usize>,
}

/// A reply: to which request, its errno (0 is success), and what was read.
pub struct Reply {
    pub cookie: u64,
    pub errno: u32,
    pub data: Vec<u8>,
}

impl NbdClient {
    pub fn connect(socket: &Path, export: &str) -> io::Result<NbdClient> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut client = NbdClient { stream, size: 0, next: 1, expected: HashMap::new() };
        client.haggle(export)?;
        Ok(client)
    }

    /// Bytes of the export.
    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn submit_read(&mut self, offset: u64, len: usize) -> io::Result<u64> {
        self.submit(wire::CMD_READ, offset, len as u32, &[], len)
    }

    pub fn submit_write(&mut self, offset: u64, data: &[u8]) -> io::Result<u64> {
        self.submit(wire::CMD_WRITE, offset, data.len() as u32, data, 0)
    }

    pub fn submit_flush(&mut self) -> io::Result<u64> {
        self.submit(wire::CMD_FLUSH, 0, 0, &[], 0)
    }

    /// The next reply, whichever request it answers.
    pub fn reply(&mut self) -> io::Result<Reply> {
        let mut head = [0; 16];
        self.stream.read_exact(&mut head)?;
        let cookie = u64::from_be_bytes(head[8..].try_into().expect("eight bytes"));
        let errno = u32::from_be_bytes(head[4..8].try_into().expect("four bytes"));
        let expected = self.expected.remove(&cookie);
        let (wire::SIMPLE_REPLY_MAGIC, Some(len)) =
            (u32::from_be_bytes(head[..4].try_into().expect("four bytes")), expected)
        else {
            return Err(strange("a reply to nothing that was asked"));
        };
        let mut data = vec![0; if errno == 0 { len } else { 0 }];
        self.stream.read_exact(&mut data)?;
        Ok(Reply { cookie, errno, data })
    }

    pub fn read(&mut self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.submit_read(offset, len)?;
        Ok(self.success()?.data)
    }

    pub fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.submit_write(offset, data)?;
        self.success().map(drop)
    }

    pub fn flush(&mut self) -> io::Result<()> {
        self.submit_flush()?;
        self.success().map(drop)
    }

    pub fn disconnect(mut self) -> io::Result<()> {
        self.submit(wire::CMD_DISC, 0, 0, &[], 0).map(drop)
    }

    fn success(&mut self) -> io::Result<Reply> {
        let reply = self.reply()?;
        match reply.errno {
            0 => Ok(reply),
            errno => Err(io::Error::from_raw_os_error(errno as i32)),
        }
    }

    fn submit(&mut self, command: u16, offset: u64, len: u32, data: &[u8], expected: usize) -> io::Result<u64> {
        let cookie = self.next;
        self.next += 1;
        let mut bytes = Vec::with_capacity(28 + data.len());
        bytes.extend(wire::REQUEST_MAGIC.to_be_bytes());
        bytes.extend([0; 2]);
        bytes.extend(command.to_be_bytes());
        bytes.extend(cookie.to_be_bytes());
        bytes.extend(offset.to_be_bytes());
        bytes.extend(len.to_be_bytes());
        bytes.extend(data);
        self.expected.insert(cookie, expected);
        self.stream.write_all(&bytes)?;
        Ok(cookie)
    }

    fn haggle(&mut self, export: &str) -> io::Result<()> {
        if self.u64()? != wire::NBD_MAGIC || self.u64()? != wire::OPTION_MAGIC {
            return Err(strange("another greeting than NBD's"));
        }
        self.take(2)?;
        let mut option = Vec::new();
        option.extend(FIXED_NEWSTYLE_NO_ZEROES.to_be_bytes());
        option.extend(wire::OPTION_MAGIC.to_be_bytes());
        option.extend(wire::OPT_GO.to_be_bytes());
        option.extend((export.len() as u32 + 6).to_be_bytes());
        option.extend((export.len() as u32).to_be_bytes());
        option.extend(export.as_bytes());
        option.extend([0; 2]);
        self.stream.write_all(&option)?;
        loop {
            if self.u64()? != wire::OPTION_REPLY_MAGIC || self.u32()? != wire::OPT_GO {
                return Err(strange("an answer to nothing that was asked"));
            }
            let (kind, len) = (self.u32()?, self.u32()?.min(64 << 10));
            let data = self.take(len as usize)?;
            match kind {
                wire::REP_ACK => return Ok(()),
                wire::REP_INFO if data.len() >= 10 && data[..2] == wire::INFO_EXPORT.to_be_bytes() => {
                    self.size = u64::from_be_bytes(data[2..10].try_into().expect("eight bytes"));
                }
                kind if kind & REP_ERROR != 0 => {
                    let text = String::from_utf8_lossy(&data).into_owned();
                    return Err(io::Error::new(io::ErrorKind::ConnectionRefused, text));
                }
                _ => {}
            }
        }
    }

    fn u64(&mut self) -> io::Result<u64> {
        Ok(u64::from_be_bytes(self.take(8)?.try_into().expect("eight bytes")))
    }

    fn u32(&mut self) -> io::Result<u32> {
        Ok(u32::from_be_bytes(self.take(4)?.try_into().expect("four bytes")))
    }

    fn take(&mut self, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

fn strange(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the server sent {what}"))
}
