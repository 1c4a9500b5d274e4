"""A store on a block device takes in what the device has more, while writers wait for just that.

fio overwrites more than the device holds, until it is held. The device grows under the server, `store grow` says by how much, and
the same fio on the same connections writes to its end and finds every block again. A size can be asked of a file, not of a device.
Everything verifies again after a restart, and the check is clean.
"""

import os

from labkit.scene import expect, need_programs, need_root, wait_until
from labkit.server import start_server

SECONDS = 240

MIB = 1 << 20
FIO = ["fio", "--name=new", "--ioengine=nbd", "--rw=write", "--bs=64k", "--iodepth=32", "--size=640M", "--refill_buffers",
       "--verify=crc32c", "--verify_state_save=0", "--verify_fatal=1"]


def run(scene):
    need_root()
    need_programs("fio", "losetup")
    image = scene.path("disk")
    image.touch()
    os.truncate(image, 512 * MIB)
    device = scene.run(["losetup", "--find", "--show", "--direct-io=on", image]).strip()
    scene.undo(f"free {device}", lambda: scene.run(["losetup", "-d", device]))

    server = start_server(scene, {"main": "1G"}, store=device, store_size=None)
    load = scene.spawn([*FIO, "--do_verify=1", f"--uri={server.uri()}"])
    wait_until(lambda: server.status()["held_writers"] > 0 or not load.alive(), 120, "the store to be full")
    expect(load.alive(), f"fio waits for space: {load.output()}")
    expect("nothing" in server.verb("store", "grow"), "a device that did not grow gives nothing")
    refused = server.verb("store", "grow", "--size", "2G", status=None)
    expect("error:" in refused and device in refused, f"a device has the size that it has: {refused}")

    os.truncate(image, 1536 * MIB)
    scene.run(["losetup", "-c", device])
    said = server.verb("store", "grow", "--json")
    expect(said["to_bytes"] - said["from_bytes"] >= 960 * MIB, f"what the device has more is the store's: {said}")
    expect(server.verb("store", "df", "--json")["store_bytes"] == 1536 * MIB, "df counts the whole device")
    wait_until(lambda: not load.alive(), 120, "fio to write to its end and to find everything", every=0.2)
    expect(load.popen.returncode == 0, f"fio lost nothing: {load.output()}")
    server.restart()
    scene.run([*FIO, "--verify_only", f"--uri={server.uri()}"])
    server.stop()
    server.check()
