"""Application Insights as the place the control plane's spans go to, when it is configured.

Nothing of OpenTelemetry is imported without a connection string (0.6 s of a cold start). Nothing is instrumented by
itself: such spans carry addresses, and addresses may carry signatures. Log lines go through the Functions host as they
do without telemetry, figures are at /metrics.
Source: https://learn.microsoft.com/azure/azure-monitor/app/opentelemetry-configuration
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from shared.structured_log import Log
from shared.telemetry import open_telemetry_sink, send_to

CONNECTION: Final = "APPLICATIONINSIGHTS_CONNECTION_STRING"
log = Log("mirrorplane.telemetry")
_INSTRUMENTED: Final = ("azure_sdk", "django", "fastapi", "flask", "psycopg2", "requests", "urllib", "urllib3")


def start_telemetry(environment: Mapping[str, str]) -> bool:
    """Once at the start of the process; True if spans are sent. The exporter finds the credential in
    APPLICATIONINSIGHTS_AUTHENTICATION_STRING. A connection string that is none is logged: nobody's clusters should go
    unwatched for it."""
    if not environment.get(CONNECTION):
        return False
    from azure.monitor.opentelemetry import configure_azure_monitor
    from opentelemetry import trace

    try:
        configure_azure_monitor(
            connection_string=environment[CONNECTION],
            disable_logging=True,
            disable_metrics=True,
            enable_live_metrics=False,
            enable_performance_counters=False,
            instrumentation_options={name: {"enabled": False} for name in _INSTRUMENTED},
            **_sampling(environment),
        )
    except ValueError as error:
        log.failure("telemetry_not_configured", error, setting=CONNECTION)
        return False
    send_to(open_telemetry_sink(trace.get_tracer_provider()))
    return True


def _sampling(environment: Mapping[str, str]) -> dict[str, Any]:
    """Everything, unless the operator chose a sampler: the alert on a silent audit counts spans."""
    return {} if environment.get("OTEL_TRACES_SAMPLER") else {"sampling_ratio": 1.0}
