"""The node's answer to the load balancer: 200 only where the application serves, computed when the answer is given.

Problem: a probe answer that was right a second ago sends clients to a node that may no longer serve.
Guarantee: the callable given by the supervisor is asked for every request, after the request has arrived; if it raises,
the answer is 503. `/health` speaks the rich health states of Azure's application-health extension: always 2xx, the
state is in the body.
Limits: plain HTTP, GET and HEAD only, no names of files, no secrets; whatever the supervisor puts into `health` is
redacted once more. Runs on the supervisor's loop: `start`, `stop`.
Sources: probe path and port as in SafeKit's cloud templates; body of /health as in "Application Health extension,
rich health states" (Azure documentation).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from aiohttp import web

from mirror_agent.contract import MODULE_NAME, PROBE_PORT, Phase, Role
from mirror_agent.eventlog import RecordEvent
from mirror_agent.redaction import redact, redact_text
from mirror_agent.web.listening import Listening, listen

# The source of every probe of an Azure load balancer ("What is IP address 168.63.129.16?", Azure documentation).
PLATFORM_ADDRESS: Final = "168.63.129.16"
SERVING_ROLES: Final = frozenset({Role.PRIM, Role.ALONE, Role.UP})
_KEEPALIVE_S: Final = 5.0


class HealthState(StrEnum):
    """`ApplicationHealthState` of Azure's application-health extension."""

    HEALTHY = "Healthy"
    UNHEALTHY = "Unhealthy"
    INITIALIZING = "Initializing"
    UNKNOWN = "Unknown"


@dataclass(frozen=True)
class ProbeAnswer:
    """`ok` decides 200 or 503; `reason` is the one sentence beside a 503; `health` is added to the body of /health."""

    ok: bool
    role: Role
    phase: Phase
    epoch: int
    reason: str
    health: Mapping[str, object] = field(default_factory=dict)


def health_state(answer: ProbeAnswer) -> HealthState:
    """Is this machine fit for its part? A replica that is ready does not serve and is healthy all the same."""
    if answer.role is Role.UP and answer.phase is Phase.NOT_READY:
        return HealthState.UNHEALTHY
    if answer.role in SERVING_ROLES:
        if answer.ok:
            return HealthState.HEALTHY
        return HealthState.UNHEALTHY if answer.phase is Phase.READY else HealthState.INITIALIZING
    match answer.role, answer.phase:
        case (Role.SECOND, Phase.READY):
            return HealthState.HEALTHY
        case (_, Phase.TRANSIENT):
            return HealthState.INITIALIZING
        case (Role.STOP, _):
            return HealthState.UNKNOWN
        case _:
            return HealthState.UNHEALTHY


class ProbeServer:
    def __init__(
        self,
        answer: Callable[[], ProbeAnswer],
        *,
        application_name: str,
        log: RecordEvent,
        host: str = "0.0.0.0",
        port: int = PROBE_PORT,
        on_load_balancer: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_load_balancer` is called when a probe of the load balancer has got its answer."""
        self._answer = answer
        self._on_load_balancer = on_load_balancer
        self._names = {MODULE_NAME, application_name}
        self._log = log
        self._host = host
        self._port = port
        self._open: Listening | None = None

    async def start(self) -> int:
        """Listen; answers the port. OSError when it is taken, with the remedy in the message."""
        application = web.Application(client_max_size=1024)
        for name in sorted(self._names):
            application.router.add_get(f"/var/modules/{name}/ready.txt", self._ready)
        application.router.add_get("/health", self._health)
        application.on_response_prepare.append(_plain_headers)
        try:
            self._open = await listen(application, self._host, self._port, keepalive_s=_KEEPALIVE_S)
        except OSError as error:
            raise OSError(
                error.errno,
                f"the probe cannot listen on {self._host}:{self._port} ({error.strerror}); "
                f"find the program that holds the port with: ss -ltnp 'sport = :{self._port}'",
            ) from error
        return self._open.port

    async def stop(self) -> None:
        if self._open is not None:
            listening, self._open = self._open, None
            await listening.stop()

    def _ask(self) -> ProbeAnswer | None:
        try:
            return self._answer()
        except Exception as error:  # noqa: BLE001 - a failing answer must read "do not send clients here", and be seen
            self._log("probe.answer-failed", error=f"{type(error).__name__}: {error}")
            return None

    async def _ready(self, request: web.Request) -> web.Response:
        answer = self._ask()
        if request.remote == PLATFORM_ADDRESS:
            self._on_load_balancer()
        if answer is None:
            return web.Response(status=503, text="the node cannot tell its state\n")
        headers = {"X-Mirrorplane-Role": answer.role.value, "X-Mirrorplane-Epoch": str(answer.epoch)}
        if answer.ok:
            return web.Response(status=200, text="OK", headers=headers)
        return web.Response(status=503, text=f"{redact_text(answer.reason)}\n", headers=headers)

    async def _health(self, _request: web.Request) -> web.Response:
        answer = self._ask()
        if answer is None:
            return web.json_response({"ApplicationHealthState": HealthState.UNKNOWN.value})
        extra = redact(answer.health)
        assert isinstance(extra, dict)
        body = {
            **extra,
            "ApplicationHealthState": health_state(answer).value,
            "serving": answer.ok,
            "role": answer.role.value,
            "phase": answer.phase.value,
            "epoch": answer.epoch,
            "reason": redact_text(answer.reason),
        }
        return web.json_response(body)


async def _plain_headers(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Server"] = "mirrorplane"
