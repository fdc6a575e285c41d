"""Find the facts of this machine: looks, and changes nothing. Standard library alone, each wait with a deadline."""

import ctypes
import grp
import os
import platform
import pwd
import re
import shutil
import socket
import ssl
import stat
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from monodon.fleet.on_device import Facts, Port
from monodon.fleet.x509 import Validity, certificate_bytes, validity

#: A port that has not answered by then counts as closed; a program likewise as hanging.
PORT_TIMEOUT_S, PROGRAM_TIMEOUT_S = 5.0, 10.0
JAVA_ROOT, LITE_CONFIG = Path("/greengrass/v2"), Path("/etc/greengrass/config.yaml")
_TIME_ERROR = 5
_PROXIES = ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceConfig:
    """What a nucleus's configuration says: texts by lower-cased path such as ``system/thingname``."""

    values: Mapping[str, str]
    is_lite: bool
    error: str = ""

    def text(self, key: str) -> str:
        """Return a value of ``system``, or of the nucleus's configuration; "" if it has none."""
        for path, value in self.values.items():
            if path.endswith(f"/{key.lower()}") and path.startswith(("system/", "services/aws.greengrass.nucleus")):
                return value
        return ""


def gather(root: Path | None = None, *, environment: Mapping[str, str] | None = None) -> Facts:
    """Return the facts of this machine, about the device whose root folder is ``root``.

    Without one: ``/greengrass/v2`` if it is there, else what nucleus lite was configured with.
    """
    config, folder = find_config(root)
    user, _, group = (config.text("posixUser") or ("gg_component" if config.is_lite else "ggc_user")).partition(":")
    group = group or ("gg_component" if config.is_lite else "ggc_group")
    valid, certificate_error = _certificate(config)
    key_mode, key_error = _key(config)
    proxy = config.text("url")
    return Facts(
        thing=config.text("thingName") or None,
        is_lite=config.is_lite,
        root=str(folder),
        root_exists=folder.is_dir(),
        is_root=os.geteuid() == 0,
        user=user,
        group=group,
        user_exists=_user_exists(user),
        group_exists=_group_exists(group),
        user_groups=_groups_of(user),
        has_video_group=_group_exists("video"),
        cameras=tuple(sorted(str(path) for path in Path("/dev").glob("video*"))),
        sudo=_sudo(user, group),
        root_options=mount_options(folder, _read("/proc/self/mounts")),
        tmp_options=mount_options(Path("/tmp"), _read("/proc/self/mounts")),  # noqa: S108 (looked at, not used)
        selinux=_selinux(),
        free_bytes=_free(folder)[0],
        free_inodes=_free(folder)[1],
        machine=platform.machine(),
        libc=_libc(),
        python=_version(["python3", "-I", "-c", "import platform; print(platform.python_version())"], r"(\S+)"),
        java=None if config.is_lite else _version(["java", "-version"], r'version "([^"]+)"'),
        has_systemd=Path("/run/systemd/system").is_dir(),
        clock_synchronised=_clock(),
        now=datetime.now(UTC),
        certificate_error=certificate_error,
        not_before=valid.not_before if valid else None,
        not_after=valid.not_after if valid else None,
        key_error=key_error,
        key_mode=key_mode,
        ports=try_ports(wanted_ports(config, proxy)),
        proxy=_without_password(proxy),
        environment_proxy=_environment_proxy(os.environ if environment is None else environment),
        config_error=config.error,
    )


def find_config(root: Path | None) -> tuple[DeviceConfig, Path]:
    """Return the configuration of a device, and its root folder."""
    if root is None and not JAVA_ROOT.is_dir() and LITE_CONFIG.is_file():
        config = read_config(LITE_CONFIG)
        return config, Path(config.text("rootPath") or "/var/lib/greengrass")
    folder = (root or JAVA_ROOT).absolute()
    # The nucleus writes what is in force into the second one; the first is what it was installed with.
    for name in ("config/config.yaml", "config/effectiveConfig.yaml", "config.yaml"):
        if (folder / name).is_file():
            return read_config(folder / name), folder
    return DeviceConfig(values={}, is_lite=False, error=f"no nucleus is configured in {folder}"), folder


