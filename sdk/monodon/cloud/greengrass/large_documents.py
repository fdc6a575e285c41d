"""Deployment documents that are too large for a job or a shadow: kept as objects, and given to devices that ask.

What devices ask with is GetDeploymentConfiguration of the data plane; its answer is a URL to get the document at, and
its digest.
"""

import base64
import json
from collections.abc import Callable
from typing import Protocol

from monodon.cloud.context import RequestContext
from monodon.cloud.greengrass.errors import invalid, not_found
from monodon.cloud.s3.records import OWN_BUCKET, ObjectInfo
from monodon.core.deployment import Deployment, write_document
from monodon.core.json import Json
from monodon.core.large_document import ALGORITHM, INLINE_BYTES, MAX_DOCUMENT_BYTES, shortened
from monodon.core.names import TargetKind

#: For how long the URL of a document holds.
_PRESIGNED_S = 900


class Objects(Protocol):
    """What is needed of S3 (``cloud.s3.records.Records``)."""

    def keep(self, key: str, data: bytes) -> None: ...
    def forget(self, key: str) -> None: ...
    def has(self, key: str) -> bool: ...
    def find(self, bucket: str, key: str) -> ObjectInfo: ...


class LargeDocuments:
    """The documents, by the id of their deployment.

    Args:
        presign: (endpoint, bucket, key, seconds) → URL.
        inline_bytes: what may be sent at most of a document that was shortened.
    """

    def __init__(self, objects: Objects, presign: Callable[[str, str, str, int], str], *, inline_bytes: int) -> None:
        self._objects = objects
        self._presign = presign
        self._inline_bytes = inline_bytes

    def sent(self, deployment: Deployment, kind: TargetKind) -> dict[str, Json]:
        """Return the document that devices are sent; where that is not all of it, the whole one is kept.

        Raises:
            ServiceError: ValidationException, not even so can it be delivered; 503, the disk is full.
        """
        document = write_document(deployment)
        data = json.dumps(document).encode()
        if len(data) <= INLINE_BYTES[kind]:
            return document
        short = write_document(shortened(deployment))
        for size, limit in ((len(data), MAX_DOCUMENT_BYTES), (len(json.dumps(short)), self._inline_bytes)):
            if size > limit:
                raise invalid("components", f"the document for devices has {size} bytes; at most {limit} are delivered")
        self._objects.keep(_key(deployment.deployment_id), data)
        return short

    def forget(self, deployment_id: str) -> None:
        """Remove the document of a deployment, if it has one here."""
        self._objects.forget(_key(deployment_id))

    def configuration(self, deployment_id: str, context: RequestContext) -> dict[str, Json]:
        """Answer GetDeploymentConfiguration.

        Raises:
            ServiceError: ResourceNotFoundException.
        """
        key = _key(deployment_id)
        if not self._objects.has(key):
            raise not_found("DEPLOYMENT", deployment_id)
        digest = bytes.fromhex(self._objects.find(OWN_BUCKET, key).sha256)
        return {
            "preSignedUrl": self._presign(context.endpoint, OWN_BUCKET, key, _PRESIGNED_S),
            "integrityCheck": {"algorithm": ALGORITHM, "digest": base64.b64encode(digest).decode()},
        }


def _key(deployment_id: str) -> str:
    return f"deployments/{deployment_id}.json"
