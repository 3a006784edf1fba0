"""Two auditors at once, audits killed anywhere: everybody is told once."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from shared.alerts.courier import Courier, Failed, Line, Outcome, Refused, Sent
from shared.alerts.delivery import deliver_due
from shared.alerts.limits import CLAIM, MAX_ATTEMPTS, RESOLVED_SHOWN
from shared.alerts.tick import advance_alerts
from shared.api.plane import ControlPlane
from shared.health.verdict import ClusterVerdict
from shared.model.alert import AlertState, DeadLetterKind, Notice, NoticeReason, Severity
from shared.store.ports import Unavailable
from tests.control_plane_app import App
from tests.control_plane_samples import NOW
from tests.golden.alerts.scenario import verdict_of


@dataclass
class Channel:
    """Answers as scripted, then takes everything. `gate`: waits for it, to be in the middle of sending."""

    answers: list[Outcome] = field(default_factory=list)
    heard: list[Notice] = field(default_factory=list)
    asked: int = 0

    async def send(self, notice: Notice) -> Outcome:
        self.asked += 1
        await asyncio.sleep(0)
        if self.answers:
            return self.answers.pop(0)
        self.heard.append(notice)
        return Sent()


def _with(app: App, **channels: Channel) -> ControlPlane:
    return replace(app.plane, courier=Courier({name: Line(channel) for name, channel in channels.items()}))


def _verdicts(app: App, state: str) -> list[ClusterVerdict]:
    return [verdict_of("pay", {"state": state}, app.clock())]


async def _tick(app: App, plane: ControlPlane, state: str, seconds: float = 30) -> None:
    await advance_alerts(plane, _verdicts(app, state), app.clock())
    await deliver_due(plane)
    app.clock.advance(seconds)


def _of_pay(channel: Channel) -> list[NoticeReason]:
    return [notice.reason for notice in channel.heard if notice.cluster == "pay"]


async def test_two_auditors_at_once_tell_once(app: App) -> None:
    await app.provisioned()
    channel = Channel()
    plane = _with(app, ear=channel)
    for state in ("healthy", "down", "down", "down", "healthy", "healthy", "healthy", *["healthy"] * 12):
        await asyncio.gather(*(advance_alerts(plane, _verdicts(app, state), app.clock()) for _ in range(3)))
        await asyncio.gather(*(deliver_due(plane) for _ in range(3)))
        app.clock.advance(30)
    assert _of_pay(channel) == [NoticeReason.FIRED, NoticeReason.RESOLVED]
    assert max(Counter(notice.id for notice in channel.heard).values()) == 1
    [alert] = [entry.value for entry in await plane.store.alerting.alerts.open() if entry.value.cluster == "pay"]
    assert alert.state is AlertState.RESOLVED
    kinds = Counter(event["type"] for event in (await app.send("GET", "events")).body["value"] if event["cluster"])
    assert kinds == {"Mirrorplane.Alert.Fired": 1, "Mirrorplane.Alert.Resolved": 1}


KILLS = [
    ("insert", "alerts"),
    ("replace", "alerts"),
    ("insert", "events"),
    ("get", "alertgroups"),
    ("insert", "alertgroups"),
    ("replace", "alertgroups"),
    ("insert", "deliveries"),
    ("replace", "deliveries"),
    ("upsert", "deliveries"),
    ("delete_if", "deliveries"),
    ("scan", "silences"),
]


@pytest.mark.parametrize(("operation", "table"), KILLS, ids=["-".join(kill) for kill in KILLS])
async def test_a_tick_killed_anywhere_is_made_up_for_by_the_next(app: App, operation: str, table: str) -> None:
    """`replace deliveries` and later: the notice may have gone out before the kill; then it goes again, same id."""
    await app.provisioned()
    channel = Channel()
    plane = _with(app, ear=channel)
    await _tick(app, plane, "healthy", 300)
    app.rows.fail(operation, table, Unavailable("killed"))
    killed = 0
    for state in ("down", "down", "down", "down", "down", *["healthy"] * 14):
        try:
            await _tick(app, plane, state)
        except Unavailable:
            killed += 1
            app.clock.advance(CLAIM.total_seconds())
    assert killed == 1
    told = {notice.id: notice.reason for notice in channel.heard if notice.cluster == "pay"}
    assert list(told.values()) == [NoticeReason.FIRED, NoticeReason.RESOLVED]
    assert await plane.store.alerting.deliveries.waiting(10) == []


async def test_a_slow_or_failing_receiver_is_tried_again_with_growing_pauses_then_buried(app: App) -> None:
    await app.provisioned()
    bad, good = Channel([Failed("answered 503")] * 1000), Channel()
    plane = _with(app, bad=bad, good=good)
    for _ in range(3):
        await _tick(app, plane, "down")
    assert _of_pay(good) == [NoticeReason.FIRED]
    moments: list[float] = []
    while True:
        before = bad.asked
        await deliver_due(plane)
        if bad.asked > before:
            moments.append((app.clock() - NOW).total_seconds())
        if not await plane.store.alerting.deliveries.waiting(10):
            break
        app.clock.advance(15)
    assert len(moments) < MAX_ATTEMPTS
    letters = (await app.send("GET", "dead-letters?kind=delivery")).body["value"]
    assert {letter["id"].split("@")[1] for letter in letters} == {"bad"}
    [reason] = [letter["reason"] for letter in letters if letter["id"].startswith("cluster-pay")]
    assert "answered 503" in reason
    assert "cluster-down" in letters[0]["text"] + letters[-1]["text"]
    await advance_alerts(plane, _verdicts(app, "down"), app.clock())
    rules = {entry.value.rule for entry in await plane.store.alerting.alerts.open()}
    assert "delivery-failed" in rules


async def test_a_refusal_is_final_and_a_channel_that_is_gone_too(app: App) -> None:
    await app.provisioned()
    channel = Channel([Refused("answered 401")] * 1000)
    plane = _with(app, ear=channel)
    for _ in range(3):
        await _tick(app, plane, "down")
    assert await plane.store.alerting.deliveries.waiting(10) == []
    page = await plane.store.alerting.dead_letters.page(DeadLetterKind.DELIVERY, None, 10)
    assert {letter.reason for letter in page.items} == {"ear: refused: answered 401"}
    assert isinstance(await Courier().send("gone", channel_notice(page.items[0].id)), Refused)


def channel_notice(name: str) -> Notice:
    return Notice(
        id=name, group="g", reason=NoticeReason.FIRED, severity=Severity.INFO, cluster="", made_at=NOW, alerts=()
    )


async def test_a_channel_hears_only_what_is_severe_enough_but_always_the_watchdog(app: App) -> None:
    await app.provisioned()
    pager, board = Channel(), Channel()
    courier = Courier({"pager": Line(pager, Severity.CRITICAL), "board": Line(board)})
    plane = replace(app.plane, courier=courier)
    for _ in range(8):
        await _tick(app, plane, "degraded")
    assert _of_pay(pager) == []
    assert _of_pay(board) == [NoticeReason.FIRED]
    assert any(notice.group == "watchdog" for notice in pager.heard)


async def test_the_watchdog_is_told_every_five_minutes_and_never_silenced(app: App) -> None:
    channel = Channel()
    plane = _with(app, ear=channel)
    for _ in range(120):
        await advance_alerts(plane, [], app.clock())
        await deliver_due(plane)
        app.clock.advance(30)
    heard = [notice.made_at for notice in channel.heard]
    assert len(heard) in (12, 13)
    assert all(later - earlier == timedelta(minutes=5) for earlier, later in itertools.pairwise(heard))
    body = {"rule": "watchdog", "reason": "noise", "until": "2027-01-01T00:00:00Z"}
    assert (await app.send("POST", "silences", body)).code == "InvalidField"


async def test_a_steady_fleet_costs_no_writes(app: App) -> None:
    await app.provisioned()
    for _ in range(4):
        await advance_alerts(app.plane, _verdicts(app, "down"), app.clock())
        app.clock.advance(30)
    before = app.rows.everything()
    for _ in range(3):
        await advance_alerts(app.plane, _verdicts(app, "down"), app.clock())
        app.clock.advance(30)
    assert app.rows.everything() == before


async def test_resolved_alerts_are_put_away_and_stay_in_the_history(app: App) -> None:
    await app.provisioned()
    plane = _with(app, ear=Channel())
    for state in ("down", "down", *["healthy"] * 16):
        await _tick(app, plane, state)
    app.clock.advance(RESOLVED_SHOWN.total_seconds())
    await _tick(app, plane, "healthy")
    listed = (await app.send("GET", "alerts?cluster=pay")).body["value"]
    assert listed == []
    [old] = (await app.send("GET", "alerts?cluster=pay&state=resolved")).body["value"]
    assert (old["rule"], old["state"], old["step"]) == ("cluster-down", "resolved", "resolved")
