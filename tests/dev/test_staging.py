"""Component folders of every kind, staged in AWS's layout; and which files were saved."""

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest

from monodon.core.names import ComponentName
from monodon.core.recipe.reading import parse_recipe
from monodon.dev.staging import Staged, discover, stage
from monodon.dev.watching import Watch
from monodon.errors import PublishError, RecipeError

LINUX = {"os": "linux", "architecture": "amd64"}


def recipe(name: str, version: str = "1.0.0", *uris: str, needs: tuple[str, ...] = (), **artifact: Any) -> str:
    return json.dumps(
        {
            "RecipeFormatVersion": "2020-01-25",
            "ComponentName": name,
            "ComponentVersion": version,
            "ComponentDependencies": {other: {"VersionRequirement": "^1.0.0"} for other in needs},
            "Manifests": [
                {"Platform": {"os": "windows"}, "Artifacts": [{"Uri": "s3://b/only-on-windows.exe"}]},
                {"Platform": {"os": "linux"}, "Artifacts": [{"Uri": uri, **artifact} for uri in uris]},
            ],
        }
    )


def write(folder: Path, text: str, **files: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "recipe.json").write_text(text)
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_text(content)
    return folder


def staged(folder: Path, into: Path, name: str) -> Staged:
    return stage(discover([folder])[ComponentName(name)], into, platform=LINUX, cache=into / "cache")


def test_files_that_lie_in_the_folder_are_taken_as_they_are_and_lose_their_digests(tmp_path: Path) -> None:
    text = recipe("com.example.A", "1.0.0", "s3://b/x/hello.py", Digest="old", Algorithm="SHA-256")
    folder = write(tmp_path / "com.example.A", text, hello_py="print()")
    one = staged(folder, tmp_path / "stage", "com.example.A")
    assert list(one.files) == ["hello.py"]
    assert (tmp_path / "stage/artifacts/com.example.A/1.0.0/hello.py").read_text() == "print()"
    read = parse_recipe((tmp_path / "stage/recipes/com.example.A.yaml").read_text(), file="recipe.yaml")
    assert [artifact.digest for artifact in read.manifests[1].artifacts] == [None]


def test_a_zip_is_the_folder_with_monodon_for_a_main_py(tmp_path: Path) -> None:
    text = recipe("com.example.A", "1.0.0", "s3://BUCKET_NAME/COMPONENT_NAME/COMPONENT_VERSION/a.zip", Unarchive="ZIP")
    staged(write(tmp_path / "com.example.A", text, main_py="print()"), tmp_path / "stage", "com.example.A")
    with zipfile.ZipFile(tmp_path / "stage/artifacts/com.example.A/1.0.0/a.zip") as archive:
        assert {"main.py", "monodon/component/__init__.py"} <= set(archive.namelist())


@pytest.mark.parametrize("uri", ["s3://mine/b.zip", "s3://BUCKET_NAME/COMPONENT_NAME/COMPONENT_VERSION/b.zip"])
def test_any_other_zip_is_the_folder_alone(tmp_path: Path, uri: str) -> None:
    text = recipe("com.example.B", "1.0.0", uri, Unarchive="ZIP")
    staged(write(tmp_path / "com.example.B", text, run_sh="true"), tmp_path / "stage", "com.example.B")
    with zipfile.ZipFile(tmp_path / "stage/artifacts/com.example.B/1.0.0/b.zip") as archive:
        assert archive.namelist() == ["run.sh"]


def test_aws_layout_is_found_and_the_highest_version_counts(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    for version in ("1.0.0", "1.2.0"):
        text = recipe("com.example.A", version, "s3://b/hello.py")
        (tmp_path / f"recipes/com.example.A-{version}.json").write_text(text)
        (tmp_path / f"artifacts/com.example.A/{version}").mkdir(parents=True)
        (tmp_path / f"artifacts/com.example.A/{version}/hello.py").write_text(version)
    one = staged(tmp_path, tmp_path / "stage", "com.example.A")
    assert one.version == "1.2.0"
    assert (tmp_path / "stage/artifacts/com.example.A/1.2.0/hello.py").read_text() == "1.2.0"


def test_dependencies_beside_a_folder_are_taken_along(tmp_path: Path) -> None:
    for name, needs in (("A", ("B", "aws.greengrass.Nucleus")), ("B", ("C",)), ("C", ("A",)), ("D", ())):
        other = tuple(one if "." in one else f"com.example.{one}" for one in needs)
        write(tmp_path / f"com.example.{name}", recipe(f"com.example.{name}", needs=other))
    assert sorted(discover([tmp_path / "com.example.A"])) == ["com.example.A", "com.example.B", "com.example.C"]


def test_what_cannot_be_run_is_refused_with_where_it_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecipeError, match="no component in"):
        discover([tmp_path / "empty"])
    folder = write(tmp_path / "com.example.A", recipe("com.example.A", "1.0.0", "s3://b/hello.py"))
    with pytest.raises(PublishError, match=r"nothing makes s3://b/hello\.py") as refused:
        staged(folder, tmp_path / "stage", "com.example.A")
    assert str(folder / "hello.py") in str(refused.value.hint)


def test_differences_are_told_in_words(tmp_path: Path) -> None:
    before = Staged(version="1.0.0", recipe="a", files={"x": "1"})
    assert before.differences(None) == ("it is new",)
    assert before.differences(before) == ()
    after = Staged(version="1.0.0", recipe="b", files={"x": "2"})
    assert after.differences(before) == ("its recipe has changed", "x has other bytes: it is installed again")
    assert Staged(version="1.1.0", recipe="b").differences(before) == ("it is 1.1.0 now",)


def test_saved_new_and_removed_files_are_seen_and_hidden_ones_are_not(tmp_path: Path) -> None:
    for name in ("a", "b", ".hidden", "__pycache__/x.pyc"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")
    watch = Watch([tmp_path])
    assert watch.saved() == ()
    (tmp_path / "new").write_text("1")
    (tmp_path / "a").unlink()
    (tmp_path / ".hidden").write_text("22")
    (tmp_path / "__pycache__/x.pyc").write_text("22")
    os.utime(tmp_path / "b", ns=(1, 1))
    assert watch.saved() == (tmp_path / "a", tmp_path / "b", tmp_path / "new")
    assert watch.saved() == ()
    (tmp_path / "renamed").write_text("1")
    os.utime(tmp_path / "renamed", ns=(1, 1))
    (tmp_path / "renamed").rename(tmp_path / "b")
    assert watch.saved() == (tmp_path / "b",)


def test_nothing_is_missed_when_more_is_watched(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("1")
    watch = Watch([tmp_path / "one"])
    (tmp_path / "one/file").write_text("22")
    (tmp_path / "two/file").write_text("22")
    watch.add([tmp_path / "one", tmp_path / "two"])
    assert watch.saved() == (tmp_path / "one/file",)
    (tmp_path / "two/file").unlink()
    assert watch.saved() == (tmp_path / "two/file",)
