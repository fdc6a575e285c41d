"""The lifecycle table: nucleus.md 3.4, 3.5, 3.7, and cases 38-50 as far as no process is needed."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monodon.core.lifecycle import (
    REPORTABLE,
    TRANSITIONS,
    Effect,
    Event,
    Failure,
    Request,
    State,
    Status,
    advance,
    diagram,
    due,
    is_out_of_the_way,
    is_ready,
    request,
)
from monodon.errors import InvalidTransition

N, I, G, R, P, E, B, F = (  # noqa: E741
    State.NEW, State.INSTALLED, State.STARTING, State.RUNNING, State.STOPPING, State.ERRORED, State.BROKEN,
    State.FINISHED,
)  # fmt: skip
UNINSTALLED = State.UNINSTALLED
FAILURE = Failure(code="RUN_ERROR", reason="exit code 1")


class Walk:
    """A component and its clock: does what is due, and notes every state it enters."""

    def __init__(self, status: Status | None = None) -> None:
        self.status = status or Status()
        self.now = 0.0
        self.states: list[State] = [self.status.state]
        self.effects: list[Effect] = []

    def ask(self, *requests: Request, is_ready: bool = True) -> "Walk":
        for wanted in requests:
            self.status = request(self.status, wanted)
            self.settle(is_ready=is_ready)
        return self

    def feed(self, *events: Event, is_ready: bool = True) -> "Walk":
        for event in events:
            self._advance(event)
            self.settle(is_ready=is_ready)
        return self

    def settle(self, *, is_ready: bool = True) -> "Walk":
        while event := due(self.status, is_ready=is_ready):
            self._advance(event)
        return self

    def _advance(self, event: Event) -> None:
        before = self.status.state
        self.status, effects = advance(self.status, event, self.now, FAILURE if event is Event.FAILED else None)
        self.effects += effects
        if self.status.state is not before:
            self.states.append(self.status.state)


RUN = (Event.INSTALLED, Event.STARTED)
CRASH = (Event.FAILED, Event.RECOVERED, Event.STOPPED, Event.STARTED)


def running() -> Walk:
    walk = Walk().ask(Request.START).feed(*RUN)
    assert walk.status.state is R
    assert walk.status.is_settled
    walk.states, walk.effects = [], []
    return walk


def test_case_38_run_that_ends_well_is_stopped_and_finished() -> None:
    walk = running().feed(Event.DONE, Event.STOPPED)
    assert walk.states == [P, F]
    assert walk.effects == [Effect.SHUT_DOWN]
    assert walk.status.is_settled


def test_case_39_the_third_error_breaks_and_shutdown_runs_without_a_change_of_state() -> None:
    walk = running().feed(*CRASH, *CRASH, Event.FAILED)
    assert walk.states == [E, P, I, G, R] * 2 + [B]
    assert walk.effects[-1] is Effect.SHUT_DOWN
    assert (walk.status.failure, walk.status.attempts) == (FAILURE, 3)
    assert not walk.status.is_settled
    walk.feed(Event.STOPPED)
    assert walk.status.is_settled
    assert (walk.status.state, walk.status.failure, walk.status.attempts) == (B, FAILURE, 3)


@pytest.mark.parametrize(("gap_s", "state"), [(3600, R), (3599, B)])
def test_case_40_errors_an_hour_apart_never_break(gap_s: float, state: State) -> None:
    walk = running()
    for _ in range(5):
        walk.now += gap_s
        if walk.status.state is R:
            walk.feed(*CRASH[:1])
        if walk.status.state is E:
            walk.feed(*CRASH[1:])
    assert walk.status.state is state


def test_case_41_install_that_fails_once_is_tried_again() -> None:
    walk = Walk().ask(Request.START).feed(Event.FAILED, Event.RECOVERED, Event.INSTALLED)
    assert walk.states == [N, E, N, I, G]


def test_case_43_an_error_of_starting_is_forgotten_once_it_runs_but_not_those_of_running() -> None:
    """X2."""
    walk = Walk().ask(Request.START).feed(Event.INSTALLED)
    walk.feed(Event.FAILED, Event.RECOVERED, Event.STOPPED, Event.FAILED, Event.RECOVERED, Event.STOPPED)
    assert len(walk.status.errors[G]) == 2
    walk.feed(Event.STARTED, Event.FAILED)
    assert G not in walk.status.errors
    assert len(walk.status.errors[R]) == 1
    walk.feed(Event.RECOVERED, Event.STOPPED, Event.STARTED)
    assert len(walk.status.errors[R]) == 1


def test_case_44_nothing_to_run_is_finished() -> None:
    walk = Walk().ask(Request.START).feed(Event.INSTALLED, Event.NOTHING_TO_RUN)
    assert walk.states == [N, I, G, F]
    assert walk.status.is_settled


def test_case_49_a_component_waits_installed_for_its_dependencies() -> None:
    walk = Walk().ask(Request.START, is_ready=False).feed(Event.INSTALLED, is_ready=False)
    assert (walk.status.state, walk.status.is_settled) == (I, False)
    assert walk.settle(is_ready=True).status.state is G
    assert walk.feed(Event.UNREADY, is_ready=False).status.state is I


def test_broken_leaves_only_by_a_reinstall_with_all_errors_forgotten() -> None:
    """X5."""
    walk = running().feed(*CRASH, *CRASH, Event.FAILED, Event.STOPPED)
    assert walk.ask(Request.START, Request.RESTART, Request.STOP).status.state is B
    walk.ask(Request.REINSTALL)
    assert (walk.status.state, dict(walk.status.errors), walk.status.failure) == (N, {}, None)
    assert walk.feed(*RUN).status.state is R


def test_shutdown_that_overruns_goes_straight_on_to_what_was_asked() -> None:
    walk = running().ask(Request.STOP).feed(Event.FAILED)
    assert walk.states == [P, E]
    assert walk.feed(Event.RECOVERED).states == [P, E, F]
    walk = running().ask(Request.REINSTALL).feed(Event.FAILED, Event.RECOVERED)
    assert walk.states == [P, E, N]
    walk = running().ask(Request.RESTART).feed(Event.FAILED, Event.RECOVERED)
    assert walk.states == [P, E, I, G]


def test_an_error_with_nothing_wanted_wants_it_running_again() -> None:
    assert running().feed(Event.FAILED, Event.RECOVERED).status.desired == (R,)


def test_a_reinstall_asked_for_while_install_runs_installs_once_more() -> None:
    walk = Walk().ask(Request.START, Request.REINSTALL).feed(Event.INSTALLED)
    assert walk.states == [N, I, N]
    assert walk.effects == [Effect.INSTALL, Effect.INSTALL]
    assert walk.feed(*RUN).status.state is R


@pytest.mark.parametrize(
    ("asked", "desired"),
    [
        ([Request.START], (R,)),
        ([Request.STOP], (F,)),
        ([Request.RESTART], (I, R)),
        ([Request.REINSTALL], (N, R)),
        ([Request.UNINSTALL], (F, UNINSTALLED)),
        ([Request.REINSTALL, Request.STOP], (N, F)),
        ([Request.REINSTALL, Request.RESTART], (N, R)),
        ([Request.REINSTALL, Request.STOP, Request.START], (N, R)),
        ([Request.STOP, Request.RESTART], (I, R)),
        ([Request.UNINSTALL, Request.START], (F, UNINSTALLED)),
    ],
)
def test_desired_lists(asked: Sequence[Request], desired: tuple[State, ...]) -> None:
    """3.4; a restart or stop never overrides a pending reinstall."""
    status = Status(state=P, is_busy=True)
    for wanted in asked:
        status = request(status, wanted)
    assert status.desired == desired


def test_requests_that_do_nothing() -> None:
    assert request(Status(), Request.RESTART) == Status()
    assert request(Status(state=R), Request.START) == Status(state=R)
    assert request(Status(state=B), Request.UNINSTALL).desired == (UNINSTALLED,)


def test_removal() -> None:
    walk = running().ask(Request.UNINSTALL).feed(Event.STOPPED, Event.UNINSTALLED)
    assert walk.states == [P, F, State.UNINSTALLING, UNINSTALLED]
    assert walk.effects == [Effect.SHUT_DOWN, Effect.UNINSTALL]
    assert Walk().ask(Request.UNINSTALL).effects == [Effect.UNINSTALL]
    broken = running().feed(*CRASH, *CRASH, Event.FAILED, Event.STOPPED)
    assert broken.ask(Request.UNINSTALL).states[-2:] == [B, State.UNINSTALLING]


@pytest.mark.parametrize(
    ("status", "ready"),
    [(Status(state=state), state in (R, F)) for state in State if state is not P]
    + [(Status(state=P), True), (Status(state=P, origin=R), True), (Status(state=P, origin=G), False)],
)
def test_readiness_of_a_hard_dependency(status: Status, ready: bool) -> None:
    """D1; case 50: a soft one never counts."""
    assert is_ready(status, is_hard=True) is ready
    assert is_ready(status, is_hard=False)


def test_removal_waits_for_dependers_to_stop() -> None:
    """D4."""
    assert {state for state in (N, I, G, R, P, E, B, F) if is_out_of_the_way(Status(state=state))} == {E, B, F, N}


def test_only_some_states_can_be_reported() -> None:
    """3.4: NEW→ERRORED; STARTING→RUNNING, ERRORED, FINISHED; RUNNING→ERRORED, FINISHED; STOPPING→ERRORED."""
    assert set(REPORTABLE) == {(N, E), (G, R), (G, E), (G, F), (R, E), (R, F), (P, E)}
    assert all((state, event) in TRANSITIONS for (state, _), event in REPORTABLE.items())


def test_what_is_not_in_the_table_is_refused() -> None:
    with pytest.raises(InvalidTransition, match="'installed' cannot happen to a component that is RUNNING"):
        advance(Status(state=R), Event.INSTALLED, 0)


def test_the_code_and_reason_live_as_long_as_the_error() -> None:
    """X8."""
    walk = running().feed(Event.FAILED)
    assert walk.status.failure == FAILURE
    assert walk.feed(Event.RECOVERED).status.failure is None


def test_the_diagram_in_the_docs_is_that_of_the_table() -> None:
    page = Path(__file__).parents[2] / "docs" / "lifecycle.md"
    assert diagram() in page.read_text(), "write what `python -m monodon.core.lifecycle` prints into docs/lifecycle.md"


OUTCOMES: dict[Effect, tuple[Event, ...]] = {
    Effect.INSTALL: (Event.INSTALLED, Event.FAILED),
    Effect.START: (Event.STARTED, Event.NOTHING_TO_RUN, Event.UNREADY, Event.FAILED),
    Effect.SHUT_DOWN: (Event.STOPPED, Event.FAILED),
    Effect.RECOVER: (Event.RECOVERED,),
    Effect.UNINSTALL: (Event.UNINSTALLED,),
}


@settings(deadline=None)
@given(st.data(), st.lists(st.sampled_from(Request), max_size=12))
def test_law_every_request_ends_settled_when_effects_end_well(data: st.DataObject, asked: list[Request]) -> None:
    """Whatever is asked and however effects end, there is always a legal way on; and when they end well, an end."""
    walk = Walk()
    for wanted in asked:
        walk.ask(wanted)
        for _ in range(data.draw(st.integers(0, 3))):
            if walk.status.is_busy:
                events = OUTCOMES[walk.effects[-1]]
                walk.feed(data.draw(st.sampled_from(events)))
            elif walk.status.state is R:
                walk.feed(data.draw(st.sampled_from([Event.DONE, Event.FAILED])))
    for _ in range(20):
        if not walk.status.is_busy:
            break
        walk.feed(OUTCOMES[walk.effects[-1]][0])
    assert walk.status.is_settled
    assert all(len(times) <= 3 for times in walk.status.errors.values())


@settings(deadline=None)
@given(st.lists(st.sampled_from(Request), max_size=5))
def test_law_asking_twice_is_asking_once(asked: list[Request]) -> None:
    status = Status(state=P, is_busy=True)
    for wanted in asked:
        once = request(status, wanted)
        assert request(once, wanted) == once
        status = once
    assert replace(status) == status
