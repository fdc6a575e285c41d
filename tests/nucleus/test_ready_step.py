"""What a step runs with."""

from pathlib import Path

import pytest
from tests.nucleus.bench import FOREVER, Bench

from monodon.core.lifecycle import State


@pytest.mark.parametrize(("home", "seen"), [(None, ""), ("~", "/")])
async def test_a_component_has_a_home(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, home: str | None, seen: str
) -> None:
    """Rule E4, also where the nucleus has no HOME; ``~`` is how Python says that there is none anywhere."""
    if home is None:
        monkeypatch.delenv("HOME", raising=False)
        seen = str(Path.home())
    else:
        monkeypatch.setenv("HOME", home)
    lifecycle = {
        "Install": {"Script": "exit 1", "Skipif": "exists ~root/logs"},
        "Run": f'echo "home $HOME"; {FOREVER}',
    }
    assert (await bench.run(lifecycle)).state is State.RUNNING
    await bench.said(f"stdout. home {seen}.")
