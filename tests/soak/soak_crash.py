"""SIGKILL at random moments of deployments, of their recoveries too: 3,000 of them, 300 when short.

Half the kills come at a named point drawn at random, half after a random time. After the last one the device is wholly
at the old or wholly at the new set: versions, configuration, roots, artifacts, reports; and the next deployment works.
The same seed draws the same kills: ``MONODON_SEED``.
"""

import asyncio
import json
import os
import random
import shutil
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.nucleus.crashes import SCENES, Zygote, complaints, folder, is_rolled_back, prepare

KILLS, KILLS_SHORT = 3000, 300
#: A kill in this share of the cases hits the recovery from the kill before.
AGAIN = 0.3


@dataclass(slots=True)
class Soak:
    """Scenes made once, and what came of the kills so far."""

    place: Path
    draw: random.Random
    wanted: int
    points: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    lasting_s: dict[str, float] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)
    tried: set[tuple[str, str, int]] = field(default_factory=set)
    kills: int = 0
    cases: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def prepare(self, zygote: Zygote) -> None:
        """Make every scene, and learn its named points and how long its job takes."""
        for scene in SCENES:
            asyncio.run(prepare(self.place / scene, scene))
            whole = self.place / f"{scene}-whole"
            shutil.copytree(self.place / scene, whole)
            started = time.perf_counter()
            code = zygote.run(whole)
            self.lasting_s[scene] = time.perf_counter() - started
            assert (code, complaints(whole, scene)) == (0, [])
            points = json.loads((whole / "result.json").read_text())["points"]
            self.points[scene] = [(point, points[: index + 1].count(point)) for index, point in enumerate(points)]

    def work(self, zygote: Zygote) -> None:
        """Try cases until there were enough kills."""
        while True:
            with self.lock:
                if self.kills >= self.wanted:
                    return
                self.cases += 1
                number, scene = self.cases, self.draw.choice(SCENES)
                kills = [self._drawn(scene)]
                while self.draw.random() < AGAIN:
                    kills.append(self._drawn(scene))
            self._case(zygote, self.place / f"case-{number}", scene, kills)

    def _drawn(self, scene: str) -> tuple[str, int, float | None]:
        if self.draw.random() < 0.5:
            return (*self.draw.choice(self.points[scene]), None)
        return ("", 0, self.draw.uniform(0, 1.2) * self.lasting_s[scene])

    def _case(self, zygote: Zygote, place: Path, scene: str, kills: list[tuple[str, int, float | None]]) -> None:
        shutil.copytree(self.place / scene, place)
        codes = [zygote.run(place, point, number, after_s=after_s) for point, number, after_s in kills]
        if codes[-1] != 0:
            codes.append(zygote.run(place))
        found = [f"exit codes {codes}"] if codes[-1] != 0 else complaints(place, scene)
        with self.lock:
            self.kills += sum(code < 0 for code in codes)
            self.tried |= {(scene, point, number) for point, number, _ in kills if point}
            self.outcomes["wrong" if found else "old set" if is_rolled_back(scene) else "new set"] += 1
            for one in found:
                self.complaints.append(f"{scene} {kills}: {one}")
                print(self.complaints[-1], file=sys.stderr)
            if self.cases % 100 == 0:
                print(f"{self.kills} kills, {len(self.complaints)} complaints", file=sys.stderr)
        shutil.rmtree(place)


def main(is_short: bool) -> dict[str, Any]:
    """Kill and look; return how many points were tried and what came of it."""
    seed = int(os.environ.get("MONODON_SEED", "5"))
    with folder() as place, Zygote() as first, Zygote() as second:
        soak = Soak(place, random.Random(seed), KILLS_SHORT if is_short else KILLS)
        soak.prepare(first)
        threads = [threading.Thread(target=soak.work, args=(zygote,)) for zygote in (first, second)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return {
            "seed": seed,
            "kills": soak.kills,
            "cases": sum(soak.outcomes.values()),
            "named_points": sum(map(len, soak.points.values())),
            "named_points_tried": len(soak.tried),
            "outcomes": dict(soak.outcomes),
            "complaints": soak.complaints,
        }
