//! Option haggling.

use super::super::{Handshake, HandshakeError, Negotiated, Progress};
use super::*;

/// One option reply: (option, reply type, payload).
type Reply = (u32, u32, Vec<u8>);

fn replies(mut bytes: &[u8]) -> Vec<Reply> {
    let mut replies = Vec::new();
    while !bytes.is_empty() {
        assert_eq!(bytes[..8], wire::OPTION_REPLY_MAGIC.to_be_bytes());
        let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let end = 20 + number(16) as usize;
        replies.push((number(8), number(12), bytes[20..end].to_vec()));
        bytes = &bytes[end..];
    }
    replies
}

struct Haggled {
    end: Result<Progress, HandshakeError>,
    out: Vec<u8>,
}

impl Haggled {
    fn replies(&self) -> Vec<Reply> {
        replies(&self.out)
    }

    /// The last reply's type and its text.
    fn verdict(&self) -> (u32, String) {
        let (_, kind, payload) = self.replies().pop().expect("a reply");
        (kind, String::from_utf8_lossy(&payload).into_owned())
    }

    fn negotiated(self) -> Negotiated {
        match self.end {
            Ok(Progress::Finished(negotiated)) => *negotiated,
            other => panic!("not finished: {other:?}"),
        }
    }
}

fn haggle_with(machine: &mut Handshake, parts: &[Vec<u8>]) -> Haggled {
    let stream = parts.concat();
    let mut out = Vec::new();
    let end = machine.advance(&stream, &Shop, &mut out).map(|(used, progress)| {
        assert!(used <= stream.len());
        progress
    });
    Haggled { end, out }
}

fn haggle(options: &[Vec<u8>]) -> Haggled {
    let parts = [&[client_flags(3)], options].concat();
    haggle_with(&mut Handshake::new(), &parts)
}

#[test]
fn greeting_offers_fixed_newstyle_without_zeroes() {
    assert_eq!(&Handshake::greeting()[..], b"NBDMAGICIHAVEOPT\x00\x03");
}

#[test]
fn client_flags_that_were_not_offered_end_the_connection() {
    for flags in [4, 0x8000_0000, u32::MAX] {
        let ended = haggle_with(&mut Handshake::new(), &[client_flags(flags)]);
        assert_eq!(ended.end, Err(HandshakeError::ClientFlags(flags)));
    }
}

#[test]
fn go_tells_size_flags_and_what_was_asked_for() {
    let ended = haggle(&[option(wire::OPT_GO, &info_payload("shop", &[3, 1, 2, 77, 3]))]);
    let items: Vec<Vec<u8>> = ended.replies().into_iter().filter(|r| r.1 == wire::REP_INFO).map(|r| r.2).collect();
    let mut export = vec![0, 0];
    export.extend_from_slice(&SIZE.to_be_bytes());
    let flags = wire::HAS_FLAGS
        | wire::SEND_FLUSH
        | wire::SEND_FUA
        | wire::SEND_TRIM
        | wire::SEND_WRITE_ZEROES
        | wire::CAN_MULTI_CONN
        | wire::SEND_CACHE
        | wire::SEND_FAST_ZERO;
    export.extend_from_slice(&flags.to_be_bytes());
    assert_eq!(items[0], export);
    assert_eq!(items[1], b"\0\x01shop.pg");
    assert_eq!(items[2], b"\0\x02the volume shop");
    let mut blocks = vec![0, 3];
    [512_u32, 4096, 32 << 20].iter().for_each(|size| blocks.extend_from_slice(&size.to_be_bytes()));
    assert_eq!(items[3], blocks);
    assert_eq!(items.len(), 4);
    assert_eq!(ended.replies().last().map(|r| r.1), Some(wire::REP_ACK));
    let negotiated = ended.negotiated();
    assert_eq!((negotiated.rules.size, negotiated.rules.block_size), (SIZE, Some(512)));
}

#[test]
fn info_alone_does_not_commit_to_block_sizes() {
    let ended =
        haggle(&[option(wire::OPT_INFO, &info_payload("", &[3])), option(wire::OPT_GO, &info_payload("", &[]))]);
    assert_eq!(ended.negotiated().rules.block_size, None);
}

