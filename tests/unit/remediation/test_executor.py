"""The executor acts once, only after a last look, and says what it did; whatever is killed, raced or refused."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from mirror_agent.contract import CommandAction, Role

from shared.api.commands import time_limit
from shared.azure.faults import Fault, FaultKind
from shared.azure.ports import InstanceView
from shared.health.verdict import Fleet
from shared.model.cluster import ProvisioningState
from shared.model.node_state import CommandStatus
from shared.model.operation import OperationKind
from shared.model.remediation import ActionStatus, Step, ZoneLease
from shared.model.remediation_policy import RemediationMode, RemediationPolicy
from shared.remediation import execute
from shared.remediation.commands import withheld
from shared.remediation.execute import carry_out_all
from shared.remediation.tick import remediate
from shared.store.ports import Changed
from tests.control_plane_samples import heartbeat
from tests.remediation_samples import CLUSTER_ID, SICK_B, Scene, changed, verdict
from tests.unit.remediation.bench import Bench, Killed

AGENT = "run pay-b: systemctl restart mirrorplane-agent"


async def statuses(bench: Bench) -> list[tuple[str, str]]:
    return [(action.step.value, action.status.value) for action in (await bench.row()).actions]


async def test_a_planned_step_is_carried_out_once_and_its_cure_is_recorded() -> None:
    bench = await Bench().prepare()
    await bench.planned()
    for _ in range(3):
        await bench.run()
    assert bench.machines.done == [AGENT]
    await bench.audit()
    await bench.audit(Scene())
    assert await statuses(bench) == [("agent-restart", "cured")]
    told = [event.type for event in (await bench.store.events.page(bench.clock().date(), None, 50)).items]
    assert told.count("Mirrorplane.Remediation.IncidentOpened") == 1
    assert told.count("Mirrorplane.Remediation.Action") == 4  # planned, started, sent, cured


async def test_killed_between_the_call_and_its_record_it_does_not_act_twice() -> None:
    bench = await Bench().prepare()
    await bench.planned()
    bench.machines.killed = True
    with pytest.raises(Killed):
        await bench.run()
    for _ in range(6):
        await bench.run()
        await bench.audit()
    assert bench.machines.done == [AGENT]
    assert await statuses(bench) == [("agent-restart", "sent")]


async def test_killed_between_claim_and_call_the_step_is_lost_and_the_next_one_follows() -> None:
    bench = await Bench().prepare()
    action = await bench.planned()
    found = await bench.store.remediations.get(CLUSTER_ID)
    assert found is not None
    claimed = action.model_copy(update={"status": ActionStatus.STARTED, "started_at": bench.clock()})
    await bench.store.remediations.put(found.value.model_copy(update={"actions": (claimed,)}), found.etag)
    for _ in range(16):
        await bench.run()
        await bench.audit()
    assert bench.machines.done == ["restart pay-b"]
    assert await statuses(bench) == [("agent-restart", "no-cure"), ("machine-restart", "sent")]


async def test_of_two_executors_at_once_one_acts() -> None:
    bench = await Bench().prepare()
    await bench.planned()
    one, other = bench.executor(), bench.executor()
    # The second reads the row before the first has written its claim: its own claim is refused.
    tracked = (await bench.store.remediations.tracked())[0]
    found = await bench.store.remediations.get(CLUSTER_ID)
    assert found is not None
    action = found.value.open_action
    assert action is not None
    await carry_out_all(one)
    with pytest.raises(Changed):
        await execute._begin(other, await bench.cluster(), found, action)
    assert tracked.cluster == "pay"
    assert bench.machines.done == [AGENT]


async def test_two_auditors_racing_plan_one_action() -> None:
    bench = await Bench().prepare()
    await bench.audit(times=4)
    now = bench.clock()
    seen = verdict(SICK_B, now)
    await asyncio.gather(*(remediate(bench.plane, [seen], Fleet(), now) for _ in range(5)))
    await bench.run()
    await bench.run()
    assert len((await bench.row()).actions) == 1
    assert bench.machines.done == [AGENT]


@pytest.mark.parametrize(
    ("primary", "in_sync", "why"),
    [("b", "b", "names b the primary"), ("a", "a,b", "in-sync set"), ("", "a", "names nobody")],
)
async def test_the_record_read_right_before_acting_forbids_it(primary: str, in_sync: str, why: str) -> None:
    bench = await Bench().prepare()
    await bench.planned()
    await bench.arbiter(primary, in_sync, epoch=6)
    await bench.run()
    assert bench.machines.done == []
    (action,) = (await bench.row()).actions
    assert action.status is ActionStatus.REFUSED
    assert why in action.result


@pytest.mark.parametrize("role", [Role.PRIM, Role.ALONE, Role.STOP, Role.SECOND])
async def test_what_the_node_says_right_before_acting_forbids_it(role: Role) -> None:
    bench = await Bench().prepare()
    await bench.planned()
    # Its clock is ten minutes ahead, which changes nothing: freshness is our time of arrival.
    await bench.heard("b", role, sent_utc="2026-11-22T12:20:00Z")
    await bench.run()
    assert bench.machines.done == []
    assert await statuses(bench) == [("agent-restart", "refused")]


async def test_a_silent_peer_forbids_it() -> None:
    bench = await Bench().prepare()
    await bench.planned()
    bench.clock.advance(60)
    await bench.run()
    assert bench.machines.done == []
    assert "does not report that it serves" in (await bench.row()).actions[0].result


async def test_a_pause_between_plan_and_act_counts() -> None:
    bench = await Bench().prepare()
    await bench.planned()
    await bench.respec(remediation=RemediationPolicy(pause_reasons=("audit week",)))
    await bench.run()
    assert bench.machines.done == []
    assert await statuses(bench) == [("agent-restart", "refused")]


async def test_an_old_plan_is_not_carried_out() -> None:
    bench = await Bench().prepare()
    await bench.planned()
    bench.clock.advance(600)
    await bench.heard("a", Role.ALONE)
    await bench.run()
    assert bench.machines.done == []
    assert await statuses(bench) == [("agent-restart", "refused")]


async def test_a_dry_run_does_nothing_and_says_what_it_would_do() -> None:
    bench = await Bench().prepare()
    limits = RemediationPolicy.model_validate({"mode": "dry-run", "limits": {"graceS": 0}})
    await bench.respec(remediation=limits)
    await bench.audit(times=8)
    await bench.run()
    assert limits.mode is RemediationMode.DRY_RUN
    assert bench.machines.done == []
    assert (await statuses(bench))[0] == ("agent-restart", "dry-run")


async def test_the_zone_of_another_repair_is_waited_for() -> None:
    bench = await Bench().prepare()
    await bench.planned()
    lease = ZoneLease(zone="westeurope-2", holder="of-another", expires_at=bench.clock() + timedelta(hours=1))
    assert await bench.store.remediations.take_zone(lease, bench.clock())
    await bench.run()
    assert bench.machines.done == []
    assert await statuses(bench) == [("agent-restart", "refused")]
    await bench.store.remediations.leave_zone("westeurope-2", "of-another")
    await bench.audit(times=4)
    await bench.run()
    assert bench.machines.done == [AGENT]


async def test_a_clear_no_of_azure_is_no_action_and_no_answer_is_one() -> None:
    bench = await Bench().prepare()
    await bench.planned()
    bench.machines.faults = [Fault(FaultKind.TRANSIENT, "TooManyRequests", "slow down", 429)]
    await bench.run()
    assert await statuses(bench) == [("agent-restart", "refused")]
    await bench.planned()
    bench.machines.faults = [Fault(FaultKind.TRANSIENT, "ServiceResponseError", "no answer")]
    await bench.run()
    await bench.run()
    assert await statuses(bench) == [("agent-restart", "sent")]
    assert bench.machines.done == []


async def test_a_run_command_that_never_ends_does_not_keep_the_next_steps_for_ever() -> None:
    bench = await Bench().prepare()
    await bench.planned()
    await bench.run()
    conflict = Fault(FaultKind.CONFLICT, "Conflict", "Run command extension execution is in progress.", 409)
    bench.machines.faults = [conflict] * 5
    for _ in range(50):
        await bench.audit()
        await bench.run()
    assert bench.machines.faults == [], "asked again until the patience for a restart was spent"
    assert bench.machines.done == [AGENT, "redeploy pay-b"]
    assert await statuses(bench) == [("agent-restart", "no-cure"), ("machine-restart", "failed"), ("redeploy", "sent")]


async def test_a_step_that_cannot_be_taken_is_followed_by_the_next() -> None:
    bench = await Bench().prepare()
    bench.machines.view = InstanceView("stopped", "succeeded", False)
    await bench.planned()
    await bench.run()
    assert await statuses(bench) == [("agent-restart", "failed")]
    await bench.planned()
    await bench.run()
    assert bench.machines.done == ["start pay-b"], await bench.row()


async def test_the_module_is_stopped_and_started_and_a_stop_never_reaches_a_serving_node() -> None:
    bench = await Bench().prepare()
    reporting = changed(SICK_B, b={"age_s": 2.0})
    for _ in range(6):
        await bench.audit(reporting)
    await bench.run()
    commands = {entry.value.action: entry.value for entry in await bench.store.commands.of_cluster(CLUSTER_ID)}
    stop, start = commands[CommandAction.STOP], commands[CommandAction.START]
    assert start.after == stop.id
    assert {stop.node, start.node} == {"b"}
    for role in (Role.PRIM, Role.ALONE, Role.SECOND):
        assert withheld(stop, heartbeat("b", role=role, in_sync=("a",)))
    assert withheld(stop, heartbeat("b", role=Role.WAIT, in_sync=("a", "b")))
    assert not withheld(stop, heartbeat("b", role=Role.WAIT, in_sync=("a",)))
    assert not withheld(start, heartbeat("b", role=Role.PRIM))


async def test_a_start_outlives_its_action_until_the_node_has_it() -> None:
    bench = await Bench().prepare()
    reporting = changed(SICK_B, b={"age_s": 2.0})
    await bench.audit(reporting, times=6)
    await bench.run()
    entries = {e.value.action: e for e in await bench.store.commands.of_cluster(CLUSTER_ID)}
    stop = entries[CommandAction.STOP]
    done = stop.value.model_copy(update={"status": CommandStatus.SUCCEEDED})
    await bench.store.commands.replace(done, stop.etag)
    await bench.audit(Scene())
    await bench.run()
    left = [entry.value.action for entry in await bench.store.commands.of_cluster(CLUSTER_ID)]
    assert CommandAction.START in left


async def test_a_lost_machine_is_made_anew_by_the_reconciler_once() -> None:
    bench = await Bench().prepare()
    gone = changed(SICK_B, b={"power": "absent"})
    await bench.audit(gone, times=6)
    for _ in range(3):
        await bench.run()
    assert await statuses(bench) == [("replace", "sent")]
    cluster = await bench.cluster()
    assert cluster.state is ProvisioningState.UPDATING
    assert cluster.operation.requested_by == "mirrorplane-remediation"
    assert len(bench.queue.take()) == 1
    assert (await bench.row()).actions[0].step is Step.REPLACE


async def test_nothing_is_left_in_the_index_when_all_is_well_again() -> None:
    bench = await Bench().prepare()
    await bench.planned()
    await bench.run()
    for _ in range(130):
        await bench.audit(Scene())
    await bench.run()
    assert await bench.store.remediations.tracked() == []


async def test_a_storm_stops_everything() -> None:
    bench = await Bench().prepare()
    await bench.audit(times=10, storm=True)
    await bench.run()
    assert (await bench.row()).actions == ()
    assert bench.machines.done == []


async def test_an_operators_action_pauses_while_it_may_be_under_way_and_no_longer() -> None:
    bench = await Bench().prepare()
    found = await bench.store.clusters.get("pay")
    assert found is not None
    swap = found.value.operation.model_copy(
        update={"kind": OperationKind.ACTION, "action": CommandAction.SWAP, "requested_at": bench.clock()}
    )
    await bench.store.clusters.replace(found.value.model_copy(update={"action": swap}), found.etag)
    told = changed(SICK_B, paused_by=("operation-action",))
    await bench.audit(told, times=4)
    assert (await bench.row()).rule == "platform-knows"
    bench.clock.advance(time_limit(found.value).total_seconds())
    await bench.audit(told, times=6)
    assert [action.step for action in (await bench.row()).actions] == [Step.AGENT_RESTART]
