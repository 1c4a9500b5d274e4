"""fio writes blocks that carry their own checksums, trims among them, and finds every one again after a restart.

One connection at queue 32, and four connections on one volume, each on its own quarter.
"""

from labkit.scene import need_programs
from labkit.server import start_server

CASES = ["unix-1", "unix-4", "tcp-1", "tcp-4"]

VERIFY = ["--ioengine=nbd", "--rw=randwrite", "--verify=crc32c", "--verify_state_save=0", "--verify_fatal=1", "--iodepth=32",
          "--bssplit=4k/40:8k/30:512/5:64k/20:1m/5", "--randrepeat=1", "--norandommap=0"]


def run(scene, case):
    need_programs("fio")
    transport, connections = case.split("-")
    server = start_server(scene, {"main": "256M"}, transport=transport)
    jobs = [word for n in range(int(connections))
            for word in (f"--name=part{n}", f"--offset={n * 64}M", f"--size={256 // int(connections)}M")]
    fio(scene, server, jobs, "--do_verify=1", "--fsync=64")
    server.restart()
    fio(scene, server, jobs, "--verify_only")
    # Every block is trimmed and then written, queued; another client trims a neighbouring quarter meanwhile.
    mixed = ["--name=mixed", "--rw=randtrimwrite", "--verify=crc32c", "--verify_state_save=0", "--verify_fatal=1", "--do_verify=1",
             "--serialize_overlap=1", "--offset=0", "--size=48M"]
    trims = ["--name=trims", "--rw=randtrim", "--offset=128M", "--size=64M"]
    scene.run(["fio", "--ioengine=nbd", "--iodepth=32", "--bs=4k", f"--uri={server.uri()}", *mixed, *trims])


def fio(scene, server, jobs, *words):
    scene.run(["fio", *VERIFY, *words, f"--uri={server.uri()}", *jobs])
