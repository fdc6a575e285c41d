"""SIGKILL at each named point of a deployment: afterwards the device is wholly at the old or wholly at the new set."""

import asyncio
import json
import shutil
import signal
from pathlib import Path

import pytest
from tests.nucleus.crashes import SCENES, Zygote, complaints, folder, prepare


@pytest.mark.slow
@pytest.mark.parametrize("scene", SCENES)
async def test_a_kill_at_any_named_point_leaves_the_old_or_the_new_set(scene: str) -> None:
    with folder() as place, Zygote() as first, Zygote() as second:
        await prepare(place / "before", scene)
        shutil.copytree(place / "before", place / "whole")
        assert first.run(place / "whole") == 0
        assert complaints(place / "whole", scene) == []
        points = json.loads((place / "whole/result.json").read_text())["points"]
        every = [(point, points[: index + 1].count(point)) for index, point in enumerate(points)]
        waiting = list(enumerate(every))

        def work(zygote: Zygote) -> None:
            while waiting:
                kill(zygote, *waiting.pop())

        def kill(zygote: Zygote, index: int, at: tuple[str, int]) -> None:
            one = place / str(index)
            shutil.copytree(place / "before", one)
            assert zygote.run(one, *at) == -signal.SIGKILL, at
            assert zygote.run(one) == 0, at
            assert complaints(one, scene) == [], at
            shutil.rmtree(one)

        async with asyncio.TaskGroup() as tasks:
            for zygote in (first, second):
                tasks.create_task(asyncio.to_thread(work, zygote))
        assert len(every) > 20


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    asyncio.run(prepare(tmp_path / "one", "good"))
    with Zygote() as zygote:
        assert zygote.run(tmp_path / "one") == 0
    assert complaints(tmp_path / "one", "good") == []
    named = [text.split(":")[0] for text in complaints(tmp_path / "one", "bad")]
    assert named == ["installed", "configuration", "roots", "reported"]
