"""What client devices of a core device may do: device groups, their selection rules and policies, and other settings.

A group is selected by a rule over thing names, ``thingName: lamp* OR thingName: door``; AND binds tighter than OR, a
``*`` stands at the start, the end, both or alone, a colon in a name is written ``\\:``. Parentheses are none of it. A
device has the permissions of every group that selects it; there is no denying.

Source: aws.greengrass.clientdevices.Auth, ``configuration/GroupConfiguration.java``, ``RuleExpression.jjt``,
``PermissionEvaluationUtils.java``, ``certificate/CertificatesConfig.java``; developer guide, "Client device auth".
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from urllib.parse import quote

from monodon.core.json import Json

FORMAT: Final = "2021-03-05"
#: Whom a policy's resource may name: the thing of the device that asks.
THING_VARIABLE: Final = "${iot:Connection.Thing.ThingName}"

_DAY_S: Final = 24 * 3600
DEFAULT_TOKENS: Final = 2500
DEFAULT_QUEUE: Final = 100
DEFAULT_VALIDITY_S: Final = 7 * _DAY_S
_VALIDITY_S: Final = (60, 10 * _DAY_S)

_TOKEN: Final = re.compile(r"\s*(?:(?P<selector>thingName:)|(?P<word>[^\s()]+)|(?P<other>\S))")
_NAME: Final = re.compile(r"\*?(?:[a-zA-Z0-9_-]|\\:)+\*?|\*")
_VARIABLE: Final = re.compile(r"\$\{.*?\}")
_OPERATION: Final = re.compile(r"(?P<service>[^\W\d_]+):[\w-]+")
_RESOURCE: Final = re.compile(r"(?P<service>[^\W\d_]+):[^\W\d_]+:[\w -~]+")
_MAX_RULE: Final = 10_000


class RuleError(ValueError):
    """A selection rule is not what AWS's component reads."""


@dataclass(frozen=True, slots=True)
class SelectionRule:
    """Thing names: any of the alternatives whose patterns all match."""

    alternatives: tuple[tuple[str, ...], ...]

    @classmethod
    def parse(cls, text: str) -> "SelectionRule":
        """Return the rule that ``text`` says.

        Raises:
            RuleError: it says none.
        """
        if len(text) > _MAX_RULE:
            raise RuleError(f"it has more than {_MAX_RULE} characters")
        tokens = [(str(match.lastgroup), match[0].strip()) for match in _TOKEN.finditer(text)]
        alternatives: list[list[str]] = [[]]
        while True:
            if not tokens or tokens.pop(0)[0] != "selector":
                raise RuleError("each clause is thingName: and a name; there are no parentheses")
            kind, name = tokens.pop(0) if tokens else ("", "")
            if kind != "word" or not _NAME.fullmatch(name) or name in ("AND", "OR"):
                raise RuleError(f"{name!r} is no thing name: a * goes first or last, a colon is written \\:")
            alternatives[-1].append(name.replace("\\:", ":"))
            if not tokens:
                return cls(tuple(tuple(names) for names in alternatives))
            word = tokens.pop(0)[1]
            if word not in ("AND", "OR"):
                raise RuleError(f"{word!r} stands where AND or OR must")
            if word == "OR":
                alternatives.append([])

    def matches(self, thing: str) -> bool:
        """Whether the rule selects a thing."""
        return any(all(_name_matches(name, thing) for name in names) for names in self.alternatives)


def _name_matches(pattern: str, thing: str) -> bool:
    if len(pattern) > 1 and pattern[0] == pattern[-1] == "*":
        return pattern[1:-1] in thing
    if pattern.startswith("*"):
        return thing.endswith(pattern[1:])
    return thing.startswith(pattern[:-1]) if pattern.endswith("*") else thing == pattern


