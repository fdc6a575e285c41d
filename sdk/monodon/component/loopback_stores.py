"""What a nucleus in memory keeps for its components: shadows and secrets, with the errors of the real one."""

import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import replace

from monodon.component.link import Secret
from monodon.core.json import Json
from monodon.core.shadow import Shadow, ShadowError, Update, document, read_request, update
from monodon.errors import IpcError

CURRENT, PREVIOUS = "AWSCURRENT", "AWSPREVIOUS"
_CODES = {404: "ResourceNotFoundError", 409: "ConflictError"}


class LoopbackShadows:
    """Every shadow, by thing and name."""

    def __init__(self) -> None:
        self._shadows: dict[tuple[str, str], Shadow] = {}

    def get(self, thing: str, name: str) -> Mapping[str, Json] | None:
        """Return a shadow's document; None if there is none."""
        found = self._shadows.get((thing, name))
        return None if found is None else document(found, int(time.time()))

    def update(self, thing: str, name: str, request: Mapping[str, Json]) -> Update:
        """Merge a request.

        Raises:
            IpcError: it is refused.
        """
        try:
            asked = read_request(json.dumps(request))
            updated = update(self._shadows.get((thing, name)), asked, int(time.time()))
        except ShadowError as error:
            code = _CODES.get(error.code, "InvalidArgumentsError")
            raise IpcError(f"update_thing_shadow: {code}: {error.message}", code=code) from error
        self._shadows[thing, name] = updated.shadow
        return updated

    def delete(self, thing: str, name: str) -> None:
        """Forget a shadow.

        Raises:
            IpcError: there is none.
        """
        if self._shadows.pop((thing, name), None) is None:
            raise IpcError("delete_thing_shadow: ResourceNotFoundError: No shadow found", code="ResourceNotFoundError")


class LoopbackSecrets:
    """Every version of every secret, the latest with the stage ``AWSCURRENT``."""

    def __init__(self) -> None:
        self._versions: dict[str, list[Secret]] = {}

    def put(self, name: str, value: str | bytes, stages: tuple[str, ...]) -> Secret:
        """Add a version, which takes its stages from the others; what was current becomes the previous one."""
        arn = name if name.startswith("arn:") else f"arn:aws:secretsmanager:local:000000000000:secret:{name}-aBcDeF"
        former = []
        for each in self._versions.get(arn, []):
            kept = tuple(stage for stage in each.stages if stage not in (*stages, PREVIOUS))
            if CURRENT in stages and CURRENT in each.stages:
                kept += (PREVIOUS,)
            former.append(replace(each, stages=kept))
        secret = Secret(arn=arn, version_id=str(uuid.uuid4()), stages=stages, value=value)
        self._versions[arn] = [*former, secret]
        return secret

    def get(self, name: str, version_id: str | None, stage: str | None) -> Secret:
        """Return a version by name or ARN.

        Raises:
            IpcError: there is none, or both a version and a stage are asked for.
        """
        if version_id and stage:
            raise IpcError("get_secret_value: ServiceError: version and stage exclude each other", code="ServiceError")
        for arn, versions in self._versions.items():
            if name in (arn, arn.rpartition(":")[2].rpartition("-")[0]):
                for secret in versions:
                    if secret.version_id == version_id or (not version_id and (stage or CURRENT) in secret.stages):
                        return secret
        code = "ResourceNotFoundError"
        raise IpcError(f"get_secret_value: {code}: no such secret or version: {name}", code=code)
