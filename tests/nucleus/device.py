"""A device without its network: journal, store, supervisor and deployer over a folder that plays the cloud."""

import asyncio
import base64
import hashlib
import itertools
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from monodon.core.deployment import Deployment, Outcome, Status, read_document, read_local
from monodon.core.names import ComponentName
from monodon.core.recipe.platform import platform_of
from monodon.core.recipe.reading import parse_recipe
from monodon.core.semver import Requirement, Version, best, conjunction
from monodon.errors import DeploymentError, NetworkError
from monodon.nucleus.artifacts import Retry
from monodon.nucleus.deployments import deployer
from monodon.nucleus.hooks import Progress
from monodon.nucleus.journal import Journal
from monodon.nucleus.logs import Logs
from monodon.nucleus.settings import Platform, Settings
from monodon.nucleus.state import DeviceState
from monodon.nucleus.store import Store
from monodon.nucleus.supervisor import Supervisor
from monodon.nucleus.uplink.protocol import Candidate, CandidateRequest, DeploymentArrived

DEADLINE_S = 30.0
REGION, ACCOUNT = "eu-west-1", "123456789012"
FOREVER = "exec sleep 1000"
#: Appends a word to a file of the device's folder at each start, install or stop.
SAY = 'echo "{}" >> "$OUT/said"; '
NOT_MET = "COMPONENT_VERSION_REQUIREMENTS_NOT_MET"
FINAL = (Status.SUCCEEDED, Status.FAILED, Status.REJECTED, Status.CANCELED)


def said(folder: Path) -> list[str]:
    """The words that components of the device in ``folder`` said."""
    path = folder / "said"
    return path.read_text().split() if path.exists() else []


def running(word: str) -> dict[str, str]:
    """A lifecycle that runs for ever and says what it does."""
    return {
        "Install": SAY.format(f"install-{word}"),
        "Run": SAY.format(f"run-{word}") + FOREVER,
        "Shutdown": SAY.format(f"stop-{word}"),
    }


class Cloud:
    """Published components, thing groups and reports, as files of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("recipes", "objects"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def publish(
        self,
        name: str,
        version: str,
        lifecycle: Mapping[str, Any],
        *,
        configuration: Mapping[str, Any] | None = None,
        needs: Mapping[str, str] | None = None,
        soft: Mapping[str, str] | None = None,
        artifacts: Mapping[str, bytes] | None = None,
        unarchive: str = "NONE",
        kind: str = "aws.greengrass.generic",
        platform: Mapping[str, str] | None = None,
    ) -> None:
        """Publish a component version; artifacts are files of their own name in the bucket ``b``."""
        written = []
        for file, content in (artifacts or {}).items():
            key = f"{name}/{version}/{file}"
            path = self.folder / "objects" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
            written.append({"Uri": f"s3://b/{key}", "Unarchive": unarchive, "Digest": digest, "Algorithm": "SHA-256"})
        dependencies = {
            other: {"VersionRequirement": text, "DependencyType": how}
            for how, needed in (("HARD", needs or {}), ("SOFT", soft or {}))
            for other, text in needed.items()
        }
        recipe = {
            "RecipeFormatVersion": "2020-01-25",
            "ComponentName": name,
            "ComponentVersion": version,
            "ComponentType": kind,
            "ComponentConfiguration": {"DefaultConfiguration": dict(configuration or {})},
            "ComponentDependencies": dependencies,
            "Manifests": [{"Platform": dict(platform or {}), "Lifecycle": dict(lifecycle), "Artifacts": written}],
        }
        (self.folder / "recipes" / f"{name}@{version}.json").write_text(json.dumps(recipe))

    def unpublish(self, name: str, version: str) -> None:
        (self.folder / "recipes" / f"{name}@{version}.json").unlink()

    def reports(self) -> list[dict[str, Any]]:
        path = self.folder / "reports"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class FolderUplink:
    """The uplink of a device whose cloud is a folder."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.is_configured = True
        self.is_connected = True
        self.groups: tuple[str, ...] | None = None
        self.asked: list[str] = []
        self.downloaded: list[str] = []
        #: Awaited before each answer; a test holds a deployment in its preparation with it.
        self.hold: Callable[[], Any] | None = None
        self.failures = 0

    async def candidate(self, request: CandidateRequest) -> Candidate:
        self.asked.append(request.name)
        if self.hold is not None:
            await self.hold()
        if not self.is_connected or self.failures > 0:
            self.failures -= 1
            raise NetworkError("the cloud is away")
        paths = {
            Version.parse(path.name.removesuffix(".json").split("@")[1]): path
            for path in (self.cloud.folder / "recipes").glob(f"{request.name}@*.json")
        }
        wanted = conjunction(map(Requirement.parse, request.requirements.values()))
        version = best(paths, wanted)
        if version is None:
            raise DeploymentError(f"no usable version of {request.name}")
        arn = f"arn:aws:greengrass:{REGION}:{ACCOUNT}:components:{request.name}:versions:{version}"
        return Candidate(arn=arn, name=request.name, version=str(version), recipe_text=paths[version].read_bytes())

    async def document(self, deployment_id: str) -> bytes:
        """The whole document is the file of that name; without one the device may not have it."""
        path = self.cloud.folder / f"{deployment_id.replace('/', '+')}.json"
        if not path.exists():
            code = "GET_DEPLOYMENT_CONFIGURATION_ACCESS_DENIED"
            raise DeploymentError("refused", codes=("CLOUD_API_ERROR", code), types=("PERMISSION_ERROR",))
        return path.read_bytes()

    async def thing_groups(self) -> tuple[str, ...] | None:
        return self.groups

    async def download(self, uri: str, arn: str | None, destination: Path, offset: int) -> None:
        self.downloaded.append(uri)
        content = (self.cloud.folder / "objects" / uri.removeprefix("s3://b/")).read_bytes()
        with destination.open("ab") as sink:
            sink.write(content[offset:])

    async def report(self, arrival: DeploymentArrived, status: str, outcome: Outcome | None) -> None:
        record = {
            "id": arrival.deployment.deployment_id,
            "status": status,
            "detailed": None if outcome is None else outcome.detailed,
            "cause": None if outcome is None else outcome.cause,
        }
        with (self.cloud.folder / "reports").open("a") as sink:
            sink.write(json.dumps(record) + "\n")


