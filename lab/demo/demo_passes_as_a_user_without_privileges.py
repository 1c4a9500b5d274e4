"""`treering demo` (serve, write, kill -9, restart, verify) passes as the user nobody, with no privilege and no leftovers."""

import os
import shutil

from labkit.scene import expect_equal, need_programs, need_root
from labkit.server import server_kind, treering_binary
from labkit.scene import Skip

SECONDS = 180


def run(scene):
    if server_kind() != "treering":
        raise Skip("the stand-in has no demo")
    need_root()
    need_programs("setpriv")
    binary = scene.path("treering")  # the build folder may be closed to nobody
    shutil.copy(treering_binary(), binary)
    home = scene.path("home")
    home.mkdir()
    shutil.chown(home, "nobody", "nogroup")
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home), "TMPDIR": str(home)}
    scene.run(["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--no-new-privs", "--bounding-set=-all",
               binary, "demo"], seconds=150, env=environment, cwd="/")
    expect_equal(os.listdir(home), [], "what the demo left behind")
