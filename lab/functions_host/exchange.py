"""HTTP requests and answers without sockets: what the front hands in and sends out."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl


@dataclass(frozen=True, slots=True)
class Request:
    """`path` and `query` are as on the request line (percent-encoded, without the question mark)."""

    method: str
    path: str
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    origin: str = "http://localhost"  # scheme and authority, for the absolute URL the function sees

    def header(self, name: str) -> str:
        """The first value of a header, or ""."""
        return next((value for key, value in self.headers if key.lower() == name), "")

    def media_type(self) -> str:
        return self.header("content-type").split(";")[0].strip().lower()

    def joined_headers(self) -> dict[str, str]:
        """Lower-case names; repeated ones joined with "," as the Azure host does."""
        return _joined((name.lower(), value) for name, value in self.headers)

    def parameters(self) -> dict[str, str]:
        """Query values; repeated names joined with ",", empty values dropped, as the Azure host does."""
        return _joined(parse_qsl(self.query))

    def url(self) -> str:
        return f"{self.origin}{self.path}{'?' if self.query else ''}{self.query}"

    def key(self) -> str | None:
        """The access key: the header wins over the query."""
        return self.header("x-functions-key") or self.parameters().get("code")


@dataclass(frozen=True, slots=True)
class Response:
    """`headers` may repeat a name (Set-Cookie)."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


def answer_text(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    content_type = ("Content-Type", "text/plain; charset=utf-8")
    return Response(status, (content_type, *(headers or {}).items()), text.encode())


def answer_json(status: int, value: Any) -> Response:
    return Response(status, (("Content-Type", "application/json; charset=utf-8"),), json.dumps(value).encode())


def _joined(pairs: Any) -> dict[str, str]:
    values: dict[str, str] = {}
    for name, value in pairs:
        values[name] = f"{values[name]},{value}" if name in values else value
    return values
