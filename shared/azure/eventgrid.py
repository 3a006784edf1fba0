"""Notices to an Event Grid custom topic (CloudEvents schema), with the vendor's publisher client.

With an access key, or without one by the app's managed identity (role EventGrid Data Sender). The SDK's own retries are
off: when to try again is decided by the deliveries, across ticks. One client per notice: notices are rare, and a kept
connection would outlive the event loop it was opened in.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from shared.alerts.courier import Failed, Outcome, Refused, Sent
from shared.alerts.limits import SEND_TIMEOUT_S
from shared.alerts.message import cloud_event
from shared.model.alert import Notice

if TYPE_CHECKING:
    from azure.core.credentials import AzureKeyCredential
    from azure.core.credentials_async import AsyncTokenCredential

# The topic will never take this notice: malformed, wrong key, no right, no such topic, too large.
_FINAL: Final = frozenset({400, 401, 403, 404, 413})


@dataclass(frozen=True, slots=True)
class TopicChannel:
    """`key` None: the managed identity with `client_id` (None: the system-assigned one)."""

    endpoint: str
    key: str | None = field(default=None, repr=False)
    client_id: str | None = None

    async def send(self, notice: Notice) -> Outcome:
        from azure.core.exceptions import AzureError, HttpResponseError
        from azure.core.messaging import CloudEvent
        from azure.eventgrid.aio import EventGridPublisherClient

        envelope = cloud_event(notice)
        event = CloudEvent(
            id=envelope["id"],
            source=envelope["source"],
            type=envelope["type"],
            subject=envelope["subject"],
            time=notice.made_at,
            datacontenttype=envelope["datacontenttype"],
            data=envelope["data"],
        )
        credential = self._credential()
        try:
            async with (
                asyncio.timeout(SEND_TIMEOUT_S),
                EventGridPublisherClient(self.endpoint, credential, retry_total=0) as client,
            ):
                await client.send(event)
        except TimeoutError:
            return Failed(f"no answer within {SEND_TIMEOUT_S:g} s")
        except HttpResponseError as error:
            reason = f"answered {error.status_code} {error.reason or ''}".strip()
            return Refused(reason) if error.status_code in _FINAL else Failed(reason)
        except AzureError as error:
            return Failed(f"{type(error).__name__}: {error.message}")
        finally:
            close = getattr(credential, "close", None)
            if close is not None:
                await close()
        return Sent()

    def _credential(self) -> AzureKeyCredential | AsyncTokenCredential:
        from azure.core.credentials import AzureKeyCredential

        if self.key is not None:
            return AzureKeyCredential(self.key)
        from azure.identity.aio import ManagedIdentityCredential

        return ManagedIdentityCredential(client_id=self.client_id)
