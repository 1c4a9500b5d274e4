"""Each NBD command gives what the protocol promises, also unaligned, at both ends of the volume and past its end."""

import os

from labkit.scene import need_programs
from labkit.server import start_server

CASES = ["unix", "tcp"]

SCRIPT = r"""
import errno, os
h.set_request_block_size(False)  # only clients that ask for block sizes are held to them
h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
h.connect_uri(os.environ['URI'])
size = h.get_size()
FUA, NO_HOLE, FAST = nbd.CMD_FLAG_FUA, nbd.CMD_FLAG_NO_HOLE, nbd.CMD_FLAG_FAST_ZERO

def refused(action, *numbers):
    try: action()
    except nbd.Error as e: assert e.errnum in numbers, (e.errnum, numbers)
    else: raise AssertionError('accepted')

# Write, read back: aligned, one byte, across block borders, first and last byte, 32 MiB at once.
for offset, length in [(0, 512), (0, 4096), (1, 1), (4095, 2), (511, 1026), (size - 1, 1), (size - 4097, 4097), (123457, 70001)]:
    data = os.urandom(length)
    h.pwrite(data, offset)
    assert h.pread(length, offset) == data, (offset, length)
    h.pwrite(data[::-1], offset, FUA)
    assert h.pread(length, offset) == data[::-1], (offset, length)
big = os.urandom(32 << 20)
h.pwrite(big, 1 << 20)
assert h.pread(len(big), 1 << 20) == big
chunks = bytearray(len(big))
def take(piece, offset, status, error):
    chunks[offset - (1 << 20): offset - (1 << 20) + len(piece)] = piece
h.pread_structured(len(big), 1 << 20, take)
assert bytes(chunks) == big
single = []
h.pread_structured(1 << 20, 1 << 20, lambda piece, offset, status, error: single.append((offset, len(piece))), nbd.CMD_FLAG_DF)
assert single == [(1 << 20, 1 << 20)], single
h.flush()

# Trim and zero: what they cover reads as zeros, their neighbours stay.
for action in (lambda l, o: h.trim(l, o), lambda l, o: h.trim(l, o, FUA), lambda l, o: h.zero(l, o), lambda l, o: h.zero(l, o, NO_HOLE),
               lambda l, o: h.zero(l, o, FUA)):
    for offset, length in [(2 << 20, 8192), ((2 << 20) + 1000, 3000), ((2 << 20) + 4095, 2), ((2 << 20) + 5, 100001)]:
        h.pwrite(b'\x55' * 200000, 2 << 20)
        action(length, offset)
        seen = h.pread(200000, 2 << 20)
        start = offset - (2 << 20)
        assert seen[start:start + length] == bytes(length), (offset, length)
        assert set(seen[:start]) <= {0x55} and set(seen[start + length:]) <= {0x55}, (offset, length)
if h.can_fast_zero():
    try: h.zero(1 << 20, 64 << 20, FAST)
    except nbd.Error as e: assert e.errnum == errno.ENOTSUP, e.errnum
h.zero(size, 0)
assert h.pread(4096, 1 << 20) == bytes(4096) and h.pread(1, size - 1) == b'\0'

# Cache and block status.
h.cache(1 << 20, 0)
h.pwrite(b'z' * 65536, 8 << 20)
extents = []
h.block_status(16 << 20, 0, lambda context, offset, entries, error: extents.extend(entries) if context == nbd.CONTEXT_BASE_ALLOCATION else None)
lengths = extents[0::2]
assert sum(lengths) > 0 and all(lengths), extents
one = []
h.block_status(16 << 20, 0, lambda context, offset, entries, error: one.extend(entries), nbd.CMD_FLAG_REQ_ONE)
assert len(one) == 2, one

# Past the end, and nothing else changes by it. libnbd's own checks are off, so that the server's are seen.
h.set_strict_mode(0)
refused(lambda: h.pread(1, size), errno.EINVAL)
refused(lambda: h.pread(4096, size - 4095), errno.EINVAL)
refused(lambda: h.pwrite(b'a', size), errno.ENOSPC, errno.EINVAL)
refused(lambda: h.pwrite(b'a' * 4096, size - 1), errno.ENOSPC, errno.EINVAL)
refused(lambda: h.trim(4096, size), errno.EINVAL, errno.ENOSPC)
refused(lambda: h.zero(4096, size - 1), errno.ENOSPC, errno.EINVAL)
assert h.pread(1, size - 1) == b'\0'
h.flush()
"""


def run(scene, transport):
    need_programs("nbdsh")
    server = start_server(scene, {"main": "160M"}, transport=transport)
    scene.run(["nbdsh", "-c", "-"], input=SCRIPT, env=os.environ | {"URI": server.uri()})
