"""Things for a simulated fleet, put into a cloud of this process at once: thousands of API calls would take minutes."""

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from monodon.cloud.cloud import Parts, Ready
from monodon.cloud.context import RequestContext
from monodon.fleet.provisioning import POLICY, device_policy

PER_CERTIFICATE = 50


@dataclass(frozen=True, kw_only=True)
class World:
    """What a simulated fleet needs to know; ``certificates`` are (certificate file, key file) of things in turn."""

    things: tuple[str, ...]
    group_arn: str
    certificates: tuple[tuple[str, str], ...]

    def certificate_of(self, index: int) -> tuple[str, str]:
        """The files of the thing at an index."""
        return self.certificates[index // PER_CERTIFICATE]


def enlist(parts: Parts, ready: Ready, folder: Path, count: int, group: str = "sims", first: int = 0) -> World:
    """Make ``count`` things in a group, with certificates that fifty share; call it on the cloud's loop."""
    context = RequestContext(region=ready.region, account=ready.account)

    def call(operation: str, **request: Any) -> dict[str, Any]:
        backend = next(each for each in parts.backends["iot"] if hasattr(each, operation))
        return getattr(backend, operation)(request, context) or {}

    place = cast("Any", SimpleNamespace(region=ready.region, account=ready.account))
    folder.mkdir(parents=True, exist_ok=True)
    things = tuple(f"sim-{number:05d}" for number in range(first, first + count))
    certificates = []
    with parts._registry.store.transaction():
        if parts.access.policies.get(POLICY) is None:
            call("create_policy", policyName=POLICY, policyDocument=json.dumps(device_policy(place)))
        group_arn = call("create_thing_group", thingGroupName=group)["thingGroupArn"]
        for start in range(0, count, PER_CERTIFICATE):
            made = call("create_keys_and_certificate", setAsActive=True)
            call("attach_policy", policyName=POLICY, target=made["certificateArn"])
            files = folder / f"{first + start}.pem", folder / f"{first + start}.key"
            files[0].write_text(made["certificatePem"])
            files[1].write_text(made["keyPair"]["PrivateKey"])
            certificates.append((str(files[0]), str(files[1])))
            for thing in things[start : start + PER_CERTIFICATE]:
                call("create_thing", thingName=thing)
                call("add_thing_to_thing_group", thingName=thing, thingGroupName=group)
                call("attach_thing_principal", thingName=thing, principal=made["certificateArn"])
    return World(things=things, group_arn=group_arn, certificates=tuple(certificates))
