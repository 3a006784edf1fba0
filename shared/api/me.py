"""Who the caller is and may be: what a console shows and which buttons it offers."""

from __future__ import annotations

from shared.api.call import Answer, Call, model_json
from shared.api.plane import ControlPlane
from shared.model.document import ApiModel
from shared.model.principal import AccessRole, Principal


class MeView(ApiModel):
    """`role` is the highest the caller has."""

    id: str
    name: str
    kind: str
    role: AccessRole


async def get_me(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    role = next(role for role in AccessRole if caller.may(role))
    return Answer(200, model_json(MeView(id=caller.id, name=caller.name, kind=caller.kind, role=role)))