class ServiceMismatchError(ValueError):
    """An operation of one service was asked for on a resource of another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """Some operations on some resources."""

    operations: frozenset[str]
    resources: tuple[str, ...]

    def allows(self, thing: str, service: str, operation: str, resource: str) -> bool:
        """Whether it covers the operation on the resource, for a thing."""
        if not self.operations & {operation, f"{service}:*", "*"}:
            return False
        return any(_covers(each.replace(THING_VARIABLE, thing), resource) for each in self.resources)


def _covers(pattern: str, resource: str) -> bool:
    """Whether a text with ``*`` for any text, even none, is a resource; without backtracking."""
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == resource
    *middle, last = rest
    end = len(resource) - len(last)
    if not resource.startswith(first) or not resource.endswith(last) or end < len(first):
        return False
    at = len(first)
    for part in middle:
        found = resource.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceGroups:
    """The device groups of a core device; ``problems`` say why there are none, where there should be."""

    groups: Mapping[str, tuple[SelectionRule, tuple[Permission, ...]]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @classmethod
    def read(cls, value: Json) -> "DeviceGroups":
        """Return what ``deviceGroups`` says. As with AWS, one mistake leaves no group at all."""
        problems: list[str] = []
        root = _mapping(value, "deviceGroups", problems)
        if root.get("formatVersion", FORMAT) != FORMAT:
            problems.append(f"deviceGroups/formatVersion {root['formatVersion']!r} is not {FORMAT}")
        policies = {
            str(name): _permissions(policy, f"deviceGroups/policies/{name}", problems)
            for name, policy in _mapping(root.get("policies"), "deviceGroups/policies", problems).items()
        }
        groups = {}
        for name, definition in _mapping(root.get("definitions"), "deviceGroups/definitions", problems).items():
            where = f"deviceGroups/definitions/{name}"
            fields = _mapping(definition, where, problems)
            policy, rule = fields.get("policyName"), fields.get("selectionRule")
            if not isinstance(policy, str) or policy not in policies:
                problems.append(f"{where}/policyName {policy!r} is none of deviceGroups/policies")
                continue
            try:
                groups[str(name)] = (SelectionRule.parse(rule if isinstance(rule, str) else ""), policies[policy])
            except RuleError as error:
                problems.append(f"{where}/selectionRule {rule!r}: {error}")
        return cls(groups={} if problems else groups, problems=tuple(problems))

    def allow(self, thing: str, operation: str, resource: str) -> bool:
        """Whether a thing may do an operation (``mqtt:publish``) on a resource (``mqtt:topic:a/b``).

        What does not have these forms is not allowed.

        Raises:
            ServiceMismatchError: operation and resource are of two services.
        """
        asked, on = _OPERATION.fullmatch(operation), _RESOURCE.fullmatch(resource)
        if asked is None or on is None:
            return False
        service = asked["service"]
        if service != on["service"]:
            raise ServiceMismatchError(f"{operation} is no operation on {resource}")
        return any(
            permission.allows(thing, service, operation, resource)
            for rule, permissions in self.groups.values()
            if rule.matches(thing)
            for permission in permissions
        )


def _permissions(policy: Json, where: str, problems: list[str]) -> tuple[Permission, ...]:
    found = []
    for name, statement in _mapping(policy, where, problems).items():
        fields = _mapping(statement, f"{where}/{name}", problems)
        operations = _texts(fields.get("operations"), f"{where}/{name}/operations", problems)
        resources = _texts(fields.get("resources"), f"{where}/{name}/resources", problems)
        for resource in resources:
            unknown = [each for each in _VARIABLE.findall(resource) if each != THING_VARIABLE]
            problems += [f"{where}/{name}: {each} is not {THING_VARIABLE}" for each in unknown]
        if str(fields.get("effect", "ALLOW")).upper() == "ALLOW":
            found.append(Permission(operations=frozenset(operations), resources=resources))
    return tuple(found)


def _mapping(value: Json, where: str, problems: list[str]) -> Mapping[str, Json]:
    if value is None or isinstance(value, Mapping):
        return value or {}
    problems.append(f"{where} must be a map")
    return {}


def _texts(value: Json, where: str, problems: list[str]) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value
    if isinstance(texts, list) and all(isinstance(text, str) for text in texts):
        return tuple(text for text in texts if text)
    problems.append(f"{where} must be a list of texts")
    return ()


class KeyType(StrEnum):
    """What keys the core device's own authority has."""

    RSA = "RSA_2048"
    EC = "ECDSA_P256"


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """Which authority signs server certificates: one of the device's own, or one that somebody brings."""

    key_type: KeyType = KeyType.RSA
    certificate_uri: str | None = None
    private_key_uri: str | None = None

    @property
    def is_own(self) -> bool:
        """Whether the device makes it."""
        return self.certificate_uri is None or self.private_key_uri is None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthSettings:
    """What the configuration of aws.greengrass.clientdevices.Auth says; ``problems`` what was not understood.

    ``trust_s``: for how long a device that the cloud knew still counts as known. ``queue_size`` and ``concurrent``:
    requests to the cloud that wait, and that are under way, at a time.
    """

    groups: DeviceGroups = field(default_factory=DeviceGroups)
    max_tokens: int = DEFAULT_TOKENS
    queue_size: int = DEFAULT_QUEUE
    concurrent: int = 1
    trust_s: float = 60.0
    validity_s: int = DEFAULT_VALIDITY_S
    is_rotated: bool = True
    authority: Authority = field(default_factory=Authority)
    problems: tuple[str, ...] = ()

    @classmethod
    def read(cls, configuration: Json) -> "AuthSettings":
        """Return the settings; a number out of its range is moved into it."""
        root = configuration if isinstance(configuration, Mapping) else {}
        groups = DeviceGroups.read(root.get("deviceGroups"))
        problems = list(groups.problems)
        performance = _mapping(root.get("performance"), "performance", problems)
        certificates = _mapping(root.get("certificates"), "certificates", problems)
        security = _mapping(root.get("security"), "security", problems)

        def whole(fields: Mapping[str, Json], name: str, default: int, least: int, most: int) -> int:
            value = fields.get(name, default)
            try:
                number = int(value) if isinstance(value, int | float | str) else None
            except (ValueError, OverflowError):
                number = None
            if number is None:
                problems.append(f"{name} {value!r} is not a whole number: {default} holds")
                return default
            if not least <= number <= most:
                problems.append(f"{name} {number} is not within {least} and {most}")
            return min(most, max(least, number))

        return cls(
            groups=groups,
            max_tokens=whole(performance, "maxActiveAuthTokens", DEFAULT_TOKENS, 1, 1_000_000),
            queue_size=whole(performance, "cloudRequestQueueSize", DEFAULT_QUEUE, 1, 100_000),
            concurrent=whole(performance, "maxConcurrentCloudRequests", 1, 1, 100),
            trust_s=60.0 * whole(security, "clientDeviceTrustDurationMinutes", 1, 1, 2**31 - 1),
            validity_s=whole(certificates, "serverCertificateValiditySeconds", DEFAULT_VALIDITY_S, *_VALIDITY_S),
            is_rotated=certificates.get("disableCertificateRotation") not in (True, "true"),
            authority=_authority(root, problems),
            problems=tuple(problems),
        )


