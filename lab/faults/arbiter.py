"""The witness storage cannot be reached, is slow, answers with 412 for a while, or its answers get lost."""

from __future__ import annotations

from lab.faults.model import Case, Primary, Service
from lab.faults.scene import CaseBroken, Scene
from lab.faults.storage_proxy import Behaviour, storage_in_between

WITNESS = "witness"
AWAY_S = 10.0


async def away(scene: Scene, *targets: str) -> None:
    for target in targets:
        await scene.partition(target)
    await scene.hold(AWAY_S)


async def killed_behind(scene: Scene, behaviour: Behaviour, lasting_s: float | None = None) -> None:
    """The primary dies while storage behaves so; for `lasting_s`, or until the replica serves."""
    async with storage_in_between(scene) as proxy:
        proxy.behaviour = behaviour
        await scene.kill(scene.prim)
        if lasting_s is not None:
            await scene.hold(lasting_s)
            proxy.behaviour = Behaviour()
        await scene.writes()
        if not proxy.disturbed:
            raise CaseBroken("no call to the witness was disturbed; the case did not happen")


CASES: tuple[Case, ...] = (
    Case(
        "the primary cannot reach the witness for 10 s",
        WITNESS,
        "While the pair is connected nothing changes.",
        lambda scene: away(scene, f"{scene.prim}:witness"),
        service=Service.UNBROKEN,
        primary=Primary.STAYS,
    ),
    Case(
        "the replica cannot reach the witness for 10 s",
        WITNESS,
        "While the pair is connected nothing changes.",
        lambda scene: away(scene, f"{scene.second}:witness"),
        service=Service.UNBROKEN,
        primary=Primary.STAYS,
    ),
    Case(
        "neither node can reach the witness for 10 s",
        WITNESS,
        "While the pair is connected nothing changes.",
        lambda scene: away(scene, "witness"),
        service=Service.UNBROKEN,
        primary=Primary.STAYS,
    ),
    Case(
        "the witness answers after 1.2 s, and the primary dies",
        WITNESS,
        "The other node takes over, later by the two slow calls.",
        lambda scene: killed_behind(scene, Behaviour(delay_s=1.2)),
        primary=Primary.CHANGES,
        limit_s=25.0,
    ),
    Case(
        "every conditional write fails with 412 for 12 s, and the primary dies",
        WITNESS,
        "A lost write is no permission: nobody serves during the storm, the other node afterwards.",
        lambda scene: killed_behind(scene, Behaviour(refuse_writes=412), 12.0),
        service=Service.OPEN,
        primary=Primary.CHANGES,
        limit_s=35.0,
    ),
    Case(
        "storage answers 503 for 12 s, and the primary dies",
        WITNESS,
        "An unreachable witness is no permission: nobody serves during it, the other node afterwards.",
        lambda scene: killed_behind(scene, Behaviour(refuse_all=503), 12.0),
        service=Service.OPEN,
        primary=Primary.CHANGES,
        limit_s=35.0,
    ),
    Case(
        "the answers to the first two conditional writes get lost, and the primary dies",
        WITNESS,
        "The writer recognises its own hand in the record and goes on.",
        lambda scene: killed_behind(scene, Behaviour(lose_write_answers=2)),
        primary=Primary.CHANGES,
        limit_s=25.0,
    ),
)
