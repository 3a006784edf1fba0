"""What a node's configuration comes to in the mirror's limits."""

from __future__ import annotations

from pathlib import Path

from mirror_agent.contract import MirrorPolicy, NodeConfiguration, ResyncScope, SlowReplica, Timing
from mirror_agent.mirror.config import MirrorLimits
from mirror_agent.node.build import mirror_config
from mirror_agent.paths import Paths

from tests.agent_samples import configuration


def limits_of(settings: NodeConfiguration) -> MirrorLimits:
    return mirror_config(settings, Paths(Path("/nowhere"))).limits


def test_a_stall_of_the_replica_costs_no_more_than_its_loss() -> None:
    settings = configuration()
    slower = settings.model_copy(update={"timing": Timing(promise_s=10.0, witness_deadline_s=3.0)})
    assert limits_of(slower).stall_s == 13.0
    assert limits_of(settings.model_copy(update={"timing": Timing()})) == MirrorLimits()


def test_the_policy_of_the_application() -> None:
    settings = configuration()
    policy = MirrorPolicy(slow_replica=SlowReplica.LEAVE_OUT, resync=ResyncScope.EVERYTHING)
    chosen = settings.model_copy(update={"application": settings.application.model_copy(update={"mirror": policy})})
    assert limits_of(chosen).leave_out_slow
    assert limits_of(chosen).resync_everything
    assert not limits_of(settings).leave_out_slow
    assert not limits_of(settings).resync_everything
