//! The fuzzers' doors, tried with seeded bytes: random ones, and well-formed streams with a few bytes exchanged.

use super::*;
use crate::fuzzing;

/// SplitMix64: enough to shake a parser, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.roll() % end as u64) as usize
    }
}

fn haggling(dice: &mut Dice) -> Vec<u8> {
    let mut stream = client_flags(3);
    for _ in 0..dice.below(6) + 1 {
        let name = ["shop.pg", "shop.redis", "", "nothing"][dice.below(4)];
        stream.extend(match dice.below(7) {
            0 => option(wire::OPT_LIST, b""),
            1 => option(wire::OPT_STRUCTURED_REPLY, b""),
            2 => option(wire::OPT_SET_META_CONTEXT, &meta_payload(name, &["base:allocation", "base:"])),
            3 => option(wire::OPT_LIST_META_CONTEXT, &meta_payload(name, &[])),
            4 => option(wire::OPT_INFO, &info_payload(name, &[0, 1, 2, 3])),
            5 => option(dice.roll() as u32, b"unknown"),
            _ => option(wire::OPT_GO, &info_payload(name, &[3])),
        });
    }
    stream
}

fn requests(dice: &mut Dice) -> Vec<u8> {
    let mut stream = Vec::new();
    for cookie in 0..dice.below(8) as u64 + 1 {
        let offset = (dice.below(2100) * 512) as u64;
        let len = (dice.below(4) * 512) as u32;
        let command = dice.below(9) as u16;
        let flags = if dice.below(3) == 0 { 1 << dice.below(6) } else { 0 };
        stream.extend(request(flags, command, cookie, offset, len));
        if command == wire::CMD_WRITE {
            stream.resize(stream.len() + len as usize, 0xab);
        }
    }
    stream
}

fn shake(door: fn(&[u8]), prefix: usize, build: fn(&mut Dice) -> Vec<u8>) {
    for seed in 0..4000 {
        let mut dice = Dice(seed);
        let mut data: Vec<u8> = (0..prefix).map(|_| dice.roll() as u8).collect();
        data.extend(build(&mut dice));
        for _ in 0..dice.below(4) {
            let place = dice.below(data.len());
            data[place] = dice.roll() as u8;
        }
        data.truncate(data.len() - if dice.below(4) == 0 { dice.below(data.len()) } else { 0 });
        // A panic names its seed.
        let told = std::panic::catch_unwind(|| door(&data));
        assert!(told.is_ok(), "seed {seed}");
        let noise: Vec<u8> = (0..dice.below(200)).map(|_| dice.roll() as u8).collect();
        door(&noise);
    }
}

#[test]
fn no_bytes_break_the_promises_of_option_haggling() {
    shake(fuzzing::handshake, 1, haggling);
}

#[test]
fn no_bytes_break_the_promises_of_the_transmission() {
    shake(fuzzing::transmission, 2, requests);
}
