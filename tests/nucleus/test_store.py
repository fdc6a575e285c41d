"""The store: what is brought is checked, unpacked safely, put in place whole, given its modes, and cleaned away."""

import asyncio
import base64
import errno
import hashlib
import io
import os
import shutil
import stat
import threading
import zipfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from monodon.core.names import ComponentName
from monodon.core.recipe.model import Artifact, Manifest, Permission, Recipe, Unarchive
from monodon.core.semver import Version
from monodon.errors import DeploymentError, NetworkError
from monodon.nucleus import disk
from monodon.nucleus.artifacts import MIN_FREE_BYTES, Retry
from monodon.nucleus.store import Store

NAME = ComponentName("com.example.Camera")
VERSION = Version(1, 0, 0)
AT_ONCE = Retry(first_s=0, most_s=0, digests=10)
IS_ROOT = os.geteuid() == 0

Download = Callable[[str, str | None, Path, int], Awaitable[None]]


def digest(content: bytes) -> str:
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


def artifact(content: bytes, uri: str = "s3://bucket/some/file.bin", **members: object) -> Artifact:
    return replace(Artifact(uri=uri, digest=digest(content), algorithm="SHA-256"), **members)  # type: ignore[arg-type]


def recipe(*artifacts: Artifact, version: Version = VERSION) -> tuple[Recipe, Manifest]:
    manifest = Manifest(artifacts=artifacts)
    return Recipe(name=NAME, version=version, manifests=(manifest,)), manifest


def zipped(entries: Mapping[str, bytes | str], *, links: Mapping[str, str] = {}) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
        for name, target in links.items():
            entry = zipfile.ZipInfo(name)
            entry.create_system = 3
            entry.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(entry, target)
    return buffer.getvalue()


class Objects:
    """What a cloud has, by URI; ``breaks`` ends a transfer after so many bytes, that many times."""

    def __init__(self, objects: Mapping[str, bytes], *, breaks: list[int] | None = None) -> None:
        self.objects = dict(objects)
        self.breaks = breaks or []
        self.asked: list[tuple[str, int]] = []

    async def download(self, uri: str, arn: str | None, destination: Path, offset: int) -> None:
        self.asked.append((uri, offset))
        content = self.objects[uri][offset:]
        broken = bool(self.breaks)
        if broken:
            content = content[: self.breaks.pop(0)]
        with destination.open("ab") as sink:
            sink.write(content)
        if broken:
            raise NetworkError("the connection broke")


async def fetched(store: Store, one: Artifact, content: bytes) -> Path:
    component, manifest = recipe(one)
    await store.fetch(component, manifest, Objects({one.uri: content}).download)
    return store.artifacts_path(NAME, VERSION) / one.file_name


async def test_an_artifact_is_brought_once(tmp_path: Path) -> None:
    """Rules A1 and A2."""
    store, cloud = Store(tmp_path), Objects({"s3://bucket/some/file.bin": b"content"})
    component, manifest = recipe(artifact(b"content"))
    assert await store.fetch(component, manifest, cloud.download)
    path = store.artifacts_path(NAME, VERSION) / "file.bin"
    assert path.read_bytes() == b"content"
    assert path == tmp_path / "packages/artifacts/com.example.Camera/1.0.0/file.bin"
    assert not await store.fetch(component, manifest, cloud.download)
    assert not await Store(tmp_path).fetch(component, manifest, cloud.download)
    assert len(cloud.asked) == 1


async def test_a_file_that_no_longer_matches_its_digest_is_brought_again(tmp_path: Path) -> None:
    store, cloud = Store(tmp_path), Objects({"s3://bucket/some/file.bin": b"content"})
    component, manifest = recipe(artifact(b"content"))
    await store.fetch(component, manifest, cloud.download)
    path = store.artifacts_path(NAME, VERSION) / "file.bin"
    path.chmod(0o600)
    path.write_bytes(b"c0ntent")
    assert await store.fetch(component, manifest, cloud.download)
    assert path.read_bytes() == b"content"


