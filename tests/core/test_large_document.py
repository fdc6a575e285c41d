"""Documents that are too large to be sent: shortened by the cloud, completed by the device."""

import json
from dataclasses import replace

import pytest

from monodon.core.configuration import ConfigurationUpdate
from monodon.core.deployment import LARGE_CONFIGURATION, Deployment, RootComponent, read_document, write_document
from monodon.core.large_document import completed, configuration_path, shortened
from monodon.core.names import ComponentName
from monodon.core.plan import RunWith
from monodon.errors import DeploymentError

A, B = ComponentName("com.example.A"), ComponentName("com.example.B")
WHOLE = Deployment(
    deployment_id="d",
    target="thinggroup/g",
    configuration_arn="arn:aws:greengrass:eu-west-1:123456789012:configuration:thinggroup/g:1",
    timestamp_ms=1000,
    components={
        A: RootComponent(
            requirement="1.0.0",
            update=ConfigurationUpdate(merge={"text": "x" * 50_000}, reset=("/b",)),
            run_with=RunWith(cpus=0.5),
        ),
        B: RootComponent(requirement="2.0.0"),
    },
    required_capabilities=("SUB_DEPLOYMENTS",),
)


def text(deployment: Deployment) -> bytes:
    return json.dumps(write_document(deployment)).encode()


def test_what_is_sent_has_everything_but_configuration() -> None:
    sent = read_document(json.loads(text(shortened(WHOLE))))
    assert len(text(shortened(WHOLE))) < 1000
    assert sent.required_capabilities == (LARGE_CONFIGURATION, "SUB_DEPLOYMENTS")
    assert sent.unknown_capabilities == ()
    assert sent.components[A] == replace(WHOLE.components[A], update=None)


def test_a_device_completes_what_was_sent() -> None:
    assert completed(shortened(WHOLE), text(WHOLE)).components == WHOLE.components


@pytest.mark.parametrize(
    ("whole", "code"),
    [
        (b"{", "DEPLOYMENT_DOCUMENT_PARSE_ERROR"),
        (b"\xff", "DEPLOYMENT_DOCUMENT_PARSE_ERROR"),
        (b"[" * 100_000, "DEPLOYMENT_DOCUMENT_PARSE_ERROR"),
        (b"[]", "DEPLOYMENT_DOCUMENT_NOT_VALID"),
        (b"{}", "DEPLOYMENT_DOCUMENT_NOT_VALID"),
        (text(replace(WHOLE, components={A: WHOLE.components[A]})), "DEPLOYMENT_DOCUMENT_NOT_VALID"),
        (text(replace(WHOLE, components={**WHOLE.components, B: RootComponent(requirement="2.0.1")})),
         "DEPLOYMENT_DOCUMENT_NOT_VALID"),
    ],
)  # fmt: skip
def test_a_whole_document_that_is_another_is_refused(whole: bytes, code: str) -> None:
    with pytest.raises(DeploymentError) as refused:
        completed(shortened(WHOLE), whole)
    assert code in refused.value.codes


def test_names_are_quoted_in_the_path() -> None:
    assert configuration_path("a:b", "x/y") == "/greengrass/v2/coreDevices/a%3Ab/deployments/x%2Fy/configuration"
