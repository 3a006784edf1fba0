"""What one resync is to do: its rule, what this node knows of its own changes since the base, its pace and progress.

Progress counts entries looked at and bytes compared against a survey made at the start; the remaining time is the time
so far, scaled by the work that is left (an entry counts as 16 KiB). It is an estimate: the application goes on.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from mirror_agent.mirror import limits
from mirror_agent.mirror.dirty_log import ZONE_BYTES
from mirror_agent.mirror.handshake import PlanMessage
from mirror_agent.mirror.machine import boottime_s
from mirror_agent.mirror.resync_choice import CTIME_MARGIN_NS, RULES, Kind
from mirror_agent.mirror.resync_report import Known
from mirror_agent.mirror.tracking import Tracker

# Where times of birth are kept they are exact but for the kernel's tick.
_BIRTH_AFTER_NS: Final = CTIME_MARGIN_NS - 50_000_000
_ENTRY_WORK_BYTES: Final = 16 * limits.KIB


class Pacing(Protocol):
    """Called after each piece of work; returns when the next one may begin."""

    def spent(self, size_bytes: int) -> None: ...


class Progress:
    """How far one resync is. Totals are those of the survey until more is found."""

    def __init__(self, rule: str, clock: Callable[[], float] = boottime_s) -> None:
        self.rule = rule
        self.done_files = 0
        self.total_files = 0
        self.done_bytes = 0
        self.total_bytes = 0
        self.filled_bytes = 0
        self.ended_s: float | None = None
        self._found_bytes = 0
        self._clock = clock
        self._began_s = clock()

    @property
    def kind(self) -> Kind:
        return RULES[self.rule].kind

    def expect(self, files: int, size_bytes: int) -> None:
        self.total_files += files
        self.total_bytes += size_bytes

    def looked_at(self, files: int) -> None:
        self.done_files += files
        self.total_files = max(self.total_files, self.done_files)

    def found(self, size_bytes: int) -> None:
        self._found_bytes += size_bytes
        self.total_bytes = max(self.total_bytes, self._found_bytes)

    def compared(self, size_bytes: int) -> None:
        self.done_bytes += size_bytes

    def end(self) -> None:
        self.ended_s = self._clock()

    @property
    def duration_s(self) -> float:
        return (self._clock() if self.ended_s is None else self.ended_s) - self._began_s

    @property
    def remaining_s(self) -> float | None:
        """None while nothing was done yet."""
        done = self.done_bytes + self.done_files * _ENTRY_WORK_BYTES
        total = self.total_bytes + self.total_files * _ENTRY_WORK_BYTES
        if self.ended_s is not None:
            return 0.0
        return None if done == 0 else round(self.duration_s * max(0, total - done) / done, 1)


@dataclass
class Plan:
    """`known` is None for a full comparison."""

    message: PlanMessage
    known: Known | None
    tracker: Tracker
    pace: Pacing
    progress: Progress

    def compare_everything(self) -> None:
        """What was to be left out cannot be told apart after all."""
        self.known = None

    def changed(self, root: int, st: os.stat_result) -> bool:
        return self.known is None or self.known.changed(root, st)

    def renamed(self, root: int, st: os.stat_result) -> bool:
        return self.known is None or self.known.renamed(root, st) or (root, st.st_ino) in self.tracker.moved

    def written(self, root: int, st: os.stat_result) -> list[tuple[int, int]] | None:
        """The spans of a file that were written since the base, whole zones within its size; None: compare it all."""
        if self.known is None or self.progress.kind is not Kind.RANGES or st.st_nlink != 1:
            return None
        noted = self.tracker.written((root, st.st_ino), self.known.content)
        return None if noted is None else spans(*noted, st.st_size)

    def made_since(self, born_ns: int | None) -> bool:
        """Whether a file may have been made since the base; None: its time of birth is not known. The log does not know
        the one that was being made when the engine was killed."""
        return self.known is None or born_ns is None or born_ns >= self.known.floor_ns + _BIRTH_AFTER_NS

    def extent_bytes(self, root: int, st: os.stat_result) -> int:
        """How much of a changed file will be compared."""
        if not stat.S_ISREG(st.st_mode):
            return 0
        written = self.written(root, st)
        return st.st_size if written is None else sum(length for _, length in written)


def spans(zones: set[int], tail: int | None, size: int) -> list[tuple[int, int]]:
    """Neighbouring zones as (offset, length), within a file of `size` bytes; everything from zone `tail` on."""
    end_zone = -(-size // ZONE_BYTES)
    tail = end_zone if tail is None else min(tail, end_zone)
    found: list[list[int]] = []
    for zone in sorted(zone for zone in zones if zone < tail):
        if found and found[-1][1] == zone:
            found[-1][1] = zone + 1
        else:
            found.append([zone, zone + 1])
    if tail < end_zone:
        if found and found[-1][1] == tail:
            found[-1][1] = end_zone
        else:
            found.append([tail, end_zone])
    return [(first * ZONE_BYTES, min(last * ZONE_BYTES, size) - first * ZONE_BYTES) for first, last in found]
