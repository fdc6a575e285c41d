"""One component version becomes known to AWS: artifacts to S3, the recipe to Greengrass, until it is deployable.

A published version never changes: the same content again is skipped, other content is refused and the next free version
named.
"""

import base64
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from monodon.core.names import component_arn, component_version_arn
from monodon.core.recipe.model import MAX_PUBLISHED_BYTES, Artifact, Manifest, Recipe
from monodon.core.recipe.reading import parse_recipe
from monodon.core.recipe.writing import to_document, write_json
from monodon.core.semver import Version
from monodon.errors import PublishError

#: How long AWS may take to check a version; it usually takes seconds.
DEPLOYABLE_TIMEOUT_S = 120.0
#: Where the digest of an uploaded artifact stands among its S3 metadata.
DIGEST_KEY = "sha256"
_NO_BUCKET = "make the artifact bucket first: scripts/provision_fleet does"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactFile:
    """An artifact on this machine: the name it has on a device, its path, and its SHA-256 in hexadecimal."""

    name: str
    path: Path
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """What is to be published: a recipe, whose S3 URIs end in the names of ``files``."""

    recipe: Recipe
    files: tuple[ArtifactFile, ...] = ()

    @property
    def label(self) -> str:
        """Name and version, for people."""
        return f"{self.recipe.name} {self.recipe.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One step of publishing: ``step`` is unchanged, uploading, uploaded, registered or deployable."""

    package: str
    step: str
    detail: str = ""
    arn: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """Where to publish: boto3 clients of ``s3`` and ``greengrassv2``, and what names are made of."""

    s3: Any
    greengrass: Any
    bucket: str
    region: str
    account: str


def publish(
    package: Package,
    registry: Registry,
    *,
    timeout_s: float = DEPLOYABLE_TIMEOUT_S,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Progress]:
    """Publish a component version; each step is yielded as it is done.

    Raises:
        PublishError: another content is published under this version, an artifact is missing, AWS refuses the version
            or finds it not usable, or it is not deployable within ``timeout_s`` seconds.
    """
    try:
        yield from _publish(package, registry, timeout_s, clock)
    except ClientError as error:
        raise PublishError(f"{package.label}: {_reason(error)}", hint=_hint(error)) from error
    except Boto3Error as error:  # an upload's own way to fail
        raise PublishError(
            f"{package.label}: {error}", hint=_NO_BUCKET if "NoSuchBucket" in str(error) else None
        ) from error
    except (BotoCoreError, ResponseParserError) as error:
        raise PublishError(
            f"{package.label}: AWS cannot be reached: {error}", hint="is AWS_ENDPOINT_URL right?"
        ) from error


def _publish(package: Package, registry: Registry, timeout_s: float, clock: Callable[[], float]) -> Iterator[Progress]:
    recipe = located(package.recipe, registry.bucket)
    text = write_json(recipe)
    if len(text.encode()) > MAX_PUBLISHED_BYTES:
        size = len(text.encode())
        raise PublishError(f"{package.label}: the recipe has {size} bytes, and AWS takes {MAX_PUBLISHED_BYTES}")
    _check_files(package, recipe)
    arn = str(component_version_arn(registry.region, registry.account, recipe.name, recipe.version))
    is_ours = False
    if _published(registry, arn) is None:
        for file in package.files:
            yield from _upload(package, recipe, file, registry)
        if is_ours := _register(registry, text):
            yield Progress(package=package.label, step="registered", arn=arn)
    if not is_ours and registry.greengrass.describe_component(arn=arn)["status"]["componentState"] == "FAILED":
        raise PublishError(
            f"{package.label} was published before, and AWS found it not usable",
            hint=f"delete it and publish again: aws greengrassv2 delete-component --arn {arn}",
        )
    _wait_until_deployable(package, arn, registry, clock() + timeout_s, clock)
    # Only now AWS has said which bytes it found: another operator may have been at it at the same time.
    _check_same(package, recipe, _published(registry, arn), registry)
    if not is_ours:
        yield Progress(package=package.label, step="unchanged", arn=arn)
    yield Progress(package=package.label, step="deployable", arn=arn)


def _register(registry: Registry, text: str) -> bool:
    """Create the version; False: somebody else has done so since we looked."""
    try:
        registry.greengrass.create_component_version(inlineRecipe=text.encode())
    except ClientError as error:
        if error.response["Error"]["Code"] == "ConflictException":
            return False
        raise
    return True


def located(recipe: Recipe, bucket: str) -> Recipe:
    """Return the recipe with GDK's words in its artifact URIs (BUCKET_NAME, …) replaced by what they stand for."""
    words = {"BUCKET_NAME": bucket, "COMPONENT_NAME": str(recipe.name), "COMPONENT_VERSION": str(recipe.version)}

    def locate(artifact: Artifact) -> Artifact:
        scheme, separator, rest = artifact.uri.partition("://")
        parts = [words.get(part, part) for part in rest.split("/")]
        return replace(artifact, uri=f"{scheme}{separator}{'/'.join(parts)}")

    manifests = (
        replace(one, artifacts=tuple(locate(artifact) for artifact in one.artifacts)) for one in recipe.manifests
    )
    return replace(recipe, manifests=tuple(manifests))


