"""An operator's questions and orders about the two copies, and the events that tell how they went.

Guarantee: every order is recorded with who and why before it begins, and with its outcome; a verify that ended is
recorded on both nodes (the replica is told the verdict), and a node that becomes primary although its copy was found
different says so. Nothing here changes who may be primary: a verify tells, the operator decides (docs/safety.md).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Final

from mirror_agent.core.model import SERVING, State, peer_alive
from mirror_agent.eventlog import EventLog
from mirror_agent.mirror import quarantine_store
from mirror_agent.mirror.limits import VERIFY_RATE_BYTES_PER_S
from mirror_agent.mirror.quarantine_store import QuarantineError
from mirror_agent.mirror.status import MirrorStatus
from mirror_agent.mirror.verify_record import VerifyStore
from mirror_agent.node.engine import Engine
from mirror_agent.node.metrics import metrics_text
from mirror_agent.node.noted import noted
from mirror_agent.node.report import Reporter
from mirror_agent.web.actions import RequestOutcome
from mirror_agent.web.mirror_control import (
    REPAIR,
    RESTORE,
    RESYNC,
    VERIFY,
    VERIFY_STOP,
    MirrorRequest,
)

# Of the newest; an answer must stay within what the client reads.
_KEPT_MAX: Final = 10_000
_STANDING: Final = "mirrorctl mirror verify --repair"


class MirrorOperations:
    """Implements `MirrorControl`; `observe` is told every status of the engine."""

    def __init__(
        self,
        engine: Engine,
        reporter: Reporter,
        *,
        state: Callable[[], State],
        mirror_state_dir: Path,
        quarantine_dir: Path,
        replicated: tuple[str, ...],
        log: EventLog,
    ) -> None:
        self._engine = engine
        self._reporter = reporter
        self._state = state
        self._mirror_state_dir = mirror_state_dir
        self._quarantine_dir = quarantine_dir
        self._replicated = replicated
        self._log = log
        self._mode = "stopped"
        self._told_utc: str | None = None

    # -- facts -----------------------------------------------------------------------------------------------------

    def observe(self, status: MirrorStatus) -> None:
        """Turns changes of the engine's status into events."""
        before, self._mode = self._mode, status.mode
        if status.mode in ("stopped", "failed"):
            return
        verify, told = status.verify, self._told_utc
        self._told_utc = verify.ended_utc
        # What an earlier life of the agent has told is told again only while it matters.
        if verify.ended_utc != (told or "") and (verify.differences or told is not None):
            self._log.record_decision(
                "mirror.verify-ended",
                outcome=verify.outcome,
                ended_utc=verify.ended_utc,
                differences=verify.differences,
                repaired=verify.repaired,
                reason=verify.reason,
            )
        if status.mode == "primary" and before != "primary" and verify.differences:
            self._log.record_decision(
                "mirror.serves-a-different-copy",
                differences=verify.differences,
                verified_utc=verify.ended_utc,
                remedy="the peer's copy may be the right one; what a resync replaces there is kept in its quarantine",
            )

    def doubt(self) -> str:
        """Why a planned exchange of the roles should wait; "" if nothing speaks against it."""
        differences = self._engine.status.verify.differences
        if not differences:
            return ""
        return (
            f"the last verify found {differences} differences in the other copy that still stand; repair them first "
            f"({_STANDING}), or stop this node: the other one then serves its copy as it is"
        )

    def mirror(self) -> dict[str, object]:
        return self._reporter.mirror()

    def metrics(self) -> str:
        return metrics_text(self._reporter.scrape())

    async def verified(self) -> dict[str, object]:
        return await asyncio.get_running_loop().run_in_executor(None, self._read_verified)

    def _read_verified(self) -> dict[str, object]:
        if not self._mirror_state_dir.is_dir():
            return {}
        last = VerifyStore(self._mirror_state_dir).last
        return {} if last is None else asdict(last)

    async def quarantine(self) -> list[dict[str, object]]:
        kept = await asyncio.get_running_loop().run_in_executor(
            None, quarantine_store.entries, str(self._quarantine_dir)
        )
        return [asdict(one) for one in kept[-_KEPT_MAX:]]

    # -- orders ----------------------------------------------------------------------------------------------------

    async def operate(self, request: MirrorRequest) -> RequestOutcome:
        async with noted(self._log, request.op, request.who, request.principal, request.why) as order:
            order.outcome = await self._do(request)
        return order.outcome

    async def _do(self, request: MirrorRequest) -> RequestOutcome:
        match request.op:
            case op if op in (VERIFY, REPAIR):
                return await self._verify(request)
            case op if op == VERIFY_STOP:
                return _outcome(await self._engine.verify_stop(), "succeeded", "the verify is stopped")
            case op if op == RESYNC:
                return await self._resync()
            case op if op == RESTORE:
                return await self._restore(request)
            case op:
                raise LookupError(f"{op!r} is no operation on the copies")

    async def _verify(self, request: MirrorRequest) -> RequestOutcome:
        if self._state().role not in SERVING:
            return _refused(f"this node is {self._state().role.value}; a verify is asked for on the serving node")
        rate = request.rate_bytes_per_s or VERIFY_RATE_BYTES_PER_S
        failure = await self._engine.verify(repair=request.op == REPAIR, rate_bytes_per_s=rate)
        return _outcome(failure, "accepted", "the verify has begun; mirrorctl mirror status tells how far it is")

    async def _resync(self) -> RequestOutcome:
        """Lets the replica go: for as long as the resync takes this node serves alone."""
        state = self._state()
        status = self._engine.status
        if state.role not in SERVING:
            return _refused(f"this node is {state.role.value}; a resync is asked for on the serving node")
        if status.link != "live":
            return _refused(f"the link is {status.link}: there is no complete replica to make anew")
        if status.verify.running:
            return _refused("a verify is under way; wait for its end, or stop it: mirrorctl mirror verify --stop")
        if state.witness.failure or state.record is None:
            why = state.witness.failure or "its record was not read yet"
            return _refused(
                f"the witness does not answer ({why}): without it this node could not be published alone, and every "
                "write would wait"
            )
        if not peer_alive(state, self._reporter.now):
            return _refused("the peer's heartbeats are not heard; a resync could not begin")
        failure = await self._engine.resync()
        return _outcome(
            failure, "accepted", "the replica is let go and compared as a whole; until then this node is alone"
        )

    async def _restore(self, request: MirrorRequest) -> RequestOutcome:
        if not os.path.isabs(request.target):
            return _refused(f"{request.target!r} is no absolute path")
        target = _plain(request.target)
        inside = [path for path in self._replicated if target == Path(path) or Path(path) in target.parents]
        if inside and self._state().role not in SERVING:
            return _refused(f"{target} lies in the replicated {inside[0]}; restore into it on the serving node only")
        try:
            kept = await asyncio.get_running_loop().run_in_executor(
                None, quarantine_store.restore, str(self._quarantine_dir), request.kept, str(target)
            )
        except (QuarantineError, OSError) as error:
            return RequestOutcome("failed", str(error))
        return RequestOutcome("succeeded", f"{kept.kind} of {kept.path} is at {target}")


def _plain(path: str) -> Path:
    """Without "..", which could lead into a replicated directory; no file system is asked."""
    return Path(os.path.normpath(path))


def _refused(why: str) -> RequestOutcome:
    return RequestOutcome("refused", why)


def _outcome(failure: str, status: str, message: str) -> RequestOutcome:
    if failure:
        return RequestOutcome("refused", failure)
    return RequestOutcome("accepted" if status == "accepted" else "succeeded", message)
