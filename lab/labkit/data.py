"""Test data that can be told apart: random files, and blocks that say who wrote them."""

import hashlib
import os
import struct

BLOCK = 4096


def random_file(path, size):
    with open(path, "wb") as file:
        for _ in range(size >> 20):
            file.write(os.urandom(1 << 20))
        file.write(os.urandom(size & ((1 << 20) - 1)))
    return path


def checksum(path, size=None):
    digest = hashlib.blake2b()
    with open(path, "rb") as file:
        left = os.path.getsize(path) if size is None else size
        while left:
            piece = file.read(min(left, 1 << 20))
            if not piece:
                raise EOFError(f"{path} ends {left} bytes early")
            digest.update(piece)
            left -= len(piece)
    return digest.hexdigest()


def stamped_block(operation, index):
    """One 4 KiB block that carries the number of the write it came from and the place it belongs to."""
    return struct.pack("<QQ", operation, index) * (BLOCK // 16)


def operation_of(block, index):
    """The number of the write that made this block; 0 for zeros. Raises if it is torn or belongs elsewhere."""
    if block == bytes(BLOCK):
        return 0
    operation, place = struct.unpack_from("<QQ", block)
    if place != index or block != stamped_block(operation, index):
        raise ValueError(f"block {index} holds neither zeros nor one whole write: starts with {block[:32].hex()}")
    return operation
