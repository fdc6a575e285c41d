"""Deployment documents too large to be sent by job or shadow: what is sent instead, and what the device makes of it.

The inline document names components and versions, without their configuration, and asks for LARGE_CONFIGURATION; the
device then fetches the whole one and takes its components.

Source: Greengrass nucleus, ``deployment/DeploymentDocumentDownloader.java``; developer guide, release notes of 2.3.0.
"""

from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import quote

from monodon.core.deployment import LARGE_CONFIGURATION, Deployment, read_document
from monodon.core.json import read_json
from monodon.errors import DeploymentError

#: What a device takes. Source: ``DeploymentDocumentDownloader.java``, MAX_DEPLOYMENT_DOCUMENT_SIZE_BYTES.
MAX_DOCUMENT_BYTES = 10 * 1024 * 1024
#: Larger documents are not sent inline, by the kind of their target. Source: the same notes, 31 KB and 7 KB.
INLINE_BYTES: Mapping[str, int] = {"thinggroup": 31 * 1024, "thing": 7 * 1024}
#: How the digest of a document is made, and written down: base64, as those of artifacts.
ALGORITHM = "SHA-256"


def configuration_path(thing: str, deployment_id: str) -> str:
    """Where GetDeploymentConfiguration is, on the data plane.

    AWS's model of that operation is not public: its members are known from the device's source, its path is ours.
    """
    return (
        f"/greengrass/v2/coreDevices/{quote(thing, safe='')}/deployments/{quote(deployment_id, safe='')}/configuration"
    )


def shortened(deployment: Deployment) -> Deployment:
    """Return what is sent of a deployment whose document is too large: all but the components' configuration."""
    return replace(
        deployment,
        components={name: replace(root, update=None) for name, root in deployment.components.items()},
        required_capabilities=(LARGE_CONFIGURATION, *deployment.required_capabilities),
    )


def completed(deployment: Deployment, text: bytes) -> Deployment:
    """Return a deployment with the components of its whole document.

    Raises:
        DeploymentError: the text is no such document, or one of other components or versions.
    """
    try:
        document = read_json(text)
    except (ValueError, RecursionError) as error:
        raise DeploymentError(
            f"the whole document of deployment {deployment.deployment_id} is not JSON: {error}"[:300],
            codes=("DEPLOYMENT_DOCUMENT_PARSE_ERROR",),
            types=("CLOUD_SERVICE_ERROR",),
        ) from None
    whole = read_document(document).components
    sent = {name: root.requirement for name, root in deployment.components.items()}
    if {name: root.requirement for name, root in whole.items()} != sent:
        raise DeploymentError(
            f"the whole document of deployment {deployment.deployment_id} names other components than the one sent",
            codes=("DEPLOYMENT_DOCUMENT_NOT_VALID",),
            types=("CLOUD_SERVICE_ERROR",),
        )
    return replace(deployment, components=whole)
