"""Names and ARNs are checked once, when parsed."""

import pytest

from monodon.core.names import (
    Arn,
    ComponentName,
    ThingName,
    component_arn,
    component_version_arn,
    configuration_arn,
    deployment_arn,
    job_arn,
    target_of_configuration_arn,
    thing_arn,
    thing_group_arn,
)
from monodon.errors import InvalidName


@pytest.mark.parametrize("text", ["a", "com.example.Camera_1-b", "a" * 128, "..."])
def test_component_names_that_aws_takes(text: str) -> None:
    assert ComponentName.parse(text) == text


@pytest.mark.parametrize("text", ["", "a b", "a/b", "a" * 129, "é", "a\n", ".", "..", "a:b"])
def test_component_names_that_are_refused(text: str) -> None:
    with pytest.raises(InvalidName) as error:
        ComponentName.parse(text)
    assert error.value.hint


@pytest.mark.parametrize("text", ["", "a.b", "a/b", "a" * 129, "a\n"])
def test_thing_names_that_are_refused(text: str) -> None:
    with pytest.raises(InvalidName):
        ThingName.parse(text)


def test_thing_names_may_hold_colons() -> None:
    assert ThingName.parse("drone:1_a-b") == "drone:1_a-b"


@pytest.mark.parametrize(
    ("arn", "text"),
    [
        (component_arn("eu-west-1", "aws", "aws.greengrass.Nucleus"),
         "arn:aws:greengrass:eu-west-1:aws:components:aws.greengrass.Nucleus"),
        (component_version_arn("eu-west-1", "123456789012", "c.A", "1.0.0"),
         "arn:aws:greengrass:eu-west-1:123456789012:components:c.A:versions:1.0.0"),
        (deployment_arn("eu-west-1", "1", "d"), "arn:aws:greengrass:eu-west-1:1:deployments:d"),
        (configuration_arn("eu-west-1", "1", "thinggroup", "drones", 3),
         "arn:aws:greengrass:eu-west-1:1:configuration:thinggroup/drones:3"),
        (thing_arn("cn-north-1", "1", "t"), "arn:aws-cn:iot:cn-north-1:1:thing/t"),
        (thing_group_arn("us-gov-west-1", "1", "g"), "arn:aws-us-gov:iot:us-gov-west-1:1:thinggroup/g"),
        (job_arn("eu-west-1", "1", "j"), "arn:aws:iot:eu-west-1:1:job/j"),
    ],
)  # fmt: skip
def test_arns_are_built_and_read_back(arn: Arn, text: str) -> None:
    assert str(arn) == text
    assert Arn.parse(text) == arn


@pytest.mark.parametrize(
    "text", ["", "arn:aws:iot:eu-west-1:1", "x:aws:iot:eu:1:thing/t", "arn:aws:iot:eu:1:thing/t\n"]
)
def test_what_is_no_arn_is_refused(text: str) -> None:
    with pytest.raises(InvalidName):
        Arn.parse(text)


def test_the_target_of_a_configuration_drops_the_revision() -> None:
    for kind, name in (("thinggroup", "drones"), ("thing", "drone:1")):
        arn = configuration_arn("eu-west-1", "1", kind, name, 12)  # type: ignore[arg-type]
        assert target_of_configuration_arn(str(arn)) == f"{kind}/{name}"
    with pytest.raises(InvalidName):
        target_of_configuration_arn("arn:aws:iot:eu-west-1:1:thing/t")
