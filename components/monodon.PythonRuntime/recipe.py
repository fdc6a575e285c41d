"""An offline Python environment for components of this platform."""

import platform

from monodon.authoring.recipes import artifact, recipe, step
from monodon.core.recipe.model import Permission
from monodon.core.recipe.platform import platform_of

#: The tree fits the machine that builds it: its manifest names that platform, and its S3 key as well.
ARCHITECTURE = platform_of(platform.system(), platform.machine())["architecture"]
PLATFORM = {"os": "linux", "architecture": ARCHITECTURE}

RECIPES = (
    recipe(
        name="monodon.PythonRuntime",
        version="1.0.0",
        description="Python packages for components, unpacked and ready: AWS IoT SDK, numpy, OpenCV, LiteRT.",
        publisher="Monodon",
        platform=PLATFORM,
        lifecycle={
            "Install": step(
                "exec python3 -I {artifacts:decompressedPath}/runtime/install.py",
                timeout_s=60,
            ),
        },
        artifacts=(artifact("runtime.zip", read=Permission.ALL, folder=f"linux-{ARCHITECTURE}"),),
    ),
)
