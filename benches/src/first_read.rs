//! The smallest NBD client: connects, names the export, reads 4 KiB, leaves. It says when a server really serves.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

const OPTION_MAGIC: &[u8; 8] = b"IHAVEOPT";
const EXPORT_NAME: u32 = 1;
const FIXED_NO_ZEROES: u32 = 3;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const READ: u16 = 0;
const DISCONNECT: u16 = 2;
const LENGTH: u32 = 4096;

pub fn first_read(uri: &str) -> Result<()> {
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

    stream.write_all(&request(READ, LENGTH))?;
    let mut reply = vec![0; 16 + LENGTH as usize];
    stream.read_exact(&mut reply).context("reading the first reply")?;
    ensure!(reply[4..8] == [0; 4], "the first read failed with errno {:02x?}", &reply[4..8]);
    stream.write_all(&request(DISCONNECT, 0))?;
    Ok(())
}

fn request(command: u16, length: u32) -> Vec<u8> {
    let mut bytes = REQUEST_MAGIC.to_be_bytes().to_vec();
    bytes.extend_from_slice(&0u16.to_be_bytes());
    bytes.extend_from_slice(&command.to_be_bytes());
    bytes.extend_from_slice(&1u64.to_be_bytes());
    bytes.extend_from_slice(&0u64.to_be_bytes());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes
}
