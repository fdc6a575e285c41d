"""What an operator should know before a plan is applied: each function looks for one kind of trouble."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

from monodon.core.names import ComponentName
from monodon.core.recipe.model import Recipe
from monodon.core.recipe.platform import matches
from monodon.core.semver import Requirement, Version, best, conjunction
from monodon.errors import FleetError, MonodonError
from monodon.fleet.configuring import Foretold, kept_defaults, left_behind, resets_for
from monodon.fleet.content import Content, content_of, same, segments_of
from monodon.fleet.desired import Desired
from monodon.fleet.known import JAVA_RUNTIME, Live, Published, PublishedVersion
from monodon.fleet.planned import Difference, Finding, Kind, Severity

#: Source: botocore, greengrassv2, ``ComponentConfigurationString``.
MAX_MERGE = 10_485_760
#: What a device fetches at most. Source: Greengrass nucleus, large configurations.
MAX_DOCUMENT_BYTES = 10_000_000
#: Above this a device has to fetch the document. Remembered of AWS, not confirmed.
LARGE_BYTES: Mapping[str, int] = {"thinggroup": 31_000, "thing": 7_000}
#: What a person reads of a list.
SHOWN = 5


def error(code: str, message: str, hint: str | None = None, details: Iterable[Difference] = ()) -> Finding:
    """Something that keeps a plan from being applied."""
    return Finding(severity=Severity.ERROR, code=code, message=message, hint=hint, details=tuple(details))


def warning(code: str, message: str, hint: str | None = None, details: Iterable[Difference] = ()) -> Finding:
    """Something that may be meant."""
    return Finding(severity=Severity.WARNING, code=code, message=message, hint=hint, details=tuple(details))


def note(code: str, message: str, hint: str | None = None, details: Iterable[Difference] = ()) -> Finding:
    """Good to know."""
    return Finding(severity=Severity.NOTE, code=code, message=message, hint=hint, details=tuple(details))


def removals(differences: Sequence[Difference]) -> Iterator[Finding]:
    """Components that a file no longer names leave every device."""
    gone = [f"{one.component} {one.old}" for one in differences if one.what == "component" and one.kind is Kind.REMOVED]
    if gone:
        yield error(
            "REMOVES",
            f"{_count(gone, 'component')} would be removed: {listed(gone)}",
            "name what shall stay; if it is meant, say --allow-remove",
        )


def versions(desired: Desired, live: Content | None, components: Mapping[str, Published]) -> Iterator[Finding]:
    """Versions that are not there, not usable, or withdrawn."""
    for name, one in desired.components.items():
        found = components.get(str(name), Published())
        before = live.components.get(str(name)) if live is not None else None
        if one.version is None and before is None:
            yield error("NO_VERSION", f"{name} is not live, and the file names no version", "write version: 1.0.0")
        elif found.chosen is None:
            wanted = str(one.version) if one.version is not None else (before.version if before else "")
            yield _missing(name, wanted, found)
        else:
            yield from _state(name, found.chosen)
            yield from _direction(name, before.version if before else None, found.chosen.version)
        for tried in found.tried:
            yield note("PASSED_OVER", f"{name} {tried.version} fits and is {tried.state}: passed over")


def _missing(name: ComponentName, wanted: str, found: Published) -> Finding:
    there = [str(version) for version in found.versions]
    hint = f"published are {listed(there)}" if there else "publish it: monodon component publish"
    if found.tried:
        states = ", ".join(f"{one.version} is {one.state}" for one in found.tried[:SHOWN])
        return error("NOT_DEPLOYABLE", f"no deployable version of {name} fits {wanted}: {states}", hint)
    return error("NO_SUCH_VERSION", f"there is no version {wanted} of {name}", hint)


def _state(name: ComponentName, chosen: PublishedVersion) -> Iterator[Finding]:
    which = f"{name} {chosen.version}"
    if chosen.state != "DEPLOYABLE":
        why = "; ".join(f"{what}: {text}" for what, text in chosen.errors.items())
        yield error(
            "NOT_DEPLOYABLE", f"{which} is {chosen.state}{f': {why}' if why else ''}", _STATE_HINTS.get(chosen.state)
        )
    if chosen.guidance in ("DISCONTINUED", "DELETED"):
        say = error if chosen.guidance == "DELETED" else warning
        more = f": {chosen.guidance_message}" if chosen.guidance_message else ""
        yield say(chosen.guidance, f"{which} is {chosen.guidance} by its vendor{more}", "choose a newer version")
    if chosen.recipe is None:
        yield warning("NO_RECIPE", f"the recipe of {which} cannot be read: its defaults and platforms are not checked")


_STATE_HINTS = {
    "REQUESTED": "AWS is checking it; try again in a minute",
    "INITIATED": "AWS is checking it; try again in a minute",
    "FAILED": "delete it, mend it and publish it again",
    "DEPRECATED": "choose another version",
}


def _direction(name: ComponentName, before: str | None, after: Version) -> Iterator[Finding]:
    try:
        if before is not None and after < Version.parse(before, lax=True):
            yield note("DOWNGRADE", f"{name} goes back from {before} to {after}")
    except MonodonError:
        return


def defaults(live: Content | None, desired: Content, foretold: Mapping[str, Foretold]) -> Iterator[Finding]:
    """Defaults of a new version that do not arrive where the component is already (device notes 5.5, C1 and C2)."""
    for name, one in foretold.items():
        before, after = live.components.get(name) if live else None, desired.components[name]
        if before is None or before.version == after.version:
            continue
        kept = kept_defaults(name, one)
        if kept:
            pointers, out_of_reach = resets_for(kept)
            yield warning(
                "DEFAULTS_KEPT",
                f"{name} {after.version} has {_count(kept, 'default')} that will not arrive on devices that have "
                f"{before.version}: {listed([d.pointer for d in kept])}",
                _reset_hint(name, after.reset, pointers, out_of_reach),
                kept,
            )
        if behind := left_behind(name, one):
            where = listed([d.pointer for d in behind])
            yield note(
                "KEYS_KEPT",
                f"{name} {after.version} no longer has {where}: it stays on devices that have it",
                None,
                behind,
            )


def _reset_hint(name: str, resets: Sequence[str], pointers: Sequence[str], out_of_reach: Sequence[str]) -> str:
    hints = []
    if pointers:
        together = json.dumps([*resets, *(one for one in pointers if one not in resets)], ensure_ascii=False)
        hints.append(f"to bring them, write components.{name}.reset: {together}")
    if out_of_reach:
        hints.append(f"no reset reaches {listed(out_of_reach)}: merge the value instead")
    return "; ".join(hints)


def resets(desired: Content) -> Iterator[Finding]:
    """Reset pointers that a device refuses."""
    for name, part in desired.components.items():
        if refused := [one for one in part.reset if segments_of(one) is None]:
            yield warning(
                "RESET_REFUSED",
                f"devices refuse to reset {listed(refused)} of {name}: a pointer begins with '/', "
                "and no key in it is digits alone, which could be a list's index",
                "write /threshold, or reset the key above the digits",
            )


def sizes(desired: Content, kind: str) -> Iterator[Finding]:
    """Configuration beyond what AWS or a device takes."""
    total = 0
    for name, part in desired.components.items():
        merge = part.request().get("configurationUpdate", {}).get("merge", "")
        total += len(merge.encode())
        if len(merge) > MAX_MERGE:
            yield error(
                "MERGE_TOO_LONG",
                f"the merge of {name} has {len(merge):,} characters; AWS takes {MAX_MERGE:,}",
                "publish the data as an artifact of a component",
            )
    if total > MAX_DOCUMENT_BYTES:
        yield error(
            "DOCUMENT_TOO_LONG",
            f"the deployment's merges have {total:,} bytes; a device takes {MAX_DOCUMENT_BYTES:,} in all",
            "publish the data as an artifact of a component",
        )
    elif total > LARGE_BYTES.get(kind, 0):
        yield note(
            "LARGE",
            f"the deployment's merges have {total:,} bytes: devices fetch them (capability LARGE_CONFIGURATION)",
        )


def artifacts(components: Mapping[str, Published], statuses: Mapping[str, int]) -> Iterator[Finding]:
    """S3 objects that are not there, or that could not be looked at."""
    for name, one in components.items():
        for uri in sorted(uris(one.chosen.recipe if one.chosen is not None else None)):
            status = statuses.get(uri, 200)
            version = one.chosen.version if one.chosen is not None else ""
            if status == 404:
                yield error("NO_ARTIFACT", f"{uri}, an artifact of {name} {version}, is not there", "upload it again")
            elif status != 200:
                yield warning(
                    "ARTIFACT_UNREADABLE",
                    f"{uri}, an artifact of {name} {version}, cannot be looked at (HTTP {status})",
                    "it may be there and you lack s3:GetObject, or s3:ListBucket to be told that it is not",
                )


def uris(recipe: Recipe | None) -> set[str]:
    """Return the S3 URIs of a recipe's artifacts."""
    manifests = recipe.manifests if recipe is not None else ()
    return {one.uri for manifest in manifests for one in manifest.artifacts if one.uri.startswith("s3://")}


