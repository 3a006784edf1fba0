"""All cases of the matrix, in the order they run."""

from __future__ import annotations

from typing import Final

from lab.faults import application, arbiter, disk, double, link, pauses, plane, power, swap
from lab.faults.model import Case

CASES: Final[tuple[Case, ...]] = (
    *power.CASES,
    *pauses.CASES,
    *link.CASES,
    *arbiter.CASES,
    *plane.CASES,
    *application.CASES,
    *double.CASES,
    *swap.CASES,
    *disk.CASES,
)

assert len({case.name for case in CASES}) == len(CASES), "a case is known by its name"
