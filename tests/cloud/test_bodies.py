"""aws-chunked bodies decode the same wherever the network cuts them."""

import asyncio
import base64
import zlib
from collections.abc import AsyncIterator, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monodon.cloud.bodies import Body, ChunkedDecoder
from monodon.cloud.protocol import ServiceError


def encode(chunks: list[bytes], trailers: dict[str, str]) -> bytes:
    framed = b"".join(b"%x;chunk-signature=abc\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks if chunk)
    ends = "".join(f"{name}:{value}\r\n" for name, value in trailers.items())
    return framed + b"0\r\n" + ends.encode() + b"\r\n"


def crc32(data: bytes) -> str:
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


@given(chunks=st.lists(st.binary(max_size=40), max_size=5), cuts=st.lists(st.integers(0, 300), max_size=12).map(sorted))
def test_bytes_cut_anywhere_decode_the_same(chunks: list[bytes], cuts: list[int]) -> None:
    data = b"".join(chunks)
    encoded = encode(chunks, {"x-amz-checksum-crc32": crc32(data)})
    decoder = ChunkedDecoder()
    decoded = b""
    for start, end in zip([0, *cuts], [*cuts, len(encoded)], strict=True):
        decoded += b"".join(decoder.feed(encoded[start : max(start, end)]))
    assert decoded == data
    assert decoder.is_done
    assert decoder.trailers == {"x-amz-checksum-crc32": crc32(data)}


async def read(body: bytes, headers: dict[str, str], *, piece: int = 7) -> tuple[bytes, dict[str, str]]:
    async def messages() -> AsyncIterator[Mapping[str, object]]:
        pieces = [body[n : n + piece] for n in range(0, len(body), piece)] or [b""]
        for index, part in enumerate(pieces):
            yield {"type": "http.request", "body": part, "more_body": index + 1 < len(pieces)}
        yield {"type": "http.disconnect"}

    source = messages()
    reader = Body(lambda: anext(source), headers)
    try:
        return await reader.read(1000), reader.checksums
    finally:
        await source.aclose()


CHUNKED = {"content-encoding": "aws-chunked", "x-amz-trailer": "x-amz-checksum-crc32"}


async def test_a_chunked_body_is_verified_against_its_trailer() -> None:
    body = encode([b"narwhal"], {"x-amz-checksum-crc32": crc32(b"narwhal")})
    headers = {**CHUNKED, "x-amz-decoded-content-length": "7", "content-length": str(len(body))}
    assert await read(body, headers) == (b"narwhal", {"crc32": crc32(b"narwhal")})


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        (encode([b"ab"], {"x-amz-checksum-crc32": crc32(b"xx")}), CHUNKED, "BadDigest"),
        (encode([b"ab"], {}), {**CHUNKED, "x-amz-decoded-content-length": "3"}, "IncompleteBody"),
        (encode([b"ab"], {})[:-2], CHUNKED, "IncompleteBody"),
        (b"5\r\nab", CHUNKED, "IncompleteBody"),
        (b"x" * 9000, CHUNKED, "IncompleteBody"),
        (b"ab", {"content-length": "3"}, "IncompleteBody"),
        (b"ab", {"x-amz-checksum-sha256": "AAAA"}, "BadDigest"),
        (b"ab", {"content-md5": base64.b64encode(b"0" * 16).decode()}, "BadDigest"),
        (b"ab", {"content-md5": "AAAA"}, "InvalidDigest"),
        (b"ab", {"content-md5": "ü"}, "InvalidDigest"),
        (b"ab", {"x-amz-content-sha256": "0" * 64}, "XAmzContentSHA256Mismatch"),
        (b"ab", {"x-amz-checksum-crc64nvme": "AAAA"}, "NotImplemented"),
        (b"x" * 1001, {}, "RequestEntityTooLarge"),
    ],
)
async def test_a_body_that_is_not_what_its_headers_say_is_refused(
    body: bytes, headers: dict[str, str], code: str
) -> None:
    with pytest.raises(ServiceError) as caught:
        await read(body, headers)
    assert caught.value.code == code


async def test_a_body_that_does_not_go_on_is_given_up() -> None:
    async def receive() -> dict[str, object]:
        if not sent:
            sent.append(True)
            return {"type": "http.request", "body": b"half", "more_body": True}
        await asyncio.Event().wait()
        raise AssertionError

    sent: list[bool] = []
    body = Body(receive, {"content-length": "8"}, stall_s=0.05)
    with pytest.raises(ServiceError) as caught:
        await body.read(1000)
    assert caught.value.code == "RequestTimeout"
    assert not await body.drain(1000)  # so the connection is closed
