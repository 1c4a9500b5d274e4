"""nbdinfo --map shows a new volume as one hole, written ranges as data, and trimmed ranges as holes again."""

import json

from labkit.scene import expect, expect_equal, need_programs
from labkit.server import start_server

MIB = 1 << 20


def run(scene):
    need_programs("nbdinfo", "nbdsh")
    server = start_server(scene, {"main": "256M"})
    expect_equal(allocated(scene, server), [], "data in a new volume")
    shell(scene, server, f"h.pwrite(b'x' * {MIB}, {16 * MIB}); h.pwrite(b'y' * {MIB}, {64 * MIB}); h.flush()")
    expect_equal(allocated(scene, server), [(16 * MIB, MIB), (64 * MIB, MIB)], "data after two writes")
    shell(scene, server, f"h.trim({MIB}, {16 * MIB}); h.zero({MIB // 2}, {64 * MIB})")
    left = allocated(scene, server)
    expect(not any(start < 17 * MIB for start, _ in left), f"the trimmed range is a hole again, found {left}")
    expect((64 * MIB + MIB // 2, MIB // 2) in left, f"the second half of the second write is still data, found {left}")
    totals = scene.run(["nbdinfo", "--map", "--totals", server.uri()])
    expect("%" in totals, "nbdinfo --map --totals answers")


def allocated(scene, server):
    """Runs of data (not zeros) as (offset, length), adjacent ones joined."""
    runs = []
    for extent in json.loads(scene.run(["nbdinfo", "--map", "--json", server.uri()])):
        if extent["type"] & 2:
            continue
        start, length = extent["offset"], extent["length"]
        if runs and sum(runs[-1]) == start:
            start, length = runs[-1][0], runs[-1][1] + length
            runs.pop()
        runs.append((start, length))
    return runs


def shell(scene, server, code):
    scene.run(["nbdsh", "-u", server.uri(), "-c", code])
