"""Plans on a terminal: nothing is cut off."""

import re

import pytest

from monodon.cli.fleet_drawing import Line, draw


def test_long_lines_wrap_in_a_tree_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    words = [f"word{number}" for number in range(30)]
    draw([Line(0, " ".join(words)), Line(1, " ".join(words)), Line(2, " ".join(words))])
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) < 60  # escape sequences included
    assert sorted(re.findall(r"word\d+", shown)) == sorted(words * 3)
