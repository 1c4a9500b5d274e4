"""A snapshot with `--ttl 2s` goes by itself, on a served store and after a kill -9; one that is protected or being read stays."""

import time

from labkit.scene import expect, expect_equal, need_programs, wait_until
from labkit.server import start_server

WRITE = ["qemu-io", "-f", "raw", "-c", "write -P 0x5a 1M 4M"]
READ = ["qemu-io", "-f", "raw", "-r", "-c", "read -P 0x5a 1M 4M"]


def run(scene):
    need_programs("qemu-io", "nbdsh")
    server = start_server(scene, {"main": "64M"})
    scene.run([*WRITE, server.uri()])

    def names():
        return {snapshot["name"] for snapshot in server.verb("snapshot", "ls", "lab", "--json")["snapshots"]}

    server.verb("snapshot", "create", "lab", "--name", "for-good")
    began = time.monotonic()
    for name, *more in [("short",), ("protected", "--protect"), ("read",)]:
        server.verb("snapshot", "create", "lab", "--name", name, "--ttl", "2s", *more)
    server.verb("fork", "lab@for-good", "copy", "--ttl", "2s")
    reader = scene.spawn(["nbdsh", "-u", server.uri("main@read"), "-c", "h.pread(4096, 0); import time; time.sleep(600)"])
    expect_equal(names(), {"for-good", "short", "protected", "read"}, "snapshots at first")
    scene.run([*READ, server.uri("main@short")])

    wait_until(lambda: "short" not in names(), 10, "the snapshot to go")
    took = time.monotonic() - began
    expect(took >= 2, f"it lived for its two seconds, not {took:.1f}")
    wait_until(lambda: "copy" not in server.verb("ls"), 10, "the fork to go")
    scene.run(["qemu-io", "-f", "raw", "-r", "-c", "read 0 4k", server.uri("main@short")], status=1)
    time.sleep(2)
    expect_equal(names(), {"for-good", "protected", "read"}, "snapshots that are kept, past their time")
    reader.stop()
    wait_until(lambda: "read" not in names(), 10, "the snapshot to go when nobody reads it any more")
    server.verb("snapshot", "set", "lab@protected", "--protect", "off")
    wait_until(lambda: "protected" not in names(), 10, "the snapshot to go when it is protected no more")

    server.verb("snapshot", "create", "lab", "--name", "outlived", "--ttl", "2s")
    server.kill9()
    time.sleep(2.5)
    server.start()
    wait_until(lambda: names() == {"for-good"}, 10, "what expired while nobody served to go")
    scene.run([*READ, server.uri("main@for-good")])
    server.stop()
    server.check()