#[test]
fn an_export_of_odd_size_has_bytes_as_its_unit_and_says_read_only() {
    let ended = haggle(&[option(wire::OPT_GO, &info_payload("shop.old", &[3]))]);
    let items: Vec<Vec<u8>> = ended.replies().into_iter().filter(|r| r.1 == wire::REP_INFO).map(|r| r.2).collect();
    assert_ne!(u16::from_be_bytes([items[0][10], items[0][11]]) & wire::READ_ONLY, 0);
    assert_eq!(items[1][2..6], 1_u32.to_be_bytes());
    let rules = ended.negotiated().rules;
    assert!(rules.read_only && rules.block_size.is_none());
}

#[test]
fn export_name_pads_with_zeroes_only_for_those_who_want_them() {
    for (flags, length) in [(1, 134), (3, 10), (0, 134), (2, 10)] {
        let parts = [client_flags(flags), option(wire::OPT_EXPORT_NAME, b"shop.pg")];
        let ended = haggle_with(&mut Handshake::new(), &parts);
        assert_eq!(ended.out.len(), length, "client flags {flags}");
        assert_eq!(ended.out[..8], SIZE.to_be_bytes());
        assert!(ended.out[10..].iter().all(|byte| *byte == 0));
        assert_eq!(ended.negotiated().rules.block_size, None);
    }
}

#[test]
fn export_name_that_leads_nowhere_ends_the_connection_without_a_word() {
    for name in [&b"nothing"[..], b"\xff\xfe", &[b'a'; 4097]] {
        let ended = haggle(&[option(wire::OPT_EXPORT_NAME, name)]);
        assert!(matches!(ended.end, Err(HandshakeError::ExportName(_))), "{:?}", ended.end);
        assert!(ended.out.is_empty());
    }
}

#[test]
fn a_client_without_the_fixed_flag_can_only_name_an_export() {
    let parts = [client_flags(0), option(wire::OPT_LIST, b"")];
    assert_eq!(haggle_with(&mut Handshake::new(), &parts).end, Err(HandshakeError::NotFixed(wire::OPT_LIST)));
}

#[test]
fn list_names_every_export() {
    let listed = haggle(&[option(wire::OPT_LIST, b"")]).replies();
    assert_eq!(listed[0].2, b"\0\0\0\x07shop.pgthe volume shop.pg");
    assert_eq!(listed[1].2, b"\0\0\0\x08shop.oldthe volume shop.old");
    assert_eq!(listed[2], (wire::OPT_LIST, wire::REP_ACK, vec![]));
    assert_eq!(haggle(&[option(wire::OPT_LIST, b"x")]).verdict().0, wire::REP_ERR_INVALID);
}

#[test]
fn abort_is_acknowledged_whatever_it_carries() {
    for payload in [&b""[..], b"because"] {
        let ended = haggle(&[option(wire::OPT_ABORT, payload)]);
        assert_eq!(ended.verdict().0, wire::REP_ACK);
        assert_eq!(ended.end, Ok(Progress::Aborted));
    }
}

#[test]
fn unknown_options_and_starttls_are_answered_and_haggling_goes_on() {
    for unknown in [4, wire::OPT_STARTTLS, 11, 12, 0, u32::MAX] {
        let ended = haggle(&[option(unknown, b"payload"), option(wire::OPT_GO, &info_payload("shop", &[]))]);
        let first = &ended.replies()[0];
        assert_eq!((first.0, first.1), (unknown, wire::REP_ERR_UNSUP));
        assert!(!first.2.is_empty(), "the refusal explains itself");
        assert_eq!(ended.negotiated().export.name, "shop.pg");
    }
}

#[test]
fn an_unknown_export_and_a_refused_one_are_told_apart() {
    for go in [wire::OPT_GO, wire::OPT_INFO] {
        let (kind, text) = haggle(&[option(go, &info_payload("nothing", &[]))]).verdict();
        assert_eq!((kind, text.as_str()), (wire::REP_ERR_UNKNOWN, "no export is named nothing"));
        assert_eq!(haggle(&[option(go, &info_payload("shop@v1", &[]))]).verdict().0, wire::REP_ERR_POLICY);
    }
}

