"""The record of what was deployed, by whom, and whether it was good: in a local file, and in tags of the target.

::

    .monodon/ledger/<account>-<region>/thinggroup/<name>.jsonl     the whole request, and the outcome, a line each
    tag monodon:revision-<n> of the thing group                    id, outcome, what it replaced, when, run, who

Either alone is enough: what the tags name is read with GetDeployment. A thing cannot have tags on AWS; its core device
can. AWS's own list of deployments completes both, without outcomes.
"""

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from monodon.core.names import component_arn
from monodon.errors import FleetError
from monodon.fleet.aws import Aws, is_missing, told
from monodon.fleet.content import Content, content_of
from monodon.fleet.entries import (
    KEPT_TAGS,
    PREFIX,
    Entry,
    Outcome,
    both,
    completed,
    judged,
    linked,
    of_tag,
    read,
    stale,
    tag_value,
)
from monodon.fleet.following import Created
from monodon.fleet.live import deployment, paged
from monodon.fleet.patience import Patience

FOLDER = Path(".monodon/ledger")
#: Longer lines are none of ours: a merge has 10 MiB at most, and JSON may double it.
MAX_LINE = 64 * 1024 * 1024


class Ledger:
    """The ledger of an account and region.

    Args:
        say: told of what could not be written; a deployment does not fail for it.
        now: seconds since 1970.
    """

    def __init__(
        self,
        aws: Aws,
        *,
        folder: Path = FOLDER,
        patience: Patience | None = None,
        say: Callable[[str], None] = lambda text: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._aws = aws
        self._folder = folder
        self._patience = patience or Patience(say=say)
        self._say = say
        self._now = now

    def file(self, target_arn: str) -> Path:
        """Return the local file of a target."""
        kind, _, name = _resource(target_arn).partition("/")
        return self._folder / f"{self._aws.account}-{self._aws.region}" / kind / f"{name}.jsonl"

    def record(
        self, created: Created, request: Mapping[str, Any], *, replaces: str | None, run: str = "", note: str = ""
    ) -> None:
        """Write down a deployment that was made; one that is known already stays as it is."""
        known = {one.deployment_id for one in self._local(created.target_arn)}
        if created.deployment_id in known and created.deployment_id in self._tags(created.target_arn):
            return
        entry = Entry(
            deployment_id=created.deployment_id,
            target_arn=created.target_arn,
            revision=created.revision,
            request=request,
            replaces=replaces if replaces != created.deployment_id else None,
            operator=self._aws.operator,
            made_s=self._now(),
            run=run,
            note=note,
        )
        if created.deployment_id not in known:
            self._append(created.target_arn, {"kind": "deployed", **asdict(entry)})
        self._tag(entry)

    def judge(self, target_arn: str, deployment_id: str, outcome: Outcome, *, note: str = "") -> None:
        """Write down how a deployment turned out; the latest word counts."""
        entry = next((one for one in self.read(target_arn) if one.deployment_id == deployment_id), None)
        if entry is not None and entry.outcome is outcome:
            return
        now_s = self._now()
        line = {"kind": "outcome", "deployment_id": deployment_id, "outcome": str(outcome), "outcome_s": now_s}
        self._append(target_arn, {**line, "note": note})
        if entry is not None:
            self._tag(replace(entry, outcome=outcome, outcome_s=now_s, note=note))

    def read(self, target_arn: str) -> tuple[Entry, ...]:
        """Return all revisions of a target that anybody knows of, the oldest first.

        Raises:
            FleetError: AWS refuses to list deployments.
        """
        entries = {one.deployment_id: one for one in self._local(target_arn)}
        for deployment_id, tagged in self._tags(target_arn).items():
            entries[deployment_id] = both(entries.get(deployment_id), tagged)
        for listed in self._patience.call(lambda: self._listed(target_arn)):
            known = entries.get(listed.deployment_id)
            entries[listed.deployment_id] = listed if known is None else completed(known, listed)
        ordered = sorted(entries.values(), key=lambda one: (one.number, one.made_s))
        return tuple(linked(ordered))

    def content(self, entry: Entry) -> Content | None:
        """Return what a revision says, from the file or from AWS; None if neither has it any more.

        Raises:
            FleetError: AWS refuses the call.
        """
        if entry.request is not None:
            return content_of(entry.request)
        try:
            return content_of(self._patience.call(lambda: deployment(self._aws, entry.deployment_id)))
        except FleetError as error:
            if isinstance(error.__cause__, ClientError) and is_missing(error.__cause__):
                return None
            raise

    # The local file

    def _local(self, target_arn: str) -> list[Entry]:
        """What the file says; lines that were torn, or that nobody of ours wrote, are passed over."""
        entries: dict[str, Entry] = {}
        for line in _lines(self.file(target_arn)):
            deployment_id = line.get("deployment_id")
            if not isinstance(deployment_id, str):
                continue
            if line.get("kind") == "deployed" and line.get("target_arn") == target_arn:
                entries.setdefault(deployment_id, Entry(deployment_id=deployment_id, target_arn=target_arn))
                entries[deployment_id] = read(line, entries[deployment_id])
            elif line.get("kind") == "outcome":
                known = entries.get(deployment_id) or Entry(deployment_id=deployment_id, target_arn=target_arn)
                entries[deployment_id] = judged(known, line)
        return list(entries.values())

    def _append(self, target_arn: str, line: Mapping[str, Any]) -> None:
        """Add a line, and have it on the disk; another process may do so at the same time."""
        path = self.file(target_arn)
        try:
            if not path.parent.is_dir():
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                _sync(path.parent)
                _sync(path.parent.parent)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "r+b", buffering=0) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                size = os.fstat(descriptor).st_size
                torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
                content = (b"\n" if torn else b"") + json.dumps(line, separators=(",", ":")).encode() + b"\n"
                while content:
                    content = content[file.write(content) :]
                os.fsync(descriptor)
            _sync(path.parent)
        except OSError as error:
            self._say(f"the ledger's file {path} cannot be written: {error.strerror}")

    # Tags

    def _tags(self, target_arn: str) -> dict[str, Entry]:
        found = (of_tag(target_arn, key, value) for key, value in self._tag_values(target_arn).items())
        return {entry.deployment_id: entry for entry in found if entry is not None}

    def _tag_values(self, target_arn: str) -> dict[str, str]:
        try:
            tags = self._patience.call(lambda: self._read_tags(target_arn))
        except FleetError as error:
            if not _is_absent(error):
                self._say(f"the ledger's tags cannot be read: {error.message}")
            return {}
        return {key: value for key, value in tags.items() if key.startswith(PREFIX)}

    def _read_tags(self, target_arn: str) -> dict[str, str]:
        if (device := self._device_arn(target_arn)) is not None:
            return dict(self._aws.greengrass.list_tags_for_resource(resourceArn=device).get("tags") or {})
        pages = self._aws.iot.get_paginator("list_tags_for_resource").paginate(resourceArn=target_arn)
        return {one["Key"]: one.get("Value", "") for page in pages for one in page["tags"]}

    def _tag(self, entry: Entry) -> None:
        if not entry.number:
            return
        value = tag_value(entry)
        try:
            self._patience.call(lambda: self._write_tag(entry.target_arn, entry.number, value))
        except FleetError as error:
            self._say(f"the ledger's tag cannot be written: {error.message}")

    def _write_tag(self, target_arn: str, number: int, value: str) -> None:
        """Write a tag, and take those away that it leaves no room for; the first few revisions have room."""
        key = f"{PREFIX}{number}"
        device = self._device_arn(target_arn)
        surplus = stale({**self._tag_values(target_arn), key: value}) if number > KEPT_TAGS else []
        if device is not None:
            self._aws.greengrass.tag_resource(resourceArn=device, tags={key: value})
            if surplus:
                self._aws.greengrass.untag_resource(resourceArn=device, tagKeys=surplus)
            return
        self._aws.iot.tag_resource(resourceArn=target_arn, tags=[{"Key": key, "Value": value}])
        if surplus:
            self._aws.iot.untag_resource(resourceArn=target_arn, tagKeys=surplus)

    def _device_arn(self, target_arn: str) -> str | None:
        """AWS tags core devices, and no things."""
        kind, _, name = _resource(target_arn).partition("/")
        if kind != "thing":
            return None
        return str(component_arn(self._aws.region, self._aws.account, name)).replace(":components:", ":coreDevices:")

    def _listed(self, target_arn: str) -> list[Entry]:
        with told():
            found = list(
                paged(
                    self._aws.greengrass,
                    "list_deployments",
                    "deployments",
                    targetArn=target_arn,
                    historyFilter="ALL",
                )
            )
        return [
            Entry(
                deployment_id=one["deploymentId"],
                target_arn=target_arn,
                revision=str(one.get("revisionId") or ""),
                made_s=one["creationTimestamp"].timestamp() if "creationTimestamp" in one else 0.0,
            )
            for one in found
            if one.get("targetArn", target_arn) == target_arn
        ]


def _resource(arn: str) -> str:
    return arn.split(":", 5)[5]


def _lines(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        with path.open("rb") as file:
            while content := file.readline(MAX_LINE):
                try:
                    line = json.loads(content)
                except (ValueError, RecursionError):
                    continue
                if isinstance(line, dict):
                    yield line
    except OSError:
        return


def _is_absent(error: FleetError) -> bool:
    return isinstance(error.__cause__, ClientError) and is_missing(error.__cause__)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
