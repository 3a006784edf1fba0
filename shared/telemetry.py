"""One span for each request and each audit, for whoever listens (`shared.azure.telemetry`); else nowhere.

`record` is called once something is over, with names and figures only: routes, not paths; the caller's id, never a
header, a query or a body. Without a sink it costs nothing, and OpenTelemetry is not even imported (0.6 s of a cold
start). A node's heartbeat that went well leaves no span (`shared.api.endpoint`): a fleet of a thousand clusters sends
two hundred a second, and each is a row of its own already.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from shared.structured_log import Log

log = Log("mirrorplane.telemetry")
Attribute = str | int | float | bool


@dataclass(frozen=True)
class Span:
    """`traceparent` is the caller's (W3C Trace Context), "" without one."""

    name: str
    started_ns: int
    ended_ns: int
    failed: bool
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    traceparent: str = ""


Sink = Callable[[Span], None]
_sink: Sink | None = None


def now_ns() -> int:
    return time.time_ns()


def record(name: str, started_ns: int, *, failed: bool, traceparent: str = "", **attributes: Attribute | None) -> None:
    """Ends now. Attributes that are None are left out; a name `a__b` becomes `a.b`."""
    if _sink is not None:
        known = {key.replace("__", "."): value for key, value in attributes.items() if value is not None}
        try:
            _sink(Span(name, started_ns, now_ns(), failed, known, traceparent))
        except Exception as error:  # noqa: BLE001 - a request that went well does not fail for its telling
            log.failure("span_not_recorded", error, span=name)


async def observed(name: str, work: Awaitable[int]) -> int:
    """`work` as one span, with the number it returns as `mirrorplane.count`. Raises what it raises."""
    started_ns = now_ns()
    try:
        count = await work
    except BaseException:
        record(name, started_ns, failed=True)
        raise
    record(name, started_ns, failed=False, mirrorplane__count=count)
    return count


@contextmanager
def recorded_by(sink: Sink) -> Iterator[None]:
    """Spans inside the block go to `sink`."""
    global _sink
    before, _sink = _sink, sink
    try:
        yield
    finally:
        _sink = before


def send_to(sink: Sink) -> None:
    """From now on, for the rest of the process."""
    global _sink
    _sink = sink


def open_telemetry_sink(provider: Any) -> Sink:
    """Spans as an OpenTelemetry tracer provider takes them; of kind SERVER, which Azure shows as requests."""
    from opentelemetry.trace import SpanKind, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    tracer = provider.get_tracer("mirrorplane")
    propagator = TraceContextTextMapPropagator()

    def send(span: Span) -> None:
        parent = propagator.extract({"traceparent": span.traceparent}) if span.traceparent else None
        made = tracer.start_span(
            span.name,
            context=parent,
            kind=SpanKind.SERVER,
            attributes=dict(span.attributes),
            start_time=span.started_ns,
        )
        if span.failed:
            made.set_status(StatusCode.ERROR)
        made.end(span.ended_ns)

    return send
