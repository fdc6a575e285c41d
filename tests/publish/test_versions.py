"""Which versions a cloud has of a component: what ``monodon recipe check --cloud`` asks."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from monodon.core.semver import Version
from monodon.dev.lab import Lab
from monodon.errors import PublishError
from monodon.fleet import Aws, provision_account
from monodon.publish.versions import versions_of

pytestmark = pytest.mark.slow  # a cloud of its own

RECIPE = (
    "RecipeFormatVersion: '2020-01-25'\nComponentName: {name}\nComponentVersion: {version}\n"
    "ComponentDependencies: {dependencies}\nManifests: [{{}}]\n"
)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Aws, str]]:
    with Lab(tmp_path_factory.mktemp("lab")) as lab:
        server = lab.start_cloud()
        aws = lab.aws(server)
        list(provision_account(aws))
        for version in ("1.0.0", "1.2.0"):
            text = RECIPE.format(name="a.Model", version=version, dependencies="{}")
            aws.greengrass.create_component_version(inlineRecipe=text.encode())
        yield aws, server.ready["endpoint"]


def test_versions_are_the_accounts_own_and_aws_s(cloud: tuple[Aws, str]) -> None:
    aws, _ = cloud

    def versions(name: str) -> frozenset[Version]:
        return versions_of(name, aws.greengrass, region=aws.region, account=aws.account)

    assert versions("a.Model") == {Version(1, 0, 0), Version(1, 2, 0)}
    assert [version.major for version in versions("aws.greengrass.TokenExchangeService")] == [2]
    assert versions("a.Missing") == frozenset()


def test_a_cloud_that_is_away_is_one_clear_error() -> None:
    away = Aws(endpoint_url="http://127.0.0.1:1", region="eu-west-1")
    with pytest.raises(PublishError) as error:
        versions_of("a.Model", away.greengrass, region="eu-west-1", account="123456789012")
    assert "cannot be reached" in error.value.message


@pytest.mark.parametrize(
    ("dependencies", "code", "said"),
    [
        ("{a.Model: {VersionRequirement: ^1.1.0}}", 0, ""),
        ("{aws.greengrass.TokenExchangeService: {VersionRequirement: ^2.0.0}}", 0, ""),
        ("{a.Model: {VersionRequirement: ^2.0.0}}", 1, "hint: there are 1.0.0, 1.2.0"),
        ("{a.Missing: {VersionRequirement: '*'}}", 1, "hint: there is no a.Missing: publish it first"),
    ],
)
def test_a_check_asks_the_cloud(
    cloud: tuple[Aws, str], tmp_path: Path, dependencies: str, code: int, said: str
) -> None:
    """From a shell, where AWS_ENDPOINT_URL alone tells the embedded cloud from the real one."""
    aws, endpoint = cloud
    file = tmp_path / "recipe.yaml"
    file.write_text(RECIPE.format(name="a.Camera", version="1.0.0", dependencies=dependencies))
    keys = {"AWS_ACCESS_KEY_ID": "monodon", "AWS_SECRET_ACCESS_KEY": "local", "AWS_REGION": aws.region}
    done = subprocess.run(
        [sys.executable, "-m", "monodon", "recipe", "check", "--cloud", str(file)],
        env={**os.environ, **keys, "AWS_ENDPOINT_URL": endpoint},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert said in done.stdout
    assert ("R602" in done.stdout) == bool(code)
