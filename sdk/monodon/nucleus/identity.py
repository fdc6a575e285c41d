"""Who this device is and which cloud it belongs to: ``<root>/config/config.yaml``, in AWS's own keys.

::

    system:
      certificateFilePath: thing.crt       # of the device, PEM
      privateKeyPath: thing.key
      rootCaPath: ca.pem                   # whom the device trusts
      rootpath: /var/lib/greengrass
      thingName: drone-1
    services:
      aws.greengrass.Nucleus:
        componentType: NUCLEUS
        version: 2.18.0
        configuration:
          awsRegion: eu-west-1
          iotRoleAlias: …                  # optional: without it there are no role credentials
          iotDataEndpoint: localhost       # MQTT; with it, or a certificate, there is a cloud
          iotCredEndpoint: localhost:8443
          greengrassDataPlaneEndpoint: localhost        # or host:port, or `iotdata`, or absent: AWS's own
          greengrassDataPlanePort: 8443
          mqtt: {port: 8883}

As in AWS's configuration store, keys are found whatever their case. Source: Greengrass nucleus,
``deployment/DeviceConfiguration.java``, ``util/GreengrassServiceClientFactory.java``, ``mqttclient/spool/Spool.java``.
"""

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from monodon.core.json import Json
from monodon.core.names import ThingName
from monodon.errors import ConfigurationError, InvalidName, StateError
from monodon.nucleus.proxy import Proxy

log = logging.getLogger(__name__)

NUCLEUS = "aws.greengrass.Nucleus"
#: What `GGC_VERSION` and status messages say when the configuration names no version.
DEFAULT_VERSION = "2.18.0"
#: The thing name of a device that has no cloud and was given no name.
OFFLINE_THING = "local"
#: What MQTT can say.
MAX_KEEP_ALIVE_S = 65_535
#: What AWS's broker takes.
MAX_IN_FLIGHT = 100
CONFIG_FILE = Path("config") / "config.yaml"

