"""Another agent and another configuration come to a farm of three under load, node by node: no request is lost; and a
release that does not come up costs nobody anything either.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.demo.api import DemoFailed
from lab.info import LabInfo
from lab.wheels import GIVEN
from tests.lab.farm.clients import Clients
from tests.lab.farm.farm import DEADLINE_S, Farm, all_answer, costs_nothing, everybody_serves, farm_of, record
from tests.lab.own_lab import own_lab
from tests.lab.rollout.releases import DIES, PRESENT, PREVIOUS, release

pytestmark = [pytest.mark.lab, pytest.mark.azurite, pytest.mark.farm]

COUNT = 3


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LabInfo]:
    """Its control plane boots nodes with the previous release and has the others beside it."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    previous, *_ = [release(wheels, tmp_path, version) for version in (PREVIOUS, PRESENT, DIES)]
    monkeypatch.setenv(GIVEN, str(previous))
    with own_lab(tmp_path / "lab") as info:
        yield info


async def test_a_farm_changes_node_by_node_under_load(lab: LabInfo, tmp_path: Path) -> None:
    async with farm_of(COUNT, lab, tmp_path / "lab", "rolled") as farm:
        address = await farm.provision()
        async with Clients(f"http://{address}/") as clients:
            await everybody_serves(farm, clients)
            assert await versions(farm) == dict.fromkeys(farm.names, PREVIOUS)
            await upgrade(farm, clients, PRESENT)
            assert await versions(farm) == dict.fromkeys(farm.names, PRESENT)
            await change_the_module(farm, clients)
            with pytest.raises(DemoFailed, match="NodeReturned"):
                await upgrade(farm, clients, DIES)
            await all_answer(farm, clients)
            assert await versions(farm) == dict.fromkeys(farm.names, PRESENT)
        await farm.delete()
    record(farm, "changes of 3")


async def upgrade(farm: Farm, clients: Clients, version: str) -> None:
    began = clients.now()
    try:
        body = {"version": version, "reason": "a test"}
        _, _, headers = await farm.api.call("POST", f"/clusters/{farm.name}:upgrade", body)
        await farm.api.wait_operation(headers, deadline_s=2 * DEADLINE_S, show=lambda _: None)
        await all_answer(farm, clients)
    finally:
        farm.figures[f"upgrade to {version} took_s"] = round(clients.now() - began, 1)
        costs_nothing(farm, f"upgrade to {version}", clients.loss(began))


async def change_the_module(farm: Farm, clients: Clients) -> None:
    """What a running agent cannot take: each node begins anew in its turn, while the others serve."""
    before = await in_use(farm)
    began = clients.now()
    farm.wanted["application"]["environment"] = {"COLOUR": "blue"}
    await farm.put()
    farm.figures["changed_s"] = round(clients.now() - began, 1)
    after = await in_use(farm)
    assert all(after[name] > before[name] for name in farm.names), (before, after)
    await all_answer(farm, clients)
    costs_nothing(farm, "module changed, node by node", clients.loss(began))


async def in_use(farm: Farm) -> dict[str, int]:
    return {name: status["agent"]["configurationInUse"] for name, status in (await statuses(farm)).items()}


async def versions(farm: Farm) -> dict[str, str]:
    return {name: str(status["agent"]["version"]) for name, status in (await statuses(farm)).items()}


async def statuses(farm: Farm) -> dict[str, dict[str, Any]]:
    """Asked of the nodes themselves."""
    names = sorted(farm.names)
    return dict(zip(names, await asyncio.gather(*(farm.nodes.ask(name, "status") for name in names)), strict=True))
