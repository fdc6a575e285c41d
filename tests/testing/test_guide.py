"""The example of docs/testing.md, run as somebody who copied it would."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import monodon

GUIDE = Path(__file__).parents[2] / "docs/testing.md"


@pytest.mark.slow
def test_the_example_of_the_guide_passes(tmp_path: Path) -> None:
    main, tests = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "main.py").write_text(main)
    (tmp_path / "test_main.py").write_text(tests)
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\nasyncio_default_fixture_loop_scope = function\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(monodon.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