_SETTING = f"services.{NUCLEUS}.configuration"


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttSettings:
    """The nucleus's ``mqtt`` block; sizes in bytes, times in seconds.

    Defaults are AWS's, but that messages of QoS 0 are kept while the cloud is away unless the block says otherwise.
    """

    port: int = 8883
    keep_alive_s: int = 30
    ping_timeout_s: float = 10.0
    operation_timeout_s: float = 30.0
    in_flight: int = 20
    attempts: int = 3
    session_expiry_s: int = 3600
    spool_bytes: int = 2_621_440
    keeps_qos0_when_offline: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudIdentity:
    """How to reach the cloud, and with which certificate. Endpoints are host names, ``…_port`` their ports."""

    region: str
    certificate: Path
    private_key: Path
    root_ca: Path
    data_endpoint: str
    data_plane_host: str
    data_plane_port: int
    credentials_host: str | None = None
    credentials_port: int = 443
    role_alias: str | None = None
    mqtt: MqttSettings = MqttSettings()
    proxy: Proxy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A core device; ``cloud`` is None for one that lives by itself. ``settings``: the whole nucleus configuration."""

    thing: str
    version: str = DEFAULT_VERSION
    region: str = ""
    cloud: CloudIdentity | None = None
    ipc_socket: Path | None = None
    settings: Mapping[str, Json] = field(default_factory=dict)


def load_identity(root: Path, *, init_config: Path | None = None, thing: str | None = None) -> Identity:
    """The identity that the root's configuration gives; ``init_config`` becomes that configuration at the first start.

    Without any configuration the device has no cloud, and is called ``thing`` or ``local``.

    Raises:
        StateError: a file cannot be read, or is not a YAML object.
        ConfigurationError: a key is missing or has a value that cannot be used, or ``thing`` contradicts the file.
    """
    file = root / CONFIG_FILE
    if init_config is not None:
        _adopt(init_config, file)
    if not file.exists():
        return Identity(thing=_thing_name(thing, "--thing") if thing else OFFLINE_THING)
    return read_identity(_load(file), root=root, file=file, thing=thing)


def read_identity(document: Mapping[str, Json], *, root: Path, file: Path, thing: str | None = None) -> Identity:
    """The identity in a configuration already parsed; relative paths in it are meant from ``root``.

    Raises:
        ConfigurationError: as `load_identity`.
    """
    reader = _Reader(document, root=root, file=file)
    named = reader.text("system", "thingName")
    if thing and named and thing != named:
        raise ConfigurationError(
            f"{file}: system.thingName is {named}, not {thing}",
            hint="leave --thing out, or give this device a root folder of its own",
        )
    socket = reader.text("system", "ipcSocketPath")
    identity = Identity(
        thing=_thing_name(named or thing or OFFLINE_THING, f"{file}: system.thingName" if named else "--thing"),
        version=reader.text("services", NUCLEUS, "version") or DEFAULT_VERSION,
        region=reader.setting("awsRegion") or "",
        ipc_socket=root / socket if socket else None,
        settings=reader.mapping("services", NUCLEUS, "configuration"),
    )
    if not reader.names_a_cloud():
        return identity
    if not (named or thing):
        raise reader.missing("system.thingName")
    return Identity(
        thing=identity.thing,
        version=identity.version,
        region=reader.needed_setting("awsRegion"),
        cloud=_cloud(reader),
        ipc_socket=identity.ipc_socket,
        settings=identity.settings,
    )


def _cloud(reader: "_Reader") -> CloudIdentity:
    region = reader.needed_setting("awsRegion")
    data_endpoint = reader.needed_setting("iotDataEndpoint")
    plane = reader.setting("greengrassDataPlaneEndpoint") or f"greengrass-ats.iot.{region}.amazonaws.com"
    plane_host, plane_port = _split(data_endpoint if plane == "iotdata" else plane)
    credentials_host, credentials_port = _split(reader.setting("iotCredEndpoint") or "")
    return CloudIdentity(
        region=region,
        certificate=reader.needed_file("certificateFilePath"),
        private_key=reader.needed_file("privateKeyPath"),
        root_ca=reader.needed_file("rootCaPath"),
        data_endpoint=data_endpoint,
        data_plane_host=plane_host,
        data_plane_port=plane_port or reader.number(8443, "greengrassDataPlanePort"),
        credentials_host=credentials_host or None,
        credentials_port=credentials_port or 443,
        role_alias=reader.setting("iotRoleAlias") or None,
        mqtt=_mqtt(reader),
        proxy=_proxy(reader),
    )


def _mqtt(reader: "_Reader") -> MqttSettings:
    defaults = MqttSettings()
    keep_alive_s = min(MAX_KEEP_ALIVE_S, max(1, reader.number(30_000, "mqtt", "keepAliveTimeoutMs") // 1000))
    # awscrt asks for an answer before the next ping is due.
    ping_s = min(reader.number(10_000, "mqtt", "pingTimeoutMs") / 1000, keep_alive_s / 2)
    return MqttSettings(
        port=reader.number(defaults.port, "mqtt", "port"),
        keep_alive_s=keep_alive_s,
        ping_timeout_s=max(0.1, ping_s),
        operation_timeout_s=max(1.0, reader.number(30_000, "mqtt", "operationTimeoutMs") / 1000),
        in_flight=min(MAX_IN_FLIGHT, max(1, reader.number(defaults.in_flight, "mqtt", "maxInFlightPublishes"))),
        attempts=max(1, reader.number(defaults.attempts, "mqtt", "maxPublishRetry")),
        session_expiry_s=max(0, reader.number(defaults.session_expiry_s, "mqtt", "sessionExpirySeconds")),
        spool_bytes=max(0, reader.number(defaults.spool_bytes, "mqtt", "spooler", "maxSizeInBytes")),
        keeps_qos0_when_offline=not reader.is_false("mqtt", "spooler", "keepQos0WhenOffline"),
    )


def _proxy(reader: "_Reader") -> Proxy | None:
    url = reader.setting("networkProxy", "proxy", "url")
    if url is None:
        return None
    return Proxy.read(
        url,
        username=reader.setting("networkProxy", "proxy", "username"),
        password=reader.setting("networkProxy", "proxy", "password"),
        exempt=reader.setting("networkProxy", "noProxyAddresses") or "",
    )


def with_deployed(identity: Identity, settings: Mapping[str, Json]) -> Identity:
    """The identity with what was deployed of the nucleus's settings; endpoints and their ports stay as in the file.

    Args:
        settings: the whole configuration of the nucleus, what was deployed included.
    """
    cloud = identity.cloud
    if cloud is None:
        return identity
    reader = _Reader({"services": {NUCLEUS: {"configuration": settings}}}, root=Path(), file=Path(NUCLEUS))
    try:
        mqtt = replace(_mqtt(reader), port=cloud.mqtt.port)
        return replace(identity, cloud=replace(cloud, mqtt=mqtt, proxy=_proxy(reader)))
    except ConfigurationError as error:
        log.warning("what was deployed cannot be used, config.yaml holds: %s", error)
        return identity


def lookup(settings: Mapping[str, Json], *path: str) -> Json:
    """The value at ``path``, its keys found whatever their case; None where there is none."""
    node: Json = settings
    for key in path:
        if not isinstance(node, Mapping):
            return None
        node = next((v for k, v in node.items() if isinstance(k, str) and k.lower() == key.lower()), None)
    return node


class _Reader:
    """Looks keys up without regard to case, and names the one that is wrong."""

    def __init__(self, document: Mapping[str, Json], *, root: Path, file: Path) -> None:
        self._document = document
        self._root = root
        self._file = file

    def value(self, *path: str) -> Json:
        return lookup(self._document, *path)

    def mapping(self, *path: str) -> Mapping[str, Json]:
        value = self.value(*path)
        return value if isinstance(value, Mapping) else {}

    def text(self, *path: str) -> str | None:
        value = self.value(*path)
        if value is None or value == "":
            return None
        if isinstance(value, bool | Mapping | list):
            raise ConfigurationError(f"{self._file}: {'.'.join(path)} must be text, not {value!r}")
        return str(value)

    def setting(self, *path: str) -> str | None:
        return self.text("services", NUCLEUS, "configuration", *path)

    def needed_setting(self, key: str) -> str:
        value = self.setting(key)
        if value is None:
            raise self.missing(f"{_SETTING}.{key}")
        return value

    def number(self, default: int, *path: str) -> int:
        value = self.setting(*path)
        if value is None:
            return default
        try:
            return int(float(value))
        except (ValueError, OverflowError):
            name = f"{_SETTING}.{'.'.join(path)}"
            raise ConfigurationError(f"{self._file}: {name} must be a number, not {value}") from None

    def is_false(self, *path: str) -> bool:
        return str(self.value("services", NUCLEUS, "configuration", *path)).lower() == "false"

    def needed_file(self, key: str) -> Path:
        value = self.text("system", key)
        if value is None:
            raise self.missing(f"system.{key}")
        if value.startswith("pkcs11:"):
            raise ConfigurationError(
                f"{self._file}: system.{key} names a key in hardware ({value}), which is not supported",
                hint="use a key in a PEM file",
            )
        path = self._root / value.removeprefix("file://")
        if not path.is_file():
            raise ConfigurationError(
                f"{self._file}: system.{key} names {path}, which is not a file",
                hint="provision the device again, or mend the path",
            )
        return path

    def names_a_cloud(self) -> bool:
        return bool(
            self.setting("iotDataEndpoint")
            or self.text("system", "certificateFilePath")
            or self.text("system", "privateKeyPath")
        )

    def missing(self, name: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self._file}: {name} is missing",
            hint="a device of a cloud needs it; one without a cloud has no iotDataEndpoint and no certificate",
        )


def _thing_name(text: str, where: str) -> str:
    try:
        return ThingName.parse(text)
    except InvalidName as error:
        raise ConfigurationError(f"{where}: {error.message}", hint=error.hint) from error


def _split(endpoint: str) -> tuple[str, int | None]:
    """``host`` or ``host:port``, with or without a scheme in front."""
    bare = endpoint.split("://")[-1].rstrip("/")
    host, colon, port = bare.rpartition(":")
    if colon and port.isdigit():
        return host, int(port)
    return bare, None


def _load(file: Path) -> Mapping[str, Json]:
    try:
        document = yaml.safe_load(file.read_bytes())
    except OSError as error:
        raise StateError(f"{file} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = file if mark is None else f"{file}:{mark.line + 1}:{mark.column + 1}"
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise StateError(
            f"{where} is not YAML: {problem}", hint="provision the device again, or mend the file"
        ) from error
    if not isinstance(document, Mapping):
        raise StateError(f"{file} holds no configuration", hint="it must have the keys `system` and `services`")
    return document


def _adopt(source: Path, file: Path) -> None:
    if not source.is_file():
        raise StateError(f"{source} is not a file", hint="--init-config names a YAML file with AWS's own keys")
    _load(source)
    if file.exists():
        if file.read_bytes() != source.read_bytes():
            log.warning("%s stays as it is: %s is only read at the first start", file, source)
        return
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = file.with_suffix(".new")
    shutil.copyfile(source, partial)
    partial.chmod(0o600)
    partial.replace(file)
