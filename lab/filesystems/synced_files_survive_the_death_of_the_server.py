"""ext4 and XFS: files that were fsynced are whole after kill -9 of the server; the filesystem recovers and checks clean."""

import os

from labkit.block_device import BlockDevice
from labkit.data import checksum, random_file
from labkit.scene import expect_equal
from labkit.server import start_server

CASES = ["ext4", "xfs"]


def run(scene, kind):
    server = start_server(scene, {"main": "1G"})
    device = BlockDevice(scene, server.uri())
    device.make_filesystem(kind)
    root = device.mount(kind, scene.path("mnt"))
    wanted = {}
    for n in range(40):
        path = random_file(root / f"synced-{n}", 1 << 20)
        synced(path)
        wanted[path.name] = checksum(path)
    synced(root)
    random_file(root / "not-synced", 32 << 20)

    server.kill9()
    device.abandon()
    server.start()

    device = BlockDevice(scene, server.uri())
    root = device.mount(kind, scene.path("mnt"))  # the filesystem replays its own journal here
    for name, digest in wanted.items():
        expect_equal(checksum(root / name), digest, f"checksum of {name}")
    device.unmount()
    device.check_filesystem(kind)
    device.close()


def synced(path):
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
