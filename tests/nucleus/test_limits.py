"""Limits: what is written for which kind of cgroup, and that a limit of memory is really kept."""

import asyncio
import os
import pwd
import re
import resource
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from monodon.core.plan import RunWith
from monodon.nucleus.limits import Kind, Limits
from monodon.nucleus.process import Command, Process

HALF = RunWith(memory_kb=1000, cpus=0.5, pids=7)


def tree(root: Path, *files: str) -> Path:
    for file in files:
        path = root / "mount" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    return root / "mount"


def limits(root: Path, mount: Path, membership: str) -> Limits:
    path = root / "membership"
    path.write_text(membership)
    return Limits("tag", mount=mount, membership=path)


def test_version_2_where_it_is_delegated(tmp_path: Path) -> None:
    mount = tree(tmp_path, "cgroup.controllers", "own/cgroup.subtree_control")
    kept = limits(tmp_path, mount, "0::/own\n")
    group = mount / "own" / "monodon-tag-com.example.A"
    kept.admit("com.example.A", HALF, 42)
    assert kept.kind is Kind.CGROUP_V2
    assert (mount / "own" / "cgroup.subtree_control").read_text() == "+pids"  # after "+memory +cpu"
    assert (group / "pids.max").read_text() == "7"
    assert (group / "memory.max").read_text() == "1024000"
    assert (group / "cpu.max").read_text() == "50000 100000"
    assert (group / "cgroup.procs").read_text() == "42"
    kept.update("com.example.A", RunWith(), [42])
    assert (group / "memory.max").read_text() == "max"
    assert (group / "cpu.max").read_text() == "max 100000"


def test_version_1_with_both_controllers(tmp_path: Path) -> None:
    mount = tree(tmp_path, "memory/here/x", "cpu/there/x", "pids/x")
    kept = limits(tmp_path, mount, "4:memory:/here\n2:cpuacct,cpu:/there\n8:pids:/\n1:name=systemd:/\n0::/\n")
    kept.admit("A", HALF, 42)
    assert kept.kind is Kind.CGROUP_V1
    assert (mount / "memory/here/monodon-tag-A/memory.limit_in_bytes").read_text() == "1024000"
    assert (mount / "cpu/there/monodon-tag-A/cpu.cfs_quota_us").read_text() == "50000"
    assert (mount / "pids/monodon-tag-A/pids.max").read_text() == "7"
    kept.update("A", RunWith(cpus=2), [])
    assert (mount / "memory/here/monodon-tag-A/memory.limit_in_bytes").read_text() == "-1"
    assert (mount / "cpu/there/monodon-tag-A/cpu.cfs_quota_us").read_text() == "200000"


def test_rlimit_where_there_is_no_cgroup(tmp_path: Path) -> None:
    kept = Limits("tag", mount=tmp_path, membership=tmp_path / "missing")
    before = resource.getrlimit(resource.RLIMIT_DATA)
    assert kept.kind is Kind.RLIMIT
    kept.update("A", RunWith(), [os.getpid()])
    assert resource.getrlimit(resource.RLIMIT_DATA)[1] == before[1]
    kept.forget("A")


@pytest.mark.parametrize("is_rlimit", [True, False])
async def test_a_limit_of_memory_is_kept(tmp_path: Path, is_rlimit: bool) -> None:
    """By whatever this machine has, and by rlimit."""
    kept = Limits("test", membership=tmp_path / "missing") if is_rlimit else Limits("test")
    if not is_rlimit and kept.kind is Kind.RLIMIT:
        pytest.skip("this machine lets us make no cgroup")
    script = "python3 -c 'x = bytearray(300_000_000); print(len(x))'"
    lines: list[str] = []

    def copy(stream: str, got: Sequence[str]) -> None:
        lines.extend(got)

    for run_with, is_enough in ((RunWith(memory_kb=60_000), False), (RunWith(memory_kb=900_000), True)):
        lines.clear()
        process = Process(
            Command(script=script, environment=dict(os.environ), folder=tmp_path),
            copy,
            lambda pid, run_with=run_with: kept.admit("A", run_with, pid),  # type: ignore[misc]
        )
        async with asyncio.timeout(30):
            code = await process.wait()
        process.close()
        assert (code == 0) is is_enough, lines
        assert ("300000000" in lines) is is_enough
    kept.forget("A")


def test_limits_that_a_component_leaves_open_are_the_defaults() -> None:
    assert RunWith(cpus=1, posix_user="u").or_limits(HALF) == RunWith(memory_kb=1000, cpus=1, pids=7, posix_user="u")
    assert RunWith(cpus=1).or_limits(RunWith()) == RunWith(cpus=1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs components as somebody else")
def test_a_root_without_its_capability_limits_the_processes_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As in containers, which leave out CAP_SYS_RESOURCE: by ``prlimit`` as the user of the process, or not at all."""
    kept = Limits("tag", mount=tmp_path, membership=tmp_path / "missing")
    user = pwd.getpwnam("nobody")
    with subprocess.Popen(["sleep", "100"], user=user.pw_uid, group=user.pw_gid, extra_groups=()) as process:
        try:
            limit = Path(f"/proc/{process.pid}/limits")
            kept.admit("A", RunWith(memory_kb=5000), process.pid)
            assert re.search(r"Max data size +5120000 ", limit.read_text())
            kept.update("A", RunWith(), [process.pid])
            assert re.search(r"Max data size +unlimited ", limit.read_text())
            monkeypatch.setenv("PATH", "")
            kept.admit("A", RunWith(memory_kb=5000), process.pid)
            is_kept = "5120000 " in limit.read_text()
            assert is_kept is not ("cannot be limited: Operation not permitted, and there is no prlimit" in caplog.text)
        finally:
            process.kill()
