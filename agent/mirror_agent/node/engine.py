"""The node's view of its mirror engine: launches it, drives it, and reports it to the core as one value.

The engine's own status knows nothing of the order in which the supervisor asked for things; `sealed` and `drained`
are therefore kept here, from the calls that succeeded, and forgotten before any call that ends them: it may be carried
out although its answer is lost (found by the simulator: a peer believed to be required was published as in sync while
the engine had been released). An engine that dies as primary is replaced by its handle where the kernel allows it,
which looks like a lost link from here; any other dead engine is reported as failed and launched again by the next
action that needs one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mirror_agent.clock import BOOT_CLOCK, Clock
from mirror_agent.core.model import NEVER, NO_EPOCH, Acknowledging, Epoch, Instant, Link, Mirror, Mode
from mirror_agent.eventlog import RecordEvent
from mirror_agent.mirror.config import MirrorConfig
from mirror_agent.mirror.status import MirrorError, MirrorStatus

if TYPE_CHECKING:
    from mirror_agent.mirror.control import MirrorHandle


@dataclass(slots=True)
class _Kept:
    """What the engine's status does not say."""

    sealed: Epoch = NO_EPOCH
    drained: bool = False
    required: bool = False


class Engine:
    """Every method answers "" or the reason why it could not be done."""

    def __init__(
        self,
        config: MirrorConfig,
        *,
        on_report: Callable[[Mirror], None],
        log: RecordEvent,
        clock: Clock = BOOT_CLOCK,
    ) -> None:
        self._config = config
        self._on_report = on_report
        self._log = log
        self._clock = clock
        self._handle: MirrorHandle | None = None
        self._launches = 0
        self._replacements = 0
        self._kept = _Kept()
        self._status = MirrorStatus()
        self._told = Mirror()

    @property
    def status(self) -> MirrorStatus:
        return self._status

    async def become_primary(self, epoch: Epoch, *, paired: bool) -> str:
        self._forget(_Kept())
        return await self._call(lambda h: h.become_primary(epoch=epoch, paired=paired))

    async def become_replica(self, epoch: Epoch) -> str:
        self._forget(_Kept())
        return await self._call(lambda h: h.become_replica(epoch=epoch))

    async def require_peer(self, epoch: Epoch) -> str:
        def required() -> None:
            self._kept.required = True

        return await self._call(lambda h: h.require_peer(epoch=epoch), required)

    async def release(self, epoch: Epoch) -> str:
        self._forget(replace(self._kept, required=False))
        return await self._call(lambda h: h.release(epoch=epoch))

    async def raise_epoch(self, epoch: Epoch) -> str:
        return await self._call(lambda h: h.set_epoch(epoch=epoch))

    async def seal(self, epoch: Epoch) -> str:
        def sealed() -> None:
            self._kept.sealed = epoch

        return await self._call(lambda h: h.seal(epoch=epoch), sealed)

    async def drain(self) -> str:
        def drained() -> None:
            self._kept.drained = True

        return await self._call(lambda h: h.drain(), drained)

    async def verify(self, *, repair: bool, rate_bytes_per_s: float) -> str:
        return await self._ask(lambda h: h.verify(repair=repair, rate_bytes_per_s=rate_bytes_per_s))

    async def verify_stop(self) -> str:
        return await self._ask(lambda h: h.verify_stop())

    async def resync(self) -> str:
        return await self._ask(lambda h: h.resync())

    async def _ask(self, work: Callable[[MirrorHandle], Awaitable[None]]) -> str:
        """For what only a running engine can do."""
        if self._handle is None:
            return "the mirror engine is not running"
        return await self._call(work)

    async def abort(self, users_killed: Callable[[], Awaitable[object]]) -> str:
        """Fails every call on the mounts at once and ends the engine. The dead mounts are detached after `users_killed`
        only: whoever lives on would write into the directory below them, past the mirror."""
        if self._handle is None:
            self._report(MirrorStatus())
            return ""
        handle = self._handle
        try:
            await handle.abort()
        except MirrorError as error:
            self._log("mirror.abort-failed", reason=str(error))
        await users_killed()
        return await self.stop()

    async def stop(self) -> str:
        handle, self._handle = self._handle, None
        self._launches += 1  # the end of an engine that is stopped on purpose is no failure
        if handle is not None:
            try:
                await handle.stop()
            except MirrorError as error:
                self._log("mirror.stop-failed", reason=str(error))
        self._kept = _Kept(drained=self._kept.drained)
        self._report(MirrorStatus())
        return ""

    def _forget(self, kept: _Kept) -> None:
        """Before a call that ends what is remembered. The core is told at once: when the call fails or its answer is
        lost, nothing but the next status would tell it, and it may act before that (found by the simulator).
        """
        self._kept, told = kept, self._told
        required, drained = told.required and kept.required, told.drained and kept.drained
        self._tell(replace(told, sealed=kept.sealed, drained=drained, required=required))

    async def _call(
        self, work: Callable[[MirrorHandle], Awaitable[None]], done: Callable[[], None] = lambda: None
    ) -> str:
        try:
            handle = await self._running()
            await work(handle)
        except MirrorError as error:
            return str(error)
        except OSError as error:
            return f"{type(error).__name__}: {error}"
        done()
        self._report(handle.status)
        return ""

    async def _running(self) -> MirrorHandle:
        if self._handle is not None and self._handle.status.mode == "failed":
            self._log("mirror.relaunch", reason=self._handle.status.error)
            await self.stop()
        if self._handle is None:
            self._kept = _Kept()
            self._launches += 1
            launch = self._launches
            # Late: engines are Linux programs, and most of the agent is not (docs/windows.md).
            from mirror_agent.mirror.control import MirrorHandle

            handle = await MirrorHandle.launch(self._config, on_status=lambda status: self._reported(launch, status))
            if launch != self._launches:
                await handle.stop()
                raise MirrorError("the engine was stopped while it was being launched")
            self._handle = handle
            self._replacements = 0
        return self._handle

    def _reported(self, launch: int, status: MirrorStatus) -> None:
        if launch != self._launches:
            return
        handle = self._handle
        if handle is not None and handle.replacements != self._replacements:
            self._replacements = handle.replacements
            self._log("mirror.engine-replaced", times=handle.replacements, acknowledging=status.acknowledging)
        self._report(status)

    def _report(self, status: MirrorStatus) -> None:
        self._status = status
        if status.acknowledging != "paired" or status.link != "live":
            self._kept.required = False
        age = status.peer_heard_age_s
        heard_at = Instant(self._clock.now_s() - age) if age is not None else NEVER
        self._tell(
            Mirror(
                mode=Mode(status.mode),
                epoch=Epoch(status.epoch),
                link=Link(status.link),
                acknowledging=Acknowledging(status.acknowledging),
                heard_at=heard_at,
                sealed=self._kept.sealed,
                drained=self._kept.drained and status.mode == "stopped",
                required=self._kept.required,
                error=status.error or "",
            )
        )

    def _tell(self, mirror: Mirror) -> None:
        self._told = mirror
        self._on_report(mirror)
