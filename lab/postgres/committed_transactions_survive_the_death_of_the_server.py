"""PostgreSQL on ext4 on a volume: every commit it acknowledged is there after kill -9 of our server, cycle after cycle.

Each cycle: pgbench keeps the database busy, four sessions insert rows and write down each commit they were told of; then
the server is killed, everything above it is taken down as after a crash, and the next life begins: the server recovers,
ext4 replays its journal, PostgreSQL its log. Then every acknowledged row must be there, pgbench's accounts must balance,
and pg_amcheck must find no damage. TREERING_LAB_CYCLES sets how many (20).
"""

import os
import time

from labkit.block_device import BlockDevice
from labkit.postgres import Postgres, Witnesses
from labkit.scene import expect, expect_equal
from labkit.server import start_server

CYCLES = int(os.environ.get("TREERING_LAB_CYCLES", "20"))
SECONDS = 60 + 15 * CYCLES
LOAD_SECONDS = 2.5


def run(scene):
    server = start_server(scene, {"main": "4G"}, store_size="32G")
    device = BlockDevice(scene, server.uri())
    device.make_filesystem("ext4")
    database = Postgres(scene, device.mount("ext4", scene.path("mnt")))
    database.create()
    database.start()
    database.run("pgbench", "-i", "-q", "-s", "4")
    database.sql("CREATE TABLE witness (session int, number int, PRIMARY KEY (session, number)); CREATE EXTENSION amcheck;")
    acknowledged, slowest = {}, 0.0
    for cycle in range(CYCLES):
        began = time.monotonic()
        load = database.spawn("pgbench", "-n", "-c", "4", "-j", "2", "-T", "600")
        witnesses = Witnesses(database, acknowledged)
        time.sleep(LOAD_SECONDS)
        server.kill9()
        witnesses.stop()
        database.kill()
        load.kill9()
        device.abandon()

        server.start()
        device = BlockDevice(scene, server.uri())
        device.mount("ext4", scene.path("mnt"))
        database.start()
        verify(database, acknowledged, cycle)
        slowest = max(slowest, time.monotonic() - began)
    database.stop()
    device.unmount()
    device.check_filesystem("ext4")
    device.close()
    server.stop()
    server.check()
    scene.note(f"{CYCLES} cycles, {sum(acknowledged.values())} acknowledged commits, slowest cycle {slowest:.1f} s")


def verify(database, acknowledged, cycle):
    expect(all(acknowledged.values()), f"cycle {cycle}: the witnesses committed something: {acknowledged}")
    found = dict(map(int, row.split("|")) for row in
                 database.sql("SELECT session, count(*) FROM witness GROUP BY session ORDER BY 1").split())
    for session, last in acknowledged.items():
        # Rows are numbered from 1 without gaps; one commit more than acknowledged may have reached the disk each cycle.
        missing = database.sql(f"SELECT n FROM generate_series(1, {last}) n EXCEPT SELECT number FROM witness WHERE session = {session}")
        expect_equal(missing.split(), [], f"cycle {cycle}: session {session}: lost commits of {last} acknowledged")
        expect(found[session] >= last, f"cycle {cycle}: session {session}: {found[session]} rows, {last} acknowledged")
    totals = database.sql("SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers), "
                          "(SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history)")
    expect_equal(len(set(totals.strip().split("|"))), 1, f"cycle {cycle}: the four sums of the bank agree ({totals.strip()})")
    database.run("pg_amcheck", "--heapallindexed", "--jobs=2")
