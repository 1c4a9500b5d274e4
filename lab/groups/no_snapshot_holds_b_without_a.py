"""Writes that wait for one another across 2, 8 and 32 volumes: no snapshot holds B without A.

128 chains at once through a real client on several connections: each write is sent after the one before it was acknowledged, to
another volume in another dot. Meanwhile one command after another freezes all dots, and each snapshot's exports are read: of every
chain it must hold the writes up to some number, whole, and none behind it; and never fewer than an earlier snapshot.
500 snapshots in all; `--snapshots N` or TREERING_LAB_SNAPSHOTS sets another number.
"""

import os
import time

from labkit.chains import Chains
from labkit.scene import expect

SNAPSHOTS = int(os.environ.get("TREERING_LAB_SNAPSHOTS", "500"))
CASES = [2, 8, 32]
EACH = -(-SNAPSHOTS // len(CASES))
SECONDS = 60 + EACH
KEPT = 50


def run(scene, volumes):
    chains = Chains(scene, volumes)
    idle = 0
    began = time.monotonic()
    for number in range(EACH):
        chains.snapshot(f"n{number}")
        idle += chains.verify(f"n{number}") == 0
        if number % KEPT == KEPT - 1:
            chains.forget_snapshots()
    took = time.monotonic() - began
    writes = chains.stop()
    expect(idle <= EACH // 10, f"in {idle} of {EACH} snapshots nothing was new: there was no load")
    chains.server.stop()
    chains.server.check()
    scene.note(f"{EACH} snapshots, {EACH / took:.0f}/s, of {writes} writes, {writes / took:.0f}/s")
