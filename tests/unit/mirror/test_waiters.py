"""Who is told what, and that it happens once."""

from __future__ import annotations

from mirror_agent.mirror.waiters import Waiters


class Told:
    """What each waiter was told, in order."""

    def __init__(self) -> None:
        self.answers: list[tuple[str, bool]] = []


def _wait(waiters: Waiters, told: Told, name: str, seq: int, *, flushed: bool) -> bool | None:
    return waiters.add(seq, flushed=flushed, then=lambda good: told.answers.append((name, good)))


def test_an_acknowledgement_counts_for_all_frames_before_it() -> None:
    waiters, told = Waiters(), Told()
    for seq in (7, 5, 6, 9):
        assert _wait(waiters, told, str(seq), seq, flushed=False) is None
    for then in waiters.answered(7, ()):
        then(True)
    assert told.answers == [("5", True), ("6", True), ("7", True)]
    assert len(waiters) == 1
    assert len(waiters.latencies_ms) == 3


def test_a_frame_acknowledged_before_somebody_waits_is_known_at_once() -> None:
    waiters, told = Waiters(), Told()
    assert waiters.answered(4, (6,)) == []
    assert _wait(waiters, told, "applied", 4, flushed=False) is True
    assert _wait(waiters, told, "flushed", 6, flushed=True) is True
    assert told.answers == []
    # Each DONE answers one waiter.
    assert _wait(waiters, told, "again", 6, flushed=True) is None


def test_an_acknowledgement_flushes_nothing() -> None:
    waiters, told = Waiters(), Told()
    assert _wait(waiters, told, "flushed", 3, flushed=True) is None
    assert waiters.answered(10, (4,)) == []
    for then in waiters.answered(10, (3,)):
        then(True)
    assert told.answers == [("flushed", True)]


def test_the_end_tells_everybody_once_and_later_comers_at_once() -> None:
    waiters, told = Waiters(), Told()
    _wait(waiters, told, "applied", 1, flushed=False)
    _wait(waiters, told, "flushed", 2, flushed=True)
    for then in waiters.end():
        then(False)
    assert sorted(told.answers) == [("applied", False), ("flushed", False)]
    assert waiters.end() == []
    assert waiters.answered(2, (2,)) == []
    assert _wait(waiters, told, "late", 1, flushed=False) is False


def test_only_calls_count_as_waiting() -> None:
    waiters, told = Waiters(), Told()
    assert waiters.longest_s() == 0.0
    assert waiters.add(1, flushed=True, then=lambda _good: None, call=False) is None
    assert waiters.add(2, flushed=False, then=lambda _good: None, call=False) is None
    assert waiters.longest_s() == 0.0
    _wait(waiters, told, "call", 3, flushed=True)
    assert waiters.longest_s() > 0.0
    assert len(waiters.answered(3, (1, 3))) == 3
    assert (waiters.calls, waiters.slow_calls, len(waiters.latencies_ms)) == (1, 0, 1)
    assert waiters.longest_s() == 0.0
