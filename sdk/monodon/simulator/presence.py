"""When a simulated device is connected: always, not in some hours, or by fits and starts. Pure."""

from monodon.simulator.faults import NEVER, Profile, unit

#: A flapping connection holds for so many answers at most.
_MESSAGES = 4
#: Of the time that it holds, it is away for this share.
_AWAY = 0.1


class Presence:
    """Whether a device should be connected. Times are seconds on the simulation's clock; ``born`` is its beginning."""

    __slots__ = ("_born", "_connects", "_cut_at", "_left", "_profile", "_returns_at", "_seed", "_thing")

    def __init__(self, profile: Profile, *, thing: str, seed: int, born: float) -> None:
        self._profile = profile
        self._thing = thing
        self._seed = seed
        self._born = born
        self._connects = 0
        self._left = 0
        self._cut_at: float | None = None
        self._returns_at = 0.0

    def is_wanted(self, now: float) -> bool:
        """Whether it should be connected now."""
        if now < self._returns_at:
            return False
        away = self._profile.away
        return away is None or not self._born + away[0] <= now < self._born + away[1]

    def connected(self, now: float) -> None:
        """A connection holds; of a flapping one it is decided now how long."""
        every = self._profile.flaps_every
        if every is None:
            return
        self._connects += 1
        chance = unit(self._seed, self._thing, "flap", self._connects)
        self._left = 1 + int(chance * _MESSAGES)
        self._cut_at = now + every * (0.5 + chance)

    def heard(self, now: float) -> None:
        """An answer came, which may be one too many."""
        if self._cut_at is not None:
            self._left -= 1
            if self._left <= 0:
                self._cut(now)

    def look(self, now: float) -> None:
        """Time has passed."""
        if self._cut_at is not None and self._cut_at <= now:
            self._cut(now)

    def _cut(self, now: float) -> None:
        every = self._profile.flaps_every or 0.0
        self._cut_at = None
        self._returns_at = now + every * _AWAY

    def next_at(self, now: float) -> float:
        """When this changes by itself."""
        times = [self._returns_at] if now < self._returns_at else []
        if self._cut_at is not None:
            times.append(self._cut_at)
        if self._profile.away is not None:
            times += [at for at in (self._born + edge for edge in self._profile.away) if at > now]
        return min(times, default=NEVER)
