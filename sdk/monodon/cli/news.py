"""News of several components as lines, each with its component's name in a colour of its own."""

import threading
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from monodon.dev.news import News

_COLOURS = ("cyan", "magenta", "green", "blue", "bright_cyan", "bright_magenta", "bright_green", "bright_blue")
_MARKS = {"said": "|", "state": "=", "note": "-", "problem": "!"}


class Printer:
    """Prints news: what components say and do on stdout, what went wrong on stderr."""

    def __init__(self) -> None:
        self._colours: dict[str, str] = {}
        self._width = 0
        self._lock = threading.Lock()

    def __call__(self, news: "News") -> None:
        """Print one piece; may be called from any thread."""
        with self._lock:
            colour = self._colours.setdefault(news.who, _COLOURS[len(self._colours) % len(_COLOURS)])
            self._width = max(self._width, len(news.who))
            head = click.style(f"{news.who:<{self._width}} {_MARKS[news.kind]} ", fg=colour)
            is_problem = news.kind == "problem"
            for line in news.text.splitlines() or [""]:
                text = click.style(line, **_style(news))  # type: ignore[arg-type]
                click.echo(head + text, err=is_problem)


def _style(news: "News") -> dict[str, object]:
    if news.kind == "problem":
        return {"fg": "red"}
    if news.is_error:
        return {"fg": "yellow"}
    return {"bold": True} if news.kind == "state" else {"dim": True} if news.kind == "note" else {}
