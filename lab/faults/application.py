"""The application dies, hangs, dies again and again, or answers its checker now and then."""

from __future__ import annotations

import signal

from lab.faults.model import Case, Primary, Service
from lab.faults.scene import LEDGER, CaseBroken, Scene

APPLICATION = "application"
AGENT_UNIT = "mirrorplane-agent"


def renew_budget(scene: Scene, node: str) -> None:
    """Failures of one case must not use up the restart budget (3 in 24 h) of the next: the agent starts anew."""

    async def restart() -> None:
        await scene.inside(node, "systemctl", "restart", AGENT_UNIT, timeout_s=150.0)

    scene.undo.push_async_callback(restart)


async def crash(scene: Scene) -> None:
    renew_budget(scene, scene.prim)
    await scene.signal(scene.prim, LEDGER, signal.SIGKILL)
    await scene.decided(scene.prim, ["restart-application"])
    await scene.writes()


async def hang(scene: Scene) -> None:
    renew_budget(scene, scene.prim)
    await scene.signal(scene.prim, LEDGER, signal.SIGSTOP)
    await scene.decided(scene.prim, ["restart-application"], deadline_s=60.0)
    await scene.writes()


async def crash_loop(scene: Scene) -> None:
    """Killed whenever it is there, until the node gives up and hands over."""
    renew_budget(scene, scene.prim)

    async def start_again() -> None:
        await scene.inside(scene.prim, "mirrorctl", "start", "--why", "fault matrix")

    scene.undo.push_async_callback(start_again)
    for _ in range(12):
        if scene.seen(scene.prim).role not in ("PRIM", "ALONE"):
            break
        try:
            await scene.signal(scene.prim, LEDGER, signal.SIGKILL)
        except CaseBroken:
            break
        await scene.hold(0.5)
    await scene.decided(scene.prim, ["restart-budget-exhausted"])
    await scene.writes()


async def checker_flaps(scene: Scene) -> None:
    """Stands still for less than two of the three failures its HTTP checker needs, again and again."""
    for _ in range(2):
        await scene.pause_process(scene.prim, LEDGER)
        await scene.hold(2.0)
        await scene.signal(scene.prim, LEDGER, signal.SIGCONT)
        await scene.hold(6.0)


CASES: tuple[Case, ...] = (
    Case(
        "the application is killed",
        APPLICATION,
        "Its death is an event: it is started again on the same node at once.",
        crash,
        service=Service.OPEN,
        limit_s=10.0,
    ),
    Case(
        "the application hangs",
        APPLICATION,
        "Its HTTP checker fails three times; it is killed and started again.",
        hang,
        service=Service.OPEN,
        limit_s=55.0,
    ),
    Case(
        "the application dies again and again",
        APPLICATION,
        "After three restarts the node gives up and hands over; the other one serves.",
        crash_loop,
        service=Service.OPEN,
        primary=Primary.CHANGES,
        limit_s=35.0,
    ),
    Case(
        "the application's checker flaps below its threshold",
        APPLICATION,
        "Nothing is restarted, nobody takes over.",
        checker_flaps,
        service=Service.OPEN,
        primary=Primary.STAYS,
        limit_s=6.0,
    ),
)
