"""The fleet status messages of a simulated device, each told until the broker has taken it. Pure."""

from dataclasses import dataclass

from monodon.core.provided import NUCLEUS_VERSION
from monodon.core.status import (
    ComponentHealth,
    DeploymentInformation,
    HealthReport,
    Trigger,
    chunks,
    encode,
    overall_health,
)
from monodon.simulator.installed import Installed
from monodon.simulator.talk import Outgoing, prefix_of

STARTING = "STARTING"


@dataclass(frozen=True, slots=True)
class Note:
    """What a status message is about."""

    trigger: Trigger
    components: tuple[ComponentHealth, ...]
    deployment: DeploymentInformation | None = None


class Health:
    """Makes status messages, and remembers those that are not known to have arrived."""

    __slots__ = ("_architecture", "_installed", "_is_launched", "_sequence", "_thing", "_untold")

    def __init__(self, thing: str, installed: Installed, *, architecture: str) -> None:
        self._thing = thing
        self._installed = installed
        self._architecture = architecture
        self._is_launched = False
        self._sequence = 0
        self._untold: dict[int, Note] = {}

    @property
    def is_told(self) -> bool:
        """Whether all has arrived."""
        return not self._untold

    def greet(self, now: float) -> list[Outgoing]:
        """What is said after a connect: all at the first one, then what has not arrived, else that it is back."""
        if not self._is_launched:
            self._is_launched = True
            return self.tell(Note(Trigger.NUCLEUS_LAUNCH, self._installed.components()), now)
        untold, self._untold = list(self._untold.values()), {}
        said = [each for note in untold for each in self.tell(note, now)]
        return said or self.tell(Note(Trigger.RECONNECT, self._installed.components()), now)

    def keep(self, note: Note) -> None:
        """Say it after the next connect."""
        self._sequence += 1
        self._untold[self._sequence] = note

    def tell(self, note: Note, now: float) -> list[Outgoing]:
        """Say it now, and again after a reconnect unless ``taken`` hears of it."""
        self.keep(note)
        return self._messages(note, self._sequence, now)

    def taken(self, receipt: int) -> None:
        """A message has arrived."""
        self._untold.pop(receipt, None)

    def stale(self, news: tuple[ComponentHealth, ...], now: float) -> list[Outgoing]:
        """A message that should have come before the last one: components were only starting then."""
        starting = tuple(
            ComponentHealth(name=each.name, version=each.version, status=STARTING, is_root=True) for each in news
        )
        late = self._messages(Note(Trigger.COMPONENT_STATUS_CHANGE, starting), self._sequence - 1, now)
        return [each._replace(receipt=0) for each in late]

    def _messages(self, note: Note, sequence: int, now: float) -> list[Outgoing]:
        report = HealthReport(
            thing=self._thing,
            ggc_version=str(NUCLEUS_VERSION),
            platform="linux",
            architecture=self._architecture,
            sequence_number=sequence,
            timestamp_ms=int(now * 1000),
            trigger=note.trigger,
            message_type=note.trigger.message_type,
            overall=overall_health(self._installed.components()),
            components=note.components,
            deployment=note.deployment,
        )
        topic = f"{prefix_of(self._thing)}greengrassv2/health/json"
        parts = chunks(report)
        return [
            Outgoing(topic, encode(part), sequence if number == len(parts) else 0)
            for number, part in enumerate(parts, 1)
        ]
