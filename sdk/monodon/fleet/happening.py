"""What a rollout by rings tells while it runs, and how it ended. Values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monodon.fleet.following import Progress
from monodon.fleet.planned import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened. ``kind`` is for machines, ``text`` for people.

    Kinds: ``plan``, ``ring``, ``created``, ``progress``, ``baking``, ``verdict``, ``promoted``, ``failed``,
    ``rollback``, ``evidence``.
    """

    kind: str
    text: str = ""
    ring: str = ""
    plan: Plan | None = None
    progress: Progress | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rolled:
    """How a rollout ended.

    Args:
        reason: why it was stopped; "" if all rings are good.
        is_back: every ring that had it was rolled back, and no device failed at that.
        waiting: devices that have not taken up what they should run by now.
    """

    reason: str = ""
    is_back: bool = False
    evidence: tuple[Path, ...] = ()
    waiting: tuple[str, ...] = ()
