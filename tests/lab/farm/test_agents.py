"""Three real agents without a control plane: they serve, know one another, leave in order and come back."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.lab.farm.cells import Cell, Cells, until

pytestmark = [pytest.mark.lab, pytest.mark.farm]


@pytest_asyncio.fixture
async def cells(tmp_path: Path) -> AsyncIterator[Cells]:
    async with Cells(tmp_path).running() as made:
        for cell in made.by_name.values():
            await until(cell.is_up, f"{cell.node} is up")
        yield made


async def others_serving(cell: Cell) -> set[str]:
    status = await cell.ctl("status")
    return {other["node"] for other in status["others"] if other["serves"]}


async def leaves_in_order(cell: Cell) -> None:
    """The probe says no while the application goes on; it ends only after the load balancer has heard that."""

    async def refused() -> bool:
        return await cell.probe() == 503

    await until(refused, "the probe says no")
    assert await cell.answers() == cell.node, "the application was stopped before the load balancer knew"

    async def silent() -> bool:
        return not await cell.answers()

    await until(silent, "the application has ended")


async def test_a_farm_of_three(cells: Cells) -> None:
    a, b, c = (cells.by_name[name] for name in "abc")

    async def all_known() -> bool:
        return await others_serving(a) == {"b", "c"}

    await until(all_known, "a knows that b and c serve")
    for cell in (a, b, c):
        assert (await cell.probe(), await cell.answers()) == (200, cell.node)
    # What only a pair can do.
    swapped = await a.ctl("swap")
    assert (swapped["status"], "a farm has no roles" in swapped["message"]) == ("refused", True)
    assert await a.ctl("mirror", "status") == 1
    # An operator's stop: in order, kept, and taken back.
    stopping = asyncio.create_task(a.ctl("stop", "--reason", "maintenance"))
    await leaves_in_order(a)
    assert (await stopping)["status"] == "succeeded"
    assert (await b.probe(), await c.probe()) == (200, 200)

    async def missed() -> bool:
        return await others_serving(b) == {"c"}

    await until(missed, "b knows that a serves no more")
    await a.signal(signal.SIGTERM)
    await a.start()

    async def still_stopped() -> bool:
        return await a.rule() == "stopped"

    await until(still_stopped, "what an operator stopped stays stopped")
    assert (await a.ctl("start"))["status"] == "succeeded"
    # The service ends: in order as well, and the next life serves without an order. The service manager is asked for
    # the time that draining (6 s), the application's stop (20 s) and the rest may take.
    assert not any(word.startswith("EXTEND") for word in b.told)
    ending = asyncio.create_task(b.signal(signal.SIGTERM))
    await leaves_in_order(b)
    assert await ending == 0
    assert "EXTEND_TIMEOUT_USEC=106000000" in b.told
    await b.start()
    await until(b.is_up, "b is up again")
    # The agent is killed: its application dies with it, and the next life starts it anew.
    await c.signal(signal.SIGKILL)
    assert await c.probe() == 0
    await c.start()
    await until(c.is_up, "c is up again")
    assert await c.answers() == "c"


async def test_an_application_that_turns_sick_and_well(cells: Cells) -> None:
    a = cells.by_name["a"]
    sick = a.paths.module_dir / "sick"
    sick.touch()

    async def refused() -> bool:
        return await a.probe() == 503

    await until(refused, "a sick application gets no clients")
    sick.unlink()
    await until(a.is_up, "restarted, found healthy, back")
    assert "checker.tripped" in a.kinds()
    # Sick for good: the restarts are used up, and the node leaves.
    sick.touch()

    async def gave_up() -> bool:
        return await a.rule() == "stopped"

    await until(gave_up, "the restart budget is used up")
    status = await a.ctl("status")
    assert "failures in 86400 s" in status["sentence"]
    sick.unlink()
    assert (await a.ctl("start"))["status"] == "succeeded"
