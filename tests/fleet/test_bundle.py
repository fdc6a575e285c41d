"""Install bundles: what is in them, with which modes; and their scripts, run with tools that note their calls."""

import io
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

from monodon.errors import FleetError
from monodon.fleet.bundle import bundle_files, doctor_zip, pack, read_identity, write_bundle
from monodon.fleet.nucleus_config import Endpoints, Identity, NucleusKind

IDENTITY = Identity(
    thing="drone-1",
    region="eu-west-1",
    role_alias="MonodonTokenExchangeAlias",
    endpoints=Endpoints(
        iot_data="a-ats.iot.eu-west-1.amazonaws.com",
        credentials="c.credentials.iot.eu-west-1.amazonaws.com",
        data_plane="greengrass-ats.iot.eu-west-1.amazonaws.com",
    ),
)
CERTS = {"device.pem.crt": b"certificate\n", "device.key.pem": b"key\n", "root-ca.pem": b"root\n"}
BOTH = pytest.mark.parametrize("kind", list(NucleusKind))

#: A tool that notes its arguments, and what else it has to do.
TOOL = '#!/bin/sh\necho "{name} $*" >>"$CALLS"\n{rest}\n'
INSTALL = """mode=644 dir=
while [ $# -gt 2 ] || [ "$1" = -d ]; do
  case $1 in -d) dir=y ;; -m) mode=$2; shift ;; *) break ;; esac
  shift
done
if [ -n "$dir" ]; then mkdir -p "$@"; chmod "$mode" "$@"; else cp "$1" "$2"; chmod "$mode" "$2"; fi"""
JAVA = """case "$*" in
  -version) echo 'openjdk version "17.0.15" 2025-04-15' >&2 ;;
  *--version) echo 'AWS Greengrass v2.19.3' ;;
  *) for a in "$@"; do case $a in -Droot=*) r=${a#-Droot=};; esac; done
     while [ "$1" != --init-config ]; do shift; done
     mkdir -p "$r/alts/current" "$r/config"; cp "$2" "$r/config/config.yaml" ;;
esac"""


