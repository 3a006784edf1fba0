"""What all request handlers share: state, provider, faults, clock, and the running of long operations.

An accepted write, delete or action becomes an `Operation`: a task that waits its delay, does the physical work, and
settles the resource as Succeeded or Failed with the error Azure would show. An event is emitted for every settled
operation. Cancelling (shutdown) leaves the operation InProgress in the file; the next start turns it into Failed.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lab.arm.errors import ArmError, MissingResource, group_not_found
from lab.arm.events import EventSink, ResourceEvent
from lab.arm.faults import Faults, OperationFault
from lab.arm.physical import Physical
from lab.arm.provider import Provider, ProviderFailure
from lab.arm.state import DELETING, FAILED, IN_PROGRESS, SUCCEEDED, Group, Operation, Resource, State, StateFile

log = logging.getLogger(__name__)

Work = Callable[[], Awaitable[dict[str, Any] | None]]


@dataclass(frozen=True, slots=True)
class Timing:
    """How long operations take before their physical work, and what the client is told to wait between polls.

    Azure takes seconds to minutes; the lab only has to be slower than one request, so that clients must poll.
    """

    write_s: float = 0.3
    delete_s: float = 0.2
    machine_s: float = 0.6
    action_s: float = 0.3
    retry_after_s: int | None = 1  # None: no header; the client's own polling interval counts


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    body: dict[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def utc_now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Core:
    def __init__(
        self,
        *,
        subscription_id: str,
        provider: Provider,
        file: StateFile,
        timing: Timing,
        emit: EventSink,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self.subscription_id = subscription_id
        self.provider = provider
        self.state: State = file.load(utc_now())
        self.physical = Physical(self.state, provider)
        self.faults = Faults()
        self.timing = timing
        self.base_url = "https://management.azure.com"  # set by the server to where it listens
        self.acting: dict[str, str] = {}  # VM id (lower case) → action under way, for the transitional power states
        self._file = file
        self._emit = emit
        self._sleep = sleep
        self._tasks: dict[str, asyncio.Task[None]] = {}

    # --- looking up ------------------------------------------------------------------------------------------------
    def group(self, name: str) -> Group:
        """Raises `ArmError` ResourceGroupNotFound."""
        found = self.state.groups.get(name.lower())
        if found is None:
            raise group_not_found(name)
        return found

    def writable_group(self, name: str) -> Group:
        group = self.group(name)
        if group.state == DELETING:
            raise ArmError(
                409,
                "ResourceGroupBeingDeleted",
                f"The resource group '{group.name}' is in deprovisioning state and cannot perform this operation.",
            )
        return group

    # --- operations ------------------------------------------------------------------------------------------------
    def start(
        self,
        *,
        verb: str,
        method: str,
        operation_name: str,
        target: Resource | Group,
        delay_s: float,
        fault: OperationFault,
        work: Work,
        settle: Callable[[ArmError | None], None],
    ) -> Operation:
        """Begin the long part of an accepted request. `settle` gets None or the failure; it must not await."""
        resource = target if isinstance(target, Resource) else None
        operation = Operation(
            id=str(uuid.uuid4()),
            subscription=self.subscription_id,
            namespace=resource.rid.namespace if resource else "Microsoft.Resources",
            location=target.location,
            verb=verb,
            resource_id=target.id,
            started_at=utc_now(),
            lost=fault.lost,
        )
        self.state.operations[operation.id] = operation
        target.operation = operation.id

        async def run() -> None:
            await self._sleep(delay_s + fault.delay_s)
            error = fault.failure
            if error is None:
                error = await self._attempt(operation, work)
            if target.operation == operation.id:
                target.operation = None
            settle(error)
            operation.status = SUCCEEDED if error is None else FAILED
            operation.error = None if error is None else error.error_object()
            operation.ended_at = utc_now()
            self.save()
            self.emit(verb, method, operation_name, target.id, succeeded=error is None, correlation=operation.id)

        task = asyncio.create_task(run(), name=f"arm {operation_name} {target.id}")
        self._tasks[operation.id] = task
        task.add_done_callback(lambda done: self._ended(operation.id, done))
        self.save()
        return operation

    async def _attempt(self, operation: Operation, work: Work) -> ArmError | None:
        try:
            operation.output = await work()
        except ArmError as error:
            return error
        except ProviderFailure as failure:
            return ArmError(409, failure.code, failure.message)
        except MissingResource as error:
            return ArmError(404, "NotFound", str(error))
        except Exception as error:  # supervised: a broken provider must end the operation, not hang its client
            log.exception("operation %s %s broke", operation.verb, operation.resource_id)
            return ArmError(500, "InternalServerError", f"{type(error).__name__}: {error}")
        return None

    def _ended(self, operation_id: str, task: asyncio.Task[None]) -> None:
        self._tasks.pop(operation_id, None)
        if not task.cancelled() and task.exception() is not None:
            log.error("settling operation %s failed", operation_id, exc_info=task.exception())

    async def wait_for(self, operation_ids: list[str]) -> None:
        tasks = [self._tasks[id_text] for id_text in operation_ids if id_text in self._tasks]
        if tasks:
            await asyncio.wait(tasks)

    async def idle(self) -> None:
        """Returns when no operation is under way."""
        while self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    async def close(self) -> None:
        """Stop every operation where it is and save."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.save()

    def emit(
        self, verb: str, method: str, operation_name: str, resource_id: str, *, succeeded: bool, correlation: str
    ) -> None:
        word = {"write": "Write", "delete": "Delete"}.get(verb, "Action")
        self._emit(
            ResourceEvent(
                word, succeeded, operation_name, method, resource_id, self.subscription_id, correlation, utc_now()
            )
        )

    def save(self) -> None:
        self._file.save(self.state)

    # --- answers about operations ----------------------------------------------------------------------------------
    def accepted(self, operation: Operation, api_version: str, *, status: int, body: dict[str, Any] | None) -> Response:
        """The answer that starts polling: both headers, because operations differ in which one their client reads."""
        base = f"{self.base_url}/subscriptions/{self.subscription_id}"
        headers = self.retry_header()
        if operation.namespace == "Microsoft.Resources":
            headers["Location"] = f"{base}/operationresults/{operation.id}?api-version={api_version}"
        else:
            place = f"{base}/providers/{operation.namespace}/locations/{operation.location}"
            headers["Azure-AsyncOperation"] = f"{place}/operations/{operation.id}?api-version={api_version}"
            if status == 202 and operation.verb != "write":
                headers["Location"] = f"{place}/operationResults/{operation.id}?api-version={api_version}"
        return Response(status, body, headers)

    def retry_header(self) -> dict[str, str]:
        seconds = self.timing.retry_after_s
        return {} if seconds is None else {"Retry-After": str(seconds)}

    def operation(self, operation_id: str) -> Operation:
        """Raises `ArmError` 404 for an unknown (or lost, or forgotten) operation."""
        found = self.state.operations.get(operation_id)
        if found is None or found.lost:
            raise ArmError(404, "OperationNotFound", f"The operation '{operation_id}' was not found.")
        return found

    def operation_status(self, operation_id: str) -> Response:
        """GET on the Azure-AsyncOperation address."""
        operation = self.operation(operation_id)
        body: dict[str, Any] = {
            "name": operation.id,
            "startTime": operation.started_at,
            "status": operation.status,
        }
        if operation.ended_at is not None:
            body["endTime"] = operation.ended_at
        if operation.error is not None:
            body["error"] = operation.error
        if operation.output is not None:
            body["properties"] = {"output": operation.output}
        return Response(200, body, self.retry_header() if operation.status == IN_PROGRESS else {})

    def operation_result(self, operation_id: str, api_version: str) -> Response:
        """GET on the Location address: 202 until done, then the result, nothing, or the error."""
        operation = self.operation(operation_id)
        match operation.status:
            case "InProgress":
                return self.accepted(operation, api_version, status=202, body=None)
            case "Succeeded":
                return Response(204) if operation.output is None else Response(200, operation.output)
            case _:
                return Response(409, {"error": operation.error})
