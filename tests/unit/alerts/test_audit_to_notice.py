"""From the audit's timer to a receiver: the whole fleet silent at once is one notice, and one all-clear."""

from __future__ import annotations

from dataclasses import replace

from mirror_agent.contract import MIRROR_NODES, ApplicationState, NodeName, Phase, Role

from shared.alerts.courier import Courier, Line
from shared.api.probe import Probed
from shared.composition import installed
from shared.model.alert import Notice, NoticeReason
from shared.model.node_state import ProbeOutcome
from tests.control_plane_app import App
from tests.control_plane_samples import node_state
from tests.golden.alerts.scenario import Ear

NAMES = ("aa", "bb", "cc", "dd", "ee")
ROLE: dict[NodeName, Role] = {"a": Role.PRIM, "b": Role.SECOND}


class Fleet:
    def __init__(self, app: App, ear: Ear) -> None:
        self.app, self.ear, self.sequence = app, ear, 0
        self.notices: list[Notice] = []

    async def passes(self, audits: int, *, alive: bool) -> None:
        """So many audits, each half a minute, with every node reporting or none."""
        answers = {"198.51.100.4": ProbeOutcome.SERVING, "198.51.100.5": ProbeOutcome.STANDBY}
        self.app.prober.answers = {address: Probed(word) for address, word in answers.items()} if alive else {}
        for _ in range(audits):
            self.app.clock.advance(30)
            if alive:
                await self._report()
            await self.app.fire("health_audit", None)
            await self.app.fire("alert_delivery", None)
        self.notices += [notice for notice in self.ear.heard if notice.group != "watchdog"]
        self.ear.heard = []

    async def _report(self) -> None:
        self.sequence += 1
        for name in NAMES:
            record = await self.app.record(name)
            for node in MIRROR_NODES:
                state = node_state(
                    record.id,
                    node,
                    at=self.app.clock(),
                    sequence=self.sequence,
                    role=ROLE[node],
                    phase=Phase.READY,
                    application=ApplicationState.RUNNING if node == "a" else ApplicationState.STOPPED,
                )
                found = await self.app.plane.store.node_states.get(record.id, node)
                await self.app.plane.store.node_states.put(state, None if found is None else found.etag)


async def test_a_fleet_that_falls_silent_at_once_is_one_notice_and_one_all_clear(app: App) -> None:
    ear = Ear()
    plane = replace(app.plane, courier=Courier({"ear": Line(ear)}))
    with installed(plane):
        app.plane = plane
        for name in NAMES:
            await app.provisioned(name)
        fleet = Fleet(app, ear)
        await fleet.passes(12, alive=True)
        assert fleet.notices == []
        await fleet.passes(20, alive=False)
        assert [(notice.group, notice.reason) for notice in fleet.notices] == [("fleet", NoticeReason.FIRED)]
        assert fleet.notices[0].alerts[0].rule == "storm"
        await fleet.passes(60, alive=True)
        assert [(notice.group, notice.reason) for notice in fleet.notices] == [
            ("fleet", NoticeReason.FIRED),
            ("fleet", NoticeReason.RESOLVED),
        ]
        timeline = [event["type"] for event in (await app.send("GET", "events?top=100")).body["value"]]
        assert "Mirrorplane.Alert.Fired" in timeline
        states = {alert["state"] for alert in (await app.send("GET", "alerts?top=100")).body["value"]}
        assert states <= {"resolved", "firing"}
