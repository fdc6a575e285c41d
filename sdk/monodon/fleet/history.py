"""The revisions of a target: who made each, when, what it changed, and how it turned out."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from monodon.fleet.aws import Aws
from monodon.fleet.content import Content
from monodon.fleet.differences import differences
from monodon.fleet.entries import Entry
from monodon.fleet.ledger import Ledger
from monodon.fleet.live import each, live_deployment, target_arn
from monodon.fleet.planned import Difference
from monodon.fleet.returning import with_defaults

#: Revisions that are read at most; each may cost a call.
MAX_SHOWN = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One revision of a target.

    Args:
        changes: against the revision before; None if the content of either is known to nobody any more.
    """

    entry: Entry
    is_live: bool
    changes: tuple[Difference, ...] | None

    def to_json(self) -> dict[str, Any]:
        """Return the revision as JSON values, without the request."""
        entry = {key: value for key, value in asdict(self.entry).items() if key != "request"}
        changes = None if self.changes is None else [asdict(one) for one in self.changes]
        return {**entry, "is_live": self.is_live, "changes": changes}


def history(aws: Aws, ledger: Ledger, target: str, *, last: int = 20) -> tuple[Revision, ...]:
    """Return the last revisions of a target, the newest first; none if nothing was deployed to it.

    Raises:
        FleetError: it is no target, or AWS refuses a call.
    """
    arn = target_arn(aws, target)
    live = live_deployment(aws, arn)
    entries = ledger.read(arn)[-(min(last, MAX_SHOWN) + 1) :]
    found = each(ledger.content, entries)
    contents = [with_defaults(content) if content is not None else None for content in found]
    live_id = live["deploymentId"] if live is not None else ""
    revisions = list(_revisions(entries, contents, live_id))
    return tuple(reversed(revisions[-min(last, MAX_SHOWN) :]))


def _revisions(entries: Sequence[Entry], contents: Sequence[Content | None], live_id: str) -> Sequence[Revision]:
    found = []
    for number, (entry, content) in enumerate(zip(entries, contents, strict=True)):
        before = contents[number - 1] if number else None
        is_first = number == 0 and entry.replaces is None
        known = content is not None and (before is not None or is_first)
        changes = differences(before, content, {}) if known and content is not None else None
        found.append(Revision(entry=entry, is_live=entry.deployment_id == live_id, changes=changes))
    return found
