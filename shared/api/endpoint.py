"""What an endpoint is, and the way of every request through it: who, which version, may it, do it, answer.

Guarantees: nothing is read or written for a caller that is not allowed; every answer carries `x-ms-request-id`; every
refusal has the documented shape and the header `x-ms-error-code`; whatever fails unforeseen is logged with its
request id and answered 500 without detail. One line is logged per request, without body, query or credentials.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from pydantic import BaseModel

from shared.api.call import API_VERSION, MAX_BODY_BYTES, Answer, Call, model_json
from shared.api.journal import note
from shared.api.plane import ControlPlane
from shared.api.problem import Problem
from shared.api.views import ErrorView
from shared.model.client_credential import ClientCredential
from shared.model.principal import AccessRole, NodePrincipal, Principal
from shared.security.access import AccessRules, authenticate
from shared.security.client_links import find_link
from shared.security.enrolment import authenticate_node, find_enrolment
from shared.security.secret import bearer
from shared.settings import SettingInvalid
from shared.store.ports import Unavailable, Versioned
from shared.structured_log import Log
from shared.telemetry import now_ns, record

log = Log("mirrorplane.api")
_CLIENT_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
RETRY_WHEN_UNAVAILABLE_S: Final = 5
_STEADY: Final = frozenset({"node_heartbeat"})  # leaves a span only when it is refused


class Guard(Enum):
    """Who may call."""

    ANYBODY = "anybody"
    MONITOR = "Monitor"
    SCRAPER = "Monitor, by a program that gives no api-version"
    CONTROL = "Control"
    ADMIN = "Admin"
    NODE = "node"
    ENROLMENT = "enrolment"
    NODE_OR_ENROLMENT = "node or enrolment"
    CREDENTIAL_LINK = "credential link"


ROLE_OF: Final = {
    Guard.MONITOR: AccessRole.MONITOR,
    Guard.SCRAPER: AccessRole.MONITOR,
    Guard.CONTROL: AccessRole.CONTROL,
    Guard.ADMIN: AccessRole.ADMIN,
}

# The caller is a Principal, a NodePrincipal, a Versioned[Enrolment] or None, as the guard says.
Handler = Callable[[ControlPlane, Any, Call], Awaitable[Answer]]


@dataclass(frozen=True)
class Endpoint:
    """`name` is the function's name, `route` its route below /api. The rest describes it in the OpenAPI document."""

    name: str
    method: str
    route: str
    guard: Guard
    handler: Handler
    summary: str
    answers: Mapping[int, type[BaseModel] | None]
    body: type[BaseModel] | None = None
    body_required: bool = True
    query: tuple[str, ...] = ()
    request_headers: tuple[str, ...] = ()
    documented_route: str | None = None
    dry: bool = False
    """It only answers a question, whatever its method: nothing is written, nothing is journalled."""
    codes: tuple[str, ...] = field(default=())

    @property
    def changes(self) -> bool:
        """A person changes something by it: the operators' journal gets an entry."""
        return self.method != "GET" and not self.dry and (self.guard in ROLE_OF or self.guard is Guard.CREDENTIAL_LINK)

    @property
    def versioned(self) -> bool:
        return self.guard in ROLE_OF and self.guard is not Guard.SCRAPER


async def serve(plane: Callable[[], ControlPlane], endpoint: Endpoint, call: Call) -> Answer:
    """Never raises."""
    start, started_ns = time.monotonic(), now_ns()
    parts: ControlPlane | None = None
    caller: object = None
    try:
        try:
            parts = plane()
        except SettingInvalid as error:
            log.failure("not_configured", error, request=call.request_id)
            raise Problem("NotConfigured", "the control plane is not configured; see its log") from None
        if len(call.body) > MAX_BODY_BYTES:
            raise Problem("RequestBodyTooLarge", f"the body has {len(call.body)} bytes; {MAX_BODY_BYTES} is the limit")
        caller = await _admit(parts, endpoint, call)
        _check_role(endpoint, caller, call)
        answer = await endpoint.handler(parts, caller, call)
    except Problem as problem:
        answer = refusal(problem)
    except Unavailable as error:
        log.failure("storage_unavailable", error, request=call.request_id, function=endpoint.name)
        answer = refusal(Problem("StorageUnavailable", "storage does not answer; repeat the request, it is idempotent"))
        answer = Answer(answer.status, answer.body, {**answer.headers, "Retry-After": str(RETRY_WHEN_UNAVAILABLE_S)})
    except Exception as error:  # noqa: BLE001 - the last guard of a request: logged, and answered without detail
        log.failure("request_failed", error, request=call.request_id, function=endpoint.name)
        answer = refusal(Problem("InternalError", f"an unforeseen error; it is logged under request {call.request_id}"))
    person = _person(caller)
    if endpoint.changes and parts is not None and person is not None:
        await note(parts, person, endpoint.name, call, answer)
    headers = {**answer.headers, "x-ms-request-id": call.request_id}
    client_id = call.headers.get("x-ms-client-request-id", "")
    if _CLIENT_ID.fullmatch(client_id):
        headers["x-ms-client-request-id"] = client_id
    log.info(
        "request",
        function=endpoint.name,
        method=call.method,
        path=call.path,
        status=answer.status,
        code=headers.get("x-ms-error-code"),
        ms=round((time.monotonic() - start) * 1000, 1),
        caller=_shown(caller),
        request=call.request_id,
        clientRequest=headers.get("x-ms-client-request-id"),
    )
    if endpoint.name not in _STEADY or answer.status >= 400:
        record(
            f"{call.method} {endpoint.documented_route or endpoint.route}",
            started_ns,
            failed=answer.status >= 500,
            traceparent=call.headers.get("traceparent", ""),
            http__request__method=call.method,
            http__route=endpoint.documented_route or endpoint.route,
            http__response__status_code=answer.status,
            mirrorplane__function=endpoint.name,
            mirrorplane__code=headers.get("x-ms-error-code"),
            mirrorplane__caller=_shown(caller),
            mirrorplane__request=call.request_id,
        )
    return Answer(answer.status, answer.body, headers, answer.content_type)


