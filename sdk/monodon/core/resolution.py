"""From the roots that deployments name to exact versions of everything a device will run.

A generator without I/O: it yields an `Ask` for each choice to be made and is sent the chosen recipe, or None where
nothing fits. There is no backtracking, as on AWS: a later constraint can choose a component anew, an earlier choice
is never revised to make a later one possible.

Source: Greengrass nucleus, ``componentmanager/DependencyResolver.java``, ``ComponentManager.java``; device notes 5.4.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from monodon.core.deployment import LOCAL_TARGET
from monodon.core.names import ComponentName
from monodon.core.recipe.model import ComponentType, Recipe
from monodon.core.semver import Requirement, Version, best, conjunction
from monodon.errors import DeploymentError, InvalidRequirement

NOT_MET = "COMPONENT_VERSION_REQUIREMENTS_NOT_MET"

#: A component is chosen anew at most this often; only dependencies that chase each other in a circle get there.
MAX_CHOICES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Which version of ``name`` meets all ``requirements`` (by source: a target or a component)?

    ``local`` is what the device has already: the running version if it fits, else the highest in its store.
    ``is_local_enough`` says that a local deployment is among the sources, so the cloud need not be asked.
    """

    name: ComponentName
    requirements: Mapping[str, Requirement]
    local: Version | None
    is_local_enough: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """Every component with its recipe, and who asked for what: component → source → requirement."""

    recipes: Mapping[ComponentName, Recipe]
    constraints: Mapping[ComponentName, Mapping[str, Requirement]]


#: Targets with the roots of each and what is required of them.
Roots: TypeAlias = Mapping[str, Mapping[ComponentName, Requirement]]


def resolve(
    target: str,
    roots: Mapping[ComponentName, Requirement],
    others: Roots,
    *,
    running: Mapping[ComponentName, Version],
    available: Callable[[ComponentName], Iterable[Version]],
) -> Generator[Ask, Recipe | None, Resolution]:
    """Choose a version of each component that ``roots`` and the ``others`` need.

    Args:
        target: whose deployment this is, such as ``thinggroup/drones``.
        roots: the components that the deployment names.
        others: the roots of every other target that the device still belongs to.
        running: the version of each component that the device runs.
        available: the versions of a component in the device's store.

    Raises:
        DeploymentError: no version fits (the message names every source and the graph of constraints), components
            depend on each other in a circle, or there would be two nuclei.
    """
    choice = _Choice(running)
    targets = {target: roots} | {group: wanted for group, wanted in others.items() if group != target}
    for group, wanted in targets.items():
        for name, requirement in wanted.items():
            choice.constrain(name, group, requirement)
    for root in [name for wanted in targets.values() for name in wanted]:
        queue = [root]
        while queue:
            name = queue.pop(0)
            if name not in choice.constraints:
                continue  # its last depender was withdrawn meanwhile
            ask = choice.ask(name, available)
            recipe = yield ask
            if recipe is None:
                raise choice.nothing_fits(ask)
            queue.extend(choice.take(recipe))
    _refuse_circles(choice.recipes, roots)
    _refuse_nuclei(choice, roots, others)
    return Resolution(recipes=dict(choice.recipes), constraints=choice.constraints)


