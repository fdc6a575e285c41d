"""The whole loop in a real account: publish, deploy, fail, go back, and leave nothing behind.

Everything is named after the run and, where AWS allows it, tagged with it; so an interrupted run is torn down by its
name alone. The device is the embedded nucleus on this machine. The same run works on the embedded cloud.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from monodon.core.names import ComponentName
from monodon.core.recipe.reading import parse_recipe
from monodon.core.semver import Version
from monodon.errors import FleetError, StateError
from monodon.fleet import Aws, Created, Desired, DesiredComponent, deploy, follow
from monodon.fleet.aws import told
from monodon.fleet.following import installed
from monodon.fleet.nucleus_config import Endpoints
from monodon.fleet.provisioning import Shared, provision
from monodon.publish import ArtifactFile, Package, Registry, publish

TAG = "monodon-acceptance"
GOOD, BROKEN = Version.parse("1.0.0"), Version.parse("1.0.1")
DEPLOYMENT_TIMEOUT_S = 300.0
START_TIMEOUT_S = 60.0
#: What the run costs, by AWS's price list of us-east-1 in 2025; the free tier usually covers it.
COST = """This run makes one core device, three deployments, two component versions, a bucket with two objects, an IAM
role and some hundred calls and messages, for about five minutes, and then removes them. What can have tags is tagged
{tag}={run}. By AWS's price list of 2025 (us-east-1) that is less than 0.20 USD:
  Greengrass, one active core device for the month   0.16
  IoT Core: connection, messages, registry, jobs     0.01
  S3: objects of a few hundred bytes, requests       0.01
"""

_RECIPE = """RecipeFormatVersion: "2020-01-25"
ComponentName: {name}
ComponentVersion: {version}
ComponentDescription: Says that it lives; part of an acceptance run, and removed with it.
Manifests:
  - Platform: {{os: linux}}
    Artifacts:
      - {{URI: "s3://{bucket}/{name}/{version}/say.sh"}}
    Lifecycle:
      run: sh {{artifacts:path}}/say.sh
"""
_SCRIPTS = {
    GOOD: "echo it lives\nwhile :; do sleep 1; done\n",
    BROKEN: "echo it is broken on purpose >&2\nexit 3\n",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run: every name in AWS comes from ``name``, 1 to 12 lower-case letters and digits."""

    name: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]{1,12}", self.name):
            raise FleetError(f"{self.name!r} is no name of a run", hint="use 1 to 12 lower-case letters and digits")

    @property
    def prefix(self) -> str:
        """What all names begin with."""
        return f"{TAG}-{self.name}"

    @property
    def component(self) -> ComponentName:
        """The component that is published."""
        return ComponentName(f"monodon.acceptance.{self.name}")

    @property
    def tags(self) -> Mapping[str, str]:
        """What all is tagged with."""
        return {TAG: self.name}

    def shared(self, aws: Aws) -> Shared:
        """Return the names of what devices share."""
        return Shared(
            policy=f"{self.prefix}-policy",
            role=f"{self.prefix}-role",
            role_alias=f"{self.prefix}-alias",
            bucket=f"{self.prefix}-{aws.account}-{aws.region}",
            tags=self.tags,
        )


@dataclass(slots=True)
class Acceptance:
    """A run in an account.

    Args:
        folder: of this machine, for the device's root and what is published.
        endpoints: of an embedded cloud; AWS is asked for its own.
    """

    aws: Aws
    run: Run
    folder: Path
    root_ca: bytes
    endpoints: Endpoints | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    def steps(self) -> Iterator[str]:
        """Yield what was done, a line each; whoever stops early tears down.

        Raises:
            MonodonError: something did not go as it must.
        """
        run, aws = self.run, self.aws
        root = self.folder / "device"
        for step in provision(
            aws,
            thing=run.prefix,
            group=run.prefix,
            root=root,
            root_ca=self.root_ca,
            endpoints=self.endpoints,
            shared=run.shared(aws),
        ):
            yield f"provisioned: {step.what}"
        for version in (GOOD, BROKEN):
            yield f"published: {self._publish(version)}"
        with self._device(root):
            yield "device: the embedded nucleus runs"
            yield self._deploy(GOOD, succeeds=True)
            yield self._deploy(BROKEN, succeeds=False)
            self._wait_for(GOOD)
            yield f"device: went back to {GOOD} by itself"
            yield self._deploy(GOOD, succeeds=True)
        yield "device: stopped"

    def _publish(self, version: Version) -> str:
        aws, script = self.aws, _SCRIPTS[version]
        path = self.folder / f"say-{version}.sh"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(script)
        bucket = self.run.shared(aws).bucket_of(aws)
        text = _RECIPE.format(name=self.run.component, version=version, bucket=bucket)
        recipe = parse_recipe(text, file="acceptance.yaml")
        file = ArtifactFile(name="say.sh", path=path, sha256=sha256(script.encode()).hexdigest())
        registry = Registry(s3=aws.s3, greengrass=aws.greengrass, bucket=bucket, region=aws.region, account=aws.account)
        *_, last = publish(Package(recipe=recipe, files=(file,)), registry)
        with told():
            aws.greengrass.tag_resource(resourceArn=last.arn, tags=dict(self.run.tags))
        return last.package

    def _deploy(self, version: Version, *, succeeds: bool) -> str:
        desired = Desired(
            target=f"thinggroup/{self.run.prefix}",
            name=f"{self.run.prefix} {version}",
            components={self.run.component: DesiredComponent(version=version)},
            on_failure="ROLLBACK",
            tags=self.run.tags,
        )
        created: Created = deploy(self.aws, desired)
        *_, last = follow(self.aws, created, timeout_s=DEPLOYMENT_TIMEOUT_S)
        if last.is_success != succeeds:
            raise FleetError(
                f"{version} ended as {last.status}, and was to {'succeed' if succeeds else 'fail'}: {last.reason}"
            )
        return f"deployed: {version} is {last.status}{'' if succeeds else ', as it must'}"

    def _wait_for(self, version: Version) -> None:
        """Wait until the device reports a version as running."""
        deadline = time.monotonic() + DEPLOYMENT_TIMEOUT_S
        while True:
            with told():
                found = {one["componentName"]: one for one in installed(self.aws, self.run.prefix)}
            mine = found.get(self.run.component, {})
            if (mine.get("componentVersion"), mine.get("lifecycleState")) == (str(version), "RUNNING"):
                return
            if time.monotonic() > deadline:
                raise FleetError(f"{self.run.prefix} does not report {version} as running")
            time.sleep(0.2)

    @contextmanager
    def _device(self, root: Path) -> Iterator[None]:
        """Run the embedded nucleus as the device, with nobody's AWS credentials in its environment."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTHON"))}
        log = self.folder / "nucleus.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "monodon", "nucleus", "run", "--root", str(root)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**environment, **self.environment},
                start_new_session=True,
            )
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while b"monodon nucleus ready" not in log.read_bytes():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise StateError("the nucleus does not start", hint=f"its log is {log}")
                time.sleep(0.02)
            yield
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
