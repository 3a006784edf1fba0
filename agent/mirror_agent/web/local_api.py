"""The agent's Unix socket for `mirrorctl`: one JSON object a line in, one JSON object a line out.

Guarantee: only root (or the user the agent runs as) is answered: the socket has mode 0600 in a directory of mode 0700,
and the kernel's word on the caller (SO_PEERCRED) is checked. A socket file left by a dead agent is replaced; one that
a living agent answers on is not.
Request: `{"op": "status"}`; history takes `limit`; actions take `requestedBy` and `reason`, `force` also `confirm`.
Answer: `{"ok": true, "result": …}` or `{"ok": false, "error": {"code", "message"}}`.
Limits: lines of MAX_LINE_BYTES, MAX_CLIENTS at once, an idle client is let go after IDLE_S.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mirror_agent.contract import MAX_SENTENCE_CHARS
from mirror_agent.eventlog import RecordEvent
from mirror_agent.paths import private_directory
from mirror_agent.platform import HOST, Stranger
from mirror_agent.redaction import redact
from mirror_agent.web import mirror_control
from mirror_agent.web.actions import (
    ACTIONS,
    MAX_HISTORY,
    MAX_LINE_BYTES,
    NodeAction,
    NodeControl,
    NodeRequest,
    nearest,
)
from mirror_agent.web.mirror_control import MIRROR_ACTIONS, MIRROR_QUERIES, MirrorControl, MirrorRequest

MAX_CLIENTS: Final = 16
IDLE_S: Final = 30.0

QUERIES: Final = ("status", "why", "drill", "history")
OPERATIONS: Final = (*QUERIES, *MIRROR_QUERIES, *ACTIONS, *MIRROR_ACTIONS)


class LocalRequest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    op: str
    limit: int = Field(default=50, ge=1, le=MAX_HISTORY)
    requested_by: str = Field(default="mirrorctl", alias="requestedBy", max_length=128)
    reason: str = Field(default="", max_length=MAX_SENTENCE_CHARS)
    confirm: str = Field(default="", max_length=128)
    rate_bytes_per_s: float = Field(default=0.0, alias="rateBytesPerS", ge=0)
    kept: str = Field(default="", max_length=256)
    target: str = Field(default="", max_length=4096)


class LocalApi:
    def __init__(self, control: NodeControl, mirror: MirrorControl, *, socket_path: Path, log: RecordEvent) -> None:
        self._control = control
        self._mirror = mirror
        self._path = socket_path
        self._log = log
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        private_directory(self._path.parent)
        self._server = await HOST.serve_local(self._path, self._accept, limit=MAX_LINE_BYTES)

    async def stop(self) -> None:
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        for client in tuple(self._clients):
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        await server.wait_closed()
        self._path.unlink(missing_ok=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            if len(self._clients) > MAX_CLIENTS:
                await _answer(writer, _error("busy", f"more than {MAX_CLIENTS} clients; try again in a moment"))
                return
            try:
                async with asyncio.timeout(IDLE_S):
                    caller = await HOST.local_caller(self._path, reader, writer)
            except Stranger as stranger:
                self._log("local-api.refused", caller=stranger.who)
                await _answer(writer, _error("forbidden", str(stranger)))
                return
            await self._serve(reader, writer, caller)
        except (ConnectionError, TimeoutError):
            return  # the client went away or fell silent: nothing is owed to it
        finally:
            self._clients.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, caller: str) -> None:
        while True:
            try:
                async with asyncio.timeout(IDLE_S):
                    line = await reader.readline()
            except ValueError:
                await _answer(writer, _error("too-long", f"a request is one line of at most {MAX_LINE_BYTES} bytes"))
                return
            if not line:
                return
            await _answer(writer, await self._handle(line, caller))

    async def _handle(self, line: bytes, caller: str) -> dict[str, object]:
        try:
            request = LocalRequest.model_validate_json(line)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"]) or "request"
            return _error("bad-request", f"{place}: {first['msg']}")
        try:
            return {"ok": True, "result": await self._dispatch(request, caller)}
        except LookupError as error:
            return _error("unknown-operation", str(error.args[0]))
        except Exception as error:  # noqa: BLE001 - one request must not end the server; the error is recorded and answered
            self._log("local-api.failed", op=request.op, error=f"{type(error).__name__}: {error}")
            return _error("internal", f"{type(error).__name__}: {error}; see mirrorctl history")

    async def _dispatch(self, request: LocalRequest, caller: str) -> object:
        match request.op:
            case "status":
                return redact(self._control.status())
            case "why":
                return redact(self._control.why())
            case "drill":
                return redact(self._control.drill())
            case "history":
                return redact(self._control.history(request.limit))
            case op if op in ACTIONS:
                who = f"{request.requested_by} ({caller})"
                asked = NodeRequest(NodeAction(op), who, request.reason, request.confirm, f"local:{caller}")
                return asdict(await self._control.request(asked))
            case mirror_control.STATUS:
                return redact(self._mirror.mirror())
            case mirror_control.VERIFIED:
                return await self._mirror.verified()
            case mirror_control.QUARANTINE:
                return await self._mirror.quarantine()
            case mirror_control.METRICS:
                return self._mirror.metrics()
            case op if op in MIRROR_ACTIONS:
                who = f"{request.requested_by} ({caller})"
                wanted = MirrorRequest(
                    op, who, request.reason, request.rate_bytes_per_s, request.kept, request.target, f"local:{caller}"
                )
                return asdict(await self._mirror.operate(wanted))
            case op:
                raise LookupError(f"{op!r} is no operation; {nearest(op, OPERATIONS)}")


def _error(code: str, message: str) -> dict[str, object]:
    return {"ok": False, "error": {"code": code, "message": message}}


async def _answer(writer: asyncio.StreamWriter, body: dict[str, object]) -> None:
    writer.write(json.dumps(body, separators=(",", ":")).encode() + b"\n")
    await writer.drain()
