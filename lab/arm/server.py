"""ARM over HTTPS: bearer check, conversion, and the lab's own test endpoints.

Every request needs a token of the lab's identity endpoint, for ARM's audience. `/lab/…` is not Azure: it is for
tests and demonstrations, guarded by a separate key (header `x-lab-key`).
- `GET|POST|DELETE /lab/faults`: list, arm (JSON object of `lab.arm.faults.Fault`), clear
- `POST /lab/vanish` `{"id": "/subscriptions/…"}`: delete a resource out of band
- `GET /lab/resources`: ids and provisioning states
"""

from __future__ import annotations

import hmac
import json
import logging
import ssl as tls
from typing import Any

from aiohttp import web

from lab.arm.core import Response
from lab.arm.errors import ArmError
from lab.arm.faults import Fault, FaultKind
from lab.arm.service import MAX_BODY_BYTES, ArmService
from lab.identity import TokenIssuer, TokenRefused
from lab.serve import serve_app

log = logging.getLogger(__name__)

# Audiences ARM accepts; the clients ask for the first two whatever `base_url` says.
AUDIENCES = frozenset({"https://management.azure.com", "https://management.core.windows.net"})


class ArmServer:
    def __init__(self, service: ArmService, issuer: TokenIssuer, *, lab_key: str) -> None:
        if len(lab_key) < 16:
            raise ValueError("the lab key must have at least 16 characters; make one with secrets.token_urlsafe()")
        self._service = service
        self._issuer = issuer
        self._lab_key = lab_key
        self._audiences = AUDIENCES

    def app(self) -> web.Application:
        application = web.Application(client_max_size=MAX_BODY_BYTES + 1)
        application.router.add_get("/lab/faults", self._list_faults)
        application.router.add_post("/lab/faults", self._add_fault)
        application.router.add_delete("/lab/faults", self._clear_faults)
        application.router.add_post("/lab/vanish", self._vanish)
        application.router.add_get("/lab/resources", self._resources)
        application.router.add_route("*", "/{path:.*}", self._arm)
        return application

    def listen_on(self, base_url: str) -> None:
        self._audiences = AUDIENCES | {base_url}
        self._service.listen_on(base_url)

    # --- ARM -------------------------------------------------------------------------------------------------------
    async def _arm(self, request: web.Request) -> web.Response:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return _unauthorised(
                "AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing."
            )
        try:
            self._issuer.check(token.strip(), self._audiences)
        except TokenRefused as refused:
            return _unauthorised(refused.code, refused.message)
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            error = ArmError(413, "RequestContentTooLarge", f"The request body exceeds {MAX_BODY_BYTES} bytes.")
            return web.json_response({"error": error.error_object()}, status=413)
        answer = await self._service.handle(request.method, request.path, request.query, request.headers, body)
        log.debug("%s %s -> %s", request.method, request.path, answer.status)
        return _convert(answer)

    # --- the lab's own ---------------------------------------------------------------------------------------------
    def _check_key(self, request: web.Request) -> None:
        if not hmac.compare_digest(request.headers.get("x-lab-key", "").encode(), self._lab_key.encode()):
            raise web.HTTPUnauthorized(text="the header x-lab-key is missing or wrong")

    async def _list_faults(self, request: web.Request) -> web.Response:
        self._check_key(request)
        return web.json_response(self._service.faults.as_json())

    async def _add_fault(self, request: web.Request) -> web.Response:
        self._check_key(request)
        try:
            wanted = await request.json()
            fault = self._service.faults.add(Fault(**{**wanted, "kind": FaultKind(wanted["kind"])}))
        except (ValueError, TypeError, KeyError) as error:
            return web.json_response({"error": f"not a fault: {error}"}, status=400)
        return web.json_response({"id": fault.id}, status=201)

    async def _clear_faults(self, request: web.Request) -> web.Response:
        self._check_key(request)
        self._service.faults.clear()
        return web.Response(status=204)

    async def _vanish(self, request: web.Request) -> web.Response:
        self._check_key(request)
        try:
            await self._service.vanish(str((await request.json())["id"]))
        except (ValueError, TypeError, KeyError) as error:
            return web.json_response({"error": f"expected {{'id': …}}: {error}"}, status=400)
        except ArmError as error:
            return web.json_response({"error": error.error_object()}, status=error.status)
        return web.Response(status=204)

    async def _resources(self, request: web.Request) -> web.Response:
        self._check_key(request)
        found = [{"id": r.id, "provisioningState": r.state} for r in self._service.state.resources.values()]
        return web.json_response({"value": found})


def _convert(answer: Response) -> web.Response:
    if answer.body is None:
        return web.Response(status=answer.status, headers=answer.headers)
    return web.json_response(answer.body, status=answer.status, headers=answer.headers)


def _unauthorised(code: str, message: str) -> web.Response:
    body: dict[str, Any] = {"error": {"code": code, "message": message}}
    challenge = 'Bearer authorization_uri="https://login.microsoftonline.com/", error="invalid_token"'
    return web.Response(
        status=401,
        text=json.dumps(body),
        content_type="application/json",
        headers={"WWW-Authenticate": challenge},
    )


async def serve_arm(
    service: ArmService,
    host: str,
    port: int,
    ssl: tls.SSLContext | None,
    *,
    issuer: TokenIssuer,
    lab_key: str,
) -> tuple[web.AppRunner, str]:
    """(runner, base URL for `MIRRORPLANE_ARM_ENDPOINT`). Without TLS the SDKs refuse to send a token: tests only."""
    server = ArmServer(service, issuer, lab_key=lab_key)
    runner, base = await serve_app(server.app(), host, port, ssl)
    server.listen_on(base)
    return runner, base
