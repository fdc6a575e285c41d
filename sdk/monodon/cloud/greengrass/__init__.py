"""AWS IoT Greengrass V2's cloud side: components, deployments, core devices."""

from monodon.cloud.greengrass.account import Account
from monodon.cloud.greengrass.candidates import Candidates
from monodon.cloud.greengrass.components import Components
from monodon.cloud.greengrass.core_devices import CoreDevices
from monodon.cloud.greengrass.deployments import Deployments
from monodon.cloud.greengrass.large_documents import LargeDocuments
from monodon.cloud.greengrass.limits import Limits
from monodon.cloud.greengrass.tags import Tags
from monodon.cloud.greengrass.tokens import ClientTokens

__all__ = [
    "Account",
    "Candidates",
    "ClientTokens",
    "Components",
    "CoreDevices",
    "Deployments",
    "LargeDocuments",
    "Limits",
    "Tags",
]