async def test_a_file_without_a_digest_is_taken_as_it_is(tmp_path: Path) -> None:
    """Rule A2: local recipes have none; if the file is absent the device does try the URI."""
    store, cloud = Store(tmp_path), Objects({"s3://bucket/some/file.bin": b"remote"})
    component, manifest = recipe(Artifact(uri="s3://bucket/some/file.bin"))
    path = store.artifacts_path(NAME, VERSION) / "file.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"local")
    assert not await store.fetch(component, manifest, cloud.download)
    assert path.read_bytes() == b"local"
    path.unlink()
    assert await store.fetch(component, manifest, cloud.download)
    assert path.read_bytes() == b"remote"


async def test_a_broken_transfer_goes_on_from_where_it_was(tmp_path: Path) -> None:
    """Rule A3: resume by byte range."""
    cloud = Objects({"s3://bucket/some/file.bin": b"0123456789"}, breaks=[4, 0, 3])
    component, manifest = recipe(artifact(b"0123456789"))
    await Store(tmp_path, retry=AT_ONCE).fetch(component, manifest, cloud.download)
    assert [offset for _, offset in cloud.asked] == [0, 4, 4, 7]


async def test_what_a_killed_nucleus_left_of_a_transfer_is_used(tmp_path: Path) -> None:
    cloud = Objects({"s3://bucket/some/file.bin": b"0123456789"}, breaks=[6])
    component, manifest = recipe(artifact(b"0123456789"))

    async def killed(uri: str, arn: str | None, destination: Path, offset: int) -> None:
        with pytest.raises(NetworkError):
            await cloud.download(uri, arn, destination, offset)
        raise DeploymentError("the nucleus was killed here")

    with pytest.raises(DeploymentError):
        await Store(tmp_path).fetch(component, manifest, killed)
    assert not (Store(tmp_path).artifacts_path(NAME, VERSION) / "file.bin").exists()
    await Store(tmp_path).fetch(component, manifest, cloud.download)
    assert [offset for _, offset in cloud.asked] == [0, 6]


async def test_wrong_bytes_are_refused_and_never_get_the_name(tmp_path: Path) -> None:
    """Rule A3: ARTIFACT_CHECKSUM_MISMATCH; the same wrong bytes twice end the tries."""
    cloud = Objects({"s3://bucket/some/file.bin": b"other"})
    component, manifest = recipe(artifact(b"content"))
    store = Store(tmp_path, retry=AT_ONCE)
    with pytest.raises(DeploymentError, match="is not what was published") as caught:
        await store.fetch(component, manifest, cloud.download)
    assert caught.value.codes == ("ARTIFACT_CHECKSUM_MISMATCH",)
    assert len(cloud.asked) == 2
    assert list(store.artifacts_path(NAME, VERSION).iterdir()) == []


async def test_damage_on_the_way_is_tried_again(tmp_path: Path) -> None:
    contents = [b"c1ntent", b"c2ntent", b"content"]

    async def download(uri: str, arn: str | None, destination: Path, offset: int) -> None:
        destination.write_bytes(contents.pop(0))

    component, manifest = recipe(artifact(b"content"))
    await Store(tmp_path, retry=AT_ONCE).fetch(component, manifest, download)
    assert not contents


@pytest.mark.parametrize(
    ("one", "code"),
    [
        (artifact(b"", algorithm=None), "RECIPE_MISSING_ARTIFACT_HASH_ALGORITHM"),
        (artifact(b"", algorithm="ROT-13"), "RECIPE_MISSING_ARTIFACT_HASH_ALGORITHM"),
        (artifact(b"", uri="https://example.com/file.bin"), "UNSUPPORTED_ARTIFACT_SCHEME"),
        (artifact(b"", uri="docker:public.ecr.aws/x:1"), "MISSING_DOCKER_APPLICATION_MANAGER"),
        (artifact(b"", uri="file.bin"), "EMPTY_ARTIFACT_SCHEME"),
        (artifact(b"", uri="s3://bucket/folder/.."), "UNSUPPORTED_ARTIFACT_SCHEME"),
        (artifact(b"", uri="s3://bucket/a%2Fb"), "UNSUPPORTED_ARTIFACT_SCHEME"),
    ],
)
async def test_artifacts_that_cannot_be_had(tmp_path: Path, one: Artifact, code: str) -> None:
    component, manifest = recipe(one)
    with pytest.raises(DeploymentError) as caught:
        await Store(tmp_path).fetch(component, manifest, Objects({one.uri: b""}).download)
    assert caught.value.codes == (code,)


