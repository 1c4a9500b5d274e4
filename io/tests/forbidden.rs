//! A host that forbids io_uring, as many containers do: made by a filter of system calls around one thread.

use treering_io::{BackendChoice, Buffer, Durability, FileOptions, Runtime};

#[test]
fn where_io_uring_is_forbidden_auto_is_posix_and_says_why() {
    let forbidden = std::thread::spawn(|| {
        forbid_io_uring();
        let refused = Runtime::new(BackendChoice::Uring).map(drop).expect_err("the filter forbids it");
        assert!(refused.to_string().contains("kernel.io_uring_disabled"), "{refused}");
        let mut runtime = Runtime::new(BackendChoice::Auto).expect("posix runs everywhere");
        assert_eq!(runtime.fallback_reason(), Some(refused.to_string().as_str()));
        let io = runtime.io();
        assert_eq!(io.backend(), "posix");
        let directory = tempfile::tempdir().unwrap();
        let options = FileOptions { create_new: true, write: true, ..FileOptions::default() };
        let file = io.open_file(&directory.path().join("disk"), &options).unwrap();
        runtime.block_on(async {
            io.write_at(&file, 0, vec![Buffer::zeroed(4096).into()], Durability::Durable).await.unwrap();
            io.read_at(&file, 0, Buffer::zeroed(4096)).await.0.unwrap();
        });
    });
    forbidden.join().unwrap();
}

/// From now on io_uring_setup answers EPERM in this thread and those it starts.
fn forbid_io_uring() {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let mut filter = [
        // The number of the system call is the first word of what a filter sees.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        libc::sock_filter {
            code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
            jt: 0,
            jf: 1,
            k: libc::SYS_io_uring_setup as u32,
        },
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: `program` and the filter it names are alive during the calls, and the kernel copies them.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
    }
}
