"""All cases of the matrix, in the order they run."""

from __future__ import annotations

from typing import Final

from lab.faults import power
from lab.faults.model import Case

CASES: Final[tuple[Case, ...]] = (*power.CASES,)

assert len({case.name for case in CASES}) == len(CASES), "a case is known by its name"
