"""A client that breaks the rules again and again, each time on a connection of its own, and waits to be shut out.

``flood.py SOCKET COUNT SEED``; every second connection says who it is first. Prints how many were answered with an end.
"""

import random
import socket
import sys

from crowd import frame

from monodon.ipc.eventstream import Header, HeaderType

_VERSION = Header(":version", HeaderType.STRING, "0.1.0")
_OPERATION = Header("operation", HeaderType.STRING, "aws.greengrass#PublishToTopic")


def malformed(source: random.Random, good: bytes) -> bytes:
    """A frame with a few bits wrong, cut off, of wild lengths, or nothing but noise."""
    kind = source.randrange(4)
    if kind == 0:
        data = bytearray(good)
        for _ in range(source.randint(1, 4)):
            data[source.randrange(len(data))] ^= 1 << source.randrange(8)
        return bytes(data)
    if kind == 1:
        return good[: source.randint(1, len(good) - 1)]
    if kind == 2:
        return source.randrange(1 << 32).to_bytes(4, "big") + source.randrange(1 << 32).to_bytes(4, "big") + good[8:]
    return source.randbytes(source.randint(1, 300))


def main(path: str, count: int, seed: int) -> None:
    source = random.Random(seed)
    connect = frame(4, 0, b'{"authToken": "flood"}', _VERSION)
    body = b'{"topic":"t","publishMessage":{"jsonMessage":{"message":{}}}}'
    good = frame(0, 1, body, _OPERATION)
    ended = 0
    for number in range(count):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(30)
            client.connect(path)
            try:
                client.sendall(connect * (number % 2) + malformed(source, good))
                client.shutdown(socket.SHUT_WR)
                while client.recv(1 << 16):
                    pass
            except (BrokenPipeError, ConnectionResetError, OSError) as error:
                if isinstance(error, TimeoutError):
                    raise
            ended += 1
    print(ended, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
