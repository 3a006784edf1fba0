"""Announced maintenance: situation in, named step out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from mirror_agent.core.model import Role
from mirror_agent.net.scheduled_event_rules import RULES, Announced, Conclusion, Situation, Step, conclude

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
REBOOT = Announced("e1", "Reboot", True, ("demo-a",), NOW + timedelta(minutes=15), -1.0, False)
FREEZE = replace(REBOOT, type="Freeze", duration_s=30.0)
PRIMARY = Situation("demo-a", Role.PRIM, peer_ready=True, peer_serves=False, bridged_s=1.5, now=NOW)
EXPOSED = replace(PRIMARY, role=Role.ALONE, peer_ready=False)
REPLICA = replace(PRIMARY, role=Role.SECOND, peer_ready=False, peer_serves=True)


def soon(event: Announced, left_s: float) -> Announced:
    return replace(event, not_before=NOW + timedelta(seconds=left_s))


@pytest.mark.parametrize(
    ("event", "here", "step", "rule"),
    [
        (REBOOT, PRIMARY, Step.HAND_OVER, "serves"),
        (replace(REBOOT, type="Redeploy"), PRIMARY, Step.HAND_OVER, "serves"),
        (soon(replace(REBOOT, type="Preempt"), 30), PRIMARY, Step.HAND_OVER, "serves"),
        (replace(REBOOT, type="Terminate"), PRIMARY, Step.HAND_OVER, "serves"),
        (replace(REBOOT, type="SomethingNew"), PRIMARY, Step.HAND_OVER, "serves"),
        (FREEZE, PRIMARY, Step.HAND_OVER, "serves"),
        (replace(FREEZE, duration_s=9.0), PRIMARY, Step.HAND_OVER, "serves"),
        (replace(FREEZE, duration_s=1.5), PRIMARY, Step.HAND_OVER, "serves"),
        (replace(FREEZE, duration_s=-1.0), PRIMARY, Step.HAND_OVER, "serves"),
        (replace(FREEZE, duration_s=1.4), PRIMARY, Step.APPROVE, "short-freeze"),
        (replace(FREEZE, duration_s=0.0), PRIMARY, Step.APPROVE, "short-freeze"),
        (replace(REBOOT, duration_s=0.0), PRIMARY, Step.HAND_OVER, "serves"),
        (REBOOT, REPLICA, Step.APPROVE, "does-not-serve"),
        (REBOOT, replace(REPLICA, role=Role.WAIT), Step.APPROVE, "does-not-serve"),
        (REBOOT, replace(REPLICA, role=Role.STOP, peer_serves=False), Step.APPROVE, "does-not-serve"),
        (REBOOT, replace(REPLICA, peer_serves=False), Step.WAIT, "nobody-serves-yet"),
        (REBOOT, replace(REPLICA, relaying=True), Step.WAIT, "connections-are-passed-on"),
        (soon(REBOOT, 2.0), replace(REPLICA, relaying=True), Step.APPROVE, "out-of-time"),
        (REBOOT, replace(REPLICA, role=Role.WAIT, peer_serves=False), Step.WAIT, "nobody-serves-yet"),
        (soon(REBOOT, 2.0), replace(REPLICA, peer_serves=False), Step.APPROVE, "out-of-time"),
        (FREEZE, REPLICA, Step.APPROVE, "does-not-serve"),
        (replace(REBOOT, by_user=True), PRIMARY, Step.HAND_OVER, "serves"),
        (replace(REBOOT, by_user=True), EXPOSED, Step.APPROVE, "asked-for-by-its-owner"),
        (REBOOT, EXPOSED, Step.WAIT, "nobody-to-hand-over-to"),
        (replace(REBOOT, not_before=None), EXPOSED, Step.WAIT, "nobody-to-hand-over-to"),
        (soon(REBOOT, 2.1), EXPOSED, Step.WAIT, "nobody-to-hand-over-to"),
        (soon(REBOOT, 2.0), EXPOSED, Step.APPROVE, "out-of-time"),
        (soon(REBOOT, -5.0), PRIMARY, Step.APPROVE, "out-of-time"),
        (REBOOT, replace(PRIMARY, handing_over=True), Step.WAIT, "handing-over"),
        (REBOOT, replace(REPLICA, handing_over=True), Step.WAIT, "handing-over"),
        (soon(REBOOT, 1.0), replace(PRIMARY, handing_over=True), Step.APPROVE, "out-of-time"),
        (REBOOT, replace(PRIMARY, failed_at=NOW), Step.WAIT, "hand-over-failed-lately"),
        (REBOOT, replace(PRIMARY, failed_at=NOW - timedelta(seconds=5)), Step.HAND_OVER, "serves"),
        (replace(REBOOT, machines=("demo-b",)), PRIMARY, Step.IGNORE, "another-machine"),
        (replace(REBOOT, machines=("demo-b", "demo-a")), PRIMARY, Step.HAND_OVER, "serves"),
        (replace(REBOOT, scheduled=False, not_before=None), PRIMARY, Step.IGNORE, "has-begun"),
    ],
)
def test_the_rule(event: Announced, here: Situation, step: Step, rule: str) -> None:
    assert conclude(event, here) == Conclusion(step, rule)


def test_every_rule_stands_in_the_document_with_its_sentence() -> None:
    text = (Path(__file__).parents[3] / "docs" / "maintenance.md").read_text(encoding="utf-8")
    rows = [f"| `{rule}` | {sentence} |" for rule, sentence in RULES.items()]
    assert [row for row in rows if row not in text] == []


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("peer_ready", [True, False])
@pytest.mark.parametrize("peer_serves", [True, False])
@pytest.mark.parametrize("handing_over", [True, False])
@pytest.mark.parametrize("failed_at", [None, NOW])
def test_nothing_waits_past_its_time(
    role: Role, peer_ready: bool, peer_serves: bool, handing_over: bool, failed_at: datetime | None
) -> None:
    here = Situation("demo-a", role, peer_ready, peer_serves, 1.5, NOW, True, handing_over, failed_at)
    for kind in ("Freeze", "Reboot", "Preempt"):
        assert conclude(soon(replace(REBOOT, type=kind), 0.0), here).step is Step.APPROVE
