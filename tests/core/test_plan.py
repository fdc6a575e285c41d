"""Plans: what changes, in which order; and the laws that make rolling back and going on after a crash safe."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monodon.core.configuration import EMPTY
from monodon.core.names import ComponentName
from monodon.core.plan import (
    Change,
    Configure,
    Install,
    Installed,
    Remove,
    Restart,
    RunWith,
    Start,
    Step,
    Target,
    compare,
    dependency_order,
    dependers,
    plan,
)
from monodon.core.recipe.model import DependencyType
from monodon.core.semver import Version

HARD, SOFT = DependencyType.HARD, DependencyType.SOFT
A, B, C = ComponentName("A"), ComponentName("B"), ComponentName("C")


def component(name: ComponentName = A, version: str = "1.0.0", **fields: object) -> Installed:
    return replace(
        Installed(name=name, version=Version.parse(version), lifecycle={"Run": "sleep 9", "Install": "true"}),
        **fields,  # type: ignore[arg-type]
    )


def of(*components: Installed) -> dict[ComponentName, Installed]:
    return {each.name: each for each in components}


@pytest.mark.parametrize(
    ("after", "change"),
    [
        (component(), Change.NOTHING),
        (component(version="1.0.1"), Change.REINSTALL),
        (component(version="1.0.0+b"), Change.REINSTALL),
        (component(lifecycle={"Run": "sleep 9", "Install": "false"}), Change.REINSTALL),
        (component(lifecycle={"Run": "sleep 9", "Install": {"Script": "true"}}), Change.REINSTALL),
        (component(lifecycle={"Run": "sleep 9"}), Change.REINSTALL),
        (component(run_with=RunWith(posix_user="ggc")), Change.REINSTALL),
        (component(lifecycle={"Run": "sleep 8", "Install": "true"}), Change.RESTART),
        (component(lifecycle={"Run": "sleep 9", "Install": "true", "Setenv": {"A": "1"}}), Change.RESTART),
        (component(lifecycle={"Run": "sleep 9", "Install": "true", "Recover": "true"}), Change.RESTART),
        (component(lifecycle={"Run": "sleep 9", "Install": "true", "Shutdown": "true"}), Change.CONFIGURE),
        (component(lifecycle={"run": "sleep 9", "INSTALL": "true"}), Change.CONFIGURE),
        (component(run_with=RunWith(memory_kb=1024, cpus=0.5)), Change.CONFIGURE),
        (component(configuration=EMPTY.merge((), {"a": 1}, at_ms=5)), Change.CONFIGURE),
        (component(is_root=True), Change.CONFIGURE),
        (component(dependencies={B: SOFT}), Change.CONFIGURE),
        (component(dependencies={B: HARD}), Change.RESTART),
    ],
)
def test_what_a_new_definition_does_to_a_running_component(after: Installed, change: Change) -> None:
    """Section 3.6; cases 47 and 48: version: reinstall; Run or Setenv: restart; configuration alone: nothing."""
    assert compare(component(), after) is change


def test_environment_names_are_compared_with_case() -> None:
    before = component(lifecycle={"Setenv": {"PATH": "x"}})
    assert compare(before, component(lifecycle={"Setenv": {"Path": "x"}})) is Change.RESTART


def test_a_hard_dependency_that_runs_already_restarts_nobody() -> None:
    assert compare(component(), component(dependencies={B: HARD}), known={B}) is Change.CONFIGURE


def test_only_times_that_changed_restart_nobody() -> None:
    """Case 51: the same document twice brings no restart, only the times of the configuration move."""
    before = component(configuration=EMPTY.merge((), {"a": 1}, at_ms=5))
    after = component(configuration=EMPTY.merge((), {"a": 1}, at_ms=9))
    assert plan(of(before), of(after)) == (Configure(name=A, installed=after),)


def test_a_broken_component_that_stays_is_installed_again() -> None:
    """Rule X5."""
    assert plan(of(component()), of(component()), broken={A}) == (Install(name=A, installed=component(), is_new=False),)


def test_dependencies_come_first_and_leave_last() -> None:
    """Sections 3.8 and D4."""
    classifier = component(A, dependencies={B: HARD, C: SOFT})
    model, runtime = component(B, dependencies={C: HARD}), component(C)
    everything = of(classifier, model, runtime)
    assert plan({}, everything) == (
        Install(name=C, installed=runtime, is_new=True),
        Install(name=B, installed=model, is_new=True),
        Install(name=A, installed=classifier, is_new=True),
        Start(name=C),
        Start(name=B),
        Start(name=A),
    )
    assert plan(everything, {}) == (Remove(name=A), Remove(name=B), Remove(name=C))


def test_members_of_a_circle_come_last_but_come() -> None:
    """Rule D6."""
    circle = of(component(A, dependencies={B: HARD}), component(B, dependencies={A: HARD}), component(C))
    assert dependency_order(circle) == (C, A, B)


def test_hard_dependers_are_found_at_any_distance() -> None:
    components = of(component(A, dependencies={B: HARD}), component(B, dependencies={C: HARD}), component(C))
    assert dependers(components, {C}) == {A, B}
    assert dependers({**components, A: component(A, dependencies={B: SOFT})}, {C}) == {B}


def test_an_installed_component_survives_its_record() -> None:
    full = component(
        previous_version=Version.parse("0.9.0"),
        dependencies={B: HARD, C: SOFT},
        run_with=RunWith(posix_user="u:g", memory_kb=5, cpus=0.5),
        configuration=EMPTY.merge((), {"a": {"b": [1, None]}}, at_ms=7),
        is_root=True,
        arn="arn:aws:greengrass:eu-west-1:123456789012:components:A:versions:1.0.0",
    )
    assert Installed.from_record(full.to_record()) == full


NAMES = [ComponentName(letter) for letter in "ABCDEF"]


@st.composite
def targets(draw: st.DrawFn) -> Target:
    """Sets without circles: a component depends only on names after its own."""
    chosen = draw(st.sets(st.sampled_from(NAMES)))
    return {
        name: Installed(
            name=name,
            version=Version(draw(st.integers(1, 2)), 0, 0),
            lifecycle={key: draw(st.sampled_from("xy")) for key in draw(st.sets(st.sampled_from(["Run", "Install"])))},
            configuration=EMPTY.merge((), {"k": draw(st.integers(0, 1))}, at_ms=1),
            dependencies={
                other: draw(st.sampled_from([HARD, SOFT])) for other in chosen if other > name and draw(st.booleans())
            },
        )
        for name in chosen
    }


def carried_out(current: Target, steps: tuple[Step, ...]) -> tuple[Target, set[ComponentName]]:
    """What a device has after the steps, and what it was asked to start."""
    after, started = dict(current), set(current)
    for step in steps:
        match step:
            case Configure() | Install() | Restart():
                after[step.name] = step.installed
            case Start():
                started.add(step.name)
            case Remove():
                del after[step.name]
                started.discard(step.name)
    return after, started


@given(targets())
def test_planning_towards_where_you_are_gives_no_steps(target: Target) -> None:
    assert plan(target, target) == ()


@given(targets(), targets())
def test_carrying_out_a_plan_leads_to_its_target_and_starts_all_of_it(current: Target, target: Target) -> None:
    after, started = carried_out(current, plan(current, target))
    assert after == target
    assert started == set(target)


@given(targets(), targets())
def test_rolling_back_needs_no_code_of_its_own(before: Target, target: Target) -> None:
    now, _ = carried_out(before, plan(before, target))
    assert carried_out(now, plan(now, before))[0] == before


@given(targets(), targets(), st.data())
def test_a_plan_that_was_cut_short_is_planned_again(current: Target, target: Target, data: st.DataObject) -> None:
    steps = plan(current, target)
    cut = data.draw(st.integers(0, len(steps)))
    midway, _ = carried_out(current, steps[:cut])
    assert carried_out(midway, plan(midway, target))[0] == target


@given(targets(), targets())
def test_order_follows_dependencies(current: Target, target: Target) -> None:
    steps = plan(current, target)

    def ordered(names: list[ComponentName], components: Mapping[ComponentName, Installed]) -> bool:
        return all(other not in names[names.index(name) :] for name in names for other in components[name].dependencies)

    assert ordered([step.name for step in steps if isinstance(step, Start)], target)
    assert ordered([step.name for step in steps if isinstance(step, Install | Restart | Configure)], target)
    assert ordered([step.name for step in reversed(steps) if isinstance(step, Remove)], current)
