"""A guest kernel: user-mode Linux, a real 6.1 kernel as one process, with the NBD client and device-mapper this host lacks.

The guest's root is the host's own file tree, read-only, so every host program runs in it. Scripts, binaries and results
go through one shared folder, /media/out in the guest. Its network is one tap in a namespace of its own; nothing outside
that namespace can be reached from it.
"""

import os
import shutil
import sys
from pathlib import Path

from labkit.scene import Failure, Skip, need_root

TOOLS = Path(os.environ.get("TREERING_LAB_TOOLS", "/var/lib/treering-lab"))
HOST, GUEST = "192.168.77.1", "192.168.77.2"
INIT = Path(__file__).with_name("guest_init.sh")
LAUNCHER = Path(__file__).with_name("launch_kernel.py")


class Guest:
    def __init__(self, scene):
        need_root()
        self.kernel = TOOLS / "uml/usr/bin/linux.uml"
        if not self.kernel.exists():
            raise Skip(f"no user-mode kernel at {self.kernel} (tools/install-test-needs unpacks it)")
        if not Path("/dev/net/tun").exists():
            raise Skip("no /dev/net/tun")
        self.scene = scene
        self.out = scene.path("guest")
        self.out.mkdir()
        self.namespace = f"treering-lab-{os.getpid()}"
        self._network_up()

    def _network_up(self):
        ip = ["ip", "-n", self.namespace]
        self.scene.run(["ip", "netns", "add", self.namespace])
        self.scene.undo(f"delete namespace {self.namespace}", lambda: self.scene.run(["ip", "netns", "del", self.namespace]))
        self.scene.run([*ip, "link", "set", "lo", "up"])
        self.scene.run([*ip, "tuntap", "add", "dev", "tap0", "mode", "tap"])
        self.scene.run([*ip, "addr", "add", f"{HOST}/24", "dev", "tap0"])
        self.scene.run([*ip, "link", "set", "tap0", "up"])

    def give(self, file, name=None):
        """Puts a file where the guest finds it; returns its path inside the guest."""
        name = name or Path(file).name
        shutil.copy(file, self.out / name)
        return f"/media/out/{name}"

    def boot(self, script, arguments=(), disks=(), environment=None, memory="768M", seconds=120):
        """Runs a script as root in a new guest and returns what it printed; the guest is gone afterwards."""
        modules = TOOLS / "uml"
        version = next((modules / "usr/lib/uml/modules").iterdir()).name
        settings = {"HOSTIP": HOST, "GUESTIP": GUEST, "MODULES": modules, "UMLVERSION": version,
                    "SCRIPT": self.give(script), "ARGUMENTS": " ".join(map(str, arguments)), **(environment or {})}
        (self.out / "environment").write_text("".join(f"export {k}='{v}'\n" for k, v in settings.items()))
        for stale in ("status", "log"):
            (self.out / stale).unlink(missing_ok=True)
        ubd = [f"ubd{n}={image}" for n, image in enumerate(disks)]
        init = shutil.copy(INIT, self.out / "init.sh")
        os.chmod(init, 0o755)
        argv = ["ip", "netns", "exec", self.namespace, sys.executable, LAUNCHER, self.kernel, f"mem={memory}", "root=/dev/root", "rootfstype=hostfs",
                "rootflags=/", "ro", "quiet", f"init={init}", f"SHARED={self.out}", *ubd,
                "vec0:transport=tap,ifname=tap0,depth=128,gro=1", "con=null", "ssl=null", "con0=null,fd:1", "panic=-1"]
        machine = self.scene.spawn(argv, env=os.environ | {"TMPDIR": "/dev/shm"})
        try:
            machine.popen.wait(seconds)
        except Exception:
            machine.kill9()
            raise Failure(f"the guest was not done after {seconds} s:\n{self.log()}\n{machine.output()}") from None
        status = (self.out / "status").read_text().strip() if (self.out / "status").exists() else "none"
        if status != "0":
            raise Failure(f"the guest's script ended with status {status}:\n{self.log()}\n{machine.output(1500)}")
        return self.log()

    def log(self):
        log = self.out / "log"
        return log.read_text(errors="replace") if log.exists() else "(the guest wrote no log)"
