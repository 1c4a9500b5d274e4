"""The canary: a server that answers flushes without syncing its disk must fail the power-cut test."""

from labkit.power_cut import PowerCut
from labkit.scene import Failure
from labkit.server import WITHOUT_SYNC, canary_binary, server_kind

SECONDS = 300


def run(scene):
    cut = PowerCut(scene, "device", environment={"TREERING_CANARY": "FlushWithoutSync"}, binary=canary())
    cut.play()
    try:
        cut.verify(points=40)
    except Failure as caught:
        scene.note(f"caught: {str(caught)[:110]}")
        return
    raise Failure("a server that never syncs passed the power-cut test: the test proves nothing")


def canary():
    return WITHOUT_SYNC if server_kind() == "nbdkit" else canary_binary()
