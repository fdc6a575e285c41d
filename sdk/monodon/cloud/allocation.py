"""One heap for all threads: large bodies pass through threads, and glibc would keep megabytes for each of them."""

import ctypes
import logging

log = logging.getLogger(__name__)

#: mallopt(3).
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
_PIECE_BYTES = 64 * 1024


def keep_one_heap() -> None:
    """Have glibc use one heap and give large pieces back at once; elsewhere nothing is done."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        log.debug("this C library has no mallopt")
        return
    mallopt(_M_ARENA_MAX, 1)
    mallopt(_M_MMAP_THRESHOLD, _PIECE_BYTES)
