"""HTTP: enrolment, heartbeats, and the agent's package."""

from __future__ import annotations

import azure.functions as func

from functions.web import new_blueprint, respond

blueprint = new_blueprint()


@blueprint.function_name("node_enrol")
@blueprint.route("api/nodes/enrol", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
async def node_enrol(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("node_enrol", req)


@blueprint.function_name("node_heartbeat")
@blueprint.route("api/nodes/heartbeat", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
async def node_heartbeat(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("node_heartbeat", req)


@blueprint.function_name("node_agent_wheel")
@blueprint.route("api/nodes/agent-wheel", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def node_agent_wheel(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("node_agent_wheel", req)
