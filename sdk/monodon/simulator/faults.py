"""What is wrong with some devices of a fleet: faults, the share of devices that have each, and who those are. Pure.

A fault is written as ``SHARE[:HOW]``, the share in per cent or as a number of devices::

    offline    5%            never there            5%:10m       there from the tenth minute on
               5%:10m..2h    away in between
    fail       3%            COMPONENT_BROKEN       3%:DISK_SPACE_CRITICAL
               3%:COMPONENT_BROKEN:com.example.Camera@2.0.0     only with that version of that component
    slow       10%:30s       10%:10s..60s
    flap       1%            connection lost every half a minute, and after a few messages;   1%:10s
    reject, hang, duplicate, disorder, garbage      2%

The same seed gives the same devices the same faults.
"""

import hashlib
import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from monodon.errors import FleetError

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")
_CODE: Final = re.compile(r"[A-Z][A-Z0-9_]{2,63}")
FLAP_EVERY_S: Final = 30.0
COMPONENT_BROKEN: Final = "COMPONENT_BROKEN"
NEVER: Final = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A deployment fails with an error code of AWS's; of ``component`` or one of its versions alone, if named."""

    code: str = COMPONENT_BROKEN
    component: str | None = None
    version: str | None = None

    def culprit(self, roots: Mapping[str, str]) -> str | None:
        """The component (of ``roots``: name to version) that makes a deployment fail; None: it goes well."""
        for name, version in sorted(roots.items()):
            if self.component in (None, name) and self.version in (None, version):
                return name
        return "" if self.component is None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How one device behaves; all times in seconds. ``away``: from when until when it is not connected."""

    takes: tuple[float, float] = (0.0, 0.0)
    away: tuple[float, float] | None = None
    flaps_every: float | None = None
    failures: tuple[Failure, ...] = ()
    rejects: bool = False
    hangs: bool = False
    duplicates: bool = False
    disorders: bool = False
    talks_garbage: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A number of devices, or a percentage of them."""

    percent: float | None = None
    count: int = 0

    @classmethod
    def parse(cls, text: str) -> "Share":
        """Read ``5%`` or ``12``.

        Raises:
            FleetError: it is neither, or over 100 %.
        """
        number = text.removesuffix("%")
        if re.fullmatch(r"\d+(\.\d+)?", number) and text.endswith("%") and float(number) <= 100:
            return cls(percent=float(number))
        if re.fullmatch(r"\d+", text):
            return cls(count=int(text))
        raise FleetError(f"{text!r} is no share of devices", hint="write 5% (at most 100%) or a number of devices")

    def of(self, devices: int) -> int:
        """How many of so many devices; a percentage above 0 is one at least."""
        if self.percent is None:
            return min(self.count, devices)
        rounded = math.floor(self.percent * devices / 100 + 0.5)
        return min(devices, max(rounded, 1 if self.percent and devices else 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A change of the profile that a share of the devices has. Of one ``family`` a device has one fault at most."""

    share: Share
    change: Mapping[str, object] = field(default_factory=dict)
    family: str = ""

    def apply(self, profile: Profile) -> Profile:
        """The profile of a device that has this fault as well."""
        return replace(profile, **dict(self.change))  # type: ignore[arg-type]  # names and types are those of _KINDS


def read_fault(kind: str, text: str) -> Fault:
    """Read a fault as the module's docstring writes them.

    Raises:
        FleetError: there is no such fault, or it cannot be understood.
    """
    if kind not in _KINDS:
        raise FleetError(f"{kind!r} is no fault", hint=f"there are {', '.join(_KINDS)}")
    share, _, how = text.partition(":")
    change = _KINDS[kind](how)
    return Fault(share=Share.parse(share), change=change, family=_FAMILIES.get(kind, kind))


def read_duration(text: str) -> float:
    """Seconds of ``30``, ``250ms``, ``30s``, ``10m``, ``2h`` or ``10d``.

    Raises:
        FleetError: it is no duration.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        raise FleetError(f"{text!r} is no duration", hint="write a number and ms, s, m, h or d, such as 30s")
    return float(found[1]) * _UNITS[found[2] or "s"]


def read_span(text: str) -> tuple[float, float]:
    """Seconds from and to, of ``30s`` or ``10s..60s``.

    Raises:
        FleetError: it is no duration, or ends before it begins.
    """
    first, has_end, last = text.partition("..")
    span = read_duration(first), read_duration(last if has_end else first)
    if span[1] < span[0]:
        raise FleetError(f"{text!r} ends before it begins", hint="write the smaller one first, such as 10s..60s")
    return span


def _offline(how: str) -> dict[str, object]:
    if not how:
        return {"away": (0.0, NEVER)}
    return {"away": read_span(how) if ".." in how else (0.0, read_duration(how))}


def _fail(how: str) -> dict[str, object]:
    code, _, where = how.partition(":")
    component, _, version = where.partition("@")
    if code and not _CODE.fullmatch(code):
        raise FleetError(f"{code!r} is no error code", hint="write one of AWS's, such as COMPONENT_BROKEN")
    failure = Failure(code=code or COMPONENT_BROKEN, component=component or None, version=version or None)
    return {"failures": (failure,)}


def _slow(how: str) -> dict[str, object]:
    return {"takes": read_span(how or "30s")}


def _flap(how: str) -> dict[str, object]:
    every = read_duration(how) if how else FLAP_EVERY_S
    if every <= 0:
        raise FleetError("a connection cannot be lost every 0 s", hint="write flap as 1%:10s")
    return {"flaps_every": every}


def _flag(name: str) -> Callable[[str], dict[str, object]]:
    def read(how: str) -> dict[str, object]:
        if how:
            raise FleetError(f"{how!r} is too much: this fault has a share alone", hint="write 2%")
        return {name: True}

    return read


_KINDS: Final[Mapping[str, Callable[[str], dict[str, object]]]] = {
    "offline": _offline,
    "fail": _fail,
    "slow": _slow,
    "flap": _flap,
    "reject": _flag("rejects"),
    "hang": _flag("hangs"),
    "duplicate": _flag("duplicates"),
    "disorder": _flag("disorders"),
    "garbage": _flag("talks_garbage"),
}
#: Faults that a device cannot have together: how a deployment ends, and whether the device is there.
_FAMILIES: Final = {"fail": "end", "reject": "end", "hang": "end", "offline": "presence", "flap": "presence"}
KINDS: Final = tuple(_KINDS)


def draw(faults: Sequence[Fault], devices: int, seed: int, base: Profile | None = None) -> list[Profile]:
    """The profile of each device; equal ones are one object.

    Of a family, later faults take of the devices that the earlier ones have left; when none is left, fewer have them.
    """
    profiles = [base or Profile()] * devices
    known: dict[Profile, Profile] = {}
    taken: dict[str, set[int]] = {}
    for number, fault in enumerate(faults):
        busy = taken.setdefault(fault.family or str(number), set())
        free = [index for index in range(devices) if index not in busy]
        picked = random.Random(f"{seed}/{number}").sample(free, min(len(free), fault.share.of(devices)))  # noqa: S311
        busy.update(picked)
        for index in picked:
            profile = fault.apply(profiles[index])
            profiles[index] = known.setdefault(profile, profile)
    return profiles


def unit(seed: int, *of: object) -> float:
    """A number in [0, 1) that looks random, and is the same for the same arguments."""
    text = "/".join(map(str, (seed, *of)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest()) / (1 << 56)
