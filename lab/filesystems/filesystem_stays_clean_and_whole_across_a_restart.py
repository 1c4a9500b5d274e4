"""ext4 and XFS on a volume: make, mount, write, trim, check clean; after a server restart every file is as written."""

from labkit.block_device import BlockDevice
from labkit.data import checksum, random_file
from labkit.scene import expect, expect_equal
from labkit.server import start_server

CASES = ["ext4", "xfs"]


def run(scene, kind):
    server = start_server(scene, {"main": "1G"})
    device = BlockDevice(scene, server.uri())
    device.make_filesystem(kind)
    root = device.mount(kind, scene.path("mnt"))
    written = fill(root)
    (root / "thrown-away").unlink()
    expect("trimmed" in scene.run(["fstrim", "-v", root]), "fstrim is understood")
    device.unmount()
    device.check_filesystem(kind)
    device.close()

    server.restart()
    device = BlockDevice(scene, server.uri())
    device.check_filesystem(kind)
    root = device.mount(kind, scene.path("mnt"))
    for name, wanted in written.items():
        expect_equal(checksum(root / name), wanted, f"checksum of {name}")
    device.close()
    server.stop()
    server.check()


def fill(root):
    """A large file, many small ones, and one to be deleted; returns the checksums of those that stay."""
    random_file(root / "large", 96 << 20)
    random_file(root / "thrown-away", 96 << 20)
    (root / "small").mkdir()
    for n in range(500):
        random_file(root / "small" / str(n), n * 37)
    return {str(f.relative_to(root)): checksum(f) for f in [root / "large", *sorted((root / "small").iterdir())]}
