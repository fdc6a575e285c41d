"""Resolution to exact versions: cases 17 to 24 of the device notes, and its laws."""

from collections.abc import Generator, Mapping
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monodon.core import provided
from monodon.core.names import ComponentName
from monodon.core.recipe.model import ComponentType, Dependency, Recipe
from monodon.core.resolution import Ask, Resolution, resolve
from monodon.core.semver import Requirement, Version, best, conjunction
from monodon.errors import DeploymentError

#: name → version → dependencies (name → requirement)
World: TypeAlias = Mapping[str, Mapping[str, Mapping[str, str]]]

NOTHING: Mapping[str, Any] = {}


def recipe(name: str, version: str, needs: Mapping[str, str], kind: ComponentType = ComponentType.GENERIC) -> Recipe:
    return Recipe(
        name=ComponentName(name),
        version=Version.parse(version),
        type=kind,
        dependencies={
            ComponentName(other): Dependency(requirement=Requirement.parse(text)) for other, text in needs.items()
        },
    )


def requirements(roots: Mapping[str, str]) -> dict[ComponentName, Requirement]:
    return {ComponentName(name): Requirement.parse(text) for name, text in roots.items()}


def resolved(
    cloud: World,
    roots: Mapping[str, str],
    *,
    others: Mapping[str, Mapping[str, str]] = NOTHING,
    running: Mapping[str, str] = NOTHING,
    store: World = NOTHING,
    target: str = "thinggroup/g",
    asked: list[str] | None = None,
) -> Resolution:
    """Resolve as a device does whose cloud offers ``cloud`` (empty: offline) and whose store holds ``store``."""
    steps = resolve(
        target,
        requirements(roots),
        {group: requirements(wanted) for group, wanted in others.items()},
        running={ComponentName(name): Version.parse(text) for name, text in running.items()},
        available=lambda name: [Version.parse(text) for text in store.get(name, {})],
    )
    return finished(steps, lambda ask: chosen(ask, cloud, store, asked))


def chosen(ask: Ask, cloud: World, store: World, asked: list[str] | None) -> Recipe | None:
    if ask.local is not None and (ask.is_local_enough or not cloud):
        return recipe(ask.name, str(ask.local), store[ask.name][str(ask.local)])
    if asked is not None:
        asked.append(ask.name)
    together = conjunction(ask.requirements.values())
    found = best(map(Version.parse, cloud.get(ask.name, {})), together)
    return None if found is None else recipe(ask.name, str(found), cloud[ask.name][str(found)])


def finished(steps: Generator[Ask, Recipe | None, Resolution], choose: object) -> Resolution:
    assert callable(choose)
    try:
        ask = next(steps)
        while True:
            ask = steps.send(choose(ask))
    except StopIteration as stop:
        result: Resolution = stop.value
        return result


def versions(resolution: Resolution) -> dict[str, str]:
    return {str(name): str(one.version) for name, one in resolution.recipes.items()}


def test_17_a_later_constraint_replaces_a_choice_and_its_tree() -> None:
    """Case 17: A→B1 1.x, B2; B1→C >=1.0.0, B2→C >=2.0.0: C 2.0.0 and its tree only, nothing of C 1.0.0's."""
    cloud = {
        "A": {"1.0.0": {"B1": "1.x", "B2": "*"}},
        "B1": {"1.0.0": {"C": ">=1.0.0 <3.0.0"}},
        "B2": {"1.0.0": {"C": ">=2.0.0"}},
        "C": {"1.0.0": {"OnlyOfC1": "*"}, "2.0.0": {"OnlyOfC2": "*"}},
        "OnlyOfC1": {"1.0.0": {"Deeper": "*"}},
        "Deeper": {"1.0.0": {}},
        "OnlyOfC2": {"1.0.0": {}},
    }
    resolution = resolved(cloud, {"A": "1.0.0"}, running={"C": "1.0.0"}, store=cloud, target="LOCAL_DEPLOYMENT")
    assert versions(resolution) == {"A": "1.0.0", "B1": "1.0.0", "B2": "1.0.0", "C": "2.0.0", "OnlyOfC2": "1.0.0"}


def test_17_what_the_running_version_brought_is_withdrawn() -> None:
    """Case 17, offline: the running C 1.0.0 is the first choice, and its dependencies go with it."""
    store = {
        "A": {"1.0.0": {"B1": "1.x", "B2": "*"}},
        "B1": {"1.0.0": {"C": ">=1.0.0"}},
        "B2": {"1.0.0": {"C": ">=2.0.0"}},
        "C": {"1.0.0": {"OnlyOfC1": "*", "Both": "*"}, "2.0.0": {"OnlyOfC2": "*", "Both": "*"}},
        "OnlyOfC1": {"1.0.0": {"Deeper": "*"}},
        "Deeper": {"1.0.0": {}},
        "OnlyOfC2": {"1.0.0": {}},
        "Both": {"1.0.0": {}},
    }
    resolution = resolved({}, {"A": "1.0.0"}, running={"C": "1.0.0"}, store=store)
    assert set(resolution.recipes) == {"A", "B1", "B2", "C", "OnlyOfC2", "Both"}
    assert str(resolution.recipes[ComponentName("C")].version) == "2.0.0"
    assert set(resolution.constraints) == set(resolution.recipes)


