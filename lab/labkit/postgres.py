"""PostgreSQL by hand, in a folder of ours, as the user postgres; and witnesses that remember what it acknowledged."""

import os
import signal
import subprocess
import threading
from pathlib import Path

from labkit.scene import Failure, Skip, free_port, need_programs, need_root, wait_until

SETTINGS = """
listen_addresses = ''
max_connections = 30
shared_buffers = 64MB
checkpoint_timeout = 30s
max_wal_size = 128MB
wal_sync_method = fdatasync
full_page_writes = on
log_min_messages = warning
"""


class Postgres:
    def __init__(self, scene, folder, wal=None, sockets="pg"):
        """`wal`: a folder on another filesystem for the log. `sockets`: a name for each that runs beside another."""
        need_root()
        need_programs("setpriv", "psql")
        versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: float(p.parent.name))
        if not versions:
            raise Skip("no PostgreSQL (tools/install-test-needs installs it)")
        self.bin = versions[-1]
        self.scene = scene
        self.data = Path(folder) / "data"
        self.wal = Path(wal) / "log" if wal else None
        self.sockets = scene.path(sockets)
        self.sockets.mkdir(mode=0o777, exist_ok=True)
        self.sockets.chmod(0o777)
        self.process = None
        self.port = str(free_port())
        self.connection = ["-h", str(self.sockets), "-p", self.port]

    def as_postgres(self, program, *arguments):
        return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", self.bin / program, *arguments]

    def create(self):
        self.data.mkdir()
        self.scene.run(["chown", "postgres:postgres", self.data])
        apart = []
        if self.wal:
            self.wal.mkdir()
            self.scene.run(["chown", "postgres:postgres", self.wal])
            apart = ["--waldir", self.wal]
        self.scene.run(self.as_postgres("initdb", "-D", self.data, "--auth=trust", "--data-checksums", "--no-locale", "-E", "UTF8",
                                        *apart), cwd="/")
        with (self.data / "postgresql.conf").open("a", encoding="ascii") as settings:
            settings.write(SETTINGS)
            settings.flush()
            os.fsync(settings.fileno())  # the first life may end at any moment

    def adopt(self):
        """Makes a copy of a running database ours: its log is where we mounted it, and the other's process is not ours."""
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        if self.wal:
            (self.data / "pg_wal").unlink()
            (self.data / "pg_wal").symlink_to(self.wal)

    def start(self):
        argv = self.as_postgres("postgres", "-D", self.data, "-k", self.sockets, "-p", self.port)
        self.process = self.scene.spawn(argv, cwd="/")
        self.scene.undo("kill postgres", self.kill)

        def answers():
            if not self.process.alive():
                raise Failure(f"PostgreSQL ended while starting: {self.process.output()}")
            return self._quiet("pg_isready") == 0

        wait_until(answers, 60, f"PostgreSQL to recover and answer; it says: {self.process.output(500)}", every=0.1)

    def stop(self):
        self.process.popen.send_signal(signal.SIGINT)  # a fast shutdown
        self.process.popen.wait(60)

    def kill(self):
        """Ends every process of this server by id, and waits until the last is gone: none may hold the dead mount."""
        members = self._members()
        for pid in members:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.kill9()
        wait_until(lambda: not any(alive(pid) for pid in members), 30, f"the processes of PostgreSQL to be gone: {members}")
        for stale in self.sockets.glob(".s.PGSQL*"):
            stale.unlink()

    def _members(self):
        """The server and its children: children keep their parent's id until it dies, so they are listed first."""
        parent = self.process.pid
        listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], stdout=subprocess.PIPE, text=True, check=False)
        return [int(pid) for pid in listed.stdout.split()] + ([parent] if self.process.alive() else [])

    def run(self, program, *arguments, seconds=120):
        return self.scene.run(self.as_postgres(program, *self.connection, *arguments, "postgres"), seconds=seconds, cwd="/")

    def spawn(self, program, *arguments):
        return self.scene.spawn(self.as_postgres(program, *self.connection, *arguments, "postgres"), cwd="/")

    def sql(self, statement):
        return self.run("psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", statement)

    def _quiet(self, program):
        argv = [str(a) for a in self.as_postgres(program, *self.connection)]
        return subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", check=False).returncode


class Witnesses:
    """Sessions that commit numbered rows, each told of a commit before it begins the next one.

    `then(session, number)` is called after each commit, and must return before the number counts as acknowledged."""

    def __init__(self, database, acknowledged, sessions=4, then=None):
        self.acknowledged = acknowledged
        self.then = then or (lambda _session, _number: None)
        self.sessions = []
        for session in range(sessions):
            acknowledged.setdefault(session, 0)
            argv = database.as_postgres("psql", *database.connection, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "postgres")
            child = subprocess.Popen([str(a) for a in argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     stderr=subprocess.DEVNULL, text=True, bufsize=1, cwd="/")
            database.scene.undo(f"end witness {child.pid}", lambda child=child: (child.kill(), child.wait()))
            thread = threading.Thread(target=self._commit, args=(session, child), daemon=True)
            thread.start()
            self.sessions.append((thread, child))

    def _commit(self, session, child):
        number = self.acknowledged[session]
        try:
            while True:
                number += 1
                # A row of the last life that was committed but never acknowledged is met again here.
                child.stdin.write(f"INSERT INTO witness VALUES ({session}, {number}) ON CONFLICT DO NOTHING;\n\\echo {number}\n")
                if child.stdout.readline().strip() != str(number):
                    return
                self.then(session, number)
                self.acknowledged[session] = number
        except (BrokenPipeError, ValueError):
            return

    def stop(self):
        for thread, child in self.sessions:
            child.kill()
            child.wait()
            thread.join(10)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
