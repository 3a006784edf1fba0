"""The function index, the table of endpoints and the OpenAPI document list the same things."""

from __future__ import annotations

import json
import re

from shared.api.endpoint import Guard
from shared.api.endpoints import ENDPOINTS
from shared.api.openapi import document, documented_route
from tests.control_plane_app import App, functions

# A function that disappears from here has disappeared from Azure: an import error leaves the app "green" and empty.
TRIGGERED = {
    "alert_delivery": "timerTrigger",
    "drift": "timerTrigger",
    "health_audit": "timerTrigger",
    "key_care": "timerTrigger",
    "operation_repair": "timerTrigger",
    "remediation": "timerTrigger",
    "retention": "timerTrigger",
    "platform_event": "eventGridTrigger",
    "reconcile": "queueTrigger",
    "reconcile_poison": "queueTrigger",
}

AT_THE_ROOT = {"metrics": "metrics"}  # served like the endpoints, but not below /api and not versioned
STATIC = {"console_page": "/", "console_file": "console/{*path}"}  # files without data, open to anybody


def _trigger(name: str) -> dict[str, object]:
    trigger = functions()[name].get_trigger()
    assert trigger is not None
    return dict(trigger.get_dict_repr())


def test_every_function_is_known_and_every_known_function_is_there() -> None:
    assert set(functions()) == set(ENDPOINTS) | set(TRIGGERED) | set(STATIC) | set(AT_THE_ROOT)
    assert {name: _trigger(name)["type"] for name in TRIGGERED} == TRIGGERED


def test_every_http_function_serves_the_endpoint_of_its_name() -> None:
    for name, endpoint in ENDPOINTS.items():
        trigger = _trigger(name)
        assert trigger["type"] == "httpTrigger"
        assert trigger["route"] == f"api/{endpoint.route}"
        assert [str(getattr(method, "value", method)) for method in trigger["methods"]] == [endpoint.method]  # type: ignore[attr-defined]


def test_the_console_has_its_own_two_routes() -> None:
    assert {name: _trigger(name)["route"] for name in STATIC} == STATIC
    assert {name: _trigger(name)["route"] for name in AT_THE_ROOT} == AT_THE_ROOT


def test_only_health_is_open_to_anybody() -> None:
    assert [endpoint.name for endpoint in ENDPOINTS.values() if endpoint.guard is Guard.ANYBODY] == ["health"]


def test_the_openapi_document_lists_every_endpoint_and_nothing_else() -> None:
    described = {
        (method.upper(), path.lstrip("/"))
        for path, operations in document("https://x")["paths"].items()
        for method in operations
    }
    assert described == {(endpoint.method, documented_route(endpoint)) for endpoint in ENDPOINTS.values()}


def test_the_openapi_document_is_whole() -> None:
    made = document("https://x")
    assert made["openapi"] == "3.1.0"
    text = json.dumps(made)
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', text))
    assert names <= set(made["components"]["schemas"])
    for path, operations in made["paths"].items():
        for operation in operations.values():
            named = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"}
            assert named == set(re.findall(r"\{(\w+)\}", path))
    put = made["paths"]["/clusters/{name}"]["put"]
    assert put["x-required-role"] == "Admin"
    schema = made["components"]["schemas"]["ClusterSpec"]
    assert schema["additionalProperties"] is False
    assert {"location", "compute", "network", "application"} <= set(schema["properties"])


async def test_the_document_is_served(app: App) -> None:
    reply = await app.send("GET", "openapi.json")
    assert reply.status == 200
    assert reply.body["servers"] == [{"url": "https://control.example.org/api"}]
