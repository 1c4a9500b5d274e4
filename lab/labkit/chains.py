"""Dependent writes by a real client, snapshots meanwhile, and the question whether any of them holds a write without the one that
it followed. See `chain_writer.py` for what is written."""

import json
import os
import sys
from pathlib import Path

from labkit.data import BLOCK
from labkit.scene import Failure, expect, wait_until
from labkit.server import DOT, start_server

DEPTH = 128
DOTS = 4
LAB = Path(__file__).resolve().parents[1]


class Chains:
    """`volumes` volumes in up to four dots, a step's volume always in another dot than the step before; the load is running."""

    def __init__(self, scene, volumes, **server):
        try:
            import nbd  # Debian's python3 has it, others may not
        except ImportError:
            raise Failure("python3 has no module nbd (tools/install-test-needs installs it)") from None
        self.scene, self.nbd = scene, nbd
        dots = min(volumes, DOTS)
        self.dots = [DOT] + [f"{DOT}-{n}" for n in range(1, dots)]
        each = {f"v{n}": "1M" for n in range(volumes // dots)}
        self.server = start_server(scene, each, store_size="24G", **server)
        for dot in self.dots[1:]:
            self.server.verb("init", dot, *[word for name, size in each.items() for word in ("--volume", f"{name}={size}")])
        self.exports = [f"{self.dots[n % dots]}.v{n // dots}" for n in range(volumes)]
        connections = max(1, 8 // volumes)
        argv = [sys.executable, "-B", "-m", "labkit.chain_writer", DEPTH, connections, *map(self.server.uri_of, self.exports)]
        self.load = scene.spawn(argv, cwd=LAB, env=os.environ)
        self.newest = [0] * DEPTH
        self.taken = []
        wait_until(lambda: self.load.output() or not self.load.alive(), 20, "the chains to begin")

    def snapshot(self, name):
        self.server.verb("snapshot", "create", *self.dots, "--name", name)
        self.taken.append(name)

    def forget_snapshots(self):
        """Removes all but the last, whose readers may not have left yet."""
        gone, self.taken = self.taken[:-1], self.taken[-1:]
        if gone:
            self.server.verb("snapshot", "rm", *[f"{dot}@{name}" for dot in self.dots for name in gone], "--yes")

    def verify(self, name):
        """Fails if the snapshot holds a step and lacks one before it, or lacks what an earlier snapshot holds."""
        found = [self._steps(f"{export}@{name}") for export in self.exports]
        for chain in range(DEPTH):
            steps = [of_volume[chain] for of_volume in found]
            newest = max(steps)
            for volume, step in enumerate(steps):
                wanted = max(0, newest - (newest - 1 - volume) % len(steps))
                if step != wanted:
                    raise Failure(f"snapshot {name}: chain {chain}: step {newest} is in {self.exports[(newest - 1) % len(steps)]}, "
                                  f"and {self.exports[volume]} holds step {step} instead of {wanted}")
            expect(newest >= self.newest[chain], f"snapshot {name}: chain {chain} ends at {newest}, an earlier one at {self.newest[chain]}")
        advanced = sum(map(max, zip(*found))) - sum(self.newest)
        self.newest = [max(steps) for steps in zip(*found)]
        return advanced

    def _steps(self, export):
        client = self.nbd.NBD()
        client.connect_uri(self.server.uri_of(export))
        words = memoryview(client.pread(DEPTH * BLOCK, 0)).cast("Q")
        client.shutdown()
        block = BLOCK // 8
        steps, places, ends = (words[at::block].tolist() for at in (0, 1, block - 2))
        torn = [c for c in range(DEPTH) if ends[c] != steps[c] or steps[c] and places[c] != c]
        expect(not torn, f"{export}: blocks {torn[:5]} are torn or belong elsewhere")
        return steps

    def stop(self):
        """Ends the load in order; how many writes were acknowledged."""
        expect(self.load.alive(), f"the chains go on: {self.load.output()}")
        expect(self.load.stop(), "the chains end when asked to")
        return json.loads(self.load.output().splitlines()[-1])["writes"]
