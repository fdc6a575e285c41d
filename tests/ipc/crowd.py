"""A process of many clients: connects them, subscribes each several times, says so, and waits to be killed.

``crowd.py SOCKET CLIENTS SUBSCRIPTIONS [ENDING]``. Endings: ``half``, the first has sent half a frame; ``slow``, each
has subscribed to ``t`` and reads no more; ``silent``, none has said anything; ``within``, each has sent the start of a
frame of 20 MB.
"""

import json
import socket
import sys
import time

from monodon.ipc.eventstream import Decoder, Header, HeaderType, encode

CONNECT_ACKS = 1


def frame(kind: int, stream_id: int, payload: bytes, *extra: Header) -> bytes:
    control = ((":message-type", kind), (":message-flags", 0), (":stream-id", stream_id))
    return encode([*(Header(name, HeaderType.INT32, value) for name, value in control), *extra], payload)


CONNECT = frame(4, 0, b'{"authToken": "crowd"}', Header(":version", HeaderType.STRING, "0.1.0"))
OPERATION = Header("operation", HeaderType.STRING, "aws.greengrass#SubscribeToTopic")


def subscribe(stream: int, topic: str) -> bytes:
    return frame(0, stream, json.dumps({"topic": topic}).encode(), OPERATION)


def main(path: str, clients: int, subscriptions: int, ending: str = "") -> None:
    sockets = []
    for number in range(clients):
        client = socket.socket(socket.AF_UNIX)
        client.connect(path)
        topics = ["t"] if ending == "slow" else [f"crowd/{number}/{stream}" for stream in range(1, subscriptions + 1)]
        if ending != "silent":
            requests = [subscribe(stream, topic) for stream, topic in enumerate(topics, 1)]
            client.sendall(CONNECT + b"".join(requests))
            answers(client, CONNECT_ACKS + len(topics))
        sockets.append(client)
    if ending == "half":
        sockets[0].sendall(frame(0, subscriptions + 1, bytes(3_000_000), OPERATION)[:2_000_000])
    if ending == "within":
        start = frame(0, 1, bytes(20_000_000), OPERATION)[:50]
        for client in sockets:
            client.sendall(start)
    print("subscribed", flush=True)
    time.sleep(600)


def answers(client: socket.socket, count: int) -> None:
    decoder, got = Decoder(), 0
    while got < count:
        got += len(list(decoder.feed(client.recv(1 << 16))))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
