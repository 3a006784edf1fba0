"""HTTP: clusters, their actions, operations, and what was observed of them."""

from __future__ import annotations

import azure.functions as func

from functions.web import new_blueprint, respond

blueprint = new_blueprint()


@blueprint.function_name("cluster_put")
@blueprint.route("api/clusters/{name}", methods=["PUT"], auth_level=func.AuthLevel.ANONYMOUS)
async def cluster_put(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("cluster_put", req)


@blueprint.function_name("cluster_get")
@blueprint.route("api/clusters/{name}", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def cluster_get(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("cluster_get", req)


@blueprint.function_name("cluster_list")
@blueprint.route("api/clusters", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def cluster_list(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("cluster_list", req)


@blueprint.function_name("cluster_delete")
@blueprint.route("api/clusters/{name}", methods=["DELETE"], auth_level=func.AuthLevel.ANONYMOUS)
async def cluster_delete(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("cluster_delete", req)


@blueprint.function_name("cluster_action")
@blueprint.route("api/clusters/{nameAndAction}", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
async def cluster_action(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("cluster_action", req)


@blueprint.function_name("cluster_estimate")
@blueprint.route("api/clusters:estimate", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
async def cluster_estimate(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("cluster_estimate", req)


@blueprint.function_name("cluster_validate")
@blueprint.route("api/clusters:validate", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
async def cluster_validate(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("cluster_validate", req)


@blueprint.function_name("operation_get")
@blueprint.route("api/operations/{id}", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def operation_get(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("operation_get", req)


@blueprint.function_name("cluster_heartbeats")
@blueprint.route("api/clusters/{name}/heartbeats", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def cluster_heartbeats(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("cluster_heartbeats", req)


@blueprint.function_name("cluster_probes")
@blueprint.route("api/clusters/{name}/probes", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def cluster_probes(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("cluster_probes", req)


@blueprint.function_name("cluster_verdicts")
@blueprint.route("api/clusters/{name}/verdicts", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def cluster_verdicts(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("cluster_verdicts", req)
