"""Fleets as operators meet them: the commands as they are typed, against a real cloud and real nuclei.

Each journey has devices, groups and components of its own in one cloud, so their order does not matter. What only a
clock makes slow (ten days offline, ten hours of rollout) is in tests/simulator.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from monodon.dev.lab import Lab
from monodon.nucleus.journal import JOURNAL_FOLDER, peek

pytestmark = [pytest.mark.journey, pytest.mark.xdist_group("fleets")]
PATIENCE_S = 60
EVERYONE = "everyone"
#: One for each device that a journey starts; which one it is does not matter.
DEVICES = 9
#: Notes each start in the component's work folder, then does nothing until it is stopped.
RUN = 'echo "$VERSION {configuration:/depth}" >> {work:path}/starts; exec sleep 1000'


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"exit {self.code}\n{self.out}\n--- stderr\n{self.err}"

    @property
    def events(self) -> list[dict[str, Any]]:
        """Its lines of JSON."""
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass(frozen=True)
class Device:
    """A provisioned thing and its folder."""

    thing: str
    root: Path

    def starts(self, component: str) -> list[str]:
        """What a component noted at each of its starts."""
        path = self.root / "work" / component / "starts"
        return path.read_text().splitlines() if path.exists() else []


class World:
    """A cloud, things that are provisioned, and an operator with a terminal."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.folder = folder
        self.cloud = lab.start_cloud()
        self.aws = lab.aws(self.cloud)
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MONODON_"))}
        keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_REGION": self.cloud.ready["region"]}
        self._environment = {**plain, **keys, "AWS_ENDPOINT_URL": self.cloud.ready["endpoint"], "NO_COLOR": "1"}
        self.roots = lab.state / "devices"
        self.provision("device-", EVERYONE, "--count", str(DEVICES))
        self._unused = iter(range(1, DEVICES + 1))

    def run(self, *arguments: str, code: int = 0) -> Done:
        """Run ``monodon …`` as it is typed; it must exit with ``code``."""
        ended = subprocess.run(
            [sys.executable, "-m", "monodon", *arguments],
            env=self._environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        done = Done(ended.returncode, ended.stdout, ended.stderr)
        assert done.code == code, f"monodon {' '.join(arguments)}: {done}"
        assert "Traceback" not in done.err
        return done

    def fleet(self, verb: str, *arguments: str, code: int = 0) -> Done:
        """Run ``monodon fleet VERB …``."""
        return self.run("fleet", verb, *arguments, code=code)

    def provision(self, thing: str, group: str, *more: str) -> None:
        """Run ``monodon fleet provision``."""
        places = ("--roots", str(self.roots), "--cloud", str(self.lab.state / "cloud"))
        self.fleet("provision", thing, "--group", group, *places, *more)

    def join(self, *groups: str) -> Device:
        """Let one of the things join groups, which are made if they are not there."""
        device = self.at(f"device-{next(self._unused)}")
        for group in groups:
            self.aws.iot.create_thing_group(thingGroupName=group)  # the same again is no error
            self.aws.iot.add_thing_to_thing_group(thingGroupName=group, thingName=device.thing)
        return device

    def at(self, thing: str) -> Device:
        return Device(thing, self.roots / thing)

    @contextmanager
    def running(self, *devices: Device) -> Iterator[None]:
        """Run the nuclei of devices meanwhile."""
        with ExitStack() as stack:
            for device in devices:
                stack.callback(self.lab.stop_server, self.lab.start_device(self.cloud, device.root))
            yield

    def publish(self, name: str, version: str, *, depth: int = 1, install: str = "true") -> None:
        """Register a component version that needs no artifact."""
        made = self.aws.greengrass.create_component_version(
            inlineRecipe=json.dumps(recipe(name, version, depth=depth, install=install)).encode()
        )
        self.wait(
            lambda: self.aws.greengrass.describe_component(arn=made["arn"])["status"]["componentState"] == "DEPLOYABLE"
        )

    def write(self, target: str, components: Mapping[str, Any], **more: Any) -> str:
        """Write a fleet file and return its name, which is the target's."""
        name = f"{target.replace('/', '-')}.yaml"
        (self.folder / name).write_text(yaml.safe_dump({"target": target, "components": components, **more}))
        return name

    def wait(self, holds: Callable[[], object]) -> None:
        """Ask until it holds."""
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline, "it does not come true"
            time.sleep(0.02)

    def execution(self, device: Device, job: str) -> tuple[str, int]:
        """How a job stands on a device: its status, and how many reports led there."""
        found = self.aws.iot.describe_job_execution(jobId=job, thingName=device.thing)["execution"]
        return found["status"], found["versionNumber"]

    def components(self, device: Device) -> dict[str, tuple[str, str]]:
        """What ``monodon fleet status`` says that a device runs: name → version and state."""
        told = {one["thing"]: one for one in self.fleet("status", "--json").events}
        return {one["name"]: (one["version"], one["state"]) for one in told[device.thing]["components"]}


def recipe(name: str, version: str, *, depth: int = 1, install: str = "true") -> dict[str, Any]:
    """A component of two lines of shell."""
    lifecycle = {"Setenv": {"VERSION": version}, "Install": install, "Run": RUN}
    return {
        "RecipeFormatVersion": "2020-01-25",
        "ComponentName": name,
        "ComponentVersion": version,
        "ComponentConfiguration": {"DefaultConfiguration": {"depth": depth}},
        "Manifests": [{"Platform": {"os": "linux"}, "Lifecycle": lifecycle}],
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("operator")
    with Lab(tmp_path_factory.mktemp("fleet") / "state") as lab:
        yield World(lab, folder)


def test_a_late_joiner_gets_the_groups_deployment_and_a_leaver_loses_it_at_the_next(world: World) -> None:
    world.publish("com.example.Reef", "1.0.0")
    world.publish("com.example.Own", "1.0.0")
    world.aws.iot.create_thing_group(thingGroupName="reef")
    file = world.write("thinggroup/reef", {"com.example.Reef": {"version": "1.0.0"}})
    assert "note NO_DEVICES" in world.fleet("deploy", file, "--no-follow").out

    world.provision("late", "reef")
    late = world.at("late")
    with world.running(late):
        followed = world.fleet("deploy", file)
        assert "live already" in followed.out
        assert "late SUCCEEDED" in followed.out
        world.wait(lambda: late.starts("com.example.Reef"))

        world.aws.iot.remove_thing_from_thing_group(thingGroupName="reef", thingName="late")
        own = world.write("thing/late", {"com.example.Own": {"version": "1.0.0"}})
        world.fleet("deploy", own)
        assert set(world.components(late)) & {"com.example.Reef", "com.example.Own"} == {"com.example.Own"}
    assert late.starts("com.example.Reef") == ["1.0.0 1"]


def test_a_device_that_was_offline_runs_the_latest_revision_alone_and_reports_in_order(world: World) -> None:
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        world.publish("com.example.Deep", version)
    diver = world.join("deep")

    def deploy(version: str, *more: str, code: int = 0) -> tuple[Done, str]:
        file = world.write("thinggroup/deep", {"com.example.Deep": {"version": version}})
        done = world.fleet("deploy", file, "--json", *more, code=code)
        return done, next(str(event["job_id"]) for event in done.events if event["kind"] == "created")

    with world.running(diver):
        _, first = deploy("1.0.0")
    before = last_report(diver)
    _, missed = deploy("2.0.0", "--no-follow")
    waiting, latest = deploy("3.0.0", "--timeout", "0.1", code=3)
    assert waiting.events[-1]["waiting"][0]["status"] == "QUEUED", "and not failed"
    with world.running(diver):
        caught, again = deploy("3.0.0")
        assert again == latest
        assert caught.events[-1]["succeeded"] == [diver.thing]
        assert world.components(diver)["com.example.Deep"] == ("3.0.0", "RUNNING"), "its reports are not taken for old"
    assert set(diver.starts("com.example.Deep")) == {"1.0.0 1", "3.0.0 1"}
    assert diver.starts("com.example.Deep")[-1] == "3.0.0 1"
    assert last_report(diver) > before > 0
    # QUEUED, IN_PROGRESS, SUCCEEDED: each is one more version of the execution, and a report out of turn is refused.
    assert [world.execution(diver, job) for job in (first, latest)] == [("SUCCEEDED", 3)] * 2
    status, _ = world.execution(diver, missed)
    assert status == "CANCELED", "the newer revision replaced it before the device came"


def last_report(device: Device) -> int:
    """The sequence number of a device's last status message, as the device keeps it."""
    number = peek(device.root / JOURNAL_FOLDER)["health/sequence"]
    assert isinstance(number, int)
    return number


def test_two_groups_in_conflict(world: World) -> None:
    for version in ("1.0.0", "2.0.0"):
        world.publish("com.example.Shared", version)
    twin = world.join("north", "south")
    north = world.write("thinggroup/north", {"com.example.Shared": {"version": "1.0.0"}})
    south = world.write("thinggroup/south", {"com.example.Shared": {"version": "2.0.0"}})
    with world.running(twin):
        world.fleet("deploy", north)
        refused = world.fleet("deploy", south, code=1)
        assert "error CONFLICT: thinggroup/north has com.example.Shared 1.0.0, this would have 2.0.0" in refused.out
        assert "hint: a device takes one version: let both name the same" in refused.err

        failed = world.fleet("deploy", south, "--allow", "CONFLICT", "--json", code=1).events
        change = next(event for event in failed if event["kind"] == "change" and event["status"] == "FAILED")
        assert change["codes"][-2:] == ["COMPONENT_VERSION_REQUIREMENTS_NOT_MET", "NO_AVAILABLE_COMPONENT_VERSION"]
        created = next(event for event in failed if event["kind"] == "created")
        for subject in (twin.thing, created["deployment_id"]):
            told = world.fleet("why", subject, code=1).out
            assert "thinggroup/south needs 2.0.0, thinggroup/north needs 1.0.0" in told.splitlines()[0]
            assert "next: compare what the groups and dependencies in the reason ask for" in told
        assert world.components(twin)["com.example.Shared"] == ("1.0.0", "RUNNING")
    assert twin.starts("com.example.Shared") == ["1.0.0 1"], "it went on all the time"


def test_a_component_that_a_file_no_longer_names(world: World) -> None:
    for name in ("com.example.Kept", "com.example.Left"):
        world.publish(name, "1.0.0")
    device = world.join("guarded")
    both = {"com.example.Kept": {"version": "1.0.0"}, "com.example.Left": {"version": "1.0.0"}}
    with world.running(device):
        world.fleet("deploy", world.write("thinggroup/guarded", both))
        file = world.write("thinggroup/guarded", {"com.example.Kept": {}})
        refused = world.fleet("deploy", file, code=1)
        assert "  - com.example.Left 1.0.0" in refused.out
        assert "nothing was deployed: 1 component would be removed: com.example.Left 1.0.0" in refused.err
        assert "if it is meant, say --allow-remove" in refused.err

        world.fleet("deploy", file, "--allow-remove")
        left = world.components(device)
        assert left["com.example.Kept"] == ("1.0.0", "RUNNING")
        assert "com.example.Left" not in left
    assert device.starts("com.example.Kept") == ["1.0.0 1"], "it was not even restarted"


def test_a_default_that_does_not_arrive_and_the_reset_that_brings_it(world: World) -> None:
    world.publish("com.example.Tide", "1.0.0", depth=1)
    world.publish("com.example.Tide", "1.1.0", depth=9)
    device = world.join("tidal")
    advice = r"hint: to bring them, write components\.(\S+)\.reset: (\[.*\])"

    def depth() -> object:
        shown = world.run("config", "show", "com.example.Tide", "--json", "--root", str(device.root))
        (key,) = json.loads(shown.out)["keys"]
        return key["value"]

    with world.running(device):
        world.fleet("deploy", world.write("thinggroup/tidal", {"com.example.Tide": {"version": "1.0.0"}}))
        newer = {"com.example.Tide": {"version": "1.1.0"}}
        told = world.fleet("deploy", world.write("thinggroup/tidal", newer)).out
        assert "/depth stays 1, the new default is 9" in told
        assert depth() == 1

        found = re.search(advice, told)
        assert found is not None
        reset = {found[1]: {"version": "1.1.0", "reset": json.loads(found[2])}}
        world.fleet("deploy", world.write("thinggroup/tidal", reset))
        assert depth() == 9
    assert device.starts("com.example.Tide") == ["1.0.0 1", "1.1.0 1", "1.1.0 9"]


def test_an_installation_that_fails_on_one_of_two_devices(world: World) -> None:
    good, bad = world.join("pair"), world.join("pair")
    breaks = f'test "$AWS_IOT_THING_NAME" != {bad.thing} || {{ echo no camera here >&2; exit 3; }}'
    world.publish("com.example.Lens", "1.0.0")
    for version in ("2.0.0", "3.0.0"):
        world.publish("com.example.Lens", version, install=breaks)

    def lens(version: str, policy: str, code: int) -> Done:
        file = world.write("thinggroup/pair", {"com.example.Lens": {"version": version}}, onFailure=policy)
        done = world.fleet("deploy", file, code=code)
        if code:
            assert f"failed on {bad.thing}" in done.err
            assert f"  1 device: a component failed three times ({bad.thing})" in done.out
            assert "Install exited with code 3; last on stderr: no camera here" in done.out
            assert "fix: read its log on the device" in done.out
        return done

    def runs() -> list[tuple[str, str]]:
        told = {one["thing"]: one for one in world.fleet("status", "--group", "pair", "--json").events}
        return [
            (one["version"], one["state"])
            for device in (good, bad)
            for one in told[device.thing]["components"]
            if one["name"] == "com.example.Lens"
        ]

    with world.running(good, bad):
        lens("1.0.0", "ROLLBACK", 0)
        assert "FAILED_ROLLBACK_COMPLETE" in lens("2.0.0", "ROLLBACK", 1).out
        assert runs() == [("2.0.0", "RUNNING"), ("1.0.0", "RUNNING")]
        assert "FAILED_ROLLBACK_NOT_REQUESTED" in lens("3.0.0", "DO_NOTHING", 1).out
        assert runs() == [("3.0.0", "RUNNING"), ("3.0.0", "BROKEN")]
    assert bad.starts("com.example.Lens") == ["1.0.0 1", "1.0.0 1"]


def test_drift_after_a_local_deployment_and_back(world: World) -> None:
    device = world.join("moored")
    world.publish("com.example.Buoy", "1.0.0")
    folder = world.folder / "recipes"
    folder.mkdir()
    for name, version in (("com.example.Buoy", "1.5.0"), ("com.example.Bell", "1.0.0")):
        (folder / f"{name}-{version}.json").write_text(json.dumps(recipe(name, version)))
    file = world.write("thinggroup/moored", {"com.example.Buoy": {"version": "1.0.0"}})

    def locally(*arguments: str, code: int = 0) -> Done:
        return world.run("deployment", "create", *arguments, "--root", str(device.root), code=code)

    with world.running(device):
        world.fleet("deploy", file)
        refused = locally("--recipeDir", "recipes", "--merge", "com.example.Buoy=1.5.0", code=1)
        assert "LOCAL_DEPLOYMENT needs 1.5.0, thinggroup/moored needs 1.0.0" in refused.err
        locally("--recipeDir", "recipes", "--merge", "com.example.Buoy=1.5.0", "--groupId", "moored")
        locally("--recipeDir", "recipes", "--merge", "com.example.Bell=1.0.0")
        drifted = world.fleet("drift", file, code=1)
        assert drifted.out.splitlines()[1:] == [
            "  extra          com.example.Bell: 1.0.0  deployed on the device itself",
            "  other version  com.example.Buoy: 1.5.0, wanted 1.0.0 by thinggroup/moored",
            "1 of 1 device differs",
        ]
        assert "`monodon fleet deploy FILE --again` brings it back" in drifted.err
        assert "`monodon deployment create --remove COMPONENT` removes what was deployed there" in drifted.err

        assert "nothing to do" in world.fleet("plan", file).out, "the cloud's side is as it was"
        assert "~ deployment, once more as it is" in world.fleet("deploy", file, "--again").out
        locally("--remove", "com.example.Bell")
        assert world.fleet("drift", file).out == "0 of 1 device differs\n"
    assert device.starts("com.example.Buoy") == ["1.0.0 1", "1.5.0 1", "1.0.0 1"]
