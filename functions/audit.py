"""Timers: the health audit, the repair of what a crash left, retention. Each is correct if skipped or doubled."""

from __future__ import annotations

import azure.functions as func

from functions.web import new_blueprint
from shared.api.repair import repair_fleet
from shared.api.retention import remove_expired
from shared.audit.pipeline import audit_fleet
from shared.composition import control_plane
from shared.telemetry import observed

blueprint = new_blueprint()


@blueprint.function_name("health_audit")
@blueprint.timer_trigger("timer", schedule="*/30 * * * * *")
async def health_audit(timer: func.TimerRequest) -> None:
    await observed("health_audit", audit_fleet(control_plane()))


@blueprint.function_name("operation_repair")
@blueprint.timer_trigger("timer", schedule="10,25,40,55 * * * * *")
async def operation_repair(timer: func.TimerRequest) -> None:
    await repair_fleet(control_plane())


@blueprint.function_name("retention")
@blueprint.timer_trigger("timer", schedule="0 17 * * * *")
async def retention(timer: func.TimerRequest) -> None:
    await remove_expired(control_plane())
