"""Where the lab's control plane sends its notices: a webhook receiver, as an on-call service would run one.

It verifies what a receiver must verify (Standard Webhooks: signature over id, timestamp and body, timestamps of the
last five minutes only) and keeps each notice once, by its id, in memory and in a file. `refuse` makes it answer 503, so
that retries can be seen. Limits: the newest MAX_KEPT notices are shown; all are in the file.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from aiohttp import web

PATH: Final = "/notices"
MAX_AGE_S: Final = 300
MAX_KEPT: Final = 1000


class Inbox:
    def __init__(self, file: Path) -> None:
        self._file = file
        self._secret = secrets.token_bytes(32)
        self._kept: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._refusing = False

    @property
    def secret(self) -> str:
        """As the sender's setting takes it."""
        return f"whsec_{base64.b64encode(self._secret).decode()}"

    def app(self) -> web.Application:
        application = web.Application(client_max_size=1024 * 1024)
        application.router.add_post(PATH, self._receive)
        return application

    def commands(self) -> Mapping[str, Callable[..., Awaitable[Any]]]:
        return {"notices": self.notices, "refuse-notices": self.refuse}

    async def notices(self) -> list[dict[str, Any]]:
        """Oldest first."""
        return list(self._kept.values())

    async def refuse(self, on: bool) -> str:
        self._refusing = on
        return "notices are answered 503" if on else "notices are taken"

    async def _receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self._refusing:
            return web.Response(status=503)
        if not self._genuine(request.headers, body):
            return web.Response(status=401)
        identity = request.headers["webhook-id"]
        if identity not in self._kept:
            notice = json.loads(body)
            self._kept[identity] = notice
            while len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(notice) + "\n")
        return web.Response(status=204)

    def _genuine(self, headers: Mapping[str, str], body: bytes) -> bool:
        identity, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        version, _, signature = headers.get("webhook-signature", "").partition(",")
        if not identity or not stamp.isdecimal() or version != "v1" or abs(time.time() - int(stamp)) > MAX_AGE_S:
            return False
        wanted = hmac.new(self._secret, f"{identity}.{stamp}.".encode() + body, hashlib.sha256).digest()
        try:
            return hmac.compare_digest(base64.b64decode(signature, validate=True), wanted)
        except binascii.Error:
            return False
