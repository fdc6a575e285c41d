"""The page about recipes: its commands work, and its table is the code's. Run as a script, it writes the table."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from monodon.core.recipe.checks import PAGES, RULES
from monodon.core.recipe.checks.rule import EVERYWHERE

PAGE = Path(__file__).parents[1] / "docs" / "recipes.md"
MARK = "<!-- made by tests/test_recipe_docs.py from the code: python tests/test_recipe_docs.py -->\n"


def table() -> str:
    """Return the table of all problems, as Markdown."""
    rows = [("code", "severity", "target", "what"), ("---",) * 4]
    for code, page in PAGES.items():
        rows.append((code, "", "all", page.partition("\n")[0]))
    for rule in RULES:
        targets = "all" if rule.targets == EVERYWHERE else ", ".join(sorted(rule.targets))
        rows.append((rule.code, str(rule.severity), targets, rule.page.partition("\n")[0]))
    head, body = rows[:2], sorted(rows[2:], key=lambda row: (row[0][0] != "R", row[0]))
    return "\n" + "".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in head + body
    )


def test_the_table_is_that_of_the_code() -> None:
    assert PAGE.read_text(encoding="utf-8").partition(MARK)[2] == table(), "run python tests/test_recipe_docs.py"


def test_the_tutorial_works(tmp_path: Path) -> None:
    """Its commands, one after the other, in an empty folder."""
    text = PAGE.read_text(encoding="utf-8")
    (recipe,) = re.findall(r"^```yaml\n# recipe.yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "recipe.yaml").write_text(recipe)
    commands = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    first, *others = [command.strip() for command in commands]
    environment = {**os.environ, "NO_COLOR": "1"}
    monodon = f'monodon() {{ {shlex.quote(sys.executable)} -m monodon "$@"; }}\n'

    def run(script: str) -> subprocess.CompletedProcess[str]:
        command = ["sh", "-euc", monodon + script]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    shown = run(first)
    assert shown.returncode == 1
    for line in re.findall(r"^    (recipe\.yaml:.*|    hint: .*)$", text, re.MULTILINE):
        assert line.strip() in shown.stdout
    done = run("\n".join(others))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "whom: sea" in done.stdout
    assert "hello/said" in done.stdout
    assert "exec python3" in (tmp_path / "recipe.yaml").read_text()


if __name__ == "__main__":
    before = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    PAGE.write_text(before + MARK + table(), encoding="utf-8")
