"""Which files below some folders were saved: by looking at their times, which every file system has."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

_SKIPPED = frozenset({"__pycache__", "node_modules", "venv", "greengrass-build", "zip-build"})


class Watch:
    """The files below some paths (or the paths themselves), hidden ones and caches left out."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths: tuple[Path, ...] = ()
        self._seen: dict[Path, tuple[int, int, int]] = {}
        self.add(paths)

    def add(self, paths: Iterable[Path]) -> None:
        """Watch these too from now on; nothing of what is watched already is missed."""
        new = tuple(path for path in dict.fromkeys(path.resolve() for path in paths) if path not in self._paths)
        self._paths += new
        for path in new:
            for file, stamp in _below(path):
                self._seen.setdefault(file, stamp)

    def saved(self) -> tuple[Path, ...]:
        """Return the files that are new, gone or other than when this was last asked, in order."""
        before, self._seen = self._seen, dict(self._look())
        changed = before.items() ^ self._seen.items()
        return tuple(sorted({path for path, _ in changed}))

    def _look(self) -> Iterator[tuple[Path, tuple[int, int, int]]]:
        for path in self._paths:
            yield from _below(path)


def _below(path: Path) -> Iterator[tuple[Path, tuple[int, int, int]]]:
    if not path.is_dir():
        yield from _stamped(path)
        return
    for folder, folders, files in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in _SKIPPED]
        for name in files:
            if not name.startswith(".") and not name.endswith((".pyc", "~", ".swp", ".part")):
                yield from _stamped(Path(folder, name))


def _stamped(path: Path) -> Iterator[tuple[Path, tuple[int, int, int]]]:
    try:
        status = path.stat()
    except OSError:  # saved by renaming, this very moment; or a dangling link
        return
    yield path, (status.st_mtime_ns, status.st_size, status.st_ino)
