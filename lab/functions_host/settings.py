"""What configures a function app: host.json, local.settings.json, application settings, `%NAME%` and connections.

Guarantee: a word of host.json that neither the Azure host nor this one knows refuses the start and offers the nearest
valid one; words the Azure host knows and this one does not act on are reported once (`HostJson.not_applied`).
Limits: the environment wins over local.settings.json, as with Microsoft's tools; encrypted local settings are refused.
Source: the public Functions host and storage extension (names, defaults), .NET's TimeSpan for durations.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lab.functions_host.errors import StartRefused, nearest

# The well-known development account, public and documented, which `UseDevelopmentStorage=true` stands for.
DEVELOPMENT_STORAGE = (
    "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;"
    "AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;"
    "BlobEndpoint=http://127.0.0.1:10000/devstoreaccount1;"
    "QueueEndpoint=http://127.0.0.1:10001/devstoreaccount1;"
    "TableEndpoint=http://127.0.0.1:10002/devstoreaccount1;"
)
MAX_BATCH = 32  # limit of Get Messages in Queue Storage
_TIMESPAN = re.compile(r"(?:(\d+)\.)?(\d{1,2}):(\d{1,2}):(\d{1,2})(?:\.(\d{1,7}))?")


def parse_timespan(text: str, place: str) -> timedelta:
    """A .NET TimeSpan `[d.]hh:mm:ss[.fffffff]`. Raises StartRefused, naming `place`.

    .NET reads "24:00:00" as 24 days; here hours above 23 are refused, because nobody means that.
    """
    match = _TIMESPAN.fullmatch(text)
    if match is None:
        raise StartRefused(f"{place}: {text!r} is not a TimeSpan; write [days.]hours:minutes:seconds, e.g. 00:00:30")
    days, hours, minutes, seconds, fraction = match.groups()
    if int(hours) > 23 or int(minutes) > 59 or int(seconds) > 59:
        raise StartRefused(f"{place}: {text!r} is out of range; write days as d.hh:mm:ss (hours 0-23)")
    return timedelta(
        days=int(days or 0),
        hours=int(hours),
        minutes=int(minutes),
        seconds=int(seconds),
        microseconds=int((fraction or "0").ljust(7, "0")) // 10,
    )


# --- host.json ------------------------------------------------------------------------------------------------------


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Http(_Section):
    routePrefix: str = "api"
    maxOutstandingRequests: Any = None
    maxConcurrentRequests: Any = None
    dynamicThrottlesEnabled: Any = None
    hsts: Any = None
    customHeaders: Any = None


class _Queues(_Section):
    maxPollingInterval: str = "00:01:00"
    visibilityTimeout: str = "00:00:00"
    batchSize: int = Field(default=16, ge=1, le=MAX_BATCH)
    newBatchThreshold: int | None = Field(default=None, ge=0)
    maxDequeueCount: int = Field(default=5, ge=1)
    messageEncoding: str = Field(default="base64", pattern="^(?i:base64|none)$")


class _Extensions(BaseModel):
    model_config = ConfigDict(
        extra="allow", frozen=True
    )  # other extensions may be configured; their bindings are refused

    http: _Http = _Http()
    queues: _Queues = _Queues()


class _HostFile(_Section):
    version: str
    functionTimeout: str | None = None
    extensions: _Extensions = _Extensions()
    logging: dict[str, Any] = {}
    functions: list[str] | None = None
    # Known to the Azure host, without effect here.
    extensionBundle: Any = None
    telemetryMode: Any = None
    retry: Any = None
    watchDirectories: Any = None
    watchFiles: Any = None
    singleton: Any = None
    aggregator: Any = None
    healthMonitor: Any = None
    managedDependency: Any = None
    customHandler: Any = None
    concurrency: Any = None
    metadataProviderTimeout: Any = None


_LEVELS = {
    "trace": "DEBUG",
    "debug": "DEBUG",
    "information": "INFO",
    "warning": "WARNING",
    "error": "ERROR",
    "critical": "CRITICAL",
    "none": "CRITICAL",
}


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """`extensions.queues`, with the defaults of the storage extension."""

    max_polling_interval_s: float = 60.0
    visibility_timeout_s: int = 0
    batch_size: int = 16
    new_batch_threshold: int = 8
    max_dequeue_count: int = 5
    base64: bool = True


@dataclass(frozen=True, slots=True)
class HostJson:
    route_prefix: str = "api"
    function_timeout_s: float | None = None  # None: no limit
    queues: QueueSettings = QueueSettings()
    log_level: str = "INFO"
    only_functions: frozenset[str] | None = None  # host.json "functions": run only these
    not_applied: tuple[str, ...] = field(default=())


def parse_host_json(text: str, place: str = "host.json") -> HostJson:
    """Raises StartRefused for JSON errors, unknown words and values out of range."""
    try:
        file = _HostFile.model_validate(_json_object(text, place))
    except ValidationError as error:
        raise StartRefused(_explain(error, place)) from None
    if file.version != "2.0":
        raise StartRefused(f'{place}: version {file.version!r} is not supported; write "2.0"')
    q = file.extensions.queues
    polling_s = parse_timespan(q.maxPollingInterval, f"{place} extensions.queues.maxPollingInterval").total_seconds()
    if polling_s < 0.1:
        raise StartRefused(f"{place}: extensions.queues.maxPollingInterval must be at least 00:00:00.1")
    visibility = parse_timespan(q.visibilityTimeout, f"{place} extensions.queues.visibilityTimeout")
    timeout_s: float | None = None
    if file.functionTimeout not in (None, "-1"):
        timeout_s = parse_timespan(str(file.functionTimeout), f"{place} functionTimeout").total_seconds()
    level = str(file.logging.get("logLevel", {}).get("default", "Information"))
    if level.lower() not in _LEVELS:
        raise StartRefused(f"{place}: logging.logLevel.default {level!r} is unknown; {nearest(level, _LEVELS)}")
    threshold = q.newBatchThreshold
    if threshold is None:
        threshold = q.batchSize // 2 * (os.cpu_count() or 1)
    return HostJson(
        route_prefix=file.extensions.http.routePrefix.strip("/"),
        function_timeout_s=timeout_s,
        queues=QueueSettings(
            max_polling_interval_s=polling_s,
            visibility_timeout_s=int(visibility.total_seconds()),
            batch_size=q.batchSize,
            new_batch_threshold=threshold,
            max_dequeue_count=q.maxDequeueCount,
            base64=q.messageEncoding.lower() == "base64",
        ),
        log_level=_LEVELS[level.lower()],
        only_functions=None if file.functions is None else frozenset(file.functions),
        not_applied=_not_applied(file),
    )


def _not_applied(file: _HostFile) -> tuple[str, ...]:
    acted_on = {"version", "functionTimeout", "extensions", "logging", "functions"}
    names = [name for name in file.model_fields_set if name not in acted_on]
    names += [f"extensions.http.{name}" for name in file.extensions.http.model_fields_set - {"routePrefix"}]
    names += [f"extensions.{name}" for name in file.extensions.model_extra or {}]
    names += [f"logging.{name}" for name in file.logging if name != "logLevel"]
    names += [f"logging.logLevel.{name}" for name in file.logging.get("logLevel", {}) if name != "default"]
    return tuple(sorted(names))


def _explain(error: ValidationError, place: str) -> str:
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] != "extra_forbidden":
        return f"{place}: {where}: {problem['msg']}"
    section: type[BaseModel] = _HostFile
    for part in problem["loc"][:-1]:
        annotation = section.model_fields[str(part)].annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            section = annotation
    return f"{place}: {where} is not a known word; {nearest(str(problem['loc'][-1]), section.model_fields)}"


def _json_object(text: str, place: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise StartRefused(f"{place} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise StartRefused(f"{place} must be a JSON object, is {type(value).__name__}")
    return value


# --- application settings -------------------------------------------------------------------------------------------


def local_settings(text: str, place: str = "local.settings.json") -> dict[str, str]:
    """The `Values` of local.settings.json, as text."""
    file = _json_object(text, place)
    if file.get("IsEncrypted"):
        raise StartRefused(f"{place} is encrypted, which needs Microsoft's tools; decrypt it (func settings decrypt)")
    values = file.get("Values", {})
    if not isinstance(values, dict):
        raise StartRefused(f"{place}: Values must be an object of texts")
    for name, value in values.items():
        if not isinstance(value, str | int | float | bool):
            raise StartRefused(f"{place}: Values.{name} must be a text, is {type(value).__name__}")
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}


def read_app(app_dir: Path, environ: Mapping[str, str]) -> tuple[HostJson, dict[str, str]]:
    """host.json (required) and the settings: `environ` over local.settings.json (optional)."""
    host_file = app_dir / "host.json"
    if not host_file.is_file():
        raise StartRefused(f"{host_file} is missing; a function app has host.json and function_app.py in one directory")
    settings: dict[str, str] = {}
    local_file = app_dir / "local.settings.json"
    if local_file.is_file():
        settings = local_settings(local_file.read_text("utf-8"), str(local_file))
    return parse_host_json(host_file.read_text("utf-8"), str(host_file)), settings | dict(environ)


def resolve(text: str, settings: Mapping[str, str], place: str) -> str:
    """Replaces every `%NAME%` by the setting NAME. Raises StartRefused for a missing one."""

    def replacement(match: re.Match[str]) -> str:
        if match[1] not in settings:
            raise StartRefused(f"{place}: {match[0]} names the application setting {match[1]!r}, which does not exist")
        return settings[match[1]]

    return re.sub(r"%([^%\s]+)%", replacement, text)


def is_disabled(function: str, settings: Mapping[str, str]) -> bool:
    """`AzureWebJobs.<name>.Disabled`, or with double underscores where dots are not possible."""
    for name in (f"AzureWebJobs.{function}.Disabled", f"AzureWebJobs__{function}__Disabled"):
        if settings.get(name, "").strip().lower() in {"1", "true"}:
            return True
    return False


@dataclass(frozen=True, slots=True)
class ConnectionString:
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class IdentityConnection:
    """`<name>__queueServiceUri` with the managed identity (`<name>__clientId` when user-assigned)."""

    queue_service_uri: str
    client_id: str | None


Connection = ConnectionString | IdentityConnection


def connection(name: str, settings: Mapping[str, str], place: str) -> Connection:
    """The storage connection `name`; a bare name may also be stored as AzureWebJobs<name>, as in Azure."""
    for setting in (name, f"AzureWebJobs{name}"):
        if settings.get(setting):
            value = settings[setting]
            is_development = value.strip().rstrip(";").lower() == "usedevelopmentstorage=true"
            return ConnectionString(DEVELOPMENT_STORAGE if is_development else value)
        uri = settings.get(f"{setting}__queueServiceUri")
        if uri:
            return IdentityConnection(uri.rstrip("/"), settings.get(f"{setting}__clientId"))
        if settings.get(f"{setting}__accountName"):
            account = settings[f"{setting}__accountName"]
            return IdentityConnection(f"https://{account}.queue.core.windows.net", settings.get(f"{setting}__clientId"))
    raise StartRefused(
        f"{place}: the storage connection {name!r} is not configured; set {name} to a connection string "
        f"or {name}__queueServiceUri to the queue endpoint"
    )
