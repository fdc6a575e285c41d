"""Things by the dozen, against moto."""

from pathlib import Path

import pytest

from monodon.errors import InvalidName
from monodon.fleet import Aws
from monodon.fleet.crowds import provision_crowd
from monodon.fleet.provisioning import POLICY

THINGS = [f"sim-{number}" for number in range(7)]


def test_things_share_certificates_and_are_found_again(moto_aws: Aws, tmp_path: Path) -> None:
    def once(things: list[str]) -> list[tuple[int, int]]:
        found = provision_crowd(moto_aws, things=things, group="sims", folder=tmp_path, per_certificate=3)
        made = []
        for some in found:
            assert some.certificate.read_text().startswith("-----BEGIN CERTIFICATE")
            assert some.key.stat().st_mode & 0o777 == 0o600
            made.append((len(some.things), some.made))
        return made

    assert once(THINGS) == [(3, 3), (3, 3), (1, 1)]
    assert once(THINGS) == [(3, 0), (3, 0), (1, 0)]
    assert once([*THINGS, "sim-7"]) == [(3, 0), (3, 0), (2, 1)]
    assert len(moto_aws.iot.list_certificates()["certificates"]) == 3
    members = moto_aws.iot.list_things_in_thing_group(thingGroupName="sims")["things"]
    assert sorted(members) == [*THINGS, "sim-7"]
    (principal,) = moto_aws.iot.list_thing_principals(thingName="sim-7")["principals"]
    assert set(moto_aws.iot.list_principal_things(principal=principal)["things"]) == {"sim-6", "sim-7"}
    (policy,) = moto_aws.iot.list_attached_policies(target=principal)["policies"]
    assert policy["policyName"] == POLICY


def test_a_name_that_aws_would_refuse_makes_nothing(moto_aws: Aws, tmp_path: Path) -> None:
    with pytest.raises(InvalidName):
        list(provision_crowd(moto_aws, things=["sim-1", "a b"], group="sims", folder=tmp_path))
    assert moto_aws.iot.list_things()["things"] == []