def test_18_a_conflict_names_both_sources_and_prints_the_graph() -> None:
    """Case 18: C wanted <=1.1.0 by B1 and >=1.2.0 by B2 fails and names both sources."""
    cloud = {
        "B1": {"1.0.0": {"C": "<=1.1.0"}},
        "B2": {"1.0.0": {"C": ">=1.2.0"}},
        "C": {"1.0.0": {}, "1.2.0": {}},
    }
    with pytest.raises(DeploymentError) as caught:
        resolved(cloud, {"B1": "1.0.0", "B2": "1.0.0"})
    message = str(caught.value)
    assert message.startswith("no version of C fits: B1 1.0.0 needs <=1.1.0, B2 1.0.0 needs >=1.2.0")
    assert "  B2 1.0.0 -> C >=1.2.0 (1.0.0)" in message
    assert "  thinggroup/g -> B1 1.0.0 (1.0.0)" in message
    assert caught.value.codes == ("COMPONENT_VERSION_REQUIREMENTS_NOT_MET",)


def test_19_a_circle_is_refused() -> None:
    """Case 19: A→B→A is a circular dependency failure."""
    cloud = {"A": {"1.0.0": {"B": "*"}}, "B": {"1.0.0": {"A": "*"}}}
    with pytest.raises(DeploymentError, match="A -> B -> A") as caught:
        resolved(cloud, {"A": "1.0.0"})
    assert caught.value.codes == ("COMPONENT_CIRCULAR_DEPENDENCY_ERROR",)


def test_20_another_groups_constraint_moves_a_version_and_drops_its_tree() -> None:
    """Case 20: B moves 1→2 by another group's constraint: B 1's own dependencies disappear."""
    store = {
        "A": {"1.0.0": {"B": ">=1.0.0"}},
        "Z": {"1.0.0": {"B": ">=2.0.0"}},
        "B": {"1.0.0": {"OnlyOfB1": "*"}, "2.0.0": {}},
        "OnlyOfB1": {"1.0.0": {}},
    }
    resolution = resolved(
        {}, {"A": "1.0.0"}, others={"thinggroup/z": {"Z": "1.0.0"}}, running={"B": "1.0.0"}, store=store
    )
    assert versions(resolution) == {"A": "1.0.0", "B": "2.0.0", "Z": "1.0.0"}


def test_21_two_groups_that_disagree_fail_until_one_is_left() -> None:
    """Case 21: two groups naming one root at incompatible versions: the second fails, and succeeds after leaving."""
    cloud: World = {"A": {"1.0.0": {}, "2.0.0": {}}}
    with pytest.raises(DeploymentError, match=r"thinggroup/g needs 2\.0\.0, thinggroup/first needs 1\.0\.0"):
        resolved(cloud, {"A": "2.0.0"}, others={"thinggroup/first": {"A": "1.0.0"}})
    assert versions(resolved(cloud, {"A": "2.0.0"})) == {"A": "2.0.0"}


def test_21_requirements_that_make_no_sense_together_fail_too() -> None:
    """Rule V4: texts are joined with a blank; the join may be nonsense."""
    cloud: World = {"A": {"1.0.0": {"B": "1.0.0"}}, "B": {"1.0.0": {}, "2.0.0": {}}}
    with pytest.raises(DeploymentError, match="no version of B fits"):
        resolved(cloud, {"A": "1.0.0", "B": "2.0.0"})


def test_22_a_running_version_that_fits_stays() -> None:
    """Case 22: running 1.0.0, store has 1.1.0, dependency ^1.0.0: stays 1.0.0."""
    store: World = {"A": {"1.0.0": {"B": "^1.0.0"}}, "B": {"1.0.0": {}, "1.1.0": {}}}
    assert versions(resolved({}, {"A": "1.0.0"}, running={"B": "1.0.0"}, store=store))["B"] == "1.0.0"
    assert versions(resolved({}, {"A": "1.0.0"}, store=store))["B"] == "1.1.0"


def test_23_a_local_deployment_that_finds_all_here_asks_no_cloud() -> None:
    """Case 23: local deployment, range satisfied locally, cloud reachable: cloud not asked."""
    store: World = {"A": {"1.0.0": {}, "1.5.0": {}}}
    cloud: World = {"A": {"1.9.0": {}}}
    asked: list[str] = []
    resolution = resolved(cloud, {"A": "^1.0.0"}, store=store, target="LOCAL_DEPLOYMENT", asked=asked)
    assert versions(resolution) == {"A": "1.5.0"}
    assert asked == []
    assert versions(resolved(cloud, {"A": "^1.0.0"}, store=store, asked=asked)) == {"A": "1.9.0"}
    assert asked == ["A"]


def test_24_offline_with_nothing_here_fails() -> None:
    """Case 24: offline, nothing local: COMPONENT_VERSION_REQUIREMENTS_NOT_MET."""
    with pytest.raises(DeploymentError) as caught:
        resolved({}, {"A": "1.0.0"})
    assert caught.value.codes == ("COMPONENT_VERSION_REQUIREMENTS_NOT_MET",)


