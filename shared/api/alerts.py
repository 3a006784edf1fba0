"""The API of alerts: reading, acknowledging; silences; dead letters.

An open alert is read from its row, so a list shows what is true now; `state=resolved` reads the history, month by
month. Why a firing alert is not told is computed as the audit computes it. Storms and pauses are the audit's own
knowledge: the storm is known here by its alert, pauses by the stored verdicts of the clusters on the page.
"""

from __future__ import annotations

import asyncio
import re
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Final, TypeVar

from shared.alerts.lifecycle import acknowledged
from shared.alerts.limits import MAX_SILENCE, MAX_SILENCES
from shared.alerts.message import change_event
from shared.alerts.mutes import NEVER_MUTED, Mute, mutes
from shared.alerts.rules import ALERTS
from shared.api.alert_views import (
    AcknowledgeRequest,
    AlertList,
    AlertView,
    DeadLetterList,
    SilenceChange,
    SilenceList,
    SilenceRequest,
    alert_view,
    silence_view,
)
from shared.api.call import Answer, Call, body_of, continuation, continuation_token, model_json, top_parameter
from shared.api.plane import ControlPlane
from shared.api.problem import Problem
from shared.api.views import Links
from shared.model.alert import ACTIVE, FLEET, RANK, Alert, AlertState, DeadLetterKind, Severity, Silence
from shared.model.document import ApiModel
from shared.model.principal import Principal
from shared.store.ports import Changed
from shared.structured_log import Log

E = TypeVar("E", bound=StrEnum)
HISTORY_MONTHS: Final = 13
MAX_ATTEMPTS: Final = 5
_KEY: Final = re.compile(r"[0-9a-f]{32}")
_SILENCE_ID: Final = re.compile(r"[0-9a-f]{16}")
log = Log("mirrorplane.alerts")


