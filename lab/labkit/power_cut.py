"""A power cut, at the strength that takes the disk's own cache: play in a guest, replay the disk's log on the host.

What must hold for every prefix of the log that ends after a mark: the store opens, and every block holds what the last
operation acknowledged as durable before that mark gave it, or what a later operation gave it. Never something older, never
half of one write.
"""

import random
import shutil
from pathlib import Path

from labkit import data
from labkit.block_device import is_mount
from labkit.guest import Guest
from labkit.log_writes import FLUSH, MARK, WriteLog
from labkit.scene import Failure, expect, need_programs
from labkit.server import DOT, server_class

GUEST_FILES = Path(__file__).resolve().parents[1] / "powercut" / "guest"
DISK_BYTES, LOG_BYTES = 1 << 30, 4 << 30
BLOCKS = 384


class PowerCut:
    def __init__(self, scene, where, environment=None, binary=None):
        need_programs("dmsetup", "modprobe", "nbdsh")
        self.scene, self.where = scene, where
        self.disk, self.log = scene.path("disk.img"), scene.path("log.img")
        self.environment, self.binary = environment or {}, binary

    def play(self):
        """Runs the server and its client in a guest, on a disk that logs what it is told."""
        guest = Guest(self.scene)
        for image, size in ((self.disk, DISK_BYTES), (self.log, LOG_BYTES)):
            with image.open("wb") as file:
                file.truncate(size)
        guest.give(data.__file__, "data.py")
        guest.give(GUEST_FILES / "mark_what_is_durable.py")
        (guest.out / "server.sh").write_text(server_class().guest_script(guest, "64M", self.binary))
        environment = self.environment | {"WHERE": self.where, "EXPORT": f"{DOT}.main",
                                          "TRIM_PROMISE": server_class().trim_promise}
        guest.boot(GUEST_FILES / "serve_on_logged_device.sh", disks=[self.disk, self.log], environment=environment)
        self.operations = [line.split() for line in (guest.out / "journal").read_text().splitlines()]

    def verify(self, points):
        """Replays the log and checks the store at about `points` places; returns how many were checked."""
        log = WriteLog(self.log)
        entries = list(log.entries())
        chosen = choose(entries, points)
        replayed = self.scene.path("replayed.img")
        with replayed.open("wb") as file:
            file.truncate(DISK_BYTES)
        promised = Promised(self.operations)
        with replayed.open("r+b", buffering=0) as device:
            for entry in entries:
                log.apply(entry, device)
                if entry.flags & MARK:
                    promised.advance(entry.mark)
                if entry.number in chosen:
                    self._check_copy(replayed, promised, entry)
        self.scene.note(f"{len(chosen)} cuts in {len(entries)} device writes")
        expect(len(chosen) >= min(points, 20), f"too few places to cut at: {len(chosen)}")
        return len(chosen)

    def _check_copy(self, replayed, promised, entry):
        """Each cut gets a scene of its own on a copy, since opening a store writes to it."""
        stage = type(self.scene)(f"cut at {entry.number}")
        try:
            copy = stage.path("disk.img")
            stage.run(["cp", replayed, copy])  # keeps holes
            store = copy if self.where == "device" else mounted(stage, copy) / "store"
            server = server_class()(stage, {"main": "64M"}, store=store)
            server.start_on(store)
            promised.check(read_blocks(server.uri()))
            server.stop()
        except Failure as failure:
            raise Failure(f"power cut after entry {entry.number} (last mark: {promised.last_mark}): {failure}") from None
        finally:
            problems = stage.close()
            shutil.rmtree(stage.dir, ignore_errors=True) if not problems else None
        expect(not problems, f"teardown of a cut: {problems}")


class Promised:
    """What each block may hold, given the marks passed so far."""

    def __init__(self, operations):
        self.operations = [(int(n), kind, int(first), int(count)) for n, kind, first, count in operations]
        self.durable = [0] * BLOCKS
        self.last_mark = "none"

    def advance(self, mark):
        kind, _, number = mark.partition("-")
        if kind not in ("flush", "fua"):
            return
        self.last_mark = mark
        for n, _, first, count in self.operations:
            if n == int(number) or (kind == "flush" and n < int(number)):
                for block in range(first, first + count):
                    self.durable[block] = max(self.durable[block], n)

    def check(self, blocks):
        allowed = [set() if floor else {0} for floor in self.durable]
        for n, kind, first, count in self.operations:
            for block in range(first, first + count):
                if n >= self.durable[block]:
                    allowed[block].add(0 if kind in ("trim", "zero") else n)
        for index, block in enumerate(blocks):
            try:
                found = data.operation_of(block, index)
            except ValueError as torn:
                raise Failure(str(torn)) from None
            if found not in allowed[index]:
                raise Failure(f"block {index} holds operation {found}, but {self.durable[index]} was acknowledged as durable "
                              f"(0 is zeros; allowed: {sorted(allowed[index])[:6]})")


def choose(entries, points):
    """Marks first (the promise is tightest there), then flushes, then anywhere; none before the server was ready."""
    ready = next(e.number for e in entries if e.mark.startswith("ready"))
    dice = random.Random(4)
    later = entries[ready:]
    kinds = [[e.number for e in later if e.flags & MARK], [e.number for e in later if e.flags & FLUSH],
             [e.number for e in later]]
    chosen = set()
    for numbers, share in zip(kinds, (points // 2, points // 4, points // 4)):
        chosen |= set(dice.sample(numbers, min(share, len(numbers))))
    return chosen


def mounted(stage, image):
    """Mounts a copy of the guest's filesystem; its journal is replayed here, as after any power cut."""
    device = stage.run(["losetup", "--find", "--show", image]).strip()
    stage.undo(f"free {device}", lambda: stage.run(["losetup", "-d", device]))
    directory = stage.path("mnt")
    directory.mkdir()
    stage.run(["mount", "-t", "ext4", device, directory])
    stage.undo(f"unmount {directory}", lambda: stage.run(["umount", directory]))
    if not is_mount(directory):
        raise Failure(f"{directory} is no mount point after mount")
    return directory


def read_blocks(uri):
    import nbd
    client = nbd.NBD()
    client.connect_uri(uri)
    content = bytes(client.pread(BLOCKS * data.BLOCK, 0))
    client.shutdown()
    return [content[n * data.BLOCK:(n + 1) * data.BLOCK] for n in range(BLOCKS)]
