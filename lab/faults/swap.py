"""A planned swap under load, and one that is interrupted after each of its steps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from lab.faults.model import Case, Primary, Service
from lab.faults.scene import Scene

SWAP = "swap"
LONGER_THAN_A_TAKEOVER_S = 7.0
# Step of the swap → whose decision says that it has been reached (prim, second), and the decision's rule.
STEPS: dict[str, tuple[str, str]] = {
    "drain": ("prim", "swap-drain"),
    "publication": ("prim", "swap-publish"),
    "promotion": ("second", "handed-over"),
    "start": ("second", "start-application"),
}


async def swap(scene: Scene) -> None:
    output = await scene.inside(scene.prim, "mirrorctl", "swap", "--why", "fault matrix")
    await scene.role(scene.second, "PRIM")
    assert output
    await scene.writes()


async def swap_there_and_back(scene: Scene) -> None:
    for node in (scene.prim, scene.second):
        await scene.role(node, "PRIM")
        await scene.until(lambda: all(scene.seen(n).phase == "ready" for n in ("a", "b")), 60.0, "the pair is ready")
        await scene.inside(node, "mirrorctl", "swap", "--why", "fault matrix")
    await scene.role(scene.prim, "PRIM")
    await scene.writes()


def interrupted(step: str, accident: Callable[[Scene], Awaitable[None]]) -> Callable[[Scene], Awaitable[None]]:
    role, rule = STEPS[step]

    async def fault(scene: Scene) -> None:
        scene.background(scene.prim, "mirrorctl", "swap", "--why", "fault matrix")
        await scene.decided(scene.prim if role == "prim" else scene.second, [rule])
        await accident(scene)

    return fault


async def kill_old(scene: Scene) -> None:
    await scene.kill(scene.prim)
    await scene.hold(LONGER_THAN_A_TAKEOVER_S)


async def kill_new(scene: Scene) -> None:
    await scene.kill(scene.second)
    await scene.hold(LONGER_THAN_A_TAKEOVER_S)


async def cut_link(scene: Scene) -> None:
    await scene.partition("link")
    await scene.hold(LONGER_THAN_A_TAKEOVER_S)


async def lose_witness(scene: Scene) -> None:
    await scene.partition("witness")
    await scene.hold(5.0)


ACCIDENTS: dict[str, Callable[[Scene], Awaitable[None]]] = {
    "the old primary dies": kill_old,
    "the new primary dies": kill_new,
    "the link is cut": cut_link,
    "the witness is away": lose_witness,
}


def case(step: str, accident: str) -> Case:
    return Case(
        f"swap, and at its {step} {accident}",
        SWAP,
        "Every step leaves a state from which exactly one node goes on.",
        interrupted(step, ACCIDENTS[accident]),
        service=Service.OPEN,
    )


CASES: tuple[Case, ...] = (
    Case(
        "swap under load",
        SWAP,
        "Application stopped, drained, published, started on the other node; the client waits two seconds and a start.",
        swap,
        service=Service.PLANNED,
        primary=Primary.CHANGES,
        limit_s=8.0,
    ),
    Case(
        "swap there and back under load",
        SWAP,
        "Two swaps in a row.",
        swap_there_and_back,
        service=Service.PLANNED,
        primary=Primary.CHANGES,
        limit_s=8.0,
    ),
    *(case(step, accident) for step in STEPS for accident in ("the old primary dies", "the new primary dies")),
    case("drain", "the link is cut"),
    case("publication", "the link is cut"),
    case("promotion", "the link is cut"),
    case("drain", "the witness is away"),
    case("publication", "the witness is away"),
)
