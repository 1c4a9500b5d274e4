//! Requests: what passes, what is refused, and with which errno.

use super::super::{Errno, Operation, Refusal, Step, Transmission, TransmissionError};
use super::*;

fn judge(rules: Rules, bytes: &[u8]) -> Result<Operation, Errno> {
    let (used, step) = Transmission::new(rules).next(bytes, false).expect("the stream holds");
    match step {
        Step::Start(request) => {
            assert_eq!(used, wire::REQUEST_LEN);
            Ok(request.operation)
        }
        Step::Refuse { refusal, .. } => {
            assert!(!refusal.text.is_empty());
            Err(refusal.errno)
        }
        Step::NeedMore => panic!("a whole request was given"),
    }
}

/// A WRITE with all of its payload.
fn write(flags: u16, offset: u64, len: u32) -> Vec<u8> {
    let mut bytes = request(flags, wire::CMD_WRITE, 7, offset, len);
    bytes.resize(bytes.len() + len as usize, 0xee);
    bytes
}

#[test]
fn every_command_passes_with_its_flags() {
    let fua = wire::CMD_FLAG_FUA;
    let zero_flags = wire::CMD_FLAG_NO_HOLE | wire::CMD_FLAG_FAST_ZERO | fua;
    let (offset, len) = (8192, 4096);
    let cases = [
        (request(0, wire::CMD_READ, 7, offset, len), Operation::Read { offset, len }),
        (request(wire::CMD_FLAG_DF | fua, wire::CMD_READ, 7, offset, len), Operation::Read { offset, len }),
        (request(0, wire::CMD_WRITE, 7, offset, len), Operation::Write { offset, len, fua: false }),
        (request(fua, wire::CMD_WRITE, 7, offset, len), Operation::Write { offset, len, fua: true }),
        (request(fua, wire::CMD_FLUSH, 7, 0, 0), Operation::Flush),
        (request(0, wire::CMD_TRIM, 7, offset, len), Operation::Trim { offset, len, fua: false }),
        (request(fua, wire::CMD_CACHE, 7, offset, len), Operation::Cache { offset, len }),
        (
            request(0, wire::CMD_WRITE_ZEROES, 7, offset, len),
            Operation::WriteZeroes { offset, len, keep_allocated: false, fua: false },
        ),
        (
            request(zero_flags, wire::CMD_WRITE_ZEROES, 7, offset, len),
            Operation::WriteZeroes { offset, len, keep_allocated: true, fua: true },
        ),
        (
            request(wire::CMD_FLAG_REQ_ONE, wire::CMD_BLOCK_STATUS, 7, offset, len),
            Operation::BlockStatus { offset, len, one: true },
        ),
        (request(0, wire::CMD_DISC, 7, 0, 0), Operation::Disconnect),
    ];
    for (bytes, operation) in cases {
        assert_eq!(judge(rules(), &bytes), Ok(operation));
    }
}

#[test]
fn flags_that_a_command_does_not_take_are_invalid() {
    let taken = [
        (wire::CMD_READ, wire::CMD_FLAG_FUA | wire::CMD_FLAG_DF),
        (wire::CMD_FLUSH, wire::CMD_FLAG_FUA),
        (wire::CMD_TRIM, wire::CMD_FLAG_FUA),
        (wire::CMD_CACHE, wire::CMD_FLAG_FUA),
        (wire::CMD_WRITE_ZEROES, wire::CMD_FLAG_FUA | wire::CMD_FLAG_NO_HOLE | wire::CMD_FLAG_FAST_ZERO),
        (wire::CMD_BLOCK_STATUS, wire::CMD_FLAG_FUA | wire::CMD_FLAG_REQ_ONE),
    ];
    for (command, flags) in taken {
        let len = if command == wire::CMD_FLUSH { 0 } else { 512 };
        for bit in 0..16 {
            let verdict = judge(rules(), &request(1 << bit, command, 7, 0, len));
            assert_eq!(verdict.is_ok(), flags & (1 << bit) != 0, "command {command}, flag {bit}: {verdict:?}");
        }
    }
    let plain = Rules { structured_replies: false, allocation_context: false, ..rules() };
    assert_eq!(judge(plain, &request(wire::CMD_FLAG_DF, wire::CMD_READ, 7, 0, 512)), Err(Errno::Invalid));
}

