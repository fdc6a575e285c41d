"""A cloud and its devices on this machine: each its own process, started and stopped together.

::

    <state>/cloud/              the embedded cloud's folder      <state>/cache/   built artifacts, kept between runs
    <state>/devices/<thing>/    a device's root                  <state>/logs/    what the processes print
    <state>/demo/               what the demo made of it         <state>/bin/     python3, as devices find it
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from monodon import __version__
from monodon.errors import StateError
from monodon.fleet.aws import Aws
from monodon.fleet.provisioning import cloud_endpoints, provision

#: Names the folders of a state that a lab has made, and may remove: all others are somebody else's.
MARK = ".monodon-lab"
READY = "ready.json"
START_TIMEOUT_S = 30.0
#: Components may take 30 s to stop (nucleus.md 3.3); after this the process is killed.
STOP_TIMEOUT_S = 40.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running process of the lab and what it said when it was ready."""

    name: str
    pid: int
    ready: Mapping[str, Any]
    log: Path


class Lab:
    """The processes in one state folder; leaving the context stops them, unless ``keep_running`` was set."""

    def __init__(self, state: Path) -> None:
        self.state = state.resolve()
        self.cache = self.state / "cache"
        self.logs = self.state / "logs"
        self.keep_running = False
        self._processes: list[tuple[Server, subprocess.Popen[bytes]]] = []
        self._lock: int | None = None

    def __enter__(self) -> Self:
        """Take the folder for this lab alone, and renew everything in it but the cache.

        Raises:
            StateError: another lab uses it, or it holds a folder that no lab has made.
        """
        for folder in (self.state, self.cache):
            _make(folder)
        self._lock = _lock(self.state)
        try:
            self._refuse_running()
            for name in ("cloud", "devices", "logs", "demo"):
                _renew(self.state, name)
        except BaseException:
            os.close(self._lock)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not (self.keep_running and kind is None):
            self.stop()
        if self._lock is not None:
            os.close(self._lock)

    def start_cloud(self, *, port: int = 0, mqtt_port: int = 0) -> Server:
        """Start the embedded cloud and wait until it is ready; port 0 is a free one.

        Raises:
            StateError: it ended, or was not ready in time; the last lines of its log say why.
        """
        folder = self.state / "cloud"
        arguments = ["cloud", "run", "--state", str(folder), "--port", str(port), "--mqtt-port", str(mqtt_port)]
        return self._start("cloud", arguments, folder, {})

    def provision(self, cloud: Server, thing: str, group: str) -> Path:
        """Make a thing in a group, with its certificate and configuration; return its root folder."""
        root = self.state / "devices" / thing
        endpoints = cloud_endpoints(cloud.ready)
        ca_file = Path(cloud.ready["ca_file"])
        for _ in provision(self.aws(cloud), thing=thing, group=group, root=root, root_ca=ca_file, endpoints=endpoints):
            pass
        return root

    def start_device(self, cloud: Server, root: Path) -> Server:
        """Start the embedded nucleus of a provisioned root and wait until it is ready (errors as ``start_cloud``)."""
        environment = {
            "AWS_ENDPOINT_URL_S3": cloud.ready["endpoint"],
            "AWS_ENDPOINT_URL_SECRETS_MANAGER": cloud.ready["endpoint"],
            "AWS_ENDPOINT_URL_GREENGRASSV2": cloud.ready["endpoint"],
            "PATH": f"{self._interpreter_folder()}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        }
        return self._start(root.name, ["nucleus", "run", "--root", str(root)], root, environment)

    def aws(self, cloud: Server) -> Aws:
        """Return boto3's way to the lab's cloud."""
        return Aws(endpoint_url=cloud.ready["endpoint"], region=cloud.ready["region"])

    def restart_cloud(self, cloud: Server) -> Server:
        """Start a cloud that was killed again, on its own ports, with all that it knew (errors as ``start_cloud``)."""
        port = int(str(cloud.ready["endpoint"]).rpartition(":")[2])
        return self.start_cloud(port=port, mqtt_port=int(cloud.ready["mqtt_port"]))

    def kill(self, server: Server) -> None:
        """End a process as a power cut would: SIGKILL, at once."""
        process = self._forget(server)
        process.kill()
        process.wait()

    def stop_server(self, server: Server) -> None:
        """Stop one process as an operator would: SIGTERM, and SIGKILL if it takes too long."""
        _stop(self._forget(server))

    def _forget(self, server: Server) -> subprocess.Popen[bytes]:
        process = next(process for known, process in self._processes if known is server)
        self._processes = [(known, process) for known, process in self._processes if known is not server]
        return process

    def stop(self) -> None:
        """Stop the processes, the youngest first: SIGTERM, and SIGKILL for one that takes too long."""
        for _, process in reversed(self._processes):
            _stop(process)
        self._processes.clear()

    def _start(self, name: str, arguments: list[str], folder: Path, environment: Mapping[str, str]) -> Server:
        log = self.logs / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "monodon", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**_plain_environment(), **environment},
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while (ready := _read_ready(folder, process.pid)) is None:
            if process.poll() is not None or time.monotonic() > deadline:
                _stop(process)
                what = f"ended with {process.returncode}" if process.returncode else "was not ready in time"
                raise StateError(f"{name} {what}: {_tail(log)}", hint=f"its log is {log}")
            time.sleep(0.01)
        server = Server(name=name, pid=process.pid, ready=ready, log=log)
        self._processes.append((server, process))
        return server

    def _refuse_running(self) -> None:
        for server in running(self.state):
            raise StateError(
                f"{server.name} (pid {server.pid}) of an earlier run still uses {self.state}",
                hint=f"stop it with scripts/demo --stop --state {self.state}, or choose another --state",
            )

    def _interpreter_folder(self) -> Path:
        """Return a folder whose ``python3`` is this interpreter without its environment, as a device has it."""
        folder = self.state / "bin"
        folder.mkdir(exist_ok=True)
        link = folder / "python3"
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
        return folder


