"""A seeded sample of what `make fuzz` does for as long as one likes."""

from __future__ import annotations

import logging
import random
from pathlib import Path

import pytest
from mirror_agent.mirror.handshake import HandshakeError
from mirror_agent.mirror.wire import WireError

from tests.fuzz.parsers import PARSERS
from tests.fuzz.replica import Composer, Replica


class Seeded:
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def pick(self, count: int) -> int:
        return self._random.randrange(count)

    def some_bytes(self, most: int) -> bytes:
        return self._random.randbytes(self._random.randrange(most + 1))


@pytest.mark.parametrize("number", range(len(PARSERS)))
def test_any_bytes_are_a_value_or_a_wire_error(number: int) -> None:
    dice = Seeded(number)
    for _ in range(100):
        try:
            PARSERS[number](memoryview(dice.some_bytes(200)))
        except (WireError, HandshakeError):
            continue


@pytest.mark.lab  # a replica sets owners, which only root may
def test_no_frame_reaches_anything_outside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    applied = 0
    for seed in range(20):
        here = Replica(tmp_path)
        try:
            composer = Composer(Seeded(seed))
            for _ in range(60):
                applied += here.apply(composer.frame())
        finally:
            here.close()
        assert list(tmp_path.iterdir()) == []
    assert applied > 100, "the frames hardly ever fit together"
