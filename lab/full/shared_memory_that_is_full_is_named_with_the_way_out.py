"""A server that finds no room in shared memory for what it acknowledges says so, leaves nothing there, and runs with less.

A tmpfs of 64 MiB, what containers get by default: too small for the usual arena, enough for the smallest."""

from labkit.scene import Skip, expect, expect_equal, need_programs, need_root
from labkit.server import server_class, server_kind

SECONDS = 60


def run(scene):
    need_root()
    need_programs("qemu-io")
    if server_kind() != "treering":
        raise Skip("a server without shared memory")
    memory = scene.path("memory")
    memory.mkdir()
    scene.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", memory])
    scene.undo("unmount the small memory", lambda: scene.run(["umount", memory]))
    server = server_class()(scene, {"main": "64M"})
    server.create()
    said = server.command("--store", server.store, "serve", "--arena-dir", memory, "--socket", server.socket, status=6)
    for words in (f"making the shared memory {memory}/treering-", "No space left on device", "\nfix: treering serve --memory floor"):
        expect(words in said, f"the refusal says {words!r}: {said}")
    expect_equal(list(memory.iterdir()), [], "what is left in the small memory")
    server.arguments = ["--arena-dir", str(memory), "--memory", "floor"]
    server.start()
    scene.run(["qemu-io", "-f", "raw", server.uri(), "-c", "write -P 7 0 1M", "-c", "flush", "-c", "read -P 7 0 1M"])
    server.stop()
