"""The canary: a server that answers flushes without syncing its disk must fail the power-cut test."""

import os
from pathlib import Path

from labkit.power_cut import PowerCut
from labkit.scene import PROJECT, Failure
from labkit.server import WITHOUT_SYNC, server_kind

SECONDS = 300


def run(scene):
    cut = PowerCut(scene, "device", environment={"TREERING_CANARY_NO_SYNC": "1"}, binary=canary())
    cut.play()
    try:
        cut.verify(points=40)
    except Failure as caught:
        scene.note(f"caught: {str(caught)[:110]}")
        return
    raise Failure("a server that never syncs passed the power-cut test: the test proves nothing")


def canary():
    if server_kind() == "nbdkit":
        return WITHOUT_SYNC
    binary = Path(os.environ.get("TREERING_CANARY_BIN", PROJECT / "target" / "canary" / "treering"))
    if not binary.exists():
        raise Failure(f"no canary at {binary} (cargo xtask real powercut builds it)")
    return binary
