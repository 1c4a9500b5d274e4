//! Where a promise is tried: a runtime of one kind, with a place for its files.

use std::path::PathBuf;

use treering_io::sim::Host;
use treering_io::{BackendChoice, Buffer, Direct, File, FileOptions, Io, Runtime};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Uring,
    Posix,
    Simulator,
}

pub struct Stage {
    pub kind: Kind,
    pub runtime: Runtime,
    pub io: Io,
    pub host: Host,
    directory: tempfile::TempDir,
}

impl Stage {
    /// None, said aloud, if this host can't run that back end.
    pub fn new(kind: Kind, promise: &str) -> Option<Stage> {
        let host = Host::new(0x7ee);
        let runtime = match Stage::runtime(kind, &host) {
            Ok(runtime) => runtime,
            Err(error) => {
                println!("1 skipped: {promise} on {kind:?}: {error}");
                return None;
            }
        };
        let directory = tempfile::tempdir().expect("a directory for the test");
        Some(Stage { kind, io: runtime.io(), runtime, host, directory })
    }

    fn runtime(kind: Kind, host: &Host) -> std::io::Result<Runtime> {
        match kind {
            Kind::Uring => Runtime::new(BackendChoice::Uring),
            Kind::Posix => Runtime::new(BackendChoice::Posix),
            Kind::Simulator => Ok(host.runtime()),
        }
    }

    /// The next process on the same machine.
    pub fn restart(self) -> Stage {
        let Stage { kind, runtime, io, host, directory } = self;
        drop(io);
        drop(runtime);
        let runtime = Stage::runtime(kind, &host).expect("it ran before");
        Stage { kind, io: runtime.io(), runtime, host, directory }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn is_simulated(&self) -> bool {
        self.kind == Kind::Simulator
    }

    /// A new file of `len` zero bytes.
    pub fn file(&self, name: &str, len: u64) -> File {
        let options = FileOptions { create_new: true, write: true, lock: false, direct: Direct::Auto };
        let file = self.io.open_file(&self.path(name), &options).expect("the file can be created");
        file.allocate(len, false).expect("there is room");
        file
    }
}

pub fn filled(len: usize, byte: u8) -> Buffer {
    let mut buffer = Buffer::with_len(len);
    buffer.fill(byte);
    buffer
}

/// Bytes that differ from place to place.
pub fn pattern(len: usize) -> Buffer {
    let mut buffer = Buffer::with_len(len);
    for (place, byte) in buffer.iter_mut().enumerate() {
        *byte = (place * 31 + place / 251) as u8;
    }
    buffer
}
