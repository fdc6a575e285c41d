"""When a certificate is valid, read out of its bytes: enough of DER for that, and nothing else. Pure, standard library.

Source: RFC 5280, section 4.1 (``Certificate``, ``Validity``); X.690 (DER).
"""

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import UTC, datetime

_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """From when until when a certificate holds, in UTC."""

    not_before: datetime
    not_after: datetime


def certificate_bytes(pem: str) -> bytes:
    """Return the DER of the first certificate in a PEM text.

    Raises:
        ValueError: there is none.
    """
    found = _PEM.search(pem)
    if found is None:
        raise ValueError("no certificate in PEM")
    try:
        return base64.b64decode("".join(found[1].split()), validate=True)
    except binascii.Error as error:
        raise ValueError(f"not base64: {error}") from error


def validity(der: bytes) -> Validity:
    """Return the validity of a certificate.

    Raises:
        ValueError: the bytes are no X.509 certificate.
    """
    certificate, _ = _read(der, _SEQUENCE)
    signed, _ = _read(certificate, _SEQUENCE)
    rest = signed
    if rest[:1] == bytes([_VERSION]):
        _, rest = _any(rest)[1:]
    for _ in range(3):  # serial number, signature algorithm, issuer
        _, rest = _any(rest)[1:]
    dates, _ = _read(rest, _SEQUENCE)
    begin, dates = _time(dates)
    end, _ = _time(dates)
    return Validity(not_before=begin, not_after=end)


def _any(data: bytes) -> tuple[int, bytes, bytes]:
    """Return tag, content and what follows."""
    if len(data) < 2:
        raise ValueError("not a certificate: it ends too early")
    tag, length, start = data[0], data[1], 2
    if length >= 0x80:
        size = length & 0x7F
        if not 1 <= size <= 4:
            raise ValueError("not a certificate: a length is wrong")
        start += size
        length = int.from_bytes(data[2:start], "big")
    end = start + length
    if end > len(data):
        raise ValueError("not a certificate: it ends too early")
    return tag, data[start:end], data[end:]


def _read(data: bytes, wanted: int) -> tuple[bytes, bytes]:
    tag, content, rest = _any(data)
    if tag != wanted:
        raise ValueError(f"not a certificate: found tag {tag:#x}, not {wanted:#x}")
    return content, rest


def _time(data: bytes) -> tuple[datetime, bytes]:
    tag, content, rest = _any(data)
    text = content.decode("ascii", errors="replace")
    if tag == _UTC_TIME:  # years 50 to 99 are of the last century
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError(f"not a certificate: {tag:#x} is no time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC), rest
