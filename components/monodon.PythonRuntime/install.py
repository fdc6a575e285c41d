"""The install step: tell in one line whether this device can use the packages of this version of the runtime.

There is nothing to install: the device has unpacked the tree already.
"""

import json
import platform
import sys
from pathlib import Path


def misfit(folder: Path) -> str:
    """Return why this Python cannot use the tree in ``folder``, in one line; "" if it can."""
    tag = json.loads((folder / "tag.json").read_text(encoding="utf-8"))
    ours = {
        "python": ".".join(map(str, sys.version_info[:2])),
        "implementation": sys.implementation.name,
        "system": platform.system(),
        "machine": platform.machine(),
    }
    differing = [f"{key} {tag[key]}, and this is {value}" for key, value in ours.items() if tag[key] != value]
    library, version = platform.libc_ver()
    if ours["system"] == "Linux" and tag["glibc"] != "0.0":
        if library != "glibc":
            differing.append(f"glibc {tag['glibc']}, and this system has {library or 'another C library'}")
        elif _numbers(version) < _numbers(tag["glibc"]):
            differing.append(f"glibc {tag['glibc']}, and this is {version}")
    if not differing:
        return ""
    return (
        f"monodon.PythonRuntime was built for {'; for '.join(differing)}: publish it built on a machine like this one"
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


if __name__ == "__main__":
    sys.exit(misfit(Path(__file__).resolve().parent) or 0)
