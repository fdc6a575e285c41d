"""Revisions as the ledger knows them: what a line or a tag says, and what several sources say together. Pure."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from monodon.fleet.clustering import printable

PREFIX = "monodon:revision-"
#: A tag's value has at most 256 characters, and a resource 50 tags: the newest revisions, and the newest good one.
MAX_VALUE, KEPT_TAGS = 256, 20
#: What a tag's value may not have. Source: AWS IoT, Tag.
_NOT_TAG = re.compile(r"[^\w.:/=+\-@ ]")


class Outcome(StrEnum):
    """``good``: every device ended well, and gates held; ``bad``: a device failed, or a gate; else ``unknown``."""

    GOOD = "good"
    BAD = "bad"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One revision of a target. Times are seconds since 1970.

    Args:
        request: the arguments of CreateDeployment; None where only AWS has them.
        replaces: the id of the deployment that was live before; None if there was none, or nobody knows.
        operator: the ARN of who made it; "" if Monodon did not.
        run: which rollout by rings it belongs to; "" for none.
        note: why it is good or bad, or what it goes back to.
    """

    deployment_id: str
    target_arn: str
    revision: str = ""
    request: Mapping[str, Any] | None = None
    replaces: str | None = None
    operator: str = ""
    made_s: float = 0.0
    outcome: Outcome = Outcome.UNKNOWN
    outcome_s: float = 0.0
    run: str = ""
    note: str = ""

    @property
    def number(self) -> int:
        """The revision as a number; 0 if it is none."""
        return int(self.revision) if self.revision.isdecimal() else 0


def last_good(
    entries: tuple[Entry, ...], live_id: str, is_same: Callable[[Entry], bool] = lambda entry: False
) -> Entry | None:
    """Return the newest good revision that is not the live one, and does not say the same as it; None if none is."""
    for entry in reversed(entries):
        if entry.outcome is Outcome.GOOD and entry.deployment_id != live_id and not is_same(entry):
            return entry
    return None


def read(line: Mapping[str, Any], known: Entry) -> Entry:
    """Return an entry with what a line of the file says."""
    request, replaces = line.get("request"), line.get("replaces")
    return replace(
        known,
        revision=_text(line, "revision"),
        request=request if isinstance(request, dict) and request.get("targetArn") == known.target_arn else None,
        replaces=replaces if isinstance(replaces, str) else None,
        operator=_text(line, "operator"),
        made_s=_number(line.get("made_s")),
        run=_text(line, "run"),
        note=known.note or _text(line, "note"),
    )


def judged(known: Entry, line: Mapping[str, Any]) -> Entry:
    """Return an entry with the outcome that a line of the file says."""
    outcome = line.get("outcome")
    if outcome not in list(Outcome):
        return known
    at_s = _number(line.get("outcome_s"))
    return replace(known, outcome=Outcome(outcome), outcome_s=at_s, note=_text(line, "note") or known.note)


def _text(line: Mapping[str, Any], key: str) -> str:
    value = line.get(key)
    return printable(value, 2000) if isinstance(value, str) else ""


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and 0 <= value < 1e12 else 0.0


def tag_value(entry: Entry) -> str:
    """Write an entry as the value of a tag."""
    parts = (
        entry.deployment_id,
        str(entry.outcome),
        str(int(entry.outcome_s)),
        entry.replaces or "-",
        str(int(entry.made_s)),
        entry.run or "-",
        entry.operator,
    )
    return _NOT_TAG.sub("_", " ".join(parts))[:MAX_VALUE].rstrip()


def of_tag(target_arn: str, key: str, value: str) -> Entry | None:
    """Read an entry from a tag; None if it is none of ours."""
    parts = value.split(" ", 6)
    revision = key.removeprefix(PREFIX)
    if len(parts) < 6 or not revision.isdecimal() or parts[1] not in list(Outcome):
        return None
    if not parts[2].isdecimal() or not parts[4].isdecimal():
        return None
    return Entry(
        deployment_id=parts[0],
        target_arn=target_arn,
        revision=revision,
        outcome=Outcome(parts[1]),
        outcome_s=_number(int(parts[2])),
        replaces=None if parts[3] == "-" else parts[3],
        made_s=_number(int(parts[4])),
        run="" if parts[5] == "-" else parts[5],
        operator=printable(parts[6]) if len(parts) == 7 else "",
    )


def stale(values: Mapping[str, str]) -> list[str]:
    """Tags that make room: all but the newest revisions, and the newest good one."""
    numbered = {int(key.removeprefix(PREFIX)): key for key in values if key.removeprefix(PREFIX).isdecimal()}
    newest = sorted(numbered, reverse=True)
    good = next((number for number in newest if f" {Outcome.GOOD} " in values[numbered[number]]), None)
    return [numbered[number] for number in newest[KEPT_TAGS:] if number != good]


def both(local: Entry | None, tagged: Entry) -> Entry:
    """The file knows more, the tags are everybody's: the later word on the outcome counts, of two at once the worse."""
    if local is None:
        return tagged
    later = int(tagged.outcome_s) > int(local.outcome_s)
    worse = int(tagged.outcome_s) == int(local.outcome_s) and tagged.outcome is Outcome.BAD
    whole = completed(local, tagged)
    if tagged.outcome is Outcome.UNKNOWN or not (later or worse):
        return whole
    return replace(whole, outcome=tagged.outcome, outcome_s=tagged.outcome_s)


def completed(known: Entry, other: Entry) -> Entry:
    return replace(
        known,
        revision=known.revision or other.revision,
        replaces=known.replaces or other.replaces,
        operator=known.operator or other.operator,
        made_s=known.made_s or other.made_s,
        run=known.run or other.run,
    )


def linked(ordered: list[Entry]) -> Iterator[Entry]:
    """Each with what it replaced, where only the order tells."""
    before: Entry | None = None
    for entry in ordered:
        follows = before is not None and before.number == entry.number - 1
        yield replace(entry, replaces=before.deployment_id) if entry.replaces is None and before and follows else entry
        before = entry
