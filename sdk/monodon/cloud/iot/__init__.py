"""AWS IoT's registry and security: things, groups, certificates, policies, role aliases, endpoints."""

from monodon.cloud.iot.jobs import JobOperations
from monodon.cloud.iot.registry import Registry
from monodon.cloud.iot.security import Security
from monodon.cloud.iot.things import Things

__all__ = ["JobOperations", "Registry", "Security", "Things"]
