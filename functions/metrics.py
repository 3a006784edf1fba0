"""HTTP: the fleet's figures for Prometheus, at the path it asks by default."""

from __future__ import annotations

import azure.functions as func

from functions.web import new_blueprint, respond_with
from shared.metrics.text import METRICS_ENDPOINT

blueprint = new_blueprint()


@blueprint.function_name("metrics")
@blueprint.route("metrics", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def metrics(req: func.HttpRequest) -> func.HttpResponse:
    return await respond_with(METRICS_ENDPOINT, req)
