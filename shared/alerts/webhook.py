"""Webhooks: one POST, signed as the Standard Webhooks specification says, so that receivers verify it with a library.

Headers: `webhook-id` (the notice's id, the same at every attempt), `webhook-timestamp` (seconds), `webhook-signature`:
`v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`. Receivers refuse old timestamps against replay. Redirects are
not followed: a signed body goes to the configured address and nowhere else. A mail is a webhook too: its body is
{to, subject, text} for a gateway (a Logic App, a mail API) that only forwards.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import aiohttp

from shared.alerts.courier import Failed, Outcome, Refused, Sent
from shared.alerts.limits import SEND_TIMEOUT_S
from shared.alerts.message import cloud_event, text, title
from shared.model.alert import Notice

# Client errors that may pass: time-out, conflict, too early, too many requests.
_PASSING: Final = frozenset({408, 409, 425, 429})


class Format(StrEnum):
    CLOUD_EVENT = "cloudevent"
    MAIL = "mail"


@dataclass(frozen=True, slots=True)
class WebhookChannel:
    url: str = field(repr=False)  # an address may hold a key
    secret: bytes = field(repr=False)
    clock: Callable[[], datetime]
    format: Format = Format.CLOUD_EVENT
    to: tuple[str, ...] = ()

    async def send(self, notice: Notice) -> Outcome:
        body = json.dumps(self._body(notice), ensure_ascii=False, separators=(",", ":")).encode()
        kind = "application/cloudevents+json" if self.format is Format.CLOUD_EVENT else "application/json"
        headers = {"Content-Type": kind, **signature(self.secret, notice.id, self.clock(), body)}
        timeout = aiohttp.ClientTimeout(total=SEND_TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(self.url, data=body, headers=headers, allow_redirects=False) as answer,
            ):
                return judged(answer.status)
        except TimeoutError:
            return Failed(f"no answer within {SEND_TIMEOUT_S:g} s")
        except aiohttp.InvalidURL:
            return Refused("the address is no URL")
        except (aiohttp.ClientError, OSError) as error:
            return Failed(type(error).__name__)  # its text would repeat the address

    def _body(self, notice: Notice) -> dict[str, Any]:
        match self.format:
            case Format.CLOUD_EVENT:
                return cloud_event(notice)
            case Format.MAIL:
                return {"to": list(self.to), "subject": title(notice), "text": text(notice), "id": notice.id}


def signature(secret: bytes, notice_id: str, at: datetime, body: bytes) -> dict[str, str]:
    stamp = str(int(at.timestamp()))
    digest = hmac.new(secret, f"{notice_id}.{stamp}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": notice_id,
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def judged(status: int) -> Outcome:
    if 200 <= status < 300:
        return Sent()
    if 400 <= status < 500 and status not in _PASSING:
        return Refused(f"answered {status}")
    return Failed(f"answered {status}")
