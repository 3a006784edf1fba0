"""One verify at a time on a primary: its thread, its progress, and the record of how it ended.

Guarantee: a verify that ended leaves a record on this node, and on the replica if it could still be told; what was
found stands in the status of both until a later verify finds nothing or a resync compared everything. A verify ends
before the front it walks in is taken down.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from mirror_agent.mirror import machine, verify_wire, wire
from mirror_agent.mirror.connector import Connector
from mirror_agent.mirror.front import Front
from mirror_agent.mirror.inodes import Descriptors
from mirror_agent.mirror.outlet import Outlet
from mirror_agent.mirror.status import MirrorError
from mirror_agent.mirror.stream import Stream
from mirror_agent.mirror.verify import Findings, Verify, VerifyEnded, VerifyProgress
from mirror_agent.mirror.verify_record import (
    DIFFERENT,
    IDENTICAL,
    INCOMPLETE,
    LISTED_MAX,
    VerifyRecord,
    VerifyStore,
    now_utc,
)
from mirror_agent.mirror.verify_wire import Verdict
from mirror_agent.mirror.wire import Op

log: Final = logging.getLogger(__name__)


class Verification:
    """The verifies of one primary. `on_change` is called when one begins and when it ended."""

    def __init__(
        self,
        connector: Connector,
        outlet: Outlet,
        descriptors: Descriptors,
        store: VerifyStore,
        *,
        fronts: Callable[[], list[Front]],
        on_change: Callable[[], None],
    ) -> None:
        self._connector = connector
        self._outlet = outlet
        self._descriptors = descriptors
        self._store = store
        self._fronts = fronts
        self._on_change = on_change
        self._lock = threading.Lock()
        self._verify: Verify | None = None
        self._thread: threading.Thread | None = None
        self._began_s = 0.0

    @property
    def progress(self) -> VerifyProgress | None:
        """Of the verify that is running now."""
        verify = self._verify
        return None if verify is None else verify.progress

    @property
    def running_s(self) -> float:
        return time.monotonic() - self._began_s

    def start(self, *, repair: bool, rate_bytes_per_s: float) -> None:
        """Raises `MirrorError` when there is nothing to compare with, or a verify is running."""
        if rate_bytes_per_s < 1:
            raise MirrorError(f"verify: a rate of {rate_bytes_per_s} bytes/s is none; give a positive one")
        with self._lock:
            if self._verify is not None:
                raise MirrorError("verify: one is under way; wait for its end or stop it")
            stream = self._connector.live_stream()
            if stream is None:
                raise MirrorError(
                    f"verify: the link is {self._connector.link}; there is no identical replica to verify"
                )
            verify = Verify(
                stream,
                self._fronts(),
                self._outlet,
                self._descriptors,
                repair=repair,
                rate_bytes_per_s=rate_bytes_per_s,
            )
            self._began_s = time.monotonic()
            self._verify = verify
            self._thread = threading.Thread(
                target=self._run, args=(verify, stream), kwargs={"repair": repair}, name="mirror-verify", daemon=True
            )
            self._thread.start()
        self._on_change()

    def stop(self, reason: str, timeout_s: float) -> bool:
        """Ends the verify that is running; False if it did not end in time."""
        verify, thread = self._verify, self._thread
        if verify is not None:
            verify.stop(reason)
        if thread is not None:
            thread.join(timeout_s)
        return thread is None or not thread.is_alive()

    def _run(self, verify: Verify, stream: Stream, *, repair: bool) -> None:
        machine.to_background()
        started, reason = now_utc(), ""
        try:
            try:
                verify.run()
                if repair and verify.passes[0].count:
                    # What was mended in place has no other proof than the disk (see docs/mirror.md §4).
                    reason = "" if _flushed(stream) else "what was repaired was not flushed on the replica"
            except (VerifyEnded, OSError) as error:
                reason = str(error)
            except Exception as error:  # the thread must not end without a record
                log.exception("verify failed")
                reason = f"internal error: {error!r}"
            record = _record(verify, stream.epoch, started, reason)
            log.warning("verify: %s, %d differences stand %s", record.outcome, record.differences, reason)
            self._store.save(record)
            self._tell(stream, record)
        except OSError as error:
            log.error("the record of the verify cannot be written: %s", error)
        finally:
            self._verify = None
            self._on_change()

    def _tell(self, stream: Stream, record: VerifyRecord) -> None:
        verdict = Verdict(
            record.ended_utc, record.differences, record.repaired, record.entries, record.content_bytes,
            complete=record.outcome != INCOMPLETE,
        )  # fmt: skip
        seq = stream.append(Op.VERDICT, data=verify_wire.verdict_payload(verdict), flags=wire.WAITED)
        if seq:
            stream.wait(seq)


def _flushed(stream: Stream) -> bool:
    seq = stream.append(Op.BARRIER, flags=wire.WAITED | wire.SYNC)
    return bool(seq) and stream.wait_flushed(seq)


def _record(verify: Verify, epoch: int, started: str, reason: str) -> VerifyRecord:
    """Of several passes the last one says what stands: it looked at what the earlier ones repaired."""
    first, last = verify.passes[0], verify.passes[-1]
    left = {(one.path, one.kind) for one in last.listed}
    one_pass = last is first
    listed = [replace(one, repaired=not one_pass and (one.path, one.kind) not in left) for one in first.listed]
    known = {(one.path, one.kind) for one in listed}
    later = [replace(one, repaired=False) for one in last.listed if (one.path, one.kind) not in known]
    stands = _standing(verify.passes, complete=not reason)
    progress = verify.progress
    return VerifyRecord(
        outcome=INCOMPLETE if reason else DIFFERENT if stands else IDENTICAL,
        started_utc=started,
        ended_utc=now_utc(),
        epoch=epoch,
        found=first.count,
        repaired=max(0, first.count - stands),
        differences=stands,
        entries=progress.entries,
        content_bytes=progress.done_bytes,
        reason=reason,
        listed=tuple((listed + later)[:LISTED_MAX]),
    )


def _standing(passes: list[Findings], *, complete: bool) -> int:
    """A pass that did not end proves nothing, so what the one before it found still stands."""
    return passes[-1].count if complete else max(one.count for one in passes)
