"""What a step runs with besides its script: its device, its environment, its account; and whether it is to be skipped.

All of it is read when the step is about to run, so that a definition put meanwhile concerns the next one alone.

Source: Greengrass nucleus, ``GenericExternalService.java``, ``ShellRunner.java``; rules E1 to E7 and L4 of our notes.
"""

import logging
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from monodon.core.plan import Installed, RunWith
from monodon.core.steps import Skipif, SkipifKind, Step, read_environment, read_step
from monodon.nucleus import orphans
from monodon.nucleus.accounts import account, is_own
from monodon.nucleus.limits import Limits
from monodon.nucleus.logs import Logs
from monodon.nucleus.process import Account

_LOG = logging.getLogger(__name__)

_SYSTEM_PATH = ("/bin", "/usr/bin", "/sbin", "/usr/sbin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What all components of one nucleus share.

    ``environment`` gives the variables that the nucleus has for a component, before its recipe's own.
    """

    root: Path
    environment: Callable[[Installed], Mapping[str, str]]
    logs: Logs
    limits: Limits
    default_user: str | None = None
    shell: str = "sh"
    default_limits: Callable[[], RunWith] = RunWith
    told: set[str] = field(default_factory=set)
    #: The real path of the root, once it was asked for.
    place: list[str] = field(default_factory=list)

    def mark(self, name: str) -> str:
        """The value of `orphans.MARK` for a component; with an empty name, the beginning of all of this root's.

        Two slashes, so that the mark of a device whose root lies inside this one begins otherwise.
        """
        if not self.place:
            self.place.append(str(self.root.resolve()))
        return f"{self.place[0]}//{name}"

    def tell_once(self, key: str, message: str) -> None:
        """Warn of something about this device that does not change."""
        if key not in self.told:
            self.told.add(key)
            _LOG.warning("%s", message)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyStep:
    """A step with everything it needs, whatever the definition becomes later. Without an account: as the nucleus."""

    step: Step
    environment: Mapping[str, str]
    account: Account | None


def ready_step(installed: Installed, device: Device, name: str, beside: Mapping[str, str]) -> ReadyStep | None:
    """Read a step of a component, with what it runs with; None where it is absent.

    Args:
        beside: variables beside the usual ones.

    Raises:
        ConfigurationError: the step cannot be used, or its user does not exist.
    """
    step = read_step(installed.lifecycle, name)
    if step is None:
        return None
    runs_as = _runs_as(installed, device, step)
    variables = _environment(installed, device, step, runs_as)
    return ReadyStep(step=step, environment=variables | dict(beside), account=runs_as)


def is_to_skip(ready: ReadyStep, installed: Installed, device: Device) -> bool:
    """Whether the step's Skipif says now that it is to be treated as absent."""
    skipif = ready.step.skipif
    if skipif is None:
        return False
    if skipif.kind is SkipifKind.ONPATH:
        found = shutil.which(skipif.argument, path=ready.environment["PATH"]) is not None
    else:
        found = _path(skipif, installed, device.root).exists()
    return found is not skipif.is_negated


def _path(skipif: Skipif, installed: Installed, root: Path) -> Path:
    for prefix, folder in (
        ("~root/", root),
        ("~config/", root / "config"),
        ("~packages/", root / "packages"),
        ("~/", _home()),
    ):
        if skipif.argument.startswith(prefix):
            return folder / skipif.argument.removeprefix(prefix)
    return root / "work" / installed.name / skipif.argument


def _home() -> Path:
    """The home of who runs the nucleus; a container's user may have none, neither in HOME nor in passwd."""
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")


def _environment(installed: Installed, device: Device, step: Step, runs_as: Account | None) -> dict[str, str]:
    """The variables of a step; later ones win: the nucleus's, the account's, the recipe's, the step's (rule E3)."""
    variables = dict(device.environment(installed))
    if "HOME" not in variables:
        variables["HOME"] = str(_home())
    path = [folder for folder in variables.get("PATH", "").split(":") if folder]
    variables["PATH"] = ":".join([*path, *(folder for folder in _SYSTEM_PATH if folder not in path)])
    if runs_as is not None:
        variables |= {"HOME": runs_as.home, "USER": runs_as.name, "LOGNAME": runs_as.name}
    variables |= read_environment(installed.lifecycle)
    return variables | dict(step.environment) | {orphans.MARK: device.mark(installed.name)}


def _runs_as(installed: Installed, device: Device, step: Step) -> Account | None:
    """As whom a step runs; None is the nucleus's own user (rule E7)."""
    name = installed.name
    wanted = installed.run_with.posix_user or device.default_user
    if os.geteuid() != 0:
        if wanted is not None and not is_own(wanted):
            device.tell_once(f"user {name}", f"{name} runs as the nucleus's own user, not as {wanted}")
        if step.requires_privilege:
            device.tell_once(f"root {name}", f"{name} asks for root, which this nucleus is not")
        return None
    if wanted is None:
        device.tell_once("root", "components without a posixUser run as root, as the nucleus does")
        return None
    return None if step.requires_privilege or account(wanted).uid == 0 else account(wanted)
