"""Rules about artifacts: what a device downloads, and who may read it."""

import re
from collections.abc import Iterator

from monodon.core.recipe.checks.dependencies import TOKEN_EXCHANGE
from monodon.core.recipe.checks.rule import DEVICE, ERROR, HINT, WARNING, Found, rule
from monodon.core.recipe.checks.subject import Subject
from monodon.core.recipe.model import Artifact, Permission, Recipe
from monodon.core.recipe.nodes import Entries, Node, Scalar, child

_DOCKER_MANAGER = "aws.greengrass.DockerApplicationManager"
_SCHEMES = ("s3", "greengrass", "docker")


def _text(node: Node | None) -> str:
    return node.text if isinstance(node, Scalar) and node.value is not None else ""


def _uris(subject: Subject) -> Iterator[tuple[Scalar, str, int, Entries]]:
    for artifact, pointer, index in subject.artifacts:
        uri = artifact.get("Uri")
        if isinstance(uri, Scalar) and uri.value is not None:
            yield uri, child(pointer, "Uri"), index, artifact


@rule("R701", ERROR)
def same_file_twice(subject: Subject) -> Iterator[Found]:
    """Two artifacts of a manifest have the same file name.

    On a device the name of a file is the last part of its URI: one overwrites the other.
    """
    seen: set[tuple[int, str]] = set()
    for uri, pointer, index, _ in _uris(subject):
        name = Artifact(uri=uri.text).file_name
        if uri.text.lower().startswith("docker:"):
            continue  # an image is no file
        if (index, name) in seen:
            yield Found(uri, pointer, f"a second artifact named {name}", "rename one of the files")
        seen.add((index, name))


@rule("R702", ERROR)
def same_folder_twice(subject: Subject) -> Iterator[Found]:
    """Two archives of a manifest are unpacked into the same folder.

    The folder is the file name without its last extension.
    """
    seen: dict[tuple[int, str], str] = {}
    for uri, pointer, index, artifact in _uris(subject):
        one = Artifact(uri=uri.text)
        key = (index, one.folder_name)
        if _text(artifact.get("Unarchive")).upper() != "ZIP":
            continue
        if seen.get(key, one.file_name) != one.file_name:
            message = f"{one.file_name} and {seen[key]} are unpacked into the same folder {one.folder_name}"
            yield Found(uri, pointer, message, "rename one of the files")
        seen.setdefault(key, one.file_name)


@rule("R703", ERROR)
def unknown_scheme(subject: Subject) -> Iterator[Found]:
    """An artifact's URI is neither s3, greengrass nor docker.

    Whether a device can download it is found out during the deployment.
    """
    for uri, pointer, _, _ in _uris(subject):
        scheme, colon, _ = uri.text.partition(":")
        if not colon or scheme.lower() not in _SCHEMES:
            said = f"{scheme}:" if colon else uri.text
            yield Found(uri, pointer, f"a device cannot download {said}", "upload it to S3, and write s3://bucket/key")


@rule("R704", ERROR)
def docker_without_its_manager(subject: Subject) -> Iterator[Found]:
    """A Docker image without the component that fetches it.

    The deployment fails with MISSING_DOCKER_APPLICATION_MANAGER.
    """
    for uri, pointer, _, _ in _uris(subject):
        if uri.text.lower().startswith("docker:") and _DOCKER_MANAGER not in subject.dependency_names:
            yield Found(uri, pointer, f"{uri.text} needs {_DOCKER_MANAGER}", "add it to ComponentDependencies")


@rule("R705", ERROR)
def private_image_without_credentials(subject: Subject) -> Iterator[Found]:
    """An image of a private registry of AWS, without the token exchange service."""
    for uri, pointer, _, _ in _uris(subject):
        if (
            re.search(r"\.dkr\.ecr\.[\w-]+\.amazonaws\.com", uri.text)
            and TOKEN_EXCHANGE not in subject.dependency_names
        ):
            yield Found(uri, pointer, f"a private image needs {TOKEN_EXCHANGE}", "add it to ComponentDependencies")


@rule("R706", WARNING)
def unpacks_what_is_no_zip(subject: Subject) -> Iterator[Found]:
    """Unarchive ZIP for a file that is no zip by its name.

    A device unpacks zip alone: a tar archive fails the deployment.
    """
    for uri, pointer, _, artifact in _uris(subject):
        name = Artifact(uri=uri.text).file_name.lower()
        if _text(artifact.get("Unarchive")).upper() == "ZIP" and not name.endswith((".zip", ".jar", ".whl", ".egg")):
            yield Found(uri, pointer, f"{name} is unpacked as a zip", "make it a .zip, or leave Unarchive out")


@rule("R707", WARNING, DEVICE)
def digest_without_algorithm(subject: Subject) -> Iterator[Found]:
    """An artifact has a Digest and no Algorithm.

    A device fails with RECIPE_MISSING_ARTIFACT_HASH_ALGORITHM. AWS sets both when the version is created.
    """
    for uri, pointer, _, artifact in _uris(subject):
        if _text(artifact.get("Digest")) and not _text(artifact.get("Algorithm")):
            yield Found(uri, pointer, "Digest without Algorithm", "leave both out: AWS sets them")


