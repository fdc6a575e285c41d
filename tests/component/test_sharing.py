"""Arrays by reference: leases, and what becomes of them when a process is killed."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import monodon
from monodon.component import LoopbackNucleus
from monodon.component.sharing import SHARED_MEMORY, Handle, Sharer, receive, sweep
from monodon.errors import IpcError

SDK = Path(monodon.__file__).parents[1]
FRAME = np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3)

#: A process that shares one array, says its handle, and waits.
OWNER = """
import json, os, sys
from dataclasses import asdict
from pathlib import Path
import numpy as np
from monodon.component.sharing import Sharer
if int(sys.argv[2]):
    os.setuid(int(sys.argv[2]))
sharer = Sharer(folder=Path(sys.argv[1]))
frame = np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3)
print(json.dumps(asdict(sharer.share(frame))), flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Settings:
    pass


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """In place of /dev/shm."""
    return tmp_path


@contextmanager
def owner(folder: Path, user: int = 0) -> "Iterator[tuple[subprocess.Popen[str], Any]]":
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(folder), str(user)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(SDK), "OPENBLAS_NUM_THREADS": "1"},
    )
    try:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def carried(handle: Handle) -> Any:
    """The handle as a message brings it."""
    return json.loads(json.dumps(asdict(handle)))


@pytest.mark.parametrize(
    "array",
    [
        FRAME,
        FRAME[:, ::2],
        FRAME[..., 0].T,
        np.zeros((2, 3), np.float32),
        np.array([True, False]),
        np.array(7, np.int64),
        np.empty((0, 4), np.uint16),
    ],
)
def test_an_array_comes_as_it_was_and_cannot_be_written(folder: Path, array: Any) -> None:
    sharer = Sharer(folder=folder)
    handle = sharer.share(array)
    with receive(carried(handle), folder=folder) as shared:
        assert shared.array.dtype == array.dtype
        assert shared.array.shape == array.shape
        assert np.array_equal(shared.array, array)
        with pytest.raises(ValueError, match="read-only"):
            shared.array[...] = 0
    sharer.close()
    assert files(folder) == []


def test_bytes_are_an_array_too(folder: Path) -> None:
    sharer = Sharer(folder=folder)
    with receive(carried(sharer.share(b"narwhal")), folder=folder) as shared:
        assert shared.array.tobytes() == b"narwhal"
    sharer.close()


def test_what_is_mapped_stays_good_after_everybody_let_go(folder: Path) -> None:
    sharer = Sharer(folder=folder)
    shared = receive(carried(sharer.share(FRAME)), folder=folder)
    array = shared.array
    sharer.close()
    shared.close()
    del shared
    assert files(folder) == []
    assert np.array_equal(array, FRAME)


def test_the_oldest_go_when_the_budget_is_full(folder: Path) -> None:
    sharer = Sharer(folder=folder, budget_bytes=3 * FRAME.nbytes)
    handles = [sharer.share(FRAME) for _ in range(5)]
    assert sharer.shared_bytes == 3 * FRAME.nbytes
    assert files(folder) == sorted(handle.name for handle in handles[2:])
    with pytest.raises(IpcError) as caught:
        receive(carried(handles[0]), folder=folder)
    assert caught.value.code == "Gone"
    with pytest.raises(IpcError) as caught:
        sharer.share(np.zeros(4 * FRAME.nbytes, np.uint8))
    assert caught.value.code == "NoRoom"
    sharer.close()


def test_what_was_not_fetched_in_time_goes(folder: Path) -> None:
    now = 0.0
    sharer = Sharer(folder=folder, keep_s=10, clock=lambda: now)
    sharer.share(FRAME)
    now = 10.0
    second = sharer.share(FRAME)
    assert files(folder) == [second.name]
    sharer.close()


def test_a_forgotten_sharer_leaves_nothing(folder: Path) -> None:
    Sharer(folder=folder).share(FRAME)
    assert files(folder) == []


