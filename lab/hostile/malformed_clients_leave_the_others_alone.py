"""Clients that lie, stall or vanish get an error or a closed door; a well-behaved client beside them notices nothing.

A thin layer: the protocol machine has its own tests for every malformed option and request. This one is about a real
server process with real sockets.
"""

import socket
import struct
import threading

from labkit.scene import expect, need_programs
from labkit.server import DOT, start_server

IHAVEOPT, REQUEST = 0x49484156454F5054, 0x25609513
OPT_EXPORT_NAME, OPT_GO = 1, 7
READ, WRITE, DISCONNECT = 0, 1, 2


def run(scene):
    need_programs("nbdinfo", "fio")
    server = start_server(scene, {"main": "64M", "other": "64M"})
    trouble = []
    attacks = threading.Thread(target=attack, args=(server, trouble))
    attacks.start()
    good = ["fio", "--ioengine=nbd", "--rw=randwrite", "--bs=8k", "--iodepth=8", "--size=32M", "--verify=crc32c",
            "--verify_state_save=0", "--do_verify=1", f"--uri={server.uri('other')}", "--name=good"]
    scene.run(good)
    attacks.join(60)
    expect(not attacks.is_alive(), "every hostile client was answered or hung up on")
    expect(not trouble, "; ".join(trouble))
    scene.run(["nbdinfo", "--size", server.uri()])
    scene.run(good)


def attack(server, trouble):
    for hostility in (says_nothing, sends_noise, haggles_without_end, sends_an_endless_option, breaks_off_in_a_write,
                      claims_a_huge_write, speaks_an_unknown_command, leaves_with_replies_pending):
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(5)
                client.connect(str(server.socket))
                hostility(client)
        except (OSError, EOFError):
            pass  # being hung up on is a fine answer
        except Exception as error:
            trouble.append(f"{hostility.__name__}: {error!r}")
    crowd = [socket.socket(socket.AF_UNIX) for _ in range(100)]
    for client in crowd:
        client.settimeout(5)
        try:
            client.connect(str(server.socket))
        except OSError:
            pass
    for client in crowd:
        client.close()


def says_nothing(client):
    client.recv(18)


def sends_noise(client):
    client.sendall(bytes(range(256)) * 64)
    while client.recv(4096):
        pass


def haggles_without_end(client):
    greet(client)
    for _ in range(64):
        client.sendall(struct.pack(">QII", IHAVEOPT, 0x7777, 4) + b"what")
        answer(client)


def sends_an_endless_option(client):
    greet(client)
    client.sendall(struct.pack(">QII", IHAVEOPT, OPT_GO, 0xFFFFFFF0))
    client.sendall(bytes(1 << 16))
    client.recv(20)


def breaks_off_in_a_write(client):
    enter(client)
    client.sendall(request(WRITE, 1, 0, 1 << 20) + bytes(1000))


def claims_a_huge_write(client):
    enter(client)
    client.sendall(request(WRITE, 2, 0, 0xFFFFFFFF))
    client.recv(16)


def speaks_an_unknown_command(client):
    enter(client)
    client.sendall(request(0x4242, 3, 0, 4096))
    magic, error, cookie = struct.unpack(">IIQ", read_exactly(client, 16))
    if (cookie, error) != (3, 22):
        raise AssertionError(f"unknown command: reply {magic:#x} error {error} cookie {cookie}, wanted EINVAL for cookie 3")


def leaves_with_replies_pending(client):
    enter(client)
    client.sendall(b"".join(request(READ, n, 0, 1 << 20) for n in range(32)))


def greet(client):
    read_exactly(client, 18)
    client.sendall(struct.pack(">I", 3))


def enter(client):
    greet(client)
    name = f"{DOT}.main".encode()
    client.sendall(struct.pack(">QII", IHAVEOPT, OPT_EXPORT_NAME, len(name)) + name)
    read_exactly(client, 10)


def request(command, cookie, offset, length):
    return struct.pack(">IHHQQI", REQUEST, 0, command, cookie, offset, length)


def answer(client):
    _magic, _option, _kind, length = struct.unpack(">QIII", read_exactly(client, 20))
    read_exactly(client, length)


def read_exactly(client, length):
    data = b""
    while len(data) < length:
        piece = client.recv(length - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data
