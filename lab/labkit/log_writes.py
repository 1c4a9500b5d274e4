"""Reads the log of the kernel's dm-log-writes target and replays any prefix of it.

The target keeps what a power cut needs to know: a write enters its log only once a flush (or its own FUA) made it durable,
in front of that flush; marks set from user space stand between. So the device as the log's first N entries left it is a
state that the disk may have had after losing power.

The log: a superblock, then one sector per entry, followed by the entry's data. All numbers are little-endian 64 bits.
"""

import struct
from dataclasses import dataclass

MAGIC = 0x6A736677736872
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8


@dataclass
class Entry:
    number: int
    sector: int
    sectors: int
    flags: int
    data_at: int
    mark: str


class WriteLog:
    def __init__(self, path):
        self.file = open(path, "rb")
        magic, version, self.count, self.sector_size = struct.unpack("<QQQI", self.file.read(28))
        if (magic, version) != (MAGIC, 1):
            raise ValueError(f"{path} is no dm-log-writes log: magic {magic:#x}, version {version}")

    def entries(self):
        position = self.sector_size
        for number in range(self.count):
            self.file.seek(position)
            head = self.file.read(self.sector_size)
            sector, sectors, flags, inline = struct.unpack_from("<QQQQ", head)
            mark = head[32:32 + inline].split(b"\0")[0].decode() if flags & MARK else ""
            position += self.sector_size
            yield Entry(number, sector, sectors, flags, position, mark)
            if not flags & (DISCARD | MARK):
                position += sectors * self.sector_size

    def apply(self, entry, device):
        """Does to `device` (a file open for writing) what the entry did to the disk."""
        if entry.flags & MARK or not entry.sectors:
            return
        length = entry.sectors * self.sector_size
        device.seek(entry.sector * self.sector_size)
        if entry.flags & DISCARD:
            data = bytes(length)
        else:
            self.file.seek(entry.data_at)
            data = self.file.read(length)
            if len(data) != length:
                raise ValueError(f"entry {entry.number}: the log ends in the middle of its data")
        device.write(data)
