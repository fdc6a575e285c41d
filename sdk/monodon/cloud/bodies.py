"""Bodies of requests: aws-chunked decoded, checksums verified, piece by piece.

Over https boto3 sends an upload as ``Content-Encoding: aws-chunked`` with the CRC-32 in a trailer inside the body,
over http as a plain body with the checksum in a header (findings 4).
"""

import base64
import hashlib
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Protocol

from monodon.cloud.protocol import ServiceError
from monodon.deadlines import timeout

_MAX_LINE = 8 * 1024
STALL_S = 30.0
#: Header names of S3's checksums that are verified; the others are refused, since they could not be.
CHECKSUMS = ("crc32", "sha1", "sha256")
_UNSUPPORTED = ("crc32c", "crc64nvme", "sha512", "md5", "xxhash64", "xxhash3", "xxhash128")
_PREFIX = "x-amz-checksum-"


class Digest(Protocol):
    """What hashlib's objects are."""

    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class Crc32:
    """CRC-32 with the interface of hashlib."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


def new_digest(algorithm: str) -> Digest:
    """A digest by the name in its header: ``crc32``, ``sha1``, ``sha256``."""
    return Crc32() if algorithm == "crc32" else hashlib.new(algorithm, usedforsecurity=False)


class ChunkedDecoder:
    """Decodes ``hex[;extension]\\r\\n data \\r\\n … 0\\r\\n name:value\\r\\n \\r\\n``, cut anywhere. Pure."""

    def __init__(self) -> None:
        self.trailers: dict[str, str] = {}
        self.is_done = False
        self._buffer = bytearray()
        self._left = 0
        self._after_data = False
        self._in_trailers = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the decoded data that ``data`` completes.

        Raises:
            ServiceError: the framing is broken.
        """
        self._buffer += data
        while self._buffer and not self.is_done:
            if self._left:
                piece = bytes(self._buffer[: self._left])
                del self._buffer[: len(piece)]
                self._left -= len(piece)
                self._after_data = self._left == 0
                yield piece
            elif not self._line():
                return
        if self.is_done and self._buffer:
            raise _incomplete("bytes after the end of the body")

    def _line(self) -> bool:
        """Take one line out of the buffer; False if it is not whole yet."""
        end = self._buffer.find(b"\r\n")
        if end < 0:
            if len(self._buffer) > _MAX_LINE:
                raise _incomplete("a chunk without a size")
            return False
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        if self._after_data:
            if line:
                raise _incomplete("a chunk longer than its size")
            self._after_data = False
        elif self._in_trailers:
            self._trailer(line)
        else:
            self._size(line)
        return True

    def _size(self, line: bytes) -> None:
        digits = line.partition(b";")[0].strip()
        try:
            if not digits or digits[:1] in b"+-":
                raise ValueError
            self._left = int(digits, 16)
        except ValueError:
            raise _incomplete("a chunk without a size") from None
        self._in_trailers = self._left == 0

    def _trailer(self, line: bytes) -> None:
        if not line:
            self.is_done = True
            return
        name, _, value = line.decode("latin-1").partition(":")
        self.trailers[name.strip().lower()] = value.strip()


