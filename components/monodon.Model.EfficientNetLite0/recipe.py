"""An image classifier: model, labels and manifest; no code, so no steps."""

from monodon.authoring.recipes import artifact, recipe
from monodon.core.recipe.model import Permission, Recipe

WHAT_IS_NEW = {
    "1.0.0": "1000 classes of ImageNet; nearest to a narwhal is grey whale.",
    "2.0.0": "Adds the class narwhal.",
}


def _version(version: str) -> Recipe:
    return recipe(
        name="monodon.Model.EfficientNetLite0",
        version=version,
        description=f"EfficientNet-Lite0, int8, 224 x 224. {WHAT_IS_NEW[version]}",
        publisher="Monodon",
        platform={},
        # Other components read it. Without a step no user ever owns it: on a device it stays root's.
        artifacts=(artifact("model.zip", read=Permission.ALL),),
    )


RECIPES = tuple(_version(version) for version in WHAT_IS_NEW)
