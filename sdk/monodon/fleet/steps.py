"""One step of provisioning: look, and make only what is missing."""

from collections.abc import Callable
from dataclasses import dataclass

from botocore.exceptions import ClientError

from monodon.fleet.aws import exists_already, is_missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing done or found: ``what`` it is, and whether it was ``made`` just now."""

    what: str
    made: bool


def ensure(what: str, look: Callable[[], object], make: Callable[[], object]) -> Step:
    """Look for something, and make it if it is missing; another operator may be faster.

    Raises:
        ClientError: AWS refuses a call for another reason.
    """
    try:
        look()
    except ClientError as error:
        if not is_missing(error):
            raise
    else:
        return Step(what=what, made=False)
    try:
        make()
    except ClientError as error:
        if not exists_already(error):
            raise
        return Step(what=what, made=False)
    return Step(what=what, made=True)
