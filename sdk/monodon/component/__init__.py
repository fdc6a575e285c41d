"""What a component author imports; each name is loaded on first use (PEP 562)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monodon.component.component import Component
    from monodon.component.link import Secret
    from monodon.component.loopback import LoopbackNucleus
    from monodon.component.messages import Message
    from monodon.component.metrics import Metrics
    from monodon.component.requests import Request
    from monodon.component.settings import default_configuration, read_settings
    from monodon.component.shadows import Shadow
    from monodon.component.sharing import Handle, Received
    from monodon.component.subscription import Subscription

__all__ = [
    "Component",
    "Handle",
    "LoopbackNucleus",
    "Message",
    "Metrics",
    "Received",
    "Request",
    "Secret",
    "Shadow",
    "Subscription",
    "default_configuration",
    "read_settings",
]

_HOMES = {
    "Component": "component",
    "Handle": "sharing",
    "LoopbackNucleus": "loopback",
    "Message": "messages",
    "Metrics": "metrics",
    "Received": "sharing",
    "Request": "requests",
    "Secret": "link",
    "Shadow": "shadows",
    "Subscription": "subscription",
    "default_configuration": "settings",
    "read_settings": "settings",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'monodon.component' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"monodon.component.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
