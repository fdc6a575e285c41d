"""Component versions: registered from a recipe, processed, immutable."""

import base64
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from monodon.cloud.context import RequestContext
from monodon.cloud.greengrass.errors import conflict, invalid, invalid_fields, not_found
from monodon.cloud.greengrass.limits import Limits
from monodon.cloud.greengrass.tags import Tags
from monodon.cloud.greengrass.tokens import ClientTokens
from monodon.cloud.paging import page_of
from monodon.cloud.protocol import ServiceError
from monodon.cloud.protocol.errors import not_implemented
from monodon.cloud.s3 import ObjectInfo
from monodon.cloud.store import Store
from monodon.core.json import Json
from monodon.core.names import Arn, ComponentName, component_arn, component_version_arn
from monodon.core.provided import PROVIDED
from monodon.core.provided import recipe as provided_recipe
from monodon.core.recipe.model import Artifact, Manifest, Recipe
from monodon.core.recipe.problems import Severity
from monodon.core.recipe.reading import parse_recipe, read_recipe
from monodon.core.recipe.writing import write_json, write_yaml
from monodon.core.semver import Requirement, Version
from monodon.errors import InvalidName, InvalidRequirement

log = logging.getLogger(__name__)

Request = dict[str, Any]
PUBLIC = "aws"
_KIND = "COMPONENT_VERSION"
_PRESIGNED_S = 3600


