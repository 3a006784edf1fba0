"""Orders given to the node by HTTP: who may, in which form, and one line of the history for each.

Guarantee: every order leaves exactly one line that says who, why and what became of it: `command.ended` of the node
that carried it out, `console.refused` of the one that refused it before it began, and on a node that passed it on to
the other one `console.passed-on`. Since browsers send client certificates by themselves, an order must come as JSON
and from this origin: a foreign page can do neither without being asked.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mirror_agent.contract import MAX_SENTENCE_CHARS
from mirror_agent.eventlog import RecordEvent
from mirror_agent.redaction import redact
from mirror_agent.web import mirror_control
from mirror_agent.web.actions import ACTIONS, NodeAction, NodeControl, NodeRequest, RequestOutcome, nearest
from mirror_agent.web.client_roles import Client, ClientRole
from mirror_agent.web.console_pages import error
from mirror_agent.web.listening import read_body
from mirror_agent.web.mirror_control import MirrorControl, MirrorRequest
from mirror_agent.web.peer_console import PeerAway, PeerConsole

# `mirror-restore` writes anywhere on the node's disk: that is for root on the node, by mirrorctl.
COPY_ORDERS: Final = (
    mirror_control.VERIFY,
    mirror_control.REPAIR,
    mirror_control.VERIFY_STOP,
    mirror_control.RESYNC,
)
ORDERS: Final = (*ACTIONS, *COPY_ORDERS)
_STATUS_OF_OUTCOME: Final = {"accepted": 202, "succeeded": 200, "refused": 409, "failed": 500}


class OrderBody(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: str = Field(default="", max_length=MAX_SENTENCE_CHARS)
    confirm: str = Field(default="", max_length=128)


class Orders:
    def __init__(self, control: NodeControl, mirror: MirrorControl, peer: PeerConsole, log: RecordEvent) -> None:
        self._control = control
        self._mirror = mirror
        self._peer = peer
        self._log = log

    async def here(self, request: web.Request, client: Client) -> web.Response:
        body = await self._admitted(request, client)
        if isinstance(body, web.Response):
            return body
        outcome = await self._carry_out(request.match_info["action"], client, body)
        return web.json_response(redact(asdict(outcome)), status=_STATUS_OF_OUTCOME[outcome.status])

    async def at_the_peer(self, request: web.Request, client: Client) -> web.Response:
        body = await self._admitted(request, client)
        if isinstance(body, web.Response):
            return body
        word = request.match_info["action"]
        try:
            answer = await self._peer.order(word, client, body.model_dump_json().encode())
        except PeerAway as away:
            self._note_passed_on(client, word, body.reason, 502, str(away), noted=False)
            return error(502, "PeerAway", f"{away}; whether it began is in that node's history")
        # whoever it does not know as a person, it wrote nothing down about
        noted = answer.status != web.HTTPUnauthorized.status_code
        self._note_passed_on(client, word, body.reason, answer.status, _told(answer.body), noted=noted)
        return web.Response(status=answer.status, body=answer.body, content_type="application/json")

    async def refuse(self, request: web.Request, client: Client, status: int, code: str, message: str) -> web.Response:
        """Answers and writes down that somebody known was refused."""
        told: dict[str, object] = {"who": client.shown, "path": request.path, "status": status, "code": code}
        if request.method == "POST":
            action = request.match_info.get("action", request.path)
            told |= {"why": await _reason(request), "action": action, "principal": client.principal, "message": message}
        self._log("console.refused", **told)
        return error(status, code, message)

    async def _admitted(self, request: web.Request, client: Client) -> OrderBody | web.Response:
        """The body, or why not."""
        word = request.match_info["action"]
        if word not in ORDERS:
            return await self.refuse(
                request, client, 404, "UnknownAction", f"{word!r} is no action; {nearest(word, ORDERS)}"
            )
        needed = needed_role(word)
        if client.role is None or client.role < needed:
            message = f"{word!r} needs the role {needed.word} in the certificate's subject (OU)"
            return await self.refuse(request, client, 403, "Forbidden", message)
        if request.content_type != "application/json":
            message = "send the body as application/json, for example {}"
            return await self.refuse(request, client, 415, "JsonRequired", message)
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != request.host:
            message = f"a page of {origin!r} may not act on this node"
            return await self.refuse(request, client, 403, "ForeignOrigin", message)
        try:
            return OrderBody.model_validate_json(await read_body(request) or b"{}")
        except web.HTTPRequestEntityTooLarge:
            return await self.refuse(request, client, 413, "BodyTooLarge", "the body is longer than any reason")
        except ValidationError as failure:
            first = failure.errors(include_url=False, include_input=False)[0]
            message = f"{'.'.join(str(part) for part in first['loc']) or 'body'}: {first['msg']}"
            return await self.refuse(request, client, 400, "BadBody", message)

    async def _carry_out(self, word: str, client: Client, body: OrderBody) -> RequestOutcome:
        if word in COPY_ORDERS:
            copies = MirrorRequest(word, client.shown, body.reason, principal=client.principal)
            return await self._mirror.operate(copies)
        asked = NodeRequest(NodeAction(word), client.shown, body.reason, body.confirm, client.principal)
        return await self._control.request(asked)

    def _note_passed_on(self, client: Client, word: str, why: str, status: int, message: str, *, noted: bool) -> None:
        """`noted`: the other node has written it down as well, and tells the control plane."""
        self._log(
            "console.passed-on",
            who=client.shown,
            principal=client.principal,
            noted=noted,
            action=word,
            node=self._peer.node,
            why=why,
            status=status,
            message=message,
        )


def needed_role(word: str) -> ClientRole:
    """A forced start may cost data; everything else can be taken back."""
    return ClientRole.ADMIN if word == NodeAction.FORCE else ClientRole.CONTROL


async def _reason(request: web.Request) -> str:
    """What a refused caller gave as reason, if that can be read."""
    try:
        document = json.loads(await read_body(request) or b"{}")
    except (ValueError, RecursionError, web.HTTPRequestEntityTooLarge, web.HTTPRequestTimeout):
        return ""
    reason = document.get("reason") if isinstance(document, dict) else None
    return reason[:MAX_SENTENCE_CHARS] if isinstance(reason, str) else ""


def _told(body: bytes) -> str:
    try:
        document = json.loads(body)
    except ValueError:
        return ""
    if not isinstance(document, dict):
        return ""
    failure = document.get("error")
    said = failure.get("message") if isinstance(failure, dict) else document.get("message")
    return said[:MAX_SENTENCE_CHARS] if isinstance(said, str) else ""
