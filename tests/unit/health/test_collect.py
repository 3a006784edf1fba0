"""What an audit reads out of a heartbeat, also of an agent that does not send everything yet."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from mirror_agent.contract import ApplicationState, Heartbeat, MirrorReport, Phase, Role, VerifyReport

from shared.audit.collect import beat_fact
from shared.health.facts import Beat
from shared.model.node_state import NodeState

OLD = MirrorReport(mode="primary", link="live", acknowledging="paired")


@pytest.mark.parametrize(
    ("mirror", "differences"),
    [(None, 0), (OLD, 0), (OLD.model_copy(update={"verify": VerifyReport(outcome="different", differences=3)}), 3)],
)
def test_the_differences_of_the_last_verify(mirror: MirrorReport | None, differences: int) -> None:
    beat = Heartbeat(
        node="a", boot_id="boot", agent_start_id="start", sequence=1, sent_utc="", role=Role.PRIM, phase=Phase.READY,
        epoch=1, rule="serving", sentence="", application=ApplicationState.RUNNING, probe_ok=True, mirror=mirror,
    )  # fmt: skip
    now = datetime(2026, 11, 22, 15, 0, tzinfo=UTC)
    state = NodeState(
        cluster_id="c", node="a", heartbeat=beat, agent_version="1", configuration_version=1, received_at=now,
        agent_start_seen_at=now,
    )  # fmt: skip
    value = beat_fact(state).value
    assert isinstance(value, Beat)
    assert value.differences == differences
