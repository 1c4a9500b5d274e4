"""An NBD export as a block device of this very kernel: nbdfuse shows it as a file, a loop device makes it a disk.

Two ways down. `close` is for a living server: everything reaches it, in order. `abandon` is for a dead one: nothing can
be written back any more, so the mount is detached lazily and each layer is waited for until it is gone. Going on while
a loop device still holds pages of the dead connection would let old data surface in the next life of the volume.
"""

import os
import subprocess
from pathlib import Path

from labkit.scene import Failure, need_programs, need_root, wait_until

MAKE = {"ext4": ["mkfs.ext4", "-q", "-F"], "xfs": ["mkfs.xfs", "-q", "-f"], "btrfs": ["mkfs.btrfs", "-q", "-f"]}
CHECK = {"ext4": ["e2fsck", "-f", "-n"], "xfs": ["xfs_repair", "-n"], "btrfs": ["btrfs", "check"]}


class BlockDevice:
    def __init__(self, scene, uri):
        need_root()
        need_programs("nbdfuse", "losetup", "fusermount3")
        self.scene = scene
        self.fuse_dir = Path(os.path.join(scene.dir, f"fuse-{len(list(scene.dir.glob('fuse-*')))}"))
        self.fuse_dir.mkdir()
        self.mounted = None
        self.device = None
        file = self.fuse_dir / "nbd"
        self.nbdfuse = scene.spawn(["nbdfuse", file, uri])
        scene.undo(f"take down {self.fuse_dir}", self.abandon)
        wait_until(lambda: self._file_is_there(file), 20, "nbdfuse to show the export")
        self.device = scene.run(["losetup", "--find", "--show", "--direct-io=on", file]).strip()

    def _file_is_there(self, file):
        if not self.nbdfuse.alive():
            raise Failure(f"nbdfuse ended: {self.nbdfuse.output()}")
        return is_mount(self.fuse_dir) and file.exists() and file.stat().st_size > 0

    def make_filesystem(self, kind):
        self.scene.run(MAKE[kind] + [self.device])

    def check_filesystem(self, kind):
        self.scene.run(CHECK[kind] + [self.device])

    def mount(self, kind, directory, options="defaults"):
        directory = Path(directory)
        directory.mkdir(exist_ok=True)
        self.scene.run(["mount", "-t", kind, "-o", options, self.device, directory])
        if not is_mount(directory):  # never go on: the next command would work on the host's own root
            raise Failure(f"mount of {self.device} said it succeeded but {directory} is no mount point")
        self.mounted = directory
        return directory

    def unmount(self):
        self.scene.run(["umount", self.mounted], seconds=60)
        self.mounted = None

    def close(self):
        """The orderly way: the server is alive and everything is written back."""
        if self.mounted:
            self.unmount()
        self.scene.run(["blockdev", "--flushbufs", self.device])
        self.scene.run(["losetup", "-d", self.device])
        wait_until(lambda: not loop_in_use(self.device), 20, f"{self.device} to be free")
        self.device = None
        self.scene.run(["fusermount3", "-u", self.fuse_dir])
        wait_until(lambda: not self.nbdfuse.alive(), 20, "nbdfuse to leave")

    def abandon(self):
        """The way after the server's death; harmless when there is nothing left to do. Every layer gets its turn."""
        stuck = []
        if self.mounted:
            quietly(["umount", "-l", self.mounted])
            stuck += gone_within(20, lambda: not is_mount(self.mounted), f"{self.mounted} is still mounted")
            self.mounted = None
        if self.device:
            quietly(["losetup", "-d", self.device])
            stuck += gone_within(30, lambda: not loop_in_use(self.device), f"{self.device} is still in use")
            self.device = None
        if is_mount(self.fuse_dir):
            quietly(["fusermount3", "-u", "-z", self.fuse_dir])
        self.nbdfuse.stop(seconds=3)
        stuck += gone_within(10, lambda: not is_mount(self.fuse_dir), f"{self.fuse_dir} is still mounted")
        if stuck:
            raise Failure("; ".join(stuck))


def gone_within(seconds, question, complaint):
    try:
        wait_until(question, seconds, complaint)
        return []
    except Failure as failure:
        return [str(failure)]


def quietly(argv):
    subprocess.run([str(a) for a in argv], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60, check=False)


def is_mount(directory):
    mounts = Path("/proc/self/mounts").read_text(errors="replace")
    return any(line.split(" ")[1] == str(directory) for line in mounts.splitlines())


def loop_in_use(device):
    return Path("/sys/block", Path(device).name, "loop", "backing_file").exists()
