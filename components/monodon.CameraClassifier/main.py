"""Watch a camera or clip, keep only the frames that show what is wanted, and say so."""

import asyncio
import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from monodon.component import Component
from monodon.errors import IpcError, ModelError
from monodon.ml import Camera, Classifier, Frame, Wanted, Watch
from monodon.ml.frames import CameraState

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """The defaults of the recipe. In the IoT topics the thing's name stands in for ``+``."""

    source: str = "/dev/video0"
    interval_s: float = 1.0
    labels: tuple[str, ...] = ("grey whale",)
    model_version: str = ""
    threshold: float = 0.5
    keep_folder: str = "kept"
    budget_bytes: int = 1_000_000_000
    topic: str = "monodon/kept"
    status_topic: str = "monodon/status"
    iot_topic: str = "monodon/+/kept"
    iot_status_topic: str = "monodon/+/status"
    status_interval_s: float = 5.0


class Reporter:
    """What the component says: each kept frame, and its state now and then, here and in AWS IoT."""

    def __init__(self, component: Component[Settings], watch: Watch) -> None:
        self._component, self._watch = component, watch
        self._state: dict[str, Any] = {"state": "starting"}
        self.changed = asyncio.Event()

    def enter(self, state: str, **details: Any) -> None:
        """Note a state of the camera; it is told at once."""
        self._state = {"state": state, **details}
        self.changed.set()

    def camera(self, state: CameraState) -> None:
        """Note that a live camera failed or came back."""
        self.enter("watching" if state.is_connected else "waiting", **asdict(state))

    async def kept(self, picture: Path, sidecar: dict[str, Any]) -> None:
        """Tell of a kept frame, once it is on disk."""
        settings = self._component.settings
        await self._say(settings.topic, settings.iot_topic, {**sidecar, "file": picture.name})

    async def status(self) -> None:
        """Tell the state and the figures."""
        settings = self._component.settings
        message = {"source": settings.source, **self._state, **self._watch.summary()}
        await self._say(settings.status_topic, settings.iot_status_topic, message)

    async def keep_telling(self) -> None:
        """Tell the state whenever it changes, and every so often."""
        while True:
            try:
                async with asyncio.timeout(self._component.settings.status_interval_s):
                    await self.changed.wait()
            except TimeoutError:
                pass
            self.changed.clear()
            await self.status()

    async def _say(self, topic: str, iot_topic: str, message: dict[str, Any]) -> None:
        thing = self._component.thing_name
        try:
            if topic:
                await self._component.publish(topic, message)
            if iot_topic and thing:
                await self._component.publish_to_iot(iot_topic.replace("+", thing), {"thing": thing, **message})
        except IpcError as error:
            logger.warning("could not tell that %s: %s", message.get("label", message.get("state")), error.message)


async def main(component: Component[Settings]) -> None:
    """Load the model, look at the first frame, report ready; then watch until the end, and idle."""
    settings = component.settings
    classifier = await asyncio.to_thread(Classifier.load, model_folder())
    wanted = find_wanted(classifier, settings)
    watch = Watch(classifier, component.work / settings.keep_folder, wanted=wanted, budget_bytes=settings.budget_bytes)
    component.refuse_when(lambda new: unusable(classifier, new))
    component.on_change(lambda new: take_over(watch, new))
    reporter = Reporter(component, watch)
    try:
        async with Camera.open(settings.source, on_state=reporter.camera) as camera:
            frames = camera.every(settings.interval_s)
            await look(watch, reporter, await anext(frames))
            await component.ready()
            reporter.enter("watching")
            async with asyncio.TaskGroup() as group:
                group.create_task(reporter.keep_telling(), name="status")
                async for frame in frames:
                    await look(watch, reporter, frame)
                reporter.enter("done")
                logger.info("%s has ended: %s", settings.source, watch.run)
    finally:
        watch.close()


async def look(watch: Watch, reporter: Reporter, frame: Frame) -> None:
    """Look at one frame; if it is kept, say so."""
    seen = await asyncio.to_thread(watch.look, frame)
    if seen.picture is not None:
        await reporter.kept(seen.picture, seen.sidecar)


def find_wanted(classifier: Classifier, settings: Settings) -> Wanted:
    """Return what to look for.

    Raises:
        ModelError: the model does not know a label.
    """
    return Wanted.find(settings.labels, classifier.labels, settings.threshold)


def unusable(classifier: Classifier, settings: Settings) -> str | None:
    """Return why a proposed configuration cannot work; then the deployment that brings it fails.

    Labels that only another model knows may come with it: ``model_version`` says so, and they wait for its process.
    """
    try:
        find_wanted(classifier, settings)
    except ModelError as error:
        if settings.model_version not in ("", classifier.manifest.version):
            return None
        hint = "a deployment that brings another model names it in model_version"
        return f"{error.message} ({error.hint}; {hint})" if error.hint else f"{error.message} ({hint})"
    return None


def take_over(watch: Watch, settings: Settings) -> None:
    """Use changed labels from the next frame on, unless they wait for another model."""
    try:
        watch.want(settings.labels, settings.threshold, settings.budget_bytes)
    except ModelError as error:
        logger.warning("the labels stay as they were until model %s comes: %s", settings.model_version, error.message)
    else:
        logger.info("now wanted: %s at %g", ", ".join(settings.labels), settings.threshold)


def model_folder() -> Path:
    """Return the model's folder, which the recipe sets as MODEL."""
    if not os.environ.get("MODEL"):
        hint = "MODEL=components/monodon.Model.EfficientNetLite0/2.0.0 python main.py --set source=clip.mp4"
        raise ModelError("the environment variable MODEL names no model folder", hint=hint)
    return Path(os.environ["MODEL"])


if __name__ == "__main__":
    Component.run(main, Settings)