#[test]
fn malformed_info_and_go_are_invalid_and_harmless() {
    let good = info_payload("shop.pg", &[1, 2, 3]);
    let mut longer = good.clone();
    longer.push(0);
    let mut malformed: Vec<Vec<u8>> = (0..good.len()).map(|cut| good[..cut].to_vec()).collect();
    malformed.push(longer);
    malformed.push([&u32::MAX.to_be_bytes()[..], b"shop"].concat());
    malformed.push(info_payload("shop.pg", &[]).into_iter().rev().collect());
    malformed.push([&2_u32.to_be_bytes()[..], b"\xc3\x28\0\0"].concat());
    for payload in malformed {
        for go in [wire::OPT_GO, wire::OPT_INFO] {
            let ended = haggle(&[option(go, &payload)]);
            assert_eq!(ended.verdict().0, wire::REP_ERR_INVALID, "{payload:?}");
            assert_eq!(ended.end, Ok(Progress::NeedMore));
        }
    }
}

#[test]
fn a_name_longer_than_any_string_is_too_big() {
    let ended = haggle(&[option(wire::OPT_GO, &info_payload(&"a".repeat(4097), &[]))]);
    assert_eq!(ended.verdict().0, wire::REP_ERR_TOO_BIG);
    let ended = haggle(&[option(wire::OPT_GO, &info_payload(&"a".repeat(4096), &[]))]);
    assert_eq!(ended.verdict().0, wire::REP_ERR_UNKNOWN);
}

#[test]
fn an_option_too_long_to_parse_is_skipped_and_one_too_long_to_skip_ends_the_connection() {
    let limit = wire::MAXIMUM_OPTION as usize;
    let go = option(wire::OPT_GO, &info_payload("shop", &[]));
    let ended = haggle(&[option(wire::OPT_LIST, &vec![0; limit + 1]), go.clone()]);
    assert_eq!(ended.replies()[0].1, wire::REP_ERR_TOO_BIG);
    assert!(matches!(ended.end, Ok(Progress::Finished(_))));
    let ended = haggle(&[option(wire::OPT_LIST, &vec![0; limit]), go]);
    assert_eq!(ended.replies()[0].1, wire::REP_ERR_INVALID);
    let mut endless = option(wire::OPT_LIST, b"");
    endless.truncate(12);
    endless.extend_from_slice(&(wire::MAXIMUM_SKIPPED_OPTION + 1).to_be_bytes());
    assert!(matches!(haggle(&[endless]).end, Err(HandshakeError::OptionLength { .. })));
    assert!(matches!(
        haggle(&[option(wire::OPT_EXPORT_NAME, &vec![b'a'; limit + 1])]).end,
        Err(HandshakeError::OptionLength { .. })
    ));
}

#[test]
fn a_bad_option_magic_ends_the_connection() {
    let ended = haggle(&[b"GET / HTTP/1.1\r\n".to_vec()]);
    assert!(matches!(ended.end, Err(HandshakeError::OptionMagic(_))));
}

#[test]
fn allocation_context_is_selected_for_the_export_that_is_then_used() {
    let structured = option(wire::OPT_STRUCTURED_REPLY, b"");
    let select = |name, queries: &[&str]| option(wire::OPT_SET_META_CONTEXT, &meta_payload(name, queries));
    let go = |name| option(wire::OPT_GO, &info_payload(name, &[]));
    let allocation = "base:allocation";

    let ended = haggle(&[structured.clone(), select("shop", &["x-other:y", allocation]), go("shop.pg")]);
    let context = &ended.replies()[1];
    assert_eq!(context.1, wire::REP_META_CONTEXT);
    assert_eq!(context.2, b"\0\0\0\x01base:allocation");
    assert!(ended.negotiated().rules.allocation_context);

    let without: [(&str, Vec<Vec<u8>>); 5] = [
        ("another export", vec![structured.clone(), select("shop.old", &[allocation]), go("shop.pg")]),
        ("a wildcard", vec![structured.clone(), select("shop", &["base:"]), go("shop")]),
        ("no query", vec![structured.clone(), select("shop", &[]), go("shop")]),
        ("replaced", vec![structured.clone(), select("shop", &[allocation]), select("shop", &["x:y"]), go("shop")]),
        ("failed later", vec![structured, select("shop", &[allocation]), select("nothing", &[allocation]), go("shop")]),
    ];
    for (why, options) in without {
        assert!(!haggle(&options).negotiated().rules.allocation_context, "{why}");
    }
}

