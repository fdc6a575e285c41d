"""The settings of aws.greengrass.Nucleus: what each does here, when, and which do nothing. The docs show this table.

Source: IoT Greengrass developer guide, Greengrass nucleus component; ``deployment/DeviceConfiguration.java``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from monodon.core.json import Json


class Effect(StrEnum):
    """When a setting that was deployed takes effect."""

    DEPLOYMENT = "with the next deployment"
    REPORT = "when the deployment is begun and when it ends"
    PROCESS = "when a process starts"
    RESTART = "by a restart, which the deployment brings about"
    START = "at the next start"
    CONFIG_FILE = "from config.yaml alone"
    NEVER = "ignored"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting, or all below one key. Where it is ignored, ``only`` is the value that would change nothing."""

    does: str
    effect: Effect
    only: str | None = None


#: Keys are written as AWS does, and found whatever their case.
SETTINGS: Mapping[str, Setting] = {
    "awsRegion": Setting(does="the device's region", effect=Effect.CONFIG_FILE),
    "iotDataEndpoint": Setting(does="where MQTT is", effect=Effect.CONFIG_FILE),
    "iotCredEndpoint": Setting(does="where role credentials come from", effect=Effect.CONFIG_FILE),
    "iotRoleAlias": Setting(does="the role alias of those credentials", effect=Effect.CONFIG_FILE),
    "greengrassDataPlaneEndpoint": Setting(does="where the data plane is", effect=Effect.CONFIG_FILE),
    "greengrassDataPlanePort": Setting(does="its port; 443 with AWS's ALPN", effect=Effect.CONFIG_FILE),
    "mqtt.port": Setting(does="the port of MQTT; 443 with AWS's ALPN", effect=Effect.CONFIG_FILE),
    "mqtt.keepAliveTimeoutMs": Setting(does="silence after which a ping is sent (30 s)", effect=Effect.START),
    "mqtt.pingTimeoutMs": Setting(
        does="how long its answer may take (30 s, less than keep-alive)", effect=Effect.START
    ),
    "mqtt.operationTimeoutMs": Setting(
        does="how long an answer to a publish or subscribe may take (30 s)", effect=Effect.START
    ),
    "mqtt.maxInFlightPublishes": Setting(does="messages under way at once (20, at most 100)", effect=Effect.START),
    "mqtt.maxPublishRetry": Setting(does="how often one is sent before it is given up (3)", effect=Effect.START),
    "mqtt.sessionExpirySeconds": Setting(does="for how long the cloud keeps the session (1 h)", effect=Effect.START),
    "mqtt.spooler.maxSizeInBytes": Setting(does="room for messages while the cloud is away", effect=Effect.START),
    "mqtt.spooler.keepQos0WhenOffline": Setting(does="whether those of QoS 0 wait, too (they do)", effect=Effect.START),
    "mqtt.spooler.storageType": Setting(
        does="messages wait in memory; a Disk is ignored", effect=Effect.NEVER, only="memory"
    ),
    "mqtt.version": Setting(does="MQTT 5 is spoken; mqtt3 is ignored", effect=Effect.NEVER, only="mqtt5"),
    "networkProxy.proxy.url": Setting(
        does="an `http://` proxy for HTTPS and MQTT, and in the environment of components", effect=Effect.RESTART
    ),
    "networkProxy.proxy.username": Setting(does="its user", effect=Effect.RESTART),
    "networkProxy.proxy.password": Setting(does="its password", effect=Effect.RESTART),
    "networkProxy.noProxyAddresses": Setting(
        does="hosts, or ends of their names after a dot, that are reached without it", effect=Effect.RESTART
    ),
    "fipsMode": Setting(
        does="`AWS_GG_FIPS_MODE` and `AWS_USE_FIPS_ENDPOINT` of components; not the nucleus's own endpoints",
        effect=Effect.RESTART,
    ),
    "platformOverride": Setting(
        does="adds or replaces attributes that manifests are chosen by", effect=Effect.DEPLOYMENT
    ),
    "interpolateComponentConfiguration": Setting(does="as AWS's", effect=Effect.DEPLOYMENT),
    "deploymentConfigurationTimeSource": Setting(does="as AWS's", effect=Effect.DEPLOYMENT),
    "deploymentTimeoutSeconds": Setting(
        does="Monodon's own: how long a deployment may take in all that does not say so itself; without it a "
        "deployment waits without end, as AWS's does, and the log says every 30 s for whom",
        effect=Effect.DEPLOYMENT,
    ),
    "logging.level": Setting(does="of the nucleus's log", effect=Effect.REPORT),
    "logging.format": Setting(does="TEXT or JSON", effect=Effect.REPORT),
    "logging.outputType": Setting(does="FILE or CONSOLE", effect=Effect.REPORT),
    "logging.outputDirectory": Setting(does="where logs are", effect=Effect.REPORT),
    "logging.fileSizeKB": Setting(does="when a file is rotated", effect=Effect.REPORT),
    "logging.totalLogsSizeKB": Setting(does="room for all files of one log", effect=Effect.REPORT),
    "runWithDefault.posixUser": Setting(does="as whom components run", effect=Effect.RESTART),
    "runWithDefault.posixShell": Setting(does="the shell that scripts are given to", effect=Effect.RESTART),
    "runWithDefault.systemResourceLimits": Setting(
        does="`memory`, `cpus`, `pids`: limits of components that have none of their own", effect=Effect.PROCESS
    ),
    "componentStoreMaxSizeBytes": Setting(does="room for artifacts", effect=Effect.START),
    "fleetStatus.periodicStatusPublishIntervalSeconds": Setting(
        does="how often a complete status is sent, 86400 at least", effect=Effect.START
    ),
    "deploymentPollingFrequencySeconds": Setting(does="deployments begin as they arrive", effect=Effect.NEVER),
    "deploymentStatusKeepAliveFrequencySeconds": Setting(
        does="no status is sent without a change", effect=Effect.NEVER
    ),
    "httpClient": Setting(does="time limits of HTTPS are fixed", effect=Effect.NEVER),
    "jvmOptions": Setting(does="there is no Java", effect=Effect.NEVER),
    "telemetry": Setting(does="no metrics are sent", effect=Effect.NEVER),
    "s3EndpointType": Setting(does="S3 is asked at its regional endpoint", effect=Effect.NEVER, only="regional"),
    "runWithDefault.windowsUser": Setting(does="there is no Windows", effect=Effect.NEVER),
}