#[test]
fn unknown_commands_are_invalid_and_the_stream_goes_on() {
    let mut machine = Transmission::new(rules());
    for command in (8..100).chain([u16::MAX]) {
        let (used, step) = machine.next(&request(0, command, 9, 0, 1 << 20), false).expect("the stream holds");
        assert_eq!(used, wire::REQUEST_LEN);
        assert!(matches!(step, Step::Refuse { cookie: 9, refusal: Refusal { errno: Errno::Invalid, .. }, .. }));
    }
}

#[test]
fn the_end_of_the_export_is_exact_for_every_command() {
    let past = [
        (wire::CMD_READ, Errno::Invalid),
        (wire::CMD_WRITE, Errno::NoSpace),
        (wire::CMD_TRIM, Errno::Invalid),
        (wire::CMD_CACHE, Errno::Invalid),
        (wire::CMD_WRITE_ZEROES, Errno::NoSpace),
        (wire::CMD_BLOCK_STATUS, Errno::Invalid),
    ];
    for (command, errno) in past {
        for (offset, len, inside) in [
            (SIZE - 1, 1, true),
            (SIZE - 1, 2, false),
            (SIZE - 4096, 4096, true),
            (SIZE - 4095, 4096, false),
            (SIZE, 1, false),
            (u64::MAX, 1, false),
            (u64::MAX - 4095, 4096, false),
        ] {
            let mut bytes = request(0, command, 7, offset, len);
            bytes.resize(bytes.len() + 4096, 0);
            let verdict = judge(rules(), &bytes);
            assert_eq!(verdict.err(), (!inside).then_some(errno), "command {command}: {len} at {offset}");
        }
        let nothing_at_the_end = judge(rules(), &request(0, command, 7, SIZE, 0));
        assert_eq!(nothing_at_the_end.is_ok(), command != wire::CMD_BLOCK_STATUS);
    }
}

#[test]
fn data_requests_carry_up_to_32_mib_and_others_any_length() {
    let big = Rules { size: 1 << 40, ..rules() };
    let limit = wire::MAXIMUM_PAYLOAD;
    assert!(judge(big, &request(0, wire::CMD_READ, 7, 0, limit)).is_ok());
    assert_eq!(judge(big, &request(0, wire::CMD_READ, 7, 0, limit + 1)), Err(Errno::Invalid));
    assert_eq!(judge(big, &request(wire::CMD_FLAG_DF, wire::CMD_READ, 7, 0, limit + 1)), Err(Errno::Overflow));
    assert!(judge(big, &request(0, wire::CMD_WRITE, 7, 0, limit)).is_ok());
    for command in [wire::CMD_TRIM, wire::CMD_WRITE_ZEROES, wire::CMD_CACHE, wire::CMD_BLOCK_STATUS] {
        assert!(judge(big, &request(0, command, 7, 0, u32::MAX)).is_ok(), "command {command}");
    }
}

#[test]
fn blocks_bind_only_those_who_agreed_to_them() {
    let agreed = Rules { block_size: Some(512), ..rules() };
    for command in [wire::CMD_READ, wire::CMD_TRIM, wire::CMD_WRITE_ZEROES, wire::CMD_CACHE, wire::CMD_BLOCK_STATUS] {
        for (offset, len) in [(1, 512), (512, 511), (513, 513)] {
            let bytes = request(0, command, 7, offset, len);
            assert_eq!(judge(agreed, &bytes), Err(Errno::Invalid), "command {command}: {len} at {offset}");
            assert!(judge(rules(), &bytes).is_ok(), "command {command}: {len} at {offset}");
        }
        assert!(judge(agreed, &request(0, command, 7, 512, 512)).is_ok());
    }
    assert_eq!(judge(agreed, &write(0, 3, 512)), Err(Errno::Invalid));
    assert!(judge(rules(), &write(0, 3, 5)).is_ok());
}