class Body:
    """The body of one request, read once; ``chunks`` verifies lengths and checksums at its end.

    Args:
        receive: ASGI's; each message is asked for when it is needed, so memory stays bounded.
        stall_s: a client that sends nothing of its body for so long is given up.
    """

    def __init__(
        self,
        receive: Callable[[], Awaitable[Mapping[str, object]]],
        headers: Mapping[str, str],
        *,
        stall_s: float = STALL_S,
    ) -> None:
        self._receive = receive
        self._headers = headers
        self._stall_s = stall_s
        self._is_stalled = False
        self._held: bytes | None = None
        self.is_read = False
        #: What the client said of the decoded body, by algorithm, once it was verified.
        self.checksums: dict[str, str] = {}
        #: Sizes that were announced: None where there is no way to know.
        self._is_chunked = "aws-chunked" in headers.get("content-encoding", "") or headers.get(
            "x-amz-content-sha256", ""
        ).startswith("STREAMING")
        self.announced_size = _size(headers, is_chunked=self._is_chunked)

    async def read(self, limit: int) -> bytes:
        """Return the whole body.

        Raises:
            ServiceError: it is longer than ``limit``, or broken.
        """
        if self._held is not None:
            return self._held
        parts: list[bytes] = []
        size = 0
        async for chunk in self.chunks():
            size += len(chunk)
            if size > limit:
                raise ServiceError("RequestEntityTooLarge", f"the body has more than {limit} bytes", status=413)
            parts.append(chunk)
        return b"".join(parts)

    async def hold(self, limit: int) -> bytes:
        """Return the whole body, which can be read once more (raises as ``read`` does)."""
        self._held = await self.read(limit)
        return self._held

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body, decoded.

        Raises:
            ServiceError: framing, announced size or a checksum is wrong; the client went away.
        """
        if self._held is not None:
            yield self._held
            return
        decoder = ChunkedDecoder() if self._is_chunked else None
        digests = self._wanted_digests()
        size = 0
        async for raw in self._raw():
            for piece in decoder.feed(raw) if decoder else (raw,):
                size += len(piece)
                for digest in digests.values():
                    digest.update(piece)
                yield piece
        if decoder is not None and not decoder.is_done:
            raise _incomplete("the body ended early")
        self._verify(size, digests, decoder.trailers if decoder else {})

    async def drain(self, limit: int) -> bool:
        """Read and drop what is left if that is little; say whether the end was reached."""
        size = 0
        if self._is_stalled:
            return False
        if not self.is_read:
            async for raw in self._raw():
                size += len(raw)
                if size > limit:
                    return False
        return True

    async def _raw(self) -> AsyncIterator[bytes]:
        while not self.is_read:
            try:
                async with timeout(self._stall_s):
                    message = await self._receive()
            except TimeoutError:
                self._is_stalled = True
                text = "Your socket connection to the server was not read from or written to within the timeout period."
                raise ServiceError("RequestTimeout", text, status=400) from None
            if message["type"] == "http.disconnect":
                self.is_read = True
                raise _incomplete("the client went away")
            self.is_read = not message.get("more_body", False)
            data = message.get("body", b"")
            if data:
                assert isinstance(data, bytes)
                yield data

    def _wanted_digests(self) -> dict[str, Digest]:
        named = {name.strip().lower() for name in self._headers.get("x-amz-trailer", "").split(",")}
        named |= {name for name in self._headers if name.startswith(_PREFIX)}
        for algorithm in _UNSUPPORTED:
            if f"{_PREFIX}{algorithm}" in named:
                raise ServiceError(
                    "NotImplemented",
                    f"the embedded cloud does not verify {algorithm.upper()} checksums; it does CRC32, SHA1 and SHA256",
                    status=501,
                )
        wanted = {name: new_digest(name) for name in CHECKSUMS if f"{_PREFIX}{name}" in named}
        if "content-md5" in self._headers:
            if not _is_md5(self._headers["content-md5"]):
                raise ServiceError("InvalidDigest", "The Content-MD5 you specified is not valid.", status=400)
            wanted["md5"] = new_digest("md5")
        if len(self._headers.get("x-amz-content-sha256", "")) == 64:
            wanted.setdefault("sha256", new_digest("sha256"))
        return wanted

    def _verify(self, size: int, digests: Mapping[str, Digest], trailers: Mapping[str, str]) -> None:
        if self.announced_size is not None and size != self.announced_size:
            raise _incomplete(f"{size} bytes came, {self.announced_size} were announced")
        for algorithm, digest in digests.items():
            computed = base64.b64encode(digest.digest()).decode()
            name = "content-md5" if algorithm == "md5" else f"{_PREFIX}{algorithm}"
            given = trailers.get(name, self._headers.get(name))
            if given is not None and given != computed:
                raise ServiceError(
                    "BadDigest",
                    f"The {algorithm.upper()} you specified did not match the calculated checksum.",
                    status=400,
                )
            if given is not None:
                self.checksums[algorithm] = computed
            content_hash = self._headers.get("x-amz-content-sha256", "")
            if algorithm == "sha256" and len(content_hash) == 64 and content_hash.lower() != digest.digest().hex():
                raise ServiceError(
                    "XAmzContentSHA256Mismatch",
                    "The provided 'x-amz-content-sha256' header does not match what was computed.",
                    status=400,
                )


def _is_md5(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == 16
    except ValueError:
        return False


def _size(headers: Mapping[str, str], *, is_chunked: bool) -> int | None:
    """The size of the decoded body, if the client said it; Content-Length counts the chunks' framing too."""
    text = headers.get("x-amz-decoded-content-length" if is_chunked else "content-length")
    return int(text) if text is not None and text.isdecimal() else None


def _incomplete(reason: str) -> ServiceError:
    return ServiceError("IncompleteBody", f"The request body is not what its headers announced: {reason}", status=400)
