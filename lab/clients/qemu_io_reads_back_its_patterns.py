"""qemu-io writes patterns with queues, FUA, zeroes and discards, and reads each of them back, also after a restart."""

from labkit.scene import expect, need_programs
from labkit.server import start_server

CASES = ["unix", "tcp"]

WRITES = ["write -P 0xaa 0 1M", "write -f -P 0xbb 1M 64k", "write -P 0xcc 1000448 3072", "write -z 2M 1M", "write -P 0xdd 2M 2M",
          "write -z -u 2M 64k", "discard 3M 512k", "aio_write -P 0xee 8M 4M", "aio_write -P 0xef 12M 4M", "aio_flush", "flush",
          "writev -P 0x11 20M 4k 8k 12k", "write -P 0x22 127M 1M"]
READS = ["read -P 0xaa 0 1000448", "read -P 0xcc 1000448 3072", "read -P 0xbb 1052672 61440", "read -P 0 2M 64k", "read -P 0xdd 2162688 983040",
         "read -P 0 3M 512k", "read -P 0xee 8M 4M", "read -P 0xef 12M 4M", "readv -P 0x11 20M 12k 12k", "read -P 0x22 127M 1M", "read -P 0 64M 1M"]


def run(scene, transport):
    need_programs("qemu-io")
    server = start_server(scene, {"main": "128M"}, transport=transport)
    play(scene, server, WRITES + READS)
    server.restart()
    play(scene, server, READS)


def play(scene, server, commands):
    words = [word for command in commands for word in ("-c", command)]
    said = scene.run(["qemu-io", "-f", "raw", "--discard=unmap", *words, server.uri()])
    expect("verification failed" not in said and "error" not in said.lower(), f"qemu-io is content: {said[-1500:]}")
