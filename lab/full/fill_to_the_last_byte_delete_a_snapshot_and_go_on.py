"""A store is filled to the last byte, a snapshot is deleted, and the writers go on; nothing was lost.

Old data is held by a snapshot, and fio overwrites it and more until nothing fits. With `hold` (the default) fio just waits: reads
by others and block status are answered meanwhile, what makes something is refused, status shows who waits. Then the snapshot goes,
and the same fio on the same connections writes to its end and finds every block again. With `error` fio is told ENOSPC, and
succeeds when it is run again after the deletion. Afterwards everything verifies, also after a restart, and the check is clean.
"""

from labkit.scene import Failure, expect, need_programs, wait_until
from labkit.server import start_server

CASES = ["hold", "error"]
SECONDS = 240

VERIFY = ["--ioengine=nbd", "--bs=64k", "--verify=crc32c", "--verify_state_save=0", "--verify_fatal=1", "--refill_buffers"]
OLD = ["--name=old", "--rw=write", "--iodepth=16", "--size=384M"]
NEW = ["--name=new", "--rw=write", "--iodepth=32", "--size=640M"]
PATTERN_AT = "1500M"


def run(scene, policy):
    need_programs("fio", "nbdinfo", "qemu-io")
    arguments = [] if policy == "hold" else ["--full", "error"]
    server = start_server(scene, {"main": "1600M"}, store_size="1G", arguments=arguments)
    scene.run(["qemu-io", "-f", "raw", "-c", f"write -P 0x5a {PATTERN_AT} 4M", "-c", "flush", server.uri()])
    scene.run(["fio", *VERIFY, *OLD, "--do_verify=1", f"--uri={server.uri()}"])
    server.verb("snapshot", "create", "lab", "--name", "old")

    load = scene.spawn(["fio", *VERIFY, *NEW, "--do_verify=1", f"--uri={server.uri()}"])
    if policy == "hold":
        wait_until(lambda: server.status()["held_writers"] > 0 or not load.alive(), 120, "the store to be full")
        expect(load.alive(), f"fio waits for space: {load.output()}")
        wait_until(lambda: is_still(server) and is_full(server), 60, "everybody to wait, and what may be written to be used up", every=1)
    else:
        wait_until(lambda: not load.alive(), 120, "fio to be told that the store is full")
        expect("No space left" in load.output(), f"fio is told why: {load.output()}")
        expect(is_full(server), f"what may be written is used up: {server.verb('store', 'df')}")

    scene.run(["qemu-io", "-f", "raw", "-r", "-c", f"read -P 0x5a {PATTERN_AT} 4M", server.uri()])
    scene.run(["qemu-io", "-f", "raw", "-r", "-c", "read 0 4M", server.uri("main@old")])
    scene.run(["nbdinfo", "--map", "--totals", server.uri()])
    made = snapshots_until_refused(server)
    server.verb("init", "another", "--size", "1M", status=6)
    for name in [*made, "old"]:
        server.verb("snapshot", "rm", f"lab@{name}", "--yes")

    if policy == "error":
        wait_until(lambda: not is_full(server), 60, "the snapshot's space to come back", every=0.5)
        load = scene.spawn(["fio", *VERIFY, *NEW, "--do_verify=1", f"--uri={server.uri()}"])
    wait_until(lambda: not load.alive(), 120, "fio to write to its end and to find everything", every=0.2)
    expect(load.popen.returncode == 0, f"fio lost nothing: {load.output()}")
    expect(server.status()["held_writers"] == 0, "nobody waits any more")
    server.restart()
    scene.run(["fio", *VERIFY, *NEW, "--verify_only", f"--uri={server.uri()}"])
    scene.run(["qemu-io", "-f", "raw", "-r", "-c", f"read -P 0x5a {PATTERN_AT} 4M", server.uri()])
    server.stop()
    server.check()


def snapshots_until_refused(server):
    """A snapshot takes less than the write that is held: the last bytes go to them."""
    made = []
    for name in (f"more-{i}" for i in range(500)):
        said = server.verb("snapshot", "create", "lab", "--name", name, status=None)
        if "error:" in said:
            expect("the store is full" in said, f"a snapshot is refused for space: {said}")
            return made
        made.append(name)
    raise Failure("500 snapshots were made of a store that is full")


def is_full(server):
    return server.verb("store", "df", "--json")["writable_bytes"] < 1 << 20


def is_still(server):
    """Nothing was published for a second, and somebody waits."""
    status = server.status()
    before = getattr(server, "seen_published", None)
    server.seen_published = status["log"]["published"]
    return status["held_writers"] > 0 and before == server.seen_published
