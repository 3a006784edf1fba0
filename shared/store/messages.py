"""The queue message of a reconcile tick: one definition for the sender, the trigger and the tests."""

from __future__ import annotations

import json

from shared.store.ports import ReconcileMessage


def encode(message: ReconcileMessage) -> str:
    return json.dumps({"operationId": message.operation_id, "cluster": message.cluster}, sort_keys=True)


def decode(text: str) -> ReconcileMessage:
    """Raises ValueError for anything that is not our message."""
    try:
        body = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"the reconcile message is no JSON: {error}") from None
    match body:
        case {"operationId": str(operation_id), "cluster": str(cluster)}:
            return ReconcileMessage(operation_id, cluster)
    raise ValueError("the reconcile message needs the texts 'operationId' and 'cluster'")
