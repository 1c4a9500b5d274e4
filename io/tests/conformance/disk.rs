//! Files.

use std::io::ErrorKind;
use std::rc::Rc;

use treering_io::{Buffer, Durability, FileOptions};

use crate::stage::{Stage, filled, pattern};

pub fn written_bytes_are_read_back_from_every_kind_of_piece(mut stage: Stage) {
    let file = stage.file("disk", 1 << 20);
    let memory = stage.io.open_shared_memory(&stage.path("memory"), 16384).unwrap();
    let (io, bytes) = (stage.io.clone(), pattern(16384));
    stage.runtime.block_on(async {
        memory.copy_in(4096, &bytes[12288..]);
        let counted = Rc::new(Buffer::from(&bytes[4096..12288]));
        let pieces = vec![Buffer::from(&bytes[..4096]).into(), counted.into(), memory.slice(4096, 4096).into()];
        io.write_at(&file, 65536, pieces, Durability::Volatile).await.unwrap();
        let (read, buffer) = io.read_at(&file, 65536, Buffer::with_len(16384)).await;
        read.unwrap();
        assert!(buffer[..] == bytes[..]);
        io.sync_data(&file).await.unwrap();
    });
}

pub fn durable_write_completes_and_is_read_back(mut stage: Stage) {
    let file = stage.file("disk", 1 << 20);
    let io = stage.io.clone();
    stage.runtime.block_on(async {
        for record in 0..10u64 {
            let pieces = vec![filled(4096, record as u8).into(), filled(8192, 0x40 + record as u8).into()];
            io.write_at(&file, record * 12288, pieces, Durability::Durable).await.unwrap();
        }
        let (read, buffer) = io.read_at(&file, 9 * 12288, Buffer::with_len(12288)).await;
        read.unwrap();
        assert_eq!((buffer[0], buffer[4096], buffer[12287]), (9, 0x49, 0x49));
    });
    if stage.is_simulated() {
        stage.host.host_crash();
        assert_eq!(stage.host.disk_image(&stage.path("disk"))[9 * 12288], 9);
    }
}

pub fn read_past_the_end_is_unexpected_eof(mut stage: Stage) {
    let file = stage.file("disk", 8192);
    let io = stage.io.clone();
    stage.runtime.block_on(async {
        let (result, buffer) = io.read_at(&file, 4096, Buffer::with_len(8192)).await;
        assert_eq!(result.unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert_eq!(buffer.len(), 8192);
        let (result, _) = io.read_at(&file, 1 << 20, Buffer::with_len(4096)).await;
        assert_eq!(result.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    });
}

pub fn file_grows_by_allocation_and_never_shrinks(stage: Stage) {
    let file = stage.file("disk", 8192);
    assert_eq!(file.len().unwrap(), 8192);
    file.allocate(1 << 20, true).unwrap();
    assert_eq!(file.len().unwrap(), 1 << 20);
    file.allocate(4096, true).unwrap();
    file.allocate(4096, false).unwrap();
    assert_eq!(file.len().unwrap(), 1 << 20);
    assert!(!file.has_its_space().unwrap(), "it grew without");
    file.allocate(1 << 20, false).unwrap();
    assert!(file.has_its_space().unwrap());
    assert!(!file.is_block_device());
    assert_eq!(file.path(), stage.path("disk"));
}

pub fn missing_and_existing_files_are_told_apart(stage: Stage) {
    let path = stage.path("disk");
    let missing = stage.io.open_file(&path, &FileOptions::default()).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(missing.to_string().contains("disk"), "{missing}");
    drop(stage.file("disk", 4096));
    let new = FileOptions { create_new: true, write: true, ..FileOptions::default() };
    assert_eq!(stage.io.open_file(&path, &new).unwrap_err().kind(), ErrorKind::AlreadyExists);
}

pub fn lock_held_by_another_handle_is_would_block(stage: Stage) {
    drop(stage.file("disk", 4096));
    let path = stage.path("disk");
    let writer = FileOptions { write: true, lock: true, ..FileOptions::default() };
    let reader = FileOptions { lock: true, ..FileOptions::default() };
    let held = stage.io.open_file(&path, &writer).unwrap();
    for options in [&writer, &reader] {
        assert_eq!(stage.io.open_file(&path, options).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
    stage.io.open_file(&path, &FileOptions::default()).expect("who asks for no lock may look");
    drop(held);
    let one = stage.io.open_file(&path, &reader).unwrap();
    let two = stage.io.open_file(&path, &reader).expect("readers share");
    assert_eq!(stage.io.open_file(&path, &writer).unwrap_err().kind(), ErrorKind::WouldBlock);
    drop((one, two));
    stage.io.open_file(&path, &writer).expect("nobody holds it now");
}

pub fn lock_outlives_the_handle_until_its_operations_end(mut stage: Stage) {
    drop(stage.file("disk", 4 << 20));
    let path = stage.path("disk");
    let writer = FileOptions { write: true, lock: true, ..FileOptions::default() };
    let io = stage.io.clone();
    stage.runtime.block_on(async {
        let file = io.open_file(&path, &writer).unwrap();
        drop(io.write_at(&file, 0, vec![filled(4 << 20, 1).into()], Durability::Volatile));
        drop(file);
        assert_eq!(io.open_file(&path, &writer).unwrap_err().kind(), ErrorKind::WouldBlock);
        while io.open_file(&path, &writer).is_err() {
            io.sleep(std::time::Duration::from_millis(1)).await;
        }
    });
}

pub fn empty_write_and_empty_read_succeed(mut stage: Stage) {
    let file = stage.file("disk", 4096);
    let io = stage.io.clone();
    stage.runtime.block_on(async {
        io.write_at(&file, 0, Vec::new(), Durability::Volatile).await.unwrap();
        io.read_at(&file, 0, Buffer::zeroed(0)).await.0.unwrap();
    });
}
