"""Turning one flipped bit of a journal's record back, by its checksum.

The CRC-32 of a record tells not only that a bit is wrong but which: each single bit leaves a difference of its own,
in records of up to 2^32 bits; and in records of up to 11 KB two wrong bits are never mistaken for one. What
cannot be explained by one bit is not touched. A flipped bit may also make a line end, or unmake one; both are tried.
Nothing here changes the number of bytes.

Source: the polynomial of IEEE 802.3 as in `zlib.crc32`; its order is 2^32 - 1. Koopman and Chakravarty, "Cyclic
Redundancy Code Polynomial Selection For Embedded Networks", 2004: Hamming distance 4 up to 91,607 bits.
"""

import zlib
from collections.abc import Callable, Iterator
from typing import Final

_HEAD_BYTES: Final = 9
_END: Final = ord("\n")
_POLYNOMIAL: Final = 0xEDB88320


def _table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return tuple(table)


_TABLE: Final = _table()
_BY_TOP: Final = {value >> 24: index for index, value in enumerate(_TABLE)}
_SINGLE_BITS: Final = {_TABLE[1 << bit]: 1 << bit for bit in range(8)}


def mend(data: bytes, start: int, is_record: Callable[[bytes], bool]) -> tuple[int, bytes] | None:
    """Return the position of the byte that has one wrong bit, and ``data`` with that bit turned back.

    None when no single bit explains why ``data`` has no good record at ``start``.

    Args:
        is_record: whether a line, its end included, is the record that belongs there.
    """
    for position, value in _suspects(data, start):
        whole = data[:position] + bytes([value]) + data[position + 1 :]
        stop = whole.find(b"\n", start) + 1
        if stop > start and is_record(whole[start:stop]):
            return position, whole
    return None


def _suspects(data: bytes, start: int) -> Iterator[tuple[int, int]]:
    """The few positions, and what should be there, that checksums point to."""
    end = data.find(b"\n", start)
    stop = len(data) if end < 0 else end
    yield from _in_line(data[start:stop], start)
    yield from _lost_end(data, start, stop)
    if end >= 0:
        yield from ((end, _END ^ (1 << bit)) for bit in range(8))


def _in_line(line: bytes, start: int) -> Iterator[tuple[int, int]]:
    """A wrong bit in the checksum, or in what it is of."""
    body = line[_HEAD_BYTES:]
    found = zlib.crc32(body)
    head = b"%08x " % found
    wrong = [(is_ ^ due).bit_count() for is_, due in zip(line, head, strict=False)]
    if sum(wrong) == 1:
        yield start + wrong.index(1), head[wrong.index(1)]
    try:
        difference = int(line[: _HEAD_BYTES - 1], 16) ^ found
    except ValueError:
        return
    for at in range(len(body) - 1, -1, -1):
        if difference in _SINGLE_BITS:
            yield start + _HEAD_BYTES + at, body[at] ^ _SINGLE_BITS[difference]
            return
        index = _BY_TOP[difference >> 24]
        difference = ((difference ^ _TABLE[index]) << 8 | index) & 0xFFFFFFFF


def _lost_end(data: bytes, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """A line end that became something else, so that two records look like one, or the last one unfinished."""
    try:
        wanted = int(data[start : start + _HEAD_BYTES - 1], 16)
    except ValueError:
        return
    checked, sum_ = start + _HEAD_BYTES, 0
    for at in range(checked, stop):
        if (data[at] ^ _END).bit_count() == 1:
            sum_, checked = zlib.crc32(data[checked:at], sum_), at
            if sum_ == wanted:
                yield at, _END
