"""An announced maintenance of a farm node's machine: when it leaves, when it waits, when it lets the platform begin."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from mirror_agent.farm.maintenance import RULES, conclude, facts
from mirror_agent.net.scheduled_event_rules import Announced, Situation, Step

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def announced(**more: object) -> Announced:
    body: dict[str, object] = {
        "id": "E-1",
        "type": "Reboot",
        "scheduled": True,
        "machines": ("web-a",),
        "not_before": NOW + timedelta(minutes=10),
        "duration_s": 60.0,
        "by_user": False,
    }
    return Announced(**{**body, **more})  # type: ignore[arg-type]


def situation(*, serves: bool = True, others_serving: int = 2, minimum_healthy: int = 1, **more: object) -> Situation:
    known = facts(serves=serves, others_serving=others_serving, minimum_healthy=minimum_healthy, bridged_s=1.5)
    body: dict[str, object] = {
        "machine": "web-a",
        "role": known.role,
        "peer_ready": known.peer_ready,
        "peer_serves": known.peer_serves,
        "bridged_s": known.bridged_s,
        "now": NOW,
    }
    return Situation(**{**body, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("event", "here", "step", "rule"),
    [
        (announced(), situation(), Step.HAND_OVER, "serves"),
        (announced(machines=("web-b",)), situation(), Step.IGNORE, "another-machine"),
        (announced(scheduled=False), situation(), Step.IGNORE, "has-begun"),
        (announced(not_before=NOW + timedelta(seconds=1)), situation(), Step.APPROVE, "out-of-time"),
        (announced(), situation(handing_over=True), Step.WAIT, "leaving"),
        (announced(), situation(serves=False), Step.APPROVE, "takes-no-clients"),
        (announced(type="Freeze", duration_s=1.0), situation(), Step.APPROVE, "short-freeze"),
        (announced(), situation(others_serving=0), Step.WAIT, "too-few-others"),
        (announced(), situation(others_serving=1, minimum_healthy=2), Step.WAIT, "too-few-others"),
        (announced(by_user=True), situation(others_serving=0), Step.APPROVE, "asked-for-by-its-owner"),
        (announced(), situation(failed_at=NOW), Step.WAIT, "leaving-failed-lately"),
    ],
)
def test_the_first_rule_that_applies(event: Announced, here: Situation, step: Step, rule: str) -> None:
    concluded = conclude(event, here)
    assert (concluded.step, concluded.rule) == (step, rule)
    assert concluded.sentence == RULES[rule]


def test_every_rule_stands_in_the_document_with_its_sentence() -> None:
    text = (Path(__file__).parents[3] / "docs/farm.md").read_text(encoding="utf-8")
    rows = [f"| `{rule}` | {sentence} |" for rule, sentence in RULES.items()]
    assert [row for row in rows if row not in text] == []
