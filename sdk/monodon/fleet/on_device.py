"""Is this machine fit to be a core device? What its facts say, check by check. Pure, and standard library alone.

Source: AWS IoT Greengrass developer guide, "Device requirements", "Configure access to … through a firewall",
"Troubleshooting"; the wheels that ``monodon.PythonRuntime`` is built from.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum

MB = 1024 * 1024
#: Below this AWS's nucleus does not install; below the second, a runtime and a model leave no room.
LITTLE_DISK, TIGHT_DISK = 256 * MB, 1024 * MB
LEAST_PYTHON = (3, 11)
#: manylinux_2_28, of which numpy and LiteRT have wheels.
LEAST_GLIBC = (2, 28)
LEAST_JAVA = 11
EXPIRES_SOON = timedelta(days=30)
_ARCHITECTURES = frozenset({"x86_64", "aarch64", "armv7l", "arm64"})


class Level(StrEnum):
    """How a check came out; only ``WRONG`` keeps a device from working."""

    FINE = "fine"
    WARNING = "warning"
    WRONG = "wrong"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One check, what was found, and what to do about it; ``statement`` is policy JSON to paste."""

    check: str
    level: Level
    message: str
    fix: str = ""
    statement: dict[str, object] | None = None

    def to_json(self) -> dict[str, object]:
        """Return the verdict as JSON values."""
        return {key: value for key, value in asdict(self).items() if value not in ("", None)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """One endpoint that was tried; ``error`` is "" where it answered."""

    purpose: str
    host: str
    port: int
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was found on a machine. None: could not be found out.

    ``runs_as`` is the nucleus's own user; ``user`` and ``group`` are the default ones of components. ``sudo`` is "" if
    the nucleus may become that user, else what sudo said; ``None`` if that was not tried.
    """

    thing: str | None
    is_lite: bool
    root: str
    root_exists: bool
    is_root: bool
    user: str
    group: str
    user_exists: bool
    group_exists: bool
    user_groups: tuple[str, ...]
    has_video_group: bool
    cameras: tuple[str, ...]
    sudo: str | None
    root_options: tuple[str, ...]
    tmp_options: tuple[str, ...]
    selinux: str | None
    free_bytes: int | None
    free_inodes: int | None
    machine: str
    libc: tuple[str, str]
    python: str | None
    java: str | None
    has_systemd: bool
    clock_synchronised: bool | None
    now: datetime
    certificate_error: str
    not_before: datetime | None
    not_after: datetime | None
    key_error: str
    key_mode: int | None
    ports: tuple[Port, ...] = ()
    proxy: str = ""
    environment_proxy: str = ""
    config_error: str = ""


def judge(facts: Facts) -> tuple[Verdict, ...]:
    """Return every verdict, in the order in which one would repair a device."""
    checks = (_config, _platform, _users, _video, _sudo, _mounts, _selinux, _disk, _software, _clock, _identity, _ports)
    return tuple(verdict for check in checks for verdict in check(facts))


def _config(facts: Facts) -> Iterator[Verdict]:
    if facts.config_error:
        yield Verdict(
            check="configuration",
            level=Level.WARNING,
            message=facts.config_error,
            fix="endpoints and certificate cannot be checked: name the root folder with --root",
        )
    else:
        yield _fine("configuration", f"{facts.thing or 'a device without a thing'} in {facts.root}")


def _platform(facts: Facts) -> Iterator[Verdict]:
    if facts.machine not in _ARCHITECTURES:
        yield _wrong("machine", f"{facts.machine} has no nucleus of AWS's", f"use {', '.join(sorted(_ARCHITECTURES))}")
    else:
        yield _fine("machine", facts.machine)
    if not facts.has_systemd:
        level = Level.WRONG if facts.is_lite else Level.WARNING
        yield Verdict(
            check="systemd",
            level=level,
            message="systemd does not run here",
            fix="nucleus lite needs it; the Java nucleus needs something else to start it at boot",
        )


def _users(facts: Facts) -> Iterator[Verdict]:
    make = f"groupadd --system {facts.group}; useradd --system --create-home --gid {facts.group} {facts.user}"
    for kind, name, exists in (
        ("group", facts.group, facts.group_exists),
        ("user", facts.user, facts.user_exists),
    ):
        if exists:
            yield _fine(kind, f"{name} exists")
        else:
            yield _wrong(kind, f"the {kind} {name}, whom components run as, does not exist", make)


def _video(facts: Facts) -> Iterator[Verdict]:
    if "video" in facts.user_groups:
        yield _fine("video", f"{facts.user} may use cameras")
    elif facts.has_video_group and facts.user_exists:
        level = Level.WRONG if facts.cameras else Level.WARNING
        cameras = f": {', '.join(facts.cameras)}" if facts.cameras else ", should there be one"
        yield Verdict(
            check="video",
            level=level,
            message=f"{facts.user} is not in the group video, and may not use a camera{cameras}",
            fix=f"usermod --append --groups video {facts.user}, and restart the nucleus",
        )


def _sudo(facts: Facts) -> Iterator[Verdict]:
    if facts.is_lite or not (facts.user_exists and facts.group_exists):
        return  # lite's components are systemd units: no sudo
    if facts.sudo is None:
        yield Verdict(check="sudo", level=Level.UNKNOWN, message="only root can try it", fix="run this with sudo")
    elif facts.sudo:
        yield _wrong(
            "sudo",
            f"root may not become {facts.user}:{facts.group}: {facts.sudo}",
            "visudo: the line for root must be: root ALL=(ALL:ALL) ALL; and without requiretty",
        )
    else:
        yield _fine("sudo", f"root may become {facts.user}:{facts.group}")


def _mounts(facts: Facts) -> Iterator[Verdict]:
    if "ro" in facts.root_options:
        yield _wrong(
            "root folder", f"{facts.root} is on a read-only file system", "mount it writable, or choose another root"
        )
    if "noexec" in facts.root_options:
        yield _wrong(
            "root folder",
            f"{facts.root} is mounted noexec: no component of it can be executed",
            "remount it: mount -o remount,exec …, and in /etc/fstab; or choose another root",
        )
    if not {"ro", "noexec"} & set(facts.root_options):
        yield _fine(
            "root folder",
            f"{facts.root} can be written and executed" + ("" if facts.root_exists else " (not made yet)"),
        )
    if "noexec" in facts.tmp_options and not facts.is_lite:
        yield Verdict(
            check="/tmp",  # noqa: S108 (told of, not used)
            level=Level.WRONG,
            message="it is mounted noexec, and the Java nucleus loads its native library from there",
            fix="add -Djava.io.tmpdir=DIR to the nucleus's jvmOptions, or remount it with exec",
        )


def _selinux(facts: Facts) -> Iterator[Verdict]:
    if facts.selinux == "enforcing":
        yield Verdict(
            check="SELinux",
            level=Level.WARNING,
            message="it is enforcing, and AWS gives no policy for Greengrass",
            fix="look for denials with: ausearch -m avc -ts recent; allow them, or set it permissive",
        )
    else:
        yield _fine("SELinux", facts.selinux or "not there")


def _disk(facts: Facts) -> Iterator[Verdict]:
    if facts.free_bytes is None:
        yield Verdict(check="disk", level=Level.UNKNOWN, message=f"the space of {facts.root} cannot be read")
        return
    free = f"{facts.free_bytes // MB} MB are free for {facts.root}"
    if facts.free_bytes < LITTLE_DISK:
        yield _wrong("disk", free, f"make room: at least {LITTLE_DISK // MB} MB, and what your components need")
    elif facts.free_bytes < TIGHT_DISK:
        yield Verdict(
            check="disk",
            level=Level.WARNING,
            message=free,
            fix="an update needs room for old and new artifacts at once",
        )
    else:
        yield _fine("disk", free)
    if facts.free_inodes is not None and facts.free_inodes < 10_000:
        yield _wrong(
            "disk", f"{facts.free_inodes} files can still be made", "a Python runtime alone has 5,000: make room"
        )


def _software(facts: Facts) -> Iterator[Verdict]:
    name, version = facts.libc
    if name != "glibc":
        yield _wrong("libc", f"the C library is {name or 'not glibc'}", "LiteRT has wheels for glibc alone")
    elif _numbers(version) < LEAST_GLIBC:
        yield _wrong(
            "libc", f"glibc is {version}, and numpy and LiteRT need {_dotted(LEAST_GLIBC)}", "update the system"
        )
    else:
        yield _fine("libc", f"glibc {version}")
    if facts.python is None:
        yield _wrong("Python", "there is no python3", f"install Python {_dotted(LEAST_PYTHON)} or later")
    elif _numbers(facts.python)[:2] < LEAST_PYTHON:
        yield _wrong("Python", f"python3 is {facts.python}", f"components need {_dotted(LEAST_PYTHON)} or later")
    else:
        yield _fine(
            "Python", f"python3 is {facts.python}; monodon.PythonRuntime must be built for the same minor version"
        )
    if facts.is_lite:
        return
    if facts.java is None:
        yield _wrong("Java", "there is no java", f"install a runtime of version {LEAST_JAVA} or later")
    elif java_major(facts.java) < LEAST_JAVA:
        yield _wrong("Java", f"java is {facts.java}", f"the nucleus needs {LEAST_JAVA} or later")
    else:
        yield _fine("Java", f"java {facts.java}")


def _clock(facts: Facts) -> Iterator[Verdict]:
    if facts.not_before is not None and facts.now < facts.not_before:
        yield _wrong(
            "clock",
            f"it says {facts.now:%Y-%m-%d %H:%M} UTC, before the certificate was made ({facts.not_before:%Y-%m-%d})",
            "set the clock: timedatectl set-ntp true",
        )
    elif facts.clock_synchronised is None:
        yield Verdict(check="clock", level=Level.UNKNOWN, message="whether it is synchronised cannot be read")
    elif not facts.clock_synchronised:
        yield Verdict(
            check="clock",
            level=Level.WARNING,
            message="it is not synchronised; AWS refuses requests that are 5 minutes off, and TLS certificates by date",
            fix="timedatectl set-ntp true; UDP port 123 must be open",
        )
    else:
        yield _fine("clock", "synchronised")


def _identity(facts: Facts) -> Iterator[Verdict]:
    if facts.config_error:
        return
    if facts.certificate_error:
        yield _wrong("certificate", facts.certificate_error, "provision again: monodon fleet provision")
    elif facts.not_after is not None:
        left = facts.not_after - facts.now
        until = f"{facts.not_after:%Y-%m-%d}"
        if left <= timedelta():
            yield _wrong("certificate", f"it expired on {until}", "provision again with an empty certs folder")
        elif left < EXPIRES_SOON:
            yield Verdict(
                check="certificate", level=Level.WARNING, message=f"it expires on {until}", fix="replace it before"
            )
        else:
            yield _fine("certificate", f"valid until {until}")
    if facts.key_error:
        yield _wrong("key", facts.key_error, "provision again: monodon fleet provision")
    elif facts.key_mode is not None and facts.key_mode & 0o077:
        yield Verdict(
            check="key",
            level=Level.WARNING,
            message=f"others can read it (mode {facts.key_mode:o})",
            fix="chmod 600 it",
        )
    elif facts.key_mode is not None:
        yield _fine("key", "there, its owner's alone")


def _ports(facts: Facts) -> Iterator[Verdict]:
    if facts.proxy:
        yield Verdict(
            check="proxy",
            level=Level.FINE,
            message=f"the nucleus uses {facts.proxy}; that was tried, and not the endpoints behind it",
        )
    elif facts.environment_proxy:
        yield Verdict(
            check="proxy",
            level=Level.WARNING,
            message=f"the environment names {facts.environment_proxy}, which no nucleus reads",
            fix="set networkProxy.proxy.url of the nucleus's configuration, if this device needs it",
        )
    answered = {(port.host, port.port) for port in facts.ports if not port.error}
    for port in facts.ports:
        where = f"{port.host}:{port.port}"
        if not port.error:
            yield _fine(f"port {port.port}", f"{port.purpose}: {where} answers")
            continue
        instead = (port.host, 443) in answered and not facts.is_lite
        setting = "mqtt.port" if port.port == 8883 else "greengrassDataPlanePort"
        yield _wrong(
            f"port {port.port}",
            f"{port.purpose}: {where} cannot be reached: {port.error}",
            f"open TCP {port.port} to it" + (f"; or set {setting} to 443, which answers there" if instead else ""),
        )


def java_major(version: str) -> int:
    """Return the major version of a Java: 8 of ``1.8.0_302``, 17 of ``17.0.1``; 0 if it cannot be told."""
    numbers = _numbers(version.removeprefix("1."))
    return numbers[0] if numbers else 0


def _numbers(text: str) -> tuple[int, ...]:
    """Return the leading numbers of a version."""
    numbers: list[int] = []
    for part in text.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
        if digits != part:
            break
    return tuple(numbers)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _fine(check: str, message: str) -> Verdict:
    return Verdict(check=check, level=Level.FINE, message=message)


def _wrong(check: str, message: str, fix: str) -> Verdict:
    return Verdict(check=check, level=Level.WRONG, message=message, fix=fix)