_BY_KEY = {key.lower(): (key, setting) for key, setting in SETTINGS.items()}


def ignored(configuration: Mapping[str, Json]) -> tuple[str, ...]:
    """Return the settings in a deployed configuration that do nothing, each with the reason in brackets.

    Args:
        configuration: what is deployed to aws.greengrass.Nucleus.
    """
    return tuple(sorted(_ignored(configuration, "")))


def _ignored(node: Mapping[str, Json], above: str) -> Iterator[str]:
    for key, value in node.items():
        path = f"{above}{key}"
        known = _BY_KEY.get(path.lower())
        if known is not None:
            name, setting = known
            if setting.effect is Effect.CONFIG_FILE:
                yield f"{name} (read {setting.effect})"
            elif setting.effect is Effect.NEVER and str(value).lower() != setting.only:
                yield f"{name} ({setting.does})"
        elif isinstance(value, Mapping) and (not value or any(one.startswith(f"{path.lower()}.") for one in _BY_KEY)):
            yield from _ignored(value, f"{path}.")
        elif value not in (None, ""):
            yield f"{path} (no setting that is known)"


def table() -> tuple[str, ...]:
    """Return the rows of the table in the docs."""
    return tuple(
        f"| `{key}` | {setting.does} | {setting.effect}{f', but for {setting.only}' if setting.only else ''} |"
        for key, setting in SETTINGS.items()
    )
