"""Tags of components, deployments and core devices."""

from collections.abc import Callable, Mapping
from typing import Any

from monodon.cloud.context import RequestContext
from monodon.cloud.greengrass.errors import invalid, not_found
from monodon.cloud.greengrass.limits import Limits
from monodon.cloud.store import Store
from monodon.core.json import Json

Request = dict[str, Any]


class Tags:
    """Operations on tags, named as in the model.

    Args:
        exists: whether there is a resource of that ARN.
    """

    def __init__(self, store: Store, *, exists: Callable[[str], bool], limits: Limits) -> None:
        self._table = store.table("greengrass.tags")
        self._exists = exists
        self._limits = limits

    def of(self, arn: str) -> dict[str, Json] | None:
        """Return the tags of a resource; None if it has none."""
        return self._table.get(arn) or None

    def put(self, arn: str, tags: Mapping[str, Json] | None) -> None:
        """Add tags to a resource.

        Raises:
            ServiceError: ValidationException, too many.
        """
        if not tags:
            return
        merged = {**(self._table.get(arn) or {}), **tags}
        if len(merged) > self._limits.tags:
            raise invalid("tags", f"a resource has at most {self._limits.tags} tags")
        self._table.put(arn, merged)

    def forget(self, arn: str) -> None:
        """Drop the tags of a resource that is gone."""
        self._table.delete(arn)

    def tag_resource(self, request: Request, context: RequestContext) -> None:
        self._check(request["resourceArn"])
        self.put(request["resourceArn"], request["tags"])

    def untag_resource(self, request: Request, context: RequestContext) -> None:
        arn = request["resourceArn"]
        self._check(arn)
        tags = self._table.get(arn) or {}
        self._table.put(arn, {key: value for key, value in tags.items() if key not in request["tagKeys"]})

    def list_tags_for_resource(self, request: Request, context: RequestContext) -> dict[str, Json]:
        self._check(request["resourceArn"])
        return {"tags": self.of(request["resourceArn"]) or {}}

    def _check(self, arn: str) -> None:
        if not self._exists(arn):
            raise not_found("RESOURCE", arn)
