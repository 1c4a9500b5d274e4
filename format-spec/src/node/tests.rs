use proptest::prelude::*;

use super::*;

const HEADER: NodeHeader =
    NodeHeader { kind: TreeKind::Map, level: 0, owner: 7, birth: LogAddress(9 << 16), page: PageIndex(300) };

fn map_leaf() -> Node<Vec<u8>> {
    let checksums: Vec<u8> = [0xaabb_ccdd_u32, 1, 2].iter().flat_map(|c| c.to_le_bytes()).collect();
    let entries = [
        (5, 3, ExtentContent::Raw { checksums: ChecksumList::new(&checksums) }),
        (8, 2, ExtentContent::Lz4 { offset: 1, extent_blocks: 16, stored_blocks: 9, checksum: 77 }),
        (40, u32::MAX, ExtentContent::Hole),
        (1 << 39, 1, ExtentContent::Zero),
    ];
    let mut writer = NodeWriter::default();
    for (key, count, content) in entries {
        let mut value = Vec::new();
        let entry = ExtentEntry { address: LogAddress(3 << 16 | key & 0xff), count, content };
        entry.encode(&mut value);
        assert_eq!(entry.encoded_len(), value.len());
        writer.push(key, &value);
    }
    let mut leaf = writer.finish(vec![0xA5; NODE_BYTES]);
    leaf.set_header(&HEADER);
    leaf
}

fn branch() -> Node<Vec<u8>> {
    let mut writer = NodeWriter::default();
    for key in 0..100u64 {
        let child = NodeRef { page: PageIndex(key + 1), checksum: !key as u32, level: 1, birth: LogAddress(key) };
        writer.push(key * 10, &child.encode());
    }
    let mut branch = writer.finish(vec![0; NODE_BYTES]);
    branch.set_header(&NodeHeader { level: 2, ..HEADER });
    branch
}

/// Sets the checksum right again after `change`, as a liar would.
fn forged(node: &Node<Vec<u8>>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = node.bytes().to_vec();
    change(&mut bytes);
    let checksum = crate::checksum::checksum_without(&bytes, 8);
    bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

#[test]
fn a_page_decodes_to_what_was_written() {
    let leaf = map_leaf();
    let back = Node::decode(leaf.bytes()).expect("own encoding");
    assert_eq!(back.header(), HEADER);
    assert_eq!(back.len(), 4);
    assert_eq!((0..4).map(|i| back.key(i)).collect::<Vec<_>>(), [5, 8, 40, 1 << 39]);
    let ExtentContent::Raw { checksums } = back.extent(0).content else { panic!("the first is raw") };
    assert_eq!(checksums.iter().collect::<Vec<_>>(), [0xaabb_ccdd, 1, 2]);
    assert_eq!([4, 5, 39, 40, u64::MAX].map(|key| back.rank(key)), [0, 1, 2, 3, 4]);

    let back = Node::decode(branch().into_inner()).expect("own encoding");
    assert_eq!(back.child(99).page, PageIndex(100));
    assert_eq!(back.room_used(), 100 * (ENTRY_OVERHEAD_BYTES + NODE_REF_BYTES));
}

#[test]
fn a_branch_is_not_older_than_its_children() {
    let born = |at: u64| forged(&branch(), |bytes| bytes[32..40].copy_from_slice(&at.to_le_bytes()));
    assert!(Node::decode(born(99)).is_ok());
    let error = Node::decode(born(98)).expect_err("the last child is younger").to_string();
    assert!(error.contains("child's birth is 0:99, expected at most 0:98"), "{error}");
}

#[test]
fn a_page_that_moved_has_another_checksum() {
    let leaf = map_leaf();
    let mut moved = leaf.clone();
    moved.set_header(&NodeHeader { page: PageIndex(301), ..HEADER });
    assert_ne!(moved.checksum(), leaf.checksum());
    Node::decode(moved.bytes()).expect("it is a valid page of its own");
}

#[test]
fn every_flipped_bit_is_found() {
    let leaf = map_leaf();
    for bit in 0..8 * NODE_BYTES {
        let mut bytes = leaf.bytes().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(Node::decode(bytes).is_err(), "bit {bit}");
    }
}

#[test]
fn a_page_with_a_right_checksum_and_wrong_content_is_refused_by_name() {
    let refused = |page: &Node<Vec<u8>>, at: usize, value: &[u8]| {
        let bytes = forged(page, |bytes| bytes[at..at + value.len()].copy_from_slice(value));
        Node::decode(bytes).map(|_| ()).expect_err("damage must be found").to_string()
    };
    assert!(refused(&map_leaf(), 12, &[9]).contains("kind is 9"));
    assert!(refused(&map_leaf(), 14, &[0, 0]).contains("count is 0"));
    assert!(refused(&map_leaf(), 14, &[255, 255]).contains("used"));
    assert!(refused(&map_leaf(), 64, &[0, 0]).contains("first offset"));
    assert!(refused(&map_leaf(), 66, &[255, 255]).contains("offset"));
    assert!(refused(&map_leaf(), 72, &[9]).contains("key"));
    assert!(refused(&map_leaf(), 72 + 16, &[200]).contains("shape"));
    assert!(refused(&branch(), 13, &[1]).contains("child's level"));
}

proptest! {
    #[test]
    fn arbitrary_pages_never_panic(
        changes in proptest::collection::vec((0usize..NODE_BYTES, any::<u8>()), 0..40),
        of_branch: bool,
    ) {
        let page = if of_branch { branch() } else { map_leaf() };
        let bytes = forged(&page, |bytes| for (at, value) in changes { bytes[at] = value });
        if let Ok(node) = Node::decode(bytes) {
            for index in 0..node.len() {
                node.rank(node.key(index));
                match (node.level(), node.header().kind) {
                    (0, TreeKind::Map) => drop(node.extent(index)),
                    (0, _) => drop(node.value(index)),
                    _ => drop(node.child(index)),
                }
            }
        }
    }

    #[test]
    fn an_extent_value_decodes_to_itself_or_is_refused(value in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(entry) = ExtentEntry::decode(&value) {
            let mut again = Vec::new();
            entry.encode(&mut again);
            prop_assert_eq!(again, value);
        }
    }
}