def read_config(path: Path) -> DeviceConfig:
    """Read the texts of a nucleus's configuration: the block mappings of YAML, which is what nuclei write."""
    try:
        values = read_mappings(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        return DeviceConfig(values={}, is_lite=False, error=f"cannot read {path}: {error}")
    is_lite = any(path.startswith("services/aws.greengrass.nucleuslite/") for path in values)
    problem = "" if values.get("system/thingname") else f"{path} names no thing"
    return DeviceConfig(values=values, is_lite=is_lite, error=problem)


def read_mappings(text: str) -> dict[str, str]:
    """Return the scalars of nested block mappings by their path, lower-cased; the rest of YAML is passed over."""
    values: dict[str, str] = {}
    open_keys: list[tuple[int, str]] = []
    for line in text.splitlines():
        found = re.fullmatch(r"""( *)(?:"([^"]+)"|'([^']+)'|([^\s#'":\[{-][^:#]*)) *:(?: +(.*))?""", line.rstrip())
        if found is None:
            continue
        indent, key = len(found[1]), (found[2] or found[3] or found[4]).strip().lower()
        while open_keys and open_keys[-1][0] >= indent:
            open_keys.pop()
        open_keys.append((indent, key))
        if value := _scalar(found[5] or ""):
            values["/".join(name for _, name in open_keys)] = value
    return values


def _scalar(text: str) -> str:
    if text[:1] in ("'", '"'):
        end = text.find(text[0], 1)
        return text[1:end] if end > 0 else ""
    return re.sub(r"\s+#.*", "", text).strip() if text[:1] not in ("{", "[", "|", ">", "&", "#") else ""


def mount_options(path: Path, mounts: str) -> tuple[str, ...]:
    """Return the options of the file system that a path lies on, or would lie, out of ``/proc/self/mounts``."""
    real = os.path.realpath(path)
    best = ""
    options: tuple[str, ...] = ()
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 4:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[1])
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, options = point, tuple(fields[3].split(","))
    return options


def wanted_ports(config: DeviceConfig, proxy: str = "") -> tuple[Port, ...]:
    """Return the endpoints that a device must reach; with a proxy that one alone."""
    if proxy:
        url = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        return (Port(purpose="proxy", host=url.hostname or proxy, port=_port(url.netloc, 443)),)
    data, credentials = config.text("iotDataEndpoint"), config.text("iotCredEndpoint")
    plane = config.text("greengrassDataPlaneEndpoint")
    region = config.text("awsRegion")
    mqtt_port = _port(f":{config.text('port')}", 8883)
    plane_port = _port(f":{config.text('greengrassDataPlanePort')}", 8443)
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    at_aws = data.endswith(f".{domain}")
    if not plane and at_aws:
        plane = f"greengrass-ats.iot.{region}.{domain}"
    if plane == "iotdata" or (config.is_lite and not at_aws):
        plane = data
    wanted = []
    if data:
        wanted.append(Port(purpose="MQTT", host=data, port=mqtt_port))
        if at_aws and mqtt_port != 443:
            wanted.append(Port(purpose="MQTT by ALPN, and data plane", host=data, port=443))
    if plane:
        wanted.append(Port(purpose="data plane", host=_host(plane), port=_port(plane, plane_port)))
    if credentials:
        wanted.append(Port(purpose="role credentials", host=_host(credentials), port=_port(credentials, 443)))
    if at_aws:
        wanted.append(Port(purpose="artifacts in S3", host=f"s3.{region}.{domain}", port=443))
    return tuple(wanted)


def try_ports(wanted: Sequence[Port], timeout_s: float = PORT_TIMEOUT_S) -> tuple[Port, ...]:
    """Try to connect to each, all at once; one whose name or address has not answered in ``timeout_s`` is given up."""
    found: dict[Port, str] = {}

    def attempt(port: Port) -> None:
        found[port] = _try(port, timeout_s)

    # Looking up a name has no deadline of its own, so the threads have none to wait for them.
    threads = [threading.Thread(target=attempt, args=(port,), daemon=True) for port in wanted]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + timeout_s
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    silent = f"no answer within {timeout_s:g} s"
    return tuple(
        Port(purpose=port.purpose, host=port.host, port=port.port, error=found.get(port, silent)) for port in wanted
    )


