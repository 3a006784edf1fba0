"""A process or a whole machine stands still for a while, and goes on as if nothing had been."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from lab.faults.model import Case, Primary, Service
from lab.faults.scene import ENGINE, SUPERVISOR, Scene

FREEZE = "freeze"
PROCESSES = {"agent": SUPERVISOR, "engine": ENGINE}


def paused(part: str, role: str, seconds: float) -> Callable[[Scene], Awaitable[None]]:
    """`part`: agent, engine or VM; `role`: prim or second."""

    async def fault(scene: Scene) -> None:
        node = scene.prim if role == "prim" else scene.second
        if part == "VM":
            await scene.freeze(node)
        else:
            await scene.pause_process(node, PROCESSES[part])
        await scene.hold(seconds)

    return fault


def case(
    part: str,
    role: str,
    seconds: int,
    must: str,
    *,
    service: Service = Service.UNPLANNED,
    primary: Primary = Primary.EITHER,
    limit_s: float | None = 20.0,
) -> Case:
    whose = "primary" if role == "prim" else "replica"
    name = f"the {whose}'s {part} stands still for {seconds} s"
    return Case(name, FREEZE, must, paused(part, role, seconds), service=service, primary=primary, limit_s=limit_s)


HUNG_AGENT = "The service manager kills it after the promise and 2 s; it starts again, and either node serves."
HUNG_ENGINE = "The agent kills it after 5 s and starts another in its place; the application only waits."
HUNG_REPLICA = "The primary is recorded alone and goes on; what hangs is killed and started again."
SHORT = "Shorter than the promise: nobody takes over."
CASES: tuple[Case, ...] = (
    case("agent", "prim", 1, SHORT, primary=Primary.STAYS, limit_s=4.0),
    case("agent", "prim", 5, "Service goes on or moves; the woken agent asks the witness before it acts."),
    case("agent", "prim", 15, HUNG_AGENT),
    case("agent", "second", 1, SHORT, primary=Primary.STAYS, limit_s=4.0),
    case("agent", "second", 15, HUNG_REPLICA, primary=Primary.STAYS),
    case("engine", "prim", 1, SHORT, primary=Primary.STAYS, limit_s=5.0),
    case("engine", "prim", 5, "Writes wait; nothing acknowledged is lost, whoever serves afterwards."),
    case("engine", "prim", 15, HUNG_ENGINE),
    case("engine", "second", 1, SHORT, primary=Primary.STAYS, limit_s=5.0),
    case("engine", "second", 15, HUNG_REPLICA, primary=Primary.STAYS),
    case("VM", "prim", 1, SHORT, primary=Primary.STAYS, limit_s=5.0),
    case("VM", "prim", 5, "Around the length of the promise: either serves afterwards, never both."),
    case("VM", "prim", 15, "The other node takes over; the woken one stops by itself.", primary=Primary.CHANGES),
    case("VM", "prim", 60, "The other node takes over; the woken one stops by itself.", primary=Primary.CHANGES),
    case("VM", "second", 1, SHORT, primary=Primary.STAYS, limit_s=5.0),
    case("VM", "second", 5, "The primary is recorded alone and goes on.", primary=Primary.STAYS),
    case("VM", "second", 15, "The primary is recorded alone and goes on.", primary=Primary.STAYS),
)