#[test]
fn contexts_are_listed_by_name_by_wildcard_and_without_a_query() {
    let list = |queries: &[&str]| {
        haggle(&[
            option(wire::OPT_STRUCTURED_REPLY, b""),
            option(wire::OPT_LIST_META_CONTEXT, &meta_payload("shop", queries)),
        ])
        .replies()
        .iter()
        .filter(|reply| reply.1 == wire::REP_META_CONTEXT && reply.2 == b"\0\0\0\0base:allocation")
        .count()
    };
    let found = [&[][..], &["base:"], &["base:allocation"], &["base:other"], &["qemu:"]].map(list);
    assert_eq!(found, [1, 1, 1, 0, 0]);
}

#[test]
fn malformed_context_options_are_refused() {
    let structured = option(wire::OPT_STRUCTURED_REPLY, b"");
    let good = meta_payload("shop.pg", &["base:allocation", "qemu:"]);
    for meta in [wire::OPT_SET_META_CONTEXT, wire::OPT_LIST_META_CONTEXT] {
        assert_eq!(haggle(&[option(meta, &good)]).verdict().0, wire::REP_ERR_INVALID, "without structured replies");
        for cut in 0..good.len() {
            let ended = haggle(&[structured.clone(), option(meta, &good[..cut])]);
            assert_eq!(ended.verdict().0, wire::REP_ERR_INVALID, "cut at {cut}");
        }
        let no_namespace = option(meta, &meta_payload("shop.pg", &["allocation"]));
        assert_eq!(haggle(&[structured.clone(), no_namespace]).verdict().0, wire::REP_ERR_INVALID);
        let mut many = meta_payload("shop.pg", &[]);
        many.truncate(many.len() - 4);
        many.extend_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(haggle(&[structured.clone(), option(meta, &many)]).verdict().0, wire::REP_ERR_INVALID);
    }
    assert_eq!(haggle(&[option(wire::OPT_STRUCTURED_REPLY, b"x")]).verdict().0, wire::REP_ERR_INVALID);
}

#[test]
fn structured_replies_bring_the_dont_fragment_flag() {
    let ended = haggle(&[option(wire::OPT_STRUCTURED_REPLY, b""), option(wire::OPT_EXPORT_NAME, b"shop")]);
    let flags = u16::from_be_bytes([ended.out[28], ended.out[29]]);
    assert_ne!(flags & wire::SEND_DF, 0);
    assert!(ended.negotiated().rules.structured_replies);
}

#[test]
fn a_closed_door_gives_its_reason_to_every_way_in() {
    let close = |machine: &mut Handshake, full: bool| {
        if full { machine.close_as_full("all places are taken") } else { machine.close_as_stopping() }
    };
    for (full, reply, text) in [
        (true, wire::REP_ERR_POLICY, "all places are taken"),
        (false, wire::REP_ERR_SHUTDOWN, "the server is shutting down"),
    ] {
        for way in [wire::OPT_GO, wire::OPT_INFO, wire::OPT_LIST] {
            let payload = if way == wire::OPT_LIST { vec![] } else { info_payload("shop", &[]) };
            let mut machine = Handshake::new();
            close(&mut machine, full);
            let ended = haggle_with(&mut machine, &[client_flags(3), option(way, &payload)]);
            assert_eq!(ended.verdict(), (reply, text.to_owned()));
        }
        let mut machine = Handshake::new();
        close(&mut machine, full);
        let ended = haggle_with(&mut machine, &[client_flags(3), option(wire::OPT_EXPORT_NAME, b"shop")]);
        assert!(matches!(ended.end, Err(HandshakeError::ExportName(_))));
    }
}

#[test]
fn replies_are_handed_out_before_more_options_are_taken() {
    let stream = [vec![client_flags(3)], vec![option(wire::OPT_LIST, b""); 4000]].concat().concat();
    let mut machine = Handshake::new();
    let (mut used, mut acknowledged) = (0, 0);
    while acknowledged < 4000 {
        let mut out = Vec::new();
        let (taken, progress) = machine.advance(&stream[used..], &Shop, &mut out).expect("well-formed");
        assert_eq!(progress, Progress::NeedMore);
        assert!(taken > 0 && out.len() < wire::ENOUGH_REPLIES + 200, "{} bytes at once", out.len());
        used += taken;
        acknowledged += replies(&out).iter().filter(|reply| reply.1 == wire::REP_ACK).count();
    }
}
