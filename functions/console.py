"""HTTP: the web console's files and what its pages read, the OpenAPI document and the health of the app itself."""

from __future__ import annotations

from functools import cache
from typing import Final

import azure.functions as func

from functions.web import new_blueprint, respond
from shared.console import files

blueprint = new_blueprint()
_load: Final = cache(files.load)


@blueprint.function_name("console_page")
@blueprint.route("/", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def console_page(req: func.HttpRequest) -> func.HttpResponse:
    return _static(files.PAGE, req)


@blueprint.function_name("console_file")
@blueprint.route("console/{*path}", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def console_file(req: func.HttpRequest) -> func.HttpResponse:
    return _static(req.route_params.get("path", ""), req)


@blueprint.function_name("openapi_document")
@blueprint.route("api/openapi.json", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def openapi_document(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("openapi_document", req)


@blueprint.function_name("health")
@blueprint.route("api/health", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def health(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("health", req)


@blueprint.function_name("me_get")
@blueprint.route("api/me", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def me_get(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("me_get", req)


@blueprint.function_name("fleet_list")
@blueprint.route("api/fleet", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def fleet_list(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("fleet_list", req)


@blueprint.function_name("cluster_overview")
@blueprint.route("api/clusters/{name}/overview", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def cluster_overview(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("cluster_overview", req)


@blueprint.function_name("cluster_history")
@blueprint.route("api/clusters/{name}/history", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def cluster_history(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("cluster_history", req)


@blueprint.function_name("journal_list")
@blueprint.route("api/journal", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def journal_list(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("journal_list", req)


@blueprint.function_name("cluster_strips")
@blueprint.route("api/clusters/{name}/strips", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def cluster_strips(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("cluster_strips", req)


def _static(name: str, request: func.HttpRequest) -> func.HttpResponse:
    answer = files.answer(_load(), name, request.headers.get("if-none-match", ""))
    return func.HttpResponse(
        answer.content, status_code=answer.status, headers=dict(answer.headers), mimetype=answer.content_type
    )
