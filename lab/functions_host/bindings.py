"""The functions of an app as the host sees them: a trigger, outputs, a retry policy, read from the library's index.

Guarantee: a binding this host cannot serve refuses the start, naming the function, the binding and what is supported;
the Azure host would serve it, so pretending would only move the failure to the first call.
Limits: triggers http, timer, queue, Event Grid; outputs http and queue. No other input bindings, no deferred (SDK-type)
bindings, no HTTP streaming. Retry policies apply to timers only (as documented for Azure), elsewhere they are reported.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any

from lab.functions_host.errors import StartRefused, nearest
from lab.functions_host.protos import RpcFunctionMetadata, RpcRetryOptions
from lab.functions_host.schedule import Schedule, parse_schedule
from lab.functions_host.settings import is_disabled, resolve

SUPPORTED = ("eventGridTrigger", "http (out)", "httpTrigger", "queue (out)", "queueTrigger", "timerTrigger")
DEFAULT_CONNECTION = "AzureWebJobsStorage"


class AuthLevel(Enum):
    ANONYMOUS = "anonymous"
    FUNCTION = "function"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class HttpTrigger:
    parameter: str
    route: str
    methods: frozenset[str] | None  # None: all
    auth_level: AuthLevel


@dataclass(frozen=True, slots=True)
class TimerTrigger:
    parameter: str
    schedule: Schedule
    run_on_startup: bool
    use_monitor: bool


@dataclass(frozen=True, slots=True)
class QueueTrigger:
    parameter: str
    queue: str
    connection: str


@dataclass(frozen=True, slots=True)
class EventGridTrigger:
    parameter: str


Trigger = HttpTrigger | TimerTrigger | QueueTrigger | EventGridTrigger


@dataclass(frozen=True, slots=True)
class QueueOutput:
    """`parameter` is the argument's name, or `$return`."""

    parameter: str
    queue: str
    connection: str


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`max_retries` None: for ever. Fixed when `minimum_s == maximum_s`, else exponential between the two."""

    max_retries: int | None
    minimum_s: float
    maximum_s: float

    def delay_s(self, retry: int) -> float:
        """The pause before retry number `retry` (1 is the first)."""
        return min(self.maximum_s, self.minimum_s * 2.0 ** min(retry - 1, 62))


@dataclass(frozen=True, slots=True)
class Function:
    name: str
    function_id: str
    trigger: Trigger
    outputs: tuple[QueueOutput, ...]
    returns_http: bool
    retry: RetryPolicy | None
    disabled: bool
    raw_bindings: tuple[Mapping[str, Any], ...]
    remarks: tuple[str, ...] = ()


def read_functions(
    index: Sequence[RpcFunctionMetadata], settings: Mapping[str, str], only: frozenset[str] | None = None
) -> tuple[Function, ...]:
    """All functions of the index in the order of their names. Raises StartRefused."""
    if only is not None:
        unknown = sorted(only - {entry.name for entry in index})
        if unknown:
            raise StartRefused(
                f"host.json functions: {unknown[0]!r} is not in the app; {nearest(unknown[0], [e.name for e in index])}"
            )
    chosen = [entry for entry in index if only is None or entry.name in only]
    return tuple(sorted((read_function(entry, settings) for entry in chosen), key=lambda f: f.name.lower()))


def read_function(entry: RpcFunctionMetadata, settings: Mapping[str, str]) -> Function:
    place = f"function {entry.name!r}"
    raw = [json.loads(text) for text in entry.raw_bindings]
    trigger: Trigger | None = None
    outputs: list[QueueOutput] = []
    returns_http = False
    for binding in raw:
        kind = (str(binding["type"]), str(binding["direction"]).upper())
        where = f"{place}, binding {binding['name']!r}"
        match kind:
            case ("httpTrigger", "IN"):
                trigger = _once(trigger, _http(binding, entry.name, where), place)
            case ("timerTrigger", "IN"):
                trigger = _once(trigger, _timer(binding, settings, where), place)
            case ("queueTrigger", "IN"):
                queue, name = _queue(binding, settings, where)
                trigger = _once(trigger, QueueTrigger(str(binding["name"]), queue, name), place)
            case ("eventGridTrigger", "IN"):
                trigger = _once(trigger, EventGridTrigger(str(binding["name"])), place)
            case ("http", "OUT"):
                returns_http = True
            case ("queue", "OUT"):
                outputs.append(QueueOutput(str(binding["name"]), *_queue(binding, settings, where)))
            case (type_name, direction):
                raise StartRefused(
                    f"{where}: type {type_name!r} ({direction.lower()}) is not supported by this host; "
                    f"supported: {', '.join(SUPPORTED)}"
                )
    if trigger is None:
        raise StartRefused(f"{place} has no trigger; add one of {', '.join(s for s in SUPPORTED if 'Trigger' in s)}")
    if isinstance(trigger, HttpTrigger) and not returns_http:
        raise StartRefused(f"{place}: an HTTP function needs its 'http' output named '$return'; use @app.route")
    remarks = []
    if entry.retry_options is not None and not isinstance(trigger, TimerTrigger):
        remarks.append("the retry policy is ignored: Azure applies it to timers, not to this trigger")
    return Function(
        name=entry.name,
        function_id=entry.function_id,
        trigger=trigger,
        outputs=tuple(outputs),
        returns_http=returns_http,
        retry=_retry(entry.retry_options, place) if isinstance(trigger, TimerTrigger) else None,
        disabled=is_disabled(entry.name, settings),
        raw_bindings=tuple(raw),
        remarks=tuple(remarks),
    )


def _once(present: Trigger | None, new: Trigger, place: str) -> Trigger:
    if present is not None:
        raise StartRefused(f"{place} has two triggers; a function has exactly one")
    return new


def _http(binding: Mapping[str, Any], function: str, where: str) -> HttpTrigger:
    level = str(binding.get("authLevel", "FUNCTION")).lower()
    if level not in {member.value for member in AuthLevel}:
        raise StartRefused(f"{where}: authLevel {level!r}: {nearest(level, [member.value for member in AuthLevel])}")
    methods = binding.get("methods")
    return HttpTrigger(
        parameter=str(binding["name"]),
        route=str(binding.get("route", function)),
        methods=None if not methods else frozenset(str(method).upper() for method in methods),
        auth_level=AuthLevel(level),
    )


def _timer(binding: Mapping[str, Any], settings: Mapping[str, str], where: str) -> TimerTrigger:
    text = resolve(str(binding["schedule"]), settings, where)
    schedule = parse_schedule(text, where)
    return TimerTrigger(
        parameter=str(binding["name"]),
        schedule=schedule,
        run_on_startup=binding.get("runOnStartup") is True,
        # Azure drops the monitor for schedules under a minute: the status would change faster than it is useful.
        use_monitor=binding.get("useMonitor") is not False and schedule.shortest_gap >= timedelta(minutes=1),
    )


def _queue(binding: Mapping[str, Any], settings: Mapping[str, str], where: str) -> tuple[str, str]:
    queue = resolve(str(binding["queueName"]), settings, where).lower()
    name = str(binding.get("connection") or DEFAULT_CONNECTION)
    return queue, resolve(name, settings, where)


def _retry(options: RpcRetryOptions | None, place: str) -> RetryPolicy | None:
    if options is None:
        return None
    maximum = None if options.max_retry_count < 0 else options.max_retry_count
    match options.retry_strategy:
        case "fixed_delay" if options.delay_interval is not None:
            delay_s = options.delay_interval.total_seconds()
            return RetryPolicy(maximum, delay_s, delay_s)
        case "exponential_backoff" if options.minimum_interval is not None and options.maximum_interval is not None:
            return RetryPolicy(
                maximum, options.minimum_interval.total_seconds(), options.maximum_interval.total_seconds()
            )
        case strategy:
            raise StartRefused(
                f"{place}: retry strategy {strategy!r}; {nearest(strategy, ['fixed_delay', 'exponential_backoff'])}"
            )
