"""Cases 25 to 37: configuration and recipe variables, by deployments to a device whose cloud is a folder."""

import logging
from typing import Any

import pytest

from monodon.core.names import ComponentName

A = ComponentName("A")
#: A script that writes down what stands in it for ``{}``.
SEES = "printf '%s\\n' '{}' > \"$OUT/seen\""
#: When the deployments of these tests were made, in ms.
T = 10_000


class Subject:
    """The component A, its configuration, and what its Startup script saw of it."""

    def __init__(self, device: Any, cloud: Any) -> None:
        self.device, self.cloud = device, cloud

    def publish(self, defaults: Any, version: str = "1.0.0", *, sees: str = "", **members: Any) -> None:
        """Publish A, whose Startup writes down what ``sees`` has become."""
        self.cloud.publish("A", version, {"Startup": SEES.replace("{}", sees)}, configuration=defaults, **members)

    async def deploy(
        self, version: str = "1.0.0", *, at: int = T, merge: Any = None, reset: tuple[str, ...] = ()
    ) -> Any:
        """Deploy A as of ``at``; return its live configuration."""
        update = {"reset": list(reset)} | ({} if merge is None else {"merge": merge})
        outcome = await self.device.deploy(
            {"A": {"version": version, "configurationUpdate": update}}, creationTimestamp=at
        )
        assert outcome.has_succeeded, outcome
        return self.live()

    async def running(self, value: Any, at: int) -> None:
        """Have A run with ``value`` in its configuration, written at ``at``."""
        self.cloud.publish("A", "0.1.0", {}, configuration={})
        await self.deploy("0.1.0", at=1)
        self.device.state.update_configuration(A, (), value, at)

    def live(self) -> Any:
        return self.device.configuration("A")

    def seen(self) -> str:
        """What A's script, `SEES`, found where its recipe has a variable."""
        return str((self.device.root.parent / "seen").read_text().removesuffix("\n"))


@pytest.fixture
def subject(device: Any, cloud: Any) -> Subject:
    return Subject(device, cloud)


async def test_case_25_defaults_alone(subject: Subject) -> None:
    """Given: default a=1, no running, no update

    Expect: a=1
    """
    subject.publish({"a": 1})
    assert await subject.deploy() == {"a": 1}


async def test_case_26_the_newer_of_two_writes_wins(subject: Subject) -> None:
    """Given: default valueA, running valueB at 9000, merge valueC at 10000 / running at 11000

    Expect: valueC / valueB
    """
    subject.publish({"a": "valueA"})
    await subject.running({"a": "valueB"}, 9_000)
    assert await subject.deploy(merge={"a": "valueC"}) == {"a": "valueC"}
    subject.device.state.update_configuration(A, (), {"a": "valueB"}, 11_000)
    assert await subject.deploy(merge={"a": "valueC"}) == {"a": "valueB"}


async def test_case_27_reset_of_two_keys(subject: Subject) -> None:
    """Given: running a=B,b=D; reset /a,/b; default a=A

    Expect: a=A, b gone
    """
    subject.publish({"a": "A"})
    await subject.running({"a": "B", "b": "D"}, 9_000)
    assert await subject.deploy(reset=("/a", "/b")) == {"a": "A"}


async def test_case_28_reset_of_everything(subject: Subject) -> None:
    """Given: reset [""] with others

    Expect: defaults only
    """
    subject.publish({"a": 1})
    await subject.running({"a": 5, "b": 6}, 9_000)
    assert await subject.deploy(reset=("", "/a")) == {"a": 1}


async def test_case_28a_a_changed_default_does_not_arrive(subject: Subject) -> None:
    """Given: 1.0.0 default a=1 deployed; 1.1.0 default a=2,b=3, no update

    Expect: a=1, b=3
    """
    subject.publish({"a": 1})
    subject.publish({"a": 2, "b": 3}, "1.1.0")
    await subject.deploy()
    assert await subject.deploy("1.1.0", at=T + 1) == {"a": 1, "b": 3}


async def test_case_28b_a_reset_loses_to_a_later_write_but_variables_see_the_default(
    subject: Subject, caplog: pytest.LogCaptureFixture
) -> None:
    """Given: live a=9 at 11000, default a=1; deployment at 10000 resets /a

    Expect: live a=9; variables see 1

    Differs: the store's result is AWS's; Monodon warns that the two differ.
    """
    subject.publish({"a": 1}, sees="{configuration:/a}")
    await subject.running({"a": 9}, 11_000)
    assert await subject.deploy(reset=("/a",)) == {"a": 9}
    assert subject.seen() == "1"
    assert "/a stays as it was written after this deployment was made" in caplog.text


async def test_case_28c_a_reset_without_default_removes_whatever_its_time(subject: Subject) -> None:
    """Given: live x=9 at 11000, no default; deployment at 10000 resets /x

    Expect: x gone
    """
    subject.publish({})
    await subject.running({"x": 9}, 11_000)
    assert await subject.deploy(reset=("/x",)) == {}


