"""HTTP and timer: authorities of clusters, and the care of keys. Skipped or doubled, the timer is correct."""

from __future__ import annotations

import azure.functions as func

from functions.web import new_blueprint, respond
from shared.api.key_care import care_for_keys
from shared.composition import control_plane

blueprint = new_blueprint()


@blueprint.function_name("authority_get")
@blueprint.route("api/clusters/{name}/authority", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def authority_get(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("authority_get", req)


@blueprint.function_name("keys_rewrap")
@blueprint.route("api/keys:rewrap", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
async def keys_rewrap(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("keys_rewrap", req)


@blueprint.function_name("node_certificate")
@blueprint.route("api/nodes/certificate", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
async def node_certificate(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("node_certificate", req)


@blueprint.function_name("key_care")
@blueprint.timer_trigger("timer", schedule="0 37 * * * *")
async def key_care(timer: func.TimerRequest) -> None:
    await care_for_keys(control_plane())
