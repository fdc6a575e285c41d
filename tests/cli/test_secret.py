"""`monodon secret` on a device's folder, as a person and as a script use it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from monodon.cli import monodon
from monodon.errors import StateError
from monodon.nucleus.secrets import SECRETS_FOLDER, Secrets


def run(root: Path, *arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(monodon, ["secret", *arguments, "--root", str(root)], input=stdin, catch_exceptions=False)


def test_a_secret_is_put_listed_and_removed_and_its_value_never_shown(tmp_path: Path) -> None:
    first = run(tmp_path, "put", "camera", "--file", "-", "--version", "v1", stdin=b"hunter2\n")
    second = run(tmp_path, "put", "camera", "--file", "-", "--version", "v2", "--binary", stdin=b"\xff\n")
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert first.output == second.output
    secret = Secrets(tmp_path / SECRETS_FOLDER).find("camera")
    assert secret is not None
    assert first.output == secret.arn + "\n"
    assert {key: version.value for key, version in secret.versions.items()} == {"v1": "hunter2", "v2": b"\xff\n"}
    listed = run(tmp_path, "list").output
    assert listed == f"camera  {secret.arn}\n  v1  AWSPREVIOUS  text\n  v2  AWSCURRENT  binary\n"
    document = json.loads(run(tmp_path, "list", "--json").output)
    assert document["versions"][0] == {"versionId": "v1", "labels": ["AWSPREVIOUS"], "kind": "text"}
    assert run(tmp_path, "remove", "camera").exit_code == 0
    assert run(tmp_path, "list").output == ""
    with pytest.raises(StateError, match="no secret camera"):
        run(tmp_path, "remove", "camera")


def test_labels_and_the_arn_are_those_given(tmp_path: Path) -> None:
    arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:db-AbCdEf"
    file = tmp_path / "value"
    file.write_text("x")
    put = run(tmp_path, "put", "db", "--file", str(file), "--label", "a", "--label", "b", "--arn", arn)
    assert put.output == arn + "\n"
    secret = Secrets(tmp_path / SECRETS_FOLDER).find(arn)
    assert secret is not None
    assert [version.stages for version in secret.versions.values()] == [("a", "b")]


def test_a_value_that_cannot_be_had_is_refused(tmp_path: Path) -> None:
    """A value on the command line would stay in the shell's history, so there is no such option."""
    assert run(tmp_path, "put", "x").exit_code == 2
    with pytest.raises(StateError, match="not UTF-8"):
        run(tmp_path, "put", "x", "--file", "-", stdin=b"\xff")
