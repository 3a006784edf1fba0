"""Event Grid: platform events are recorded; and HTTP: the list of them.

The parameter is the raw text, not an event object: a malformed event must reach us to be recorded with the reason.
"""

from __future__ import annotations

import azure.functions as func

from functions.web import new_blueprint, respond
from shared.api.events import record_event
from shared.composition import control_plane

blueprint = new_blueprint()


@blueprint.function_name("platform_event")
@blueprint.event_grid_trigger("event")
async def platform_event(event: str) -> None:
    await record_event(control_plane(), event)


@blueprint.function_name("event_list")
@blueprint.route("api/events", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def event_list(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("event_list", req)


@blueprint.function_name("cluster_events")
@blueprint.route("api/clusters/{name}/events", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def cluster_events(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("cluster_events", req)
