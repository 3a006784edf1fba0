"""The model of the storage emulator answers as the tables do, and the price of a cluster is what its parts are."""

from __future__ import annotations

import itertools

import pytest

from bench.control_plane.cost import Counts, cost
from bench.control_plane.rowscan import Prices, RowScan
from shared.store.memory_rows import MemoryRows
from shared.store.rows import Row

FREE = Prices(0.0, 0.0, 0.0, 0.0)


async def test_the_model_answers_as_the_tables_do() -> None:
    model, plain = RowScan(FREE), MemoryRows()
    rows = [Row(partition, f"{key:02d}", {"n": key}) for partition in "pqr" for key in range(30)]
    for _, batch in itertools.groupby(rows, key=lambda row: row.partition):
        made = list(batch)
        await model.upsert("t", made)
        await plain.upsert("t", made)
    for after, before, limit in itertools.product(("", "07", "29"), (None, "09", "20"), (0, 1, 7, 100)):
        found = [row.key for row in await model.scan("t", "q", limit, after=after, before=before)]
        assert found == [row.key for row in await plain.scan("t", "q", limit, after=after, before=before)]
    await model.insert("t", Row("q", "30"))
    assert [row.key for row in await model.scan("t", "q", 100, after="28")] == ["29", "30"]
    assert await model.scan("none", "q", 10) == []


@pytest.mark.parametrize(("rows", "requests"), [(0, 1), (999, 1), (1000, 1), (1001, 2)])
async def test_a_request_is_counted_for_each_page(rows: int, requests: int) -> None:
    model = RowScan(FREE)
    await model.upsert("t", [Row("p", f"{number:04d}") for number in range(rows)])
    asked = model.asked
    assert len(await model.scan("t", "p", 5000)) == rows
    assert model.asked - asked == requests


def test_the_price_of_a_cluster() -> None:
    counts = Counts(
        cpu_s_per_post=0.01, operations_per_post=6, audit_operations_per_cluster=0.1, audit_cpu_s_per_cluster=0.001
    )
    found = cost(counts, 10.0)
    assert found["posts"] == 2 * 30 * 8640
    assert found["table_operations"] == 6 * found["posts"] + round(0.1 * 86_400)
    assert found["usd"] == pytest.approx(sum(found["of_which"].values()), abs=0.001)
    assert cost(counts, 5.0)["usd"] > found["usd"]
