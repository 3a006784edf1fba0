"""The judge of the fault matrix: for each rule one history that keeps it and one that breaks it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lab.faults.judge import judge, longest_gap_s, overlaps, reigns, stretches
from lab.faults.model import Ack, Alive, Case, Observed, Primary, RecordSeen, Sample, Service

CLIENT = "virtual IP"


async def nothing(_scene: Any) -> None:
    return None


CASE = Case("a case", "kind", "Something happens.", nothing, service=Service.OPEN)


def ack(number: int, node: str, at: float, through: str = CLIENT) -> Ack:
    return Ack(number, node, at - 0.01, at, through)


def record(epoch: int, primary: str, at: float) -> RecordSeen:
    return RecordSeen(at - 0.01, at, epoch, primary, ("a", "b"), "rule")


def serving(node: str, epoch: int, at: float) -> Sample:
    return Sample(node, at - 0.01, at, True, True, "PRIM", "ready", epoch)


def failover() -> Observed:
    """a serves in epoch 4 until second 10, b in epoch 5 from second 16; ten writes on each."""
    numbers = range(1, 21)
    times = [float(n) if n <= 10 else 6.0 + n for n in numbers]
    acks = tuple(ack(n, "a" if n <= 10 else "b", at) for n, at in zip(numbers, times, strict=True))
    values = {n: f"{n}-x" for n in numbers}
    tree = {"ledger.db": "100644 0:0 abc"}
    return Observed(
        began_at=10.0,
        ended_at=26.0,
        values=values,
        acks=acks,
        rows=dict(values),
        earlier_rows_lost=0,
        samples=(serving("a", 4, 1.0), serving("a", 4, 9.9), serving("b", 5, 16.0), serving("b", 5, 26.0)),
        alive=(Alive("a", 0.9, 1.0, 4), Alive("a", 10.0, 10.1, 4), Alive("b", 15.9, 16.0, 5)),
        records=(record(4, "a", 0.5), record(4, "a", 14.9), record(5, "b", 15.0), record(5, "b", 27.0)),
        won=((5, "b", "takeover"),),
        trees=(tree, dict(tree)),
    )


def findings(seen: Observed, case: Case = CASE) -> str:
    return "; ".join(judge(case, seen).findings)


def test_a_clean_failover_has_no_finding() -> None:
    verdict = judge(CASE, failover())
    assert verdict.findings == ()
    assert verdict.lost_writes == 0
    assert verdict.outage_s == pytest.approx(7.0)
    assert verdict.changes == 1
    assert verdict.stale_s == 0.0


def test_a_missing_write() -> None:
    seen = failover()
    rows = {number: text for number, text in seen.rows.items() if number != 7}
    verdict = judge(CASE, replace(seen, rows=rows))
    assert verdict.lost_writes == 1
    assert verdict.findings == ("1 acknowledged writes are missing: 7 (acknowledged by a, virtual IP)",)


def test_a_write_without_acknowledgement_may_be_there_or_not() -> None:
    seen = failover()
    values = seen.values | {21: "21-x", 22: "22-x"}
    assert findings(replace(seen, values=values, rows=seen.rows | {21: "21-x"})) == ""


def test_a_value_nobody_sent() -> None:
    seen = failover()
    assert "values are not what the client sent" in findings(replace(seen, rows=seen.rows | {3: "3-y"}))
    assert "values are not what the client sent" in findings(replace(seen, rows=seen.rows | {99: "99-x"}))


def test_rows_of_earlier_cases() -> None:
    verdict = judge(CASE, replace(failover(), earlier_rows_lost=2))
    assert verdict.lost_writes == 2
    assert "2 rows of earlier cases are gone" in "; ".join(verdict.findings)


def test_two_nodes_answer_the_probe() -> None:
    seen = failover()
    late = serving("a", 4, 17.0)
    assert "two nodes answer the probe" in findings(replace(seen, samples=(*seen.samples, late)))


def test_an_answer_that_may_lie_before_the_takeover_is_no_finding() -> None:
    """Asked before, received after: the node may have served at any moment between."""
    seen = failover()
    long_under_way = Sample("a", 9.9, 17.0, True, True, "PRIM", "ready", 4)
    assert findings(replace(seen, samples=(*seen.samples, long_under_way))) == ""


def test_a_deposed_node_acknowledges() -> None:
    seen = failover()
    values = seen.values | {50: "50-x"}
    stale = replace(seen, acks=(*seen.acks, ack(50, "a", 18.0, "a")), values=values, rows=seen.rows | {50: "50-x"})
    assert "acknowledged by a node that is not primary" in findings(stale)


def test_a_change_seen_between_two_readings_allows_both() -> None:
    known = reigns(failover().records)
    assert [(reign.primary, reign.until) for reign in known] == [("a", 15.0), ("b", float("inf"))]
    assert known[1].since == pytest.approx(14.89)


def test_stale_reads_are_measured_not_judged() -> None:
    seen = failover()
    late = (Alive("a", 18.0, 18.1, 4), Alive("a", 20.0, 20.1, 4))
    assert judge(CASE, replace(seen, alive=(*seen.alive, *late[:1]))).stale_s == pytest.approx(0.05)
    verdict = judge(CASE, replace(seen, alive=(*seen.alive, *late)))
    assert verdict.findings == ()
    assert verdict.stale_s == pytest.approx(2.05)


def test_an_epoch_with_two_winners() -> None:
    seen = failover()
    assert "epoch 5 was won twice" in findings(replace(seen, won=(*seen.won, (5, "a", "resume-as-primary"))))


def test_the_record_goes_back() -> None:
    seen = failover()
    assert "went back from epoch 5 to 4" in findings(replace(seen, records=(*seen.records, record(4, "b", 28.0))))


def test_a_node_serves_in_an_epoch_of_the_other() -> None:
    seen = failover()
    assert "served in epoch 5" in findings(replace(seen, samples=(serving("a", 5, 20.0),)))


def test_copies_differ() -> None:
    seen = failover()
    assert "copies differ" in findings(replace(seen, trees=({"x": "1"}, {"x": "2"})))
    assert "copies differ" in findings(replace(seen, trees=({"x": "1"}, {})))
    assert "is empty" in findings(replace(seen, trees=({}, {})))


def test_service_and_primary_as_the_case_wants_them() -> None:
    seen = failover()
    assert "no write was acknowledged for 7.0 s" in findings(seen, replace(CASE, limit_s=5.0))
    assert "no write was acknowledged" in findings(seen, replace(CASE, service=Service.UNBROKEN))
    assert "it should have stayed" in findings(seen, replace(CASE, primary=Primary.STAYS))
    quiet = replace(seen, records=seen.records[:1])
    assert "did not change" in findings(quiet, replace(CASE, primary=Primary.CHANGES))


def test_the_client_that_waited_longest_counts() -> None:
    quick = [ack(n, "a", float(n)) for n in range(20)]
    slow = [ack(100, "a", 1.0, "other client"), ack(101, "a", 15.0, "other client")]
    direct = [ack(102, "a", 0.0, "a")]
    assert longest_gap_s([*quick, *slow, *direct], 0.0, 19.0) == pytest.approx(14.0)
    assert longest_gap_s([], 3.0, 19.0) == pytest.approx(16.0)


def test_stretches_of_one_node_never_overlap() -> None:
    found = stretches([("a", 4, 0.0, 1.0), ("a", 4, 8.0, 9.0), ("a", 5, 5.0, 6.0)])
    assert overlaps(found) == []
