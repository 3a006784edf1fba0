"""The channels of the app settings: which Event Grid topic and which webhooks are told. Read once and checked.

- `MIRRORPLANE_ALERT_TOPIC_ENDPOINT`, and `MIRRORPLANE_ALERT_TOPIC_KEY`: without the key, the managed identity
  (`MIRRORPLANE_ALERT_TOPIC_CLIENT_ID` for a user-assigned one).
- `MIRRORPLANE_ALERT_WEBHOOKS`: a JSON array of {name, url, secret, minimumSeverity?, format?, to?}. `secret` is
  `whsec_` and base64 of at least 24 bytes; `format` is `cloudevent` or `mail`.
Without any of them alerts are still raised and shown, and nobody is called.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError, field_validator

from shared.alerts.courier import Courier, Line
from shared.alerts.webhook import Format, WebhookChannel
from shared.azure.eventgrid import TopicChannel
from shared.model.alert import Severity
from shared.model.document import ApiModel
from shared.settings import SettingInvalid

TOPIC: Final = "event-grid"
MAX_WEBHOOKS: Final = 10
MIN_SECRET_BYTES: Final = 24
_ENDPOINT: Final = "MIRRORPLANE_ALERT_TOPIC_ENDPOINT"
_WEBHOOKS: Final = "MIRRORPLANE_ALERT_WEBHOOKS"


class WebhookSetting(ApiModel):
    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
    url: str = Field(repr=False)
    secret: str = Field(repr=False)
    minimum_severity: Severity = Severity.INFO
    format: Format = Format.CLOUD_EVENT
    to: tuple[str, ...] = ()

    @field_validator("url")
    @classmethod
    def _is_https(cls, url: str) -> str:
        """Plain HTTP only to this machine: a notice names clusters, and the address may hold a key."""
        parts = urlsplit(url)
        if (parts.scheme == "https" and parts.hostname) or parts.hostname in ("127.0.0.1", "::1", "localhost"):
            return url
        raise ValueError("the address must begin with https://")

    @field_validator("secret")
    @classmethod
    def _is_long_enough(cls, secret: str) -> str:
        if len(_key(secret)) < MIN_SECRET_BYTES:
            raise ValueError(f"give whsec_ and base64 of at least {MIN_SECRET_BYTES} random bytes")
        return secret


_SETTING: Final = TypeAdapter(Annotated[tuple[WebhookSetting, ...], Field(max_length=MAX_WEBHOOKS)])


def read_courier(environment: Mapping[str, str], clock: Callable[[], datetime]) -> Courier:
    """Raises SettingInvalid."""
    lines: dict[str, Line] = {}
    endpoint = environment.get(_ENDPOINT, "")
    if endpoint:
        if not endpoint.startswith(("https://", "http://127.0.0.1")):
            raise SettingInvalid(f"{_ENDPOINT} is {endpoint!r}; it must begin with https://")
        key = environment.get("MIRRORPLANE_ALERT_TOPIC_KEY") or None
        client_id = environment.get("MIRRORPLANE_ALERT_TOPIC_CLIENT_ID") or None
        lines[TOPIC] = Line(TopicChannel(endpoint, key, client_id))
    for hook in _webhooks(environment.get(_WEBHOOKS, "")):
        if hook.name in lines:
            raise SettingInvalid(f"{_WEBHOOKS} names the channel {hook.name!r} twice; every channel needs its own name")
        channel = WebhookChannel(hook.url, _key(hook.secret), clock, hook.format, hook.to)
        lines[hook.name] = Line(channel, hook.minimum_severity)
    return Courier(lines)


def _webhooks(text: str) -> tuple[WebhookSetting, ...]:
    if not text:
        return ()
    try:
        return _SETTING.validate_json(text)
    except ValidationError as error:
        # Never the values: they hold secrets.
        found = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in found["loc"])
        raise SettingInvalid(f"{_WEBHOOKS}: {place or 'the text'}: {found['msg']}; see docs/alerts.md") from None


def _key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        return b""
