//! Huge pages for shared memory, where the kernel has them.
//!
//! The disk is told of each write to it page by page: with pages of 4 KiB the kernel pins, notes and lets go of 256 for a record of
//! 1 MiB, with huge ones of one or two. A file gets them whatever its file system's mount says, by `madvise(MADV_COLLAPSE)`
//! (Linux 6.1), if it is mapped where a huge page may begin. Only memory that nobody has used is made so: no byte of anybody's is moved.
//! Decision: `docs/decisions/2026-11-30-huge-pages.md`.

use std::fs;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use rustix::fs::FallocateFlags;

/// Linux, `include/uapi/asm-generic/mman-common.h`; not every libc has it.
const MADV_COLLAPSE: libc::c_int = 25;

pub(super) const HUGE_PAGE: usize = 2 << 20;

/// Where huge pages are free, one takes 0.2 ms, and 5 ms where the kernel has to make room. What has none by then does without.
const PATIENCE: Duration = Duration::from_millis(300);

/// Lets a new file have huge pages, as far as that is easy; the rest of it is left as it was. Time is looked at between two pages.
/// `start` is where its `len` bytes are mapped.
pub(super) fn fill(file: &fs::File, start: NonNull<u8>, len: usize) {
    let began = Instant::now();
    for offset in (0..len / HUGE_PAGE).map(|n| n * HUGE_PAGE) {
        // The kernel collapses nothing where there is no page at all.
        let first = rustix::fs::fallocate(file, FallocateFlags::empty(), offset as u64, 1);
        // SAFETY: a part of a live mapping, which this leaves as it is: only the pages beneath change.
        let huge =
            first.is_ok() && unsafe { libc::madvise(start.add(offset).as_ptr().cast(), HUGE_PAGE, MADV_COLLAPSE) } == 0;
        if !huge || began.elapsed() > PATIENCE {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::path::PathBuf;

    use super::*;
    use crate::memory::{existing, open, remove, unfinished};

    const LEN: u64 = 5 << 20 | 4096;

    fn path(name: &str) -> PathBuf {
        PathBuf::from(format!("/dev/shm/treering-io-{name}-{}", std::process::id()))
    }

    fn is_all_there(path: &PathBuf) -> bool {
        fs::metadata(path).expect("it is there").blocks() * 512 >= LEN
    }

    #[test]
    fn a_new_file_is_all_there_and_zero_whatever_pages_it_has() {
        let path = path("new");
        let memory = open(&path, LEN).expect("there is memory");
        assert!(is_all_there(&path));
        let mut bytes = vec![1; LEN as usize];
        memory.copy_out(0, &mut bytes);
        assert!(bytes.iter().all(|b| *b == 0));
        memory.copy_in((HUGE_PAGE - 3) as u64, b"across");
        drop(memory);
        let again = existing(&path).expect("it opens").expect("it is there");
        assert_eq!(again.mapping.start.as_ptr().align_offset(HUGE_PAGE), 0);
        let mut bytes = [0; 6];
        again.copy_out((HUGE_PAGE - 3) as u64, &mut bytes);
        assert_eq!(&bytes, b"across");
        remove(&path).expect("it goes");
    }

    #[test]
    fn a_file_whose_creator_died_half_way_was_never_there() {
        let path = path("half");
        let unfinished = unfinished(&path);
        fs::File::create(&unfinished).and_then(|file| file.set_len(LEN)).expect("a file with no memory");
        assert!(existing(&path).expect("nothing is wrong").is_none());
        open(&path, LEN).expect("there is memory");
        assert!(is_all_there(&path) && !unfinished.exists());
        remove(&path).expect("it goes");
    }
}