def _try(port: Port, timeout_s: float) -> str:
    try:
        socket.create_connection((port.host, port.port), timeout=timeout_s).close()
    except (OSError, UnicodeError) as error:  # a host name may be none
        return getattr(error, "strerror", None) or str(error)
    return ""


def _host(address: str) -> str:
    return address.rpartition(":")[0] or address


def _port(address: str, default: int) -> int:
    text = address.rpartition(":")[2]
    return int(text) if ":" in address and text.isdecimal() else default


def _user_exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _group_exists(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def _groups_of(user: str) -> tuple[str, ...]:
    try:
        primary = grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name
    except KeyError:
        return ()
    return tuple(sorted({primary} | {entry.gr_name for entry in grp.getgrall() if user in entry.gr_mem}))


def _sudo(user: str, group: str) -> str | None:
    """Try what the nucleus will do, as root; "" if it may. Source: nucleus.md, E7."""
    if os.geteuid() != 0 or not (_user_exists(user) and _group_exists(group)):
        return None
    if shutil.which("sudo") is None:
        return "sudo is not installed"
    code, text = _program(["sudo", "-n", "-E", "-H", "-u", user, "-g", group, "--", "true"])
    return "" if code == 0 else text.strip().splitlines()[-1] if text.strip() else f"sudo ended with {code}"


def _selinux() -> str | None:
    state = _read("/sys/fs/selinux/enforce").strip()
    return {"1": "enforcing", "0": "permissive"}.get(state)


def _free(folder: Path) -> tuple[int | None, int | None]:
    """Return the free bytes and inodes of the file system that a folder lies on, or would."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        found = os.statvfs(folder)
    except OSError:
        return None, None
    return found.f_bavail * found.f_frsize, found.f_favail if found.f_files else None


def _libc() -> tuple[str, str]:
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (ValueError, OSError):  # another C library does not know the name
        return platform.libc_ver()
    return name, version


def _clock() -> bool | None:
    """Whether the kernel's clock is kept right by something: adjtimex without a change, which everybody may call."""
    adjtimex = getattr(ctypes.CDLL(None), "adjtimex", None)
    if adjtimex is None:
        return None
    state = adjtimex(ctypes.create_string_buffer(512))
    return None if state < 0 else state != _TIME_ERROR


def _certificate(config: DeviceConfig) -> tuple[Validity | None, str]:
    path = config.text("certificateFilePath")
    if config.error or not path:
        return None, "the configuration names no certificate"
    try:
        return validity(certificate_bytes(Path(path).read_text(encoding="ascii"))), ""
    except OSError as error:
        return None, f"cannot read {path}: {error.strerror}"
    except ValueError as error:
        return None, f"{path}: {error}"


def _key(config: DeviceConfig) -> tuple[int | None, str]:
    path, certificate = config.text("privateKeyPath"), config.text("certificateFilePath")
    if config.error or not path:
        return None, "the configuration names no private key"
    if path.startswith(("pkcs11:", "parsec:")):
        return None, ""  # in hardware: nothing to look at
    try:
        mode = stat.S_IMODE(Path(path).stat().st_mode)
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, path)
    except ssl.SSLError as error:
        return mode, f"{path} is not the certificate's key: {error.reason}"
    except OSError as error:
        return None, f"cannot read {path}: {error.strerror}"
    return mode, ""


def _environment_proxy(environment: Mapping[str, str]) -> str:
    return next((_without_password(environment[name]) for name in _PROXIES if environment.get(name)), "")


def _without_password(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//…@", url)


def _version(command: Sequence[str], pattern: str) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    _, text = _program(command)
    found = re.search(pattern, text)
    return found[1] if found else None


def _program(command: Sequence[str]) -> tuple[int, str]:
    """Run a program without input; its code and all it printed."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PROGRAM_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return -1, str(error)
    return done.returncode, done.stdout.decode(errors="replace")


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
