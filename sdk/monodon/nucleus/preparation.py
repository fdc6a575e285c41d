"""From a deployment to what the device shall run, while nothing has been touched yet.

Asks the cloud where the store does not suffice, keeps recipes, fetches artifacts, builds the target.
Source: device notes 5.4 and 5.5.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from monodon.core import provided
from monodon.core.deployment import LARGE_CONFIGURATION, LOCAL_TARGET, Deployment, ignored_updates, with_roots
from monodon.core.large_document import completed
from monodon.core.names import Arn, ComponentName
from monodon.core.recipe.model import Manifest, Recipe
from monodon.core.recipe.reading import parse_recipe
from monodon.core.resolution import NOT_MET, Ask, Resolution, resolve
from monodon.core.semver import Requirement, Version
from monodon.core.target import Built, Device, build, choose_manifests
from monodon.errors import DeploymentError, MonodonError, NetworkError, RecipeError
from monodon.nucleus.side_by_side import side_by_side
from monodon.nucleus.state import DeviceState
from monodon.nucleus.store import Store
from monodon.nucleus.uplink.protocol import CandidateRequest, Uplink

_log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

_GROUP = "thinggroup/"

#: Pauses between questions to a cloud that does not answer.
FIRST_PAUSE_S = 1.0
MOST_PAUSE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Everything that is needed to build the target, at once or anew.

    ``roots`` holds this deployment's target and those of other targets it belongs with; ``left`` the targets that
    the device is no longer part of; ``changed`` the components whose artifacts are other bytes than before.
    """

    deployment: Deployment
    recipes: Mapping[ComponentName, Recipe]
    manifests: Mapping[ComponentName, Manifest]
    arns: Mapping[ComponentName, str | None]
    roots: Mapping[str, Mapping[ComponentName, str]]
    left: tuple[str, ...] = ()
    changed: frozenset[ComponentName] = frozenset()


