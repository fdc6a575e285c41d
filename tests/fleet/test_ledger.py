"""The ledger survives the loss of its file, or of its tags, torn lines, and two operators at once."""

import itertools
import json
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fleet.embedded import Fleet, embedded_fleet

from monodon.fleet.deploying import apply, make_plan
from monodon.fleet.entries import KEPT_TAGS, MAX_VALUE, PREFIX, Entry, Outcome, last_good, stale, tag_value
from monodon.fleet.following import Created
from monodon.fleet.ledger import Ledger
from monodon.fleet.reading import parse_desired

CAMERA = "com.example.Camera"
NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with embedded_fleet(tmp_path_factory.mktemp("cloud")) as fleet:
        fleet.publish(CAMERA, "1.0.0", {"threshold": 0.4})
        yield fleet


@pytest.fixture
def group(fleet: Fleet) -> str:
    number = next(NUMBERS)
    fleet.add(f"ledger-{number}", f"noted-{number}")
    return f"ledger-{number}"


def deployed(fleet: Fleet, ledger: Ledger, target: str, fps: int, run: str = "") -> Created:
    text = f"target: {target}\ncomponents: {{{CAMERA}: {{version: 1.0.0, merge: {{fps: {fps}}}}}}}\ntags: {{a: b}}"
    plan = make_plan(fleet.aws, parse_desired(text, file="f"))
    created = apply(fleet.aws, plan).created
    ledger.record(created, plan.request, replaces=plan.replaces, run=run)
    return created


def told(entries: tuple[Entry, ...]) -> list[tuple[str, str, str | None, str, str]]:
    return [(one.deployment_id, one.revision, one.replaces, str(one.outcome), one.run) for one in entries]


@pytest.mark.parametrize("kind", ["thinggroup", "thing"])
@pytest.mark.parametrize("lost", ["nothing", "file", "tags"])
def test_either_alone_is_enough(fleet: Fleet, group: str, tmp_path: Path, lost: str, kind: str) -> None:
    """A thing's tags are those of its core device."""
    ledger = Ledger(fleet.aws, folder=tmp_path)
    target = f"{kind}/{group if kind == 'thinggroup' else group.replace('ledger', 'noted')}"
    first = deployed(fleet, ledger, target, 1)
    ledger.judge(first.target_arn, first.deployment_id, Outcome.GOOD)
    second = deployed(fleet, ledger, target, 2, run="0123456789ab")
    ledger.judge(first.target_arn, second.deployment_id, Outcome.BAD, note="a gate")
    if lost == "file":
        ledger.file(first.target_arn).unlink()
    if lost == "tags":
        keys = [f"{PREFIX}1", f"{PREFIX}2"]
        if kind == "thinggroup":
            fleet.aws.iot.untag_resource(resourceArn=first.target_arn, tagKeys=keys)
        else:
            arn = f"arn:aws:greengrass:{fleet.aws.region}:{fleet.aws.account}:coreDevices:{target.partition('/')[2]}"
            assert sorted(fleet.aws.greengrass.list_tags_for_resource(resourceArn=arn)["tags"]) == keys
            fleet.aws.greengrass.untag_resource(resourceArn=arn, tagKeys=keys)
    entries = Ledger(fleet.aws, folder=tmp_path).read(first.target_arn)
    assert told(entries) == [
        (first.deployment_id, "1", None, "good", ""),
        (second.deployment_id, "2", first.deployment_id, "bad", "0123456789ab"),
    ]
    assert {one.operator for one in entries} == {fleet.aws.operator}
    content = ledger.content(entries[0])
    assert content is not None
    assert content.components[CAMERA].merge == {"fps": 1}
    assert content.tags == {"a": "b"}


def test_both_lost_leaves_what_aws_lists(fleet: Fleet, group: str, tmp_path: Path) -> None:
    ledger = Ledger(fleet.aws, folder=tmp_path)
    first = deployed(fleet, ledger, f"thinggroup/{group}", 1)
    fleet.aws.iot.untag_resource(resourceArn=first.target_arn, tagKeys=[f"{PREFIX}1"])
    (entry,) = Ledger(fleet.aws, folder=tmp_path / "elsewhere").read(first.target_arn)
    assert (entry.deployment_id, entry.outcome, entry.operator) == (first.deployment_id, Outcome.UNKNOWN, "")
    assert entry.made_s > 1e9


def test_a_deployment_deleted_at_aws_is_still_in_the_file(fleet: Fleet, group: str, tmp_path: Path) -> None:
    ledger = Ledger(fleet.aws, folder=tmp_path)
    first = deployed(fleet, ledger, f"thinggroup/{group}", 1)
    deployed(fleet, ledger, f"thinggroup/{group}", 2)
    fleet.aws.greengrass.delete_deployment(deploymentId=first.deployment_id)
    entry = ledger.read(first.target_arn)[0]
    assert entry.deployment_id == first.deployment_id
    content = ledger.content(entry)
    assert content is not None
    assert content.components[CAMERA].merge == {"fps": 1}
    without_file = Ledger(fleet.aws, folder=tmp_path / "elsewhere")
    assert without_file.content(without_file.read(first.target_arn)[0]) is None


