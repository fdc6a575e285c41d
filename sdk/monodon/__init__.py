"""Monodon: write a Greengrass component in Python, run it on a laptop, ship it to a fleet.

The names below are loaded on first use (PEP 562), so that ``import monodon`` costs nothing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monodon.component import Component
    from monodon.core.recipe.model import Recipe
    from monodon.errors import MonodonError

__version__ = "0.1.0"
__all__ = ["Component", "MonodonError", "Recipe", "__version__"]

_HOMES = {
    "Component": "monodon.component",
    "MonodonError": "monodon.errors",
    "Recipe": "monodon.core.recipe.model",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'monodon' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
