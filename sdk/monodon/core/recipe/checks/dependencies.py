"""Rules about dependencies and version requirements."""

import re
from collections.abc import Iterator
from functools import lru_cache

from monodon.core.recipe.checks.rule import ERROR, HINT, WARNING, Found, rule
from monodon.core.recipe.checks.subject import Subject
from monodon.core.recipe.nodes import Scalar, child
from monodon.core.semver import Requirement
from monodon.errors import InvalidRequirement

TOKEN_EXCHANGE = "aws.greengrass.TokenExchangeService"  # noqa: S105 (a component's name, no secret)
_AWS_IN_CODE = r"""^\s*(?:import|from) (?:[\w, ]+, *)?(boto3|botocore|aioboto3)\b|["'](s3)://"""
_PARTIAL = r"(?:<=|>=|==|[<>=])\s*v?\d+(?:\.\d+)?(?![\d.])"


def _requirements(subject: Subject) -> Iterator[tuple[Scalar, Scalar, str]]:
    for name, dependency, pointer in subject.dependencies:
        key, node = dependency.key("VersionRequirement"), dependency.get("VersionRequirement")
        if key is not None and isinstance(node, Scalar):
            yield name, node, child(pointer, key.text)


@lru_cache(maxsize=256)
def _read(text: str) -> Requirement | None:
    try:
        return Requirement.parse(text)
    except InvalidRequirement:
        return None


@rule("R601", WARNING)
def partial_version(subject: Subject) -> Iterator[Found]:
    """A comparator has a version of fewer than three numbers.

    On a device ``>=2.0`` does not match 2.0.0, though it matches 2.0.1, and ``=2`` matches nothing. npm says otherwise.
    """
    for _, node, pointer in _requirements(subject):
        found = re.search(_PARTIAL, node.text)
        if found and _read(node.text) is not None:
            right = found[0] + ".0" * (2 - found[0].count("."))
            message = f"{found[0]} leaves {right.lstrip('<>= v')} out on a device"
            yield Found(node, pointer, message, f"write {right}", found[0], right)


@rule("R602", ERROR)
def nothing_satisfies(subject: Subject) -> Iterator[Found]:
    """No known version of a dependency satisfies the requirement.

    Looked for among the recipes of the same folder, and with ``--cloud`` in the cloud, too.
    """
    for name, node, pointer in _requirements(subject):
        known = {recipe.version for recipe in subject.neighbours.get(name.text, ())}
        requirement = _read(node.text)
        if requirement is None or any(requirement.matches(version) for version in known):
            continue
        if subject.published is not None:
            known.update(subject.published(name.text))
        if (known or subject.published is not None) and not any(requirement.matches(version) for version in known):
            versions = ", ".join(str(version) for version in sorted(known)[-5:])
            message = f"no version of {name.text} satisfies {node.text!r}"
            hint = f"there are {versions}" if versions else f"there is no {name.text}: publish it first"
            yield Found(node, pointer, message, hint)


@rule("R603", ERROR)
def depends_on_itself(subject: Subject) -> Iterator[Found]:
    """A component depends on itself: a deployment fails with a circular dependency."""
    for name, _, pointer in subject.dependencies:
        if name.text == subject.name:
            yield Found(name, pointer, f"{name.text} depends on itself", "remove it")


@rule("R604", ERROR)
def matches_no_version_at_all(subject: Subject) -> Iterator[Found]:
    """A requirement matches no version at all.

    Blanks are ignored: ``1.0.0 2.0.0`` is the one version ``1.0.02.0.0``. And ``>2.0.0 <1.0.0`` is empty.
    """
    for _, node, pointer in _requirements(subject):
        requirement = _read(node.text)
        if requirement is None:
            continue
        joined = [comparator for comparator in requirement.comparators if comparator.bound.text.count(".") > 2]
        if any(comparator.operator == "=" and not comparator.bound.prerelease for comparator in joined):
            message = f"{node.text!r} is one version to a device: {joined[0].bound}"
            yield Found(node, pointer, message, "put '||' between alternatives")


@rule("R605", WARNING)
def tilde_greater(subject: Subject) -> Iterator[Found]:
    """A requirement has ``~>``, which a device takes for ``=``."""
    for _, node, pointer in _requirements(subject):
        if re.search(r"~\s*>", node.text):
            right = re.sub(r"~\s*>", "~", node.text)
            yield Found(node, pointer, f"{node.text!r} means exactly that version", f"write {right}", node.text, right)


@rule("R606", WARNING)
def no_token_exchange(subject: Subject) -> Iterator[Found]:
    """AWS is used at run time without the token exchange service.

    boto3, the AWS CLI and ``s3://`` in a script, in a setting or in the code get their credentials from
    aws.greengrass.TokenExchangeService.
    """
    if TOKEN_EXCHANGE in subject.dependency_names or subject.name == TOKEN_EXCHANGE:
        return
    hint = f"add {TOKEN_EXCHANGE} to ComponentDependencies"
    for step, script in subject.scripts:
        found = re.search(r"\bs3://|\baws (?:s3|s3api|iot|sts|ssm)\b|\bboto3\b", script.text)
        if found:
            yield Found(script, step.pointer, f"{step.name} uses AWS ({found[0]}) without credentials", hint, found[0])
            return
    for part in subject.configuration_texts:
        if isinstance(part.node, Scalar) and part.node.text.startswith("s3://"):
            yield Found(part.node, part.pointer, f"{part.node.text} cannot be read without credentials", hint)
            return
    for file, text in subject.code.items():
        found = re.search(_AWS_IN_CODE, text, re.MULTILINE)
        if found:
            yield Found(subject.root, "", f"{file} uses {found[1] or found[2]} without credentials", hint)
            return


@rule("R607", HINT)
def soft_but_needed(subject: Subject) -> Iterator[Found]:
    """A SOFT dependency's variables are used.

    A device still brings it, but does not restart this component when it changes.
    """
    used = {variable.component for variable in subject.variables}
    for name, dependency, pointer in subject.dependencies:
        node = dependency.get("DependencyType")
        if isinstance(node, Scalar) and node.text.upper() == "SOFT" and name.text in used:
            message = f"{name.text} is SOFT, but its variables are used"
            yield Found(node, pointer, message, "make it HARD, to restart with it")


@rule("R608", WARNING)
def exactly_one_version(subject: Subject) -> Iterator[Found]:
    """An AWS component is pinned to one version.

    AWS's components move with the nucleus: deployments fail as soon as anything else asks for another version.
    """
    for name, node, pointer in _requirements(subject):
        if name.text.startswith("aws.greengrass.") and re.fullmatch(r"=?\s*\d+\.\d+\.\d+", node.text.strip()):
            version = node.text.strip(" =")
            right = f">={version} <{int(version.split('.')[0]) + 1}.0.0"
            message = f"{name.text} is pinned to {version}: it cannot move with the nucleus"
            yield Found(node, pointer, message, f"write {right}")
