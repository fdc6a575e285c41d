"""What was seen of a rollout that failed: JSON for machines, Markdown for people. No values of configurations."""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from monodon.errors import FleetError
from monodon.fleet.gates import Baseline, DeviceSeen, MetricGate, Reports, Standing, Verdict

FOLDER = Path(".monodon/evidence")
#: Looks that are kept for each ring: the first ones and the last.
_MAX_LOOKS = 200


@dataclass(slots=True, kw_only=True)
class RingSeen:
    """All that was seen of one ring. Times are seconds since 1970."""

    name: str
    began_s: float
    deployments: list[dict[str, Any]] = field(default_factory=list)
    looks: list[tuple[float, tuple[Verdict, ...]]] = field(default_factory=list)
    devices: tuple[DeviceSeen, ...] = ()
    baseline: Baseline = field(default_factory=Baseline)
    metrics: tuple[MetricGate, ...] = ()

    def saw(self, at_s: float, verdicts: tuple[Verdict, ...], devices: tuple[DeviceSeen, ...]) -> None:
        """Add a look; one that says the same as the last two takes the last one's place."""
        self.devices = devices
        said = [one for _, one in self.looks[-2:]]
        if len(self.looks) >= _MAX_LOOKS or (len(said) == 2 and said[0] == said[1] == verdicts):
            self.looks.pop()
        self.looks.append((at_s, verdicts))


@dataclass(slots=True, kw_only=True)
class Evidence:
    """What is known of a rollout so far."""

    target: str
    run: str
    operator: str
    began_s: float
    reason: str = ""
    rings: list[RingSeen] = field(default_factory=list)
    rollbacks: list[dict[str, Any]] = field(default_factory=list)

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write both files, anew if they are there; return their paths, the readable one first.

        Raises:
            FleetError: they cannot be written.
        """
        stamp = re.sub(r"[-:]", "", _moment(self.began_s))
        base = folder / f"{stamp}-{self.run}"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            document = base.with_suffix(".json")
            _replace(document, json.dumps(self.to_json(), indent=2, default=str) + "\n")
            readable = base.with_suffix(".md")
            _replace(readable, "\n".join(self.lines()) + "\n")
        except OSError as error:
            raise FleetError(f"cannot write the evidence to {folder}: {error.strerror}") from error
        return readable, document

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "target": self.target,
            "run": self.run,
            "operator": self.operator,
            "began": _moment(self.began_s),
            "reason": self.reason,
            "rings": [_ring(one) for one in self.rings],
            "rollbacks": self.rollbacks,
        }

    def lines(self) -> Iterator[str]:
        """Yield the report for people, in Markdown."""
        yield f"# Rollout to {self.target} failed"
        yield ""
        yield f"{self.reason}"
        yield ""
        yield f"Begun {_moment(self.began_s)} by {self.operator}, run {self.run}."
        for ring in self.rings:
            yield from _ring_lines(ring)
        yield ""
        yield "## Rolled back"
        yield ""
        yield from (f"- {_rollback_line(one)}" for one in self.rollbacks)
        if not self.rollbacks:
            yield "Nothing yet."


def _ring(ring: RingSeen) -> dict[str, Any]:
    return {
        "name": ring.name,
        "began": _moment(ring.began_s),
        "deployments": ring.deployments,
        "looks": [{"at": _moment(at_s), "verdicts": [asdict(one) for one in said]} for at_s, said in ring.looks],
        "devices": [asdict(one) for one in ring.devices],
        "baseline": asdict(ring.baseline),
    }


def _ring_lines(ring: RingSeen) -> Iterator[str]:
    yield ""
    yield f"## Ring {ring.name}"
    yield ""
    for one in ring.deployments:
        yield f"- {one['target']}: deployment {one['deployment_id']}, revision {one['revision']}"
    if ring.looks:
        yield ""
        yield "| when | gate | | seen |"
        yield "|---|---|---|---|"
    said: dict[str, Standing] = {}
    for number, (at_s, verdicts) in enumerate(ring.looks):
        for verdict in verdicts:
            if said.get(verdict.gate) != verdict.standing or number == len(ring.looks) - 1:
                yield _row(_moment(at_s), verdict.gate, verdict.standing, verdict.seen)
            said[verdict.gate] = verdict.standing
    if ring.devices:
        names = [f"{gate.key}, before" for gate in ring.metrics]
        yield ""
        yield _row("device", "execution", "components", *names)
        yield "|---" * (3 + len(names)) + "|"
    for device in ring.devices:
        yield _device_row(ring, device)


def _device_row(ring: RingSeen, device: DeviceSeen) -> str:
    execution = f"{device.status} {device.reason}".strip()
    parts = ", ".join(f"{name} {one.version} {one.state}" for name, one in sorted(device.components.items()))
    figures = [
        f"{_figure(device.reports, gate)}, {_figure(ring.baseline.before.get(device.thing, {}), gate)}"
        for gate in ring.metrics
    ]
    return _row(device.thing, execution, parts, *figures)


def _figure(reports: Reports, gate: MetricGate) -> str:
    report = reports.get(gate.component)
    summary = report.metric(gate.metric) if report is not None else None
    return f"{getattr(summary, gate.value):g} (of {summary.count})" if summary is not None else "not known"


def _rollback_line(one: Mapping[str, Any]) -> str:
    if one.get("problem"):
        return f"{one['target']}: **not rolled back**: {one['problem']}"
    counts = f"{len(one['succeeded'])} succeeded, {len(one['failed'])} failed, {len(one['waiting'])} without an answer"
    return f"{one['target']}: back to {one['to']} by deployment {one['deployment_id']}: {counts}"


def _row(*cells: object) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def save_reports(path: Path, reports: Mapping[str, Reports]) -> None:
    """Keep figures for a run that is interrupted and goes on.

    Raises:
        FleetError: the file cannot be written.
    """
    document = {
        thing: {"state": {"reported": {name: _report(report) for name, report in found.items()}}}
        for thing, found in reports.items()
    }
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _replace(path, json.dumps(document))
    except OSError as error:
        raise FleetError(f"cannot write {path}: {error.strerror}") from error


def _report(report: Any) -> dict[str, Any]:
    found = asdict(report)
    return {"at": found["at_s"], "since": found["since_s"], "metrics": found["metrics"]}


def read_saved(path: Path) -> dict[str, Any]:
    """Return what `save_reports` kept, a shadow document a thing; nothing if it is not there or was changed."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all; it may say what is nobody's business."""
    part = path.with_suffix(f"{path.suffix}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def told(verdicts: Iterable[Verdict], which: Standing) -> str:
    """Say which gates stand so, and why."""
    return "; ".join(f"{one.gate}: {one.seen}" for one in verdicts if one.standing is which)
