"""The type of a decoded JSON value, as recipes, configurations and messages hold them."""

from typing import Any, TypeAlias

#: None, bool, int, float, str, list[Json] or dict[str, Json]. ``Any``, since mypy's recursive aliases
#: would ask for a cast at every look inside free-form documents.
Json: TypeAlias = Any
