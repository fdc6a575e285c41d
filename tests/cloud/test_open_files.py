"""How many files a cloud may open, whatever its shell says."""

import subprocess
import sys

PROGRAM = """
import resource
from monodon.cloud.open_files import allow_open_files
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 300))
print(allow_open_files(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_the_limit_of_open_files_is_raised_as_far_as_the_system_allows() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split() == ["300", "300", "300"]
