"""A device's identity is AWS's own config.yaml, and a mistake in it is named."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from monodon.errors import ConfigurationError, StateError
from monodon.nucleus.identity import DEFAULT_VERSION, NUCLEUS, load_identity, with_deployed


def configuration(**changes: Any) -> dict[str, Any]:
    nucleus = {
        "awsRegion": "eu-west-1",
        "iotRoleAlias": "alias",
        "iotDataEndpoint": "localhost",
        "iotCredEndpoint": "localhost:9443",
        "greengrassDataPlaneEndpoint": "localhost",
        "greengrassDataPlanePort": 9443,
        "mqtt": {"port": 18883},
    }
    return {
        "system": {
            "certificateFilePath": "thing.crt",
            "privateKeyPath": "thing.key",
            "rootCaPath": "ca.pem",
            "rootpath": "/anywhere",
            "thingName": "drone-1",
        },
        "services": {NUCLEUS: {"componentType": "NUCLEUS", "version": "2.12.0", "configuration": nucleus | changes}},
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("thing.crt", "thing.key", "ca.pem"):
        (tmp_path / name).touch()
    (tmp_path / "config").mkdir()
    return tmp_path


def write(root: Path, document: Any) -> None:
    (root / "config/config.yaml").write_text(document if isinstance(document, str) else yaml.safe_dump(document))


def test_a_provisioned_device_knows_its_cloud(root: Path) -> None:
    write(root, configuration())
    identity = load_identity(root)
    assert (identity.thing, identity.version, identity.region) == ("drone-1", "2.12.0", "eu-west-1")
    cloud = identity.cloud
    assert cloud is not None
    assert (cloud.certificate, cloud.private_key, cloud.root_ca) == (
        root / "thing.crt",
        root / "thing.key",
        root / "ca.pem",
    )
    assert (cloud.data_endpoint, cloud.mqtt.port) == ("localhost", 18883)
    assert (cloud.data_plane_host, cloud.data_plane_port) == ("localhost", 9443)
    assert (cloud.credentials_host, cloud.credentials_port, cloud.role_alias) == ("localhost", 9443, "alias")
    assert identity.settings["mqtt"] == {"port": 18883}


@pytest.mark.parametrize(
    ("endpoint", "host", "port"),
    [
        ("data.example", "data.example", 9443),
        ("data.example:1234", "data.example", 1234),
        ("iotdata", "localhost", 9443),
        (None, "greengrass-ats.iot.eu-west-1.amazonaws.com", 9443),
    ],
)
def test_the_data_plane_may_be_named_in_four_ways(root: Path, endpoint: str | None, host: str, port: int) -> None:
    write(root, configuration(greengrassDataPlaneEndpoint=endpoint))
    cloud = load_identity(root).cloud
    assert cloud is not None
    assert (cloud.data_plane_host, cloud.data_plane_port) == (host, port)


def test_awss_ports_are_the_defaults(root: Path) -> None:
    write(root, configuration(greengrassDataPlanePort=None, mqtt=None, iotCredEndpoint="creds.example"))
    cloud = load_identity(root).cloud
    assert cloud is not None
    assert (cloud.mqtt.port, cloud.data_plane_port, cloud.credentials_port) == (8883, 8443, 443)
    assert cloud.mqtt.spool_bytes == 2_621_440


@pytest.mark.parametrize(
    ("spooler", "size", "keeps"),
    [
        ({}, 2_621_440, True),
        ({"maxSizeInBytes": 1000}, 1000, True),
        ({"keepQos0WhenOffline": False}, 2_621_440, False),
        ({"KEEPQOS0WHENOFFLINE": "false"}, 2_621_440, False),
    ],
)
def test_the_spool_is_set_as_awss(root: Path, spooler: dict[str, Any], size: int, keeps: bool) -> None:
    write(root, configuration(mqtt={"spooler": spooler}))
    cloud = load_identity(root).cloud
    assert cloud is not None
    assert (cloud.mqtt.spool_bytes, cloud.mqtt.keeps_qos0_when_offline) == (size, keeps)


def test_without_a_configuration_the_device_is_offline(tmp_path: Path) -> None:
    identity = load_identity(tmp_path)
    assert (identity.thing, identity.cloud, identity.version) == ("local", None, DEFAULT_VERSION)
    assert load_identity(tmp_path, thing="kelp").thing == "kelp"


def test_without_endpoint_and_certificate_the_device_is_offline(root: Path) -> None:
    write(root, {"system": {"thingName": "drone-1"}, "services": {NUCLEUS: {"configuration": {"awsRegion": "x"}}}})
    identity = load_identity(root)
    assert (identity.thing, identity.cloud, identity.region) == ("drone-1", None, "x")


def test_keys_are_found_whatever_their_case(root: Path) -> None:
    document = configuration()
    document["System"] = {key.upper(): value for key, value in document.pop("system").items()}
    write(root, document)
    assert load_identity(root).thing == "drone-1"


@pytest.mark.parametrize("key", ["awsRegion", "iotDataEndpoint"])
def test_a_missing_setting_is_named(root: Path, key: str) -> None:
    write(root, configuration(**{key: None}))
    with pytest.raises(ConfigurationError, match=rf"services\.{NUCLEUS}\.configuration\.{key} is missing"):
        load_identity(root)


@pytest.mark.parametrize("key", ["certificateFilePath", "privateKeyPath", "rootCaPath", "thingName"])
def test_a_missing_system_key_is_named(root: Path, key: str) -> None:
    document = configuration()
    del document["system"][key]
    write(root, document)
    with pytest.raises(ConfigurationError, match=rf"system\.{key} is missing"):
        load_identity(root)


def test_a_certificate_that_is_not_there_is_named(root: Path) -> None:
    (root / "thing.crt").unlink()
    write(root, configuration())
    with pytest.raises(ConfigurationError, match=r"certificateFilePath names .*thing\.crt, which is not a file"):
        load_identity(root)


@pytest.mark.parametrize("changes", [{"mqtt": {"port": "many"}}, {"awsRegion": ["a"]}, {"iotDataEndpoint": {}}])
def test_a_value_of_the_wrong_kind_is_refused(root: Path, changes: dict[str, Any]) -> None:
    write(root, configuration(**changes))
    with pytest.raises(ConfigurationError, match="must be"):
        load_identity(root)


@pytest.mark.parametrize("text", ["", "[1]", "a: b: c", "\x00"])
def test_a_file_that_is_no_configuration_is_a_state_error(root: Path, text: str) -> None:
    write(root, text)
    with pytest.raises(StateError, match=r"config\.yaml"):
        load_identity(root)


def test_another_name_than_the_configured_one_is_refused(root: Path) -> None:
    write(root, configuration())
    assert load_identity(root, thing="drone-1").thing == "drone-1"
    with pytest.raises(ConfigurationError, match=r"system\.thingName is drone-1, not drone-2"):
        load_identity(root, thing="drone-2")


def test_the_initial_configuration_is_copied_in_once(tmp_path: Path) -> None:
    initial = tmp_path / "initial.yaml"
    initial.write_text(yaml.safe_dump({"system": {"thingName": "first"}}))
    root = tmp_path / "root"
    assert load_identity(root, init_config=initial).thing == "first"
    initial.write_text(yaml.safe_dump({"system": {"thingName": "second"}}))
    assert load_identity(root, init_config=initial).thing == "first"
    assert load_identity(root).thing == "first"


def test_an_initial_configuration_that_is_missing_or_bad_leaves_nothing_behind(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    with pytest.raises(StateError, match="is not a file"):
        load_identity(tmp_path / "root", init_config=bad)
    bad.write_text("a: b: c")
    with pytest.raises(StateError, match=r"bad.yaml:1:5 is not YAML: mapping values are not allowed here$"):
        load_identity(tmp_path / "root", init_config=bad)
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize("name", ["a/b", "a b", "x" * 129, "+"])
def test_a_thing_name_that_aws_would_refuse_is_refused(root: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="--thing: .* is not a thing name"):
        load_identity(root, thing=name)
    write(root, {"system": {"thingName": name}})
    with pytest.raises(ConfigurationError, match=r"config.yaml: system.thingName: .* is not a thing name"):
        load_identity(root)


def test_what_is_set_of_mqtt_is_kept_in_bounds(root: Path) -> None:
    wanted = {
        "keepAliveTimeoutMs": 1_000_000_000,
        "pingTimeoutMs": 5_000,
        "operationTimeoutMs": "10000",
        "maxInFlightPublishes": 5_000,
        "maxPublishRetry": 0,
        "sessionExpirySeconds": 60,
    }
    write(root, configuration(mqtt=wanted))
    cloud = load_identity(root).cloud
    assert cloud is not None
    mqtt = cloud.mqtt
    assert (mqtt.keep_alive_s, mqtt.ping_timeout_s, mqtt.operation_timeout_s) == (65_535, 5.0, 10.0)
    assert (mqtt.in_flight, mqtt.attempts, mqtt.session_expiry_s) == (100, 1, 60)


def test_an_answer_to_a_ping_is_due_before_the_next(root: Path) -> None:
    write(root, configuration(mqtt={"keepAliveTimeoutMs": 4_000, "pingTimeoutMs": 30_000}))
    cloud = load_identity(root).cloud
    assert cloud is not None
    assert cloud.mqtt.ping_timeout_s == 2.0


def test_what_was_deployed_holds_but_for_where_the_cloud_is(root: Path) -> None:
    write(root, configuration())
    identity = load_identity(root)
    deployed = {
        "iotDataEndpoint": "elsewhere",
        "mqtt": {"port": 8883, "keepAliveTimeoutMs": 5_000},
        "networkProxy": {"noProxyAddresses": "localhost", "proxy": {"url": "http://proxy:3128"}},
    }
    cloud = with_deployed(identity, deployed).cloud
    assert cloud is not None
    assert (cloud.data_endpoint, cloud.mqtt.port, cloud.mqtt.keep_alive_s) == ("localhost", 18883, 5)
    assert cloud.proxy is not None
    assert (cloud.proxy.host, cloud.proxy.is_for("localhost")) == ("proxy", False)


@pytest.mark.parametrize(
    "deployed", [{"mqtt": {"keepAliveTimeoutMs": []}}, {"networkProxy": {"proxy": {"url": "s://"}}}]
)
def test_what_was_deployed_and_cannot_be_used_does_not_hinder_a_start(
    root: Path, deployed: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    write(root, configuration())
    identity = load_identity(root)
    assert with_deployed(identity, deployed) == identity
    assert "config.yaml holds" in caplog.text
    assert with_deployed(load_identity(root / "new"), deployed).cloud is None
