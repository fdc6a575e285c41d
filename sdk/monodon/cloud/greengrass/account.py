"""The service role, connectivity of core devices, client devices: kept and given back."""

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from monodon.cloud.context import RequestContext
from monodon.cloud.greengrass.errors import not_found
from monodon.cloud.greengrass.limits import Limits
from monodon.cloud.paging import page_of
from monodon.cloud.protocol import ServiceError
from monodon.cloud.store import Store
from monodon.core.json import Json

Request = dict[str, Any]


class Account:
    """Operations named as in the model."""

    def __init__(
        self, store: Store, *, now: Callable[[], float], thing_exists: Callable[[str], bool], limits: Limits
    ) -> None:
        self._table = store.table("greengrass.account")
        self._connectivity = store.table("greengrass.connectivity")
        #: ``<core device>/<client device>``.
        self._clients = store.table("greengrass.client_devices")
        self._now = now
        self._thing_exists = thing_exists
        self._limits = limits

    def associate_service_role_to_account(self, request: Request, context: RequestContext) -> dict[str, Json]:
        at = datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        self._table.put("service_role", {"role": request["roleArn"], "at": at})
        return {"associatedAt": at}

    def get_service_role_for_account(self, request: Request, context: RequestContext) -> dict[str, Json]:
        record = self._table.get("service_role")
        if record is None:
            raise ServiceError(
                "ResourceNotFoundException",
                "You need to attach an IAM role to this account",
                resourceId=context.account,
                resourceType="SERVICE_ROLE",
            )
        return {"associatedAt": record["at"], "roleArn": record["role"]}

    def disassociate_service_role_from_account(self, request: Request, context: RequestContext) -> dict[str, Json]:
        self._table.delete("service_role")
        at = datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        return {"disassociatedAt": at}

    def get_connectivity_info(self, request: Request, context: RequestContext) -> dict[str, Json]:
        record = self._connectivity.get(request["thingName"])
        return {"connectivityInfo": record["info"] if record is not None else []}

    def update_connectivity_info(self, request: Request, context: RequestContext) -> dict[str, Json]:
        info = request["connectivityInfo"]
        self._connectivity.put(request["thingName"], {"info": info})
        version = hashlib.sha256(json.dumps(info, sort_keys=True).encode()).hexdigest()[:32]
        return {"version": version, "message": "Connectivity info updated"}

    def batch_associate_client_device_with_core_device(
        self, request: Request, context: RequestContext
    ) -> dict[str, Json]:
        core = self._core(request)
        errors: list[dict[str, Json]] = []
        for entry in request.get("entries", []):
            thing = entry["thingName"]
            if not self._thing_exists(thing):
                message = f"thing {thing} does not exist"
                errors.append({"thingName": thing, "code": "ResourceNotFoundException", "message": message})
            elif self._clients.get(f"{core}/{thing}") is None:
                self._clients.put(f"{core}/{thing}", {"at": self._now()})
        return {"errorEntries": errors}

    def batch_disassociate_client_device_from_core_device(
        self, request: Request, context: RequestContext
    ) -> dict[str, Json]:
        core = self._core(request)
        for entry in request.get("entries", []):
            self._clients.delete(f"{core}/{entry['thingName']}")
        return {"errorEntries": []}

    def list_client_devices_associated_with_core_device(
        self, request: Request, context: RequestContext
    ) -> dict[str, Json]:
        prefix = f"{self._core(request)}/"
        entries = (
            (key, {"thingName": key.removeprefix(prefix), "associationTimestamp": record["at"]})
            for key, record in self._clients.items(prefix)
        )
        found, token = page_of(
            entries,
            request.get("nextToken"),
            request.get("maxResults", self._limits.page),
            error="ValidationException",
        )
        return {"associatedClientDevices": found, "nextToken": token}

    def _core(self, request: Request) -> str:
        """The core device of a request; any thing passes, so that devices can be associated before the first start.

        Raises:
            ServiceError: ResourceNotFoundException.
        """
        name: str = request["coreDeviceThingName"]
        if not self._thing_exists(name):
            raise not_found("CORE_DEVICE", name)
        return name