def running(state: Path) -> Iterator[Server]:
    """Yield the servers of a state folder that are alive, devices first."""
    for folder in (*sorted((state / "devices").glob("*/")), state / "cloud"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            ready = json.loads((folder / READY).read_text())
            if _is_monodon(ready["pid"]):
                log = state / "logs" / f"{folder.name}.log"
                yield Server(name=folder.name, pid=ready["pid"], ready=ready, log=log)


def stop_running(state: Path) -> list[Server]:
    """Stop what an earlier run left running in a state folder; return what was stopped."""
    stopped = list(running(state))
    for server in stopped:
        os.kill(server.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while _is_monodon(server.pid):
            if time.monotonic() > deadline:
                os.kill(server.pid, signal.SIGKILL)
            time.sleep(0.02)
    return stopped


def _is_monodon(pid: int) -> bool:
    try:
        return b"monodon" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _read_ready(folder: Path, pid: int) -> Mapping[str, Any] | None:
    with contextlib.suppress(OSError, ValueError):
        ready: dict[str, Any] = json.loads((folder / READY).read_text())
        if ready.get("pid") == pid:
            return ready
    return None


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    errors = [line for line in lines if line.startswith("error:")]
    return (errors or lines or ["it printed nothing"])[-1].removeprefix("error: ")


def _plain_environment() -> dict[str, str]:
    """Return the environment without what would point boto3, awscrt or Python elsewhere."""
    dropped = ("AWS_", "PYTHON", "SVCUID")
    return {name: value for name, value in os.environ.items() if not name.startswith(dropped)}


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(f"cannot make the state folder {folder}: {error.strerror}") from error


def _lock(state: Path) -> int:
    handle = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise StateError(f"another demo is running in {state}", hint="wait for it, or choose another --state") from None
    return handle


def _renew(state: Path, name: str) -> None:
    """Make a folder anew; one that no lab has made is somebody else's, and is not touched."""
    folder, ours = state / name, _made_by_labs(state)
    if folder.exists() and any(folder.iterdir()) and name not in ours:
        raise StateError(
            f"{folder} was not made by the demo, so it is not touched",
            hint="move it away, or choose another folder with --state",
        )
    unfinished = state / f"{MARK}.part"
    unfinished.write_text(json.dumps({"version": __version__, "made": sorted({*ours, name})}) + "\n")
    unfinished.replace(state / MARK)
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()


def _made_by_labs(state: Path) -> set[str]:
    """Return the names of the folders that a lab has made in a state folder."""
    try:
        return set(json.loads((state / MARK).read_text())["made"])
    except FileNotFoundError:
        return set()
    except (OSError, ValueError, KeyError, TypeError):
        raise StateError(f"{state / MARK} is damaged", hint=f"remove {state}, or choose another --state") from None