async def test_case_28d_a_key_keeps_its_first_spelling(subject: Subject) -> None:
    """Given: default message, merge Message=z

    Expect: one key, spelled `message`, value z
    """
    subject.publish({"message": "a"})
    assert await subject.deploy(merge={"Message": "z"}) == {"message": "z"}


async def test_case_29_a_reset_into_a_list_is_ignored(subject: Subject, caplog: pytest.LogCaptureFixture) -> None:
    """Given: reset /list/0

    Expect: ignored, error logged

    Differs: logged as a warning, since the deployment goes on.
    """
    subject.publish({})
    await subject.running({"list": [1, 2]}, 9_000)
    assert await subject.deploy(reset=("/list/0",)) == {"list": [1, 2]}
    found = [record for record in caplog.records if "reset of '/list/0' is ignored" in record.getMessage()]
    assert found
    assert found[0].levelno >= logging.WARNING


async def test_case_30_leaves_and_maps_replace_one_another(subject: Subject) -> None:
    """Given: merge leaf over map and map over leaf

    Expect: replaced
    """
    subject.publish({"map": {"b": 1}, "leaf": 7})
    await subject.deploy(at=T - 1)
    assert await subject.deploy(merge={"map": 7, "leaf": {"b": 1}}) == {"map": 7, "leaf": {"b": 1}}


async def test_case_31_null_is_a_value(subject: Subject) -> None:
    """Given: merge null

    Expect: value null, renders `null`
    """
    subject.publish({"a": 1}, sees="{configuration:/a}")
    assert await subject.deploy(merge={"a": None}) == {"a": None}
    assert subject.seen() == "null"


async def test_case_32_a_list_is_replaced_whole(subject: Subject) -> None:
    """Given: merge {list:[3]} over [1,2]

    Expect: [3]
    """
    subject.publish({"list": [1, 2]})
    await subject.deploy(at=T - 1)
    assert await subject.deploy(merge={"list": [3]}) == {"list": [3]}


async def test_case_33_the_whole_configuration_as_json(subject: Subject) -> None:
    """Given: `{configuration:}` with {startup:{paramA:valueA}}

    Expect: `{"startup":{"paramA":"valueA"}}`
    """
    subject.publish({"startup": {"paramA": "valueA"}}, sees="{configuration:}")
    await subject.deploy()
    assert subject.seen() == '{"startup":{"paramA":"valueA"}}'


async def test_case_34_what_stands_for_nothing_stays(subject: Subject) -> None:
    """Given: `{configuration:/missing}`, `{Other:configuration:/x}` non-dependency

    Expect: unchanged text
    """
    text = "{configuration:/missing} {Other:configuration:/x}"
    subject.publish({}, sees=text)
    subject.cloud.publish("Other", "1.0.0", {}, configuration={"x": 1})
    assert (await subject.device.deploy({"A": "1.0.0", "Other": "1.0.0"})).has_succeeded
    assert subject.seen() == text


async def test_case_35_a_dependency_configured_in_the_same_deployment(subject: Subject) -> None:
    """Given: `{B:configuration:/p}` with B a dependency updated in the same deployment

    Expect: new value
    """
    subject.cloud.publish("B", "1.0.0", {}, configuration={"p": "old"})
    subject.publish({}, sees="{B:configuration:/p}", needs={"B": "*"})
    await subject.deploy()
    assert subject.seen() == "old"
    merge = {"version": "1.0.0", "configurationUpdate": {"merge": {"p": "new"}}}
    assert (await subject.device.deploy({"A": "1.0.0", "B": merge})).has_succeeded
    assert subject.seen() == "new"


async def interpolated(subject: Subject, *, is_on: bool) -> Any:
    setting = {"configurationUpdate": {"merge": {"interpolateComponentConfiguration": is_on}}}
    roots = {"A": "1.0.0", "aws.greengrass.Nucleus": {"version": "2.18.0", **setting}}
    assert (await subject.device.deploy(roots)).has_succeeded
    return subject.live()


async def test_case_36_system_variables_in_configuration(subject: Subject) -> None:
    """Given: configuration holds `{artifacts:path}`, interpolation off / on

    Expect: untouched / path

    Differs: all configurations are interpolated before any lifecycle, so that what a lifecycle sees does not depend \
on an order (rule I9).
    """
    subject.publish({"where": "{artifacts:path}"}, sees="{configuration:/where}")
    assert await interpolated(subject, is_on=False) == {"where": "{artifacts:path}"}
    assert subject.seen() == "{artifacts:path}"
    path = str(subject.device.store.artifacts_path(A, subject.device.state.installed[A].version))
    assert await interpolated(subject, is_on=True) == {"where": path}
    assert subject.seen() == path


async def test_case_37_configuration_variables_in_configuration(subject: Subject) -> None:
    """Given: configuration holds `{configuration:/b}`, interpolation on

    Expect: untouched
    """
    subject.publish({"a": "{configuration:/b}", "b": 1}, sees="{configuration:/a}")
    assert await interpolated(subject, is_on=True) == {"a": "{configuration:/b}", "b": 1}
    assert subject.seen() == "{configuration:/b}"
