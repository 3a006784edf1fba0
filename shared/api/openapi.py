"""The OpenAPI 3.1 document, generated from the endpoints and the models that check and make the bodies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from mirror_agent.contract import ALL_NODES, CommandAction
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from shared.api.call import API_VERSION, MAX_TOP
from shared.api.endpoint import Endpoint, Guard
from shared.api.endpoints import ENDPOINTS
from shared.api.fleet import Order
from shared.api.problem import STATUS
from shared.api.strips import MAX_HOURS
from shared.api.views import ErrorView
from shared.health.verdict import Health
from shared.model.alert import AlertState, DeadLetterKind, Severity
from shared.model.cluster_spec import NAME_PATTERN

_JSON: Final = "application/json"
_SECURITY: Final[dict[Guard, list[dict[str, list[str]]]]] = {
    Guard.ANYBODY: [],
    Guard.NODE: [{"nodeCredential": []}],
    Guard.ENROLMENT: [{"enrolmentToken": []}],
    Guard.CREDENTIAL_LINK: [{"credentialLink": []}],
    Guard.NODE_OR_ENROLMENT: [{"nodeCredential": []}, {"enrolmentToken": []}],
}
_QUERY: Final[dict[str, dict[str, Any]]] = {
    "top": {"schema": {"type": "integer", "minimum": 1, "maximum": MAX_TOP}, "description": "Rows of a page."},
    "continue": {"schema": {"type": "string"}, "description": "From a nextLink."},
    "from": {"schema": {"type": "string", "format": "date-time"}, "description": "Nothing older, by our clock."},
    "to": {"schema": {"type": "string", "format": "date-time"}, "description": "Nothing newer, by our clock."},
    "state": {"schema": {"type": "string", "enum": [state.value for state in AlertState]}},
    "verdict": {"schema": {"type": "string", "enum": [state.value for state in Health]}},
    "order": {"schema": {"type": "string", "enum": [order.value for order in Order]}},
    "search": {"schema": {"type": "string"}, "description": "A part of the cluster's name."},
    "hours": {"schema": {"type": "integer", "minimum": 1, "maximum": MAX_HOURS}, "description": "Of the past."},
    "severity": {"schema": {"type": "string", "enum": [severity.value for severity in Severity]}},
    "cluster": {"schema": {"type": "string"}, "description": "Only of this cluster."},
    "sha256": {"schema": {"type": "string"}, "description": "Of the wheel; without it the one new nodes get."},
    "kind": {"schema": {"type": "string", "enum": [kind.value for kind in DeadLetterKind]}, "required": True},
    "node": {"schema": {"type": "string", "enum": list(ALL_NODES)}, "required": True},
}
_PATH: Final[dict[str, dict[str, Any]]] = {
    "name": {"type": "string", "pattern": NAME_PATTERN},
    "action": {"type": "string", "enum": [action.value for action in CommandAction]},
    "id": {"type": "string"},
}


# (model, mode) → {"$ref": …}
References = Mapping[tuple[Any, JsonSchemaMode], dict[str, Any]]


def document(public_url: str) -> dict[str, Any]:
    """A new document each time; it is JSON-ready."""
    references, schemas = _schemas()
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in ENDPOINTS.values():
        path = "/" + documented_route(endpoint)
        paths.setdefault(path, {})[endpoint.method.lower()] = _operation(endpoint, references)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Mirrorplane control plane",
            "version": API_VERSION,
            "description": "Provisions high-availability mirror clusters and watches over them.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": f"{public_url}/api"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "apiToken": {"type": "http", "scheme": "bearer", "description": "mp_…; role Admin, Control or Monitor"},
                "nodeCredential": {"type": "http", "scheme": "bearer", "description": "mpn_…; from enrolment"},
                "credentialLink": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "mpc_…; the end of a one-time link",
                },
                "enrolmentToken": {"type": "http", "scheme": "bearer", "description": "mpe_…; single use, one hour"},
            },
        },
    }


def documented_route(endpoint: Endpoint) -> str:
    return endpoint.documented_route or endpoint.route


def _schemas() -> tuple[References, dict[str, Any]]:
    wanted: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {(ErrorView, "serialization"): None}
    for endpoint in ENDPOINTS.values():
        if endpoint.body is not None:
            wanted[endpoint.body, "validation"] = None
        for model in endpoint.answers.values():
            if model is not None:
                wanted[model, "serialization"] = None
    references, definitions = models_json_schema(
        list(wanted), by_alias=True, ref_template="#/components/schemas/{model}"
    )
    return references, definitions["$defs"]


def _operation(endpoint: Endpoint, references: References) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "security": _SECURITY.get(endpoint.guard, [{"apiToken": []}]),
        "parameters": _parameters(endpoint),
        "responses": _responses(endpoint, references),
    }
    if endpoint.versioned:
        operation["x-required-role"] = endpoint.guard.value
    if endpoint.body is not None:
        operation["requestBody"] = {
            "required": endpoint.body_required,
            "content": {_JSON: {"schema": references[endpoint.body, "validation"]}},
        }
    return operation


def _parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": _PATH[name]}
        for name in re.findall(r"\{(\w+)\}", documented_route(endpoint))
    ]
    if endpoint.versioned:
        schema = {"type": "string", "enum": [API_VERSION]}
        parameters.append({"name": "api-version", "in": "query", "required": True, "schema": schema})
    parameters += [{"name": name, "in": "query", **_QUERY[name]} for name in endpoint.query]
    parameters += [{"name": name, "in": "header", "schema": {"type": "string"}} for name in endpoint.request_headers]
    return parameters


def _responses(endpoint: Endpoint, references: References) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, model in endpoint.answers.items():
        answer: dict[str, Any] = {"description": HTTPStatus(status).phrase}
        if model is not None:
            answer["content"] = {_JSON: {"schema": references[model, "serialization"]}}
        responses[str(status)] = answer
    codes = ", ".join(sorted(STATUS))
    responses["default"] = {
        "description": f"Refused. `code` is one of: {codes}.",
        "headers": {"x-ms-error-code": {"schema": {"type": "string"}}},
        "content": {_JSON: {"schema": references[ErrorView, "serialization"]}},
    }
    return responses
