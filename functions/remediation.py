"""Timers: planned repairs are carried out, and resources are compared with their specs. Nothing is decided here."""

from __future__ import annotations

import os

import azure.functions as func

from functions.web import new_blueprint, respond
from shared.composition import control_plane
from shared.remediation.context import executor_of
from shared.remediation.drift_tick import check_drift_of_fleet
from shared.remediation.execute import carry_out_all

blueprint = new_blueprint()


@blueprint.function_name("remediation")
@blueprint.timer_trigger("timer", schedule="3,13,23,33,43,53 * * * * *")
async def remediation(timer: func.TimerRequest) -> None:
    await carry_out_all(executor_of(control_plane(), os.environ.get("AZURE_CLIENT_ID")))


@blueprint.function_name("drift")
@blueprint.timer_trigger("timer", schedule="47 */3 * * * *")
async def drift(timer: func.TimerRequest) -> None:
    await check_drift_of_fleet(executor_of(control_plane(), os.environ.get("AZURE_CLIENT_ID")))


@blueprint.function_name("remediation_get")
@blueprint.route("api/clusters/{name}/remediation", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def remediation_get(req: func.HttpRequest) -> func.HttpResponse:
    return await respond("remediation_get", req)
