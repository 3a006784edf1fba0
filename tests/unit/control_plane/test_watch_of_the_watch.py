"""The dead-man's switch, and the fleet's row under doubled, stolen and killed runs."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest
from mirror_agent.contract import MIRROR_NODES

from shared.api.probe import Probed
from shared.audit.pipeline import HOLD_S, audit_fleet, ranges
from shared.model.node_state import ProbeOutcome
from shared.store.ports import FLEET, Unavailable
from tests.control_plane_app import App
from tests.control_plane_samples import node_state


async def test_health_is_good_while_audits_end_and_503_after_three_periods(app: App) -> None:
    await audit_fleet(app.plane)
    reply = await app.send("GET", "health", token=None, version=None)
    assert (reply.status, reply.body) == (200, {"status": "ok"})
    app.clock.advance(90)
    assert (await app.send("GET", "health", token=None, version=None)).status == 200
    app.clock.advance(1)
    reply = await app.send("GET", "health", token=None, version=None)
    assert (reply.status, reply.body) == (503, {"status": "unavailable"})


async def test_health_is_503_without_storage(app: App) -> None:
    app.rows.fail("get", "audit", Unavailable("away"))
    reply = await app.send("GET", "health", token=None, version=None)
    assert (reply.status, reply.body) == (503, {"status": "unavailable"}), "and nothing of the reason"


async def test_a_run_that_lost_its_hold_tells_nobody_and_does_not_end(app: App) -> None:
    await app.provisioned()
    plane = app.plane

    class Slow:
        """While this run probes, its hold passes and another run comes and goes."""

        async def probe(self, address: str) -> Probed:
            if not stolen:
                stolen.append(address)
                app.clock.advance(HOLD_S + 1)
                assert await audit_fleet(plane) == 1
            return Probed(ProbeOutcome.REFUSED)

    stolen: list[str] = []
    assert await audit_fleet(replace(plane, prober=Slow())) == 0
    fleet = await plane.store.audits.fleet()
    assert fleet is not None
    assert fleet.value.ended_at == app.clock(), "the other run's end stands"


async def test_a_storm_of_silence_is_entered_and_left_once_and_nobody_is_sick(app: App) -> None:
    names = ["aa", "bb", "cc", "dd"]
    records = [await app.provisioned(name) for name in names]

    async def beat_all(sequence: int) -> None:
        for record in records:
            for node in MIRROR_NODES:
                found = await app.plane.store.node_states.get(record.id, node)
                state = node_state(record.id, node, at=app.clock(), sequence=sequence)
                await app.plane.store.node_states.put(state, None if found is None else found.etag)

    await beat_all(1)
    sick: set[str] = set()
    for number in range(60):
        app.clock.advance(30)
        if number < 6 or number > 20:
            await beat_all(number + 2)
        assert await audit_fleet(app.plane) == 4
        for record in records:
            audit = await app.plane.store.audits.get(record.id)
            assert audit is not None
            sick |= set(audit.value.sick)
    assert sick == set()
    day = app.clock().date()
    turns = (await app.plane.store.audits.turns(FLEET, day, None, 10)).items
    assert [turn.rule for turn in reversed(turns)] == ["storm-entered", "storm-left"]


@pytest.mark.parametrize("count", [0, 1, 450, 451, 10_000, 1_000_000])
def test_ranges_hold_every_id_once(count: int) -> None:
    bounds = ranges(count)
    for key in [str(uuid.uuid4()) for _ in range(50)] + ["00", "ff", "pay", "0"]:
        assert sum(first <= key < beyond for first, beyond in bounds) == 1
