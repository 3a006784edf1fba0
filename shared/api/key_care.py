"""What keys need from time to time: wrapping anew after the wrapping key was replaced, and a word before a node's
certificate ends.

Level-triggered and safe to repeat: a key is replaced only as it was read, an alert is raised from what nodes last said.
A node renews at two thirds of its certificate's life, so one whose end is near has been failing for a long time.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Final

from shared.alerts.raising import clear_alert, raise_alert
from shared.api.call import Answer, Call, model_json
from shared.api.plane import ControlPlane
from shared.api.rotation import forget_unused
from shared.model.cluster import ClusterRecord
from shared.model.document import ApiModel
from shared.model.event_fact import EventFactKind
from shared.model.principal import Principal
from shared.security.wrapping import CannotUnwrap, opened, wrap
from shared.store.ports import Changed
from shared.structured_log import Log

PAGE: Final = 100
AT_ONCE: Final = 16
EXPIRY_RULE: Final = "certificate-expires"
EXPIRES_SOON: Final = timedelta(days=14)
MAX_NAMED: Final = 20
log = Log("mirrorplane.keys")


class RewrapView(ApiModel):
    """`unreadable` names clusters whose key neither wrapping key opens (the first twenty). While `previousNeeded` is
    not 0, MIRRORPLANE_WRAPPING_KEY_PREVIOUS must stay."""

    current: int
    rewrapped: int
    previous_needed: int
    unreadable: tuple[str, ...]


async def rewrap_keys(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    return Answer(200, model_json(await rewrap_fleet(plane)))


async def care_for_keys(plane: ControlPlane) -> None:
    """The hourly look."""
    await watch_certificates(plane)
    if plane.settings.previous_wrapping_key is not None:
        await rewrap_fleet(plane)
    for record in await _records(plane):
        await forget_unused(plane, record)


async def rewrap_fleet(plane: ControlPlane) -> RewrapView:
    current = rewrapped = lost = 0
    unreadable: list[str] = []
    for record in await _records(plane):
        for entry in await plane.store.credentials.authorities(record.id):
            try:
                key, is_current = opened(plane.settings.wrapping_keys, entry.value.wrapped_key, record.id)
            except CannotUnwrap as error:
                log.failure("authority_unreadable", error, cluster=record.name)
                unreadable.append(record.name)
                continue
            if is_current:
                current += 1
                continue
            wrapped = wrap(plane.settings.wrapping_key, key, record.id)
            try:
                await plane.store.credentials.replace_authority(
                    entry.value.model_copy(update={"wrapped_key": wrapped}), entry.etag
                )
                rewrapped += 1
            except Changed:
                lost += 1  # somebody else wrote it; the next look sees how
    view = RewrapView(
        current=current, rewrapped=rewrapped, previous_needed=lost, unreadable=tuple(unreadable[:MAX_NAMED])
    )
    log.info("rewrapped", current=current, rewrapped=rewrapped, lost=lost, unreadable=len(unreadable))
    return view


async def watch_certificates(plane: ControlPlane) -> int:
    """Raises and clears the alerts on certificates that end within 14 days; returns how many stand."""
    now = plane.clock()
    raised = {
        (fact.cluster, fact.subject.partition("/")[2])
        for fact in await plane.store.alerting.event_facts.open()
        if fact.kind is EventFactKind.RAISED and fact.subject.startswith(f"{EXPIRY_RULE}/")
    }
    records = await _records(plane)
    standing: dict[tuple[str, str], str] = {}
    for begin in range(0, len(records), AT_ONCE):
        for found in await asyncio.gather(*(_ending(plane, one, now) for one in records[begin : begin + AT_ONCE])):
            standing |= found
    for (cluster, node), sentence in sorted(standing.items()):
        await raise_alert(plane, cluster, EXPIRY_RULE, node, sentence, now)
    for cluster, node in sorted(raised - set(standing)):
        await clear_alert(plane, cluster, EXPIRY_RULE, node, now)
    return len(standing)


async def _ending(plane: ControlPlane, record: ClusterRecord, now: datetime) -> dict[tuple[str, str], str]:
    """Of the cluster's nodes: (cluster, node) and the sentence."""
    found: dict[tuple[str, str], str] = {}
    for node, state in (await plane.store.node_states.of_cluster(record.id)).items():
        told = state.heartbeat.certificate
        if told is None:
            continue
        left = datetime.fromisoformat(told.expires_utc) - now
        if left < EXPIRES_SOON:
            why = told.failure or "the node does not say why it was not renewed"
            found[record.name, node] = f"the certificate of node {node} expires in {max(left.days, 0)} days: {why}"
    return found


async def _records(plane: ControlPlane) -> list[ClusterRecord]:
    records: list[ClusterRecord] = []
    after: str | None = None
    while True:
        page = await plane.store.clusters.page(after, PAGE)
        records += [entry.value for entry in page.items]
        after = page.next
        if after is None:
            return records
