"""How a command ends: exit codes, and what stands on which stream."""

import signal
from collections.abc import Callable, Iterator

import click
import pytest

from monodon.cli import NOUNS, monodon, run
from monodon.errors import FleetError


@pytest.fixture(autouse=True)
def _sigterm_as_before() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def done() -> None:
    """Return."""


def asked(code: int) -> Callable[[], None]:
    def end() -> None:
        click.get_current_context().exit(code)

    return end


def failed() -> None:
    raise FleetError("two devices failed", hint="look at floor-3")


def misused() -> None:
    raise click.UsageError("no such group")


def aborted() -> None:
    raise click.Abort


@pytest.mark.parametrize(
    ("work", "code", "stderr"),
    [
        (done, 0, ""),
        (asked(0), 0, ""),
        (asked(2), 2, ""),
        (failed, 1, "error: two devices failed\nhint: look at floor-3\n"),
        (misused, 2, "no such group"),
        (aborted, 130, ""),
    ],
)
def test_how_a_command_ends(
    work: Callable[[], None], code: int, stderr: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(click.Command("monodon", callback=work), [])
    assert ended.value.code == code
    assert stderr in capsys.readouterr().err


@pytest.mark.parametrize("noun", NOUNS)
def test_every_noun_is_there(noun: str) -> None:
    command = monodon.get_command(click.Context(monodon), noun)
    assert command is not None
    assert command.help
