"""HTTP: API tokens."""

from __future__ import annotations

import azure.functions as func

from functions.web import new_blueprint, respond

blueprint = new_blueprint()


@blueprint.function_name("token_create")
@blueprint.route("api/tokens", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
async def token_create(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("token_create", req)


@blueprint.function_name("token_list")
@blueprint.route("api/tokens", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def token_list(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("token_list", req)


@blueprint.function_name("token_delete")
@blueprint.route("api/tokens/{id}", methods=["DELETE"], auth_level=func.AuthLevel.ANONYMOUS)
async def token_delete(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("token_delete", req)
