"""AWS IoT's registry and security: things, groups, certificates, policies, role aliases, endpoints, jobs."""

from monodon.cloud.iot.access import Access
from monodon.cloud.iot.certificates import Certificates
from monodon.cloud.iot.dynamic_groups import DynamicGroups
from monodon.cloud.iot.groups import Groups
from monodon.cloud.iot.indexing import Indexing
from monodon.cloud.iot.jobs import JobOperations
from monodon.cloud.iot.policies import Policies
from monodon.cloud.iot.registry import Registry
from monodon.cloud.iot.role_aliases import RoleAliases
from monodon.cloud.iot.things import Things

__all__ = [
    "Access",
    "Certificates",
    "DynamicGroups",
    "Groups",
    "Indexing",
    "JobOperations",
    "Policies",
    "Registry",
    "RoleAliases",
    "Things",
]
