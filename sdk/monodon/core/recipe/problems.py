"""What is wrong with a recipe, and where."""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """``error``: refused or misread; ``warning``: works, surely not as meant; ``hint``: could be better."""

    ERROR = "error"
    WARNING = "warning"
    HINT = "hint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One finding; ``line`` and ``column`` count from 1, ``pointer`` is a JSON pointer with the file's spelling."""

    code: str
    severity: Severity
    message: str
    hint: str | None = None
    line: int = 1
    column: int = 1
    pointer: str = ""

    def located(self, file: str) -> str:
        """Return ``file:line:column: message``."""
        return f"{file}:{self.line}:{self.column}: {self.message}"
