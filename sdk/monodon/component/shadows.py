"""Device shadows as objects: what is desired of the device, and what it reports."""

from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, TypeVar, cast

from monodon.component.link import Link, shadow_topic
from monodon.component.messages import INVALID_MESSAGE, Message, local_content
from monodon.component.subscription import Subscription
from monodon.component.values import decode
from monodon.core.json import Json
from monodon.core.shadow import Section, delta
from monodon.core.shadow import Shadow as Document
from monodon.errors import IpcError

T = TypeVar("T")


class Shadow:
    """One shadow of a thing, as last read.

    Attributes:
        thing_name, name: whose it is; name "" is the classic shadow.
        desired, reported: the two sections; empty ones where there are none.
        delta: what is desired and not reported so.
        version: that of the last update; 0 if there is no such shadow.
    """

    def __init__(
        self, link: Link, subscribe: Callable[[str], Subscription], *, thing_name: str, name: str = ""
    ) -> None:
        self._link = link
        self._subscribe = subscribe
        self.thing_name = thing_name
        self.name = name
        self.desired: Mapping[str, Json] = {}
        self.reported: Mapping[str, Json] = {}
        self.delta: Mapping[str, Json] = {}
        self.version = 0

    def _take(self, document: Mapping[str, Json]) -> None:
        state = document.get("state") or {}
        self.desired, self.reported = state.get("desired") or {}, state.get("reported") or {}
        self.delta = state["delta"] if "delta" in state else _difference(self.desired, self.reported)
        self.version = int(document.get("version") or 0)

    async def refresh(self) -> None:
        """Read the shadow again.

        Raises:
            IpcError: refused, or not answered in time.
        """
        self._take(await self._link.shadow(self.thing_name, self.name) or {})

    async def report(self, changes: Any, *, version: int | None = None) -> None:
        """Merge ``changes`` (a mapping or dataclass) into what is reported; None removes a key.

        Raises:
            IpcError: refused, too large (8 KiB for all), not answered in time; ``ConflictError`` when ``version`` is
                given and is not the shadow's.
        """
        await self._update("reported", changes, version)

    async def desire(self, changes: Any, *, version: int | None = None) -> None:
        """Merge ``changes`` into what is desired; None removes a key. Raises what :meth:`report` raises."""
        await self._update("desired", changes, version)

    async def _update(self, section: str, changes: Any, version: int | None) -> None:
        content = local_content(f"shadow {self.name or 'without a name'}", changes)
        if not isinstance(content, Mapping):
            raise IpcError("a shadow holds JSON objects alone", code=INVALID_MESSAGE)
        request: dict[str, Json] = {"state": {section: content}}
        if version is not None:
            request["version"] = version
        accepted = await self._link.update_shadow(self.thing_name, self.name, request)
        if accepted.get("version") != self.version + 1:  # others have updated it since it was read
            await self.refresh()
            return
        sections = {"desired": self.desired, "reported": self.reported}
        sections[section] = _merge(sections[section], content)
        self._take({"state": sections, "version": accepted["version"]})

    async def delete(self) -> None:
        """Delete the shadow.

        Raises:
            IpcError: there is none (``ResourceNotFoundError``), or refused.
        """
        await self._link.delete_shadow(self.thing_name, self.name)
        self._take({})

    def read_desired(self, kind: type[T]) -> T:
        """Return what is desired as a dataclass; unknown keys are passed over.

        Raises:
            IpcError: it does not fit; the message names each key, value and expected type (``InvalidMessage``).
        """
        value, misfits = decode(kind, self.desired, strict=False)
        if misfits:
            found = "; ".join(str(misfit) for misfit in misfits)
            raise IpcError(f"what is desired is no {kind.__name__}: {found}", code=INVALID_MESSAGE)
        return cast("T", value)

    async def changes(self) -> AsyncGenerator["Shadow", None]:
        """Yield the shadow as it is now, and again after each update that it does not know of yet.

        Needs access to the local topic ``$aws/things/<thing>/shadow/name/<name>/update/documents``.
        """
        topic = f"{shadow_topic(self.thing_name, self.name)}/update/documents"
        async with self._subscribe(topic) as messages:
            await self.refresh()
            yield self
            async for message in messages:
                if await self._follow(message):
                    yield self

    async def _follow(self, message: Message) -> bool:
        """Take over what an update made; False if it is known already."""
        current = message.json.get("current") if isinstance(message.json, Mapping) else None
        version = current.get("version") if isinstance(current, Mapping) else None
        before = self.version
        if message.after_gap or not isinstance(version, int) or version < before:  # an old one, or made anew
            await self.refresh()
            return self.version != before
        if version == before:
            return False
        self._take(cast("Mapping[str, Json]", current))
        return True


def _difference(desired: Mapping[str, Json], reported: Mapping[str, Json]) -> dict[str, Json]:
    """As AWS computes it: arrays are compared whole, keys that are only reported do not count."""
    sections = {"desired": Section(state=desired), "reported": Section(state=reported)}
    return delta(Document(version=0, timestamp_s=0, **sections))


def _merge(state: Mapping[str, Json], changes: Mapping[str, Json]) -> dict[str, Json]:
    """As AWS merges: None removes a key, arrays are replaced."""
    merged = dict(state)
    for key, value in changes.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            before = merged.get(key)
            merged[key] = _merge(before if isinstance(before, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged
