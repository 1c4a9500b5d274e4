"""PostgreSQL with its data on one volume and its log on another, of one dot: every snapshot of the dot is one instant of both.

pgbench keeps the database busy, four sessions insert numbered rows and write down each commit they were told of. Again and again
the dot is snapshotted and the snapshot forked; the fork's two volumes are mounted beside the original, a second PostgreSQL
recovers on them, and then: every commit that was acknowledged before the snapshot began is in it, none that was asked for after
it returned is, pgbench's accounts balance, pg_amcheck finds no damage. The original never stops.
TREERING_LAB_SNAPSHOTS sets how many (10).
"""

import os
import time

from labkit.block_device import BlockDevice
from labkit.postgres import Postgres, Witnesses
from labkit.scene import expect, expect_equal
from labkit.server import start_server

SNAPSHOTS = int(os.environ.get("TREERING_LAB_SNAPSHOTS", "10"))
SECONDS = 90 + 20 * SNAPSHOTS
SUMS = ("SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers), "
        "(SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history)")


def run(scene):
    server = start_server(scene, {"data": "2G", "wal": "1G"}, store_size="32G")
    devices, database = mounted(scene, server, "lab", "original", make=True)
    database.create()
    database.start()
    database.run("pgbench", "-i", "-q", "-s", "2")
    database.sql("CREATE TABLE witness (session int, number int, PRIMARY KEY (session, number)); CREATE EXTENSION amcheck;")
    acknowledged, slowest = {}, 0.0
    load = database.spawn("pgbench", "-n", "-c", "4", "-j", "2", "-T", "3600")
    witnesses = Witnesses(database, acknowledged)
    for number in range(SNAPSHOTS):
        time.sleep(0.5)
        before = dict(acknowledged)
        began = time.monotonic()
        server.verb("snapshot", "create", "lab", "--name", f"n{number}")
        slowest = max(slowest, time.monotonic() - began)
        after = dict(acknowledged)
        server.verb("fork", f"lab@n{number}", f"fork-{number}")
        fork_devices, fork = mounted(scene, server, f"fork-{number}", "fork")
        fork.adopt()
        fork.start()
        verify(fork, before, after, number)
        fork.stop()
        for device in fork_devices:
            device.unmount()
            device.close()
        server.verb("rm", f"fork-{number}", "--yes")
        if number % 2:
            server.verb("snapshot", "rm", f"lab@n{number}", "--yes")
        expect(load.alive(), f"pgbench goes on: {load.output()}")
    witnesses.stop()
    load.stop()
    database.stop()
    for device, kind in zip(devices, ("ext4", "xfs")):
        device.unmount()
        device.check_filesystem(kind)
        device.close()
    server.stop()
    server.check()
    scene.note(f"{SNAPSHOTS} snapshots, {sum(acknowledged.values())} acknowledged commits, slowest command {slowest * 1000:.0f} ms")


def mounted(scene, server, dot, name, make=False):
    """The two volumes of a dot as filesystems, and a PostgreSQL on them."""
    devices = [BlockDevice(scene, server.uri_of(f"{dot}.{volume}")) for volume in ("data", "wal")]
    roots = []
    for device, kind, options, part in zip(devices, ("ext4", "xfs"), ("defaults", "nouuid"), ("data", "wal")):
        if make:
            device.make_filesystem(kind)
        roots.append(device.mount(kind, scene.path(f"{name}-{part}"), options))
    return devices, Postgres(scene, roots[0], wal=roots[1], sockets=f"pg-{name}")


def verify(fork, before, after, number):
    expect(all(before.values()), f"snapshot {number}: the witnesses committed something: {before}")
    for session, last in before.items():
        rows = sorted(map(int, fork.sql(f"SELECT number FROM witness WHERE session = {session}").split()))
        # Rows are numbered from 1 without gaps; the one that was under way when the command returned may be in it.
        expect_equal(rows, list(range(1, len(rows) + 1)), f"snapshot {number}: session {session}: rows without gaps")
        expect(last <= len(rows) <= after[session] + 1,
               f"snapshot {number}: session {session}: {len(rows)} rows; {last} acknowledged before, {after[session]} when it returned")
    totals = fork.sql(SUMS)
    expect_equal(len(set(totals.strip().split("|"))), 1, f"snapshot {number}: the four sums of the bank agree ({totals.strip()})")
    fork.run("pg_amcheck", "--heapallindexed", "--jobs=2")
