"""API tokens: made, listed and removed by an Admin. The secret is in the one answer that makes the token."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AwareDatetime, StringConstraints

from shared.api.call import Answer, Call, body_of, continuation, continuation_token, model_json, top_parameter
from shared.api.plane import ControlPlane
from shared.api.problem import Problem
from shared.api.views import Links, NewTokenView, TokenList, token_view
from shared.model.document import ApiModel
from shared.model.principal import AccessRole, Principal
from shared.security.access import create_token
from shared.structured_log import Log

_TOKEN_ID: Final = re.compile(r"[0-9a-f]{16}")
log = Log("mirrorplane.tokens")


class TokenRequest(ApiModel):
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$")]
    role: AccessRole
    expires_at: AwareDatetime | None = None


async def post_token(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    request = body_of(call, TokenRequest)
    now = plane.clock()
    if request.expires_at is not None and request.expires_at <= now:
        raise Problem("InvalidField", f"expiresAt {request.expires_at.isoformat()} is past", "expiresAt")
    token, text = await create_token(
        plane.store.tokens,
        name=request.name,
        role=request.role,
        created_by=f"{caller.kind}:{caller.id}",
        now=now,
        expires_at=request.expires_at,
    )
    log.info("api_access_granted", id=token.id, name=token.name, role=token.role.value, by=token.created_by)
    view = token_view(token)
    shown = NewTokenView(**{name: getattr(view, name) for name in type(view).model_fields}, token=text)
    return Answer(201, model_json(shown), {"Cache-Control": "no-store"})


async def list_tokens(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    top = top_parameter(call)
    page = await plane.store.tokens.page(continuation(call, "tokens"), top)
    body = model_json(TokenList(value=tuple(token_view(token) for token in page.items)))
    body.pop("nextLink")
    if page.next is not None:
        token = continuation_token("tokens", page.next)
        body["nextLink"] = Links(plane.settings.public_url).to("tokens", **{"top": str(top), "continue": token})
    return Answer(200, body)


async def delete_token(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    token_id = call.route["id"]
    if _TOKEN_ID.fullmatch(token_id):
        await plane.store.tokens.delete(token_id)
        log.info("api_access_removed", id=token_id, by=f"{caller.kind}:{caller.id}")
    return Answer(204)