def test_the_last_reader_of_a_killed_owner_frees_the_array(folder: Path) -> None:
    with owner(folder) as (process, handle):
        one, other = receive(handle, folder=folder), receive(handle, folder=folder)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert np.array_equal(one.array, FRAME)
        one.close()
        assert files(folder) == [handle["name"]]
        assert np.array_equal(other.array, FRAME)
        other.close()
    assert files(folder) == []


def test_what_a_killed_owner_left_unread_goes_when_the_next_one_shares(folder: Path) -> None:
    with owner(folder) as (process, handle):
        sweep(folder)
        assert files(folder) == [handle["name"]]  # it lives, so it has its lease
        process.kill()
        process.wait()
        (folder / "monodon-other").touch()
        sharer = Sharer(folder=folder)
        mine = sharer.share(FRAME)
        assert files(folder) == sorted([mine.name, "monodon-other"])
        sharer.close()


async def test_what_a_killed_owner_left_unread_goes_when_others_receive(loopback: LoopbackNucleus) -> None:
    camera = loopback.component(Settings(), name="com.example.Camera")
    viewer = loopback.component(Settings(), name="com.example.Viewer")
    handle = carried(await camera.share(FRAME))
    with owner(SHARED_MEMORY) as (process, lost):
        process.kill()
        process.wait()
        assert (SHARED_MEMORY / lost["name"]).exists()
        with viewer.receive(handle):
            assert not (SHARED_MEMORY / lost["name"]).exists()
    camera.close()


async def test_what_a_killed_owner_left_unread_goes_when_a_component_starts(socket_nucleus: Any) -> None:
    """As the owner does again, restarted by its nucleus."""
    with owner(SHARED_MEMORY) as (process, lost):
        process.kill()
        process.wait()
        assert (SHARED_MEMORY / lost["name"]).exists()
        async with asyncio.timeout(30), socket_nucleus.open(Settings(), name="com.example.Camera"):
            assert not (SHARED_MEMORY / lost["name"]).exists()


def test_a_killed_reader_holds_nothing_up(folder: Path) -> None:
    sharer = Sharer(folder=folder)
    handle = sharer.share(FRAME)
    code = (
        "import sys, json, pathlib\nfrom monodon.component.sharing import receive\n"
        "shared = receive(json.loads(sys.argv[2]), folder=pathlib.Path(sys.argv[1]))\nprint('mapped', flush=True)\n"
        "sys.stdin.read()"
    )
    arguments = [sys.executable, "-c", code, str(folder), json.dumps(asdict(handle))]
    environment = {"PYTHONPATH": str(SDK)}
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "mapped\n"
        process.kill()
    sharer.close()
    assert files(folder) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_two_users_share_by_their_group() -> None:
    """Another user reads what is shared with a group of its own; the owner alone takes it away."""
    with tempfile.TemporaryDirectory(prefix="mn") as name:
        folder = Path(name)
        folder.chmod(0o1777)
        group = 4242
        read = (
            "import os, sys, json, pathlib, numpy as np\nfrom monodon.component.sharing import receive\n"
            "from monodon.errors import IpcError\n"
            "os.setgroups([4242]); os.setgid(65534); os.setuid(65534)\n"
            "try:\n    with receive(json.loads(sys.argv[2]), folder=pathlib.Path(sys.argv[1])) as shared:\n"
            "        print(int(shared.array.sum()))\n"
            "except IpcError as error:\n    print(error.code)"
        )
        sharer = Sharer(folder=folder)

        def reads(handle: Handle) -> str:
            done = subprocess.run(
                [sys.executable, "-c", read, str(folder), json.dumps(asdict(handle))],
                env={"PYTHONPATH": str(SDK)},
                capture_output=True,
                text=True,
                check=True,
            )
            return done.stdout.strip()

        assert reads(sharer.share(FRAME, group=group)) == str(int(FRAME.sum()))
        assert reads(sharer.share(FRAME)) == "UnauthorizedError"
        assert len(files(folder)) == 2
        sharer.close()
        assert files(folder) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_what_a_killed_owner_left_goes_by_its_own_user_alone() -> None:
    """In a folder as /dev/shm is: for another user's component it is nothing to fail over."""
    with tempfile.TemporaryDirectory(prefix="mn") as name:
        folder = Path(name)
        folder.chmod(0o1777)
        with owner(folder, user=65534) as (process, handle):
            process.kill()
            process.wait()
        code = "import os, sys, pathlib\nfrom monodon.component.sharing import sweep\nos.setuid(int(sys.argv[2]))\n"
        arguments = [sys.executable, "-c", code + "sweep(pathlib.Path(sys.argv[1]))", str(folder)]
        for user, left in ((4243, [handle["name"]]), (65534, [])):
            subprocess.run([*arguments, str(user)], env={"PYTHONPATH": str(SDK)}, check=True)
            assert files(folder) == left


