"""Stand-ins for the messages between the Functions host and its Python worker library.

Problem: `azure-functions-runtime` builds and reads the messages of Microsoft's FunctionRpc.proto, but it takes the
module that defines them as an argument and never asks for gRPC. Generated protobuf classes work and cost a build step
and time.
Guarantee: every class here takes exactly the fields the library may set. An unknown field raises TypeError
(constructor) or AttributeError (assignment), so that a new library version cannot lose data silently; the contract
test compares the names the library uses with `LIBRARY_NAMES`.
Limits: unset fields of a `oneof` are None, as `WhichOneof` needs; enum members are ints. `TypedData` must not have an
attribute `TypedData`: the library probes for one to tell a wrapper from the message.
Source: FunctionRpc.proto of azure-functions-language-worker-protobuf, and the library's use of it (1.3.0).
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import IntEnum
from typing import ClassVar

LIBRARY_NAMES = frozenset(
    {
        "BindingInfo",
        "FunctionEnvironmentReloadResponse",
        "FunctionLoadResponse",
        "FunctionMetadataResponse",
        "InvocationResponse",
        "NullableBool",
        "NullableDouble",
        "NullableString",
        "NullableTimestamp",
        "ParameterBinding",
        "RpcException",
        "RpcFunctionMetadata",
        "RpcHttp",
        "RpcHttpCookie",
        "RpcRetryOptions",
        "StatusResult",
        "Timestamp",
        "TypedData",
        "WorkerInitResponse",
        "WorkerMetadata",
    }
)
"""The names the library asks of this module (with `getattr` for Timestamp)."""

# --- values ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class NullableString:
    value: str = ""


@dataclass(slots=True)
class NullableBool:
    value: bool = False


@dataclass(slots=True)
class NullableDouble:
    value: float = 0.0


@dataclass(slots=True)
class Timestamp:
    seconds: int = 0
    nanos: int = 0


@dataclass(slots=True)
class NullableTimestamp:
    value: Timestamp = field(default_factory=Timestamp)


class SameSite(IntEnum):
    """`RpcHttpCookie.SameSite`. The member `None` of the .proto cannot be spelt in Python: see below."""

    Unset = 0
    Lax = 1
    Strict = 2
    ExplicitNone = 3


# The library reads the default with getattr(SameSite, "None"); an enum body cannot define that name.
type.__setattr__(SameSite, "None", SameSite.Unset)


@dataclass(slots=True)
class RpcHttpCookie:
    SameSite: ClassVar[type[SameSite]] = SameSite

    name: str = ""
    value: str = ""
    domain: NullableString | None = None
    path: NullableString | None = None
    expires: NullableTimestamp | None = None
    secure: NullableBool | None = None
    http_only: NullableBool | None = None
    same_site: int = 0
    max_age: NullableDouble | None = None


@dataclass(slots=True)
class RpcHttp:
    """Request (method, url, headers, params, query, body) and response (status_code, headers, cookies, body) in one."""

    method: str = ""
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    body: TypedData = field(default_factory=lambda: TypedData())
    status_code: str = ""
    enable_content_negotiation: bool = False
    cookies: Sequence[RpcHttpCookie] | None = None


@dataclass(slots=True)
class TypedData:
    """A `oneof`: at most one field is not None. Collections and deferred ("model binding") data are not carried."""

    string: str | None = None
    json: str | None = None
    bytes: builtins.bytes | None = None
    http: RpcHttp | None = None
    int: builtins.int | None = None
    double: float | None = None

    def __post_init__(self) -> None:
        given = [name for name in _KINDS if getattr(self, name) is not None]
        if len(given) > 1:
            raise TypeError(f"TypedData holds one kind of data, got {', '.join(given)}")

    def WhichOneof(self, oneof: str) -> str | None:
        if oneof != "data":
            raise ValueError(f"TypedData has the oneof 'data', not {oneof!r}")
        return next((name for name in _KINDS if getattr(self, name) is not None), None)


_KINDS = ("string", "json", "bytes", "http", "int", "double")


@dataclass(slots=True)
class ParameterBinding:
    name: str = ""
    data: TypedData | None = None

    def WhichOneof(self, oneof: str) -> str | None:
        if oneof != "rpc_data":
            raise ValueError(f"ParameterBinding has the oneof 'rpc_data', not {oneof!r}")
        return None if self.data is None else "data"


# --- index ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class BindingInfo:
    # The library compares these with the numbers of azure.functions' BindingDirection and DataType.
    out: ClassVar[int] = 1
    inout: ClassVar[int] = 2
    undefined: ClassVar[int] = 0

    type: str = ""
    data_type: object = 0
    direction: object = 0


@dataclass(slots=True)
class RpcRetryOptions:
    max_retry_count: int = 0
    retry_strategy: str = ""
    delay_interval: timedelta | None = None
    minimum_interval: timedelta | None = None
    maximum_interval: timedelta | None = None


@dataclass(slots=True)
class RpcFunctionMetadata:
    name: str = ""
    function_id: str = ""
    directory: str = ""
    script_file: str = ""
    entry_point: str = ""
    managed_dependency_enabled: bool = False
    is_proxy: bool = False
    language: str = ""
    bindings: Mapping[str, BindingInfo] = field(default_factory=dict)
    raw_bindings: Sequence[str] = ()
    retry_options: RpcRetryOptions | None = None
    properties: Mapping[str, str] = field(default_factory=dict)


# --- answers of the library -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class RpcException:
    message: str = ""
    stack_trace: str = ""
    source: str = ""


@dataclass(slots=True)
class StatusResult:
    Failure: ClassVar[int] = 0
    Success: ClassVar[int] = 1

    status: int = 0
    exception: RpcException | None = None


@dataclass(slots=True)
class WorkerMetadata:
    runtime_name: str = ""
    runtime_version: str = ""
    worker_version: str = ""
    worker_bitness: str = ""
    custom_properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class WorkerInitResponse:
    capabilities: Mapping[str, str] = field(default_factory=dict)
    worker_metadata: WorkerMetadata | None = None
    result: StatusResult = field(default_factory=StatusResult)


@dataclass(slots=True)
class FunctionMetadataResponse:
    use_default_metadata_indexing: bool = False
    function_metadata_results: Sequence[RpcFunctionMetadata] | None = None
    result: StatusResult = field(default_factory=StatusResult)


@dataclass(slots=True)
class FunctionLoadResponse:
    function_id: str = ""
    result: StatusResult = field(default_factory=StatusResult)


@dataclass(slots=True)
class FunctionEnvironmentReloadResponse:
    capabilities: Mapping[str, str] = field(default_factory=dict)
    worker_metadata: WorkerMetadata | None = None
    result: StatusResult = field(default_factory=StatusResult)


@dataclass(slots=True)
class InvocationResponse:
    invocation_id: str = ""
    return_value: TypedData | None = None
    output_data: Sequence[ParameterBinding] = ()
    result: StatusResult = field(default_factory=StatusResult)


# --- what the host sends --------------------------------------------------------------------------------------------


@dataclass(slots=True)
class RpcTraceContext:
    trace_parent: str = ""
    trace_state: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class RetryContext:
    retry_count: int = 0
    max_retry_count: int = 0
    exception: RpcException = field(default_factory=RpcException)


@dataclass(slots=True)
class InvocationRequest:
    invocation_id: str
    function_id: str
    input_data: Sequence[ParameterBinding]
    trigger_metadata: Mapping[str, TypedData] = field(default_factory=dict)
    trace_context: RpcTraceContext = field(default_factory=RpcTraceContext)
    retry_context: RetryContext = field(default_factory=RetryContext)


@dataclass(slots=True)
class WorkerInitRequest:
    function_app_directory: str
    capabilities: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class StreamingMessage:
    """The envelope: the library reads `request.request.<kind>`; at most one kind is set."""

    worker_init_request: WorkerInitRequest | None = None
    invocation_request: InvocationRequest | None = None


@dataclass(slots=True)
class WorkerRequest:
    """What each entry point of the library takes."""

    request: StreamingMessage
    properties: Mapping[str, object] = field(default_factory=dict)
