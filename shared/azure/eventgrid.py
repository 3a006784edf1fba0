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

_FINAL: Final = frozenset({400, 413})  # malformed, too large
_NO_RIGHT: Final = frozenset({401, 403})
REASON_CHARS: Final = 300


@dataclass(frozen=True, slots=True)
class TopicChannel:
    """`key` None: the managed identity with `client_id` (None: the system-assigned one)."""

    endpoint: str
    key: str | None = field(default=None, repr=False)
    client_id: str | None = None

    async def send(self, notice: Notice) -> Outcome:
        from azure.core.exceptions import AzureError, HttpResponseError, ResourceNotFoundError
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
        except ResourceNotFoundError as error:
            # Raised by the client with a text only: its status_code is None.
            return Refused(f"no such topic: {error.message}"[:REASON_CHARS])
        except HttpResponseError as error:
            return self._judged(error.status_code, error.message)
        except AzureError as error:
            return Failed(f"{type(error).__name__}: {error.message}")
        finally:
            close = getattr(credential, "close", None)
            if close is not None:
                await close()
        return Sent()

    def _judged(self, status: int | None, message: str) -> Outcome:
        """A wrong key stays wrong; a role assignment takes minutes to be known, and the identity endpoint may be away
        (then there is no status)."""
        reason = f"answered {status}: {message}"[:REASON_CHARS] if status is not None else message[:REASON_CHARS]
        final = status in _FINAL or (self.key is not None and status in _NO_RIGHT)
        return Refused(reason) if final else Failed(reason)

    def _credential(self) -> AzureKeyCredential | AsyncTokenCredential:
        from azure.core.credentials import AzureKeyCredential

        if self.key is not None:
            return AzureKeyCredential(self.key)
        from azure.identity.aio import ManagedIdentityCredential

        return ManagedIdentityCredential(client_id=self.client_id)
