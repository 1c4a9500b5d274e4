"""qemu-img converts a qcow2 image in, finds it identical, converts it out, and finds that identical too."""

import json

from labkit.data import random_file
from labkit.scene import expect, expect_equal, need_programs
from labkit.server import start_server

CASES = ["unix", "tcp"]


def run(scene, transport):
    need_programs("qemu-img")
    server = start_server(scene, {"main": "128M"}, transport=transport)
    raw = random_file(scene.path("source.raw"), 96 << 20)
    scene.run(["truncate", "-s", "128M", raw])
    qcow2, back = scene.path("source.qcow2"), scene.path("back.qcow2")
    scene.run(["qemu-img", "convert", "-O", "qcow2", raw, qcow2])
    scene.run(["qemu-img", "convert", "-n", "-O", "raw", "-W", "-m", "8", qcow2, server.uri()])
    expect("identical" in scene.run(["qemu-img", "compare", qcow2, server.uri()]), "qemu-img finds the volume identical")
    server.restart()
    scene.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", server.uri(), back])
    expect("identical" in scene.run(["qemu-img", "compare", raw, back]), "and so it does after a restart and a copy out")
    info = json.loads(scene.run(["qemu-img", "info", "-f", "raw", "--output=json", server.uri()]))
    expect_equal(info["virtual-size"], 128 << 20, "size that qemu-img sees")
