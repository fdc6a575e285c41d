"""What the facts of a machine mean, check by check; and the facts of this one, found for real."""

import os
import re
import socket
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from monodon.fleet.nucleus_config import Endpoints, Identity, places, write_config, write_lite_config
from monodon.fleet.on_device import MB, Facts, Level, Port, Verdict, java_major, judge
from monodon.fleet.on_device_facts import (
    DeviceConfig,
    gather,
    mount_options,
    read_config,
    read_mappings,
    try_ports,
    wanted_ports,
)
from monodon.fleet.on_device_report import is_fine, lines, main

NOW = datetime(2026, 11, 22, tzinfo=UTC)
FIT = Facts(
    thing="drone-1",
    is_lite=False,
    root="/greengrass/v2",
    root_exists=True,
    is_root=True,
    user="ggc_user",
    group="ggc_group",
    user_exists=True,
    group_exists=True,
    user_groups=("ggc_group", "video"),
    has_video_group=True,
    cameras=("/dev/video0",),
    sudo="",
    root_options=("rw", "relatime"),
    tmp_options=("rw",),
    selinux=None,
    free_bytes=8_000 * MB,
    free_inodes=1_000_000,
    machine="aarch64",
    libc=("glibc", "2.36"),
    python="3.11.2",
    java="17.0.1",
    has_systemd=True,
    clock_synchronised=True,
    now=NOW,
    certificate_error="",
    not_before=NOW - timedelta(days=1),
    not_after=NOW + timedelta(days=1000),
    key_error="",
    key_mode=0o600,
    ports=(Port(purpose="MQTT", host="a", port=8883),),
)
ENDPOINTS = Endpoints(
    iot_data="a-ats.iot.eu-west-1.amazonaws.com",
    credentials="c.credentials.iot.eu-west-1.amazonaws.com",
    data_plane="greengrass-ats.iot.eu-west-1.amazonaws.com",
)


def test_a_fit_machine_is_fine() -> None:
    verdicts = judge(FIT)
    assert {verdict.level for verdict in verdicts} == {Level.FINE}
    assert is_fine(verdicts)


@pytest.mark.parametrize(
    ("changes", "check", "level", "says", "fix"),
    [
        ({"config_error": "no nucleus"}, "configuration", Level.WARNING, "no nucleus", "--root"),
        ({"machine": "riscv64"}, "machine", Level.WRONG, "riscv64", "aarch64"),
        ({"has_systemd": False}, "systemd", Level.WARNING, "does not run", "boot"),
        ({"has_systemd": False, "is_lite": True}, "systemd", Level.WRONG, "does not run", "lite needs it"),
        ({"group_exists": False}, "group", Level.WRONG, "ggc_group", "groupadd --system ggc_group"),
        ({"user_exists": False}, "user", Level.WRONG, "ggc_user", "useradd .* ggc_user"),
        ({"user_groups": ()}, "video", Level.WRONG, "/dev/video0", "usermod --append --groups video ggc_user"),
        ({"user_groups": (), "cameras": ()}, "video", Level.WARNING, "should there be one", "usermod"),
        ({"sudo": "sorry"}, "sudo", Level.WRONG, "root may not become ggc_user:ggc_group: sorry", "ALL=.ALL:ALL. ALL"),
        ({"sudo": None}, "sudo", Level.UNKNOWN, "only root", "sudo"),
        ({"root_options": ("ro",)}, "root folder", Level.WRONG, "read-only", "writable"),
        ({"root_options": ("rw", "noexec")}, "root folder", Level.WRONG, "noexec", "remount,exec"),
        ({"tmp_options": ("rw", "noexec")}, "/tmp", Level.WRONG, "noexec", "java.io.tmpdir"),
        ({"selinux": "enforcing"}, "SELinux", Level.WARNING, "enforcing", "ausearch"),
        ({"selinux": "permissive"}, "SELinux", Level.FINE, "permissive", ""),
        ({"free_bytes": 100 * MB}, "disk", Level.WRONG, "100 MB are free", "256 MB"),
        ({"free_bytes": 500 * MB}, "disk", Level.WARNING, "500 MB are free", "old and new"),
        ({"free_bytes": None}, "disk", Level.UNKNOWN, "cannot be read", ""),
        ({"free_inodes": 9}, "disk", Level.WRONG, "9 files", "make room"),
        ({"libc": ("", "")}, "libc", Level.WRONG, "not glibc", "LiteRT"),
        ({"libc": ("glibc", "2.27")}, "libc", Level.WRONG, "2.27", "update"),
        ({"python": None}, "Python", Level.WRONG, "no python3", "3.11"),
        ({"python": "3.9.18"}, "Python", Level.WRONG, "3.9.18", "3.11"),
        ({"python": "3.13.0rc1"}, "Python", Level.FINE, "3.13.0rc1", ""),
        ({"java": None}, "Java", Level.WRONG, "no java", "11"),
        ({"java": "1.8.0_302"}, "Java", Level.WRONG, "1.8.0_302", "11"),
        ({"now": NOW - timedelta(days=400)}, "clock", Level.WRONG, "before the certificate", "set-ntp"),
        ({"clock_synchronised": False}, "clock", Level.WARNING, "not synchronised", "set-ntp"),
        ({"clock_synchronised": None}, "clock", Level.UNKNOWN, "cannot be read", ""),
        ({"certificate_error": "cannot read x"}, "certificate", Level.WRONG, "cannot read x", "provision"),
        ({"not_after": NOW}, "certificate", Level.WRONG, "expired on 2026-11-22", "provision"),
        ({"not_after": NOW + timedelta(days=29)}, "certificate", Level.WARNING, "expires on", "replace"),
        ({"key_error": "is not the certificate's key"}, "key", Level.WRONG, "is not", "provision"),
        ({"key_mode": 0o644}, "key", Level.WARNING, "mode 644", "chmod 600"),
        ({"proxy": "http://p:1"}, "proxy", Level.FINE, "uses http://p:1", ""),
        ({"environment_proxy": "http://p"}, "proxy", Level.WARNING, "no nucleus reads", "networkProxy"),
        (
            {"ports": (Port(purpose="MQTT", host="a", port=8883, error="timed out"),)},
            "port 8883",
            Level.WRONG,
            "MQTT: a:8883 cannot be reached: timed out",
            "open TCP 8883 to it$",
        ),
        (
            {
                "ports": (
                    Port(purpose="MQTT", host="a", port=8883, error="timed out"),
                    Port(purpose="ALPN", host="a", port=443),
                )
            },
            "port 8883",
            Level.WRONG,
            "cannot be reached",
            "or set mqtt.port to 443, which answers there",
        ),
    ],
)
def test_each_fact_has_its_verdict(changes: dict[str, Any], check: str, level: Level, says: str, fix: str) -> None:
    verdicts = judge(replace(FIT, **changes))
    found = [verdict for verdict in verdicts if verdict.check == check and verdict.level is level]
    assert found, [verdict for verdict in verdicts if verdict.level is not Level.FINE]
    assert any(re.search(says, verdict.message) and re.search(fix, verdict.fix) for verdict in found), found
    assert is_fine(verdicts) == (level is not Level.WRONG)


def test_lite_needs_neither_java_nor_sudo() -> None:
    lite = replace(FIT, is_lite=True, java=None, sudo="no", tmp_options=("noexec",))
    assert is_fine(judge(lite))
    blocked = (
        Port(purpose="MQTT", host="a", port=8883, error="timed out"),
        Port(purpose="ALPN", host="a", port=443),
    )
    assert "443" not in "".join(one.fix for one in judge(replace(lite, ports=blocked)) if one.check == "port 8883")


def test_a_report_says_what_to_do_and_what_to_paste() -> None:
    verdict = Verdict(check="grants", level=Level.WRONG, message="missing", fix="add:", statement={"Effect": "Allow"})
    assert list(lines([verdict])) == [
        "wrong    grants: missing",
        "         → add:",
        "         {",
        '           "Effect": "Allow"',
        "         }",
    ]
    assert verdict.to_json() == {
        "check": "grants",
        "level": "wrong",
        "message": "missing",
        "fix": "add:",
        "statement": {"Effect": "Allow"},
    }


@pytest.mark.parametrize(
    ("text", "major"), [("1.8.0_302", 8), ("11", 11), ("17.0.1", 17), ("21-ea", 21), ("", 0), ("x", 0)]
)
def test_a_java_says_its_version_in_two_ways(text: str, major: int) -> None:
    assert java_major(text) == major


def identity(mqtt_port: int = 8883) -> Identity:
    return Identity(
        thing="drone-1", region="eu-west-1", role_alias="a", endpoints=replace(ENDPOINTS, mqtt_port=mqtt_port)
    )


def test_a_configuration_is_read_without_yaml(tmp_path: Path) -> None:
    where = places(Path("/greengrass/v2"))
    (tmp_path / "java").write_bytes(write_config(identity(443), where, run_as="me:us"))
    java = read_config(tmp_path / "java")
    assert (java.is_lite, java.error) == (False, "")
    assert java.text("thingName") == "drone-1"
    assert java.text("posixUser") == "me:us"
    assert java.text("port") == "443"
    assert java.text("greengrassDataPlanePort") == "8443"
    (tmp_path / "lite").write_bytes(write_lite_config(identity(), where))
    lite = read_config(tmp_path / "lite")
    assert (lite.is_lite, lite.text("greengrassDataPlanePort")) == (True, "8443")
    assert "cannot read" in read_config(tmp_path / "nothing").error
    (tmp_path / "empty").touch()
    assert "names no thing" in read_config(tmp_path / "empty").error


def test_other_hands_write_yaml_in_other_ways() -> None:
    text = """---
# a comment: not a key
system:
  thingName: "drone-1"   # mine
  'rootpath': '/greengrass/v2'
services:
  aws.greengrass.Nucleus:
    configuration:
      mqtt: {port: 443}
      networkProxy:
        proxy:
          url: http://me:secret@proxy:1100
      awsRegion: eu-west-1 # here
  main:
    lifecycle: |
      thing: other
"""
    found = read_mappings(text)
    assert found["system/thingname"] == "drone-1"
    assert found["system/rootpath"] == "/greengrass/v2"
    assert found["services/aws.greengrass.nucleus/configuration/awsregion"] == "eu-west-1"
    assert found["services/aws.greengrass.nucleus/configuration/networkproxy/proxy/url"].endswith("proxy:1100")
    assert not any("comment" in key for key in found)