def test_a_torn_line_costs_that_line_alone(fleet: Fleet, group: str, tmp_path: Path) -> None:
    ledger = Ledger(fleet.aws, folder=tmp_path)
    first = deployed(fleet, ledger, f"thinggroup/{group}", 1)
    file = ledger.file(first.target_arn)
    whole = file.read_bytes()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for garbage in (b'{"kind":"deployed","deployment_id', b"[1]\n\xff\xfe\n{}\n" + b'{"kind":"outcome","outcome":[]}'):
        file.write_bytes(whole + garbage)
        ledger.judge(first.target_arn, first.deployment_id, Outcome.GOOD)
        (entry,) = ledger.read(first.target_arn)
        assert entry.outcome is Outcome.GOOD
        assert entry.request is not None
        assert json.loads(file.read_bytes().splitlines()[0])["deployment_id"] == first.deployment_id
    fleet.aws.iot.untag_resource(resourceArn=first.target_arn, tagKeys=[f"{PREFIX}1"])
    file.write_bytes(whole[:-20])
    (entry,) = ledger.read(first.target_arn)  # the file's only line is torn: AWS has it
    assert entry.request is None
    assert ledger.content(entry) is not None


def test_two_operators_at_once_lose_nothing(fleet: Fleet, group: str, tmp_path: Path) -> None:
    """Locks are of open files, so threads meet them as processes do; long lines are not one write for every disk."""
    arn = fleet.aws.group_arn(group)

    def write(writer: int) -> None:
        ledger = Ledger(fleet.aws, folder=tmp_path)
        for number in range(30):
            ledger._append(arn, {"kind": "note", "writer": writer, "number": number, "text": "x" * 30_000})

    writers = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    lines = [json.loads(line) for line in Ledger(fleet.aws, folder=tmp_path).file(arn).read_bytes().splitlines()]
    assert sorted((one["writer"], one["number"]) for one in lines) == [(w, n) for w in range(3) for n in range(30)]


def test_the_later_word_counts_wherever_it_was_said(fleet: Fleet, group: str, tmp_path: Path) -> None:
    times = iter([100.0, 200.0, 300.0, 400.0])
    mine = Ledger(fleet.aws, folder=tmp_path / "mine", now=lambda: next(times))
    theirs = Ledger(fleet.aws, folder=tmp_path / "theirs", now=lambda: next(times))
    made = deployed(fleet, mine, f"thinggroup/{group}", 1)
    mine.judge(made.target_arn, made.deployment_id, Outcome.BAD)
    theirs.judge(made.target_arn, made.deployment_id, Outcome.GOOD)
    assert [one.outcome for one in mine.read(made.target_arn)] == [Outcome.GOOD]
    mine.judge(made.target_arn, made.deployment_id, Outcome.BAD)
    assert [one.outcome for one in theirs.read(made.target_arn)] == [Outcome.BAD]


def test_recording_twice_is_recording_once(fleet: Fleet, group: str, tmp_path: Path) -> None:
    ledger = Ledger(fleet.aws, folder=tmp_path)
    made = deployed(fleet, ledger, f"thinggroup/{group}", 1)
    before = ledger.file(made.target_arn).read_bytes()
    ledger.record(made, {"targetArn": made.target_arn}, replaces=made.deployment_id)
    assert ledger.file(made.target_arn).read_bytes() == before


def test_a_file_that_cannot_be_written_is_told_and_the_tags_are_enough(
    fleet: Fleet, group: str, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    notices: list[str] = []
    ledger = Ledger(fleet.aws, folder=blocked / "ledger", say=notices.append)
    made = deployed(fleet, ledger, f"thinggroup/{group}", 1)
    ledger.judge(made.target_arn, made.deployment_id, Outcome.GOOD)
    assert notices
    assert all("cannot be written: Not a directory" in notice for notice in notices)
    assert [one.outcome for one in ledger.read(made.target_arn)] == [Outcome.GOOD]


def test_a_tag_has_room_for_the_longest_operator() -> None:
    entry = Entry(
        deployment_id="1" * 36,
        target_arn="t",
        revision="7",
        outcome=Outcome.UNKNOWN,
        outcome_s=1_800_000_000.5,
        made_s=1_800_000_000.5,
        replaces="2" * 36,
        run="0123456789ab",
        operator="arn:aws:sts::123456789012:assumed-role/" + "r" * 64 + "/ä,\n" + "s" * 64,
    )
    value = tag_value(entry)
    assert len(value) == MAX_VALUE
    assert value.startswith("1" * 36 + " unknown 1800000000 " + "2" * 36 + " 1800000000 0123456789ab arn:aws:sts::")
    assert "," not in value
    assert "\n" not in value


def test_old_tags_make_room_but_the_newest_good_one_stays() -> None:
    values = {f"{PREFIX}{number}": f"id {'good' if number < 4 else 'bad'} 0 - 0 -" for number in range(1, 31)}
    gone = stale(values)
    assert len(values) - len(gone) == KEPT_TAGS + 1
    assert f"{PREFIX}3" not in gone
    assert f"{PREFIX}2" in gone


def test_the_last_good_revision_is_neither_the_live_one_nor_the_same() -> None:
    def entry(name: str, outcome: Outcome) -> Entry:
        return Entry(deployment_id=name, target_arn="t", outcome=outcome)

    entries = (
        entry("a", Outcome.GOOD),
        entry("b", Outcome.GOOD),
        entry("c", Outcome.BAD),
        entry("d", Outcome.UNKNOWN),
        entry("e", Outcome.GOOD),
    )
    found = last_good(entries, "e")
    assert found is not None
    assert found.deployment_id == "b"
    found = last_good(entries, "e", lambda one: one.deployment_id == "b")
    assert found is not None
    assert found.deployment_id == "a"
    assert last_good(entries[2:4], "x") is None