class Machine:
    """A temporary machine: a root, /etc, and a PATH of tools that note how they were called."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls = folder, folder / "calls"
        self.tools = folder / "bin"
        for name in ("tools", "units", "etc"):
            (folder / name).mkdir()
        self.tools.mkdir()
        self.calls.touch()
        for name in [
            "sh",
            "sed",
            "tr",
            "cut",
            "head",
            "grep",
            "mktemp",
            "mkdir",
            "cp",
            "chmod",
            "rm",
            "mv",
            "cat",
            "dirname",
            "sha256sum",
        ]:
            real = next(path for path in (Path("/usr/bin") / name, Path("/bin") / name) if path.exists())
            (self.tools / name).symlink_to(real)
        self.tool("id", "echo 0")
        self.tool("getent", 'case "$*" in "group video") ;; *) exit 2 ;; esac')
        self.tool("install", INSTALL)
        self.tool("java", JAVA)
        self.tool("jarsigner", "echo 'X.509, CN=Amazon.com Services LLC'; echo 'jar verified.'")
        self.tool("unzip", "")
        for name in ("groupadd", "useradd", "usermod", "systemctl", "chown"):
            self.tool(name, "")

    def tool(self, name: str, rest: str) -> None:
        path = self.tools / name
        path.unlink(missing_ok=True)
        path.write_text(TOOL.format(name=name, rest=rest))
        path.chmod(0o755)

    def unpack(self, kind: NucleusKind, identity: Identity = IDENTITY) -> Path:
        data = pack(identity.thing, bundle_files(kind, identity, CERTS))
        subprocess.run(["tar", "xzf", "-", "-C", self.folder], input=data, check=True)
        return self.folder / identity.thing

    def run(self, bundle: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [bundle / "install.sh", *arguments],
            env={"PATH": str(self.tools), "CALLS": str(self.calls), "TMPDIR": str(self.folder)},
            capture_output=True,
            text=True,
            timeout=30,
        )

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def java_places(machine: Machine) -> tuple[str, ...]:
    return ("--root", str(machine.folder / "gg"), "--units", str(machine.folder / "units"))


@BOTH
def test_a_bundle_has_its_files_with_their_modes(kind: NucleusKind) -> None:
    data = pack("drone-1", bundle_files(kind, IDENTITY, CERTS))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        found = {entry.name.removeprefix("drone-1/"): entry for entry in archive if entry.isfile()}
        assert all((entry.uid, entry.gid, entry.mtime) == (0, 0, 0) for entry in archive)
        config = yaml.safe_load(archive.extractfile("drone-1/config.yaml") or b"")
    modes = {name: entry.mode for name, entry in found.items()}
    assert modes.pop("greengrass.service", 0o644) == 0o644
    assert ("greengrass.service" in found) == (kind is NucleusKind.JAVA)
    assert modes == {
        "install.sh": 0o755,
        "config.yaml": 0o600,
        "certs/device.pem.crt": 0o644,
        "certs/device.key.pem": 0o600,
        "certs/root-ca.pem": 0o644,
        "doctor.pyz": 0o755,
        "README.txt": 0o644,
    }
    assert config["system"]["thingName"] == "drone-1"
    assert pack("drone-1", bundle_files(kind, IDENTITY, CERTS)) == data


def test_each_nucleus_gets_the_configuration_it_reads() -> None:
    def config(kind: NucleusKind) -> dict[str, dict[str, dict[str, object]]]:
        files = {file.name: file.content for file in bundle_files(kind, IDENTITY, CERTS)}
        return dict(yaml.safe_load(files["config.yaml"]))

    java, lite = config(NucleusKind.JAVA), config(NucleusKind.LITE)
    assert java["system"]["rootpath"] == "/greengrass/v2"
    assert java["system"]["privateKeyPath"] == "/greengrass/v2/certs/device.key.pem"
    assert java["services"]["aws.greengrass.Nucleus"]["configuration"]["runWithDefault"] == {
        "posixUser": "ggc_user:ggc_group"
    }
    assert lite["system"]["rootPath"] == "/var/lib/greengrass"
    assert lite["system"]["privateKeyPath"] == "/var/lib/greengrass/credentials/device.key.pem"
    assert lite["services"]["aws.greengrass.NucleusLite"]["configuration"] == {
        "awsRegion": "eu-west-1",
        "iotCredEndpoint": "c.credentials.iot.eu-west-1.amazonaws.com",
        "iotDataEndpoint": "a-ats.iot.eu-west-1.amazonaws.com",
        "iotRoleAlias": "MonodonTokenExchangeAlias",
        "runWithDefault": {"posixUser": "gg_component:gg_component"},
        "greengrassDataPlanePort": "8443",
    }


@BOTH
@pytest.mark.parametrize("shell", ["sh", "dash", "bash"])
def test_the_scripts_are_posix_shell(machine: Machine, kind: NucleusKind, shell: str) -> None:
    subprocess.run([shell, "-n", machine.unpack(kind) / "install.sh"], check=True)


def test_java_is_installed_with_one_command(machine: Machine) -> None:
    bundle = machine.unpack(NucleusKind.JAVA)
    (bundle / "greengrass-nucleus-latest.zip").touch()
    done = machine.run(bundle, *java_places(machine))
    assert done.returncode == 0, done.stderr
    root, calls = machine.folder / "gg", machine.called()
    assert (root / "certs/device.key.pem").read_bytes() == b"key\n"
    assert (root / "certs/device.key.pem").stat().st_mode & 0o777 == 0o600
    assert (root / "certs").stat().st_mode & 0o777 == 0o700
    config = yaml.safe_load((root / "config/config.yaml").read_text())
    assert config["system"]["certificateFilePath"] == f"{root}/certs/device.pem.crt"
    assert config["services"]["aws.greengrass.Nucleus"]["version"] == "2.19.3", "the version that was found"
    assert f"ExecStart=/bin/sh {root}/alts/current/distro/bin/loader" in (
        (machine.folder / "units/greengrass.service").read_text()
    )
    assert "groupadd --system ggc_group" in calls
    assert "useradd --system --create-home --gid ggc_group ggc_user" in calls
    assert "usermod --append --groups video ggc_user" in calls
    assert next(call for call in calls if "--init-config" in call).endswith(
        "--component-default-user ggc_user:ggc_group --setup-system-service false --start false"
    )
    assert calls[-2:] == ["systemctl daemon-reload", "systemctl enable --now greengrass.service"]
    assert [path.name for path in machine.folder.glob("tmp.*")] == [], "the key's copies are gone"
    assert "key" not in done.stdout + done.stderr

    machine.calls.write_text("")
    again = machine.run(bundle, *java_places(machine))
    assert again.returncode == 0, again.stderr
    assert "found a nucleus" in again.stdout
    assert not any("--init-config" in call for call in machine.called())


def test_an_interrupted_installation_is_finished(machine: Machine) -> None:
    bundle = machine.unpack(NucleusKind.JAVA)
    (bundle / "greengrass-nucleus-latest.zip").touch()
    for broken in ("groupadd", "usermod", "unzip", "systemctl"):
        good = (machine.tools / broken).read_text()
        machine.tool(broken, "exit 9")
        assert machine.run(bundle, *java_places(machine)).returncode == 9, broken
        (machine.tools / broken).write_text(good)
    assert machine.run(bundle, *java_places(machine)).returncode == 0
    assert [path.name for path in machine.folder.glob("tmp.*")] == []


@pytest.mark.parametrize(
    ("tool", "rest", "arguments", "message"),
    [
        ("java", "echo 'java version \"1.8.0_302\"' >&2", (), "java is 1.8.0_302, and the nucleus needs 11"),
        ("java", "echo nonsense >&2", (), "java is of an unknown version"),
        ("id", "echo 1000", (), "this must run as root"),
        ("jarsigner", "echo 'jar is unsigned.'", (), "is not signed"),
        ("jarsigner", "echo 'X.509, CN=Mallory'; echo 'jar verified.'", (), "not by Amazon"),
        ("jarsigner", "exit 1", (), "the signature of .* is wrong"),
        ("id", "echo 0", ("--sha256", "00"), "has the SHA-256 e3b0c4.*, not 00"),
        ("id", "echo 0", ("--nucleus", "/nowhere.zip"), "/nowhere.zip is not there"),
        ("id", "echo 0", ("--root", "relative"), "not an absolute path"),
        ("id", "echo 0", ("--root", "/a;b"), "not an absolute path"),
        ("id", "echo 0", ("--sha256",), "--sha256 needs a value"),
        ("id", "echo 0", ("--what",), "unknown option --what"),
    ],
)
def test_what_does_not_fit_changes_nothing(
    machine: Machine, tool: str, rest: str, arguments: tuple[str, ...], message: str
) -> None:
    machine.tool(tool, rest)
    bundle = machine.unpack(NucleusKind.JAVA)
    (bundle / "greengrass-nucleus-latest.zip").touch()
    done = machine.run(bundle, *java_places(machine), *arguments)
    assert done.returncode == 1
    assert re.search(f"error: .*{message}", done.stderr), done.stderr
    assert not (machine.folder / "gg").exists()
    assert not any(call.startswith(("useradd", "groupadd", "systemctl")) for call in machine.called())


def test_nothing_is_downloaded_unless_asked(machine: Machine) -> None:
    bundle = machine.unpack(NucleusKind.JAVA)
    machine.tool("curl", 'while [ "$1" != --output ]; do shift; done; : >"$2"')
    refused = machine.run(bundle, *java_places(machine))
    assert refused.returncode == 1
    assert "https://d2s8p88vqu9w66.cloudfront.net/releases/greengrass-nucleus-latest.zip" in refused.stderr
    assert not any(call.startswith("curl") for call in machine.called())
    assert machine.run(bundle, *java_places(machine), "--download").returncode == 0
    (fetched,) = [call for call in machine.called() if call.startswith("curl")]
    assert fetched.endswith("https://d2s8p88vqu9w66.cloudfront.net/releases/greengrass-nucleus-latest.zip")
    assert any(call.startswith("jarsigner -verify") for call in machine.called()), "and checked"


def test_without_jarsigner_or_digest_nothing_is_installed(machine: Machine) -> None:
    bundle = machine.unpack(NucleusKind.JAVA)
    (bundle / "greengrass-nucleus-latest.zip").touch()
    (machine.tools / "jarsigner").unlink()
    done = machine.run(bundle, *java_places(machine))
    assert "cannot be checked" in done.stderr
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert machine.run(bundle, *java_places(machine), "--sha256", empty).returncode == 0


@BOTH
def test_a_dry_run_says_all_and_changes_nothing(machine: Machine, kind: NucleusKind) -> None:
    bundle = machine.unpack(kind)
    machine.tool("id", "echo 1000")
    (bundle / "greengrass-nucleus-latest.zip").touch()
    places = java_places(machine) if kind is NucleusKind.JAVA else lite_places(machine)
    done = machine.run(bundle, "--dry-run", *places)
    assert done.returncode == 0, done.stderr
    assert "would run: useradd" in done.stdout
    assert "would run: systemctl" in done.stdout
    assert not (machine.folder / "gg").exists()
    assert not list((machine.folder / "units").iterdir()) + list((machine.folder / "etc").iterdir())
    changed = [
        call for call in machine.called() if not call.startswith(("id", "getent", "java -version", "systemctl cat"))
    ]
    assert changed == []


@BOTH
def test_a_machine_of_another_thing_is_left_alone(machine: Machine, kind: NucleusKind) -> None:
    bundle = machine.unpack(kind)
    (bundle / "greengrass-nucleus-latest.zip").touch()
    other = machine.folder / ("gg/config" if kind is NucleusKind.JAVA else "etc")
    other.mkdir(parents=True, exist_ok=True)
    (other / "config.yaml").write_text("system:\n  thingName: drone-11\n")
    places = java_places(machine) if kind is NucleusKind.JAVA else lite_places(machine)
    done = machine.run(bundle, *places)
    assert (done.returncode, "belongs to another thing" in done.stderr) == (1, True)
    (other / "config.yaml").write_text('system:\n  thingName: "drone-1"\n')
    assert machine.run(bundle, *places).returncode == 0


def lite_places(machine: Machine) -> tuple[str, ...]:
    return ("--root", str(machine.folder / "gg"), "--etc", str(machine.folder / "etc"))


def test_lite_is_configured_with_one_command(machine: Machine) -> None:
    bundle, root = machine.unpack(NucleusKind.LITE), machine.folder / "gg"
    done = machine.run(bundle, *lite_places(machine))
    assert done.returncode == 0, done.stderr
    config = yaml.safe_load((machine.folder / "etc/config.yaml").read_text())
    assert config["system"]["privateKeyPath"] == f"{root}/credentials/device.key.pem"
    assert (root / "credentials/device.key.pem").stat().st_mode & 0o777 == 0o600
    calls = machine.called()
    assert f"chown -R ggcore:ggcore {root}" in calls
    assert "useradd --system --gid gg_component gg_component" in calls
    assert calls[-1] == "systemctl restart greengrass-lite.target"


def test_lite_must_be_installed_before(machine: Machine) -> None:
    machine.tool("systemctl", "exit 1")
    done = machine.run(machine.unpack(NucleusKind.LITE), *lite_places(machine))
    assert "nucleus lite is not installed" in done.stderr
    assert "https://github.com/aws-greengrass/aws-greengrass-lite/releases" in done.stderr
    assert not (machine.folder / "gg").exists()


def test_lite_cannot_reach_a_cloud_on_another_port() -> None:
    elsewhere = Endpoints(iot_data="localhost", credentials="localhost:1", data_plane="localhost", mqtt_port=1999)
    identity = Identity(thing="a", region="eu-west-1", role_alias="b", endpoints=elsewhere)
    with pytest.raises(FleetError, match="speaks MQTT on port 8883 alone"):
        bundle_files(NucleusKind.LITE, identity, CERTS)
    assert bundle_files(NucleusKind.JAVA, identity, CERTS)


def test_a_bundle_is_its_owners_alone_and_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="is not a provisioned root: No such file"):
        write_bundle(NucleusKind.JAVA, tmp_path, tmp_path / "out.tar.gz")
    files = {file.name: file.content for file in bundle_files(NucleusKind.JAVA, IDENTITY, CERTS)}
    (tmp_path / "config").mkdir()
    (tmp_path / "certs").mkdir()
    (tmp_path / "config/config.yaml").write_text("system: 1")
    for name, content in CERTS.items():
        (tmp_path / "certs" / name).write_bytes(content)
    with pytest.raises(FleetError, match="is not what provisioning writes"):
        write_bundle(NucleusKind.JAVA, tmp_path, tmp_path / "out.tar.gz")
    (tmp_path / "config/config.yaml").write_bytes(files["config.yaml"])
    write_bundle(NucleusKind.JAVA, tmp_path, tmp_path / "out.tar.gz")
    assert (tmp_path / "out.tar.gz").stat().st_mode & 0o777 == 0o600
    assert read_identity(files["config.yaml"].decode()) == IDENTITY


def test_the_doctor_in_the_bundle_needs_no_monodon(tmp_path: Path) -> None:
    (tmp_path / "doctor.pyz").write_bytes(doctor_zip())
    done = subprocess.run(
        [sys.executable, "-I", "-S", tmp_path / "doctor.pyz", "--root", str(tmp_path), "--json"],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode in (0, 1), done.stderr
    assert '"check": "configuration"' in done.stdout
    assert done.stderr == ""
