"""What the registry keeps, and the questions that the rest of the cloud asks of it."""

from collections.abc import Callable, Iterator, Mapping

from monodon.cloud.protocol import ServiceError
from monodon.cloud.store import Store, Table
from monodon.core.json import Json
from monodon.core.names import thing_arn, thing_group_arn

#: A hierarchy deeper than this is refused. Source: AWS IoT limits, thing group hierarchy depth.
MAX_DEPTH = 7


class Registry:
    """Records of things, groups and who is in which; shared by the backends."""

    def __init__(self, store: Store, *, region: str, account: str, now: Callable[[], float]) -> None:
        self.store = store
        self.region = region
        self.account = account
        self.now = now
        self.things: Table = store.table("iot.things")
        self.types: Table = store.table("iot.types")
        self.groups: Table = store.table("iot.groups")
        #: The queries of those groups that are dynamic.
        self.dynamic: Table = store.table("iot.dynamic_groups")
        #: ``<group>/<thing>`` and ``<thing>/<group>``: names have no slash.
        self.members: Table = store.table("iot.members")
        self.memberships: Table = store.table("iot.memberships")
        #: ``<thing>/<certificate id>`` and ``<certificate id>/<thing>``.
        self.principals: Table = store.table("iot.principals")
        self.principal_things: Table = store.table("iot.principal_things")
        self.tags: Table = store.table("iot.tags")
        self._watchers: list[Callable[[str], None]] = []
        self._thing_watchers: list[Callable[[str], None]] = []

    def tag(self, arn: str, tags: list[dict[str, str]]) -> None:
        """Add tags, as requests have them, to what an ARN names."""
        if tags:
            record = self.tags.get(arn) or {}
            record.update({tag["Key"]: tag.get("Value", "") for tag in tags})
            self.tags.put(arn, record)

    def on_membership_change(self, watcher: Callable[[str], None]) -> None:
        """Call ``watcher`` with each thing that joined or left a group, inside the transaction that says so."""
        self._watchers.append(watcher)

    def membership_changed(self, thing: str) -> None:
        """Tell the watchers."""
        for watcher in self._watchers:
            watcher(thing)

    def on_thing_change(self, watcher: Callable[[str], None]) -> None:
        """Call ``watcher`` with each thing that is new or changed, inside the transaction that says so."""
        self._thing_watchers.append(watcher)

    def thing_changed(self, thing: str) -> None:
        """Tell the watchers."""
        for watcher in self._thing_watchers:
            watcher(thing)

    def join(self, group: str, thing: str) -> None:
        """Put a thing into a group; ``membership_changed`` tells of it."""
        self.members.put(f"{group}/{thing}", {})
        self.memberships.put(f"{thing}/{group}", {})

    def leave(self, group: str, thing: str) -> None:
        """Take a thing out of a group; ``membership_changed`` tells of it."""
        self.members.delete(f"{group}/{thing}")
        self.memberships.delete(f"{thing}/{group}")

    def thing(self, name: str) -> dict[str, Json]:
        """Return a thing's record.

        Raises:
            ServiceError: ResourceNotFoundException.
        """
        record = self.things.get(name)
        if record is None:
            raise ServiceError("ResourceNotFoundException", f"Thing {name} cannot be found.", status=404)
        return record

    def has_thing(self, name: str) -> bool:
        """Whether there is a thing of that name."""
        return self.things.get(name) is not None

    def group(self, name: str) -> dict[str, Json]:
        """Return a group's record.

        Raises:
            ServiceError: ResourceNotFoundException.
        """
        record = self.groups.get(name)
        if record is None:
            raise ServiceError("ResourceNotFoundException", f"Thing Group {name} cannot be found.", status=404)
        return record

    def thing_arn(self, name: str) -> str:
        """The ARN of a thing of this account."""
        return str(thing_arn(self.region, self.account, name))

    def group_arn(self, name: str) -> str:
        """The ARN of a group of this account."""
        return str(thing_group_arn(self.region, self.account, name))

    def name_of(self, arn: str, kind: str) -> str | None:
        """Return the name in ``arn`` if it is a ``thing`` or ``thinggroup`` of this account and region."""
        prefix = (self.thing_arn if kind == "thing" else self.group_arn)("")
        return arn.removeprefix(prefix) if arn.startswith(prefix) and len(arn) > len(prefix) else None

    def children(self, group: str) -> Iterator[str]:
        """Yield the names of the groups right below one."""
        for name, record in self.groups.items():
            if record["parent"] == group:
                yield name

    def descendants(self, group: str) -> set[str]:
        """Return a group and all groups below it."""
        parents: dict[str | None, list[str]] = {}
        for name, record in self.groups.items():
            parents.setdefault(record["parent"], []).append(name)
        found: set[str] = set()
        waiting = [group]
        while waiting:
            name = waiting.pop()
            found.add(name)
            waiting.extend(parents.get(name, ()))
        return found

    def ancestors(self, group: str) -> list[str]:
        """Return the groups above one, the root first."""
        path: list[str] = []
        record = self.groups.get(group)
        while record is not None and record["parent"] is not None:
            path.insert(0, record["parent"])
            record = self.groups.get(record["parent"])
        return path

    def members_of(self, group: str, *, recursive: bool = True) -> list[str]:
        """Return the things of a group (and of those below it), by name."""
        names = self.descendants(group) if recursive else {group}
        return sorted({key.partition("/")[2] for name in names for key in self.members.keys(f"{name}/")})

    def members_of_arn(self, arn: str) -> list[str]:
        """Return the things that a target means: a group's, a single one, none if there is no such target."""
        group = self.name_of(arn, "thinggroup")
        if group is not None:
            return self.members_of(group) if self.groups.get(group) is not None else []
        thing = self.name_of(arn, "thing")
        return [thing] if thing is not None and self.things.get(thing) is not None else []

    def is_member_of_arn(self, arn: str, thing: str) -> bool:
        """Whether a group of that ARN has a thing, directly or through a group below it."""
        group = self.name_of(arn, "thinggroup")
        return group is not None and group in self.all_groups_of(thing)

    def groups_of(self, thing: str) -> list[str]:
        """Return the groups that a thing was put into, by name."""
        return [key.partition("/")[2] for key in self.memberships.keys(f"{thing}/")]

    def all_groups_of(self, thing: str) -> list[str]:
        """Return the groups that a thing is in, directly or through a group below, by name."""
        direct = self.groups_of(thing)
        return sorted({name for group in direct for name in (group, *self.ancestors(group))})

    def things_of_principal(self, certificate_id: str) -> list[str]:
        """Return the things that a certificate is attached to, by name."""
        return [key.partition("/")[2] for key in self.principal_things.keys(f"{certificate_id}/")]

    def principals_of(self, thing: str) -> list[str]:
        """Return the certificate ids that are attached to a thing."""
        return [key.partition("/")[2] for key in self.principals.keys(f"{thing}/")]


def check_version(request: Mapping[str, Json], record: Mapping[str, Json]) -> None:
    """Refuse a change that expects another version.

    Raises:
        ServiceError: VersionConflictException.
    """
    if "expectedVersion" in request and request["expectedVersion"] != record["version"]:
        raise ServiceError(
            "VersionConflictException",
            f"the version is {record['version']}, not {request['expectedVersion']}",
            status=409,
        )