async def test_two_artifacts_of_one_name_are_refused(tmp_path: Path) -> None:
    """Rule A1."""
    component, manifest = recipe(artifact(b"", uri="s3://a/x"), artifact(b"", uri="s3://b/x"))
    with pytest.raises(DeploymentError, match="several artifacts named x"):
        await Store(tmp_path).fetch(component, manifest, Objects({}).download)


async def test_several_are_brought_side_by_side(tmp_path: Path) -> None:
    met = asyncio.Barrier(2)

    async def download(uri: str, arn: str | None, destination: Path, offset: int) -> None:
        async with asyncio.timeout(10):
            await met.wait()
        destination.write_bytes(b"x")

    component, manifest = recipe(artifact(b"x", uri="s3://b/one"), artifact(b"x", uri="s3://b/two"))
    assert await Store(tmp_path).fetch(component, manifest, download)


async def test_a_full_disk_is_said_so(tmp_path: Path) -> None:
    """Rule A4: 20 MiB must be free; ENOSPC on the way is DISK_SPACE_CRITICAL too."""
    component, manifest = recipe(artifact(b"content"))
    cloud = Objects({"s3://bucket/some/file.bin": b"content"})
    little = Store(tmp_path / "little", free_bytes=lambda path: MIN_FREE_BYTES - 1)
    with pytest.raises(DeploymentError) as before:
        await little.fetch(component, manifest, cloud.download)
    assert before.value.codes == ("DISK_SPACE_CRITICAL",)
    assert cloud.asked == []

    async def full(uri: str, arn: str | None, destination: Path, offset: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(DeploymentError, match="No space left") as during:
        await Store(tmp_path / "full").fetch(component, manifest, full)
    assert during.value.codes == ("DISK_SPACE_CRITICAL",)
    small = Store(tmp_path / "small", max_bytes=3)
    with pytest.raises(DeploymentError, match="3 are allowed"):
        await small.fetch(component, manifest, cloud.download)
        component, manifest = recipe(artifact(b"content", uri="s3://bucket/some/other.bin"))
        await small.fetch(component, manifest, Objects({"s3://bucket/some/other.bin": b"content"}).download)


@pytest.mark.parametrize(
    ("read", "execute", "bits"),
    [
        (Permission.OWNER, Permission.NONE, 0o400),
        (Permission.ALL, Permission.NONE, 0o444),
        (Permission.NONE, Permission.NONE, 0o000),
        (Permission.OWNER, Permission.OWNER, 0o500),
        (Permission.OWNER, Permission.ALL, 0o555),
        (Permission.NONE, Permission.ALL, 0o555),
        (Permission.ALL, Permission.OWNER, 0o544),
    ],
)
async def test_modes_are_those_of_the_recipe(tmp_path: Path, read: Permission, execute: Permission, bits: int) -> None:
    """Rule A6: files as the recipe says, folders 0755; a nucleus that is not root keeps reading and writing."""
    content = zipped({"a/tool": "x"})
    one = artifact(content, uri="s3://b/tools.zip", unarchive=Unarchive.ZIP, read=read, execute=execute)
    store = Store(tmp_path)
    path = await fetched(store, one, content)
    expected = bits if IS_ROOT else bits | 0o600
    tool = store.unarchived_path(NAME, VERSION) / "tools/a/tool"
    assert stat.S_IMODE(path.stat().st_mode) == expected
    assert stat.S_IMODE(tool.stat().st_mode) == expected
    for folder in (tool.parent, tool.parent.parent, path.parent, path.parent.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o755


async def test_a_zip_is_unpacked_under_its_stem_and_only_once(tmp_path: Path) -> None:
    """Rule A5."""
    content = zipped({"main.py": "print()", "lib/x.py": "", "empty/": ""})
    one = artifact(content, uri="s3://b/my.tools.zip", unarchive=Unarchive.ZIP)
    component, manifest = recipe(one)
    store, cloud = Store(tmp_path), Objects({one.uri: content})
    assert await store.fetch(component, manifest, cloud.download)
    folder = store.unarchived_path(NAME, VERSION) / "my.tools"
    assert folder == tmp_path / "packages/artifacts-unarchived/com.example.Camera/1.0.0/my.tools"
    assert (folder / "main.py").read_text() == "print()"
    assert (folder / "empty").is_dir()
    inode = folder.stat().st_ino
    assert not await store.fetch(component, manifest, cloud.download)
    assert not await Store(tmp_path).fetch(component, manifest, cloud.download)
    assert folder.stat().st_ino == inode


async def test_what_is_missing_of_an_unpacked_zip_is_restored(tmp_path: Path) -> None:
    content = zipped({"main.py": "print()"})
    one = artifact(content, uri="s3://b/tools.zip", unarchive=Unarchive.ZIP)
    component, manifest = recipe(one)
    await Store(tmp_path).fetch(component, manifest, Objects({one.uri: content}).download)
    main = Store(tmp_path).unarchived_path(NAME, VERSION) / "tools/main.py"
    main.unlink()
    assert await Store(tmp_path).fetch(component, manifest, Objects({}).download)
    assert main.read_text() == "print()"


@pytest.mark.parametrize(
    ("entries", "links", "said"),
    [
        ({"../evil": "x"}, {}, r"outside its folder: '../evil'"),
        ({"a/../../evil": "x"}, {}, "outside its folder"),
        ({"/etc/evil": "x"}, {}, "outside its folder"),
        ({}, {"link": "/etc/passwd"}, "symbolic link out of its folder: 'link' -> '/etc/passwd'"),
        ({}, {"a/link": "../../x"}, "symbolic link out of its folder"),
        ({}, {"link": "y" * 5000}, "symbolic link of 5000 bytes"),
        ({"a": "x", "a/b": "y"}, {}, "has a file where it has a folder too"),
    ],
)
async def test_an_unsafe_zip_is_refused_in_one_clear_line(
    tmp_path: Path, entries: dict[str, bytes | str], links: dict[str, str], said: str
) -> None:
    content = zipped(entries, links=links)
    one = artifact(content, uri="s3://b/bad.zip", unarchive=Unarchive.ZIP)
    store = Store(tmp_path / "root")
    with pytest.raises(DeploymentError, match=said) as caught:
        await fetched(store, one, content)
    assert caught.value.codes == ("IO_UNZIP_ERROR",)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*evil*"))
    folder = store.unarchived_path(NAME, VERSION)
    assert not folder.exists() or not list(folder.iterdir())


async def test_a_link_inside_becomes_a_text_file(tmp_path: Path) -> None:
    """Mode bits of the zip are ignored, as on AWS's device."""
    content = zipped({"lib/real.so": "x"}, links={"lib/link.so": "real.so", "up": "lib/../lib/real.so"})
    one = artifact(content, uri="s3://b/t.zip", unarchive=Unarchive.ZIP)
    store = Store(tmp_path)
    await fetched(store, one, content)
    link = store.unarchived_path(NAME, VERSION) / "t/lib/link.so"
    assert not link.is_symlink()
    assert link.read_text() == "real.so"


@pytest.mark.parametrize("content", [b"", b"no zip", zipped({"a": "x" * 100})[:60]], ids=["empty", "text", "cut short"])
async def test_a_damaged_zip_is_refused(tmp_path: Path, content: bytes) -> None:
    one = artifact(content, uri="s3://b/t.zip", unarchive=Unarchive.ZIP)
    with pytest.raises(DeploymentError, match="is not a usable zip"):
        await fetched(Store(tmp_path), one, content)


async def test_a_zip_whose_bytes_are_damaged_inside_is_refused(tmp_path: Path) -> None:
    content = zipped({"a": b"x" * 100})
    content = content.replace(b"xxxx", b"xyxx", 1)
    one = artifact(content, uri="s3://b/t.zip", unarchive=Unarchive.ZIP)
    with pytest.raises(DeploymentError, match="CRC"):
        await fetched(Store(tmp_path), one, content)


async def test_a_zip_that_would_fill_the_disk_is_refused_before_it_does(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(10_000_000))
    content = buffer.getvalue()
    one = artifact(content, uri="s3://b/bomb.zip", unarchive=Unarchive.ZIP)
    store = Store(tmp_path, max_bytes=1_000_000)
    with pytest.raises(DeploymentError, match="10000000 bytes unpacked") as caught:
        await fetched(store, one, content)
    assert caught.value.codes == ("DISK_SPACE_CRITICAL",)


async def test_a_kill_leaves_nothing_half_done_that_is_trusted(tmp_path: Path) -> None:
    content = zipped({"main.py": "print()"})
    one = artifact(content, uri="s3://b/t.zip", unarchive=Unarchive.ZIP)
    component, manifest = recipe(one)
    seen: list[str] = []
    await Store(tmp_path / "all", at=seen.append).fetch(component, manifest, Objects({one.uri: content}).download)
    assert seen

    class KilledError(Exception):
        pass

    for number in range(len(seen)):
        root = tmp_path / str(number)
        count = iter(range(len(seen)))

        def die(point: str, count: object = count, number: int = number) -> None:
            if next(count) == number:  # type: ignore[call-overload]
                raise KilledError

        with pytest.raises(KilledError):
            await Store(root, at=die).fetch(component, manifest, Objects({one.uri: content}).download)
        store = Store(root)
        await store.fetch(component, manifest, Objects({one.uri: content}).download)
        assert (store.artifacts_path(NAME, VERSION) / "t.zip").read_bytes() == content
        assert (store.unarchived_path(NAME, VERSION) / "t/main.py").read_text() == "print()"
        await store.clean([(NAME, VERSION)])
        names = {path.name for path in store.unarchived_path(NAME, VERSION).iterdir()}
        assert names == {"t", ".t.source"}


async def test_recipes_are_kept_as_the_device_keeps_them(tmp_path: Path) -> None:
    """Section 4: URL-safe base64 of the name's SHA-256, the version, .recipe.yaml; the ARN beside it."""
    store = Store(tmp_path)
    component, _ = recipe(artifact(b"x"))
    arn = "arn:aws:greengrass:eu-west-1:1:components:com.example.Camera:versions:1.0.0"
    store.put_recipe(component, arn)
    hashed = base64.urlsafe_b64encode(hashlib.sha256(NAME.encode()).digest()).decode().rstrip("=")
    assert (tmp_path / f"packages/recipes/{hashed}@1.0.0.recipe.yaml").is_file()
    assert (tmp_path / f"packages/recipes/{hashed}@1.0.0.metadata.json").is_file()
    assert stat.S_IMODE((tmp_path / "packages/recipes").stat().st_mode) == 0o700
    again = Store(tmp_path)
    assert again.recipe(NAME, VERSION) == component
    assert again.arn(NAME, VERSION) == arn
    assert again.versions(NAME) == (VERSION,)
    assert again.recipe(NAME, Version(2, 0, 0)) is None
    again.put_recipe(component)
    assert again.arn(NAME, VERSION) is None


async def test_a_damaged_recipe_is_said_so_and_can_be_replaced(tmp_path: Path) -> None:
    store = Store(tmp_path)
    component, _ = recipe(artifact(b"x"))
    store.put_recipe(component)
    path = next((tmp_path / "packages/recipes").iterdir())
    path.write_text("ComponentName: [")
    with pytest.raises(DeploymentError) as caught:
        store.recipe(NAME, VERSION)
    assert caught.value.codes == ("LOCAL_RECIPE_CORRUPTED",)
    store.put_recipe(component)
    assert store.recipe(NAME, VERSION) == component


RECIPE = """
RecipeFormatVersion: "2020-01-25"
ComponentName: com.example.Camera
ComponentVersion: 1.0.0
Manifests:
  - Lifecycle: {Run: "true"}
"""


async def test_local_files_are_copied_over_what_is_here(tmp_path: Path) -> None:
    """Section 5.2, rule 4."""
    recipes, artifacts = tmp_path / "recipes", tmp_path / "artifacts"
    (recipes / "deep").mkdir(parents=True)
    (recipes / "deep/camera.YAML").write_text(RECIPE)
    (recipes / "readme.txt").write_text("no recipe")
    (recipes / "empty.yaml").write_text("")
    file = artifacts / NAME / "1.0.0/lib/tool.py"
    file.parent.mkdir(parents=True)
    file.write_text("one")
    store = Store(tmp_path / "root")
    assert store.copy_local(recipes, artifacts) == ((NAME, VERSION),)
    assert store.copy_local(recipes, artifacts) == ()
    file.write_text("two")
    assert store.copy_local(recipes, artifacts) == ((NAME, VERSION),)
    assert (store.artifacts_path(NAME, VERSION) / "lib/tool.py").read_text() == "two"
    assert store.recipe(NAME, VERSION) is not None


async def test_a_wrong_local_recipe_or_folder_fails(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/bad.yaml").write_text(RECIPE.replace("1.0.0", "one"))
    store = Store(tmp_path / "root")
    with pytest.raises(DeploymentError, match=r"bad\.yaml:\d+:\d+") as caught:
        store.copy_local(tmp_path / "recipes", None)
    assert caught.value.codes == ("RECIPE_PARSE_ERROR",)
    with pytest.raises(DeploymentError, match="own store"):
        store.copy_local(None, tmp_path)


async def test_cleaning_keeps_what_is_named_and_the_work_folder(tmp_path: Path) -> None:
    """Rule F3."""
    store = Store(tmp_path)
    content = zipped({"main.py": "x"})
    one = artifact(content, uri="s3://b/t.zip", unarchive=Unarchive.ZIP)
    versions = [Version(number, 0, 0) for number in (1, 2, 3)]
    for version in versions:
        component, manifest = recipe(one, version=version)
        store.put_recipe(component, f"arn:{version}")
        await store.fetch(component, manifest, Objects({one.uri: content}).download)
    store.work_path(NAME).mkdir(parents=True)
    await store.clean([(NAME, versions[1]), (NAME, versions[2])])
    assert store.versions(NAME) == (versions[1], versions[2])
    assert [version for version in versions if store.artifacts_path(NAME, version).exists()] == versions[1:]
    assert [version for version in versions if store.unarchived_path(NAME, version).exists()] == versions[1:]
    assert store.work_path(NAME).is_dir()
    await store.clean([])
    assert not list((tmp_path / "packages/artifacts").iterdir())
    assert store.versions(NAME) == ()
    assert not list((tmp_path / "packages/recipes").iterdir())


async def test_cleaning_leaves_recipes_without_artifacts(tmp_path: Path) -> None:
    """Rule F3 goes over the store of artifacts: what has none can be deployed later without being given again."""
    store = Store(tmp_path)
    component, _ = recipe(version=Version(1, 0, 0))
    store.put_recipe(component)
    await store.clean([])
    assert store.versions(NAME) == (Version(1, 0, 0),)


def test_the_size_of_a_folder_in_which_others_move_files_is_found(tmp_path: Path) -> None:
    """Components are downloaded side by side, and each measures the store of all of them."""
    (tmp_path / "kept").write_bytes(bytes(10))
    is_over = threading.Event()

    def move() -> None:
        while not is_over.is_set():
            (tmp_path / "folder").mkdir()
            part = tmp_path / "folder" / ".part"
            part.touch()
            part.rename(tmp_path / "folder" / "whole")
            shutil.rmtree(tmp_path / "folder")

    moving = threading.Thread(target=move)
    moving.start()
    try:
        assert {disk.bytes_below(tmp_path) for _ in range(2000)} == {10}
    finally:
        is_over.set()
        moving.join()
