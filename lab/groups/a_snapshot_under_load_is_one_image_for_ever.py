"""A snapshot taken under load reads the same for ever, for every program, and a fork of it begins with the same bytes.

fio overwrites the volume at queue 32 while a snapshot is made, and goes on. Then the snapshot is copied out twice, with writes in
between: both copies are equal, and equal to a fresh fork. nbdinfo says that it is read-only, qemu-io cannot write to it.
It is the same after kill -9 of the server. And it holds what was there: a pattern written before is found in it, and only there.
"""

import os

from labkit.data import checksum
from labkit.scene import expect, expect_equal, need_programs, wait_until
from labkit.server import start_server

CASES = ["unix", "tcp"]
SECONDS = 180
PATTERN = ["-c", "write -P 0x5a 96M 4M", "-c", "flush"]


def run(scene, transport):
    need_programs("fio", "nbdcopy", "nbdinfo", "qemu-io", "qemu-img")
    server = start_server(scene, {"main": "128M"}, transport=transport)
    scene.run(["qemu-io", "-f", "raw", *PATTERN, server.uri()])
    load = scene.spawn(["fio", "--ioengine=nbd", "--name=load", "--rw=randwrite", "--bsrange=4k-64k", "--iodepth=32", "--size=96M",
                        "--time_based", "--runtime=600", f"--uri={server.uri()}"])
    wait_for_writes(server, 1000)
    server.verb("snapshot", "create", "lab", "--name", "early")
    scene.run(["nbdcopy", server.uri("main@early"), scene.path("first")])
    wait_for_writes(server, 1000)
    made = server.verb("snapshot", "create", "lab", "--name", "late", "--json")
    expect(load.alive(), f"the load goes on: {load.output()}")
    scene.run(["nbdcopy", "--connections=4", server.uri("main@early"), scene.path("second")])
    load.stop()
    scene.run(["qemu-io", "-f", "raw", "-c", "write -P 0xa5 96M 4M", server.uri()])

    wanted = checksum(scene.path("first"))
    expect_equal(checksum(scene.path("second")), wanted, "checksum of the second copy")
    expect(checksum_of(scene, server.uri("main@late")) != wanted, "the later snapshot holds what the load wrote meanwhile")
    expect_equal(checksum_of(scene, server.uri(f"main@{made['snapshots'][0]['id'][:12]}")), checksum_of(scene, server.uri("main@late")),
                 "checksum under its id")
    scene.run(["nbdinfo", "--is", "readonly", server.uri("main@early")])
    scene.run(["nbdinfo", "--can", "multi-conn", server.uri("main@early")])
    scene.run(["qemu-io", "-f", "raw", "-r", "-c", "read -P 0x5a 96M 4M", server.uri("main@early")])
    scene.run(["qemu-io", "-f", "raw", "-c", "write -P 1 0 4k", server.uri("main@early")], status=1)
    scene.run(["qemu-io", "-f", "raw", "-c", "read -P 0xa5 96M 4M", server.uri()])

    server.kill9()
    server.start()
    expect_equal(checksum_of(scene, server.uri("main@early")), wanted, "checksum after kill -9 of the server")
    server.verb("fork", "lab@early", "copy")
    expect_equal(checksum_of(scene, server.uri_of("copy.main")), wanted, "checksum of the fork")
    server.verb("snapshot", "rm", "lab@early", "--yes")
    scene.run(["qemu-img", "compare", "-f", "raw", "-F", "raw", scene.path("first"), server.uri_of("copy.main")])
    server.stop()
    server.check()


def wait_for_writes(server, more):
    def writes():
        return server.verb("status", "--json")["requests"]["writes"]

    before = writes()
    wait_until(lambda: writes() >= before + more, 30, f"the load to make {more} more writes", every=0.2)


def checksum_of(scene, uri):
    copy = scene.path("copy")
    scene.run(["nbdcopy", uri, copy])
    found = checksum(copy)
    os.unlink(copy)
    return found