@dataclass(slots=True)
class _Choice:
    """What has been chosen so far, and why."""

    running: Mapping[ComponentName, Version]
    recipes: dict[ComponentName, Recipe] = field(default_factory=dict)
    constraints: dict[ComponentName, dict[str, Requirement]] = field(default_factory=dict)
    made: Counter[ComponentName] = field(default_factory=Counter)

    def constrain(self, name: ComponentName, source: str, requirement: Requirement) -> None:
        self.constraints.setdefault(name, {})[source] = requirement

    def ask(self, name: ComponentName, available: Callable[[ComponentName], Iterable[Version]]) -> Ask:
        requirements = dict(self.constraints[name])
        versions = tuple(available(name))
        try:
            together = conjunction(requirements.values())
        except InvalidRequirement:
            # Texts that are fine alone and nonsense when joined: nothing can meet them.
            together = None
        running = self.running.get(name)
        local = None
        if together is not None:
            local = running if running is not None and together.matches(running) else best(versions, together)
        return Ask(name=name, requirements=requirements, local=local, is_local_enough=LOCAL_TARGET in requirements)

    def take(self, recipe: Recipe) -> tuple[ComponentName, ...]:
        """Remember the choice; return the components to choose next."""
        name, before = recipe.name, self.recipes.get(recipe.name)
        if before is not None and before.version == recipe.version:
            return ()
        self.made[name] += 1
        if self.made[name] > MAX_CHOICES:
            raise DeploymentError(
                f"the versions of {name} and its dependencies exclude each other in turn\n{self.graph()}",
                codes=(NOT_MET,),
            )
        self.recipes[name] = recipe
        if before is not None:
            self._withdraw(before, keep=frozenset(recipe.dependencies))
        for other, dependency in recipe.dependencies.items():
            self.constrain(other, str(name), dependency.requirement)
        return tuple(recipe.dependencies)

    def _withdraw(self, recipe: Recipe, keep: frozenset[ComponentName]) -> None:
        """Forget what a recipe asked for, and whatever nobody asks for any more (cases 17 and 20)."""
        leaving = [recipe]
        while leaving:
            gone = leaving.pop()
            for other in gone.dependencies:
                sources = self.constraints.get(other)
                if sources is None:
                    continue
                sources.pop(str(gone.name), None)
                if sources or (gone is recipe and other in keep):
                    continue
                del self.constraints[other]
                chosen = self.recipes.pop(other, None)
                if chosen is not None:
                    leaving.append(chosen)

    def nothing_fits(self, ask: Ask) -> DeploymentError:
        """Say who asks for what in vain, and how each came to ask."""
        wanted = ", ".join(f"{self._label(source)} needs {text}" for source, text in ask.requirements.items())
        running = self.running.get(ask.name)
        has = f"; the device runs {running}" if running is not None else ""
        return DeploymentError(
            f"no version of {ask.name} fits: {wanted}{has}\n{self.graph()}",
            codes=(NOT_MET,),
            hint="publish a version that meets all of them, or relax one requirement",
        )

    def _label(self, source: str) -> str:
        recipe = self.recipes.get(ComponentName(source))
        return source if recipe is None else f"{source} {recipe.version}"

    def graph(self) -> str:
        """One line for each constraint: ``source -> component requirement (chosen version)``."""
        lines = [
            f"  {self._label(source)} -> {name} {requirement} ({self._chosen(name)})"
            for name, sources in sorted(self.constraints.items())
            for source, requirement in sorted(sources.items())
        ]
        return "\n".join(["constraints:", *lines])

    def _chosen(self, name: ComponentName) -> str:
        recipe = self.recipes.get(name)
        return "nothing chosen yet" if recipe is None else str(recipe.version)


def _refuse_circles(recipes: Mapping[ComponentName, Recipe], roots: Iterable[ComponentName]) -> None:
    finished: set[ComponentName] = set()
    for root in roots:
        path = [] if root in finished else [(root, iter(recipes[root].dependencies))]
        while path:
            name, rest = path[-1]
            other = next(rest, None)
            names = [step for step, _ in path]
            if other is None:
                finished.add(name)
                path.pop()
            elif other in names:
                raise DeploymentError(
                    "components depend on each other in a circle: "
                    + " -> ".join([*names[names.index(other) :], other]),
                    codes=("COMPONENT_CIRCULAR_DEPENDENCY_ERROR",),
                )
            elif other not in finished:
                path.append((other, iter(recipes[other].dependencies)))


def _refuse_nuclei(choice: _Choice, roots: Mapping[ComponentName, Requirement], others: Roots) -> None:
    nuclei = [recipe for recipe in choice.recipes.values() if recipe.type is ComponentType.NUCLEUS]
    if len(nuclei) > 1:
        names = ", ".join(f"{recipe.name} {recipe.version}" for recipe in nuclei)
        raise DeploymentError(
            f"a device has one nucleus, not several: {names}", codes=("MULTIPLE_NUCLEUS_RESOLVED_ERROR",)
        )
    named = {*roots, *(name for wanted in others.values() for name in wanted)}
    for nucleus in nuclei:
        running = choice.running.get(nucleus.name)
        if nucleus.name in named or running is None:
            continue
        if (running.major, running.minor) != (nucleus.version.major, nucleus.version.minor):
            sources = ", ".join(choice.constraints[nucleus.name])
            raise DeploymentError(
                f"{sources} would move {nucleus.name} from {running} to {nucleus.version}, "
                "and no deployment names it as a root",
                codes=("UNAUTHORIZED_NUCLEUS_MINOR_VERSION_UPDATE",),
                hint=f"name {nucleus.name} in the deployment",
            )
