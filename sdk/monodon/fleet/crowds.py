"""Things by the thousand for simulated devices: one group, and certificates that many things share.

A real device has a certificate of its own (``provisioning``). AWS cannot tell the difference: a connection is the
thing that its client id names, if the certificate is attached to it.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from monodon.core.names import ThingName
from monodon.fleet.aws import Aws, told
from monodon.fleet.credentials import CERTIFICATE, KEY, ensure_certificate
from monodon.fleet.provisioning import POLICY, device_policy
from monodon.fleet.steps import ensure

PER_CERTIFICATE = 50
#: Calls under way at once; boto3 keeps ten connections.
_AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Enlisted:
    """Some things are there, with the files of the certificate that they share; ``made`` of them are new."""

    things: tuple[str, ...]
    certificate: Path
    key: Path
    made: int


def provision_crowd(
    aws: Aws, *, things: Sequence[str], group: str, folder: Path, per_certificate: int = PER_CERTIFICATE
) -> Iterator[Enlisted]:
    """Make things in a group that share certificates, kept in ``folder``; what is there is left as it is.

    The same things in the same order find their certificates again.

    Raises:
        FleetError: AWS refuses a call; or a certificate in ``folder`` is not this account's.
        InvalidName: AWS would refuse a thing's name.
    """
    things = [ThingName.parse(thing) for thing in things]
    with told():
        _ensure_policy(aws)
        ensure(
            f"thing group {group}",
            partial(aws.iot.describe_thing_group, thingGroupName=group),
            partial(aws.iot.create_thing_group, thingGroupName=group),
        )
        members = set(_names(aws, "list_things_in_thing_group", thingGroupName=group))
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="crowd") as pool:
            for start in range(0, len(things), per_certificate):
                some = things[start : start + per_certificate]
                made = _enlist(aws, some, group, members, pool)
                files = folder / f"{start // per_certificate:04d}"
                arn = _certificate(aws, some[0], files)
                held = set(_names(aws, "list_principal_things", principal=arn))
                attach = partial(aws.iot.attach_thing_principal, principal=arn)
                _all(pool, [partial(attach, thingName=thing) for thing in some if thing not in held])
                yield Enlisted(things=tuple(some), certificate=files / CERTIFICATE, key=files / KEY, made=made)


def _ensure_policy(aws: Aws) -> None:
    ensure(
        f"policy {POLICY}",
        partial(aws.iot.get_policy, policyName=POLICY),
        lambda: aws.iot.create_policy(policyName=POLICY, policyDocument=json.dumps(device_policy(aws))),
    )


def _enlist(aws: Aws, things: Sequence[str], group: str, members: set[str], pool: ThreadPoolExecutor) -> int:
    missing = [thing for thing in things if thing not in members]

    def enlist(thing: str) -> None:
        aws.iot.create_thing(thingName=thing)
        aws.iot.add_thing_to_thing_group(thingGroupName=group, thingName=thing)

    _all(pool, [partial(enlist, thing) for thing in missing])
    return len(missing)


def _certificate(aws: Aws, thing: str, folder: Path) -> str:
    steps = ensure_certificate(aws, thing, folder, POLICY)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return str(end.value)


def _all(pool: ThreadPoolExecutor, calls: Sequence[Callable[[], object]]) -> None:
    """Make calls side by side; the first that is refused ends it."""
    futures = [pool.submit(call) for call in calls]
    try:
        for future in futures:
            future.result()
    finally:
        for future in futures:
            future.cancel()


def _names(aws: Aws, operation: str, **request: str) -> Iterator[str]:
    for page in aws.iot.get_paginator(operation).paginate(**request):
        yield from page["things"]
