"""What the run without an accident concludes from the record as it was seen."""

from __future__ import annotations

from lab.faults.calm import protected_share, times_alone
from lab.faults.model import RecordSeen


def seen(at: float, *in_sync: str) -> RecordSeen:
    return RecordSeen(at - 0.01, at, 7, "a", in_sync, "publish-alone")


def test_the_share_of_time_in_which_the_other_node_could_have_taken_over() -> None:
    records = [seen(0.0, "a", "b"), seen(60.0, "a"), seen(80.0, "a", "b"), seen(100.0, "a", "b")]
    assert protected_share(records) == 0.8
    assert times_alone(records) == 1


def test_nothing_seen_proves_nothing() -> None:
    assert protected_share([]) == 0.0
    assert protected_share([seen(1.0, "a", "b")]) == 0.0