#[test]
fn nothing_modifies_a_read_only_export() {
    let read_only = Rules { read_only: true, ..rules() };
    assert_eq!(judge(read_only, &write(0, 0, 512)), Err(Errno::NotPermitted));
    for command in [wire::CMD_TRIM, wire::CMD_WRITE_ZEROES] {
        assert_eq!(judge(read_only, &request(0, command, 7, 0, 512)), Err(Errno::NotPermitted));
    }
    for command in [wire::CMD_READ, wire::CMD_CACHE, wire::CMD_BLOCK_STATUS] {
        assert!(judge(read_only, &request(0, command, 7, 0, 512)).is_ok());
    }
    assert!(judge(read_only, &request(0, wire::CMD_FLUSH, 7, 0, 0)).is_ok());
}

#[test]
fn a_flush_takes_no_range_and_block_status_needs_a_context_and_a_length() {
    assert_eq!(judge(rules(), &request(0, wire::CMD_FLUSH, 7, 0, 1)), Err(Errno::Invalid));
    assert_eq!(judge(rules(), &request(0, wire::CMD_FLUSH, 7, 1, 0)), Err(Errno::Invalid));
    assert_eq!(judge(rules(), &request(0, wire::CMD_BLOCK_STATUS, 7, 0, 0)), Err(Errno::Invalid));
    let without = Rules { allocation_context: false, ..rules() };
    assert_eq!(judge(without, &request(0, wire::CMD_BLOCK_STATUS, 7, 0, 512)), Err(Errno::Invalid));
}

#[test]
fn a_stopping_server_refuses_everything_but_farewells() {
    for command in 0..=7 {
        let mut bytes = request(0, command, 7, 0, if command == wire::CMD_FLUSH { 0 } else { 512 });
        bytes.resize(bytes.len() + 512, 0);
        let (_, step) = Transmission::new(rules()).next(&bytes, true).expect("the stream holds");
        match step {
            Step::Refuse { refusal, .. } => assert_eq!(refusal.errno, Errno::ShuttingDown),
            Step::Start(request) => assert_eq!(request.operation, Operation::Disconnect),
            Step::NeedMore => panic!("a whole request was given"),
        }
    }
}

#[test]
fn the_payload_of_a_refused_write_passes_by_and_the_next_request_is_found() {
    for len in [1, 27, 28, 29, wire::MAXIMUM_PAYLOAD + 1, wire::MAXIMUM_DISCARD] {
        let mut stream = write(0, SIZE, len);
        stream.extend_from_slice(&request(0, wire::CMD_FLUSH, 8, 0, 0));
        let mut machine = Transmission::new(rules());
        let mut used = 0;
        let refused = loop {
            let end = stream.len().min(used + 100_000);
            let (taken, step) = machine.next(&stream[used..end], false).expect("the stream holds");
            used += taken;
            if step != Step::NeedMore {
                break step;
            }
            assert!(taken > 0, "no step forward");
        };
        assert!(matches!(refused, Step::Refuse { cookie: 7, .. }), "{refused:?}");
        assert!(machine.is_between_requests());
        let (_, next) = machine.next(&stream[used..], false).expect("the stream holds");
        assert!(matches!(next, Step::Start(request) if request.cookie == 8));
    }
}

#[test]
fn a_write_too_long_to_wait_for_and_a_bad_magic_end_the_connection() {
    let long = request(0, wire::CMD_WRITE, 7, 0, wire::MAXIMUM_DISCARD + 1);
    let ended = Transmission::new(rules()).next(&long, false);
    assert_eq!(ended, Err(TransmissionError::WriteTooLong(wire::MAXIMUM_DISCARD + 1)));
    let ended = Transmission::new(rules()).next(&[0; 28], false);
    assert_eq!(ended, Err(TransmissionError::RequestMagic(0)));
}

#[test]
fn a_request_cut_anywhere_waits_for_the_rest() {
    let whole = request(0, wire::CMD_READ, 7, 0, 512);
    for cut in 0..whole.len() {
        let answer = Transmission::new(rules()).next(&whole[..cut], false);
        assert_eq!(answer, Ok((0, Step::NeedMore)));
    }
}
