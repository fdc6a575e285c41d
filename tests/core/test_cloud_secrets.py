"""Which secrets a core device is to keep."""

from typing import Any

import pytest

from monodon.core.cloud_secrets import CloudSecretSettings, WantedSecret

BARE = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:fleet/camera"
ARN = BARE + "-AbCdEf"


def test_settings_are_read_as_aws_writes_them() -> None:
    read = CloudSecretSettings.read(
        {
            "cloudSecrets": [{"arn": ARN}, {"arn": BARE, "labels": ["AWSPREVIOUS", "AWSPREVIOUS"]}],
            "periodicRefreshIntervalMin": 60,
        }
    )
    assert read == CloudSecretSettings(
        secrets=(WantedSecret(arn=ARN), WantedSecret(arn=BARE, labels=("AWSPREVIOUS", "AWSCURRENT"))), refresh_s=3600.0
    )
    for nothing in (None, {}, {"cloudSecrets": []}, {"cloudSecrets": None}):
        assert CloudSecretSettings.read(nothing) == CloudSecretSettings()
    assert CloudSecretSettings.read({"periodicRefreshIntervalMin": 0.5}).refresh_s == 300.0


@pytest.mark.parametrize(
    ("configuration", "problem"),
    [
        ({"cloudSecrets": {}}, None),
        ({"cloudSecrets": 5}, "cloudSecrets must be a list"),
        ({"cloudSecrets": ["x"]}, "None is not the ARN"),
        ({"cloudSecrets": [{"arn": "camera"}]}, "'camera' is not the ARN"),
        ({"cloudSecrets": [{"arn": ARN, "labels": "x"}]}, "labels of"),
        ({"cloudSecrets": [{"arn": ARN, "labels": [1]}]}, "labels of"),
        ({"periodicRefreshIntervalMin": "60"}, "periodicRefreshIntervalMin '60'"),
        ({"periodicRefreshIntervalMin": -1}, "periodicRefreshIntervalMin -1"),
    ],
)
def test_what_is_not_understood_is_named_and_the_rest_holds(configuration: Any, problem: str | None) -> None:
    listed = configuration.get("cloudSecrets")
    if isinstance(listed, list):
        configuration = {"cloudSecrets": [*listed, {"arn": ARN, "labels": ["next"]}]}
    read = CloudSecretSettings.read(configuration)
    assert (problem is None) is (read.problems == ())
    if problem is not None:
        assert problem in read.problems[0]
    if isinstance(listed, list):
        assert read.secrets[-1] == WantedSecret(arn=ARN, labels=("next", "AWSCURRENT"))


@pytest.mark.parametrize("arn", [ARN, BARE])
def test_secrets_are_found_by_name_and_arn(arn: str) -> None:
    wanted = CloudSecretSettings.read({"cloudSecrets": [{"arn": arn}]})
    for secret_id in ("fleet/camera", ARN):
        assert wanted.wanted(secret_id) is not None
    for secret_id in ("camera", "fleet/camera2", "fleet", "", BARE + "-AbCdE", BARE + "-other-AbCdEf", BARE[:-1]):
        assert wanted.wanted(secret_id) is None
