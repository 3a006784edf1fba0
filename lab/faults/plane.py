"""The control plane is away: the pair must not need it."""

from __future__ import annotations

import os
import signal

from lab.faults.model import Case, Primary, Service
from lab.faults.scene import Scene

PLANE = "control plane"


async def away(scene: Scene) -> None:
    await scene.partition("control-plane")
    await scene.hold(10.0)


async def killed_without(scene: Scene) -> None:
    await scene.partition("control-plane")
    await scene.kill(scene.prim)
    await scene.writes()
    await scene.start(scene.prim)
    await scene.role(scene.second, "PRIM", deadline_s=60.0)


async def hangs(scene: Scene) -> None:
    processes = await scene.stage.lab.acall("processes")
    host = int(processes["functions"])
    os.kill(host, signal.SIGSTOP)
    scene.undo.callback(os.kill, host, signal.SIGCONT)
    await scene.hold(10.0)


CASES: tuple[Case, ...] = (
    Case(
        "the nodes cannot reach the control plane for 10 s",
        PLANE,
        "The pair works on; heartbeats are kept and sent later.",
        away,
        service=Service.UNBROKEN,
        primary=Primary.STAYS,
    ),
    Case(
        "the control plane accepts connections and never answers for 10 s",
        PLANE,
        "The pair works on.",
        hangs,
        service=Service.UNBROKEN,
        primary=Primary.STAYS,
    ),
    Case(
        "the control plane is away, and the primary dies and comes back",
        PLANE,
        "Failover and resynchronisation need no control plane.",
        killed_without,
        primary=Primary.CHANGES,
        limit_s=20.0,
    ),
)
