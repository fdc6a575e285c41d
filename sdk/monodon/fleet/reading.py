"""Fleet files: YAML of our own, or AWS's create-deployment JSON as it is.

::

    target: thinggroup/drones           # or thing/drone-1, or a whole ARN
    name: drones watch for whales
    components:
      monodon.CameraClassifier:
        version: ^1.0.0                 # exact, or a range; left out: the live version
        merge: {labels: [narwhal]}      # configuration as plain YAML, laid over the live one
        reset: [/threshold]             # JSON pointers
        runWith: {posixUser: ggc_user}
    onFailure: ROLLBACK                 # or DO_NOTHING
    updatePolicy: {action: NOTIFY_COMPONENTS, timeoutInSeconds: 60}
    validationTimeoutInSeconds: 30
    rollout: {maximumPerMinute: 50}     # AWS's jobExecutionsRolloutConfig
    abort: {criteriaList: [...]}        # AWS's abortConfig
    timeout: {inProgressTimeoutInMinutes: 30}
    tags: {owner: narwhals}
    parentTarget: thinggroup/fleet
    rings: [{name: canary, target: thinggroup/canary, bakeSeconds: 600, gates: {...}}]

All but ``target`` and ``components`` may be left out, and then stays as it is live.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import yaml

from monodon.core.json import Json, is_deeper, read_json
from monodon.core.names import ComponentName
from monodon.core.semver import Requirement, Version
from monodon.errors import FleetError, MonodonError
from monodon.fleet.desired import Desired, DesiredComponent, Ring, Wanted
from monodon.fleet.gates import read_gates

#: A merge may have 10 MiB, and a file several; more than this is no fleet file.
MAX_BYTES = 64 * 1024 * 1024
#: Values that a file's aliases may multiply to.
MAX_VALUES = 2_000_000
MAX_DEPTH = 100

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_JOB = {"rollout": "jobExecutionsRolloutConfig", "abort": "abortConfig", "timeout": "timeoutConfig"}
_KEYS = frozenset(
    {"target", "name", "components", "onFailure", "updatePolicy", "validationTimeoutInSeconds", "tags", "parentTarget"}
    | {"rings", *_JOB}
)
_COMPONENT_KEYS = frozenset({"version", "merge", "reset", "runWith"})
_RING_KEYS = frozenset({"name", "target", "targets", "bakeSeconds", "gates"})
#: AWS's: what CreateDeployment takes, and what GetDeployment adds to it.
_AWS_KEYS = frozenset(
    {"targetArn", "deploymentName", "components", "iotJobConfiguration", "deploymentPolicies", "parentTargetArn"}
    | {"tags", "clientToken", "revisionId", "deploymentId", "deploymentStatus", "iotJobId", "iotJobArn"}
    | {"creationTimestamp", "isLatestForTarget", "ResponseMetadata"}
)
_AWS_COMPONENT_KEYS = frozenset({"componentVersion", "configurationUpdate", "runWith"})
_RUN_WITH_KEYS = frozenset({"posixUser", "windowsUser", "systemResourceLimits"})


def read_desired(path: Path) -> Desired:
    """Read a fleet file.

    Raises:
        FleetError: it cannot be read, or a key is unknown, missing or of a wrong type; the message says which, where.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise FleetError(f"cannot read {path}: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise FleetError(f"{path} has more than {MAX_BYTES // 2**20} MiB: it is no fleet file")
    try:
        return parse_desired(content.decode("utf-8-sig"), file=str(path))
    except UnicodeDecodeError as error:
        raise FleetError(f"{path}: not UTF-8: {error}") from error


def parse_desired(text: str, *, file: str) -> Desired:
    """Read a fleet file's text.

    Raises:
        FleetError: as `read_desired`.
    """
    document = _load(text, file)
    reader = _Reader(text, file)
    if not isinstance(document, dict):
        raise FleetError(f"{file}: a fleet file is a mapping with target and components")
    if "targetArn" in document:
        return _read_aws(document, reader)
    return _read_own(document, reader)


class _Reader:
    """Checks of single values; what is wrong is told with its path and line."""

    def __init__(self, text: str, file: str) -> None:
        self._text = text
        self._file = file

    def refuse(self, path: tuple[str | int, ...], message: str, hint: str | None = None) -> NoReturn:
        line = _line_of(self._text, path)
        where = f" (line {line})" if line else ""
        raise FleetError(f"{self._file}: {message}{where}", hint=hint)

    def known(self, path: tuple[str | int, ...], value: Json, keys: frozenset[str]) -> Mapping[str, Json]:
        """A mapping with no other keys than these."""
        entry = self.mapping(path, value)
        if unknown := sorted((key for key in entry if key not in keys), key=str):
            shown = _dotted((*path, unknown[0]))
            self.refuse((*path, unknown[0]), f"unknown key {shown}", f"known are {', '.join(sorted(keys))}")
        return entry

    def mapping(self, path: tuple[str | int, ...], value: Json) -> Mapping[str, Json]:
        if not isinstance(value, dict):
            self.refuse(path, f"{_dotted(path)} is not a mapping")
        return value

    def text(self, path: tuple[str | int, ...], value: Json) -> str:
        if not isinstance(value, str):
            self.refuse(path, f"{_dotted(path)} is not text", "put it in quotes")
        return value

    def whole(self, path: tuple[str | int, ...], value: Json) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            self.refuse(path, f"{_dotted(path)} is not a whole number of seconds")
        return value

    def json(self, path: tuple[str | int, ...], value: Json) -> Json:
        """What JSON can say."""
        if is_deeper(value, MAX_DEPTH):
            self.refuse(path, f"{_dotted(path)} is nested in more than {MAX_DEPTH} levels")
        for where, what, hint in _not_json(path, value):
            self.refuse(where, f"{_dotted(path)} is not JSON: {what}", hint)
        return value

    def texts(self, path: tuple[str | int, ...], value: Json) -> dict[str, str]:
        entry = self.mapping(path, value)
        return {self.text((*path, key), key): self.text((*path, key), each) for key, each in entry.items()}

    def choice(self, path: tuple[str | int, ...], value: Json, *choices: str) -> str:
        if value not in choices:
            self.refuse(path, f"{_dotted(path)} is {str(value)[:100]}, not {' or '.join(choices)}")
        return str(value)

    def name(self, path: tuple[str | int, ...], value: Json) -> ComponentName:
        try:
            return ComponentName.parse(str(value))
        except MonodonError as error:
            self.refuse(path, error.message, error.hint)

    def version(self, path: tuple[str | int, ...], value: Json) -> Wanted:
        if not isinstance(value, str):
            self.refuse(path, f"{_dotted(path)} is not text such as 1.0.0 or ^1.0.0", "put it in quotes")
        try:
            exact = _exact(value)
            return exact if exact is not None else Requirement.parse(value)
        except MonodonError as error:
            self.refuse(path, f"{_dotted(path)}: {error.message}", error.hint)

    def pointers(self, path: tuple[str | int, ...], value: Json) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            self.refuse(path, f"{_dotted(path)} is not a list of JSON pointers", "write [/threshold]")
        return tuple(value)


def _exact(text: str) -> Version | None:
    """The version that a text spells; None for what can only be a range."""
    if not text[:1].isdigit() or text.count(".") < 2 or any(mark in text for mark in " |xX*"):
        return None
    version = Version.parse(text)
    if version.prerelease and version.prerelease[0][:1].isdigit():
        raise FleetError(
            f"{text!r}: a device cannot deploy a pre-release that begins with a digit",
            hint="publish it as 1.0.0-rc.1 or alike",
        )
    return version


def _optional(entry: Mapping[str, Json], key: str, read: Callable[..., Any], *path: str | int) -> Any:
    return read((*path, key), entry[key]) if entry.get(key) is not None else None


def _read_own(document: Mapping[str, Json], reader: _Reader) -> Desired:
    reader.known((), document, _KEYS)
    components, target = document.get("components"), document.get("target")
    if not isinstance(components, dict) or not isinstance(target, str):
        reader.refuse((), "target (text) and components (a mapping) are needed")
    policy = _optional(document, "updatePolicy", lambda path, value: _update_policy(reader, path, value))
    job = {
        aws: reader.json((key,), reader.mapping((key,), document[key])) for key, aws in _JOB.items() if key in document
    }
    failure = _optional(document, "onFailure", lambda p, v: reader.choice(p, v, "ROLLBACK", "DO_NOTHING"))
    return Desired(
        target=target,
        name=_optional(document, "name", reader.text),
        components={
            reader.name(("components", name), name): _read_component(reader, ("components", name), entry)
            for name, entry in components.items()
        },
        on_failure=failure,
        update_policy=policy,
        validation_timeout_s=_optional(document, "validationTimeoutInSeconds", reader.whole),
        job=job or None,
        tags=_optional(document, "tags", reader.texts),
        parent_target=_optional(document, "parentTarget", reader.text),
        rings=_read_rings(reader, document.get("rings")),
    )


def _read_component(reader: _Reader, path: tuple[str | int, ...], entry: Json) -> DesiredComponent:
    entry = reader.known(path, {} if entry is None else entry, _COMPONENT_KEYS)
    return DesiredComponent(
        version=_optional(entry, "version", reader.version, *path),
        merge=_optional(entry, "merge", lambda p, v: reader.json(p, reader.mapping(p, v)), *path),
        reset=_optional(entry, "reset", reader.pointers, *path),
        run_with=_optional(entry, "runWith", lambda p, v: reader.json(p, reader.known(p, v, _RUN_WITH_KEYS)), *path),
    )


def _update_policy(reader: _Reader, path: tuple[str | int, ...], value: Json) -> dict[str, Json]:
    entry = reader.known(path, value, frozenset({"action", "timeoutInSeconds"}))
    policy: dict[str, Json] = {}
    if "action" in entry:
        where = (*path, "action")
        policy["action"] = reader.choice(where, entry["action"], "NOTIFY_COMPONENTS", "SKIP_NOTIFY_COMPONENTS")
    if "timeoutInSeconds" in entry:
        policy["timeoutInSeconds"] = reader.whole((*path, "timeoutInSeconds"), entry["timeoutInSeconds"])
    return policy


def _read_rings(reader: _Reader, value: Json) -> tuple[Ring, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        reader.refuse(("rings",), "rings is not a list", "write rings: [{name: canary, target: thinggroup/canary}]")
    rings = tuple(_read_ring(reader, ("rings", index), entry) for index, entry in enumerate(value))
    names = [ring.name for ring in rings]
    for index, name in enumerate(names):
        if name in names[:index]:
            reader.refuse(("rings", index), f"there are two rings named {name}")
    return rings


def _read_ring(reader: _Reader, path: tuple[str | int, ...], value: Json) -> Ring:
    entry = reader.known(path, value, _RING_KEYS)
    if "name" not in entry:
        reader.refuse(path, f"{_dotted(path)}.name is missing")
    targets = entry.get("targets", [entry["target"]] if "target" in entry else [])
    if not isinstance(targets, list) or not targets or ("target" in entry and "targets" in entry):
        reader.refuse(path, f"{_dotted(path)} needs target, or targets as a list")
    bake = entry.get("bakeSeconds", 0)
    if isinstance(bake, bool) or not isinstance(bake, int | float) or not 0 <= bake < math.inf:
        reader.refuse((*path, "bakeSeconds"), f"{_dotted(path)}.bakeSeconds is not a number of seconds")
    where = (*path, "gates")
    gates = reader.json(where, reader.mapping(where, entry.get("gates", {})))
    read_gates(gates, lambda at, what, hint: reader.refuse((*where, *at), f"{_dotted((*where, *at))} {what}", hint))
    return Ring(
        name=reader.text((*path, "name"), entry["name"]),
        targets=tuple(reader.text((*path, "targets"), each) for each in targets),
        bake_s=float(bake),
        gates=gates,
    )


def _read_aws(document: Mapping[str, Json], reader: _Reader) -> Desired:
    reader.known((), document, _AWS_KEYS)
    policies = reader.mapping(("deploymentPolicies",), document.get("deploymentPolicies") or {})
    path = ("deploymentPolicies", "componentUpdatePolicy")
    policy = policies.get("componentUpdatePolicy")
    validation = reader.mapping(
        ("deploymentPolicies", "configurationValidationPolicy"), policies.get("configurationValidationPolicy") or {}
    )
    components = reader.mapping(("components",), document.get("components") or {})
    where = ("deploymentPolicies", "failureHandlingPolicy")
    failure = policies.get("failureHandlingPolicy")
    job = document.get("iotJobConfiguration")
    return Desired(
        target=reader.text(("targetArn",), document["targetArn"]),
        name=_optional(document, "deploymentName", reader.text),
        components={
            reader.name(("components", name), name): _read_aws_component(reader, ("components", name), entry)
            for name, entry in components.items()
        },
        on_failure=reader.choice(where, failure, "ROLLBACK", "DO_NOTHING") if failure is not None else None,
        update_policy=_update_policy(reader, path, policy) if policy is not None else None,
        validation_timeout_s=_optional(
            validation, "timeoutInSeconds", reader.whole, "deploymentPolicies", "configurationValidationPolicy"
        ),
        job=reader.known(("iotJobConfiguration",), job, frozenset(_JOB.values())) if job else None,
        tags=_optional(document, "tags", reader.texts),
        parent_target=_optional(document, "parentTargetArn", reader.text),
    )


def _read_aws_component(reader: _Reader, path: tuple[str | int, ...], entry: Json) -> DesiredComponent:
    entry = reader.known(path, entry, _AWS_COMPONENT_KEYS)
    where = (*path, "configurationUpdate")
    update = reader.known(where, entry.get("configurationUpdate") or {}, frozenset({"merge", "reset"}))
    return DesiredComponent(
        version=_optional(entry, "componentVersion", reader.version, *path),
        merge=_optional(update, "merge", lambda p, v: _merge_text(reader, p, v), *where),
        reset=_optional(update, "reset", reader.pointers, *where),
        run_with=_optional(entry, "runWith", lambda p, v: reader.json(p, reader.known(p, v, _RUN_WITH_KEYS)), *path),
    )


def _merge_text(reader: _Reader, path: tuple[str | int, ...], value: Json) -> Mapping[str, Json]:
    """AWS takes a merge as JSON in a text."""
    try:
        merge = read_json(value) if isinstance(value, str) else value
    except ValueError as error:
        reader.refuse(path, f"{_dotted(path)} is not JSON: {error}")
    return reader.mapping(path, reader.json(path, merge))


# --- Text → values --------------------------------------------------------------------------------------------------


class _Strict(_LOADER):  # type: ignore[misc]
    """PyYAML's safe loader, which also refuses a key that is there twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    problem = f"the key {key.value!r} is there already, in line {seen[key.value]}"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen[key.value] = key.start_mark.line + 1
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping


def _load(text: str, file: str) -> Json:
    if text.lstrip()[:1] == "{" or file.endswith(".json"):
        try:
            return read_json(text)
        except json.JSONDecodeError as error:
            if file.endswith(".json"):
                raise FleetError(f"{file}: not JSON: {error.msg} (line {error.lineno})") from error
        except ValueError as error:
            raise FleetError(f"{file}: not JSON: {error}") from error
    try:
        document = yaml.load(text, Loader=_Strict)  # noqa: S506  # it is a safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" (line {mark.line + 1})" if mark is not None else ""
        raise FleetError(f"{file}: {error.context or 'not YAML'}: {error.problem}{where}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise FleetError(f"{file}: {error}") from error
    if _count(document, {}) > MAX_VALUES:
        raise FleetError(f"{file}: its aliases multiply to more than {MAX_VALUES:,} values", hint="write fewer of them")
    return document


def _count(value: Json, known: dict[int, int]) -> int:
    """How many values there are when each alias is written out; one that holds itself has no end."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        known[id(value)] = MAX_VALUES + 1  # while we are inside
        known[id(value)] = 1 + sum(
            _count(each, known) for each in (value.values() if isinstance(value, dict) else value)
        )
    return known[id(value)]


def _not_json(path: tuple[str | int, ...], value: Json) -> Iterator[tuple[tuple[str | int, ...], str, str | None]]:
    """Yield where a value is none of JSON's, what it is, and what to do."""
    if isinstance(value, dict):
        for key, each in value.items():
            if not isinstance(key, str):
                yield (*path, key), f"the key {key!r} is not text", "put it in quotes"
            else:
                yield from _not_json((*path, key), each)
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _not_json((*path, index), each)
    elif isinstance(value, float) and not math.isfinite(value):
        yield path, f"{_dotted(path)} is {value}", None
    elif value is not None and not isinstance(value, str | int | float | bool):
        kind = type(value).__name__
        yield path, f"{_dotted(path)} is a {kind}", "dates are text there: put them in quotes"


def _line_of(text: str, path: tuple[str | int, ...]) -> int | None:
    """Return the line of a key or an item, from 1; of the nearest thing around it if it is not there."""
    try:
        node = yaml.compose(text, Loader=_LOADER)
    except (yaml.YAMLError, RecursionError):
        return None
    line = None
    for step in path:
        found = None
        if isinstance(node, yaml.MappingNode):
            found = next(((key, each) for key, each in node.value if key.value == str(step)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            found = (node.value[step], node.value[step])
        if found is None:
            break
        line, node = found[0].start_mark.line + 1, found[1]
    return line


def _dotted(path: tuple[str | int, ...]) -> str:
    return ".".join(map(str, path)) or "the file"
