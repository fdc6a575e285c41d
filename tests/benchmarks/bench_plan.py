"""Planning 100 components for 10,000 devices, all but the calls themselves, against merely parsing the same answers.

AWS is played by answers in memory, in the shape boto3 hands over, so ``plan`` is what planning itself takes: turning
pages into devices, reading 200 recipes, carrying over, foretelling each configuration, comparing, checking platforms,
looking for conflicts with another group that has half of the devices, and drawing the lines. ``baseline`` is
``json.loads`` of the same answers as text. Times are the processor's, the median of the rounds; ``calls`` is how many
AWS would have got.
"""

import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from monodon.cli.fleet_drawing import plan_lines
from monodon.fleet.desired import Desired
from monodon.fleet.live import read_live
from monodon.fleet.planned import Plan
from monodon.fleet.planning import plan
from monodon.fleet.reading import parse_desired

COMPONENTS, DEVICES, ROUNDS = 100, 10_000, 5
ACCOUNT, REGION = "123456789012", "eu-west-1"
GROUP = f"arn:aws:iot:{REGION}:{ACCOUNT}:thinggroup/drones"
OTHER = f"arn:aws:iot:{REGION}:{ACCOUNT}:thinggroup/half"
NOW = datetime(2026, 11, 22, tzinfo=UTC)


def main() -> dict[str, Any]:
    """Plan an upgrade of every component, and one where nothing is to do."""
    aws = Canned()
    upgrade, same = desired("1.1.0"), desired("1.0.0")
    made = planned(aws, upgrade)
    assert len(made.differences) >= 2 * COMPONENTS
    assert made.devices.total == DEVICES
    assert planned(aws, same).is_empty
    calls = aws.calls // 2
    pages = [page.encode() for page in aws.texts()]
    times: dict[str, list[float]] = {"plan": [], "nothing_to_do": [], "baseline": []}
    for _ in range(ROUNDS):
        times["plan"].append(cpu(lambda: planned(aws, upgrade)))
        times["nothing_to_do"].append(cpu(lambda: planned(aws, same)))
        times["baseline"].append(cpu(lambda: [json.loads(page) for page in pages]))
    seconds = {f"{name}_s": round(statistics.median(each), 3) for name, each in times.items()}
    megabytes = round(sum(map(len, pages)) / 1e6, 2)
    return {"components": COMPONENTS, "devices": DEVICES, **seconds, "calls": calls, "pages_mb": megabytes}


def planned(aws: Any, wanted: Desired) -> Plan:
    """Plan, and draw it."""
    made = plan(wanted, read_live(aws, wanted), now_s=NOW.timestamp())
    assert len(list(plan_lines(made))) > 1
    return made


def cpu(work: Callable[[], object]) -> float:
    """Seconds of the processor."""
    started = time.process_time()
    work()
    return time.process_time() - started


def desired(version: str) -> Desired:
    """Each component in a version, with one key of its configuration named."""
    lines = [f"  com.example.C{n}: {{version: {version}, merge: {{threshold: 0.5}}}}\n" for n in range(COMPONENTS)]
    return parse_desired(f"target: thinggroup/drones\ncomponents:\n{''.join(lines)}", file="fleet.yaml")


def recipe(name: str, version: str) -> dict[str, Any]:
    """A recipe whose defaults change with the version."""
    defaults = {f"key{n}": {"a": n, "b": [n, version], "c": "text"} for n in range(10)}
    return {
        "RecipeFormatVersion": "2020-01-25",
        "ComponentName": name,
        "ComponentVersion": version,
        "ComponentConfiguration": {"DefaultConfiguration": {**defaults, "threshold": 0.4, f"since {version}": 1}},
        "Manifests": [{"Platform": {"os": "linux"}, "Artifacts": [{"Uri": f"s3://bucket/{name}-{version}.zip"}]}],
    }


class Canned:
    """An account that answers from memory; one object is all of its clients."""

    region, account = REGION, ACCOUNT

    def __init__(self) -> None:
        self.greengrass = self.iot = self.s3 = self
        self.calls = 0
        things = [f"drone-{n:05}" for n in range(DEVICES)]
        devices = [
            {
                "coreDeviceThingName": thing,
                "status": "HEALTHY",
                "lastStatusUpdateTimestamp": NOW,
                "platform": "linux",
                "architecture": ("amd64", "aarch64")[n % 2],
                "runtime": "aws_nucleus_classic",
            }
            for n, thing in enumerate(things)
        ]
        update = {"merge": json.dumps({"threshold": 0.5, "labels": ["narwhal"]})}
        components = {
            f"com.example.C{n}": {"componentVersion": "1.0.0", "configurationUpdate": update} for n in range(COMPONENTS)
        }
        self._deployments = {
            "mine": {"deploymentId": "mine", "targetArn": GROUP, "revisionId": "1", "components": components},
            "other": {"deploymentId": "other", "targetArn": OTHER, "revisionId": "1", "components": components},
        }
        summaries = [{"deploymentId": key, "targetArn": one["targetArn"]} for key, one in self._deployments.items()]
        self._lists: dict[str, list[dict[str, Any]]] = {
            "drones": paged("things", things, 250),
            "half": paged("things", things[::2], 250),
            "list_core_devices": paged("coreDevices", devices, 100),
            "list_deployments": paged("deployments", summaries, 100),
        }
        self._recipes = {
            arn(name, version): json.dumps(recipe(name, version)).encode()
            for name in components
            for version in ("1.0.0", "1.1.0")
        }

    def texts(self) -> Iterator[str]:
        """Every answer, as text."""
        for pages in self._lists.values():
            yield from (json.dumps(page, default=str) for page in pages)
        yield from (json.dumps(one) for one in self._deployments.values())
        yield from (text.decode() for text in self._recipes.values())

    def group_arn(self, name: str) -> str:
        return GROUP if name == "drones" else OTHER

    def get_paginator(self, operation: str) -> "Paginator":
        return Paginator(self, operation)

    def pages(self, operation: str, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
        found = self._lists[arguments.get("thingGroupName") or operation]
        self.calls += len(found)
        if "targetArn" in arguments:
            return [
                {"deployments": [one for one in found[0]["deployments"] if one["targetArn"] == arguments["targetArn"]]}
            ]
        return found

    def get_deployment(self, deploymentId: str) -> dict[str, Any]:  # noqa: N803  # boto3's
        self.calls += 1
        return dict(self._deployments[deploymentId])

    def describe_component(self, arn: str) -> dict[str, Any]:
        self.calls += 1
        return {"status": {"componentState": "DEPLOYABLE"}}

    def get_component(self, arn: str, recipeOutputFormat: str) -> dict[str, Any]:  # noqa: N803  # boto3's
        self.calls += 1
        return {"recipe": self._recipes[arn]}

    def head_object(self, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803  # boto3's
        self.calls += 1
        return {}


class Paginator:
    """boto3's, as far as it is used."""

    def __init__(self, account: Canned, operation: str) -> None:
        self._account = account
        self._operation = operation

    def paginate(self, **arguments: Any) -> list[dict[str, Any]]:
        return self._account.pages(self._operation, arguments)


def paged(key: str, items: list[Any], size: int) -> list[dict[str, Any]]:
    """Cut into pages as AWS does."""
    return [{key: items[start : start + size]} for start in range(0, len(items), size)]


def arn(name: str, version: str) -> str:
    """The ARN of a component version."""
    return f"arn:aws:greengrass:{REGION}:{ACCOUNT}:components:{name}:versions:{version}"