@dataclass(slots=True, kw_only=True)
class Preparation:
    """The part of a deployment that leaves the running components alone.

    Args:
        region: the device's AWS region; a component version of another region is not taken from the store.
        now_ms: the time for merges, where the nucleus is told to take the time of processing.
    """

    state: DeviceState
    store: Store
    uplink: Uplink
    device: Device
    now_ms: Callable[[], int]
    region: str | None = None
    at: Callable[[str], None] = lambda point: None
    first_pause_s: float = FIRST_PAUSE_S
    #: What the last resolution chose, fetched or not.
    tried: tuple[tuple[ComponentName, Version], ...] = ()
    _refusals: dict[ComponentName, DeploymentError] = field(default_factory=dict)
    #: The last answer of the cloud for each component: the same text again is not parsed again.
    _answers: dict[ComponentName, tuple[bytes, Recipe]] = field(default_factory=dict)

    async def prepare(self, deployment: Deployment) -> Prepared:
        """Resolve and fetch everything that ``deployment`` needs.

        Raises:
            DeploymentError: no set of versions fits, or something of it cannot be had.
        """
        self.tried = ()
        copied = await self._copy_local(deployment)
        deployment = self._with_roots(deployment)
        targets = self.state.targets()
        left = await self._left(deployment, targets)
        others = {
            target: {name: Requirement.parse(version) for name, version in roots.items()}
            for target, roots in targets.items()
            if target != deployment.target and target not in left
        }
        resolution = await self._resolve(deployment, others)
        self.tried = tuple((name, recipe.version) for name, recipe in resolution.recipes.items())
        manifests = choose_manifests(resolution.recipes, self.device.platform)
        deployment = await self._whole(deployment)
        self.at("deployment resolved")
        fetched = await self._fetch(resolution, manifests)
        self.at("deployment fetched")
        return Prepared(
            deployment=deployment,
            recipes=resolution.recipes,
            manifests=manifests,
            arns={name: self.store.arn(name, recipe.version) for name, recipe in resolution.recipes.items()},
            roots={
                deployment.target: {name: str(resolution.recipes[name].version) for name in deployment.components},
                **{
                    target: {name: str(resolution.recipes[name].version) for name in wanted}
                    for target, wanted in others.items()
                },
            },
            left=left,
            # (choice) AWS would leave the process on the old bytes; rule 6 of 5.2 in the device notes.
            changed=fetched | {name for name, _ in copied} if deployment.is_local else frozenset(),
        )

    def build(self, prepared: Prepared) -> Built:
        """Build the target on what the device runs, and is configured to, at this moment."""
        deployment = prepared.deployment
        return build(
            deployment,
            prepared.recipes,
            self.state.installed,
            device=self.device,
            at_ms=(
                self.state.after_deployments_ms(self.now_ms())
                if self._takes_processing_time()
                else deployment.timestamp_ms
            ),
            roots={name for roots in prepared.roots.values() for name in roots},
            arns=prepared.arns,
        )

    def _takes_processing_time(self) -> bool:
        nucleus = self.state.configuration(provided.NUCLEUS)
        key = ("deploymentConfigurationTimeSource",)
        return nucleus is not None and nucleus.contains(key) and nucleus.get(key) == "deploymentProcessingTime"

    async def _whole(self, deployment: Deployment) -> Deployment:
        """A deployment whose document was too large to be sent gets its components' configuration from the cloud."""
        if LARGE_CONFIGURATION not in deployment.required_capabilities:
            return deployment
        what = f"the whole document of deployment {deployment.deployment_id}"
        text = await self._insist(lambda: self.uplink.document(deployment.deployment_id), what)
        return await asyncio.to_thread(completed, deployment, text)

    async def _insist(self, ask: Callable[[], Awaitable[Answer]], what: str) -> Answer:
        """Ask until the cloud answers, less and less often."""
        pause_s = self.first_pause_s
        while True:
            try:
                return await ask()
            except NetworkError as error:
                _log.warning("the cloud did not answer for %s, asking again in %.0f s: %s", what, pause_s, error)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, MOST_PAUSE_S)

    async def _copy_local(self, deployment: Deployment) -> tuple[tuple[ComponentName, Version], ...]:
        local = deployment.local
        if local is None or (local.recipes is None and local.artifacts is None):
            return ()
        recipes = None if local.recipes is None else Path(local.recipes)
        artifacts = None if local.artifacts is None else Path(local.artifacts)
        for folder in (recipes, artifacts):
            if folder is not None and not folder.is_dir():
                raise DeploymentError(f"{folder} is not a folder", codes=("IO_READ_ERROR",))
        return await asyncio.to_thread(self.store.copy_local, recipes, artifacts)

    def _with_roots(self, deployment: Deployment) -> Deployment:
        """A local deployment keeps the other roots of its target, at the versions that run."""
        if not deployment.is_local:
            return deployment
        installed = self.state.installed
        running = {
            name: installed[name].version if name in installed else Version.parse(version, lax=True)
            for name, version in self.state.roots(deployment.target).items()
        }
        settled = with_roots(deployment, running)
        for name in ignored_updates(settled):
            _log.warning("%s is no root of %s: what is configured for it is ignored", name, deployment.target)
        return settled

    async def _left(self, deployment: Deployment, targets: Mapping[str, object]) -> tuple[str, ...]:
        """The thing groups with components here that the device is no longer in; none while nobody can tell."""
        groups = [target for target in targets if target.startswith(_GROUP) and target != deployment.target]
        if not groups or not self.uplink.is_configured or not self.uplink.is_connected:
            return ()
        try:
            names = await self.uplink.thing_groups()
        except MonodonError as error:
            _log.warning("could not ask for this device's thing groups, the last known ones count: %s", error)
            return ()
        if names is None:
            return ()
        members = {_GROUP + name.removeprefix(_GROUP) for name in names}
        return tuple(target for target in groups if target not in members)

    async def _resolve(
        self, deployment: Deployment, others: Mapping[str, Mapping[ComponentName, Requirement]]
    ) -> Resolution:
        self._refusals.clear()
        steps = resolve(
            deployment.target,
            {name: Requirement.parse(root.requirement) for name, root in deployment.components.items()},
            others,
            running={name: installed.version for name, installed in self.state.installed.items()},
            available=self.store.versions,
        )
        try:
            ask = next(steps)
            while True:
                recipe = await self._choose(ask)
                try:
                    ask = steps.send(recipe)
                except DeploymentError as error:
                    raise error from self._refusals.get(ask.name)
        except StopIteration as stop:
            resolution: Resolution = stop.value
            return resolution

    async def _choose(self, ask: Ask) -> Recipe | None:
        """Answer one question of the resolution: by a stand-in, the store, or the cloud."""
        if provided.is_provided(ask.name):
            running = self.state.installed.get(ask.name)
            return provided.recipe(
                ask.name, tuple(ask.requirements.values()), None if running is None else running.version
            )
        local = None if ask.local is None else self._stored(ask.name, ask.local)
        if local is not None and ask.is_local_enough and self._is_of_this_region(local):
            return local
        if not self.uplink.is_configured or (local is not None and not self.uplink.is_connected):
            found = local
        else:
            found = await self._ask_cloud(ask, local) or local
        if found is None:
            self._explain(ask)
        return found

    def _stored(self, name: ComponentName, version: Version) -> Recipe | None:
        try:
            return self.store.recipe(name, version)
        except DeploymentError as error:
            if not self.uplink.is_configured:
                raise
            _log.warning("%s; asking the cloud for it", error)
            return None

    def _is_of_this_region(self, recipe: Recipe) -> bool:
        arn = self.store.arn(recipe.name, recipe.version)
        return arn is None or self.region is None or Arn.parse(arn).region == self.region

    def _explain(self, ask: Ask) -> None:
        """Note why there is no candidate, for the error that the resolution will raise."""
        reason = provided.why_missing(ask.name)
        if reason is not None:
            self._refusals[ask.name] = DeploymentError(f"{ask.name} cannot run here: {reason}", codes=(NOT_MET,))
        elif LOCAL_TARGET in ask.requirements or not self.uplink.is_configured:
            versions = ", ".join(map(str, self.store.versions(ask.name))) or "none"
            self._refusals.setdefault(ask.name, DeploymentError(f"the device's own store has {versions}"))

    async def _ask_cloud(self, ask: Ask, local: Recipe | None) -> Recipe | None:
        request = CandidateRequest(
            name=ask.name,
            local_version=None if local is None else str(local.version),
            requirements={source: str(requirement) for source, requirement in ask.requirements.items()},
            platform=self.device.platform,
        )
        try:
            if local is None:
                candidate = await self._insist(lambda: self.uplink.candidate(request), ask.name)
            else:
                candidate = await self.uplink.candidate(request)
        except DeploymentError as error:
            self._refusals[ask.name] = error
            return None
        except NetworkError as error:
            _log.warning("the cloud did not answer for %s, what is in the store is taken: %s", ask.name, error)
            return None
        return self._keep(candidate.recipe_text, candidate.arn, ask)

    def _keep(self, text: bytes, arn: str, ask: Ask) -> Recipe:
        known = self._answers.get(ask.name)
        recipe = known[1] if known is not None and known[0] == text else self._parse(text, ask)
        self._answers[ask.name] = (text, recipe)
        self.store.put_recipe(recipe, arn)
        return recipe

    def _parse(self, text: bytes, ask: Ask) -> Recipe:
        try:
            recipe = parse_recipe(text, file=f"the recipe of {ask.name} from the cloud")
        except RecipeError as error:
            raise DeploymentError(error.message, codes=("RECIPE_PARSE_ERROR",), hint=error.hint) from error
        if recipe.name != ask.name:
            raise DeploymentError(
                f"the cloud answered with {recipe.name} when asked for {ask.name}", codes=("RECIPE_PARSE_ERROR",)
            )
        return recipe

    async def _fetch(
        self, resolution: Resolution, manifests: Mapping[ComponentName, Manifest]
    ) -> frozenset[ComponentName]:
        """Bring the artifacts of all components side by side; return those of which bytes are new."""

        async def fetch(name: ComponentName) -> bool:
            recipe = resolution.recipes[name]
            arn = self.store.arn(name, recipe.version)
            return await self.store.fetch(recipe, manifests[name], self.uplink.download, arn=arn)

        fetched = await side_by_side({name: fetch(name) for name in resolution.recipes})
        return frozenset(name for name, is_new in fetched.items() if is_new)
