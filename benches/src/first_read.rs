//! Connects, reads 4 KiB, leaves. It says when a server really serves.

use std::io::{Read, Write};

use anyhow::{Context, Result};

use crate::nbd::{self, DISCONNECT, READ, REPLY_BYTES};

const LENGTH: u32 = 4096;

pub fn first_read(uri: &str) -> Result<()> {
    let mut stream = nbd::connect(uri)?;
    stream.write_all(&nbd::request(READ, 1, 0, LENGTH))?;
    let mut reply = [0; REPLY_BYTES];
    stream.read_exact(&mut reply).context("reading the first reply")?;
    nbd::answered(reply)?;
    stream.read_exact(&mut [0; LENGTH as usize]).context("reading the first data")?;
    stream.write_all(&nbd::request(DISCONNECT, 2, 0, 0))?;
    Ok(())
}
