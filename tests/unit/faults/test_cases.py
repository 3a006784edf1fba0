"""The list of cases is data: the documentation shows it as it is, and the promised accidents are in it."""

from __future__ import annotations

from collections import Counter

from lab.faults.cases import CASES
from lab.faults.model import Result, Service
from lab.faults.report import Book, complaints, markdown, percentile, summary
from lab.paths import REPOSITORY


def test_the_documentation_lists_the_cases() -> None:
    page = (REPOSITORY / "docs" / "faults.md").read_text(encoding="utf-8")
    assert markdown(CASES) in page, "write the table anew: python -m lab.faults --list --markdown"


def test_the_matrix_is_broad() -> None:
    kinds = Counter(case.kind for case in CASES)
    assert sum(kinds.values()) >= 40
    assert set(kinds) >= {"kill", "freeze", "link", "witness", "control plane", "disk", "application", "double", "swap"}
    assert all(case.must.endswith(".") for case in CASES)


def result(
    outage_s: float, *, kind: str = "kill", service: Service = Service.UNPLANNED, findings: tuple[str, ...] = ()
) -> Result:
    name = f"case {outage_s}"
    return Result(name, kind, service.value, 1, not findings, findings, 0, 10, outage_s, 0.0, 1, 0.1, 20.0)


def test_percentiles_are_values_that_were_measured() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([float(n) for n in range(1, 101)], 0.99) == 99.0
    assert percentile([], 0.5) == 0.0


def test_an_outage_over_the_promise_is_a_complaint() -> None:
    good = Book([result(7.0), result(11.0), result(30.0, service=Service.OPEN)])
    assert complaints(good) == []
    assert complaints(Book([*good.results, result(13.0)])) == [
        "unplanned outage p50 is 11.0 s, promised are 8 s",
        "unplanned outage p99 is 13.0 s, promised are 12 s",
    ]
    assert complaints(Book([*good.results, result(13.0, kind="witness")])) == []
    assert summary(Book([result(13.0, kind="witness")]))["other"]["outage_s_max"] == 13.0
    assert summary(good)["takeover"]["count"] == 2
    assert summary(good)["unplanned"] == {"count": 2, "outage_s_p50": 7.0, "outage_s_p99": 11.0, "outage_s_max": 11.0}


def test_a_finding_is_a_complaint() -> None:
    assert complaints(Book([result(1.0, findings=("2 writes are missing",))])) == ["case 1.0: 2 writes are missing"]


def test_a_case_that_ran_again_counts_once() -> None:
    book = Book()
    book.add(result(1.0, findings=("2 writes are missing",)), {"a": "evidence"})
    book.add(result(1.0), {})
    assert complaints(book) == []
    assert (len(book.results), book.proofs) == (1, {})