class Device:
    """Everything of a nucleus that a deployment touches; use `device`."""

    def __init__(self, root: Path, cloud: Cloud, **options: Any) -> None:
        self.root, self.cloud, self.options = root, cloud, options
        self.uplink = FolderUplink(cloud)
        self.progress: list[Progress] = []
        self.news = asyncio.Condition()
        self.numbers = itertools.count(1)
        self.now_ms = 1_000_000
        #: Codes of the restarts that deployments asked for.
        self.restarts: list[int] = []
        self.restarting = asyncio.Event()

    async def start(self, stack: AsyncExitStack) -> None:
        at: Callable[[str], None] = self.options.pop("at", lambda point: None)
        self.journal = stack.enter_context(Journal.open(self.root / "config", probe=at))
        self.state = DeviceState(self.journal)
        self.platform = Platform(platform_of("Linux", "x86_64"), Settings({}, self.state))
        self.store = Store(self.root, retry=Retry(first_s=0, most_s=0.01), at=at)
        logs = Logs(self.root / "logs")
        stack.callback(logs.close)
        self.supervisor = await stack.enter_async_context(
            Supervisor(root=self.root, environment=self.environment, logs=logs)
        )
        self.deployer = deployer(
            state=self.state,
            store=self.store,
            supervisor=self.supervisor,
            uplink=self.uplink,
            platform=self.platform,
            thing="drone-1",
            root=self.root,
            report=self.note,
            now_ms=lambda: self.now_ms,
            at=at,
            region=REGION,
            **{"steady_s": 0.0, "restart": self.restart, **self.options},
        )
        stack.callback((await stack.enter_async_context(asyncio.TaskGroup())).create_task(self.run()).cancel)

    async def run(self) -> None:
        await self.deployer.run()

    def restart(self, code: int) -> None:
        self.restarts.append(code)
        self.restarting.set()

    def environment(self, installed: object) -> Mapping[str, str]:
        return {"PATH": os.environ["PATH"], "ROOT": str(self.root), "OUT": str(self.root.parent)}

    async def note(self, progress: Progress) -> None:
        async with self.news:
            self.progress.append(progress)
            self.news.notify_all()

    def document(self, components: Mapping[str, Any], *, group: str = "drones", **members: Any) -> dict[str, Any]:
        """A deployment document; components are versions, or the members of one."""
        number = next(self.numbers)
        target = members.pop("target", f"thinggroup/{group}")
        self.now_ms += 1000
        return {
            "deploymentId": f"{target}-{number}",
            "configurationArn": f"arn:aws:greengrass:{REGION}:{ACCOUNT}:configuration:{target}:{number}",
            "creationTimestamp": self.now_ms,
            "components": {
                name: {"version": given} if isinstance(given, str) else given for name, given in components.items()
            },
            "componentUpdatePolicy": {"action": "SKIP_NOTIFY_COMPONENTS"},
            **members,
        }

    def submit(self, document: Mapping[str, Any], *, job: str | None = "job") -> Deployment:
        deployment = read_document(document)
        self.deployer.submit(deployment, DeploymentArrived(deployment=deployment, job_id=job))
        return deployment

    async def ended(self, deployment_id: str) -> Progress:
        """Wait for the end of a deployment."""

        def found() -> Progress | None:
            return next(
                (one for one in self.progress if one.deployment.deployment_id == deployment_id and one.status in FINAL),
                None,
            )

        async with asyncio.timeout(DEADLINE_S), self.news:
            await self.news.wait_for(found)
        progress = found()
        assert progress is not None
        return progress

    async def reached(self, deployment_id: str, status: Status) -> None:
        async with asyncio.timeout(DEADLINE_S), self.news:
            await self.news.wait_for(
                lambda: any(
                    one.deployment.deployment_id == deployment_id and one.status is status for one in self.progress
                )
            )

    async def deploy(self, components: Mapping[str, Any], **members: Any) -> Outcome:
        """Deploy to a group and wait for the end."""
        outcome = (await self.ended(self.submit(self.document(components, **members)).deployment_id)).outcome
        assert outcome is not None
        return outcome

    async def deploy_locally(self, request: Mapping[str, Any]) -> Outcome:
        self.now_ms += 1000
        deployment = read_local(request, deployment_id=f"local-{next(self.numbers)}", timestamp_ms=self.now_ms)
        self.deployer.submit(deployment)
        outcome = (await self.ended(deployment.deployment_id)).outcome
        assert outcome is not None
        return outcome

    async def heard(self, word: str) -> None:
        """Wait until a component said ``word``."""
        async with asyncio.timeout(DEADLINE_S):
            while word not in said(self.root.parent):
                await asyncio.sleep(0.01)

    async def until(self, predicate: Callable[[Mapping[Any, Any]], bool]) -> None:
        """Wait until something holds for the statuses of components."""
        async with asyncio.timeout(DEADLINE_S):
            await self.supervisor.wait_until(predicate)

    async def idle(self) -> None:
        """Wait until no deployment is under way."""
        async with asyncio.timeout(DEADLINE_S):
            while self.deployer.is_deploying:
                await asyncio.sleep(0.01)

    def keep(self, name: str, version: str, lifecycle: Mapping[str, Any]) -> None:
        """Have a component version in the device's own store."""
        shelf = Cloud(self.root.parent / "shelf")
        shelf.publish(name, version, lifecycle)
        text = (shelf.folder / "recipes" / f"{name}@{version}.json").read_bytes()
        self.store.put_recipe(parse_recipe(text, file="recipe.json"))

    def installed(self) -> dict[str, str]:
        return {str(name): str(one.version) for name, one in self.state.installed.items()}

    def states(self) -> dict[str, str]:
        return {str(name): str(one.state) for name, one in self.supervisor.statuses().items()}

    def configuration(self, name: str) -> Any:
        found = self.state.configuration(ComponentName(name))
        return None if found is None else found.value()

    def pids(self, name: str) -> list[int]:
        return self.supervisor.pids(ComponentName(name))


@asynccontextmanager
async def device(root: Path, cloud: Cloud, **options: Any) -> AsyncIterator[Device]:
    """A running device; leaving stops it as a nucleus that is told to stop."""
    async with AsyncExitStack() as stack:
        made = Device(root, cloud, **options)
        await made.start(stack)
        yield made


async def through_restarts(
    root: Path, cloud: Cloud, document: Mapping[str, Any], **options: Any
) -> tuple[Outcome, list[int], dict[str, str]]:
    """Deploy, with a new device for each restart; return the end, the codes of the restarts, and the last states."""
    codes: list[int] = []
    while True:
        async with device(root, cloud, **options) as one:
            if not codes:
                one.submit(document)
            over = asyncio.create_task(one.ended(document["deploymentId"]))
            restarting = asyncio.create_task(one.restarting.wait())
            await asyncio.wait([over, restarting], return_when=asyncio.FIRST_COMPLETED)
            if one.restarts and not over.done():
                over.cancel()
                await asyncio.wait([over])
                codes += one.restarts
                continue
            restarting.cancel()
            outcome = over.result().outcome
            assert outcome is not None
            return outcome, codes, one.states()
