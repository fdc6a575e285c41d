"""Reading documents of deployments: values by key without regard to case, each error with the place of its value."""

from collections.abc import Mapping
from enum import StrEnum
from math import isfinite, nan
from typing import TypeVar

from monodon.core.json import Json
from monodon.core.names import ComponentName
from monodon.core.semver import Requirement
from monodon.errors import DeploymentError, InvalidName, InvalidRequirement


def not_valid(message: str, *, hint: str | None = None) -> DeploymentError:
    """What a document is that cannot be understood; ``message`` begins with the key."""
    return DeploymentError(message, codes=("DEPLOYMENT_DOCUMENT_NOT_VALID",), hint=hint)


def read_name(text: str, where: str) -> ComponentName:
    """Return a component's name.

    Raises:
        DeploymentError: it is none.
    """
    try:
        return ComponentName.parse(text)
    except InvalidName as error:
        raise not_valid(f"{where}: {error.message}", hint=error.hint) from None


_Choice = TypeVar("_Choice", bound=StrEnum)


class Reader:
    """One JSON object of a document: values by key without regard to case, and where it is for messages."""

    def __init__(self, value: Json, where: str) -> None:
        if value is not None and not isinstance(value, Mapping):
            raise not_valid(f"{where.rstrip('.') or 'the deployment document'}: expected an object")
        self.value: Mapping[str, Json] = value or {}
        self.is_present = value is not None
        self.where = where
        self._keys = {key.lower(): item for key, item in self.value.items()}

    def get(self, key: str) -> Json:
        return self._keys.get(key.lower())

    def reader(self, key: str) -> "Reader":
        return Reader(self.get(key), f"{self.where}{key}.")

    def components(self, key: str) -> dict[ComponentName, "Reader"]:
        items = self.reader(key)
        return {read_name(text, f"{self.where}{key}"): Reader(item, f"{text}.") for text, item in items.value.items()}

    def versions(self) -> dict[ComponentName, str]:
        """``rootComponentVersionsToAdd``: names with a version or a range each."""
        key = "rootComponentVersionsToAdd"
        found = {read_name(text, key): str(item) for text, item in self.reader(key).value.items()}
        for name, requirement in found.items():
            try:
                Requirement.parse(requirement)
            except InvalidRequirement as error:
                raise not_valid(f"{key}.{name}: {error.message}", hint=error.hint) from None
        return found

    def text(self, key: str) -> str | None:
        value = self.get(key)
        if value is not None and not isinstance(value, str):
            raise not_valid(f"{self.where}{key}: expected text, not {value!r}"[:200])
        return value

    def required_text(self, key: str) -> str:
        value = self.text(key)
        if not value:
            raise not_valid(f"{self.where}{key} is missing")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.get(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise not_valid(f"{self.where}{key}: expected a list of texts")
        return tuple(value)

    def optional_number(self, key: str) -> float | None:
        value = self.get(key)
        if value is None:
            return None
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = nan
        if isinstance(value, bool) or not isfinite(number):
            raise not_valid(f"{self.where}{key}: expected a number, not {value!r}"[:200])
        return number

    def number(self, key: str, default: float = 0.0, *, required: bool = False) -> float:
        value = self.optional_number(key)
        if value is None and required:
            raise not_valid(f"{self.where}{key} is missing")
        return default if value is None else value

    def choice(self, key: str, default: _Choice) -> _Choice:
        value = self.text(key)
        if value is None:
            return default
        for choice in type(default):
            if choice.value == value.upper():
                return choice
        raise not_valid(f"{self.where}{key}: {value!r} is none of {', '.join(type(default))}")
