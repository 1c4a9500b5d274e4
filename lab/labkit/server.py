"""The server under test, behind one class, so that a stand-in can take its place.

`start_server` is the only way a test gets a server. TREERING_LAB_SERVER=nbdkit puts nbdkit (one file per volume) where
Treering will be: that is how the tests themselves are tested, and how a failure is blamed on the right side.
"""

import json
import os
import time
from pathlib import Path

from labkit.scene import PROJECT, Failure, Skip, free_port, need_programs, wait_until

DOT = "lab"
GUEST_STORE = "768M"  # a guest has a small disk


def size_in_bytes(text):
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    return int(text[:-1]) * units[text[-1]] if text[-1] in units else int(text)


def treering_binary():
    target = Path(os.environ.get("CARGO_TARGET_DIR", PROJECT / "target"))
    binary = Path(os.environ.get("TREERING_BIN", target / "release" / "treering"))
    if not binary.exists():
        raise Failure(f"no server binary at {binary} (cargo build --release, or set TREERING_BIN)")
    return binary.resolve()


def canary_binary():
    """The server whose rules can be broken from outside: TREERING_CANARY names the rule."""
    binary = Path(os.environ.get("TREERING_CANARY_BIN", PROJECT / "target" / "canary" / "treering"))
    if not binary.exists():
        raise Failure(f"no canary at {binary} (cargo xtask real builds it)")
    return binary


def start_server(scene, volumes=None, **options):
    server = server_class()(scene, volumes or {"main": "1G"}, **options)
    server.create()
    server.start()
    return server


def server_class():
    return {"treering": Treering, "nbdkit": Nbdkit}[server_kind()]


def server_kind():
    return os.environ.get("TREERING_LAB_SERVER", "treering")


WITHOUT_SYNC = "a stand-in that lies about flushes"


class Server:
    """What both kinds share: addresses, and the ways to end one."""

    def __init__(self, scene, volumes, transport="unix", address="127.0.0.1", port=0, namespace=None, environment=None,
                 arguments=(), store=None, store_size="8G", binary=None):
        """`store_size` None: the store is all of a device."""
        self.scene, self.volumes, self.transport = scene, volumes, transport
        self.address, self.namespace = address, namespace
        self.port = port or free_port()
        self.environment = os.environ | (environment or {})
        self.arguments = list(arguments)
        self.store = Path(store) if store else scene.path("store")
        self.store_size = store_size
        self.binary = binary
        self.socket = scene.path("nbd.sock")
        self.process = None

    def uri(self, volume="main"):
        return self.uri_of(f"{DOT}.{volume}")

    def uri_of(self, export):
        if self.transport == "unix":
            return f"nbd+unix:///{export}?socket={self.socket}"
        return f"nbd://{self.address}:{self.port}/{export}"

    def kill9(self):
        self.process.kill9()

    def stop(self):
        if not self.process.stop():
            raise Failure(f"the server did not leave within 15 s of SIGTERM; it said: {self.process.output()}")

    def restart(self):
        self.stop()
        self.start()

    def spawn(self, argv, ready):
        within = ["ip", "netns", "exec", self.namespace] if self.namespace else []
        self.socket.unlink(missing_ok=True)
        started = time.monotonic()
        self.process = self.scene.spawn(within + argv, env=self.environment)

        def answered():
            if not self.process.alive():
                raise Failure(f"the server ended while starting: {self.process.output()}")
            return ready()

        wait_until(answered, 60, "server to be ready", every=0.01)
        self.seconds_to_ready = time.monotonic() - started


class Treering(Server):
    name = "treering"
    trim_promise = "trimmed-reads-zeros"

    def command(self, *arguments, status=0):
        return self.scene.run([treering_binary(), *arguments], env=self.environment, status=status)

    def verb(self, *arguments, status=0):
        """A command that the running server carries out; what it printed, as JSON if asked so."""
        said = self.command("--control", self.scene.path("control.sock"), *arguments, status=status)
        return json.loads(said) if "--json" in arguments else said

    def create(self):
        size = ["--size", self.store_size, "--sparse"] if self.store_size else []
        self.command("store", "init", self.store, *size)
        volumes = [word for name, size in self.volumes.items() for word in ("--volume", f"{name}={size}")]
        self.command("--store", self.store, "init", DOT, *volumes)

    def start(self):
        listen = ["--socket", self.socket, "--control", self.scene.path("control.sock")]
        if self.transport == "tcp":
            listen += ["--tcp", f"{self.address}:{self.port}"]
            listen += [] if self.address == "127.0.0.1" else ["--tcp-force"]
        argv = [str(self.binary or treering_binary()), "--store", self.store, "serve", *listen, *self.arguments]
        self.spawn(argv, lambda: "ready" in self.process.output().split())

    def start_on(self, store):
        """Serves a store that exists already."""
        self.store = store
        self.start()

    @staticmethod
    def guest_script(guest, size, binary=None):
        """Shell functions that create and serve a store inside a guest."""
        inside = guest.give(binary or treering_binary(), "treering")
        return f"""
create() {{ {inside} store init "$STORE" --size {GUEST_STORE} && {inside} --store "$STORE" init {DOT} --volume main={size}; }}
serve() {{ exec {inside} --store "$STORE" serve --socket "$SOCKET" --control /tmp/control.sock --data-cache 32M --node-cache 32M; }}
"""

    def check(self):
        """Everything in the store recomputed from its roots; the store must not be served."""
        return self.command("store", "check", self.store)

    def status(self):
        return self.verb("status", "--json")


class Nbdkit(Server):
    """The stand-in: a folder with one file per volume."""

    name = "nbdkit"
    trim_promise = "trim-promises-nothing"  # on a device its trims may leave the old data

    def create(self):
        need_programs("nbdkit")
        self.store.mkdir()
        for name, size in self.volumes.items():
            with (self.store / f"{DOT}.{name}").open("wb") as file:
                file.truncate(size_in_bytes(size))

    def start(self):
        listen = ["-U", self.socket] if self.transport == "unix" else ["-i", self.address, "-p", str(self.port)]
        pid_file = self.scene.path("nbdkit.pid")
        pid_file.unlink(missing_ok=True)
        argv = ["nbdkit", "-f", "-P", pid_file, *listen, "file", f"dir={self.store}"]
        self.spawn(argv, lambda: pid_file.exists() and pid_file.stat().st_size > 0)

    def start_on(self, store):
        """Serves one file or device as it is, whatever export is asked for."""
        pid_file = self.scene.path("nbdkit.pid")
        self.spawn(["nbdkit", "-f", "-P", pid_file, "-U", self.socket, "file", store], pid_file.exists)

    @staticmethod
    def guest_script(guest, size, binary=None):
        without_sync = "--filter=cache" if binary == WITHOUT_SYNC else ""
        unsafe = "cache=unsafe" if binary == WITHOUT_SYNC else ""
        return f"""
create() {{ [ -b "$STORE" ] || truncate -s {size} "$STORE"; }}
serve() {{ exec nbdkit -f -U "$SOCKET" {without_sync} file "$STORE" {unsafe}; }}
"""

    def verb(self, *arguments, status=0):
        raise Skip("nbdkit has no snapshots")

    def check(self):
        return "nbdkit has no check"