def _authority(root: Mapping[str, Json], problems: list[str]) -> Authority:
    """``certificateAuthority``; ``ca_type`` beside it is the older way to say its ``caType``."""
    fields = _mapping(root.get("certificateAuthority"), "certificateAuthority", problems)
    types = fields.get("caType") or root.get("ca_type") or [KeyType.RSA]
    first = types[0] if isinstance(types, list) else types
    try:
        key_type = KeyType(first)
    except ValueError:
        problems.append(f"certificateAuthority/caType {first!r} is none of {', '.join(KeyType)}")
        key_type = KeyType.RSA
    uris = [fields.get(name) or None for name in ("certificateUri", "privateKeyUri")]
    elsewhere = [uri for uri in uris if uri is not None and not str(uri).startswith("file:")]
    problems += [f"certificateAuthority: {uri} is no file: URI, and no other can be read here" for uri in elsewhere]
    certificate, key = (str(uri) if uri is not None else None for uri in uris)
    return Authority(key_type=key_type, certificate_uri=certificate, private_key_uri=key)


#: Where the data plane is asked about client devices. AWS does not publish the first two: they are named here as
#: ``resolveComponentCandidates``, which stands beside them.
IDENTITY_PATH: Final = "/greengrass/v2/verifyClientDeviceIdentity"
ASSOCIATION_PATH: Final = "/greengrass/v2/verifyClientDeviceIoTCertificateAssociation"


def connectivity_path(thing: str) -> str:
    """Where the addresses of a core device are told."""
    return f"/greengrass/things/{quote(thing, safe='')}/connectivityInfo"


def associated_path(thing: str) -> str:
    """Where the client devices of a core device are listed."""
    return f"/greengrass/v2/coreDevices/{quote(thing, safe='')}/associatedClientDevices"
