"""Maintenance of a VM's host, announced as Azure announces it and then carried out.

`announce` puts an event into the metadata service. It begins when the guest approves it or at NotBefore, whichever
comes first; the machine then really freezes or restarts, and the event disappears when that is over (there is no
"Completed"). What each type does to a machine: Freeze pauses it, unheard, for the announced duration; Reboot and
Redeploy restart it in order; Preempt and Terminate switch it off. Each turn is told to Event Grid as well (`tell`).
Different from Azure: notice and duration are chosen freely, and a Redeploy keeps the machine where it is.
"""

from __future__ import annotations

import asyncio
import difflib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Final, Protocol

from lab.arm.provider import ProviderFailure
from lab.control import CommandRefused
from lab.imds import EVENT_TYPES, ScheduledEvent, ScheduledEvents

DEFAULT_NOTICE_S: Final = 900.0
DEFAULT_FREEZE_S: Final = 10.0
logger = logging.getLogger(__name__)


class Power(Protocol):
    """What maintenance does to a machine; `node` as in `demo/a`."""

    async def vm_id(self, node: str) -> tuple[str, str]:
        """Resource id and name of the VM. Raises `CommandRefused`."""
        ...

    async def freeze(self, node: str) -> dict[str, Any]: ...

    async def thaw(self, node: str) -> dict[str, Any]: ...

    async def restart(self, node: str) -> dict[str, Any]: ...

    async def shut_down(self, node: str) -> dict[str, Any]: ...


# (resource id of the VM, the event as its guest sees it, Scheduled | Started | Completed)
Tell = Callable[[str, dict[str, Any], str], None]


@dataclass(frozen=True, slots=True)
class _Planned:
    event: ScheduledEvent
    node: str
    vm_id: str


class Maintenance:
    def __init__(self, events: ScheduledEvents, power: Power, tell: Tell) -> None:
        self._events = events
        self._power = power
        self._tell = tell
        self._tasks: set[asyncio.Task[None]] = set()

    def commands(self) -> Mapping[str, Callable[..., Awaitable[Any]]]:
        return {"event": self.announce}

    async def announce(
        self,
        node: str,
        type: str,
        notice_s: float = DEFAULT_NOTICE_S,
        duration_s: float | None = None,
        by_user: bool = False,
    ) -> dict[str, Any]:
        """Schedule one event; the answer is the event as the guest sees it."""
        kinds = {kind.lower(): kind for kind in EVENT_TYPES}
        if type.lower() not in kinds:
            near = difflib.get_close_matches(type.lower(), list(kinds), 1)
            hint = f"; did you mean {kinds[near[0]]!r}?" if near else ""
            raise CommandRefused(f"no event type {type!r}; there are {', '.join(EVENT_TYPES)}{hint}")
        vm_id, name = await self._power.vm_id(node)
        kind = kinds[type.lower()]
        if duration_s is None:
            duration_s = DEFAULT_FREEZE_S if kind == "Freeze" else -1
        event = ScheduledEvent(
            type=kind,
            vm_name=name,
            not_before=format_datetime(datetime.now(UTC) + timedelta(seconds=notice_s), usegmt=True),
            duration_s=round(duration_s),
            source="User" if by_user else "Platform",
            description=f"{kind} announced by the lab",
        )
        approved = asyncio.Event()
        self._events.schedule(vm_id, event, lambda _: approved.set())
        self._tell(vm_id, event.as_json(), "Scheduled")
        task = asyncio.create_task(self._carry_out(_Planned(event, node, vm_id), approved, notice_s), name=event.id)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return event.as_json()

    async def close(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _carry_out(self, planned: _Planned, approved: asyncio.Event, notice_s: float) -> None:
        try:
            async with asyncio.timeout(notice_s):
                await approved.wait()
        except TimeoutError:
            self._events.start(planned.vm_id, planned.event.id)
        self._tell(planned.vm_id, planned.event.as_json(), "Started")
        try:
            await self._do(planned)
        except (CommandRefused, ProviderFailure) as error:
            logger.warning("maintenance %s of %s: %s", planned.event.type, planned.node, error)
        finally:
            self._events.finish(planned.vm_id, planned.event.id)
            self._tell(planned.vm_id, planned.event.as_json(), "Completed")

    async def _do(self, planned: _Planned) -> None:
        match planned.event.type:
            case "Freeze":
                await self._power.freeze(planned.node)
                await asyncio.sleep(max(0, planned.event.duration_s))
                await self._power.thaw(planned.node)
            case "Reboot" | "Redeploy":
                await self._power.restart(planned.node)
            case _:
                await self._power.shut_down(planned.node)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("maintenance %s failed", task.get_name(), exc_info=error)
