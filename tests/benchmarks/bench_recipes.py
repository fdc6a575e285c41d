"""Checking recipes: against PyYAML's SafeLoader and ``jsonschema`` with our schema, and against an idle Python.

``check`` reads 200 recipes from text and runs every rule on them; ``baseline`` parses the same texts with
``yaml.SafeLoader`` and validates them with ``jsonschema``, which knows neither places nor rules. The two take turns in
one process. ``start`` is ``monodon recipe check FILE`` from process start, and ``idle`` is ``python -c pass``, in turn;
both find compiled bytecode, as an installed package has it. Times are the processor's, which other work on the machine
disturbs least, and the median of the runs.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

from monodon.core.recipe.checks import check
from monodon.core.recipe.schema import schema

RECIPES = 200
ROUNDS = 5
STARTS = 15
TEXT = """\
RecipeFormatVersion: '2020-01-25'
ComponentName: com.example.Camera{number}
ComponentVersion: 1.{number}.0
ComponentDescription: Watches a camera and keeps what matters.
ComponentPublisher: Example
ComponentConfiguration:
  DefaultConfiguration:
    source: /dev/video{number}
    interval_s: 0.5
    labels: [narwhal, beluga]
    accessControl:
      aws.greengrass.ipc.pubsub:
        com.example.Camera{number}:pubsub:1:
          policyDescription: Allows publishing.
          operations: ['aws.greengrass#PublishToTopic']
          resources: [camera/{number}/kept]
ComponentDependencies:
  com.example.Model:
    VersionRequirement: '>=1.0.0 <2.0.0'
    DependencyType: HARD
  aws.greengrass.TokenExchangeService:
    VersionRequirement: ^2.0.0
Manifests:
  - Platform: {{os: linux, architecture: aarch64}}
    Lifecycle:
      Setenv:
        SOURCE: '{{configuration:/source}}'
        MODEL: '{{com.example.Model:artifacts:decompressedPath}}/model'
      Install:
        Script: python3 -m venv {{work:path}}/venv
        Timeout: 300
      Startup:
        Script: |
          export LEVEL=info
          exec python3 -u {{artifacts:decompressedPath}}/camera/main.py --every {{configuration:/interval_s}}
        Timeout: 60
      Shutdown: rm -f {{work:path}}/running
    Artifacts:
      - Uri: s3://bucket/camera.zip
        Unarchive: ZIP
        Permission: {{Read: OWNER}}
  - Platform: {{os: linux}}
    Lifecycle:
      Run: exec python3 -u {{artifacts:decompressedPath}}/camera/main.py
    Artifacts:
      - Uri: s3://bucket/camera.zip
        Unarchive: ZIP
"""


def main() -> dict[str, Any]:
    """Return seconds and ratios."""
    texts = [TEXT.format(number=number) for number in range(RECIPES)]
    validator = Draft202012Validator(schema())
    ours, theirs = _in_turn(lambda: _check_all(texts), lambda: _validate_all(texts, validator), ROUNDS)
    start, idle = _starts(texts[0])
    return {
        "recipes": RECIPES,
        "check_s": round(ours, 3),
        "baseline_s": round(theirs, 3),
        "times_faster": round(theirs / ours, 1),
        "start_ms": round(start * 1000),
        "idle_ms": round(idle * 1000),
        "times_idle": round(start / idle, 1),
    }


def _check_all(texts: list[str]) -> None:
    for text in texts:
        problems = check(text, file="recipe.yaml")
        assert not problems, problems[0]


def _validate_all(texts: list[str], validator: Draft202012Validator) -> None:
    for text in texts:
        errors = list(validator.iter_errors(yaml.safe_load(text)))
        assert not errors, errors[0]


def _starts(text: str) -> tuple[float, float]:
    """Return the median seconds of processor time of a check from process start, and of an idle Python."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "recipe.yaml"
        file.write_text(text, encoding="utf-8")
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(Path(folder) / "bytecode")}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        check = [sys.executable, "-m", "monodon", "recipe", "check", str(file)]
        _processor_s(check, environment)  # compiles
        pairs = [
            (_processor_s(check, environment), _processor_s([sys.executable, "-c", "pass"], environment))
            for _ in range(STARTS)
        ]
    return statistics.median(start for start, _ in pairs), statistics.median(idle for _, idle in pairs)


def _processor_s(command: list[str], environment: dict[str, str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _in_turn(one: Callable[[], None], other: Callable[[], None], rounds: int) -> tuple[float, float]:
    """Return the quickest run of each, in seconds of processor time."""
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for work, times in zip((one, other), taken, strict=True):
            started = time.process_time()
            work()
            times.append(time.process_time() - started)
    return min(taken[0]), min(taken[1])
