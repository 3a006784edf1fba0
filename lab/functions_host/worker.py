"""Drives Microsoft's worker library: index the app once, then invoke its functions.

Guarantee: `invoke` answers with a value whatever the function does; a function that calls sys.exit() or raises a
CancelledError fails its own invocation and cannot stop the host. Only a cancellation of our own task is passed on.
Limits: one app per process, once (the library keeps the index in module globals). A running function cannot be
interrupted; when `functionTimeout` passes the host says so in the log and goes on (Azure would restart the worker).
Sharp edges handled here are listed in docs/functions-host.md.
"""

import asyncio
import logging
import os
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import azure_functions_runtime as library

from lab.functions_host import protos
from lab.functions_host.bindings import Function
from lab.functions_host.errors import StartRefused

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Succeeded:
    return_value: protos.TypedData | None
    outputs: tuple[protos.ParameterBinding, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    message: str
    stack_trace: str


Outcome = Succeeded | Failed


@dataclass(frozen=True, slots=True)
class Running:
    function: str
    since_s: float  # monotonic


@dataclass(frozen=True, slots=True)
class Attempt:
    """Which try this is: `retry` 0 is the first; `max_retries` -1 stands for "for ever"."""

    retry: int = 0
    max_retries: int = 0
    last_failure: str = ""


class Worker:
    def __init__(self, function_timeout_s: float | None = None) -> None:
        self._function_timeout_s = function_timeout_s
        self._running: dict[str, Running] = {}

    async def load(self, app_dir: Path) -> Sequence[protos.RpcFunctionMetadata]:
        """Imports and indexes the app. The process' environment, sys.path and directory must be ready: see `enter`.

        Raises StartRefused with the library's message and stack when one function cannot be indexed.
        """
        library.start_threadpool_executor()
        request = protos.WorkerRequest(
            protos.StreamingMessage(worker_init_request=protos.WorkerInitRequest(str(app_dir))),
            {"host": "127.0.0.1", "protos": protos},
        )
        answer: protos.WorkerInitResponse = await library.worker_init_request(request)
        if answer.result.status != protos.StatusResult.Success:
            problem = answer.result.exception or protos.RpcException()
            raise StartRefused(f"the app in {app_dir} cannot be indexed: {problem.message}\n{problem.stack_trace}")
        if "HttpUri" in answer.capabilities:
            raise StartRefused(
                f"the app in {app_dir} uses HTTP streaming (the fastapi extension), which this host does not serve; "
                "use azure.functions.HttpRequest and HttpResponse"
            )
        index = (await library.functions_metadata_request(None)).function_metadata_results
        if index is None:
            script = os.environ.get("PYTHON_SCRIPT_FILE_NAME", "function_app.py")
            raise StartRefused(f"{app_dir / script} is missing; this host runs the Python v2 model only")
        return list(index)

    async def invoke(
        self,
        function: Function,
        data: protos.TypedData,
        metadata: Mapping[str, protos.TypedData],
        attempt: Attempt = Attempt(),
    ) -> Outcome:
        """One call of the user's function with the trigger's data."""
        invocation_id = str(uuid.uuid4())
        request = protos.WorkerRequest(
            protos.StreamingMessage(
                invocation_request=protos.InvocationRequest(
                    invocation_id=invocation_id,
                    function_id=function.function_id,
                    input_data=[protos.ParameterBinding(function.trigger.parameter, data)],
                    trigger_metadata=metadata,
                    retry_context=protos.RetryContext(
                        attempt.retry, attempt.max_retries, protos.RpcException(message=attempt.last_failure)
                    ),
                )
            )
        )
        # The library sets its context variable for sync functions only, in their thread.
        token = library.invocation_id_cv.set(invocation_id)
        self._running[invocation_id] = Running(function.name, time.monotonic())
        watch = self._watch_time(function.name, invocation_id)
        try:
            return await self._guarded(request)
        finally:
            if watch is not None:
                watch.cancel()
            del self._running[invocation_id]
            library.invocation_id_cv.reset(token)

    @staticmethod
    async def _guarded(request: protos.WorkerRequest) -> Outcome:
        try:
            answer: protos.InvocationResponse = await library.invocation_request(request)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return Failed(f"CancelledError raised by the function: {error}", "")
        except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:
            # The library catches Exception only; these would end the host's loop with every other request.
            return Failed(f"{type(error).__name__} raised by the function: {error}", "")
        if answer.result.status == protos.StatusResult.Success:
            return Succeeded(answer.return_value, tuple(answer.output_data))
        problem = answer.result.exception or protos.RpcException()
        return Failed(problem.message, problem.stack_trace)

    def _watch_time(self, function: str, invocation_id: str) -> asyncio.TimerHandle | None:
        if self._function_timeout_s is None:
            return None
        return asyncio.get_running_loop().call_later(
            self._function_timeout_s,
            log.error,
            "function %s has run longer than functionTimeout (%g s); invocation %s cannot be interrupted",
            function,
            self._function_timeout_s,
            invocation_id,
        )

    def running(self) -> tuple[Running, ...]:
        return tuple(self._running.values())

    def function_of(self, invocation_id: str) -> str | None:
        """The function a log line belongs to; None when the invocation is over."""
        entry = self._running.get(invocation_id)
        return None if entry is None else entry.function


def enter(app_dir: Path, settings: Mapping[str, str]) -> None:
    """Makes this process the app's: directory, import path and environment, as apps read settings at import."""
    os.environ.update(settings)
    os.chdir(app_dir)
    sys.path.insert(0, str(app_dir))
