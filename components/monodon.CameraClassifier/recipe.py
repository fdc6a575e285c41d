"""A camera classifier that keeps only matching frames."""

from monodon.authoring.recipes import artifact, load_main, may_publish, may_publish_to_iot, recipe, step
from monodon.component import default_configuration

SETTINGS = load_main(__file__).Settings
DEFAULTS = default_configuration(SETTINGS)

RUN = "{monodon.PythonRuntime:artifacts:decompressedPath}/runtime/run.py"
MAIN = "{artifacts:decompressedPath}/classifier/main.py"

RECIPES = (
    recipe(
        name="monodon.CameraClassifier",
        version="1.0.0",
        description="Watches a camera or clip and keeps only the frames that show what is wanted.",
        publisher="Monodon",
        configuration=DEFAULTS,
        grants=(
            may_publish(DEFAULTS["topic"], DEFAULTS["status_topic"]),
            may_publish_to_iot(DEFAULTS["iot_topic"], DEFAULTS["iot_status_topic"]),
        ),
        dependencies={"monodon.PythonRuntime": "^1.0.0", "monodon.Model.EfficientNetLite0": ">=1.0.0"},
        lifecycle={
            "Setenv": {
                "MODEL": "{monodon.Model.EfficientNetLite0:artifacts:decompressedPath}/model",
                # Read from the configuration by main.py; named here so that a change of one restarts the component.
                "SOURCE": "{configuration:/source}",
                "INTERVAL_S": "{configuration:/interval_s}",
                "KEEP_FOLDER": "{configuration:/keep_folder}",
            },
            # Not Run: a deployment shall succeed only when the classifier has seen a frame and says RUNNING.
            "Startup": step(f"exec python3 -I -u {RUN} {MAIN}", timeout_s=120),
        },
        artifacts=(artifact("classifier.zip"),),
    ),
)
