"""A power cut that takes the disk's own cache: after any prefix of what reached the disk, the store opens and everything
acknowledged as flushed before is there. The store on a raw device, and in a file on ext4."""

from labkit.power_cut import PowerCut

CASES = ["device", "file"]
CUTS = {"device": 40, "file": 28}  # a file costs a mount and a journal replay each
SECONDS = 300


def run(scene, where):
    cut = PowerCut(scene, where)
    cut.play()
    cut.verify(points=CUTS[where])