def nuclei(roots: Mapping[str, str], running: Mapping[str, str], recipes: Mapping[str, Recipe]) -> Resolution:
    steps = resolve(
        "thinggroup/g",
        requirements(roots),
        {},
        running={ComponentName(name): Version.parse(text) for name, text in running.items()},
        available=lambda name: (),
    )
    return finished(steps, lambda ask: recipes[ask.name])


def test_one_nucleus_and_no_move_of_it_by_a_dependency() -> None:
    """Section 5.4, step 6."""
    java = recipe("N", "2.18.0", {}, ComponentType.NUCLEUS)
    lite = recipe("L", "2.0.0", {}, ComponentType.NUCLEUS)
    needy = recipe("A", "1.0.0", {"N": "*"})
    recipes = {"N": java, "L": lite, "A": needy}
    with pytest.raises(DeploymentError) as several:
        nuclei({"N": "2.18.0", "L": "2.0.0"}, {}, recipes)
    assert several.value.codes == ("MULTIPLE_NUCLEUS_RESOLVED_ERROR",)
    with pytest.raises(DeploymentError) as moved:
        nuclei({"A": "1.0.0"}, {"N": "2.17.0"}, recipes)
    assert moved.value.codes == ("UNAUTHORIZED_NUCLEUS_MINOR_VERSION_UPDATE",)
    assert nuclei({"A": "1.0.0"}, {"N": "2.18.3"}, recipes).recipes
    assert nuclei({"A": "1.0.0", "N": "2.18.0"}, {"N": "2.17.0"}, recipes).recipes


def test_versions_that_chase_each_other_end() -> None:
    """A re-resolves B, B re-resolves A, for ever: said, not looped."""
    world = {
        "A": {"1.0.0": {"B": "1.0.0"}, "2.0.0": {"B": "2.0.0"}},
        "B": {"1.0.0": {"A": "2.0.0"}, "2.0.0": {"A": "1.0.0"}},
    }
    with pytest.raises(DeploymentError):
        resolved(world, {"A": "*"})


NAMES = "ABCDE"


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Components without circles: each needs only names after its own. No ``||``: joined, it changes meaning (V4)."""
    texts = st.sampled_from(["*", ">=1.0.0", "^1.0.0", "^2.0.0", "1.0.0", ">=1.1.0 <2.0.0"])
    return {
        name: {
            version: {other: draw(texts) for other in NAMES if other > name and draw(st.booleans())}
            for version in draw(st.sets(st.sampled_from(["1.0.0", "1.1.0", "2.0.0"]), min_size=1))
        }
        for name in NAMES
    }


@settings(max_examples=settings.default.max_examples // 2)
@given(worlds(), st.sets(st.sampled_from(NAMES), min_size=1), st.booleans())
def test_a_resolved_set_is_closed_meets_every_requirement_and_holds_nothing_else(
    world: World, roots: set[str], offline: bool
) -> None:
    wanted = {name: min(world[name]) for name in roots}
    try:
        resolution = resolved({} if offline else world, wanted, store=world if offline else {})
    except DeploymentError:
        return
    recipes = resolution.recipes
    needed = {ComponentName(name) for name in roots}
    for name, one in recipes.items():
        for other, dependency in one.dependencies.items():
            assert dependency.requirement.matches(recipes[other].version), (name, other)
    reached: set[ComponentName] = set()
    while needed:
        name = needed.pop()
        reached.add(name)
        needed |= set(recipes[name].dependencies) - reached
    assert reached == set(recipes)
    for name in roots:
        assert str(recipes[ComponentName(name)].version) == wanted[name]


@pytest.mark.parametrize(
    ("name", "texts", "version"),
    [
        ("aws.greengrass.Nucleus", ["2.5.3"], "2.5.3"),
        ("aws.greengrass.Nucleus", [">=2.0.0 <2.20.0"], "2.18.0"),
        ("aws.greengrass.Nucleus", [">=2.1.0 <2.4.0"], "2.1.0"),
        ("aws.greengrass.TokenExchangeService", ["^2.0.0"], "2.0.3"),
        ("aws.greengrass.Cli", [], "2.18.0"),
    ],
)
def test_awss_own_components_resolve_at_any_version(name: str, texts: list[str], version: str) -> None:
    found = provided.recipe(ComponentName(name), [Requirement.parse(text) for text in texts])
    assert found is not None
    assert str(found.version) == version
    assert found.manifests[0].artifacts == ()


def test_a_stand_in_stays_at_its_running_version() -> None:
    found = provided.recipe(provided.NUCLEUS, [Requirement.parse("^2.0.0")], Version(2, 3, 0))
    assert found is not None
    assert found.version == Version(2, 3, 0)


def test_others_say_why_they_cannot_run() -> None:
    assert provided.recipe(ComponentName("com.example.Camera")) is None
    assert "Java" in (provided.why_missing("aws.greengrass.StreamManager") or "")
    assert provided.why_missing("com.example.Camera") is None
