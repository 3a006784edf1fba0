"""The publishing side of custom topics: `POST /{topic}/api/events`, key in `aeg-sas-key`.

What `EventGridPublisherClient(endpoint, AzureKeyCredential(key))` needs, unmodified. Limits as documented: 1 MB a
request, 5,000 events a batch. Tokens (Entra, SAS) are not modelled.
"""

from __future__ import annotations

import hmac
import json
import ssl as tls
from typing import Any

from aiohttp import web

from lab.eventgrid.broker import Broker, TooManyPending, utc_now
from lab.eventgrid.model import MalformedEvent, Schema, parse_event
from lab.serve import serve_app

MAX_REQUEST_BYTES = 1024 * 1024
MAX_EVENTS = 5000


class Ingress:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def app(self) -> web.Application:
        application = web.Application(client_max_size=MAX_REQUEST_BYTES)
        application.router.add_post("/{topic}/api/events", self._publish)
        return application

    async def _publish(self, request: web.Request) -> web.Response:
        topic = self._broker.topic(request.match_info["topic"])
        if topic is None or topic.key is None:
            return _refuse(404, "NotFound", "There is no such topic.")
        if not hmac.compare_digest(request.headers.get("aeg-sas-key", "").encode(), topic.key.encode()):
            return _refuse(401, "Unauthorized", "The request authorization key is not authorized for this topic.")
        try:
            documents = _documents(await request.read(), request.content_type, topic.schema)
            events = [parse_event(d, topic.schema, topic_id=topic.id, now_utc=utc_now()) for d in documents]
        except web.HTTPRequestEntityTooLarge:
            return _refuse(413, "PayloadTooLarge", f"The request is larger than {MAX_REQUEST_BYTES} bytes.")
        except MalformedEvent as error:
            return _refuse(400, "BadRequest", str(error))
        try:
            for event in events:
                self._broker.publish(topic, event)
        except TooManyPending as error:
            return _refuse(503, "ServerBusy", str(error))
        return web.Response(status=200)


def _documents(body: bytes, content_type: str, schema: Schema) -> list[Any]:
    """The events of a request. Raises `MalformedEvent`."""
    try:
        parsed = json.loads(body)
    except ValueError as error:
        raise MalformedEvent(f"the body is not JSON: {error}") from error
    if schema is Schema.CLOUD_EVENTS and content_type == "application/cloudevents+json":
        return [parsed]
    wanted = "application/cloudevents-batch+json" if schema is Schema.CLOUD_EVENTS else "application/json"
    if content_type != wanted:
        raise MalformedEvent(f"the topic takes {schema}; Content-Type {content_type!r} should be {wanted!r}")
    if not isinstance(parsed, list) or not 1 <= len(parsed) <= MAX_EVENTS:
        raise MalformedEvent(f"the body must be an array of 1 to {MAX_EVENTS} events")
    return parsed


def _refuse(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"error": {"code": code, "message": message, "details": []}}, status=status)


async def serve_event_grid(
    broker: Broker, host: str, port: int, ssl: tls.SSLContext | None = None
) -> tuple[web.AppRunner, str]:
    """(runner, base URL); a topic's endpoint is `{base}/{topic}/api/events`."""
    return await serve_app(Ingress(broker).app(), host, port, ssl)
