"""Packets between the two nodes, or of one node altogether, are lost, late, or lost now and then."""

from __future__ import annotations

from lab.faults.delay import delayed
from lab.faults.model import Case, Primary, Service
from lab.faults.scene import CaseBroken, Scene

LINK = "link"
CUT_S = 10.0


async def cut(scene: Scene) -> None:
    await scene.partition("link")
    await scene.hold(CUT_S)


async def one_way(scene: Scene, sender: str, receiver: str) -> None:
    """Nothing of `sender` arrives at `receiver`, on whichever address."""
    await scene.drop(f"ip saddr {scene.place(sender).address} ip daddr {scene.place(receiver).address}")
    await scene.hold(CUT_S)


async def lossy(scene: Scene, percent: int, seconds: float) -> None:
    a, b = scene.place("a").address, scene.place("b").address
    chance = f"numgen random mod 100 < {percent}"
    await scene.drop(f"ip saddr {a} ip daddr {b} {chance}", f"ip saddr {b} ip daddr {a} {chance}")
    await scene.hold(seconds)


async def late(scene: Scene) -> None:
    async with delayed(scene, low_s=0.2, high_s=0.2) as relay:
        await scene.hold(CUT_S)
        if not relay.relayed:
            raise CaseBroken("no packet took the late way; the case did not happen")


async def flap(scene: Scene) -> None:
    for _ in range(4):
        await scene.partition("link")
        await scene.hold(1.5)
        await scene.heal()
        await scene.hold(1.5)


async def isolated(scene: Scene, node: str) -> None:
    await scene.partition(node)
    await scene.hold(CUT_S)


CASES: tuple[Case, ...] = (
    Case(
        "the link is cut both ways for 10 s",
        LINK,
        "One node is recorded alone and serves, the other one waits; afterwards it resynchronises.",
        cut,
        limit_s=20.0,
    ),
    Case(
        "nothing of the primary reaches the replica for 10 s",
        LINK,
        "As a cut link: one of them is recorded alone.",
        lambda scene: one_way(scene, scene.prim, scene.second),
        limit_s=20.0,
    ),
    Case(
        "nothing of the replica reaches the primary for 10 s",
        LINK,
        "As a cut link: one of them is recorded alone.",
        lambda scene: one_way(scene, scene.second, scene.prim),
        limit_s=20.0,
    ),
    Case(
        "30 % of the packets between the nodes are lost for 15 s",
        LINK,
        "Service goes on, slower than this client waits, or one node is recorded alone.",
        lambda scene: lossy(scene, 30, 15.0),
        service=Service.OPEN,
        limit_s=20.0,
    ),
    Case(
        "200 ms delay between the nodes for 10 s",
        LINK,
        "A commit of ten round trips takes seconds, longer than this client waits; nobody takes over.",
        late,
        service=Service.OPEN,
        primary=Primary.STAYS,
        limit_s=20.0,
    ),
    Case(
        "the link flaps: 1.5 s cut, 1.5 s whole, four times",
        LINK,
        "Shorter than the promise each time: nobody takes over.",
        flap,
        primary=Primary.STAYS,
        limit_s=10.0,
    ),
    Case(
        "the primary is cut off from everybody for 10 s",
        LINK,
        "It blocks its writes and stops its application in time; the other node takes over.",
        lambda scene: isolated(scene, scene.prim),
        primary=Primary.CHANGES,
        limit_s=20.0,
    ),
    Case(
        "the replica is cut off from everybody for 10 s",
        LINK,
        "The primary is recorded alone and goes on.",
        lambda scene: isolated(scene, scene.second),
        primary=Primary.STAYS,
        limit_s=10.0,
    ),
)