def refusal(problem: Problem) -> Answer:
    headers = {"x-ms-error-code": problem.code}
    if problem.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="mirrorplane"'
    return Answer(problem.status, model_json(ErrorView(error=problem.error), without_none=True), headers)


async def _admit(plane: ControlPlane, endpoint: Endpoint, call: Call) -> object:
    """The caller, if it proves who it is; what a principal may is checked after this. Raises Problem."""
    presented = bearer(call.headers.get("authorization")) or ""
    match endpoint.guard:
        case Guard.ANYBODY:
            return None
        case Guard.NODE:
            node = await authenticate_node(plane.store.credentials, presented)
            if node is None:
                raise Problem("Unauthenticated", "give the node's credential as Authorization: Bearer …")
            return node
        case Guard.ENROLMENT:
            enrolment = await find_enrolment(plane.store.credentials, presented, plane.clock())
            if enrolment is None:
                raise Problem("EnrolmentTokenInvalid", "the enrolment token is unknown or expired")
            return enrolment
        case Guard.CREDENTIAL_LINK:
            link = await find_link(plane.store.credentials, presented, plane.clock())
            if link is None:
                raise Problem("CredentialLinkInvalid", "the credential link is unknown, expired or revoked")
            return link
        case Guard.NODE_OR_ENROLMENT:
            found = await authenticate_node(plane.store.credentials, presented) or await find_enrolment(
                plane.store.credentials, presented, plane.clock()
            )
            if found is None:
                raise Problem("Unauthenticated", "give an enrolment token or a node's credential")
            return found
        case Guard.MONITOR | Guard.SCRAPER | Guard.CONTROL | Guard.ADMIN:
            return await _principal(plane, call)


async def _principal(plane: ControlPlane, call: Call) -> Principal:
    rules = AccessRules(plane.settings.bootstrap_token_sha256, plane.settings.easy_auth)
    principal = await authenticate(call.headers, plane.store.tokens, rules, plane.clock())
    if principal is None:
        raise Problem("Unauthenticated", "give a valid API token as Authorization: Bearer …")
    return principal


def _check_role(endpoint: Endpoint, caller: object, call: Call) -> None:
    """Nodes have no roles: their credential admits them to their own endpoints only."""
    needed = ROLE_OF.get(endpoint.guard)
    if needed is None:
        return
    if not isinstance(caller, Principal) or not caller.may(needed):
        raise Problem("Forbidden", f"this needs the role {needed.value}")
    if endpoint.versioned:
        check_api_version(call.query.get("api-version"))


def check_api_version(version: str | None) -> None:
    if version is None:
        raise Problem(
            "MissingApiVersionParameter", f"the query parameter api-version is required; add api-version={API_VERSION}"
        )
    if version != API_VERSION:
        raise Problem(
            "UnsupportedApiVersionValue",
            f"api-version {version!r} is not known; supported: {API_VERSION}",
            "api-version",
        )


def _person(caller: object) -> Principal | None:
    """Who the journal names: a principal, or whom a credential link was made for."""
    match caller:
        case Principal():
            return caller
        case Versioned(value=ClientCredential() as credential):
            return Principal(credential.id, credential.name, "credential-link", frozenset())
        case _:
            return None


def _shown(caller: object) -> str:
    match caller:
        case Principal():
            return f"{caller.kind}:{caller.id}"
        case NodePrincipal():
            return f"node:{caller.cluster}/{caller.node}"
        case None:
            return "nobody"
        case Versioned(value=ClientCredential()):
            return f"credential-link:{caller.value.id}"
        case _:
            return "enrolment"