@pytest.fixture
def small() -> Iterator[Path]:
    """A shared memory of one megabyte."""
    folder = Path(tempfile.mkdtemp(prefix="mn"))
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True)
    try:
        if mounted.returncode:
            pytest.skip("only who may mount can try a full /dev/shm")
        yield folder
    finally:
        if not mounted.returncode:
            subprocess.run(["umount", "-l", folder], check=True)  # what is mapped may outlive the test
        folder.rmdir()


def test_when_shared_memory_is_full_older_arrays_make_room(small: Path) -> None:
    sharer = Sharer(folder=small)
    handles = [sharer.share(np.full(300_000, number, np.uint8)) for number in range(5)]
    with receive(carried(handles[-1]), folder=small) as shared:
        assert shared.array[-1] == 4
    with pytest.raises(IpcError, match="is full") as caught:
        sharer.share(np.zeros(2_000_000, np.uint8))
    assert caught.value.code == "NoRoom"
    assert files(small) == []
    sharer.close()


@pytest.mark.parametrize(
    "value",
    [
        None,
        "monodon-x",
        {},
        {"name": "../etc/passwd", "shape": [1], "dtype": "|u1", "size_bytes": 1},
        {"name": "monodon-" + "0" * 32, "shape": [2], "dtype": "|u1", "size_bytes": 1},
        {"name": "monodon-" + "0" * 32, "shape": [-1, -1], "dtype": "|u1", "size_bytes": 1},
        {"name": "monodon-" + "0" * 32, "shape": [1], "dtype": "|O8", "size_bytes": 8},
        {"name": "monodon-" + "0" * 32, "shape": [1], "dtype": "i77", "size_bytes": 8},
    ],
)
def test_what_is_no_handle_is_refused(folder: Path, value: Any) -> None:
    with pytest.raises(IpcError) as caught:
        receive(value, folder=folder)
    assert caught.value.code == "InvalidMessage"


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([object()]), 7])
def test_what_is_no_array_of_numbers_is_refused(folder: Path, array: Any) -> None:
    with pytest.raises(IpcError) as caught:
        Sharer(folder=folder).share(array)
    assert caught.value.code == "InvalidMessage"


def test_a_file_of_another_size_is_not_mapped(folder: Path) -> None:
    sharer = Sharer(folder=folder)
    handle = sharer.share(FRAME)
    os.truncate(folder / handle.name, 10)
    with pytest.raises(IpcError, match="not the array"):
        receive(carried(handle), folder=folder)
    sharer.close()


async def test_a_frame_travels_between_components_in_a_message(loopback: LoopbackNucleus) -> None:
    camera = loopback.component(Settings(), name="com.example.Camera")
    viewer = loopback.component(Settings(), name="com.example.Viewer")
    async with asyncio.timeout(10), viewer.subscribe("frames") as frames:
        for number in range(3):
            await camera.publish("frames", {"n": number, "frame": await camera.share(FRAME + number)})
        for number in range(3):
            message = await anext(frames)
            with viewer.receive(message.json["frame"]) as shared:
                assert np.array_equal(shared.array, FRAME + number)
    camera.close()
    with pytest.raises(IpcError):
        viewer.receive(message.json["frame"])
