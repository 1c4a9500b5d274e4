//! The layout tables of the prose chapters: every byte is accounted for, and the structures are as long as the code has them.

use std::fs;

use treering_format::BLOCK_BYTES;
use treering_format::checkpoint::CHECKPOINT_HEADER_BYTES;
use treering_format::node::NODE_REF_BYTES;
use treering_format::record::RECORD_HEADER_BYTES;

use crate::sample;

#[test]
fn layout_tables_have_no_gap_and_end_where_the_structures_do() {
    let dot = sample::dot_entry();
    let volume = sample::volume_entry();
    assert_eq!(tables("superblock.md"), [BLOCK_BYTES, 64, 56, 24]);
    assert_eq!(tables("segment.md"), [BLOCK_BYTES, BLOCK_BYTES]);
    assert_eq!(tables("container.md"), [BLOCK_BYTES, 40, 24]);
    assert_eq!(tables("record.md"), [RECORD_HEADER_BYTES]);
    assert_eq!(tables("checkpoint.md"), [CHECKPOINT_HEADER_BYTES]);
    let version = sample::version_entry();
    let snapshot = sample::snapshot_entry();
    let catalog = [
        dot.encode().len() - dot.name.len(),
        volume.encode().len() - volume.name.len(),
        version.encode().len() - version.name.len(),
        sample::line_entry().encode().len(),
        snapshot.encode().len() - snapshot.name.len(),
    ];
    assert_eq!(tables("catalog.md"), catalog);
    assert_eq!(NODE_REF_BYTES, 24);
}

/// The lengths of the structures whose layout tables a chapter holds.
fn tables(chapter: &str) -> Vec<usize> {
    let text = fs::read_to_string(format!("{}/{chapter}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let mut ends = Vec::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, at, bytes, field, ..] = cells[..] else { continue };
        if at == "at" {
            ends.push(0);
        } else if let (Ok(at), Ok(bytes), Some(end)) = (at.parse::<usize>(), bytes.parse::<usize>(), ends.last_mut()) {
            assert_eq!(at, *end, "{chapter}: {field}");
            *end = at + bytes;
        }
    }
    ends
}
