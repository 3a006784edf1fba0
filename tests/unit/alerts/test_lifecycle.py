"""The life of an alert under every schedule: properties, and the steps the scenarios do not show."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.alerts.conditions import Condition, condition
from shared.alerts.lifecycle import Absence, acknowledged, advanced, opened
from shared.alerts.mutes import NEVER_MUTED, mutes
from shared.alerts.notices import group_of, planned
from shared.alerts.rules import ALERTS
from shared.model.alert import ACTIVE, Alert, AlertState, Group, NoticeReason, Severity, Silence, alert_key
from tests.control_plane_samples import NOW

LEGAL = {
    (AlertState.PENDING, AlertState.FIRING),
    (AlertState.FIRING, AlertState.ACKNOWLEDGED),
    (AlertState.ACKNOWLEDGED, AlertState.FIRING),
    (AlertState.FIRING, AlertState.RESOLVED),
    (AlertState.ACKNOWLEDGED, AlertState.RESOLVED),
    (AlertState.RESOLVED, AlertState.PENDING),
    (AlertState.RESOLVED, AlertState.FIRING),
}
LOOK = st.sampled_from(["holds", "worse", "away", "unseen", "gone", "take"])
SCHEDULE = st.lists(st.tuples(LOOK, st.integers(0, 4000)), max_size=40)


def _found(rule: str, severity: str = "") -> Condition:
    return condition("pay", rule, "cluster", severity=severity)


@given(st.sampled_from(sorted(ALERTS)), SCHEDULE)
def test_no_schedule_makes_an_illegal_step_and_nobody_is_told_twice(rule: str, schedule: list[tuple[str, int]]) -> None:
    now = NOW
    alert: Alert | None = opened(_found(rule), now)
    group = Group(key="g")
    told: list[tuple[str, NoticeReason, AlertState]] = []
    for look, pause_s in schedule:
        now += timedelta(seconds=pause_s)
        before = alert
        match look:
            case "holds" | "worse":
                found = _found(rule, "critical" if look == "worse" else "")
                alert = opened(found, now) if alert is None else advanced(alert, found, now).alert
            case "take":
                alert = acknowledged(alert, "me", "", now) if alert and alert.state in ACTIVE else alert
            case "away" | "unseen" | "gone":
                absence = Absence(look)
                alert = None if alert is None else advanced(alert, absence, now).alert
        if before is not None and alert is not None and before.state is not alert.state:
            assert (before.state, alert.state) in LEGAL
        if before is not None and look == "unseen":
            assert alert is before
        if alert is not None:
            assert (alert.state is AlertState.RESOLVED) == (alert.resolved_at is not None)
            plan = planned(group, [alert], {}, now)
            if plan.notice is not None:
                told += [(entry.incident, plan.notice.reason, entry.state) for entry in plan.notice.alerts]
            group = plan.group.model_copy(update={"outbox": None})
            assert planned(group, [alert], {}, now).notice is None, "a doubled tick tells nothing"
    ends = [entry for entry in told if entry[2] is AlertState.RESOLVED]
    assert len(ends) == len(set(ends)), "an end is told once"
    known_as_active = False
    for _, _, state in told:
        # By the alert, not by the incident: one that returns before its end was told is still the one they know.
        assert known_as_active or state is not AlertState.RESOLVED, "nobody hears of an end without a beginning"
        known_as_active = state in ACTIVE


def test_an_alert_holds_its_rules_time_and_no_less() -> None:
    rule = ALERTS["cluster-exposed"]
    alert = opened(_found("cluster-exposed"), NOW)
    early = advanced(alert, _found("cluster-exposed"), NOW + rule.wait - timedelta(seconds=1))
    assert (early.rule, early.alert) == ("unchanged", alert)
    late = advanced(alert, _found("cluster-exposed"), NOW + rule.wait)
    assert late.rule == "held-long-enough"


def test_worse_takes_an_acknowledged_alert_back_to_firing() -> None:
    taken = acknowledged(opened(_found("azure-alert"), NOW), "me", "on it", NOW)
    step = advanced(taken, _found("azure-alert", "critical"), NOW)
    assert step.rule == "worsened"
    assert step.alert is not None
    assert (step.alert.state, step.alert.severity) == (AlertState.FIRING, Severity.CRITICAL)


def test_a_return_after_the_end_is_a_new_incident_of_the_same_key() -> None:
    first = opened(_found("cluster-down"), NOW)
    away = advanced(first, Absence.AWAY, NOW + timedelta(seconds=30)).alert
    assert away is not None
    ended = advanced(away, Absence.AWAY, NOW + timedelta(seconds=90))
    assert ended.rule == "resolved"
    assert ended.alert is not None
    again = advanced(ended.alert, _found("cluster-down"), NOW + timedelta(seconds=600))
    assert again.rule == "recurred"
    assert again.alert is not None
    assert again.alert.key == first.key
    assert again.alert.incident != first.incident


def test_a_rule_of_another_version_of_the_app_ends() -> None:
    stranger = opened(_found("cluster-down"), NOW).model_copy(update={"rule": "from-the-future"})
    step = advanced(stranger, Absence.AWAY, NOW)
    assert step.alert is not None
    assert step.alert.state is AlertState.RESOLVED


def test_only_a_firing_alert_can_be_taken_and_a_key_has_no_ambiguity() -> None:
    with pytest.raises(ValueError, match="only a firing alert"):
        acknowledged(opened(_found("cluster-exposed"), NOW), "me", "", NOW)
    assert alert_key("ab", "c", "d") != alert_key("a", "bc", "d")
    assert alert_key("a", "b", "c") == alert_key("a", "b", "c")
    with pytest.raises(KeyError):
        condition("pay", "no-such-rule", "x")


@given(st.sampled_from(sorted(NEVER_MUTED)), st.booleans())
def test_nothing_mutes_the_watch_itself(rule: str, storm: bool) -> None:
    alert = opened(condition("", rule, "fleet"), NOW)
    end = NOW + timedelta(days=1)
    everything = Silence(id="s", reason="", created_by="", created_at=NOW, starts_at=NOW, until=end)
    assert mutes([alert], [everything], {"": ("maintenance",)}, storm, NOW) == {}


def test_a_silence_begins_and_ends_in_time_and_means_what_it_names() -> None:
    alert = opened(_found("cluster-down"), NOW)
    end = NOW + timedelta(minutes=10)
    silence = Silence(
        id="s", cluster="pay", reason="", created_by="", created_at=NOW, starts_at=NOW + timedelta(seconds=1), until=end
    )
    assert mutes([alert], [silence], {}, False, NOW) == {}
    assert mutes([alert], [silence], {}, False, NOW + timedelta(seconds=1))[alert.key].silence == "s"
    assert mutes([alert], [silence], {}, False, end) == {}
    other = silence.model_copy(update={"cluster": "other"})
    assert mutes([alert], [other], {}, False, NOW + timedelta(seconds=1)) == {}


def test_a_slower_auditor_with_an_older_look_tells_nothing() -> None:
    firing = opened(_found("cluster-down"), NOW)
    later = NOW + timedelta(minutes=10)
    told = planned(Group(key=group_of(firing)), [firing], {}, later).group.model_copy(update={"outbox": None})
    ended = firing.model_copy(update={"state": AlertState.RESOLVED, "resolved_at": later, "changed_at": later})
    over = planned(told, [ended], {}, later + timedelta(minutes=6)).group.model_copy(update={"outbox": None})
    assert planned(over, [firing], {}, later + timedelta(minutes=20)).rule == "nothing-new"
    assert planned(over, [], {}, later + timedelta(minutes=20)).group.told == over.told
