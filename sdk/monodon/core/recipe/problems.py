"""What is wrong with a recipe, and where."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

#: More problems than anybody reads; the rest is counted.
MAX_PROBLEMS = 100


class Severity(StrEnum):
    """``error``: refused or misread; ``warning``: works, surely not as meant; ``hint``: could be better."""

    ERROR = "error"
    WARNING = "warning"
    HINT = "hint"


class Fix(NamedTuple):
    """A safe change of the text: ``old``, which stands at ``line`` and ``column``, becomes ``new``."""

    line: int
    column: int
    old: str
    new: str


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
    fix: Fix | None = None

    def located(self, file: str) -> str:
        """Return ``file:line:column: message``."""
        return f"{file}:{self.line}:{self.column}: {self.message}"


class Problems:
    """Collects what a reader finds, up to a limit."""

    def __init__(self) -> None:
        self.found: list[Problem] = []
        self.left_out = 0
        self.left_out_errors = 0

    def add(
        self,
        code: str,
        message: str,
        at: tuple[int, int] = (1, 1),
        *,
        hint: str | None = None,
        pointer: str = "",
        severity: Severity = Severity.ERROR,
    ) -> None:
        """Keep a problem, or count it when there are too many; ``at`` is line and column."""
        if self.is_full:
            self.left_out += 1
            self.left_out_errors += severity is Severity.ERROR
            return
        line, column = at
        self.found.append(
            Problem(code=code, severity=severity, message=message, hint=hint, line=line, column=column, pointer=pointer)
        )

    @property
    def is_full(self) -> bool:
        """Tell whether more problems are only counted: no need to think of a good hint."""
        return len(self.found) >= MAX_PROBLEMS

    def has(self, code: str) -> bool:
        """Tell whether a problem of this code was found."""
        return any(problem.code == code for problem in self.found)

    @property
    def has_errors(self) -> bool:
        """Tell whether something was found that makes the recipe unusable."""
        return any(problem.severity is Severity.ERROR for problem in self.found) or self.left_out_errors > 0

    def all(self) -> tuple[Problem, ...]:
        """Return everything in order of the text, with a last line for what was left out."""
        ordered = sorted(self.found, key=lambda problem: (problem.line, problem.column))
        if self.left_out:
            severity = Severity.ERROR if self.left_out_errors else Severity.WARNING
            last = Problem(code="R010", severity=severity, message=f"and {self.left_out} more problems")
            return (*ordered, last)
        return tuple(ordered)


def closest(word: str, known: Collection[str], *, cutoff: float = 0.6) -> str | None:
    """Return the known word that is most like ``word``, if any is as like as ``cutoff`` (0 to 1)."""
    from difflib import get_close_matches  # needed only when something is wrong

    return next(iter(get_close_matches(word, known, n=1, cutoff=cutoff)), None)


class UnreadableError(Exception):
    """The text is no tree at all; carries what ``Problems.add`` takes. Stays inside the reader."""

    def __init__(self, code: str, message: str, at: tuple[int, int] = (1, 1), *, hint: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.at, self.hint = code, message, at, hint
