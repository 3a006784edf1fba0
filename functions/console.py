"""HTTP: the OpenAPI document and the health of the app itself."""

from __future__ import annotations

import azure.functions as func

from functions.web import new_blueprint, respond

blueprint = new_blueprint()


@blueprint.function_name("openapi_document")
@blueprint.route("openapi.json", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def openapi_document(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("openapi_document", req)


@blueprint.function_name("health")
@blueprint.route("health", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def health(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("health", req)
