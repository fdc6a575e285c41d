"""What the tests of monodon.ml look at: the real models, photographs and clips of this checkout."""

from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
MODELS = CHECKOUT / "components/monodon.Model.EfficientNetLite0"


@pytest.fixture
def photos() -> Path:
    return CHECKOUT / "tests/data/photos"


@pytest.fixture
def dive() -> Path:
    return CHECKOUT / "tests/data/clips/dive_720p.mp4"


@pytest.fixture
def model_v1() -> Path:
    return MODELS / "1.0.0"


@pytest.fixture
def model_v2() -> Path:
    return MODELS / "2.0.0"
