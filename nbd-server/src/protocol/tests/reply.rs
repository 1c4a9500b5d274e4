//! Replies, byte by byte.

use super::super::{Errno, Refusal, reply};
use crate::export::Extent;

const COOKIE: u64 = 0x0102_0304_0506_0708;

#[test]
fn simple_replies_carry_errno_and_cookie() {
    assert_eq!(reply::done(COOKIE), *b"\x67\x44\x66\x98\0\0\0\0\x01\x02\x03\x04\x05\x06\x07\x08");
    let refusal = Refusal::new(Errno::NoSpace, "full");
    let error = reply::error(COOKIE, false, &refusal);
    assert_eq!(error, b"\x67\x44\x66\x98\0\0\0\x1c\x01\x02\x03\x04\x05\x06\x07\x08");
}

#[test]
fn data_goes_in_one_last_chunk() {
    let chunk = reply::data_chunk(COOKIE, 0x1000, 512);
    assert_eq!(&chunk[..8], b"\x66\x8e\x33\xef\0\x01\0\x01");
    assert_eq!(&chunk[16..], b"\0\0\x02\x08\0\0\0\0\0\0\x10\0");
    assert_eq!(&reply::no_data(COOKIE)[16..], b"\0\0\0\0");
}

#[test]
fn errors_carry_words_and_a_place() {
    let mut refusal = Refusal::new(Errno::Io, "segment 7 is damaged");
    let plain = reply::error(COOKIE, true, &refusal);
    assert_eq!(&plain[4..8], b"\0\x01\x80\x01");
    assert_eq!(&plain[16..26], b"\0\0\0\x1a\0\0\0\x05\0\x14");
    assert_eq!(&plain[26..], b"segment 7 is damaged");
    refusal.offset = Some(4096);
    let placed = reply::error(COOKIE, true, &refusal);
    assert_eq!(&placed[6..8], b"\x80\x02");
    assert_eq!(&placed[placed.len() - 8..], 4096_u64.to_be_bytes());
}

#[test]
fn words_longer_than_a_string_may_be_are_cut_between_characters() {
    let refusal = Refusal::new(Errno::Io, "é".repeat(3000) + "x");
    let error = reply::error(COOKIE, true, &refusal);
    assert_eq!(error[24..26], 4096_u16.to_be_bytes());
    let odd = Refusal::new(Errno::Io, "x".to_owned() + &"é".repeat(3000));
    let error = reply::error(COOKIE, true, &odd);
    assert_eq!(error[24..26], 4095_u16.to_be_bytes());
    assert!(std::str::from_utf8(&error[26..]).is_ok());
}

#[test]
fn extents_end_with_the_range_that_was_asked_for() {
    let extents = [
        Extent { len: 4096, hole: false, zero: false },
        Extent { len: 8192, hole: true, zero: true },
        Extent { len: 1 << 40, hole: false, zero: true },
    ];
    let status = reply::block_status(COOKIE, 16384, &extents);
    assert_eq!(&status[6..8], b"\0\x05");
    assert_eq!(&status[20..24], b"\0\0\0\x01");
    assert_eq!(&status[24..], b"\0\0\x10\0\0\0\0\0\0\0\x20\0\0\0\0\x03\0\0\x10\0\0\0\0\x02");
    assert_eq!(reply::block_status(COOKIE, 4096, &extents).len(), 32);
}
