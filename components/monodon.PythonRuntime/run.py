"""Start a component's main.py with the packages of this runtime: ``exec python3 -I -u …/run.py …/main.py [arguments]``.

Needs no environment variable: processes of a core device start through sudo, which drops PYTHONPATH. Runs on the
device's own Python, so the standard library is all that it imports.
"""

import runpy
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Put main.py's folder and the packages first on the path, and run main.py."""
    if len(sys.argv) < 2:
        sys.exit("usage: python3 -I -u run.py main.py [arguments]")
    program = Path(sys.argv[1]).resolve()
    if not program.is_file():
        sys.exit(f"{program} is missing")
    reason = _misfit()
    if reason:
        sys.exit(reason)
    sys.path[:1] = [str(program.parent), str(HERE / "tree")]
    sys.argv[:] = [str(program), *sys.argv[2:]]
    runpy.run_path(str(program), run_name="__main__")


def _misfit() -> str:
    """Ask install.py, again: the device's Python may have been upgraded since. Leaves no bytecode beside it."""
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(HERE))
    from install import misfit

    sys.dont_write_bytecode = False
    return misfit(HERE)


if __name__ == "__main__":
    main()
