"""One execution of a function from any trigger: invoke, retry where the trigger has a policy, deliver outputs, log.

Guarantee: `run` answers Succeeded only when the function returned and every output is stored; everything else is a
Failed with its reason in the log. `drain` tells when nothing runs any more.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping

from azure.core.exceptions import AzureError

from lab.functions_host import protos
from lab.functions_host.bindings import Function
from lab.functions_host.outputs import OutputRefused, Outputs
from lab.functions_host.worker import Attempt, Failed, Outcome, Succeeded, Worker

log = logging.getLogger(__name__)

Pause = Callable[[float], Awaitable[None]]


class Execution:
    """`pause` waits between retries (injectable for tests)."""

    def __init__(self, worker: Worker, outputs: Outputs, pause: Pause = asyncio.sleep) -> None:
        self._worker = worker
        self._outputs = outputs
        self._pause = pause
        self._count = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(
        self, function: Function, data: protos.TypedData, metadata: Mapping[str, protos.TypedData], reason: str
    ) -> Outcome:
        """`reason` names the trigger in the log ("http", "timer", "queue", "eventgrid", "admin")."""
        self._count += 1
        self._idle.clear()
        try:
            return await self._with_retries(function, data, metadata, reason)
        finally:
            self._count -= 1
            if self._count == 0:
                self._idle.set()

    async def _with_retries(
        self, function: Function, data: protos.TypedData, metadata: Mapping[str, protos.TypedData], reason: str
    ) -> Outcome:
        policy = function.retry
        limit = 0 if policy is None else -1 if policy.max_retries is None else policy.max_retries
        retry, last_failure = 0, ""
        while True:
            outcome = await self._once(function, data, metadata, reason, Attempt(retry, limit, last_failure))
            if isinstance(outcome, Succeeded) or policy is None or 0 <= limit <= retry:
                return outcome
            retry, last_failure = retry + 1, outcome.message
            await self._pause(policy.delay_s(retry))

    async def _once(
        self,
        function: Function,
        data: protos.TypedData,
        metadata: Mapping[str, protos.TypedData],
        reason: str,
        attempt: Attempt,
    ) -> Outcome:
        started_s = time.monotonic()
        outcome = await self._worker.invoke(function, data, metadata, attempt)
        if isinstance(outcome, Succeeded) and function.outputs:
            try:
                await self._outputs.deliver(function, outcome)
            except (OutputRefused, AzureError) as error:
                outcome = Failed(f"output not delivered: {type(error).__name__}: {error}", "")
        fields = {
            "function": function.name,
            "trigger": reason,
            "ms": round((time.monotonic() - started_s) * 1000, 1),
            "retry": attempt.retry,
        }
        match outcome:
            case Succeeded():
                log.info("executed %s: succeeded", function.name, extra={"fields": fields})
            case Failed(message, stack_trace):
                log.error(
                    "executed %s: failed: %s",
                    function.name,
                    message,
                    extra={"fields": {**fields, "stack": stack_trace}},
                )
        return outcome

    async def drain(self, grace_s: float) -> bool:
        """Waits until nothing runs, at most `grace_s`. False: something still runs."""
        try:
            async with asyncio.timeout(grace_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True
