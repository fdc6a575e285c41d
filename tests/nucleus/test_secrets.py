"""The secrets' files: encrypted, private, and labelled as AWS Secrets Manager labels."""

import stat
from pathlib import Path

import pytest

from monodon.errors import StateError
from monodon.nucleus.secrets import Secrets


def test_values_survive_and_are_not_readable_on_disk(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    made = Secrets(folder).put("camera/password", "sécret-value")
    assert made.arn.startswith("arn:aws:secretsmanager:local:000000000000:secret:camera/password-")
    again = Secrets(folder).find("camera/password")
    assert again == made
    assert Secrets(folder).find(made.arn) == made
    assert Secrets(folder).names() == ["camera/password"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "key").stat().st_mode) == 0o600
    for path in folder.iterdir():
        assert "sécret-value".encode() not in path.read_bytes()
        assert "camera" not in path.name


@pytest.mark.parametrize(
    "secret_id", ["", "other", "arn:aws:secretsmanager:local:000000000000:secret:a-XXXXXX", "arn:"]
)
def test_what_is_not_there_is_none(tmp_path: Path, secret_id: str) -> None:
    secrets = Secrets(tmp_path)
    assert secrets.find(secret_id) is None
    secrets.put("a", "x")
    assert secrets.find(secret_id) is None
    assert secrets.remove("a")
    assert not secrets.remove("a")


def test_labels_move(tmp_path: Path) -> None:
    """A new AWSCURRENT makes the former one AWSPREVIOUS; a version without a label is gone."""
    secrets = Secrets(tmp_path)
    for number in (1, 2, 3):
        secrets.put("s", f"value {number}", version_id=f"v{number}")
    secret = secrets.put("s", b"trial", version_id="v4", stages=("trial",))
    labels = {version_id: version.stages for version_id, version in secret.versions.items()}
    assert labels == {"v2": ("AWSPREVIOUS",), "v3": ("AWSCURRENT",), "v4": ("trial",)}
    assert secret.labelled("AWSCURRENT") == "v3"
    assert secret.labelled("none") is None
    secret = secrets.put("s", "five", version_id="v5", stages=("AWSCURRENT", "trial"))
    assert {key: version.stages for key, version in secret.versions.items()} == {
        "v3": ("AWSPREVIOUS",),
        "v5": ("AWSCURRENT", "trial"),
    }


def test_damage_is_named(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path)
    secrets.put("s", "x")
    (path,) = tmp_path.glob("*.secret")
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(StateError, match="damaged"):
        secrets.find("s")
    (tmp_path / "key").unlink()
    with pytest.raises(StateError, match="key"):
        secrets.find("s")


def test_versions_from_the_cloud_come_and_go_with_their_labels(tmp_path: Path) -> None:
    arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:camera-AbCdEf"
    secrets = Secrets(tmp_path)
    secrets.keep("camera", "one", arn=arn, version_id="v1", stages=("AWSCURRENT",))
    secrets.keep("camera", "two", arn=arn, version_id="v2", stages=("AWSCURRENT", "x"))
    secrets.keep("camera", "three", arn=arn, version_id="v3", stages=("next",))
    found = secrets.find(arn)
    assert found is not None
    assert {each: version.stages for each, version in found.versions.items()} == {
        "v2": ("AWSCURRENT", "x"),
        "v3": ("next",),
    }
    with pytest.raises(StateError, match="hides the cloud's"):
        secrets.keep("camera", "four", arn=arn + "2", version_id="v4", stages=("AWSCURRENT",))
    secrets.put("camera", "mine", version_id="v5", stages=("mine",))
    secrets.put("lamp", "own")
    secrets.retain(lambda each: {"next"} if each == arn else ())
    found = secrets.find(arn)
    assert found is not None
    assert set(found.versions) == {"v3", "v5"}
    secrets.retain(lambda each: ())
    assert secrets.names() == ["camera", "lamp"]
    secrets.remove("camera")
    secrets.keep("camera", "one", arn=arn, version_id="v1", stages=("AWSCURRENT",))
    secrets.retain(lambda each: ())
    assert secrets.names() == ["lamp"]
    assert "one" not in repr(found)
    assert "three" not in repr(found)
