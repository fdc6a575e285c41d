"""The founding story on one machine: a drone photographs everything and keeps only the narwhals.

Package, publish, deploy, classify, keep; then a new version of the model, and again. All of it is the real thing:
boto3 talks to the embedded cloud, the nucleus runs the components as processes, the model looks at every frame.
"""

import time
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from monodon.core.names import ComponentName
from monodon.core.semver import Version
from monodon.dev.figures import accuracy, draw_contact_sheet, kept_frames, read_truth
from monodon.dev.lab import Lab, Server
from monodon.dev.listener import Listener, make_operator
from monodon.dev.packages import PYTHON_RUNTIME, build_packages
from monodon.errors import FleetError, FrameError, ModelError, NetworkError
from monodon.fleet.aws import Aws
from monodon.fleet.deploying import Change, deploy, follow
from monodon.fleet.desired import Desired, DesiredComponent
from monodon.publish import Package, Progress, Registry, publish

THING, GROUP = "drone-1", "drones"
MODEL = ComponentName("monodon.Model.EfficientNetLite0")
CLASSIFIER = ComponentName("monodon.CameraClassifier")
CLIP = Path("tests/data/clips/dive_720p.mp4")
#: Version 1 knows no narwhal: of what it knows, this comes nearest.
STAND_INS = {"1.0.0": "grey whale", "2.0.0": "narwhal"}
NARWHAL = "narwhal"
THRESHOLD = 0.5
DEPLOYMENT_TIMEOUT_S = 120.0
#: The classifier tells its state twice a second; silent for this long, it is lost.
SILENCE_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a person chose: ``clip`` and ``keep`` are None for the story as it is told."""

    checkout: Path
    state: Path
    clip: Path | None = None
    keep: str | None = None
    keep_running: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something to show. ``stage`` began; ``done`` ended after ``seconds``; ``note`` is said; ``live`` is the present
    state, replaced by the next one; ``result`` carries ``data``, the whole outcome."""

    kind: str
    text: str = ""
    seconds: float | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


def demo(options: Options) -> Iterator[Event]:
    """Tell the story; the last event is its result.

    Raises:
        MonodonError: a stage failed; the message says which and why. What was started is stopped.
    """
    story = _Story(options)
    with Lab(options.state) as lab:
        yield from story.tell(lab)
        lab.keep_running = options.keep_running


