"""Where the texts of an MQTT 5 packet lie, so that they are checked before the codec sees them.

The codec panics on text that is not UTF-8, and reports that on stderr as well. Everything else about a packet's
structure is left to it: what does not fit here is simply not looked at.

Source: MQTT 5.0, sections 1.5.4, 2.2.2 and 3.
"""

from typing import Final

CONNECT, CONNACK, PUBLISH, SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK = 1, 2, 3, 8, 9, 10, 11
DISCONNECT, AUTH = 14, 15

#: Largest packet that the protocol can announce: four bytes of length and the byte before them included.
PROTOCOL_MAXIMUM_BYTES: Final = 268_435_460

#: Property identifiers by the shape of their value; texts come once or, as a user property, in pairs.
_BYTE, _TWO, _FOUR, _VARIABLE, _TEXT, _BINARY, _PAIR = range(7)
_SHAPES: Final = {
    **dict.fromkeys((0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A), _BYTE),
    **dict.fromkeys((0x13, 0x21, 0x22, 0x23), _TWO),
    **dict.fromkeys((0x02, 0x11, 0x18, 0x27), _FOUR),
    0x0B: _VARIABLE,
    **dict.fromkeys((0x03, 0x08, 0x12, 0x15, 0x1A, 0x1C, 0x1F), _TEXT),
    **dict.fromkeys((0x09, 0x16), _BINARY),
    0x26: _PAIR,
}
_SIZES: Final = {_BYTE: 1, _TWO: 2, _FOUR: 4}


class _Walk:
    """A position in a packet; ``IndexError`` beyond its end, ``UnicodeDecodeError`` at text that is none."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data = data
        self.at = at

    def skip(self, count: int) -> None:
        self.at += count

    def variable(self) -> int:
        value = shift = 0
        while True:
            byte = self.data[self.at]
            value |= (byte & 0x7F) << shift
            self.at, shift = self.at + 1, shift + 7
            if not byte & 0x80:
                return value

    def binary(self) -> bytes:
        start = self.at + 2
        self.at = start + (self.data[self.at] << 8 | self.data[self.at + 1])
        if self.at > len(self.data):
            raise IndexError(self.at)
        return self.data[start : self.at]

    def text(self) -> None:
        self.binary().decode()

    def properties(self) -> None:
        end = self.variable() + self.at
        while self.at < end:
            shape = _SHAPES.get(self.variable(), _PAIR)
            if shape in _SIZES:
                self.skip(_SIZES[shape])
            elif shape == _VARIABLE:
                self.variable()
            elif shape == _BINARY:
                self.binary()
            else:
                self.text()
                if shape == _PAIR:
                    self.text()


def header_bytes(frame: memoryview) -> int:
    """Return the length of the fixed header of a whole packet."""
    index = 1
    while frame[index] & 0x80:
        index += 1
    return index + 1


def has_valid_text(frame: memoryview) -> bool:
    """Return whether every text in this whole packet is UTF-8, as far as its structure can be followed."""
    start = header_bytes(frame)
    data = bytes(frame)
    if data[start:].isascii():
        return True
    try:
        _walk(_Walk(data, start), data[0])
    except UnicodeDecodeError:
        return False
    except IndexError:
        return True  # cut short: the codec says so
    return True


def reserved_options(frame: memoryview) -> bool:
    """Return whether a SUBSCRIBE that the codec has read sets reserved bits ([MQTT-3.8.3-5])."""
    walk = _Walk(bytes(frame), header_bytes(frame) + 2)
    walk.properties()
    while walk.at < len(walk.data):
        walk.binary()
        if walk.data[walk.at] & 0xC0:
            return True
        walk.skip(1)
    return False


def _walk(walk: _Walk, first: int) -> None:
    kind = first >> 4
    if kind == PUBLISH:
        walk.text()
        walk.skip(2 if first & 0x06 else 0)
        walk.properties()
    elif kind == CONNECT:
        _walk_connect(walk)
    elif kind in (SUBSCRIBE, UNSUBSCRIBE):
        walk.skip(2)
        walk.properties()
        while walk.at < len(walk.data):
            walk.text()
            walk.skip(1 if kind == SUBSCRIBE else 0)
    else:
        #: CONNACK flags and reason; SUBACK, UNSUBACK an id; DISCONNECT, AUTH a reason; the other acknowledgements both
        walk.skip({CONNACK: 2, SUBACK: 2, UNSUBACK: 2, DISCONNECT: 1, AUTH: 1}.get(kind, 3))
        walk.properties()


def _walk_connect(walk: _Walk) -> None:
    walk.binary()
    flags = walk.data[walk.at + 1]
    walk.skip(4)
    walk.properties()
    walk.text()
    if flags & 0x04:
        walk.properties()
        walk.text()
        walk.binary()
    if flags & 0x80:
        walk.text()
