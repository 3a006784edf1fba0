"""Waiting longer after each failure, with jitter, so that a fleet does not come back all at once."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

FIRST_DELAY_S: Final = 1.0
LONGEST_DELAY_S: Final = 30.0
LONGEST_RETRY_AFTER_S: Final = 120.0
assert FIRST_DELAY_S < LONGEST_DELAY_S <= LONGEST_RETRY_AFTER_S


class BackOff:
    def __init__(
        self,
        jitter: Callable[[], float] = random.random,
        *,
        first_s: float = FIRST_DELAY_S,
        longest_s: float = LONGEST_DELAY_S,
    ) -> None:
        """`jitter` answers a number in [0, 1)."""
        self._jitter = jitter
        self._first_s = first_s
        self._longest_s = longest_s
        self._next_s = first_s

    def reset(self) -> None:
        self._next_s = self._first_s

    def delay_s(self, retry_after: str | None = None) -> float:
        """Between half and all of the current step; at least what the other side asked for (Retry-After in seconds)."""
        step = self._next_s
        self._next_s = min(2 * step, self._longest_s)
        delay = step * (0.5 + self._jitter() / 2)
        asked = float(retry_after) if retry_after is not None and retry_after.isdigit() else 0.0
        return max(delay, min(asked, LONGEST_RETRY_AFTER_S))
