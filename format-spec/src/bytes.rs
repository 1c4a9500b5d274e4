//! The two ends of every conversion between numbers and bytes: all little-endian, all of a fixed width.
//!
//! `Writer` grows a buffer; `Reader` walks one and answers `Truncated` instead of reading past its end. Nothing else in this
//! crate converts a number, and neither end takes a `usize`: its width is the host's business.

use crate::checksum::checksum_without;
use crate::error::DecodeError;
use crate::units::BLOCK_BYTES;

pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity) }
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
    }

    pub(crate) fn zeros(&mut self, count: usize) {
        self.bytes.resize(self.bytes.len() + count, 0);
    }

    /// Fills with zeros until `end` bytes are written. Being past it already means that a field has grown too long.
    pub(crate) fn zeros_up_to(&mut self, end: usize) {
        assert!(self.bytes.len() <= end, "encode: {} bytes written where {end} must suffice", self.bytes.len());
        self.bytes.resize(end, 0);
    }

    /// Fills with zeros up to the next multiple of `unit`.
    pub(crate) fn align(&mut self, unit: usize) {
        self.zeros_up_to(self.bytes.len().next_multiple_of(unit));
    }

    /// Replaces four bytes written earlier: a checksum or a length that is only known at the end.
    pub(crate) fn set_u32(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn written(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// One block, filled up with zeros, its own checksum put in the four bytes at `crc_at`.
    pub(crate) fn into_sealed_block(mut self, crc_at: usize) -> [u8; BLOCK_BYTES] {
        self.zeros_up_to(BLOCK_BYTES);
        self.set_u32(crc_at, checksum_without(&self.bytes, crc_at));
        let mut block = [0; BLOCK_BYTES];
        block.copy_from_slice(&self.bytes);
        block
    }
}

pub(crate) struct Reader<'a> {
    structure: &'static str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(structure: &'static str, bytes: &'a [u8]) -> Self {
        Self { structure, bytes, at: 0 }
    }

    /// Like `new`, but refuses at once what is shorter than `len`, and never looks past it.
    pub(crate) fn of_len(structure: &'static str, bytes: &'a [u8], len: usize) -> Result<Self, DecodeError> {
        Reader::new(structure, bytes).slice("whole", len).map(|bytes| Self::new(structure, bytes))
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array(field).map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(u64::from_le_bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.slice(field, N)?);
        Ok(array)
    }

    pub(crate) fn slice(&mut self, field: &'static str, len: usize) -> Result<&'a [u8], DecodeError> {
        let rest = &self.bytes[self.at..];
        let Some(slice) = rest.get(..len) else {
            return Err(DecodeError::Truncated {
                structure: self.structure,
                field,
                found: rest.len() as u64,
                expected: len as u64,
            });
        };
        self.at += len;
        Ok(slice)
    }

    pub(crate) fn magic(&mut self, expected: u64) -> Result<(), DecodeError> {
        match self.u64("magic")? {
            found if found == expected => Ok(()),
            found => Err(DecodeError::Magic { structure: self.structure, found, expected }),
        }
    }

    pub(crate) fn magic_u32(&mut self, expected: u32) -> Result<(), DecodeError> {
        match self.u32("magic")? {
            found if found == expected => Ok(()),
            found => {
                Err(DecodeError::Magic { structure: self.structure, found: found.into(), expected: expected.into() })
            }
        }
    }

    /// Reads the checksum that `whole` holds of itself at `at`, where this reader must be standing.
    pub(crate) fn block_checksum(&mut self, whole: &[u8], at: usize) -> Result<(), DecodeError> {
        debug_assert_eq!(self.at, at);
        let expected = self.u32("checksum")?;
        let found = checksum_without(whole, at);
        if found == expected {
            return Ok(());
        }
        Err(DecodeError::Checksum { structure: self.structure, field: "whole", found, expected })
    }

    /// Steps over bytes that are reserved or padding: not looked at, so that a later version may use them.
    pub(crate) fn skip(&mut self, len: usize) -> Result<(), DecodeError> {
        self.slice("reserved bytes", len).map(|_| ())
    }

    /// Steps forward to a place that is fixed by the layout.
    pub(crate) fn seek(&mut self, at: usize) -> Result<(), DecodeError> {
        self.skip(at - self.at)
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }
}
