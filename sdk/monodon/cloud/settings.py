"""What may be set of the cloud's limits, as ``NAME=VALUE``.

``recipe_bytes=20000`` (Greengrass), ``mqtt.receive_maximum=10`` (the broker), ``rate.CreateDeployment=2`` (calls a
second, of one operation of any service).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace

from monodon.cloud.broker.session import Limits as MqttLimits
from monodon.cloud.greengrass.limits import Limits

_RATE, _MQTT = "rate.", "mqtt."


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every limit of one cloud."""

    greengrass: Limits = field(default_factory=Limits)
    mqtt: MqttLimits = field(default_factory=MqttLimits)
    rates: Mapping[str, float] = field(default_factory=dict)


def read_settings(texts: Iterable[str]) -> Settings:
    """Return the defaults with what the texts change.

    Raises:
        ValueError: a text is no ``NAME=VALUE``, there is no such limit, or the value is not a number of at least 0.
    """
    settings = Settings()
    for text in texts:
        name, equals, value = text.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not equals or not 0 <= number < float("inf"):
            raise ValueError(f"{text!r} is not NAME=NUMBER")
        settings = _changed(settings, name.strip(), number)
    return settings


def _changed(settings: Settings, name: str, number: float) -> Settings:
    if name.startswith(_RATE):
        return replace(settings, rates={**settings.rates, name.removeprefix(_RATE): number})
    if name.startswith(_MQTT) and name.removeprefix(_MQTT) in _names(MqttLimits):
        return replace(settings, mqtt=replace(settings.mqtt, **{name.removeprefix(_MQTT): int(number)}))
    if name in _names(Limits):
        return replace(settings, greengrass=replace(settings.greengrass, **{name: int(number)}))
    known = [*_names(Limits), *(_MQTT + each for each in _names(MqttLimits)), "rate.<Operation>"]
    raise ValueError(f"there is no limit {name!r}; there are {', '.join(known)}")


def _names(kind: type) -> list[str]:
    return [each.name for each in fields(kind)]
