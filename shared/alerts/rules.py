"""Every rule of alerting by name, with its one sentence: what fires, what moves an alert on, what mutes, what tells.

The docs are generated from these tables (tools/alerts_doc.py); the names stand in logs, rows, notices and tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from shared.alerts.limits import REPEAT, WATCHDOG_REPEAT
from shared.model.alert import Severity

_NOW: Final = timedelta(0)
_MINUTE: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class AlertRule:
    """`wait` is how long the condition must hold before the alert fires (`for`), `keep` how long the alert goes on
    firing after the condition went away (`keep_firing_for`)."""

    sentence: str
    severity: Severity
    wait: timedelta = _NOW
    keep: timedelta = _MINUTE
    repeat: timedelta = REPEAT


_TWO: Final = 2 * _MINUTE
_FIVE: Final = 5 * _MINUTE

ALERTS: Final[dict[str, AlertRule]] = {
    "watchdog": AlertRule(
        "Always firing: whoever no longer hears it knows that the watch itself is broken.",
        Severity.INFO,
        repeat=WATCHDOG_REPEAT,
    ),
    "storm": AlertRule(
        "Many clusters look sick at once: probably the observer is; all remediation is frozen.", Severity.CRITICAL
    ),
    "cluster-down": AlertRule("No node of the cluster serves the application.", Severity.CRITICAL),
    "cluster-exposed": AlertRule(
        "The application runs without a synchronised peer: one more failure stops it.", Severity.WARNING, _TWO, _TWO
    ),
    "exposed-too-long": AlertRule(
        "The cluster has been exposed for an hour and was not repaired by itself.", Severity.ERROR, 60 * _MINUTE, _TWO
    ),
    "cluster-degraded": AlertRule(
        "The cluster serves, but something about it is not as it should be.", Severity.WARNING, _TWO, _TWO
    ),
    "cluster-unknown": AlertRule(
        "There is too little fresh evidence to say how the cluster is.", Severity.WARNING, _FIVE, _TWO
    ),
    "farm-below-minimum": AlertRule(
        "A farm serves with fewer nodes than its minimum of healthy ones: a person must act.",
        Severity.ERROR,
        _TWO,
        _TWO,
    ),
    "node-down": AlertRule("A node is down.", Severity.WARNING, _TWO, _FIVE),
    "vm-deleted": AlertRule(
        "A virtual machine of the cluster was deleted by someone else than the control plane.", Severity.CRITICAL
    ),
    "vm-stopped": AlertRule(
        "A virtual machine of the cluster was stopped by someone else than the control plane.", Severity.WARNING
    ),
    "load-balancer-deleted": AlertRule(
        "The load balancer of the cluster was deleted by someone else than the control plane.", Severity.CRITICAL
    ),
    "platform-unavailable": AlertRule(
        "Azure reports that a virtual machine is unavailable or degraded.", Severity.WARNING, _MINUTE, _TWO
    ),
    "customer-initiated": AlertRule(
        "Azure says that a person stopped this virtual machine: repair is suppressed until it runs again.",
        Severity.INFO,
    ),
    "scheduled-event": AlertRule("Azure announces maintenance of a virtual machine.", Severity.INFO),
    "azure-alert": AlertRule("An Azure Monitor alert on a resource of the cluster has fired.", Severity.WARNING),
    "remediation-needs-a-person": AlertRule(
        "Automatic repair is at its end for this cluster: a person must act.", Severity.CRITICAL
    ),
    "certificate-expires": AlertRule(
        "The certificate of a node ends within 14 days: it should have renewed itself long ago.", Severity.ERROR
    ),
    "drift": AlertRule("A resource of the cluster differs from what was asked for.", Severity.WARNING, _FIVE, _TWO),
    "events-malformed": AlertRule(
        "Events arrived that could not be understood; they are in the dead letters.", Severity.WARNING
    ),
    "delivery-failed": AlertRule(
        "A notice could not be delivered to a channel; it is in the dead letters.", Severity.ERROR
    ),
}

STEPS: Final[dict[str, str]] = {
    "opened": "The condition is true for the first time: the alert is pending.",
    "fired-at-once": "The rule does not wait: the alert fires with the condition.",
    "held-long-enough": "The condition has held for the rule's whole waiting time: the alert fires.",
    "flapping": "The condition came and went too often while pending: the alert fires without waiting longer.",
    "cleared": "The condition is away: the alert stays as it is for the rule's keeping time.",
    "returned": "The condition came back within the keeping time: the same incident goes on.",
    "forgotten": "A pending alert's condition stayed away for the keeping time: nobody ever hears of it.",
    "resolved": "The condition stayed away for the keeping time: the alert is resolved.",
    "cluster-gone": "The cluster was deleted: its alerts are resolved.",
    "held-by-unknown": "Nobody could look at the cluster, or what was seen proves nothing: the alert stays as it is.",
    "recurred": "The condition is true again after the alert was resolved: a new incident begins.",
    "worsened": "The severity of a firing alert rose.",
    "acknowledged": "A person took the alert: it is not repeated any more.",
    "unchanged": "Nothing changed.",
}

MUTES: Final[dict[str, str]] = {
    "cluster-down-explains": "The cluster is down: that says more than any alert about its nodes or its redundancy.",
    "maintenance-explains": "Maintenance, an operation or a person's stop is under way: lost redundancy is expected.",
    "vm-deleted-explains": "The virtual machine was deleted: that explains why its node is down and unavailable.",
    "vm-stopped-explains": "The virtual machine was stopped on purpose: that explains why its node is down.",
    "storm-groups": "A storm is on: alerts of single clusters are counted in the storm's notice and not told singly.",
    "silenced": "A silence matches the alert; it says who asked for it, why, and until when.",
}

NOTICES: Final[dict[str, str]] = {
    "nothing-new": "Everybody knows everything already.",
    "group-wait": "The first alert of a group waits shortly for others that break together with it.",
    "group-interval": "The group was told about a moment ago: what is new waits for the interval.",
    "tell-fired": "Alerts fire that nobody was told about.",
    "tell-escalated": "An alert fires that is worse than all that was told: it does not wait for the interval.",
    "tell-resolved": "Alerts that were told are resolved.",
    "tell-acknowledged": "A person took an alert that was told.",
    "tell-repeated": "Alerts still fire that nobody has taken: they are told again.",
}
