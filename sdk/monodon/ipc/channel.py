"""A non-blocking socket on the event loop: reads into place, writes from a bounded queue of pieces.

asyncio's transports join what they are given and keep what the peer has not taken without a bound; here a large
payload goes from its one copy to every subscriber's socket, and a peer that does not read is cut off.
"""

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from monodon.ipc.eventstream import Buffer

logger = logging.getLogger(__name__)

#: What a peer may leave unread, unless it is only this many pieces (two frames of the largest size).
MAX_PENDING_BYTES: Final = 16 * 1024 * 1024
_ALWAYS_PIECES: Final = 6
_PIECES_AT_ONCE: Final = 64


class Receiver(Protocol):
    """Who takes what arrives on a channel."""

    def room(self) -> memoryview | None:
        """Where the next bytes should go; None: anywhere."""

    def filled(self, count: int) -> None:
        """Bytes were read into the room."""

    def received(self, data: memoryview) -> None:
        """Bytes were read; the memory is used again afterwards."""

    def ended(self, reason: str | None) -> None:
        """The channel is closed: by the peer (None), or for the reason given. Called once."""


class Channel:
    """One connected socket. ``scratch`` is shared by all channels of a loop: an idle one holds no buffer."""

    def __init__(
        self,
        sock: socket.socket,
        receiver: Receiver,
        *,
        loop: asyncio.AbstractEventLoop,
        scratch: memoryview,
        max_pending_bytes: int = MAX_PENDING_BYTES,
    ) -> None:
        self._socket = sock
        self._receiver = receiver
        self._loop = loop
        self._scratch = scratch
        self._max_pending_bytes = max_pending_bytes
        self._queue: deque[memoryview] = deque()
        self._pending_bytes = 0
        self._is_writing = False
        self._is_finishing = False
        self._is_closed = False
        self._is_discarding = False
        loop.add_reader(sock, self._on_readable)

    @property
    def pending_bytes(self) -> int:
        """What the peer has not taken yet."""
        return self._pending_bytes

    def pause_reading(self) -> None:
        """Leave what arrives in the kernel's buffer for now."""
        if not self._is_closed:
            self._loop.remove_reader(self._socket)

    def resume_reading(self) -> None:
        """Undo :meth:`pause_reading`."""
        if not self._is_closed:
            self._loop.add_reader(self._socket, self._on_readable)

    def write(self, pieces: Sequence[Buffer]) -> None:
        """Queue bytes and send what the socket takes now; too much left unread closes the channel."""
        if self._is_closed or (len(pieces) == 1 and not self._queue and self._sent_at_once(pieces[0])):
            return
        for piece in pieces:
            if piece:
                self._queue.append(memoryview(piece))
                self._pending_bytes += len(piece)
        if not self._is_writing:
            self._flush()
        if self._pending_bytes > self._max_pending_bytes and len(self._queue) > _ALWAYS_PIECES:
            self.close(f"{self._pending_bytes} bytes were left unread")

    def _sent_at_once(self, piece: Buffer) -> bool:
        """Send what is mostly written, one small frame; what of it is left over is queued."""
        try:
            sent = self._socket.send(piece)
        except OSError:  # the queue meets it again
            return False
        if sent < len(piece):
            self._queue.append(memoryview(piece)[sent:])
            self._pending_bytes += len(piece) - sent
            self._flush()
        return True

    def discard_input(self) -> None:
        """Read on only to notice the end."""
        self._is_discarding = True
        self.resume_reading()

    def finish(self) -> None:
        """Close as soon as everything is written."""
        self._is_finishing = True
        if not self._queue:
            self.close("finished")

    def close(self, reason: str | None) -> None:
        """Close now."""
        if self._is_closed:
            return
        self._is_closed = True
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._queue.clear()
        self._pending_bytes = 0
        self._socket.close()
        self._receiver.ended(reason)

    def _on_readable(self) -> None:
        try:
            if self._is_discarding:
                count = self._socket.recv_into(self._scratch)
                if not count:
                    self.close(None)
                return
            room = self._receiver.room()
            count = self._socket.recv_into(self._scratch if room is None else room)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.close(str(error))
            return
        if not count:
            self.close(None)
        elif room is None:
            self._receiver.received(self._scratch[:count])
        else:
            room.release()
            self._receiver.filled(count)

    def _on_writable(self) -> None:
        self._flush()
        if self._is_finishing and not self._queue:
            self.close("finished")

    def _flush(self) -> None:
        queue = self._queue
        while queue:
            try:
                sent = self._socket.sendmsg([queue[index] for index in range(min(len(queue), _PIECES_AT_ONCE))])
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                self.close(str(error))
                return
            self._drop(sent)
        if bool(queue) is not self._is_writing:
            self._is_writing = bool(queue)
            change: Callable[..., object] = self._loop.add_writer if queue else self._loop.remove_writer
            change(*((self._socket, self._on_writable) if queue else (self._socket,)))

    def _drop(self, sent: int) -> None:
        self._pending_bytes -= sent
        queue = self._queue
        while sent:
            piece = queue[0]
            if sent < len(piece):
                queue[0] = piece[sent:]
                return
            sent -= len(piece)
            queue.popleft()
