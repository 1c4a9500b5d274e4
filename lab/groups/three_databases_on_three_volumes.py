"""PostgreSQL, Redis and SQLite on three volumes of one dot: every snapshot of the dot is one instant of all three.

Four clients count up: each commits n to PostgreSQL, and when that is acknowledged, to Redis (which syncs its log each time), and then
to SQLite; only then comes n + 1. pgbench and redis-benchmark keep the databases busy beside. Again and again the dot is snapshotted
and the snapshot forked; the fork's three volumes are mounted, three databases recover on them, and for each client what PostgreSQL
holds is what Redis holds or one more, and that is what SQLite holds or one more, and PostgreSQL is at most one ahead of SQLite;
nothing acknowledged before the command is missing, and nothing is there that was begun after it.
TREERING_LAB_SNAPSHOTS or `--snapshots` sets how many (10).
"""

import os
import sqlite3
import time

from labkit.block_device import BlockDevice
from labkit.postgres import Postgres, Witnesses
from labkit.redis import Redis
from labkit.scene import expect, expect_equal
from labkit.server import start_server

SNAPSHOTS = int(os.environ.get("TREERING_LAB_SNAPSHOTS", "10"))
SECONDS = 90 + 20 * SNAPSHOTS
VOLUMES = {"pg": ("1G", "ext4", "defaults"), "redis": ("512M", "xfs", "nouuid"), "sqlite": ("512M", "ext4", "defaults")}
CLIENTS = 4


def run(scene):
    server = start_server(scene, {name: size for name, (size, *_) in VOLUMES.items()}, store_size="32G")
    original = Databases(scene, server, "lab", "original")
    original.create()
    acknowledged = {}
    loads = [original.postgres.spawn("pgbench", "-n", "-c", "2", "-T", "36000"), original.redis.load()]
    witnesses = Witnesses(original.postgres, acknowledged, CLIENTS, original.count_in_the_others())
    for number in range(SNAPSHOTS):
        time.sleep(0.5)
        before = dict(acknowledged)
        server.verb("snapshot", "create", "lab", "--name", f"n{number}")
        after = dict(acknowledged)
        server.verb("fork", f"lab@n{number}", f"fork-{number}")
        fork = Databases(scene, server, f"fork-{number}", "fork")
        fork.recover()
        fork.verify(before, after, f"snapshot {number}")
        fork.close()
        server.verb("rm", f"fork-{number}", "--yes")
        if number % 2:
            server.verb("snapshot", "rm", f"lab@n{number}", "--yes")
        for load in loads:
            expect(load.alive(), f"the load goes on: {load.output()}")
    witnesses.stop()
    for load in loads:
        load.stop()
    original.close()
    server.stop()
    server.check()
    scene.note(f"{SNAPSHOTS} snapshots, {sum(acknowledged.values())} rounds through three databases")


class Databases:
    def __init__(self, scene, server, dot, name):
        make = name == "original"
        self.devices, folders = [], {}
        for volume, (_, kind, options) in VOLUMES.items():
            device = BlockDevice(scene, server.uri_of(f"{dot}.{volume}"))
            if make:
                device.make_filesystem(kind)
            folders[volume] = device.mount(kind, scene.path(f"{name}-{volume}"), options)
            self.devices.append(device)
        self.postgres = Postgres(scene, folders["pg"], sockets=f"pg-{name}")
        self.redis = Redis(scene, folders["redis"], name)
        self.sqlite = folders["sqlite"] / "counts.db"
        self.open = []

    def create(self):
        self.postgres.create()
        self.postgres.start()
        self.postgres.run("pgbench", "-i", "-q", "-s", "1")
        self.postgres.sql("CREATE TABLE witness (session int, number int, PRIMARY KEY (session, number))")
        self.redis.start()
        lite = self.open_sqlite()
        lite.execute("PRAGMA journal_mode=WAL")
        lite.execute("CREATE TABLE witness (session int, number int, PRIMARY KEY (session, number))")

    def count_in_the_others(self):
        ours = [(self.redis.connect(), self.open_sqlite()) for _ in range(CLIENTS)]

        def then(session, number):
            redis, lite = ours[session]
            redis.ask("SET", f"witness:{session}", number)
            lite.execute("INSERT INTO witness VALUES (?, ?)", (session, number))

        return then

    def open_sqlite(self):
        lite = sqlite3.connect(self.sqlite, timeout=60, isolation_level=None, check_same_thread=False)
        lite.execute("PRAGMA synchronous=FULL")
        self.open.append(lite)
        return lite

    def recover(self):
        self.postgres.adopt()
        self.postgres.start()
        self.redis.start()

    def verify(self, before, after, what):
        expect(len(before) == CLIENTS and all(before.values()), f"{what}: each client counted: {before}")
        rows = self.postgres.sql("SELECT session, count(*), max(number) FROM witness GROUP BY session").split()
        in_postgres = self.gapless([tuple(map(int, row.split("|"))) for row in rows], f"{what}: PostgreSQL")
        redis = self.redis.connect()
        lite = self.open_sqlite()
        expect_equal(lite.execute("PRAGMA integrity_check").fetchall(), [("ok",)], f"{what}: SQLite's own check")
        rows = lite.execute("SELECT session, count(*), max(number) FROM witness GROUP BY session").fetchall()
        in_sqlite = self.gapless(rows, f"{what}: SQLite")
        for session, acknowledged in before.items():
            counts = (acknowledged, in_sqlite[session], int(redis.ask("GET", f"witness:{session}")), in_postgres[session])
            expect(list(counts) == sorted(counts), f"{what}: client {session}: acknowledged, SQLite, Redis, PostgreSQL: {counts}")
            expect(counts[3] <= counts[1] + 1, f"{what}: client {session}: PostgreSQL is more than one ahead: {counts}")
            expect(counts[3] <= after[session] + 1, f"{what}: client {session}: {counts[3]} was begun after {after[session]} was told")

    @staticmethod
    def gapless(rows, what):
        for session, count, newest in rows:
            expect_equal(count, newest, f"{what}: rows of client {session}")
        return {session: newest for session, _, newest in rows}

    def close(self):
        for lite in self.open:
            lite.close()
        self.redis.stop()
        self.postgres.stop()
        for device, (_, kind, _) in zip(self.devices, VOLUMES.values()):
            device.unmount()
            device.check_filesystem(kind)
            device.close()
