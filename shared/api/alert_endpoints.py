"""The endpoints of alerts, silences and dead letters, as data; part of the table in `shared.api.endpoints`."""

from __future__ import annotations

from typing import Final

from shared.api import alerts
from shared.api.alert_views import (
    AcknowledgeRequest,
    AlertList,
    AlertView,
    DeadLetterList,
    SilenceChange,
    SilenceList,
    SilenceRequest,
    SilenceView,
)
from shared.api.endpoint import Endpoint, Guard

_PAGING: Final = ("top", "continue")

ALERT_ENDPOINTS: Final = (
    Endpoint(
        "alert_list",
        "GET",
        "alerts",
        Guard.MONITOR,
        alerts.list_alerts,
        "List open alerts, worst first; with state=resolved the history, newest first.",
        {200: AlertList},
        query=("state", "severity", "cluster", *_PAGING),
    ),
    Endpoint(
        "alert_get", "GET", "alerts/{id}", Guard.MONITOR, alerts.get_alert, "Read an open alert.", {200: AlertView}
    ),
    Endpoint(
        "alert_action",
        "POST",
        "alerts/{idAndAction}",
        Guard.CONTROL,
        alerts.act_on_alert,
        "Acknowledge a firing alert: it is not repeated any more.",
        {200: AlertView},
        body=AcknowledgeRequest,
        body_required=False,
        documented_route="alerts/{id}:acknowledge",
    ),
    Endpoint(
        "silence_create",
        "POST",
        "silences",
        Guard.CONTROL,
        alerts.post_silence,
        "Keep matching alerts from being told until a time.",
        {201: SilenceView},
        body=SilenceRequest,
    ),
    Endpoint(
        "silence_list",
        "GET",
        "silences",
        Guard.MONITOR,
        alerts.list_silences,
        "List silences: who, why, until when.",
        {200: SilenceList},
    ),
    Endpoint(
        "silence_get", "GET", "silences/{id}", Guard.MONITOR, alerts.get_silence, "Read a silence.", {200: SilenceView}
    ),
    Endpoint(
        "silence_put",
        "PUT",
        "silences/{id}",
        Guard.CONTROL,
        alerts.put_silence,
        "Change why and until when.",
        {200: SilenceView},
        body=SilenceChange,
    ),
    Endpoint(
        "silence_delete",
        "DELETE",
        "silences/{id}",
        Guard.CONTROL,
        alerts.delete_silence,
        "Remove a silence; it ends at once.",
        {204: None},
    ),
    Endpoint(
        "dead_letter_list",
        "GET",
        "dead-letters",
        Guard.MONITOR,
        alerts.list_dead_letters,
        "List what could not be understood (kind=event) or delivered (kind=delivery), newest first.",
        {200: DeadLetterList},
        query=("kind", *_PAGING),
    ),
)
