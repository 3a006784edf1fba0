"""A request and an answer without any trigger: what the endpoints see and return."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from mirror_agent.contract import NodeName
from pydantic import BaseModel, ValidationError

from shared.api.problem import Problem, from_validation

API_VERSION: Final = "2026-11-01"
MAX_BODY_BYTES: Final = 1024 * 1024
DEFAULT_TOP: Final = 50
MAX_TOP: Final = 100
B = TypeVar("B", bound=BaseModel)


@dataclass(frozen=True)
class Call:
    """`headers` have lower-case names; `route` and `query` hold decoded texts."""

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    route: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes = field(repr=False)
    request_id: str = ""


@dataclass(frozen=True)
class Answer:
    """`body` is a JSON document, or bytes as they are, or nothing."""

    status: int
    body: Mapping[str, Any] | bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


def model_json(model: BaseModel, *, without_none: bool = False) -> dict[str, Any]:
    return model.model_dump(mode="json", by_alias=True, exclude_none=without_none)


def body_of(call: Call, model: type[B], *, strict: bool = True) -> B:
    """The body as `model`. `strict` refuses "8080" for 8080. Raises Problem."""
    if len(call.body) > MAX_BODY_BYTES:
        raise Problem("RequestBodyTooLarge", f"the body has {len(call.body)} bytes; {MAX_BODY_BYTES} is the limit")
    try:
        document = json.loads(call.body, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem("InvalidJson", f"the body is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise Problem("InvalidJson", f"the body must be a JSON object, found {type(document).__name__}")
    try:
        return model.model_validate_json(call.body, strict=strict)
    except ValidationError as error:
        raise from_validation(error) from None


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise Problem("InvalidJson", f"the field {key!r} is given twice", key)
        found[key] = value
    return found


def _no_constant(text: str) -> None:
    raise Problem("InvalidJson", f"{text} is no JSON number")


def node_parameter(call: Call, nodes: tuple[NodeName, ...]) -> NodeName:
    value = call.query.get("node", "")
    for node in nodes:
        if value == node:
            return node
    raise Problem("InvalidParameter", f"the query parameter node is {value!r}; give one of {', '.join(nodes)}", "node")


def top_parameter(call: Call) -> int:
    text = call.query.get("top", str(DEFAULT_TOP))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= MAX_TOP:
        raise Problem("InvalidParameter", f"the query parameter top is {text!r}; give 1 to {MAX_TOP}", "top")
    return int(text)


def continuation(call: Call, prefix: str) -> str | None:
    """The text behind a `continue` parameter that an earlier page of the same list gave. Raises Problem."""
    token = call.query.get("continue")
    if token is None:
        return None
    try:
        text = base64.urlsafe_b64decode(token.encode("ascii", "strict")).decode()
    except (binascii.Error, ValueError):
        text = ""
    kind, separator, rest = text.partition(":")
    if kind != prefix or not separator:
        raise Problem(
            "InvalidParameter", "the query parameter continue is not from a nextLink of this list", "continue"
        )
    return rest


def continuation_token(prefix: str, text: str) -> str:
    return base64.urlsafe_b64encode(f"{prefix}:{text}".encode()).decode()
