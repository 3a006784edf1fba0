"""The endpoints that consoles and command lines read, as data; part of the table in `shared.api.endpoints`."""

from __future__ import annotations

from typing import Final

from shared.api import credentials, fleet, history, journal, me, overview, strips
from shared.api.credentials import (
    CredentialFiles,
    CredentialLinkView,
    CredentialList,
    CredentialRequest,
    CredentialView,
)
from shared.api.endpoint import Endpoint, Guard
from shared.api.fleet import FleetPage
from shared.api.history import HistoryList
from shared.api.journal import JournalList
from shared.api.me import MeView
from shared.api.overview import Overview
from shared.api.strips import StripsView
from shared.api.timeline import RANGE

_PAGING: Final = ("top", "continue")

CONSOLE_ENDPOINTS: Final = (
    Endpoint("me_get", "GET", "me", Guard.MONITOR, me.get_me, "Who calls, with which role.", {200: MeView}),
    Endpoint(
        "fleet_list",
        "GET",
        "fleet",
        Guard.MONITOR,
        fleet.list_fleet,
        "List clusters with their last verdict: searched, filtered, worst first.",
        {200: FleetPage},
        query=("search", "verdict", "order", *_PAGING),
    ),
    Endpoint(
        "cluster_overview",
        "GET",
        "clusters/{name}/overview",
        Guard.MONITOR,
        overview.get_overview,
        "Read everything the page of a cluster shows, together. 304 with If-None-Match when nothing changed.",
        {200: Overview, 304: None},
        request_headers=("If-None-Match",),
    ),
    Endpoint(
        "cluster_history",
        "GET",
        "clusters/{name}/history",
        Guard.MONITOR,
        history.get_history,
        "The story of a cluster, newest first: roles, verdicts, operators, platform events.",
        {200: HistoryList},
        query=RANGE,
    ),
    Endpoint(
        "cluster_strips",
        "GET",
        "clusters/{name}/strips",
        Guard.MONITOR,
        strips.get_strips,
        "Sum up the heartbeats and probes of the last hours of every node.",
        {200: StripsView},
        query=("hours",),
    ),
    Endpoint(
        "credential_create",
        "POST",
        "clusters/{name}/credentials",
        Guard.ADMIN,
        credentials.post_credential,
        "Offer somebody access to the nodes of a cluster by a one-time link, which is in this answer only.",
        {201: CredentialLinkView},
        body=CredentialRequest,
    ),
    Endpoint(
        "credential_list",
        "GET",
        "clusters/{name}/credentials",
        Guard.ADMIN,
        credentials.list_credentials,
        "List who was given access to the nodes, newest first.",
        {200: CredentialList},
    ),
    Endpoint(
        "credential_delete",
        "DELETE",
        "clusters/{name}/credentials/{id}",
        Guard.ADMIN,
        credentials.delete_credential,
        "Revoke a link, or the certificate that was downloaded by it.",
        {200: CredentialView},
    ),
    Endpoint(
        "credential_redeem",
        "POST",
        "credential-downloads",
        Guard.CREDENTIAL_LINK,
        credentials.redeem_credential,
        "Download certificate and key by a one-time link, once.",
        {200: CredentialFiles},
    ),
    Endpoint(
        "journal_list",
        "GET",
        "journal",
        Guard.MONITOR,
        journal.list_journal,
        "List what operators did, newest first: who, what, why, with which result.",
        {200: JournalList},
        query=("cluster", *RANGE, *_PAGING),
    ),
)
