"""Chains of dependent writes, as a program: `python3 -m labkit.chain_writer DEPTH CONNECTIONS URI...`, until SIGTERM.

Each of DEPTH chains is at home in one block, the same in every volume. Step 1 goes to the first volume, step 2 to the second, and
so on round and round; a step is sent only after the one before it was acknowledged. So whoever freezes all volumes at one instant
finds, of each chain, the steps up to some number and none behind it.
"""

import functools
import json
import select
import signal
import sys

import nbd

from labkit.data import BLOCK, stamped_block


class Connection:
    def __init__(self, uri, poll):
        self.nbd = nbd.NBD()
        self.nbd.connect_uri(uri)
        self.poll, self.events = poll, select.EPOLLIN
        poll.register(self.nbd.aio_get_fd(), self.events)

    def follow(self):
        """Waits for what libnbd waits for."""
        direction, events = self.nbd.aio_get_direction(), 0
        events |= select.EPOLLIN if direction & nbd.AIO_DIRECTION_READ else 0
        events |= select.EPOLLOUT if direction & nbd.AIO_DIRECTION_WRITE else 0
        if events != self.events:
            self.events = events
            self.poll.modify(self.nbd.aio_get_fd(), events)

    def notify(self, events):
        direction = self.nbd.aio_get_direction()
        if events & select.EPOLLIN and direction & nbd.AIO_DIRECTION_READ:
            self.nbd.aio_notify_read()
        elif events & select.EPOLLOUT and direction & nbd.AIO_DIRECTION_WRITE:
            self.nbd.aio_notify_write()
        elif events & (select.EPOLLHUP | select.EPOLLERR):
            raise ConnectionError("the server is gone")


class Writer:
    def __init__(self, uris, depth, connections):
        self.poll = select.epoll()
        self.volumes = [[Connection(uri, self.poll) for _ in range(connections)] for uri in uris]
        self.by_fd = {c.nbd.aio_get_fd(): c for volume in self.volumes for c in volume}
        self.steps = [0] * depth
        # For good: Debian's libnbd for Python never lets go of what a command was given, and a long run is made of 50 million.
        self.blocks = [bytearray(BLOCK) for _ in range(depth)]
        self.buffers = [nbd.Buffer.from_buffer(block) for block in self.blocks]
        self.completions = [functools.partial(self.answered, chain) for chain in range(depth)]
        self.acknowledged = []
        self.stopped = False

    def run(self):
        for chain in range(len(self.steps)):
            self.send(chain)
        in_flight = len(self.steps)
        while in_flight:
            for fd, events in self.poll.poll(0.2):
                connection = self.by_fd[fd]
                connection.notify(events)
                connection.follow()
            done, self.acknowledged = self.acknowledged, []
            for chain in done:
                if self.stopped:
                    in_flight -= 1
                else:
                    self.send(chain)
        return sum(self.steps)

    def send(self, chain):
        self.steps[chain] += 1
        step = self.steps[chain]
        of_volume = self.volumes[(step - 1) % len(self.volumes)]
        connection = of_volume[chain % len(of_volume)]
        self.blocks[chain][:] = stamped_block(step, chain)
        connection.nbd.aio_pwrite(self.buffers[chain], chain * BLOCK, completion=self.completions[chain])
        connection.follow()

    def answered(self, chain, error):
        if error:
            print(f"a write of chain {chain} failed: error {error}", file=sys.stderr)
            sys.exit(1)
        self.acknowledged.append(chain)  # no command can be sent from within a completion
        return 1

    def stop(self, *_signal):
        self.stopped = True


def main():
    depth, connections, *uris = sys.argv[1:]
    writer = Writer(uris, int(depth), int(connections))
    signal.signal(signal.SIGTERM, writer.stop)
    print("ready", flush=True)
    print(json.dumps({"writes": writer.run()}), flush=True)


if __name__ == "__main__":
    main()
