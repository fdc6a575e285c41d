"""Which device a command is about: decision 12."""

from pathlib import Path

import pytest

from monodon.cli.root import find_root
from monodon.errors import StateError


def test_the_option_comes_before_the_variable_and_that_before_the_only_device(tmp_path: Path) -> None:
    for name in ("given", "named", ".monodon/devices/only"):
        (tmp_path / name).mkdir(parents=True)
    environment = {"MONODON_ROOT": str(tmp_path / "named")}
    assert find_root(tmp_path / "given", environment, tmp_path) == tmp_path / "given"
    assert find_root(None, environment, tmp_path) == tmp_path / "named"
    assert find_root(None, {}, tmp_path) == tmp_path / ".monodon/devices/only"


def test_none_or_several_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="has none"):
        find_root(None, {}, tmp_path)
    for name in ("a", "b"):
        (tmp_path / ".monodon/devices" / name).mkdir(parents=True)
    with pytest.raises(StateError, match="has a, b"):
        find_root(None, {}, tmp_path)
    with pytest.raises(StateError, match="there is no device in"):
        find_root(tmp_path / "missing", {}, tmp_path)
