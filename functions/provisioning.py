"""Queue: one tick of an operation per message; and the messages that the queue has given up."""

from __future__ import annotations

import azure.functions as func

from functions.web import new_blueprint
from shared.composition import control_plane
from shared.provisioning.connect import provisioning_context
from shared.provisioning.reconcile import abandon, handle
from shared.store.messages import decode
from shared.store.ports import QUEUE_NAME
from shared.structured_log import Log

blueprint = new_blueprint()
log = Log("mirrorplane.provisioning")


@blueprint.function_name("reconcile")
@blueprint.queue_trigger("message", queue_name=QUEUE_NAME, connection="AzureWebJobsStorage")
async def reconcile(message: func.QueueMessage) -> None:
    await handle(provisioning_context(control_plane()), decode(message.get_body().decode()))


@blueprint.function_name("reconcile_poison")
@blueprint.queue_trigger("message", queue_name=f"{QUEUE_NAME}-poison", connection="AzureWebJobsStorage")
async def reconcile_poison(message: func.QueueMessage) -> None:
    try:
        given_up = decode(message.get_body().decode())
    except ValueError as error:
        log.failure("poison_malformed", error, message_id=message.id)
        return
    await abandon(provisioning_context(control_plane()), given_up)
