"""nbdcopy brings a file in and out again unchanged: one connection and four, sparse and dense."""

import os

from labkit.data import checksum, random_file
from labkit.scene import expect_equal, need_programs
from labkit.server import start_server

CASES = ["unix", "tcp"]
SIZE = 192 << 20


def run(scene, transport):
    need_programs("nbdcopy")
    server = start_server(scene, {"main": "192M"}, transport=transport)
    source = random_file(scene.path("source"), SIZE)
    with open(source, "r+b") as file:  # a quarter of it zeros, so that the copy sends zero requests too
        file.seek(64 << 20)
        file.write(bytes(48 << 20))
    wanted = checksum(source)
    for connections in (1, 4):
        scene.run(["nbdcopy", "--flush", f"--connections={connections}", source, server.uri()])
        server.restart()
        copy = scene.path(f"copy-{connections}")
        scene.run(["nbdcopy", f"--connections={connections}", server.uri(), copy])
        expect_equal(os.path.getsize(copy), SIZE, "size of the copy")
        expect_equal(checksum(copy), wanted, f"checksum over {connections} connections")
        os.unlink(copy)
