"""The kernel's own client (nbd.ko, 1 and 4 connections): ext4 and XFS are made, written, trimmed and check clean; after
a restart of the server a second guest finds every file as the first one left it."""

from pathlib import Path

from labkit.guest import HOST, Guest
from labkit.scene import need_programs
from labkit.server import DOT, start_server

CASES = ["ext4-1", "ext4-4", "xfs-1", "xfs-4"]
SECONDS = 240
SCRIPT = Path(__file__).parent / "guest" / "filesystem_on_nbd.sh"


def run(scene, case):
    filesystem, connections = case.split("-")
    need_programs("nbd-client", "ip", "modprobe")
    guest = Guest(scene)
    server = start_server(scene, {"main": "1G"}, transport="tcp", address=HOST, port=10809, namespace=guest.namespace)
    for number, step in enumerate(["write", "verify"]):
        if number:
            server.restart()
        guest.boot(SCRIPT, [filesystem, f"{DOT}.main", server.port, connections, step])