def _check_files(package: Package, recipe: Recipe) -> None:
    """Every file must be named by an artifact; an artifact that is not among the files lies in S3 already."""
    named = {artifact.file_name for artifact in _artifacts(recipe)}
    for file in package.files:
        if file.name not in named:
            raise PublishError(f"{package.label}: no artifact of the recipe is named {file.name}")
        if not file.path.is_file():
            raise PublishError(f"{package.label}: the artifact {file.path} is missing", hint="build it first")


def _artifacts(recipe: Recipe) -> Iterator[Artifact]:
    for manifest in recipe.manifests:
        yield from manifest.artifacts


def _published(registry: Registry, arn: str) -> Recipe | None:
    try:
        answer = registry.greengrass.get_component(arn=arn, recipeOutputFormat="JSON")
    except ClientError as error:
        if error.response["Error"]["Code"] == "ResourceNotFoundException":
            return None
        raise
    return parse_recipe(answer["recipe"], file=f"{arn}.json")


def _check_same(package: Package, recipe: Recipe, published: Recipe | None, registry: Registry) -> None:
    """Refuse to go on if the published recipe or one of its artifacts differs from ours."""
    if published is None:
        raise PublishError(f"{package.label} was deleted while it was published", hint="publish it again")
    difference = None
    if to_document(_without_digests(recipe)) != to_document(_without_digests(published)):
        difference = "another recipe"
    digests = {artifact.file_name: artifact.digest for artifact in _artifacts(published) if artifact.digest}
    for file in package.files:
        ours = base64.b64encode(bytes.fromhex(file.sha256)).decode()
        if digests.get(file.name, ours) != ours:
            difference = f"another content of {file.name}"
    if difference:
        free = _next_free(recipe, registry)
        raise PublishError(
            f"{package.label} is published already, with {difference}",
            hint=f"a published version never changes; the next free one is {free}",
        )


def _without_digests(recipe: Recipe) -> Recipe:
    def plain(manifest: Manifest) -> Manifest:
        return replace(
            manifest, artifacts=tuple(replace(one, digest=None, algorithm=None) for one in manifest.artifacts)
        )

    return replace(recipe, manifests=tuple(plain(manifest) for manifest in recipe.manifests))


def _next_free(recipe: Recipe, registry: Registry) -> Version:
    arn = str(component_arn(registry.region, registry.account, recipe.name))
    pages = registry.greengrass.get_paginator("list_component_versions").paginate(arn=arn)
    newest = max(Version.parse(one["componentVersion"]) for page in pages for one in page["componentVersions"])
    return Version(newest.major, newest.minor, newest.patch + 1)


def _upload(package: Package, recipe: Recipe, file: ArtifactFile, registry: Registry) -> Iterator[Progress]:
    uri = next(artifact.uri for artifact in _artifacts(recipe) if artifact.file_name == file.name)
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    size = f"{file.name}, {file.path.stat().st_size / 1e6:.1f} MB"
    if _uploaded_digest(registry.s3, bucket, key) == file.sha256:
        yield Progress(package=package.label, step="uploaded", detail=f"{size} (was there)")
        return
    yield Progress(package=package.label, step="uploading", detail=size)
    registry.s3.upload_file(str(file.path), bucket, key, ExtraArgs={"Metadata": {DIGEST_KEY: file.sha256}})
    yield Progress(package=package.label, step="uploaded", detail=size)


def _uploaded_digest(s3: Any, bucket: str, key: str) -> str | None:
    try:
        metadata: Mapping[str, str] = s3.head_object(Bucket=bucket, Key=key)["Metadata"]
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] in (403, 404):  # 403: may not list, so not there
            return None
        raise
    return metadata.get(DIGEST_KEY)


def _wait_until_deployable(
    package: Package, arn: str, registry: Registry, deadline: float, clock: Callable[[], float]
) -> None:
    pause_s = 0.05
    while True:
        status = registry.greengrass.describe_component(arn=arn)["status"]
        if status["componentState"] == "DEPLOYABLE":
            return
        if status["componentState"] in ("FAILED", "DEPRECATED"):
            errors = "; ".join(f"{what}: {why}" for what, why in (status.get("errors") or {}).items())
            raise PublishError(f"{package.label} is {status['componentState']}: {errors or status.get('message')}")
        if clock() >= deadline:
            raise PublishError(
                f"{package.label} is still {status['componentState']}",
                hint=f"look later: describe-component --arn {arn}",
            )
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.6, 3.0)


def _reason(error: ClientError) -> str:
    found = error.response["Error"]
    return f"{error.operation_name} failed: {found['Code']}: {found['Message']}"


def _hint(error: ClientError) -> str | None:
    if error.response["Error"]["Code"] == "NoSuchBucket":
        return _NO_BUCKET
    fields = error.response.get("fields")
    return json.dumps(fields) if fields else None
