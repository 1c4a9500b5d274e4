"""Redis by hand, in a folder of ours: everything it acknowledged was synced, and its log is rewritten often."""

import socket

from labkit.scene import Failure, need_programs, wait_until


class Redis:
    def __init__(self, scene, folder, name):
        need_programs("redis-server", "redis-benchmark")
        self.scene, self.folder = scene, folder
        self.socket = scene.path(f"redis-{name}.sock")
        self.process = None

    def start(self):
        argv = ["redis-server", "--port", "0", "--unixsocket", self.socket, "--dir", self.folder, "--save", "", "--appendonly", "yes",
                "--appendfsync", "always", "--auto-aof-rewrite-min-size", "256kb"]
        self.process = self.scene.spawn(argv)

        def answers():
            if not self.process.alive():
                raise Failure(f"Redis ended while starting: {self.process.output()}")
            try:
                return self.connect().ask("PING") == "+PONG"
            except OSError:
                return False

        wait_until(answers, 60, "Redis to load its log and answer", every=0.1)

    def connect(self):
        return Connection(self.socket)

    def load(self):
        return self.scene.spawn(["redis-benchmark", "-s", self.socket, "-t", "set,lpush", "-r", "1000", "-c", "2", "-n", "1000000000", "-q"])

    def stop(self):
        if not self.process.stop():
            raise Failure(f"Redis did not leave when asked to: {self.process.output()}")


class Connection:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(str(path))
        self.replies = self.socket.makefile("r", encoding="ascii", newline="\r\n")

    def ask(self, *words):
        """One command, one line of reply: a status, a number, or a string."""
        self.socket.sendall((" ".join(map(str, words)) + "\r\n").encode())
        line = self.replies.readline().strip()
        if not line or line.startswith("-"):
            raise ConnectionError(f"Redis answered {words} with {line!r}")
        if line.startswith("$"):
            return self.replies.readline().strip() if line != "$-1" else None
        return line
