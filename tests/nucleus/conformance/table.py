"""The table of conformance cases in docs/nucleus-conformance.md, made from the tests of this folder.

A test is named by its case (``test_case_28a_…``); its docstring says ``Given: …``, ``Expect: …`` and, where Monodon is
chosen to differ, ``Differs: …``. Print the page: ``python -m tests.nucleus.conformance.table``.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
#: The cases of the device notes, section 7.
NUMBERS = (*map(str, range(1, 61)), *(f"28{letter}" for letter in "abcd"))

_NAME = re.compile(r"test_case_0*(\d+[a-d]?)_(\w+)")
_BESIDE = re.compile(r"test_(rule|row|limit)_(\w+)")
_SAID = re.compile(r"^(Given|Expect|Differs): (.*?)(?=\n\n|\Z)", re.MULTILINE | re.DOTALL)
_HEAD = """\
# Conformance of the nucleus

What AWS's device does, case by case, and the test that shows Monodon doing the same: with real processes wherever a
case has one. Where Monodon is chosen to differ, the last column says how and why. Generated from the tests by
`python -m tests.nucleus.conformance.table`; a test keeps it fresh.

| case | given | expect | test | status | chosen to differ |
|---|---|---|---|---|---|
"""
_BESIDES = """
## Beside the cases

Rules of lifecycle and deployments that no case shows, and the rows and limits of the table of fleet status messages.
NETWORK_RECONFIGURE is not sent: another endpoint is read at a start of the nucleus, which tells NUCLEUS_LAUNCH.

| kind | what holds | tests |
|---|---|---|
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case and its test; ``open_reason`` is why it does not hold yet, empty when it does."""

    number: str
    given: str
    expect: str
    differs: str
    test: str
    open_reason: str


def cases() -> list[Case]:
    """Return the cases that tests of this folder are named by, in the order of their numbers."""
    found = [case for path in sorted(FOLDER.glob("test_*.py")) for case in _of(path)]
    return sorted(found, key=lambda case: (int(case.number.rstrip("abcd")), case.number))


def page() -> str:
    """Return docs/nucleus-conformance.md."""
    every = cases()
    rows = [
        f"| {case.number} | {_cell(case.given)} | {_cell(case.expect)} | `{case.test}` | "
        f"{'open: ' + _cell(case.open_reason) if case.open_reason else 'holds'} | {_cell(case.differs)} |"
        for case in every
    ]
    beside = [f"| {kind} | {told} | `{file}` |" for kind, told, file in _beside()]
    return _HEAD + "\n".join(rows) + f"\n\n{len(every)} cases.\n" + _BESIDES + "\n".join(beside) + "\n"


def _beside() -> Iterator[tuple[str, str, str]]:
    """The tests named by a rule, a row or a limit: which of them, in words, and their file."""
    for path in sorted(FOLDER.glob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (name := _BESIDE.fullmatch(node.name)):
                yield name[1], name[2].replace("_", " "), path.stem.removeprefix("test_")


def _of(path: Path) -> Iterator[Case]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or (name := _NAME.fullmatch(node.name)) is None:
            continue
        found = _SAID.findall(ast.get_docstring(node) or "")
        said = {key.lower(): " ".join(text.split()) for key, text in found}
        yield Case(
            number=name[1],
            given=said.get("given", ""),
            expect=said.get("expect", ""),
            differs=said.get("differs", ""),
            test=f"{path.stem.removeprefix('test_')}: {name[2].replace('_', ' ')}",
            open_reason=_open_reason(node),
        )


def _open_reason(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    for mark in node.decorator_list:
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.xfail":
            reasons = [one.value for one in mark.keywords if one.arg == "reason"]
            return str(ast.literal_eval(reasons[0])) if reasons else "expected to fail"
    return ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(page(), end="")
