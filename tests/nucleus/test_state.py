"""The device's state: on disk before it is acknowledged, whole sets at once, watchers told of what changed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from monodon.core.configuration import EMPTY
from monodon.core.names import ComponentName
from monodon.core.plan import Installed, RunWith
from monodon.core.semver import Version
from monodon.errors import ConfigurationError
from monodon.nucleus.journal import Journal
from monodon.nucleus.state import REMEMBERED_LOCAL, DeviceState

CAMERA, MODEL = ComponentName.parse("com.example.Camera"), ComponentName.parse("com.example.Model")


def installed(name: ComponentName, **settings: object) -> Installed:
    return Installed(
        name=name,
        version=Version.parse("1.0.0"),
        lifecycle={"Run": "sleep 1"},
        run_with=RunWith(posix_user="nobody", memory_kb=1024, cpus=0.5),
        configuration=EMPTY.merge((), settings, at_ms=100),
        is_root=True,
    )


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path) as journal:
        yield journal


def test_a_deployment_is_committed_whole(journal: Journal) -> None:
    state = DeviceState(journal)
    state.put_installed(installed(MODEL))
    state.begin({"deployment": "d-1"})
    assert DeviceState(journal).open_deployment == {"deployment": "d-1"}
    last = {"arn": None, "timestamp_ms": 5, "deployment_id": "d-1"}
    state.commit({CAMERA: installed(CAMERA)}, roots={"thinggroup/g": {CAMERA: "1.0.0"}}, last={"thinggroup/g": last})
    for seen in (state, DeviceState(journal)):
        assert dict(seen.installed) == {CAMERA: installed(CAMERA)}
        assert seen.open_deployment is None
        assert seen.roots("thinggroup/g") == {CAMERA: "1.0.0"}
        assert seen.last_deployment("thinggroup/g") == last
        assert seen.targets_of(CAMERA) == ("thinggroup/g",)
        assert seen.roots("thing/t") == {}
        assert seen.last_deployment("thing/t") is None


def test_a_target_is_forgotten_with_its_last_deployment(journal: Journal) -> None:
    state = DeviceState(journal)
    state.commit(roots={"thinggroup/g": {CAMERA: "1.0.0"}, "thing/t": {}}, last={"thinggroup/g": {"arn": None}})
    state.commit(roots={"thinggroup/g": None})
    assert state.targets() == {"thing/t": {}}
    assert state.last_deployment("thinggroup/g") is None


def test_replacing_the_set_keeps_the_deployment_open(journal: Journal) -> None:
    state = DeviceState(journal)
    state.begin("d")
    state.replace_installed({CAMERA: installed(CAMERA), MODEL: installed(MODEL)})
    state.remove_installed(CAMERA)
    assert set(DeviceState(journal).installed) == {MODEL}
    assert state.open_deployment == "d"
    state.end()
    assert DeviceState(journal).open_deployment is None
    assert set(state.installed) == {MODEL}


def test_the_view_of_the_set_may_be_given_back(journal: Journal) -> None:
    state = DeviceState(journal)
    state.put_installed(installed(CAMERA))
    state.replace_installed(state.installed)
    state.commit(state.installed)
    assert set(state.installed) == set(DeviceState(journal).installed) == {CAMERA}


def test_configuration_is_on_disk_and_watchers_hear_what_changed(journal: Journal) -> None:
    state = DeviceState(journal)
    heard: list[object] = []
    unwatch = state.watch_configuration(CAMERA, heard.append)
    state.put_installed(installed(CAMERA, labels=["a"], source={"url": "x", "fps": 5}))
    assert heard == []
    changed = state.update_configuration(CAMERA, ("source",), {"fps": 9, "url": "x"}, 200)
    assert changed == (("source", "fps"),)
    assert heard == [changed]
    assert state.update_configuration(CAMERA, (), {"labels": ["b"]}, 50) == ()
    assert len(heard) == 1
    state.put_installed(installed(CAMERA, labels=["b"]))
    assert heard[1] == (("labels",), ("source",))
    unwatch()
    unwatch()
    state.update_configuration(CAMERA, (), {"labels": []}, 300)
    assert len(heard) == 2
    read = DeviceState(journal).configuration(CAMERA)
    assert read is not None
    assert (read.value(), read.modified_ms(("labels",))) == ({"labels": []}, 300)


def test_one_watcher_that_fails_keeps_nobody_else_from_hearing(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(paths: object) -> None:
        raise RuntimeError(paths)

    state = DeviceState(journal)
    heard: list[object] = []
    state.watch_configuration(CAMERA, fail)
    state.watch_configuration(CAMERA, heard.append)
    state.put_installed(installed(CAMERA))
    state.update_configuration(CAMERA, (), {"a": 1}, 200)
    assert heard == [(("a",),)]
    assert "who watches the configuration of com.example.Camera failed" in caplog.text


def test_a_component_that_is_not_there_has_no_configuration(journal: Journal) -> None:
    state = DeviceState(journal)
    assert state.configuration(CAMERA) is None
    with pytest.raises(ConfigurationError, match=r"no component com\.example\.Camera"):
        state.update_configuration(CAMERA, (), {}, 1)


def test_sequence_numbers_go_on_after_a_restart(journal: Journal) -> None:
    state = DeviceState(journal)
    assert [state.next_sequence(), state.next_sequence()] == [1, 2]
    assert DeviceState(journal).next_sequence() == 3


def test_local_deployments_are_remembered_up_to_a_number(journal: Journal) -> None:
    state = DeviceState(journal)
    for number in range(REMEMBERED_LOCAL + 3):
        state.put_local(f"d-{number}", {"created_ms": number})
    state.commit(local={"d-5": {"created_ms": 5, "outcome": {}}})
    known = DeviceState(journal).local_deployments()
    assert list(known) == [f"d-{number}" for number in range(3, REMEMBERED_LOCAL + 3)]
    assert known["d-5"] == {"created_ms": 5, "outcome": {}}
