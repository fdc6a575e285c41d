"""A device's root folder: one nucleus at a time, a socket that fits, files that come and go with it."""

import json
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from monodon.errors import StateError
from monodon.nucleus import disk
from monodon.nucleus.root import MAX_SOCKET_PATH_BYTES, announced, claimed, socket_path, tool_credentials


@pytest.fixture
def short(tmp_path: Path) -> Iterator[Path]:
    """A temporary folder whose path leaves room for a socket's."""
    with tempfile.TemporaryDirectory(prefix="mn") as folder:
        yield Path(folder)


def test_a_root_is_made_and_claimed_once(tmp_path: Path) -> None:
    with claimed(tmp_path / "a/b") as root:
        assert root == tmp_path / "a/b"
        with pytest.raises(StateError, match=rf"another nucleus \(process {os.getpid()}\) uses"), claimed(root):
            pytest.fail("twice")
    with claimed(root):
        pass


def test_a_root_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="cannot be the root of a device"), claimed(tmp_path / "file/root"):
        pytest.fail("it is below a file")


def test_nobody_else_can_look_into_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir(mode=0o755)
    with claimed(tmp_path) as root:
        assert (root / "config").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_folders_have_their_modes_whatever_the_umask(short: Path, umask: int) -> None:
    long = short / ("x" * MAX_SOCKET_PATH_BYTES)
    before = os.umask(umask)
    try:
        with (
            claimed(short / "root") as root,
            announced(root, {"pid": 1}),
            socket_path(long, None, {"TMPDIR": str(short)}) as socket,
        ):
            found = {name: (root / name).stat().st_mode & 0o777 for name in ("", "config", "packages", "work")}
            may_write = (root / "ready.json").stat().st_mode & 0o022
            own = socket.parent.stat().st_mode & 0o777
    finally:
        os.umask(before)
    is_root = os.geteuid() == 0
    assert found == {"": 0o755 if is_root else 0o700, "config": 0o700, "packages": 0o755, "work": 0o755}
    assert own == (0o711 if is_root else 0o700)
    assert not may_write


def test_what_is_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "ready.json").mkdir()
    with pytest.raises(StateError, match=r"cannot use .*ready.json"), claimed(tmp_path):
        pytest.fail("the file that says it is ready cannot be there")


def test_what_a_dead_nucleus_left_is_no_sign_of_life(tmp_path: Path) -> None:
    (tmp_path / "ready.json").write_text("{}")
    with claimed(tmp_path) as root:
        assert not (root / "ready.json").exists()
        with announced(root, {"pid": 1}):
            assert json.loads((root / "ready.json").read_text()) == {"pid": 1}
        assert not (root / "ready.json").exists()


def test_the_socket_is_in_the_root_if_it_fits(short: Path) -> None:
    with socket_path(short, None, {}) as path:
        assert path == short / "ipc.socket"
    with socket_path(short, short / "run/x.socket", {}) as path:
        assert path.parent.is_dir()


def test_a_long_root_has_its_socket_in_a_folder_of_its_own(short: Path) -> None:
    root = short / ("r" * 120)
    for environment in ({"TMPDIR": str(short)}, {"TMPDIR": str(short / ("t" * 100))}):
        with socket_path(root, None, environment) as path:
            assert len(bytes(path)) <= MAX_SOCKET_PATH_BYTES
            assert path.parent.stat().st_uid == os.geteuid()
            assert path.parent.stat().st_mode & 0o066 == 0
            again = path
        assert not again.parent.exists()
    with (
        socket_path(root, None, {"TMPDIR": str(short)}) as path,
        socket_path(root, None, {"TMPDIR": str(short)}) as same,
    ):
        assert path == same


def test_a_folder_that_others_can_change_is_not_used(short: Path) -> None:
    root = short / ("r" * 120)
    with socket_path(root, None, {"TMPDIR": str(short)}) as path:
        folder = path.parent
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(StateError, match="not this user's own"), socket_path(root, None, {"TMPDIR": str(short)}):
        pytest.fail("anybody could put a socket there")
    folder.rmdir()
    folder.symlink_to(short)
    with pytest.raises(StateError, match="not this user's own"), socket_path(root, None, {"TMPDIR": str(short)}):
        pytest.fail("it leads elsewhere")


def test_a_configured_path_that_is_too_long_is_an_error(short: Path) -> None:
    with (
        pytest.raises(StateError, match=f"ipcSocketPath is .* bytes long; .* has {MAX_SOCKET_PATH_BYTES}"),
        socket_path(short, short / ("s" * 120), {}),
    ):
        pytest.fail("no socket has such a path")


def test_tools_find_their_token_in_a_file_of_their_own(tmp_path: Path) -> None:
    with tool_credentials(tmp_path, "token", tmp_path / "s"):
        (file,) = (tmp_path / "cli_ipc_info").iterdir()
        assert file.stat().st_mode & 0o777 == 0o600
        assert json.loads(file.read_text()) == {"cli_auth_token": "token", "domain_socket_path": str(tmp_path / "s")}
    assert not file.exists()


def test_the_child_of_a_nucleus_that_was_just_killed_is_waited_for(short: Path) -> None:
    """A child holds its parent's lock from its fork to its exec; a SIGKILL in between leaves the lock for that long."""
    lock = os.open(short / "lock", os.O_RDWR | os.O_CREAT)
    assert disk.lock(lock)
    again = os.open(short / "lock", os.O_RDWR)
    assert not disk.lock(again, patience_s=0)
    letting_go = threading.Timer(0.05, os.close, [lock])
    letting_go.start()
    assert disk.lock(again, patience_s=20)
    letting_go.join()
    os.close(again)
