//! smoke, to grow
use std::time::Duration;
use treering_io::*;

#[test]
fn smoke() {
    for choice in [BackendChoice::Posix, BackendChoice::Uring] {
        let dir = tempfile::tempdir().unwrap();
        let mut rt = Runtime::new(choice).unwrap();
        let io = rt.io();
        let path = dir.path().join("disk");
        let sock = dir.path().join("sock");
        rt.block_on(async {
            let f = io
                .open_file(&path, &FileOptions { create_new: true, write: true, lock: true, direct: Direct::Auto })
                .unwrap();
            f.allocate(1 << 20, false).unwrap();
            let mut b = Buffer::zeroed(8192);
            b[5000] = 7;
            io.write_at(&f, 4096, vec![b.into()], Durability::Volatile).await.unwrap();
            io.sync_data(&f).await.unwrap();
            let (r, b) = io.read_at(&f, 0, Buffer::with_len(16384)).await;
            r.unwrap();
            assert_eq!(b[9096], 7);
            let l = io.listen_unix(&sock, 0o600).unwrap();
            let io2 = io.clone();
            let t = io.spawn(async move {
                let s = io2.accept(&l).await.unwrap();
                let (n, b) = io2.recv(&s, Buffer::with_len(100), 0).await;
                (n.unwrap(), b, s.peer())
            });
            let c = io.connect_unix(&sock).await.unwrap();
            io.send(&c, vec![Buffer::from(&b"hi"[..]), Buffer::from(&b"ho"[..])]).await.unwrap();
            let (n, b, p) = t.await;
            assert_eq!(&b[..n], b"hiho");
            println!("{p:?} direct={}", f.is_direct());
            io.sleep(Duration::from_millis(3)).await;
            assert!(io.timeout(Duration::from_millis(1), io.terminated()).await.is_none());
        });
    }
}
