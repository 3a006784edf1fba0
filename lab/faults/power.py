"""The power of a machine goes, or its host pauses it."""

from __future__ import annotations

from lab.faults.model import Case, Primary, Service
from lab.faults.scene import Scene

KILL = "kill"


async def kill_primary(scene: Scene) -> None:
    await scene.kill(scene.prim)
    await scene.writes()


async def kill_second(scene: Scene) -> None:
    await scene.kill(scene.second)
    await scene.role(scene.prim, "ALONE")
    await scene.writes()


async def kill_both_start(scene: Scene, *order: str) -> None:
    first, then = (scene.prim, scene.second) if order[0] == "prim" else (scene.second, scene.prim)
    await scene.kill(first)
    await scene.kill(then)
    await scene.start(first)
    await scene.hold(6.0)  # the first one has looked around and found nobody
    await scene.start(then)


CASES: tuple[Case, ...] = (
    Case(
        "kill the primary's VM",
        KILL,
        "The other node takes over; the killed one comes back as SECOND.",
        kill_primary,
        primary=Primary.CHANGES,
        limit_s=20.0,
    ),
    Case(
        "kill the replica's VM",
        KILL,
        "The primary is recorded alone and goes on; the killed one resynchronises.",
        kill_second,
        primary=Primary.STAYS,
        limit_s=10.0,
    ),
    Case(
        "kill both VMs, start the former primary first",
        KILL,
        "The recorded primary distrusts its memory and waits for the other complete copy; then one of them serves.",
        lambda scene: kill_both_start(scene, "prim"),
        service=Service.OPEN,
    ),
    Case(
        "kill both VMs, start the former replica first",
        KILL,
        "The replica does not take over by itself after a loss of power; when both are there, one serves.",
        lambda scene: kill_both_start(scene, "second"),
        service=Service.OPEN,
    ),
)
