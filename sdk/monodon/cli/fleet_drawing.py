"""Plans and results of deployments as lines: a tree with colours on a terminal, plain text elsewhere."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from monodon.core.json import Json

if TYPE_CHECKING:
    from monodon.fleet.following import Result
    from monodon.fleet.planned import Difference, Finding, Plan, Touched

_MARKS = {"added": "+", "changed": "~", "removed": "-"}
_STYLES = {"+": "green", "~": "yellow", "-": "red", "error": "bold red", "warning": "yellow", "note": "dim"}
_LONGEST = 200
_DAY_S = 86_400.0


class Line(NamedTuple):
    """One line, how far it is indented, and what it is: a mark or a severity, for its colour."""

    depth: int
    text: str
    kind: str = ""


def plan_lines(plan: "Plan", *, values: bool = True) -> Iterator[Line]:
    """Yield a plan, whole.

    Args:
        values: show values of configurations; they may be secret.
    """
    target = plan.target_arn.rpartition(":")[2]
    now = f"revision {plan.revision}, deployment {plan.replaces}" if plan.replaces else "no deployment yet"
    changed = len(plan.differences)
    what = "nothing to do" if plan.is_empty else f"{changed} change{'' if changed == 1 else 's'}"
    yield Line(0, f"{target} ({now}): {what}")
    yield from change_lines(plan.differences, plan.versions, values=values)
    yield Line(1, _devices(plan.devices))
    for finding in plan.findings:
        yield from _finding(finding, values)


def ring_line(name: str, arns: Iterable[str]) -> Line:
    """Return the heading of a ring's plans."""
    return Line(0, _plain(f"ring {name}: {', '.join(arn.rpartition(':')[2] for arn in arns)}"))


def change_lines(
    differences: "Sequence[Difference]", versions: Mapping[str, str] | None = None, *, values: bool = True
) -> Iterator[Line]:
    """Yield what changes, component by component; ``versions`` are told of those whose version stays."""
    for name, group in groupby(differences, key=lambda one: one.component):
        some = list(group)
        yield from _component(name, some, versions or {}, values) if name else _settings(some, values)


def _component(name: str, differences: "list[Difference]", versions: Mapping[str, str], values: bool) -> Iterator[Line]:
    heads = [one for one in differences if one.what in ("component", "version")]
    if heads:
        mark = _MARKS[heads[0].kind]
        version = " → ".join(str(each) for each in (heads[0].old, heads[0].new) if each is not None)
    else:
        mark, version = "~", versions.get(name, "")
    yield Line(1, f"{mark} {name} {version}".rstrip(), mark)
    for one in differences:
        if one in heads:
            continue
        mark = _MARKS[one.kind]
        label = {"configuration": one.pointer, "merge": f"merge of {one.pointer}, for late joiners"}.get(
            one.what, one.what
        )
        yield Line(2, f"{mark} {_plain(label)}{_values(one, values)}", mark)


def _settings(differences: "list[Difference]", values: bool) -> Iterator[Line]:
    for one in differences:
        mark = _MARKS[one.kind]
        yield Line(1, f"{mark} {_plain(one.what)}{_values(one, values)}", mark)


def _values(one: "Difference", values: bool) -> str:
    if one.what in ("merge", "configuration", "default") and not values:
        return ""
    if one.what == "deployment" and one.old == one.new:  # None: it says otherwise what devices have already
        return "" if one.old is None else ", once more as it is"
    old, new = _short(one.old), _short(one.new)
    return {"added": f" {new}", "removed": f" {old}"}.get(one.kind, f" {old} → {new}")


def _short(value: Json) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return _plain(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text)} characters)")


def _devices(devices: "Touched") -> str:
    if not devices.total:
        return "devices: none"
    parts = [f"{len(devices.recent):,} reported within a day"]
    if devices.silent:
        parts.append(f"{len(devices.silent):,} silent for longer (most likely offline: {_few(devices.silent)})")
    if devices.unknown:
        parts.append(f"{len(devices.unknown):,} never reported ({_few(devices.unknown)})")
    if devices.unhealthy:
        parts.append(f"{len(devices.unhealthy):,} unhealthy ({_few(devices.unhealthy)})")
    return f"devices: {devices.total:,}; by their last reports {', '.join(parts)}"


