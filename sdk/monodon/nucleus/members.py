"""The components under supervision, and who of them needs whom to run.

Source: rules D1 to D5 of the device notes; a soft dependency neither gates nor restarts, so only hard ones count here.
"""

from collections.abc import Iterator

from monodon.core.lifecycle import is_out_of_the_way, is_ready
from monodon.core.names import ComponentName
from monodon.core.plan import dependency_order
from monodon.errors import StateError
from monodon.nucleus.member import Member


class Members:
    """Every member by its name."""

    def __init__(self) -> None:
        self._members: dict[ComponentName, Member] = {}
        #: Who needs a component to run; None until it is asked for again.
        self._needed_by: dict[ComponentName, list[Member]] | None = None

    def __iter__(self) -> Iterator[Member]:
        return iter(tuple(self._members.values()))

    def __contains__(self, name: ComponentName) -> bool:
        return name in self._members

    def __getitem__(self, name: ComponentName) -> Member:
        try:
            return self._members[name]
        except KeyError:
            raise StateError(f"the device has no component {name}") from None

    def add(self, member: Member) -> None:
        """Take in a component that is not here yet."""
        self._members[member.installed.name] = member
        if self._needed_by is not None:
            self._enter(member, self._needed_by)

    def remove(self, name: ComponentName) -> None:
        """Forget a component."""
        del self._members[name]
        self.rewire()

    def rewire(self) -> None:
        """Find out anew who needs whom, when somebody asks: dependencies of a member have changed."""
        self._needed_by = None

    def dependers(self, name: ComponentName) -> list[Member]:
        """Those that have ``name`` as a hard dependency, whether it is here or not."""
        if self._needed_by is None:
            self._needed_by = {}
            for member in self._members.values():
                self._enter(member, self._needed_by)
        return self._needed_by.get(name, [])

    def is_ready(self, member: Member) -> bool:
        """Whether all that a component needs is up (rules D1 and D2)."""
        return all(
            name in self._members and is_ready(self._members[name].status, is_hard=True)
            for name in member.hard_dependencies()
        )

    def is_removable(self, name: ComponentName) -> bool:
        """Whether nobody that needs a component runs any more (rule D4)."""
        return all(is_out_of_the_way(member.status) for member in self.dependers(name))

    def in_order(self) -> list[Member]:
        """Every member after those that it depends on (section 3.8)."""
        order = dependency_order({name: member.installed for name, member in self._members.items()})
        return [self._members[name] for name in order]

    def _enter(self, member: Member, needed_by: dict[ComponentName, list[Member]]) -> None:
        for needed in member.hard_dependencies():
            needed_by.setdefault(needed, []).append(member)
