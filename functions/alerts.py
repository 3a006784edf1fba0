"""HTTP: alerts, silences, dead letters; and the timer that carries notices out."""

from __future__ import annotations

import azure.functions as func

from functions.web import new_blueprint, respond
from shared.alerts.delivery import deliver_due
from shared.composition import control_plane

blueprint = new_blueprint()


@blueprint.function_name("alert_delivery")
@blueprint.timer_trigger("timer", schedule="5,20,35,50 * * * * *")
async def alert_delivery(timer: func.TimerRequest) -> None:
    await deliver_due(control_plane())


@blueprint.function_name("alert_list")
@blueprint.route("api/alerts", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def alert_list(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("alert_list", req)


@blueprint.function_name("alert_get")
@blueprint.route("api/alerts/{id}", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def alert_get(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("alert_get", req)


@blueprint.function_name("alert_action")
@blueprint.route("api/alerts/{idAndAction}", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
async def alert_action(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("alert_action", req)


@blueprint.function_name("silence_create")
@blueprint.route("api/silences", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
async def silence_create(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("silence_create", req)


@blueprint.function_name("silence_list")
@blueprint.route("api/silences", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def silence_list(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("silence_list", req)


@blueprint.function_name("silence_get")
@blueprint.route("api/silences/{id}", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def silence_get(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("silence_get", req)


@blueprint.function_name("silence_put")
@blueprint.route("api/silences/{id}", methods=["PUT"], auth_level=func.AuthLevel.ANONYMOUS)
async def silence_put(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("silence_put", req)


@blueprint.function_name("silence_delete")
@blueprint.route("api/silences/{id}", methods=["DELETE"], auth_level=func.AuthLevel.ANONYMOUS)
async def silence_delete(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("silence_delete", req)


@blueprint.function_name("dead_letter_list")
@blueprint.route("api/dead-letters", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def dead_letter_list(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("dead_letter_list", req)
