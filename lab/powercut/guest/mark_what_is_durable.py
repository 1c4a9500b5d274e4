"""In the guest: SOCKET EXPORT JOURNAL trimmed-reads-zeros|trim-promises-nothing. Writes, trims, flushes; after each flush or FUA reply, marks the device's log.

The journal has one line per operation, `number kind first-block blocks`, written before the operation is sent; the marks in
the device's log say which of them were acknowledged as durable: `flush-N` everything up to N, `fua-N` operation N.
"""

import random
import subprocess
import sys

import nbd

sys.path.insert(0, "/media/out")
from data import BLOCK, stamped_block  # noqa: E402

BLOCKS = 384
OPERATIONS = 360


def main(socket, export, journal_path, trim_promise):
    trims = trim_promise == "trimmed-reads-zeros"
    client = nbd.NBD()
    client.set_export_name(export)
    client.connect_unix(socket)
    dice = random.Random(20)
    mark("ready-0")
    with open(journal_path, "w", encoding="ascii") as journal:
        for number in range(1, OPERATIONS + 1):
            kind = dice.choices(["write", "fua", "trim", "zero"], [70, 8, 11, 11])[0]
            first, count = dice.randrange(BLOCKS - 8), dice.randrange(1, 9)
            journal.write(f"{number} {kind} {first} {count}\n")
            journal.flush()
            data = b"".join(stamped_block(number, first + n) for n in range(count))
            if kind == "write":
                client.pwrite(data, first * BLOCK)
            elif kind == "fua":
                client.pwrite(data, first * BLOCK, nbd.CMD_FLAG_FUA)
                mark(f"fua-{number}")
            elif kind == "trim" and trims:
                client.trim(count * BLOCK, first * BLOCK)
            else:
                client.zero(count * BLOCK, first * BLOCK)
            if dice.random() < 0.12:
                client.flush()
                mark(f"flush-{number}")


def mark(text):
    subprocess.run(["dmsetup", "message", "cut", "0", "mark", text], check=True)


main(*sys.argv[1:])
