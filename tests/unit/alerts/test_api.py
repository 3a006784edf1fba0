"""Alerts, silences and dead letters over the API."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from shared.alerts.tick import advance_alerts
from shared.model.alert import alert_key
from shared.model.principal import AccessRole
from tests.control_plane_app import App, later
from tests.golden.alerts.scenario import verdict_of

DOWN = alert_key("pay", "cluster-down", "cluster")


async def _down(app: App, *names: str) -> None:
    for name in names or ("pay",):
        await app.provisioned(name)
    verdicts = [verdict_of(name, {"state": "down"}, app.clock()) for name in names or ("pay",)]
    await advance_alerts(app.plane, verdicts, app.clock())


async def _silence(app: App, **changes: Any) -> Any:
    body = {"cluster": "pay", "reason": "known", "until": later(app.clock, 3600), **changes}
    return await app.send("POST", "silences", {key: value for key, value in body.items() if value is not None})


async def test_alerts_are_listed_worst_first_and_say_what_they_mean(app: App) -> None:
    await _down(app)
    listed = (await app.send("GET", "alerts")).body["value"]
    assert [(alert["rule"], alert["state"]) for alert in listed] == [("cluster-down", "firing"), ("watchdog", "firing")]
    assert listed[0]["id"] == DOWN
    assert listed[0]["meaning"] == "No node of the cluster serves the application."
    assert listed[0]["stepSentence"].startswith("The rule does not wait")
    assert (await app.send("GET", f"alerts/{DOWN}")).body == listed[0]


async def test_the_list_is_filtered_and_paged(app: App) -> None:
    names = ("aa", "bb", "cc", "dd")
    await _down(app, *names)
    assert len((await app.send("GET", "alerts?severity=critical")).body["value"]) == 4
    assert [a["cluster"] for a in (await app.send("GET", "alerts?cluster=bb")).body["value"]] == ["bb"]
    assert (await app.send("GET", "alerts?state=pending")).body["value"] == []
    found: list[str] = []
    path: str | None = "alerts?top=2"
    while path is not None:
        page = (await app.send("GET", path)).body
        assert len(page["value"]) <= 2
        found += [alert["id"] for alert in page["value"]]
        link = page.get("nextLink")
        path = None if link is None else link.partition("/api/")[2]
    assert len(found) == len(set(found)) == 5


@pytest.mark.parametrize(
    "query", ["state=burning", "severity=bad", "top=0", "continue=x", "state=resolved&continue=YWxlcnRzOnh4"]
)
async def test_a_wrong_parameter_is_named(app: App, query: str) -> None:
    assert (await app.send("GET", f"alerts?{query}")).code == "InvalidParameter"


async def test_the_history_is_paged_newest_first(app: App) -> None:
    for _ in range(3):
        for state in ("down", "healthy", "healthy"):
            verdicts = [verdict_of("pay", {"state": state}, app.clock())]
            await advance_alerts(app.plane, verdicts, app.clock())
            app.clock.advance(600)
    found: list[str] = []
    path: str | None = "alerts?state=resolved&top=1&cluster=pay"
    while path is not None:
        page = (await app.send("GET", path)).body
        found += [alert["resolvedAt"] for alert in page["value"]]
        link = page.get("nextLink")
        path = None if link is None else link.partition("/api/")[2]
    assert len(found) == 3
    assert found == sorted(found, reverse=True)


async def test_taking_an_alert_says_who_and_is_idempotent(app: App) -> None:
    await _down(app)
    token = await app.token(AccessRole.CONTROL)
    first = await app.send("POST", f"alerts/{DOWN}:acknowledge", {"note": "on it"}, token=token)
    assert (first.status, first.body["state"], first.body["note"]) == (200, "acknowledged", "on it")
    assert first.body["acknowledgedBy"].startswith("token:")
    app.clock.advance(60)
    again = await app.send("POST", f"alerts/{DOWN}:acknowledge")
    assert again.body == first.body
    types = [event["type"] for event in (await app.send("GET", "events")).body["value"]]
    assert types.count("Mirrorplane.Alert.Acknowledged") == 1


async def test_what_does_not_fire_cannot_be_taken(app: App) -> None:
    await app.provisioned()
    await advance_alerts(app.plane, [verdict_of("pay", {"state": "exposed"}, app.clock())], app.clock())
    pending = alert_key("pay", "cluster-exposed", "cluster")
    assert (await app.send("POST", f"alerts/{pending}:acknowledge")).code == "AlertNotFiring"
    assert (await app.send("POST", f"alerts/{DOWN}:acknowledge")).code == "AlertNotFound"
    assert (await app.send("POST", "alerts/x:acknowledge")).code == "AlertNotFound"
    assert (await app.send("POST", f"alerts/{DOWN}:explode")).code == "UnknownAction"
    assert (await app.send("GET", "alerts/x")).code == "AlertNotFound"
    assert (await app.send("POST", f"alerts/{pending}:acknowledge", {"nite": ""})).code == "UnknownField"


async def test_a_silence_lives_from_its_making_to_its_removal(app: App) -> None:
    await _down(app)
    made = await _silence(app)
    assert (made.status, made.body["active"], made.body["createdBy"]) == (201, True, "bootstrap:bootstrap")
    path = f"silences/{made.body['id']}"
    [alert] = (await app.send("GET", "alerts?cluster=pay")).body["value"]
    assert (alert["mutedBy"], alert["silence"]) == ("silenced", made.body["id"])
    changed = await app.send("PUT", path, {"reason": "longer", "until": later(app.clock, 7200)})
    assert changed.body["reason"] == "longer"
    assert (await app.send("GET", path)).body == changed.body
    assert (await app.send("GET", "silences")).body["value"] == [changed.body]
    for _ in range(2):
        assert (await app.send("DELETE", path)).status == 204
    assert (await app.send("GET", path)).code == "SilenceNotFound"
    assert (await app.send("PUT", path, {"reason": "x", "until": later(app.clock, 60)})).code == "SilenceNotFound"
    assert (await app.send("GET", f"alerts/{DOWN}")).body["mutedBy"] is None


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"cluster": None}, "MissingField"),
        ({"rule": "no-such-rule"}, "InvalidField"),
        ({"rule": "storm"}, "InvalidField"),
        ({"reason": ""}, "InvalidField"),
        ({"reason": None}, "MissingField"),
        ({"until": "2026-11-22T11:00:00Z"}, "InvalidField"),
        ({"until": "2027-11-22T11:00:00Z"}, "InvalidField"),
        ({"until": "2026-11-22T13:00:00"}, "InvalidField"),
        ({"startsAt": "2026-11-23T00:00:00Z"}, "InvalidField"),
        ({"who": "me"}, "UnknownField"),
    ],
)
async def test_a_silence_that_says_too_little_or_too_much_is_refused(
    app: App, changes: dict[str, Any], code: str
) -> None:
    assert (await _silence(app, **changes)).code == code
    assert (await app.send("GET", "silences")).body["value"] == []


async def test_dead_letters_say_why_once(app: App) -> None:
    for text in ("{", "{", json.dumps({"id": 1})):
        await app.fire("platform_event", text)
        app.clock.advance(1)
    letters = (await app.send("GET", "dead-letters?kind=event")).body["value"]
    assert [letter["reason"][:7] for letter in letters] == ["the tex", "no JSON"]
    page = (await app.send("GET", "dead-letters?kind=event&top=1")).body
    rest = (await app.send("GET", page["nextLink"].partition("/api/")[2])).body
    assert [*page["value"], *rest["value"]] == letters
    assert "nextLink" not in rest
    assert (await app.send("GET", "dead-letters")).code == "InvalidParameter"
    assert (await app.send("GET", "dead-letters?kind=post")).code == "InvalidParameter"


async def test_retention_drops_what_is_old_and_nothing_else(app: App) -> None:
    await _down(app)
    await app.fire("platform_event", "{")
    await _silence(app)
    app.clock.advance(60)
    for _ in range(4):
        await advance_alerts(app.plane, [verdict_of("pay", {"state": "healthy"}, app.clock())], app.clock())
        app.clock.advance(120)
    app.clock.advance(timedelta(days=20).total_seconds())
    await app.fire("retention", None)
    assert len((await app.send("GET", "dead-letters?kind=event")).body["value"]) == 1
    assert len((await app.send("GET", "alerts?state=resolved&cluster=pay")).body["value"]) == 1
    app.clock.advance(timedelta(days=100).total_seconds())
    await app.fire("retention", None)
    assert (await app.send("GET", "dead-letters?kind=event")).body["value"] == []
    assert (await app.send("GET", "silences")).body["value"] == []
    assert len((await app.send("GET", "alerts?state=resolved&cluster=pay")).body["value"]) == 1
