"""Who is at the other end of a connection, and what the broker asks whether they may."""

from dataclasses import dataclass
from typing import Final

#: The actions of AWS IoT policies that a broker asks for; the resource is the client id, the topic or the filter.
CONNECT: Final = "iot:Connect"
PUBLISH: Final = "iot:Publish"
RETAIN_PUBLISH: Final = "iot:RetainPublish"
SUBSCRIBE: Final = "iot:Subscribe"
RECEIVE: Final = "iot:Receive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A client by its certificate; ``client_id`` is what its CONNECT says, and empty before that."""

    certificate_id: str
    thing_names: tuple[str, ...] = ()
    client_id: str = ""
