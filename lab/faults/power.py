"""The power of a machine goes, or one process of the node is killed."""

from __future__ import annotations

import signal

from lab.faults.model import Case, Primary, Service
from lab.faults.scene import ENGINE, SUPERVISOR, Scene

KILL = "kill"


async def kill_primary(scene: Scene) -> None:
    await scene.kill(scene.prim)
    await scene.writes()


async def kill_second(scene: Scene) -> None:
    await scene.kill(scene.second)
    await scene.role(scene.prim, "ALONE")
    await scene.writes()


async def kill_process(scene: Scene, node: str, pattern: str) -> None:
    """SIGKILL to the agent or to the engine; the service manager, or the agent, starts another."""
    await scene.signal(node, pattern, signal.SIGKILL)
    await scene.hold(1.0)  # what lives on with the dead one's connections may still acknowledge
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
        "kill the primary's agent",
        KILL,
        "The service manager starts it again; the node serves again, or the other one has taken over.",
        lambda scene: kill_process(scene, scene.prim, SUPERVISOR),
        limit_s=20.0,
    ),
    Case(
        "kill the replica's agent",
        KILL,
        "The primary is recorded alone and goes on; the agent comes back and resynchronises.",
        lambda scene: kill_process(scene, scene.second, SUPERVISOR),
        primary=Primary.STAYS,
        limit_s=10.0,
    ),
    Case(
        "kill the primary's engine",
        KILL,
        "The agent starts another in its place; the application only waits.",
        lambda scene: kill_process(scene, scene.prim, ENGINE),
        primary=Primary.STAYS,
        limit_s=20.0,
    ),
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
