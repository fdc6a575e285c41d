"""Publishing against the embedded cloud: what is the same is skipped, what differs is refused, nothing is half done."""

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from monodon.authoring.recipes import artifact, recipe
from monodon.core.recipe.model import Recipe
from monodon.core.semver import Version
from monodon.dev.lab import Lab
from monodon.errors import PublishError
from monodon.fleet import Aws, provision_account
from monodon.publish import ArtifactFile, Package, Registry, publish

pytestmark = pytest.mark.slow  # a cloud of its own


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    with Lab(tmp_path_factory.mktemp("lab")) as lab:
        aws = lab.aws(lab.start_cloud())
        list(provision_account(aws))
        yield aws


@pytest.fixture
def registry(aws: Aws) -> Registry:
    return Registry(s3=aws.s3, greengrass=aws.greengrass, bucket=aws.bucket, region=aws.region, account=aws.account)


def hello(name: str, version: str = "1.0.0") -> Recipe:
    return recipe(name=name, version=version, lifecycle={"Run": "sleep 60"}, artifacts=(artifact("hello.zip"),))


def package(of: Recipe, folder: Path, content: bytes = b"one") -> Package:
    path = folder / "hello.zip"
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    return Package(recipe=of, files=(ArtifactFile(name="hello.zip", path=path, sha256=digest),))


def steps(package: Package, registry: Registry) -> list[str]:
    return [progress.step for progress in publish(package, registry)]


def test_a_version_is_uploaded_registered_and_deployable(aws: Aws, registry: Registry, tmp_path: Path) -> None:
    done = list(publish(package(hello("a.New"), tmp_path), registry))
    assert [progress.step for progress in done] == ["uploading", "uploaded", "registered", "deployable"]
    assert done[-1].arn == f"arn:aws:greengrass:{aws.region}:{aws.account}:components:a.New:versions:1.0.0"
    stored = aws.s3.get_object(Bucket=aws.bucket, Key="a.New/1.0.0/hello.zip")
    assert stored["Body"].read() == b"one"
    text = aws.greengrass.get_component(arn=done[-1].arn, recipeOutputFormat="JSON")["recipe"].decode()
    assert base64.b64encode(hashlib.sha256(b"one").digest()).decode() in text
    assert f"s3://{aws.bucket}/a.New/1.0.0/hello.zip" in text


def test_the_same_again_is_skipped(registry: Registry, tmp_path: Path) -> None:
    assert "registered" in steps(package(hello("a.Same"), tmp_path), registry)
    assert steps(package(hello("a.Same"), tmp_path), registry) == ["unchanged", "deployable"]


def test_other_bytes_under_the_same_version_are_refused_and_the_free_version_named(
    aws: Aws, registry: Registry, tmp_path: Path
) -> None:
    for version in ("1.0.0", "1.4.2"):
        steps(package(hello("a.Other", version), tmp_path), registry)
    with pytest.raises(
        PublishError, match="a.Other 1.0.0 is published already, with another content of hello.zip"
    ) as no:
        steps(package(hello("a.Other"), tmp_path, b"two"), registry)
    assert "the next free one is 1.4.3" in str(no.value.hint)
    assert aws.s3.get_object(Bucket=aws.bucket, Key="a.Other/1.0.0/hello.zip")["Body"].read() == b"one"


def test_another_recipe_under_the_same_version_is_refused(registry: Registry, tmp_path: Path) -> None:
    steps(package(hello("a.Recipe"), tmp_path), registry)
    with pytest.raises(PublishError, match="is published already, with another recipe"):
        steps(package(replace(hello("a.Recipe"), description="new"), tmp_path), registry)


def test_an_interrupted_upload_is_taken_up_again(registry: Registry, tmp_path: Path) -> None:
    started = publish(package(hello("a.Cut"), tmp_path), registry)
    assert [next(started).step, next(started).step] == ["uploading", "uploaded"]
    started.close()  # killed before it was registered
    assert steps(package(hello("a.Cut"), tmp_path), registry) == ["uploaded", "registered", "deployable"]


def test_another_operator_who_was_faster_with_the_same_is_no_trouble(registry: Registry, tmp_path: Path) -> None:
    slow = publish(package(hello("a.Race"), tmp_path), registry)
    assert [next(slow).step, next(slow).step] == ["uploading", "uploaded"]
    steps(package(hello("a.Race"), tmp_path), registry)
    assert [progress.step for progress in slow] == ["unchanged", "deployable"]


def test_another_operator_with_other_bytes_is_noticed(registry: Registry, tmp_path: Path) -> None:
    """Both have looked, then both upload: what AWS registered is told from what was meant."""
    (tmp_path / "other").mkdir()
    slow = publish(package(hello("a.Clash"), tmp_path), registry)
    assert [next(slow).step, next(slow).step] == ["uploading", "uploaded"]
    assert "registered" in steps(package(hello("a.Clash"), tmp_path / "other", b"two"), registry)
    with pytest.raises(PublishError, match=r"published already, with another content of hello.zip"):
        list(slow)


def test_an_artifact_that_is_not_there_fails_before_anything_is_uploaded(registry: Registry, tmp_path: Path) -> None:
    lost = package(hello("a.Lost"), tmp_path)
    lost.files[0].path.unlink()
    with pytest.raises(PublishError, match=r"a.Lost 1.0.0: the artifact .*hello\.zip is missing"):
        steps(lost, registry)
    with pytest.raises(PublishError, match="no artifact of the recipe is named other.zip"):
        steps(replace(lost, files=(replace(lost.files[0], name="other.zip"),)), registry)


def test_a_version_that_aws_finds_unusable_says_why(registry: Registry) -> None:
    foreign = replace(hello("a.Foreign"), version=Version.parse("2.0.0"))
    with pytest.raises(PublishError, match=r"a.Foreign 2.0.0 is FAILED: s3://.*hello.zip") as caught:
        steps(Package(recipe=foreign), registry)
    assert "a.Foreign/2.0.0/hello.zip" in str(caught.value)
    with pytest.raises(PublishError, match="was published before, and AWS found it not usable") as again:
        steps(Package(recipe=foreign), registry)
    assert "delete-component" in str(again.value.hint)


def test_a_missing_bucket_says_what_makes_it(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(PublishError, match="NoSuchBucket") as caught:
        steps(package(hello("a.Bucket"), tmp_path), replace(registry, bucket="no-such-bucket"))
    assert "provision_fleet" in str(caught.value.hint)


def test_a_recipe_beyond_awss_limit_is_refused_at_once(registry: Registry, tmp_path: Path) -> None:
    large = replace(hello("a.Large"), description="x" * 17_000)
    with pytest.raises(PublishError, match=r"the recipe has 17\d\d\d bytes, and AWS takes 16384"):
        steps(package(large, tmp_path), registry)


def test_an_aws_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    away = Aws(endpoint_url="http://127.0.0.1:9", region="us-east-1")
    registry = Registry(s3=away.s3, greengrass=away.greengrass, bucket="b", region="us-east-1", account="123456789012")
    with pytest.raises(PublishError, match="AWS cannot be reached"):
        steps(package(hello("a.Away"), tmp_path), registry)
