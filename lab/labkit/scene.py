"""A scene is one test's stage: a scratch folder, the processes on it, and the way to clear it.

It keeps one thing true: whatever a test sets up is taken down in reverse order, whether the test passed, failed, was
interrupted or ran out of time, and processes are ended by the id that started them, never by name. A teardown step that
fails is reported as a failure of the test: a lab that leaves mounts behind poisons every test after it.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

SCRATCH = Path(os.environ.get("TREERING_LAB_SCRATCH", "/var/tmp/treering-lab"))
PROJECT = Path(__file__).resolve().parents[2]


class Skip(Exception):
    """The test cannot run on this machine, and says why."""


class Failure(AssertionError):
    """A promise was broken, or a command that must succeed did not."""


def expect(condition, promise):
    if not condition:
        raise Failure(promise)


def expect_equal(found, wanted, what):
    if found != wanted:
        raise Failure(f"{what}: found {found!r}, wanted {wanted!r}")


def wait_until(question, seconds, what, every=0.05):
    deadline = time.monotonic() + seconds
    while not question():
        if time.monotonic() > deadline:
            raise Failure(f"waited {seconds} s in vain: {what}")
        time.sleep(every)


class Process:
    """A process started by the scene, with its output in a file."""

    def __init__(self, argv, log, popen):
        self.argv, self.log, self.popen = argv, log, popen
        self.pid = popen.pid

    def alive(self):
        return self.popen.poll() is None

    def output(self, tail=4000):
        return self.log.read_text(errors="replace")[-tail:]

    def kill9(self):
        if self.alive():
            self.popen.send_signal(signal.SIGKILL)
        self.popen.wait()

    def stop(self, seconds=15):
        """TERM, then KILL. Says whether TERM was enough."""
        if self.alive():
            self.popen.send_signal(signal.SIGTERM)
            try:
                self.popen.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill9()
                return False
        return True


class Scene:
    def __init__(self, name):
        SCRATCH.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.dir = Path(tempfile.mkdtemp(prefix="scene-", dir=SCRATCH))
        self.dir.chmod(0o755)  # users of lesser rank (postgres, nobody) pass through
        self.notes = []
        self._undo = []
        self._logs = 0

    def note(self, text):
        """One figure worth a line in the report."""
        self.notes.append(text)

    def undo(self, what, action):
        self._undo.append((what, action))

    def close(self, keep=False):
        """Takes everything down; returns what went wrong on the way. The files stay when asked to, or when it failed."""
        problems = []
        while self._undo:
            what, action = self._undo.pop()
            try:
                action()
            except Exception as error:  # the rest must be taken down too
                problems.append(f"{what}: {error}")
        if not problems and not keep:
            shutil.rmtree(self.dir, ignore_errors=True)
        return problems

    def path(self, name):
        return self.dir / name

    def spawn(self, argv, **popen):
        argv = [str(a) for a in argv]
        self._logs += 1
        log = self.dir / f"{self._logs:03}-{Path(argv[0]).name}.log"
        with log.open("wb") as out:
            child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                                     start_new_session=True, **popen)
        process = Process(argv, log, child)
        self.undo(f"end {argv[0]} ({child.pid})", process.stop)
        return process

    def run(self, argv, seconds=120, status=0, **options):
        """Runs a command to its end and returns its output. Any other exit status than `status` fails the test."""
        argv = [str(a) for a in argv]
        if "input" not in options:
            options["stdin"] = subprocess.DEVNULL
        try:
            done = subprocess.run(argv, timeout=seconds, text=True, errors="replace", stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, **options)
        except subprocess.TimeoutExpired as late:
            said = (late.stdout or b"").decode(errors="replace")
            raise Failure(f"{' '.join(argv)}: not done after {seconds} s; it said: {said[-1500:]}") from None
        if status is not None and done.returncode != status:
            raise Failure(f"{' '.join(argv)}: exit status {done.returncode}: {done.stdout[-3000:].strip()}")
        return done.stdout


def need_programs(*programs):
    search = os.environ["PATH"] + ":/usr/sbin:/sbin"
    missing = [p for p in programs if not shutil.which(p, path=search)]
    if missing:
        raise Skip(f"missing programs: {', '.join(missing)} (tools/install-test-needs installs them)")


def need_root():
    if os.geteuid() != 0:
        raise Skip("needs root (mounts and loop devices)")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
