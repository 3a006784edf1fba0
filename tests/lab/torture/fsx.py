"""One seed of the random tester: drivers on the mount of a pair, accidents at random moments, and the judge.

`python -m tests.lab.torture fsx --mode strict --seeds 0-9 --operations 20000 --accidents 5`

Everything the drivers do is a function of the seed; when an engine dies is a function of the seed up to scheduling. A
failure names seed, driver and operation.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mirror_agent.mirror.control import MirrorLimits

from tests.lab.mirror.pair import differences, running_pair, tree
from tests.lab.torture.accidents import Scene, directory_of
from tests.lab.torture.drivers import Driver, Promises, shown
from tests.lab.torture.judge import Difference, demand_equal

_SEED_STEP: Final = 1000
_BALLAST: Final = 150
_CHECKPOINT_S: Final = (0.3, 1.0, 30.0)
JOURNALS: Final = Path("build/torture")


@dataclass(frozen=True)
class Plan:
    """`operations` are those of all drivers together; `accidents` None: chosen by the seed, else these in order."""

    mode: str
    seed: int
    operations: int
    kills: int
    drivers: int = 2
    accidents: Sequence[str] | None = None


@dataclass
class Outcome:
    """What a clean run did. `lost_operations`: what a dead primary had and the promoted replica had not, as the
    contract allows: in ordered mode after the last flush, in strict only the one in flight."""

    operations: int = 0
    skipped: int = 0
    accidents: dict[str, int] = field(default_factory=dict)
    resync_rules: dict[str, int] = field(default_factory=dict)
    lost_operations: int = 0
    seconds: float = 0.0


async def run_seed(directory: Path, plan: Plan) -> Outcome:
    """Raises `Difference` with everything needed to run it again."""
    try:
        return await _run(directory, plan)
    except Difference as difference:
        raise Difference(
            f"{difference}\nreplay: python -m tests.lab.torture fsx --mode {plan.mode} --seeds {plan.seed} "
            f"--operations {plan.operations} --accidents {plan.kills} --drivers {plan.drivers}"
        ) from difference


async def _run(directory: Path, plan: Plan) -> Outcome:
    began_s = time.monotonic()
    promises = Promises(plan.drivers)
    drivers: list[Driver] = []
    # Checkpoints more often than an accident happens, or hardly any: both kinds of resync are to be met.
    limits = MirrorLimits(checkpoint_s=random.Random(plan.seed).choice(_CHECKPOINT_S))
    async with running_pair(directory, mode=plan.mode, limits=limits, relayed=False) as pair:
        await asyncio.to_thread(_lay_ballast, pair.a.root)
        await pair.make_pair()
        for index in range(plan.drivers):
            home = pair.a.root / f"driver-{index}"
            await asyncio.to_thread(home.mkdir, 0o755)
            drivers.append(Driver(index, plan.seed * _SEED_STEP + index, home, promises, drivers))
        scene = Scene(pair, drivers, promises, plan.seed)
        for driver in drivers:
            driver.start()
        try:
            await _play(scene, plan)
        except Difference:
            _write_journals(drivers, plan)
            raise
        finally:
            await _dismiss(scene)
        await _compare_at_rest(scene)
    return Outcome(
        operations=sum(driver.returned for driver in drivers),
        skipped=sum(driver.skipped for driver in drivers),
        accidents=scene.accidents,
        resync_rules=scene.rules,
        lost_operations=scene.lost_operations,
        seconds=time.monotonic() - began_s,
    )


def _write_journals(drivers: Sequence[Driver], plan: Plan) -> None:
    """What each driver did since its base, for whoever looks for the reason."""
    JOURNALS.mkdir(parents=True, exist_ok=True)
    for driver in drivers:
        lines = [f"{driver.base_at + number} {shown(operation)}\n" for number, operation in enumerate(driver.journal)]
        name = f"fsx-{plan.mode}-{plan.seed}-driver-{driver.index}.txt"
        (JOURNALS / name).write_text("".join(lines), encoding="utf-8")


def _lay_ballast(root: Path) -> None:
    """Directories that nobody touches: a resync has to pass them, so that more happens while it runs."""
    for number in range(_BALLAST):
        place = root / f"ballast-{number % 10}" / f"{number}"
        place.mkdir(parents=True)
        (place / "file").write_bytes(b"ballast" * number)


async def _play(scene: Scene, plan: Plan) -> None:
    share = plan.operations // plan.drivers
    for driver in scene.drivers:
        driver.run_to(share)
    chosen = random.Random(plan.seed)
    moments = sorted(chosen.randrange(plan.operations) for _ in range(plan.kills))
    for number, moment in enumerate(moments):
        await scene.until(
            lambda moment=moment: (  # type: ignore[misc]
                sum(driver.returned for driver in scene.drivers) >= moment
                or all(driver.still for driver in scene.drivers)
            )
        )
        await scene.happen(scene.choose() if plan.accidents is None else plan.accidents[number])
        if chosen.random() < 0.5:
            await scene.compare()
    await scene.until(lambda: all(driver.still for driver in scene.drivers))
    await scene.compare()


async def _dismiss(scene: Scene) -> None:
    """Ends the drivers; one that waits in a call that is never answered gets an error by the end of its mount."""
    for driver in scene.drivers:
        driver.accident = True
        driver.end()
    for driver in scene.drivers:
        await asyncio.to_thread(driver.join, 5)
    if any(driver.is_alive() for driver in scene.drivers):
        await scene.primary.close()
        for driver in scene.drivers:
            await asyncio.to_thread(driver.join, 30)


async def _compare_at_rest(scene: Scene) -> None:
    """A clean hand-over's end: both directories are the model, and each other to the last time stamp."""
    await scene.primary.engine.drain()
    for driver in scene.drivers:
        for node in (scene.primary, scene.replica):
            await asyncio.to_thread(demand_equal, driver.model, directory_of(driver, node), f"node {node.name} at rest")
    wrong = differences(
        await asyncio.to_thread(tree, scene.primary.root), await asyncio.to_thread(tree, scene.replica.root)
    )
    if wrong:
        raise Difference("the nodes differ at rest:\n  " + "\n  ".join(wrong[:12]))
