"""Rules Q2 and Q3: which deployment waits, in which place, and which is dropped."""

import pytest

from monodon.core.deployment import Deployment
from monodon.nucleus.queue import DeploymentQueue, Entry
from monodon.nucleus.uplink.protocol import DeploymentArrived


def entry(text: str) -> Entry:
    """``j1`` came by a job, ``s1`` by the shadow, ``l1`` is local; a mark after it tells arrivals of one id apart."""
    kind, key = text[0], text[:2].replace("s", "j")
    deployment = Deployment(deployment_id=key, target="thinggroup/g", timestamp_ms=1, name=text)
    ways = {"j": DeploymentArrived(deployment=deployment, job_id=text), "s": DeploymentArrived(deployment=deployment)}
    return Entry(deployment=deployment, arrival=ways.get(kind), created_ms=0)


@pytest.mark.parametrize(
    ("arrive", "dropped", "wait"),
    [
        (["j1", "l2", "j3"], [], ["j1", "l2", "j3"]),
        (["s1", "s2"], [], ["s2"]),
        (["j1", "s2", "l3", "s4"], [], ["j1", "s4", "l3"]),
        (["s1", "s1 again"], [], ["s1 again"]),
        (["j1", "s1"], [], ["s1"]),
        (["j1", "j1 again"], ["j1 again"], ["j1"]),
        (["l1", "l1 again", "l2"], ["l1 again"], ["l1", "l2"]),
        (["s1", "j1"], ["j1"], ["s1"]),
        ([], [], []),
    ],
)
def test_what_waits(arrive: list[str], dropped: list[str], wait: list[str]) -> None:
    queue = DeploymentQueue()
    refused = [text for text in arrive if not queue.add(entry(text))]
    assert refused == dropped
    assert [each.deployment.name for each in queue] == wait
    assert [queue.take().deployment.name for _ in range(len(queue))] == wait


def test_a_double_renews_the_way_its_result_goes_back() -> None:
    """A job that is told again after a reconnect: the report goes to the execution told last."""
    queue = DeploymentQueue()
    queue.add(entry("j1"))
    queue.add(entry("j1 again"))
    found = queue.find("j1")
    assert found is not None
    assert found.arrival is not None
    assert found.arrival.job_id == "j1 again"
    assert queue.find("j2") is None
