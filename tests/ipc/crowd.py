"""A process of many clients: connects them, subscribes each several times, says so, and waits to be killed."""

import json
import socket
import sys
import time

from monodon.ipc.eventstream import Decoder, Header, HeaderType, encode


def frame(kind: int, stream_id: int, payload: bytes, *extra: Header) -> bytes:
    control = ((":message-type", kind), (":message-flags", 0), (":stream-id", stream_id))
    return encode([*(Header(name, HeaderType.INT32, value) for name, value in control), *extra], payload)


def main(path: str, clients: int, subscriptions: int, ending: str = "") -> None:
    connect = frame(4, 0, b'{"authToken": "crowd"}', Header(":version", HeaderType.STRING, "0.1.0"))
    operation = Header("operation", HeaderType.STRING, "aws.greengrass#SubscribeToTopic")
    sockets = []
    for number in range(clients):
        client = socket.socket(socket.AF_UNIX)
        client.connect(path)
        requests = [
            frame(0, stream, json.dumps({"topic": f"crowd/{number}/{stream}"}).encode(), operation)
            for stream in range(1, subscriptions + 1)
        ]
        client.sendall(connect + b"".join(requests))
        sockets.append(client)
    for client in sockets:
        decoder, got = Decoder(), 0
        while got < subscriptions + 1:
            got += len(list(decoder.feed(client.recv(1 << 16))))
    if ending == "half":
        sockets[0].sendall(frame(0, subscriptions + 1, bytes(3_000_000), operation)[:2_000_000])
    print("subscribed", flush=True)
    time.sleep(600)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