class _Story:
    def __init__(self, options: Options) -> None:
        self._options = options
        self._clip = (options.clip or options.checkout / CLIP).resolve()
        if not self._clip.exists():
            raise FrameError(f"no such clip: {self._clip}")
        self._labels = wanted_labels(options)
        self._truth = read_truth(self._clip, options.keep or NARWHAL)
        self._runs: dict[str, dict[str, Any] | None] = dict.fromkeys(self._labels)
        self._deployments: list[dict[str, Any]] = []
        self._stages: dict[str, float] = {}

    def tell(self, lab: Lab) -> Iterator[Event]:
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="build") as pool:
            started = time.perf_counter()
            packages = pool.submit(build_packages, self._options.checkout, lab.cache)
            cloud = yield from self._start_cloud(lab)
            device = yield from self._start_device(lab, cloud)
            yield from self._publish(lab.aws(cloud), packages, started)
        aws = lab.aws(cloud)
        with Listener(make_operator(aws, "monodon-demo"), cloud.ready, "monodon/#") as listener:
            for version, label in self._labels.items():
                if label is None:
                    yield Event(kind="note", text=f"model {version} does not know {self._options.keep!r}: skipped")
                    continue
                yield from self._deploy(aws, version, label)
                yield from self._watch(listener, version)
        yield from self._look_back(lab)
        yield Event(kind="result", data=self._result(lab, cloud, device))

    def _start_cloud(self, lab: Lab) -> Generator[Event, None, Server]:
        begun = time.perf_counter()
        yield Event(kind="stage", text="start the cloud")
        cloud = lab.start_cloud()
        yield self._done("start the cloud", begun, f"boto3 at {cloud.ready['endpoint']}")
        return cloud

    def _start_device(self, lab: Lab, cloud: Server) -> Generator[Event, None, Server]:
        begun = time.perf_counter()
        yield Event(kind="stage", text="start the device")
        root = lab.provision(cloud, THING, GROUP)
        device = lab.start_device(cloud, root)
        yield self._done("start the device", begun, f"core device {THING} in thing group {GROUP}")
        return device

    def _publish(self, aws: Aws, building: "Future[tuple[Package, ...]]", started: float) -> Iterator[Event]:
        yield Event(kind="stage", text="build the components")
        packages = building.result()
        yield self._done("build the components", started, ", ".join(package.label for package in packages))
        begun = time.perf_counter()
        yield Event(kind="stage", text="publish the components")
        registry = Registry(
            s3=aws.s3, greengrass=aws.greengrass, bucket=aws.bucket, region=aws.region, account=aws.account
        )
        for package in packages:
            for progress in publish(package, registry):
                yield Event(kind="live", text=_told(progress))
        yield self._done("publish the components", begun, f"{len(packages)} versions are deployable")

    def _deploy(self, aws: Aws, version: str, label: str) -> Iterator[Event]:
        begun = time.perf_counter()
        stage = f"deploy model {version}"
        yield Event(kind="stage", text=f"{stage}, keep {label!r}")
        created = deploy(aws, self._desired(version, label))
        change: Change | None = None
        for change in follow(aws, created, timeout_s=DEPLOYMENT_TIMEOUT_S):
            yield Event(kind="live", text=f"{change.thing} {change.status} after {change.at_s:.1f} s")
        assert change is not None  # follow ends with every device's answer
        self._deployments.append(
            {
                "id": created.deployment_id,
                "target": created.target_arn,
                "status": change.status,
                "seconds": round(time.perf_counter() - begun, 3),
            }
        )
        if not change.is_success:
            raise FleetError(f"deployment {created.deployment_id} {change.status} on {change.thing}: {change.reason}")
        yield self._done(stage, begun, f"{change.thing} {change.status}")

    def _desired(self, version: str, label: str) -> Desired:
        settings = {
            "source": str(self._clip),
            "labels": [label],
            "model_version": version,
            "threshold": THRESHOLD,
            "interval_s": 0,
            "status_interval_s": 0.5,
        }
        first = Version.parse("1.0.0")
        return Desired(
            target=f"thinggroup/{GROUP}",
            name=f"model {version}",
            components={
                CLASSIFIER: DesiredComponent(version=first, merge=settings),
                MODEL: DesiredComponent(version=Version.parse(version)),
                PYTHON_RUNTIME: DesiredComponent(version=first),
            },
        )

    def _watch(self, listener: Listener, version: str) -> Iterator[Event]:
        begun = time.perf_counter()
        stage = f"watch with model {version}"
        yield Event(kind="stage", text=stage)
        heard = 0
        while (message := listener.next(time.monotonic() + SILENCE_TIMEOUT_S)) is not None:
            told = message.message if isinstance(message.message, dict) else {}
            if told.get("model_version") != version:
                continue
            if message.topic.endswith("/kept"):
                heard += 1
                continue
            run = told["run"]
            yield Event(kind="live", text=f"{run['seen']} frames seen, {run['kept']} kept")
            if told["state"] == "done":
                self._runs[version] = self._figures(told, heard)
                yield self._done(stage, begun, f"{run['seen']} frames seen, {run['kept']} kept")
                return
        raise NetworkError(
            f"{THING} has said nothing for {SILENCE_TIMEOUT_S:g} s",
            hint=f"look into {self._options.state}/devices/{THING}/logs/{CLASSIFIER}.log",
        )

    def _figures(self, told: Mapping[str, Any], heard: int) -> dict[str, Any]:
        run, folder = told["run"], Path(told["folder"])
        kept = kept_frames(folder)
        return {
            "label": self._labels[told["model_version"]],
            "frames_seen": run["seen"],
            "frames_kept": run["kept"],
            "frames_dropped": run["dropped"],
            "bytes_seen": run["bytes_seen"],
            "bytes_kept": run["bytes_kept"],
            **asdict(accuracy(kept, self._truth)),
            "latency_ms": told["latency_ms"],
            "engine": told["engine"],
            "kept_dir": str(folder),
            "heard_by_cloud": heard,
        }

    def _look_back(self, lab: Lab) -> Iterator[Event]:
        begun = time.perf_counter()
        yield Event(kind="stage", text="draw the contact sheet")
        runs = [
            (f"model {version}, {run['label']}", Path(run["kept_dir"]), run["frames_seen"])
            for version, run in self._runs.items()
            if run is not None
        ]
        sheet = lab.state / "demo" / "contact_sheet.png"
        draw_contact_sheet(sheet, self._clip, runs)
        yield self._done("draw the contact sheet", begun, str(sheet))

    def _result(self, lab: Lab, cloud: Server, device: Server) -> dict[str, Any]:
        return {
            "clip": str(self._clip),
            "runs": self._runs,
            "deployments": self._deployments,
            "contact_sheet": str(lab.state / "demo" / "contact_sheet.png"),
            "stages": self._stages,
            "running": {
                "cloud": {"pid": cloud.pid, **cloud.ready},
                "device": {"pid": device.pid, **device.ready},
            }
            if self._options.keep_running
            else None,
        }

    def _done(self, stage: str, begun: float, text: str) -> Event:
        seconds = time.perf_counter() - begun
        self._stages[stage] = round(seconds, 3)
        return Event(kind="done", text=text, seconds=seconds)


def wanted_labels(options: Options) -> dict[str, str | None]:
    """Return the label that each model version keeps; None for one that does not know what was asked for.

    Raises:
        ModelError: no version knows it; the hint names the nearest.
    """
    if options.keep is None:
        return dict(STAND_INS)
    from monodon.ml import Labels, ModelManifest

    wanted: dict[str, str | None] = {}
    unknown: ModelError | None = None
    for version in STAND_INS:
        labels = Labels(ModelManifest.load(options.checkout / "components" / MODEL / version).labels)
        try:
            labels.find(options.keep)
        except ModelError as error:
            wanted[version], unknown = None, error
        else:
            wanted[version] = options.keep
    if unknown is not None and not any(wanted.values()):
        raise unknown
    return wanted


def _told(progress: Progress) -> str:
    return " ".join(part for part in (progress.package, progress.step, progress.detail) if part)
