"""A second accident while the first one is not repaired: the copy that is behind must not serve (I5)."""

from __future__ import annotations

from lab.faults.model import Case, Primary, Service
from lab.faults.scene import CaseBroken, Scene

DOUBLE = "double"
ALONE_S = 8.0


async def nobody_serves(scene: Scene, node: str, seconds: float) -> None:
    """Look at the node for a while: it must not serve."""
    for _ in range(int(seconds / 0.1)):
        if scene.seen(node).serving:
            raise CaseBroken(f"{node} serves although its copy is not complete: {scene.describe()}")
        await scene.hold(0.1)


async def cut_then_killed(scene: Scene) -> None:
    await scene.partition("link")
    await scene.role(scene.prim, "ALONE")
    await scene.writes()
    await scene.kill(scene.prim)
    await nobody_serves(scene, scene.second, ALONE_S)


async def behind_then_killed(scene: Scene) -> None:
    await scene.kill(scene.second)
    await scene.role(scene.prim, "ALONE")
    await scene.writes(100)
    await scene.start(scene.second)
    await scene.until(lambda: scene.seen(scene.second).answered, 60.0, "the replica's agent is up")
    await scene.kill(scene.prim)
    if scene.seen(scene.second).phase == "ready":
        raise CaseBroken("the replica was in sync before the primary could be killed; the case did not happen")
    await nobody_serves(scene, scene.second, ALONE_S)


async def witness_away_then_killed(scene: Scene) -> None:
    await scene.partition("witness")
    await scene.kill(scene.prim)
    await nobody_serves(scene, scene.second, ALONE_S)
    await scene.heal()
    await scene.writes()


async def killed_then_witness_away(scene: Scene) -> None:
    """The survivor serves alone; without the witness it may go on, but the other node may not join."""
    await scene.kill(scene.prim)
    await scene.writes()
    await scene.partition("witness")
    await scene.start(scene.prim)
    await scene.hold(ALONE_S)
    await scene.writes()


CASES: tuple[Case, ...] = (
    Case(
        "the link is cut, then the primary dies",
        DOUBLE,
        "The replica was recorded out of sync: nobody serves until the primary is back.",
        cut_then_killed,
        service=Service.OPEN,
        primary=Primary.STAYS,
    ),
    Case(
        "the replica is catching up, and the primary dies",
        DOUBLE,
        "A copy that is behind never serves: nobody serves until the primary is back.",
        behind_then_killed,
        service=Service.OPEN,
        primary=Primary.STAYS,
    ),
    Case(
        "the witness is away, then the primary dies",
        DOUBLE,
        "No arbiter, no takeover; it happens when the witness is back.",
        witness_away_then_killed,
        service=Service.OPEN,
        primary=Primary.CHANGES,
    ),
    Case(
        "the primary dies, then the witness is away while it comes back",
        DOUBLE,
        "The survivor goes on alone; the pair is whole when the witness is back.",
        killed_then_witness_away,
        primary=Primary.CHANGES,
        limit_s=20.0,
    ),
)
