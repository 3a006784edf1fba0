"""HTTP: one-time credential links for people, and the downloads behind them."""

from __future__ import annotations

import azure.functions as func

from functions.web import new_blueprint, respond

blueprint = new_blueprint()


@blueprint.function_name("credential_create")
@blueprint.route("api/clusters/{name}/credentials", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
async def credential_create(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("credential_create", req)


@blueprint.function_name("credential_list")
@blueprint.route("api/clusters/{name}/credentials", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def credential_list(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("credential_list", req)


@blueprint.function_name("credential_delete")
@blueprint.route("api/clusters/{name}/credentials/{id}", methods=["DELETE"], auth_level=func.AuthLevel.ANONYMOUS)
async def credential_delete(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("credential_delete", req)


@blueprint.function_name("credential_redeem")
@blueprint.route("api/credential-downloads", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
async def credential_redeem(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("credential_redeem", req)
