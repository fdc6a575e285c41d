"""What is live, written as a fleet file: planned again, there is nothing to do."""

import json
from collections.abc import Mapping
from typing import Any

import yaml

from monodon.core.json import Json
from monodon.errors import FleetError
from monodon.fleet.aws import Aws
from monodon.fleet.content import Content, Part, content_of
from monodon.fleet.live import live_deployment, target_arn

_JOB = {"jobExecutionsRolloutConfig": "rollout", "abortConfig": "abort", "timeoutConfig": "timeout"}


def export(aws: Aws, target: str, *, style: str = "yaml") -> str:
    """Return what is live on a target, as a fleet file (``yaml``) or as AWS's create-deployment ``json``.

    Raises:
        FleetError: the target has no deployment, or AWS refuses a call.
    """
    arn = target_arn(aws, target)
    live = live_deployment(aws, arn)
    if live is None:
        raise FleetError(f"{target} has no deployment", hint="deploy one: monodon fleet deploy FILE")
    return written(live, style=style)


def written(deployment: Mapping[str, Any], *, style: str = "yaml") -> str:
    """Return a deployment (GetDeployment's answer) as the text of a fleet file.

    Raises:
        FleetError: a merge in it is not a JSON object.
    """
    content = content_of(deployment)
    if style == "json":
        return json.dumps(content.request(), indent=2, ensure_ascii=False) + "\n"
    return _yaml(_document(content))


def _document(content: Content) -> dict[str, Json]:
    policies = content.policies
    validation = policies.get("configurationValidationPolicy") or {}
    document: dict[str, Json] = {
        "target": content.target_arn.rpartition(":")[2],
        "name": content.name,
        "components": {name: _component(content.components[name]) for name in sorted(content.components)},
        "onFailure": policies.get("failureHandlingPolicy"),
        "updatePolicy": policies.get("componentUpdatePolicy"),
        "validationTimeoutInSeconds": validation.get("timeoutInSeconds"),
        **{ours: content.job.get(aws) for aws, ours in _JOB.items()},
        "tags": dict(content.tags),
        "parentTarget": content.parent_arn.rpartition(":")[2],
    }
    return {key: value for key, value in document.items() if value or key == "components"}


def _component(part: Part) -> dict[str, Json]:
    entry: dict[str, Json] = {"version": part.version}
    if part.merge:
        entry["merge"] = dict(part.merge)
    if part.reset:
        entry["reset"] = list(part.reset)
    if part.run_with:
        entry["runWith"] = dict(part.run_with)
    return entry


class _Dumper(yaml.SafeDumper):
    """Writes each value out, even if it is there twice."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Quote what PyYAML would write plainly and read as a line break."""
    style = '"' if any(not character.isprintable() for character in text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def _yaml(document: Mapping[str, Json]) -> str:
    text: str = yaml.dump(dict(document), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text
