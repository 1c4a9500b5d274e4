"""The canary: a server that freezes the dots of one snapshot one after another must fail the test of dependent writes."""

from labkit.chains import Chains
from labkit.scene import Failure, Skip
from labkit.server import canary_binary, server_kind

SNAPSHOTS = 100


def run(scene):
    if server_kind() == "nbdkit":
        raise Skip("nbdkit has no snapshots")
    chains = Chains(scene, 8, binary=canary_binary(), environment={"TREERING_CANARY": "CutPerVolume"})
    try:
        for number in range(SNAPSHOTS):
            chains.snapshot(f"n{number}")
            chains.verify(f"n{number}")
    except Failure as caught:
        scene.note(f"caught by snapshot {number}: {str(caught)[:150]}")
        return
    raise Failure("a server that cuts dot by dot passed the test of dependent writes: the test proves nothing")