class Components:
    """Operations on components, named as in the model.

    Args:
        find_object: (bucket, key) → what S3 has; raises ServiceError.
        presign: (endpoint, bucket, key, seconds) → URL.
        schedule: runs a function soon, after the answer is on its way.
    """

    def __init__(
        self,
        store: Store,
        *,
        region: str,
        account: str,
        now: Callable[[], float],
        tokens: ClientTokens,
        tags: Tags,
        find_object: Callable[[str, str], ObjectInfo],
        presign: Callable[[str, str, str, int], str],
        schedule: Callable[[Callable[[], None]], None],
        limits: Limits,
    ) -> None:
        self._store = store
        self._table = store.table("greengrass.components")
        self._region = region
        self._account = account
        self._now = now
        self._tokens = tokens
        self._tags = tags
        self._find_object = find_object
        self._presign = presign
        self._schedule = schedule
        self._limits = limits

    def resume(self) -> None:
        """Process what was registered and not processed when the cloud was stopped."""
        for key, record in self._table.items():
            if record["state"] == "REQUESTED":
                self._process(key)

    # For the cloud's other parts

    def versions(self, name: str) -> list[Version]:
        """Return the account's own versions of a component, greatest first."""
        prefix = f"{name}/"
        found = (Version.parse(key.removeprefix(prefix), lax=True) for key in self._table.keys(prefix))
        return sorted(found, key=lambda version: version.precedence, reverse=True)

    def deployable(self, name: str) -> Iterator[tuple[Version, Recipe]]:
        """Yield the usable versions of the account's own component, greatest first, as devices get them."""
        for version in self.versions(name):
            record = self._table.get(f"{name}/{version}")
            if record is not None and record["state"] == "DEPLOYABLE":
                yield version, _stored(record["processed"])

    def arn(self, name: str, version: object) -> str:
        """The ARN of a version of this account's component."""
        return str(component_version_arn(self._region, self._account, name, version))

    def has(self, arn: str) -> bool:
        """Whether there is a component or a component version of that ARN."""
        name, version = self._parse(arn)
        return name is not None and (
            self._table.get(f"{name}/{version}") is not None if version is not None else bool(self.versions(name))
        )

    # Operations

    def create_component_version(self, request: Request, context: RequestContext) -> dict[str, Json]:
        if ("inlineRecipe" in request) == ("lambdaFunction" in request):
            raise invalid("inlineRecipe", "exactly one of inlineRecipe and lambdaFunction is needed")
        if "lambdaFunction" in request:
            raise not_implemented("greengrass", "CreateComponentVersion with lambdaFunction")
        return self._tokens.once("CreateComponentVersion", request.get("clientToken"), lambda: self._create(request))

    def describe_component(self, request: Request, context: RequestContext) -> dict[str, Json]:
        arn = request["arn"]
        recipe, record = self._version(arn)
        answer = {
            "arn": arn,
            "componentName": recipe.name,
            "componentVersion": str(recipe.version),
            "creationTimestamp": record["created"],
            "status": _status(record),
            "platforms": [_platform(manifest) for manifest in recipe.manifests],
            "tags": self._tags.of(arn),
        }
        if recipe.publisher:
            answer["publisher"] = recipe.publisher
        if recipe.description:
            answer["description"] = recipe.description
        return answer

    def get_component(self, request: Request, context: RequestContext) -> dict[str, Json]:
        recipe, record = self._version(request["arn"])
        style = request.get("recipeOutputFormat", record["format"])
        text = write_json(recipe) if style == "JSON" else write_yaml(recipe)
        return {"recipeOutputFormat": style, "recipe": text.encode(), "tags": self._tags.of(request["arn"])}

    def list_components(self, request: Request, context: RequestContext) -> dict[str, Json]:
        names = sorted(PROVIDED) if request.get("scope") == "PUBLIC" else self._names()
        account = PUBLIC if request.get("scope") == "PUBLIC" else self._account
        entries = ((str(name), self._summary(str(name), account)) for name in names)
        components, token = self._page(entries, request)
        return {"components": components, "nextToken": token}

    def list_component_versions(self, request: Request, context: RequestContext) -> dict[str, Json]:
        arn = request["arn"]
        name, version = self._parse(arn)
        versions: list[Version] = []
        if name is not None and version is None:
            provided = PROVIDED.get(ComponentName(name)) if self._is_public(arn) else None
            versions = [provided.version] if provided is not None else self.versions(name)
        if not versions:
            raise not_found("COMPONENT", arn)
        account = PUBLIC if self._is_public(arn) else self._account
        entries = (
            (
                f"{index:06}",
                {
                    "componentName": name,
                    "componentVersion": str(each),
                    "arn": str(component_version_arn(self._region, account, str(name), each)),
                },
            )
            for index, each in enumerate(versions)
        )
        found, token = self._page(entries, request)
        return {"componentVersions": found, "nextToken": token}

    def delete_component(self, request: Request, context: RequestContext) -> None:
        arn = request["arn"]
        name, version = self._parse(arn)
        if self._is_public(arn):
            raise ServiceError("AccessDeniedException", "public components cannot be deleted")
        if name is None or version is None or not self._table.delete(f"{name}/{version}"):
            raise not_found(_KIND, arn)
        self._tags.forget(arn)
        log.info("component %s %s deleted", name, version)

    def get_component_version_artifact(self, request: Request, context: RequestContext) -> dict[str, Json]:
        wanted = request["artifactName"]
        recipe, _ = self._version(request["arn"])
        for artifact in _artifacts(recipe):
            place = _s3_place(artifact.uri)
            if place is None or wanted not in {artifact.uri, artifact.file_name, place[1], f"{place[0]}/{place[1]}"}:
                continue
            try:
                self._find_object(*place)
            except ServiceError as error:
                raise not_found("ARTIFACT", artifact.uri) from error
            return {"preSignedUrl": self._presign(context.endpoint, place[0], place[1], _PRESIGNED_S)}
        raise not_found("ARTIFACT", wanted)

    def _create(self, request: Request) -> dict[str, Json]:
        text: bytes = request["inlineRecipe"]
        if len(text) > self._limits.recipe_bytes:
            message = f"the recipe has {len(text)} bytes; at most {self._limits.recipe_bytes} are taken"
            raise invalid("inlineRecipe", message)
        recipe = _read(text)
        if recipe.name in PROVIDED:
            raise invalid("inlineRecipe", f"{recipe.name} is a public component of AWS")
        key = f"{recipe.name}/{recipe.version}"
        existing = self._table.get(key)
        if existing is not None:
            raise conflict(
                f"Component [{recipe.name} : {recipe.version}] for account [{self._account}] already exists "
                f"with state: [{existing['state']}]",
                _KIND,
                f"{recipe.name}:{recipe.version}",
            )
        now = self._now()
        record = {
            "created": now,
            "state": "REQUESTED",
            "errors": {},
            "message": "NONE",
            "format": "JSON" if text.lstrip()[:1] == b"{" else "YAML",
            "recipe": base64.b64encode(text).decode(),
            "processed": write_json(recipe),
        }
        arn = self.arn(recipe.name, recipe.version)
        self._table.put(key, record)
        self._tags.put(arn, request.get("tags"))
        self._store.after_commit(lambda: self._schedule(lambda: self._process(key)))
        log.info("component %s %s registered", recipe.name, recipe.version)
        return {
            "arn": arn,
            "componentName": str(recipe.name),
            "componentVersion": str(recipe.version),
            "creationTimestamp": now,
            "status": _status(record),
        }

    def _process(self, key: str) -> None:
        """Find each artifact, note its digest in the recipe; the version is usable, or FAILED and says why."""
        record = self._table.get(key)
        if record is None or record["state"] != "REQUESTED":
            return
        recipe = _stored(record["processed"])
        errors: dict[str, str] = {}
        sizes: dict[str, int] = {}
        manifests = tuple(
            replace(
                manifest,
                artifacts=tuple(self._digested(artifact, errors, sizes) for artifact in manifest.artifacts),
            )
            for manifest in recipe.manifests
        )
        total = sum(sizes.values())
        if total > self._limits.artifacts_bytes:
            errors["artifacts"] = f"{total} bytes; a component version has at most {self._limits.artifacts_bytes}"
        if errors:
            record.update(state="FAILED", errors=errors, message="One or more artifacts cannot be used")
            log.warning("component %s: %s", key, "; ".join(f"{uri}: {reason}" for uri, reason in errors.items()))
        else:
            record.update(state="DEPLOYABLE", processed=write_json(replace(recipe, manifests=manifests)))
            log.info("component %s is deployable", key)
        self._table.put(key, record)

    def _digested(self, artifact: Artifact, errors: dict[str, str], sizes: dict[str, int]) -> Artifact:
        place = _s3_place(artifact.uri)
        if place is None:
            scheme = artifact.uri.partition(":")[0].lower()
            if scheme not in {"greengrass", "docker"}:
                errors[artifact.uri] = f"the scheme {scheme!r} is not supported; use s3"
            return artifact
        try:
            found = self._find_object(*place)
        except ServiceError as error:
            errors[artifact.uri] = f"{error.code}: {error.message}"
            return artifact
        sizes[artifact.uri] = found.size
        digest = base64.b64encode(bytes.fromhex(found.sha256)).decode()
        return replace(artifact, digest=digest, algorithm="SHA-256")

    def _version(self, arn: str) -> tuple[Recipe, Mapping[str, Json]]:
        """Return the recipe and the record of a version.

        Raises:
            ServiceError: ResourceNotFoundException.
        """
        name, version = self._parse(arn)
        if name is None or version is None:
            raise not_found(_KIND, arn)
        if self._is_public(arn):
            return self._public(arn, name, version)
        record = self._table.get(f"{name}/{version}")
        if record is None:
            raise not_found(_KIND, arn)
        return _stored(record["processed"]), record

    @staticmethod
    def _public(arn: str, name: str, version: str) -> tuple[Recipe, Mapping[str, Json]]:
        try:
            recipe = provided_recipe(ComponentName(name), [Requirement.parse(version)])
        except InvalidRequirement:
            recipe = None
        if recipe is None:
            raise not_found(_KIND, arn)
        return recipe, {"created": 0.0, "state": "DEPLOYABLE", "message": "NONE", "errors": {}, "format": "JSON"}

    def _parse(self, arn: str) -> tuple[str | None, str | None]:
        """Name and version in an ARN of this account and region (or of a public component)."""
        try:
            parts = Arn.parse(arn)
        except InvalidName:
            return None, None
        kind, _, rest = parts.resource.partition(":")
        if kind != "components" or parts.region != self._region or parts.account not in {self._account, PUBLIC}:
            return None, None
        name, _, version = rest.partition(":versions:")
        return name, version or None

    def _is_public(self, arn: str) -> bool:
        return arn.split(":")[4] == PUBLIC

    def _names(self) -> list[str]:
        return list(dict.fromkeys(key.partition("/")[0] for key in self._table.keys()))  # noqa: SIM118

    def _summary(self, name: str, account: str) -> dict[str, Json]:
        is_public = account == PUBLIC
        version = PROVIDED[ComponentName(name)].version if is_public else self.versions(name)[0]
        arn = str(component_version_arn(self._region, account, name, version))
        recipe, record = self._version(arn)
        latest = {
            "arn": arn,
            "componentVersion": str(version),
            "creationTimestamp": record["created"],
            "description": recipe.description,
            "publisher": recipe.publisher,
            "platforms": [_platform(manifest) for manifest in recipe.manifests],
        }
        return {
            "arn": str(component_arn(self._region, account, name)),
            "componentName": name,
            "latestVersion": latest,
        }

    def _page(
        self, entries: Iterator[tuple[str, dict[str, Json]]], request: Request
    ) -> tuple[list[dict[str, Json]], str | None]:
        limit = request.get("maxResults", self._limits.page)
        return page_of(entries, request.get("nextToken"), limit, error="ValidationException")


