"""Registers the functions of the control plane; nothing else happens here (see functions/ and shared/)."""

from __future__ import annotations

import os

import azure.functions as func

from functions import (
    alerts,
    audit,
    clusters,
    console,
    credentials,
    events,
    keys,
    metrics,
    nodes,
    provisioning,
    remediation,
    tokens,
)
from shared.azure.telemetry import start_telemetry
from shared.structured_log import quieten_libraries

quieten_libraries()
start_telemetry(os.environ)

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)  # each endpoint checks its own caller
for module in (
    clusters,
    nodes,
    tokens,
    provisioning,
    events,
    audit,
    remediation,
    console,
    credentials,
    keys,
    metrics,
    alerts,
):
    app.register_functions(module.blueprint)
