"""``monodon deployment``: local deployments to a device, with the flags that users of greengrass-cli know."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from monodon.cli.root import on_device, root_option
from monodon.errors import StateError

if TYPE_CHECKING:
    from monodon.core.json import Json
    from monodon.device.device import Device
    from monodon.device.following import Component, Progress

_POLICY = click.Choice(["ROLLBACK", "DO_NOTHING"], case_sensitive=False)


@click.group()
def command() -> None:
    """Deploy to a device without a cloud, and see how that goes."""


_id = click.option("-i", "--deploymentId", "--id", "deployment_id", metavar="ID", help="Default: the latest one.")
_json = click.option("--json", "as_json", is_flag=True, help="AWS's LocalDeployment as JSON.")


@command.command()
@click.option("-r", "--recipeDir", "recipes", type=click.Path(path_type=Path, file_okay=False, exists=True),
              help="Folder with recipes, in AWS's layout.")  # fmt: skip
@click.option("-a", "--artifactDir", "artifacts", type=click.Path(path_type=Path, file_okay=False, exists=True),
              help="Folder with <component>/<version>/<files>.")  # fmt: skip
@click.option("-m", "--merge", "merged", multiple=True, metavar="NAME=VERSION", help="A component to run. Repeatable.")
@click.option("--remove", "removed", multiple=True, metavar="NAME", help="A component to remove. Repeatable.")
@click.option("-g", "--groupId", "group", metavar="GROUP", help="Deploy as if to this thing group.")
@click.option("-c", "--update-config", "update", metavar="JSON|FILE", help='{"NAME": {"MERGE": {…}, "RESET": ["/…"]}}')
@click.option("--runWith", "run_with", multiple=True, metavar="NAME:posixUser=USER[:GROUP]",
              help="Who it runs as. Repeatable.")  # fmt: skip
@click.option("-l", "--systemLimits", "limits", metavar="JSON|FILE", help='{"NAME": {"memory": KB, "cpus": 0.5}}')
@click.option("--failure-handling-policy", "policy", type=_POLICY,
              help="What becomes of one that fails.  [default: DO_NOTHING, as AWS has it]")  # fmt: skip
@click.option("--detach", is_flag=True, help="Print the deployment's id and do not wait for its end.")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
              help="How long the deployment may take in all; then it has failed.")  # fmt: skip
@_json
@root_option
def create(detach: bool, timeout: float | None, as_json: bool, root: Path | None, **given: Any) -> None:
    """Deploy components from folders, and follow that to its end: exit code 0 if it succeeded, 1 if not."""
    request = _request(**given)
    if not request:
        raise click.UsageError("nothing to deploy: give --merge, --remove or --update-config")
    if timeout is not None:
        from monodon.core.deployment import OPTIONS, TIMEOUT_OPTION

        request.setdefault("componentToConfiguration", {})[OPTIONS] = {"MERGE": {TIMEOUT_OPTION: timeout}}

    async def deploy(device: "Device") -> None:
        created = (await device.call("CreateLocalDeployment", request))["deploymentId"]
        if detach:
            click.echo(json.dumps({"deploymentId": created}) if as_json else created)
            return
        click.echo(f"deployment {created}", err=True)
        end = await _follow(device, created)
        if as_json:
            click.echo(json.dumps(dict(end.status)))
        end.check()
        if not as_json:
            click.echo(f"{created}  SUCCEEDED")

    on_device(root, deploy)


@command.command()
@click.argument("given", metavar="[ID]", required=False)
@_id
@click.option("-f", "--follow", "is_followed", is_flag=True, help="Wait for its end, as `create` does.")
@_json
@root_option
def status(given: str | None, deployment_id: str | None, is_followed: bool, as_json: bool, root: Path | None) -> None:
    """Show how a local deployment is, and for whom it waits; exit code 1 if it failed."""
    from monodon.device.following import Progress, list_components

    async def show(device: "Device") -> None:
        key = given or deployment_id or (await _latest(device))
        if is_followed:
            now = await _follow(device, key)
        else:
            answer = await device.call("GetLocalDeploymentStatus", {"deploymentId": key})
            now = Progress(status=answer["deployment"], components=await list_components(device))
        if as_json:
            click.echo(json.dumps(dict(now.status)))
        else:
            click.echo(_row(now.status))
            if not now.has_ended and (told := _waiting(now)):
                click.echo(told)
        if now.has_ended and now.status["status"] != "CANCELED":
            now.check()

    on_device(root, show)


@command.command(name="list")
@_json
@root_option
def list_(as_json: bool, root: Path | None) -> None:
    """List the local deployments since the nucleus started, oldest first."""

    async def show(device: "Device") -> None:
        found = await _all(device)
        click.echo(json.dumps(found) if as_json else "\n".join(map(_row, found)) or "no local deployments")

    on_device(root, show)


@command.command()
@click.argument("given", metavar="[ID]", required=False)
@_id
@root_option
def cancel(given: str | None, deployment_id: str | None, root: Path | None) -> None:
    """Cancel a local deployment that is not applied yet."""

    async def ask(device: "Device") -> None:
        key = given or deployment_id or (await _latest(device))
        click.echo((await device.call("CancelLocalDeployment", {"deploymentId": key})).get("message") or "cancelled")

    on_device(root, ask)


async def _all(device: "Device") -> "list[dict[str, Json]]":
    return list((await device.call("ListLocalDeployments")).get("localDeployments") or ())


async def _latest(device: "Device") -> str:
    found = await _all(device)
    if not found:
        raise StateError("no local deployment since the nucleus started", hint="monodon deployment create")
    return str(found[-1]["deploymentId"])


async def _follow(device: "Device", key: str) -> "Progress":
    """Print on stderr what changes, and when nothing does for a while, who is awaited; return the end."""
    from monodon.device.following import follow

    now: Progress | None = None
    hint = f"it goes on: monodon deployment status --follow {key}"
    try:
        async for news in follow(device, key):
            if now is not None and news.components != now.components:
                _show_changes(now.components, news.components)
            elif now is not None and news == now and (told := _waiting(news)):
                click.echo(told, err=True)
            now = news
    except asyncio.CancelledError:  # Ctrl-C
        click.echo(hint, err=True)
        raise
    assert now is not None
    return now


def _show_changes(before: "Mapping[str, Component]", now: "Mapping[str, Component]") -> None:
    for name, one in now.items():
        if before.get(name) != one:
            click.echo(f"  {name} {one.version}  {one.state}", err=True)
    for name in before.keys() - now.keys():
        click.echo(f"  {name}  removed", err=True)


def _waiting(now: "Progress") -> str:
    """For whom a deployment waits, as the nucleus tells it, else by the states of all components."""
    details = now.status.get("deploymentStatusDetails") or {}
    if told := details.get("deploymentFailureCause"):
        return str(told)
    awaited = ", ".join(f"{one.name} ({one.state})" for one in now.awaited)
    return f"waiting for {awaited}" if awaited else ""


def _row(status: "Mapping[str, Json]") -> str:
    details = status.get("deploymentStatusDetails") or {}
    shown = (status["deploymentId"], status["status"], status.get("createdOn"), details.get("detailedDeploymentStatus"))
    return "  ".join(str(text) for text in shown if text)


def _request(
    *,
    recipes: Path | None,
    artifacts: Path | None,
    merged: tuple[str, ...],
    removed: tuple[str, ...],
    group: str | None,
    update: str | None,
    run_with: tuple[str, ...],
    limits: str | None,
    policy: str | None,
) -> "dict[str, Json]":
    """The fields of CreateLocalDeployment; none, if nothing is asked for."""
    from monodon.cli.mappings import read_mapping

    users = _users(run_with)
    for name, limit in (read_mapping("--systemLimits", limits) if limits else {}).items():
        users.setdefault(name, {})["systemResourceLimits"] = limit
    request: dict[str, Json] = {
        "rootComponentVersionsToAdd": dict(_pair("--merge", text, "=") for text in merged),
        "rootComponentsToRemove": [name for text in removed for name in text.split(",")],
        "componentToConfiguration": _updates(read_mapping("--update-config", update)) if update else {},
        "componentToRunWithInfo": users,
        "recipeDirectoryPath": recipes and str(recipes.resolve()),
        "artifactsDirectoryPath": artifacts and str(artifacts.resolve()),
        "groupName": group,
        "failureHandlingPolicy": policy and policy.upper(),
    }
    asked = (
        "rootComponentVersionsToAdd",
        "rootComponentsToRemove",
        "componentToConfiguration",
        "componentToRunWithInfo",
    )
    return {key: value for key, value in request.items() if value} if any(request[key] for key in asked) else {}


def _pair(option: str, text: str, separator: str) -> tuple[str, str]:
    name, found, value = text.partition(separator)
    if not (name and found and value):
        raise click.UsageError(f"{option} {text!r} is not NAME{separator}…")
    return name.strip(), value.strip()


def _users(run_with: tuple[str, ...]) -> "dict[str, dict[str, Json]]":
    users: dict[str, dict[str, Json]] = {}
    for text in run_with:
        name, assignment = _pair("--runWith", text, ":")
        key, user = _pair("--runWith", assignment, "=")
        if key not in ("posixUser", "windowsUser"):
            raise click.UsageError(f"--runWith {text!r}: {key} is neither posixUser nor windowsUser")
        users.setdefault(name, {})[key] = user
    return users


def _updates(given: "Mapping[str, Json]") -> "dict[str, Json]":
    """Updates by component, their keys as the nucleus wants them: MERGE and RESET."""
    updates = {}
    for name, update in given.items():
        if not isinstance(update, dict) or not {key.upper() for key in update} <= {"MERGE", "RESET"}:
            raise click.UsageError(f'--update-config: {name} needs {{"MERGE": {{…}}, "RESET": ["/…"]}}')
        updates[name] = {key.upper(): value for key, value in update.items()}
    return updates