def _read(text: bytes) -> Recipe:
    """Read an uploaded recipe.

    Raises:
        ServiceError: ValidationException with every problem, its line and column.
    """
    reading = read_recipe(text, file="inlineRecipe")
    if reading.recipe is None:
        raise invalid_fields(
            [
                (problem.pointer or "inlineRecipe", problem.located("inlineRecipe"))
                for problem in reading.problems
                if problem.severity is Severity.ERROR
            ]
        )
    return reading.recipe


@lru_cache(maxsize=256)
def _stored(text: str) -> Recipe:
    """Return the recipe of a record; a fleet asks for the same few again and again."""
    return parse_recipe(text, file="recipe.json")


def _artifacts(recipe: Recipe) -> Iterator[Artifact]:
    for manifest in recipe.manifests:
        yield from manifest.artifacts


def _s3_place(uri: str) -> tuple[str, str] | None:
    """Bucket and key of an ``s3://`` URI; None for any other."""
    scheme, separator, rest = uri.partition("://")
    if scheme.lower() != "s3" or not separator:
        return None
    bucket, _, key = rest.partition("/")
    return bucket, key


def _status(record: Mapping[str, Json]) -> dict[str, Json]:
    return {"componentState": record["state"], "message": record["message"], "errors": record["errors"]}


def _platform(manifest: Manifest) -> dict[str, Json]:
    platform: dict[str, Json] = {"attributes": dict(manifest.platform)}
    if manifest.name:
        platform["name"] = manifest.name
    return platform