async def list_alerts(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    """Worst first, then newest. Without `state`: everything open, and what was resolved within the last hour."""
    state = _chosen(call, "state", AlertState)
    severity = _chosen(call, "severity", Severity)
    cluster = call.query.get("cluster")
    if state is AlertState.RESOLVED:
        return await _list_history(plane, call, cluster, severity)
    stored = await _stored(plane, cluster)
    found = [
        alert
        for alert in stored
        if cluster in (None, alert.cluster) and severity in (None, alert.severity) and state in (None, alert.state)
    ]
    found.sort(key=_place)
    top = top_parameter(call)
    after = continuation(call, "alerts")
    if after is not None:
        found = [alert for alert in found if _place(alert) > after]
    shown, rest = found[:top], found[top:]
    muted = await _mutes(plane, stored, shown)
    body = AlertList(value=tuple(alert_view(alert, muted.get(alert.key)) for alert in shown))
    return _page(plane, call, body, _place(shown[-1]) if rest else None)


async def get_alert(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    found = await _alert(plane, call.route["id"])
    muted = await _mutes(plane, await _stored(plane, found.cluster), [found])
    return Answer(200, model_json(alert_view(found, muted.get(found.key))))


async def act_on_alert(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    """`alerts/{id}:acknowledge`. Taking an alert twice changes nothing."""
    key, _, action = call.route["idAndAction"].partition(":")
    if action != "acknowledge":
        raise Problem("UnknownAction", f"an alert has no action {action!r}; known: acknowledge")
    request = body_of(call, AcknowledgeRequest) if call.body else AcknowledgeRequest()
    by = f"{caller.kind}:{caller.id}"
    for _ in range(MAX_ATTEMPTS):
        found = await plane.store.alerting.alerts.get(key) if _KEY.fullmatch(key) else None
        if found is None:
            raise Problem("AlertNotFound", f"there is no open alert {key!r}")
        if found.value.state not in ACTIVE:
            message = f"the alert is {found.value.state.value}; only a firing alert can be acknowledged"
            raise Problem("AlertNotFiring", message)
        now = plane.clock()
        taken = acknowledged(found.value, by, request.note, now)
        if taken is not found.value:
            try:
                await plane.store.alerting.alerts.replace(taken, found.etag)
            except Changed:
                continue
            log.info("alert_acknowledged", alert=key, rule=taken.rule, cluster=taken.cluster or None, by=by)
            event = change_event(taken, now)
            if event is not None:
                await plane.store.events.record(event)
        return Answer(200, model_json(alert_view(taken, None)))
    raise Problem("StorageUnavailable", "the alert is being changed by too many at once; repeat the request")


async def post_silence(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    request = body_of(call, SilenceRequest)
    now = plane.clock()
    if request.cluster is None and request.rule is None and request.subject is None:
        raise Problem("MissingField", "give at least one of cluster, rule and subject: nobody may silence everything")
    if request.rule is not None:
        if request.rule not in ALERTS:
            raise Problem("InvalidField", f"no rule is called {request.rule!r}; docs/alerts.md lists them", "rule")
        if request.rule in NEVER_MUTED:
            raise Problem("InvalidField", f"{request.rule} cannot be silenced: it says that the watch works", "rule")
    starts_at = request.starts_at or now
    _check_period(starts_at, request.until, now)
    if len(await plane.store.alerting.silences.all()) >= MAX_SILENCES:
        raise Problem("TooManySilences", f"there are {MAX_SILENCES} silences; remove some that ended")
    silence = Silence(
        id=plane.new_id().replace("-", "")[-16:],
        cluster=request.cluster,
        rule=request.rule,
        subject=request.subject,
        reason=request.reason,
        created_by=f"{caller.kind}:{caller.id}",
        created_at=now,
        starts_at=starts_at,
        until=request.until,
    )
    await plane.store.alerting.silences.create(silence)
    log.info("silence_made", id=silence.id, by=silence.created_by, why=silence.reason, until=silence.until.isoformat())
    return Answer(201, model_json(silence_view(silence, now)))


async def list_silences(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    now = plane.clock()
    silences = sorted(await plane.store.alerting.silences.all(), key=lambda silence: (silence.until, silence.id))
    return Answer(200, model_json(SilenceList(value=tuple(silence_view(silence, now) for silence in silences))))


async def get_silence(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    found = await plane.store.alerting.silences.get(_silence_id(call))
    if found is None:
        raise Problem("SilenceNotFound", f"there is no silence {call.route['id']!r}")
    return Answer(200, model_json(silence_view(found.value, plane.clock())))


async def put_silence(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    """Changes why and until when; whom it silences stays. Who changed it is in `createdBy`."""
    request = body_of(call, SilenceChange)
    found = await plane.store.alerting.silences.get(_silence_id(call))
    if found is None:
        raise Problem("SilenceNotFound", f"there is no silence {call.route['id']!r}")
    now, by = plane.clock(), f"{caller.kind}:{caller.id}"
    _check_period(found.value.starts_at, request.until, now)
    changes = {"reason": request.reason, "until": request.until, "created_by": by}
    changed = found.value.model_copy(update=changes)
    try:
        await plane.store.alerting.silences.replace(changed, found.etag)
    except Changed:
        raise Problem("ConditionNotMet", "the silence was changed meanwhile; read it again") from None
    log.info("silence_changed", id=changed.id, by=by, why=changed.reason, until=changed.until.isoformat())
    return Answer(200, model_json(silence_view(changed, now)))


async def delete_silence(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    silence_id = call.route["id"]
    if _SILENCE_ID.fullmatch(silence_id):
        await plane.store.alerting.silences.delete(silence_id)
        log.info("silence_removed", id=silence_id, by=f"{caller.kind}:{caller.id}")
    return Answer(204)


async def list_dead_letters(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    kind = _chosen(call, "kind", DeadLetterKind)
    if kind is None:
        raise Problem("InvalidParameter", "the query parameter kind is missing; give 'event' or 'delivery'", "kind")
    after = continuation(call, f"dead-letters-{kind.value}")
    page = await plane.store.alerting.dead_letters.page(kind, after, top_parameter(call))
    return _page(plane, call, DeadLetterList(value=page.items), page.next, kind=kind.value)


async def _list_history(plane: ControlPlane, call: Call, cluster: str | None, severity: Severity | None) -> Answer:
    """Resolved alerts, newest first."""
    top = top_parameter(call)
    month, after = _month_position(continuation(call, "alerts"), plane.clock())
    oldest = plane.clock().date().replace(day=1) - timedelta(days=31 * HISTORY_MONTHS)
    found: list[AlertView] = []
    following: str | None = None
    while month >= oldest:
        page = await plane.store.alerting.alerts.history(month, after, top)
        wanted = [alert for alert in page.items if cluster in (None, alert.cluster)]
        found += [alert_view(alert, None) for alert in wanted if severity in (None, alert.severity)]
        if page.next is not None:
            after = page.next
        else:
            month, after = (month - timedelta(days=1)).replace(day=1), None
        if len(found) >= top or page.next is not None:
            # A page may be short where the filter left little; its nextLink goes on.
            following = f"{month:%Y%m}:{after or ''}" if month >= oldest else None
            break
    return _page(plane, call, AlertList(value=tuple(found)), following)


def _month_position(text: str | None, now: datetime) -> tuple[date, str | None]:
    if text is None:
        return now.date().replace(day=1), None
    month, _, after = text.partition(":")
    if not re.fullmatch(r"\d{4}(0[1-9]|1[0-2])", month):
        raise Problem("InvalidParameter", "the query parameter continue is not from a nextLink", "continue")
    return date(int(month[:4]), int(month[4:]), 1), after or None


def _page(plane: ControlPlane, call: Call, page: ApiModel, following: str | None, **query: str) -> Answer:
    path = call.path.rpartition("/")[2]
    prefix = f"{path}-{query['kind']}" if "kind" in query else path
    body = model_json(page)
    body.pop("nextLink")
    if following is not None:
        kept = {
            name: call.query[name] for name in ("state", "severity", "cluster", "top", "kind") if name in call.query
        }
        link = {**kept, "continue": continuation_token(prefix, following)}
        body["nextLink"] = Links(plane.settings.public_url).to(path, **link)
    return Answer(200, body)


async def _stored(plane: ControlPlane, cluster: str | None) -> list[Alert]:
    """Open alerts: all, or those of one cluster and of the fleet, which say why one of the cluster is not told."""
    alerts = plane.store.alerting.alerts
    if cluster is None:
        return [entry.value for entry in await alerts.open()]
    own, fleet = await asyncio.gather(alerts.open_of(cluster), alerts.open_of(FLEET))
    return [entry.value for entry in (*own, *(fleet if cluster != FLEET else ()))]


async def _alert(plane: ControlPlane, key: str) -> Alert:
    found = await plane.store.alerting.alerts.get(key) if _KEY.fullmatch(key) else None
    if found is None:
        raise Problem("AlertNotFound", f"there is no open alert {key!r}")
    return found.value


async def _mutes(plane: ControlPlane, stored: list[Alert], shown: list[Alert]) -> dict[str, Mute]:
    silences = await plane.store.alerting.silences.all()
    storm = any(alert.rule == "storm" and alert.state in ACTIVE and alert.cleared_at is None for alert in stored)
    pauses: dict[str, tuple[str, ...]] = {}
    for name in {alert.cluster for alert in shown if alert.state in ACTIVE and alert.cluster}:
        record = await plane.store.clusters.get(name)
        audit = None if record is None else await plane.store.audits.get(record.value.id)
        if audit is not None:
            pauses[name] = audit.value.paused_by
    return mutes(stored, silences, pauses, storm, plane.clock())


def _check_period(starts_at: datetime, until: datetime, now: datetime) -> None:
    if until <= now or until <= starts_at:
        raise Problem("InvalidField", f"until {until.isoformat()} is not after now and startsAt", "until")
    if until - max(starts_at, now) > MAX_SILENCE or starts_at - now > MAX_SILENCE:
        raise Problem("InvalidField", f"a silence lasts and lies ahead at most {MAX_SILENCE.days} days", "until")


def _silence_id(call: Call) -> str:
    silence_id = call.route["id"]
    if not _SILENCE_ID.fullmatch(silence_id):
        raise Problem("SilenceNotFound", f"there is no silence {silence_id!r}")
    return silence_id


def _chosen(call: Call, name: str, kind: type[E]) -> E | None:
    """A query parameter with a closed list of words."""
    text = call.query.get(name)
    if text is None:
        return None
    for member in kind:
        if member.value == text:
            return member
    raise Problem("InvalidParameter", f"{name} is {text!r}; give one of {', '.join(m.value for m in kind)}", name)


def _place(alert: Alert) -> str:
    """Sorts worst first, then newest, then by key; the same text continues a list."""
    newest_first = 10**12 - int(alert.started_at.timestamp())
    return f"{9 - RANK[alert.severity]}-{newest_first:013d}-{alert.key}"
