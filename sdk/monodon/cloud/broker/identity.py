"""Who is at the other end of a connection, and what the broker asks whether they may."""

from dataclasses import dataclass, replace
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

    def of_client(self, client_id: str) -> "Identity":
        """The same with a client id, and of its things the one that it speaks for.

        That is the attached thing of the client's name, or the only one there is. Further connections of a nucleus
        call themselves ``<thing>#2``, ``<thing>#3`` (``cloud.md`` 8).
        """
        own = client_id.partition("#")[0]
        names = (own,) if own in self.thing_names else self.thing_names if len(self.thing_names) == 1 else ()
        return replace(self, client_id=client_id, thing_names=names)
