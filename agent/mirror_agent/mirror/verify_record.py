"""What is known about the equality of the two copies: the last verify, kept by both nodes over restarts.

Problem: a difference that a verify found must not be forgotten because an engine restarts or the roles change. So the
record of the last verify lies in the state directory of both nodes (the primary tells the replica its verdict on the
stream), and its `differences` *stand* until a later verify finds none or a resync compared everything.

A record that cannot be read counts as none; it decides nothing, it only tells.
Limits: at most `LISTED_MAX` differences are listed; all are counted.
"""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from mirror_agent.mirror import files
from mirror_agent.mirror.verify_wire import Verdict

log: Final = logging.getLogger(__name__)

RECORD: Final = "verify.json"
LISTED_MAX: Final = 1000

IDENTICAL: Final = "identical"
DIFFERENT: Final = "different"
INCOMPLETE: Final = "incomplete"


@dataclass(frozen=True)
class Difference:
    """One difference. `offset_bytes` and `length_bytes` only for content; `repaired`: a further pass confirmed it."""

    path: str
    kind: str
    detail: str = ""
    offset_bytes: int | None = None
    length_bytes: int | None = None
    repaired: bool = False


@dataclass(frozen=True)
class VerifyRecord:
    """The last verify that ended. `found` counts all, `differences` those that stand; `reason` of an incomplete one.

    `cleared_utc`: when a resync of everything made the differences history.
    """

    outcome: str
    started_utc: str
    ended_utc: str
    epoch: int
    found: int = 0
    repaired: int = 0
    differences: int = 0
    entries: int = 0
    content_bytes: int = 0
    reason: str = ""
    cleared_utc: str = ""
    listed: tuple[Difference, ...] = ()


def now_utc() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def record_of(verdict: Verdict, epoch: int) -> VerifyRecord:
    """What a replica keeps of the primary's verdict; the list of differences is the primary's."""
    outcome = INCOMPLETE if not verdict.complete else DIFFERENT if verdict.differences else IDENTICAL
    return VerifyRecord(
        outcome=outcome,
        started_utc="",
        ended_utc=verdict.at_utc,
        epoch=epoch,
        found=verdict.differences + verdict.repaired,
        repaired=verdict.repaired,
        differences=verdict.differences,
        entries=verdict.entries,
        content_bytes=verdict.content_bytes,
    )


class VerifyStore:
    """The record in one state directory; `last` is None before the first verify."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self.last = self._load()

    @property
    def path(self) -> Path:
        return self._directory / RECORD

    def _load(self) -> VerifyRecord | None:
        try:
            return record_from(json.loads(self.path.read_bytes()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            log.error("%s is not usable (%s); verify again", self.path, error)
            return None

    def save(self, record: VerifyRecord) -> None:
        """Durable at return. A verify that was not finished does not take back what an earlier one found."""
        with self._lock:
            last = self.last
            if record.outcome == INCOMPLETE and last is not None and last.differences > record.differences:
                record = replace(record, differences=last.differences, listed=record.listed or last.listed)
            self._write(record)

    def cleared(self) -> None:
        """A resync has compared everything: what was found before is history."""
        with self._lock:
            if self.last is not None and self.last.differences:
                self._write(replace(self.last, differences=0, cleared_utc=now_utc()))

    def _write(self, record: VerifyRecord) -> None:
        temporary = self._directory / f"{RECORD}.new"
        with open(temporary, "wb") as stream:
            stream.write(json.dumps(asdict(record)).encode())
            stream.flush()
            files.fsync(stream.fileno())
        temporary.replace(self.path)
        directory = files.open(self._directory, files.O_RDONLY | files.O_DIRECTORY | files.O_CLOEXEC)
        try:
            files.fsync(directory)
        finally:
            files.close(directory)
        self.last = record


def record_from(document: dict[str, Any]) -> VerifyRecord:
    """The inverse of `asdict`. Raises TypeError, KeyError, ValueError."""
    listed = tuple(Difference(**line) for line in document["listed"])
    return VerifyRecord(**{**document, "listed": listed})