def dependencies(desired: Content, components: Mapping[str, Published]) -> Iterator[Finding]:
    """Components of one deployment that cannot go together."""
    for name, one in components.items():
        recipe = one.chosen.recipe if one.chosen is not None else None
        for dependency, needs in recipe.dependencies.items() if recipe is not None else ():
            part = desired.components.get(str(dependency))
            if name in desired.components and part is not None and not _fits(needs.requirement, part.version):
                yield error(
                    "DEPENDENCY",
                    f"{name} {desired.components[name].version} needs {dependency} {needs.requirement}, "
                    f"and {part.version} is to be deployed",
                    "change one of the two versions",
                )


def unmet(desired: Content, live: Live) -> Iterator[Finding]:
    """What recipes need and nobody has published; a device may have it by a local deployment, though."""
    needs: dict[str, dict[str, Requirement]] = {}
    for name in desired.components:
        chosen = live.components[name].chosen if name in live.components else None
        recipe = chosen.recipe if chosen is not None else None
        for dependency, needed in recipe.dependencies.items() if recipe is not None else ():
            if str(dependency) in live.dependencies:
                needs.setdefault(str(dependency), {})[name] = needed.requirement
    for missing, requirements in needs.items():
        versions = live.dependencies[missing]
        if best(versions, conjunction(requirements.values())) is None:
            who = listed([f"{name} needs {requirement}" for name, requirement in requirements.items()])
            there = f"published are {listed(versions)}" if versions else "none is published"
            yield warning(
                "NO_DEPENDENCY",
                f"no version of {missing} will do: {who}; {there}",
                f"publish one, or name {missing} among the components in a version that will do",
            )


