"""A proxy that does what it is asked by CONNECT, or by a whole URL, and notes by whom."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class ConnectProxy:
    port: int = 0
    #: The first line of each request, and what it said of its user.
    asked: list[tuple[str, str]] = field(default_factory=list)


@asynccontextmanager
async def proxying() -> AsyncIterator[ConnectProxy]:
    proxy = ConnectProxy()
    tasks = asyncio.TaskGroup()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await tasks.create_task(_serve(proxy, reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    async with tasks, server:
        yield proxy


async def _serve(proxy: ConnectProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
    proxy.asked.append((first, headers.get("proxy-authorization", "")))
    method, target, _ = first.split(" ", 2)
    place = target if method == "CONNECT" else target.partition("://")[2].partition("/")[0]
    host, _, port = place.rpartition(":")
    there, back = await asyncio.open_connection(host, int(port))
    if method == "CONNECT":
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
    else:
        back.write(head)
    try:
        await asyncio.gather(_copy(reader, back), _copy(there, writer))
    finally:
        back.close()
        writer.close()


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(64 * 1024):
            sink.write(data)
            await sink.drain()
        sink.write_eof() if sink.can_write_eof() else sink.close()
    except OSError:
        sink.close()