@rule("R708", ERROR)
def others_cannot_read_it(subject: Subject) -> Iterator[Found]:
    """Another component reads an artifact that root alone may read.

    A component without any step has no user: its artifacts stay root's, mode 0400, unless Read is ALL.
    """
    yield from _unreadable(subject, has_steps=False)


@rule("R711", WARNING)
def others_may_not_read_it(subject: Subject) -> Iterator[Found]:
    """Another component reads an artifact that only its owner's user may read.

    It works while both components run as the same user, and fails as soon as ``runWith`` gives one of them its own.
    """
    yield from _unreadable(subject, has_steps=True)


def _unreadable(subject: Subject, *, has_steps: bool) -> Iterator[Found]:
    """Yield the private artifacts that are read from elsewhere, of components with steps or of those without."""
    for component, readers in _readers(subject).items():
        if component == subject.name and bool(subject.steps) == has_steps:
            yield from _own_unreadable(subject, readers)
        elif component in subject.dependency_names:
            known = subject.neighbours.get(component, ())
            private = [recipe for recipe in known if _is_private(recipe) and _has_steps(recipe) == has_steps]
            if private:
                yield _unreadable_dependency(subject, private[-1])


def _readers(subject: Subject) -> dict[str, list[str]]:
    """Return whose artifacts are read by whom: ours by neighbours, and neighbours' by us."""
    found: dict[str, list[str]] = {}
    for variable in subject.variables:
        if variable.component and variable.namespace == "artifacts":
            found.setdefault(variable.component, []).append(subject.name)
    for recipes in subject.neighbours.values():
        for recipe in recipes:
            if f"{{{subject.name}:artifacts:" in str([recipe.lifecycle, *(m.lifecycle for m in recipe.manifests)]):
                found.setdefault(subject.name, []).append(recipe.name)
    return found


def _own_unreadable(subject: Subject, readers: list[str]) -> Iterator[Found]:
    hint = "write Permission: {Read: ALL}"
    for artifact, pointer, _ in subject.artifacts:
        permission = artifact.get("Permission")
        allowed = [permission.get(key) for key in ("Read", "Execute")] if isinstance(permission, Entries) else []
        if not any(_text(node).upper() == "ALL" for node in allowed):
            whose = "its user" if subject.steps else "root alone"
            message = f"{readers[0]} reads this artifact, and on a device only {whose} may"
            yield Found(artifact, pointer, message, hint)


def _unreadable_dependency(subject: Subject, recipe: Recipe) -> Found:
    node, pointer = next((name, at) for name, _, at in subject.dependencies if name.text == recipe.name)
    whom = "only its user" if _has_steps(recipe) else "only root"
    message = f"{whom} may read the artifacts of {recipe.name} {recipe.version} that are used here"
    return Found(node, pointer, message, f"write Permission: {{Read: ALL}} in the recipe of {recipe.name}")


def _has_steps(recipe: Recipe) -> bool:
    return bool(recipe.lifecycle) or any(manifest.lifecycle for manifest in recipe.manifests)


def _is_private(recipe: Recipe) -> bool:
    artifacts = [artifact for manifest in recipe.manifests for artifact in manifest.artifacts]
    return any(artifact.readable_by is not Permission.ALL for artifact in artifacts)


@rule("R709", HINT)
def archive_that_stays_packed(subject: Subject) -> Iterator[Found]:
    """A .zip is not unpacked, though a script looks for its folder.

    Only ``Unarchive: ZIP`` unpacks it.
    """
    scripts = " ".join(script.text for _, script in subject.scripts)
    for uri, pointer, _, artifact in _uris(subject):
        one = Artifact(uri=uri.text)
        is_zip = one.file_name.endswith(".zip") and _text(artifact.get("Unarchive")).upper() != "ZIP"
        if is_zip and f"/{one.folder_name}/" in scripts and "unzip" not in scripts:
            yield Found(uri, pointer, f"{one.file_name} is not unpacked", "set Unarchive: ZIP")


@rule("R710", WARNING)
def program_that_may_not_be_executed(subject: Subject) -> Iterator[Found]:
    """A script executes a file that has no permission for it.

    Files come without mode bits: Execute is NONE by default, and the shell says "Permission denied".
    """
    for step, script in subject.scripts:
        for match in re.finditer(r"(?:^|exec\s+|[;&]\s*)\{artifacts:path\}/([\w.-]+)", script.text, re.MULTILINE):
            for uri, _, _, artifact in _uris(subject):
                permission = artifact.get("Permission")
                execute = _text(permission.get("Execute")).upper() if isinstance(permission, Entries) else ""
                if Artifact(uri=uri.text).file_name == match[1] and execute in ("", "NONE"):
                    hint = "write Permission: {Execute: OWNER}, or start it through its interpreter"
                    yield Found(script, step.pointer, f"{match[1]} may not be executed", hint, match[1])