def _fits(requirement: Requirement, version: str) -> bool:
    try:
        return requirement.matches(Version.parse(version, lax=True))
    except MonodonError:
        return True  # unreadable versions are told elsewhere


def platforms(live: Live, names: Iterable[str]) -> Iterator[Finding]:
    """Components without a manifest for some devices, by what these reported of themselves."""
    kinds: dict[tuple[str, str, str], list[str]] = {}
    for device in live.devices.values():
        if device.platform and device.architecture:
            kinds.setdefault((device.platform, device.architecture, device.runtime), []).append(device.thing)
    for name in names:
        chosen = live.components[name].chosen if name in live.components else None
        recipe = chosen.recipe if chosen is not None else None
        if recipe is None:
            continue
        for kind, things in kinds.items():
            if not _runs_on(recipe, kind):
                yield error(
                    "PLATFORM",
                    f"{name} {recipe.version} has no manifest for {'/'.join(filter(None, kind[:2]))}"
                    f"{' on ' + kind[2] if kind[2] not in ('', JAVA_RUNTIME) else ''}, "
                    f"which {_count(things, 'device')} reported to be: {listed(things)}",
                    "publish a version with a manifest for it, or leave these devices out of the target",
                )


def _runs_on(recipe: Recipe, kind: tuple[str, str, str]) -> bool:
    """Tell whether some manifest may fit; what devices do not report (such as architecture.detail) may be anything."""
    attributes = {"os": kind[0], "architecture": kind[1]}
    if kind[2] and kind[2] != JAVA_RUNTIME:
        attributes["runtime"] = kind[2]
    known = {"os", "architecture", "runtime"}
    return any(
        matches({key: value for key, value in manifest.platform.items() if key in known}, attributes)
        for manifest in recipe.manifests
    )


def conflicts(desired: Content, live: Live) -> Iterator[Finding]:
    """Components that another target's deployment wants otherwise on the same devices."""
    for other in live.others:
        try:
            theirs = content_of(other.deployment)
        except FleetError as problem:
            yield warning("UNREADABLE", f"the deployment of {other.target_arn} cannot be compared: {problem.message}")
            continue
        where = f"{_count(other.shared, 'device')} of this target ({listed(other.shared)})"
        for name in sorted({*theirs.components} & {*desired.components}):
            our, their = desired.components[name], theirs.components[name]
            if our.version != their.version:
                yield error(
                    "CONFLICT",
                    f"{_short(other.target_arn)} has {name} {their.version}, this would have {our.version}: "
                    f"it fails on {where}",
                    "a device takes one version: let both name the same, or take the component out of one",
                )
            elif not same(dict(our.merge), dict(their.merge)) or our.reset != their.reset:
                yield warning(
                    "INTERLEAVES",
                    f"{_short(other.target_arn)} configures {name} too, otherwise: "
                    f"on {where} the newer deployment's values win, key by key",
                )
    if live.not_compared:
        yield note("NOT_COMPARED", f"{live.not_compared} things have deployments of their own that were not compared")


def listed(items: Sequence[object], shown: int = SHOWN) -> str:
    """Return the first few, and how many more there are."""
    more = f" and {len(items) - shown} more" if len(items) > shown else ""
    return ", ".join(map(str, items[:shown])) + more


def _count(items: Sequence[object], noun: str) -> str:
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"


def _short(arn: str) -> str:
    return arn.rpartition(":")[2]