def test_the_ports_are_those_of_the_configuration(tmp_path: Path) -> None:
    def wanted(config: DeviceConfig, proxy: str = "") -> set[tuple[str, int]]:
        return {(port.host, port.port) for port in wanted_ports(config, proxy)}

    (tmp_path / "c").write_bytes(write_config(identity(), places(Path("/x"))))
    config = read_config(tmp_path / "c")
    assert wanted(config) == {
        (ENDPOINTS.iot_data, 8883),
        (ENDPOINTS.iot_data, 443),
        (ENDPOINTS.data_plane, 8443),
        (ENDPOINTS.credentials, 443),
        ("s3.eu-west-1.amazonaws.com", 443),
    }
    assert wanted(config, "http://me:pw@proxy:1100") == {("proxy", 1100)}
    local = Endpoints(iot_data="localhost", credentials="localhost:4", data_plane="localhost", data_plane_port=4)
    (tmp_path / "c").write_bytes(write_config(replace(identity(), endpoints=local), places(Path("/x"))))
    assert wanted(read_config(tmp_path / "c")) == {("localhost", 8883), ("localhost", 4)}


def test_ports_are_tried_for_real_and_never_for_long() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_server(("127.0.0.1", 0), backlog=0) as silent,
        socket.create_connection(silent.getsockname()),  # its backlog is full: Linux answers no other
    ):
        number = server.getsockname()[1]
        with socket.create_server(("127.0.0.1", 0)) as gone:
            closed = gone.getsockname()[1]
        wanted = [
            Port(purpose="open", host="127.0.0.1", port=number),
            Port(purpose="closed", host="127.0.0.1", port=closed),
            Port(purpose="nonsense", host="a" * 300, port=1),
            Port(purpose="silent", host="127.0.0.1", port=silent.getsockname()[1]),
        ]
        begun = time.monotonic()
        found = {port.purpose: port.error for port in try_ports(wanted, timeout_s=0.3)}
    assert time.monotonic() - begun < 3
    assert found["open"] == ""
    assert found["closed"] == "Connection refused"
    assert found["nonsense"]
    assert "timed out" in found["silent"] or "no answer" in found["silent"]


def test_mounts_are_those_of_the_longest_path(tmp_path: Path) -> None:
    real = os.path.realpath(tmp_path)
    mounts = f"/dev/a / ext4 rw 0 0\ntmpfs {real} tmpfs ro,noexec 0 0\nx {real}/a\\040b ext4 rw,exec 0 0\nbroken\n"
    assert mount_options(tmp_path / "not" / "there", mounts) == ("ro", "noexec")
    assert mount_options(tmp_path / "a b" / "c", mounts) == ("rw", "exec")
    assert mount_options(Path("/elsewhere"), mounts) == ("rw",)
    assert mount_options(Path(real + "-beside"), mounts) == ("rw",)
    assert mount_options(Path("/"), "") == ()


def test_this_machine_is_looked_at(tmp_path: Path) -> None:
    facts = gather(tmp_path, environment={"HTTPS_PROXY": "http://me:secret@proxy:1"})
    assert facts.config_error == f"no nucleus is configured in {tmp_path}"
    assert facts.root_options
    assert "ro" not in facts.root_options
    assert facts.free_bytes is not None
    assert facts.free_bytes > 0
    assert facts.libc == ("glibc", os.confstr("CS_GNU_LIBC_VERSION").split()[1])  # type: ignore[union-attr]
    assert facts.python
    assert facts.is_root == (os.geteuid() == 0)
    assert facts.environment_proxy == "http://…@proxy:1", "without its password"
    assert judge(facts)


def test_the_command_says_what_is_wrong_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A configured device whose certificate is gone is never fit."""
    (tmp_path / "config").mkdir()
    local = Endpoints(iot_data="127.0.0.1", credentials="127.0.0.1:9", data_plane="127.0.0.1", mqtt_port=9)
    config = write_config(replace(identity(), endpoints=replace(local, data_plane_port=9)), places(tmp_path))
    (tmp_path / "config/config.yaml").write_bytes(config)
    assert main(["--root", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert f"wrong    certificate: cannot read {tmp_path}/certs/device.pem.crt: No such file" in said
    assert "wrong    port 9: MQTT: 127.0.0.1:9 cannot be reached: Connection refused" in said


def test_it_needs_the_standard_library_alone(tmp_path: Path) -> None:
    code = (
        "import sys; from monodon.fleet.on_device_report import main; main(['--root', sys.argv[1]]);"
        "print(sorted({name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()[-1]
    assert "monodon" in loaded
    assert not any(name in loaded for name in ("yaml", "boto", "click", "awscrt"))