def _finding(finding: "Finding", values: bool) -> Iterator[Line]:
    yield Line(1, f"{finding.severity} {finding.code}: {_plain(finding.message)}", str(finding.severity))
    if values:
        for one in finding.details[:20]:
            stays = "" if one.new is None else f", the new default is {_short(one.new)}"
            yield Line(2, f"{_plain(one.pointer)} stays {_short(one.old)}{stays}", "note")
    if finding.hint:
        yield Line(2, f"hint: {_plain(finding.hint)}", "note")


def result_lines(result: "Result", *, now_s: float | None = None) -> Iterator[Line]:
    """Yield how a deployment stands: failures by cause with the fix, and who has not answered."""
    now_s = time.time() if now_s is None else now_s
    done = f"{len(result.succeeded):,} succeeded, {len(result.failed):,} failed"
    left = f", {len(result.left):,} left the target" if result.left else ""
    yield Line(0, f"{done}, {len(result.waiting):,} without an answer{left}")
    for cluster in result.clusters:
        noun = "device" if len(cluster.things) == 1 else "devices"
        yield Line(1, f"{len(cluster.things):,} {noun}: {cluster.cause} ({_few(cluster.things)})", "error")
        if cluster.example and cluster.example != cluster.cause:
            yield Line(2, f"such as: {cluster.example}", "note")
        if cluster.fix:
            yield Line(2, f"fix: {cluster.fix}", "note")
    kinds: dict[str, list[str]] = {}
    for one in result.waiting:
        kinds.setdefault(f"{one.status}, {_heard(one.reported_s, now_s)}", []).append(one.thing)
    for kind, things in sorted(kinds.items()):
        yield Line(1, f"{len(things):,} waiting: {kind}: {_few(things)}", "warning")


def _heard(reported_s: float | None, now_s: float) -> str:
    if reported_s is None:
        return "never reported to AWS"
    days = int((now_s - reported_s) // _DAY_S)
    if now_s - reported_s > _DAY_S + 3600:
        return f"last reported {days} day{'' if days == 1 else 's'} ago, most likely offline"
    return "reported within a day"


def _few(things: "tuple[str, ...] | list[str]") -> str:
    more = f" and {len(things) - 5:,} more" if len(things) > 5 else ""
    return ", ".join(things[:5]) + more


def _plain(text: str) -> str:
    """Without control characters: configurations and devices can say anything."""
    return "".join(character if character.isprintable() else "?" for character in text)


def draw(lines: Iterable[Line]) -> None:
    """Print lines: a tree on a terminal, indented text elsewhere."""
    from rich.console import Console

    console = Console(highlight=False)  # a tree cuts off what it may not wrap
    if not console.is_terminal:
        for line in lines:
            click.echo("  " * line.depth + line.text)
        return
    from rich.text import Text
    from rich.tree import Tree

    trees: list[Tree] = []
    nodes: dict[int, Any] = {}
    for line in lines:
        text = Text(line.text, style=_STYLES.get(line.kind, "bold" if line.depth == 0 else ""))
        if line.depth == 0:
            nodes = {0: Tree(text)}
            trees.append(nodes[0])
        else:
            nodes[line.depth] = nodes[line.depth - 1].add(text)
    for tree in trees:
        console.print(tree)


def counts(told: Mapping[str, int], total: int, at_s: float) -> str:
    """Return the live line: how many devices are where."""
    parts = [f"{status} {count:,}" for status, count in sorted(told.items(), key=lambda item: -item[1])]
    unseen = total - sum(told.values())
    if unseen > 0:
        parts.append(f"not begun {unseen:,}")
    return f"{at_s:6.1f} s  {' · '.join(parts) or 'no device yet'} of {total:,}"
