"""HTTP to the control plane: one function, errors as sentences."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from mirrorplane_cli.outcome import ExitCode, Failed
from mirrorplane_cli.profile import Profile

API_VERSION: Final = "2026-11-01"
TIMEOUT_S: Final = 60.0


@dataclass(frozen=True)
class Reply:
    body: Any
    operation: str | None


class ControlPlane:
    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        https = profile.url.startswith("https:")
        try:
            self._tls = ssl.create_default_context(cafile=profile.ca) if https else None
        except (OSError, ssl.SSLError) as error:
            raise Failed(ExitCode.USAGE, f"the CA file {profile.ca!r} cannot be used: {error}") from None

    def get(self, path: str, **query: str | None) -> Any:
        return self.send("GET", path, query=query).body

    def every(self, path: str, **query: str | None) -> Iterator[dict[str, Any]]:
        """All rows of a list, page by page."""
        body = self.get(path, **query)
        while True:
            yield from body["value"]
            link = body.get("nextLink")
            if link is None:
                return
            parts = urlsplit(link)  # only its path: the control plane names its public address
            body = self._send("GET", f"{parts.path}?{parts.query}", None, {}).body

    def send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, str | None] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Raises Failed."""
        given = {"api-version": API_VERSION, **{key: value for key, value in (query or {}).items() if value}}
        return self._send(method, f"/api/{quote(path, safe='/:')}?{urlencode(given)}", body, dict(headers or {}))

    def _send(self, method: str, target: str, body: object, headers: dict[str, str]) -> Reply:
        headers["Authorization"] = f"Bearer {self._profile.token}"
        content = None
        if body is not None:
            content = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(self._profile.url + target, content, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=self._tls) as answer:
                text = answer.read()
                return Reply(json.loads(text) if text else None, answer.headers.get("Operation-Id"))
        except urllib.error.HTTPError as error:
            with error:
                raise _refusal(error) from None
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            reason = getattr(error, "reason", error)
            raise Failed(ExitCode.UNREACHABLE, f"{self._profile.url} does not answer: {reason}") from None


def _refusal(error: urllib.error.HTTPError) -> Failed:
    try:
        found = json.loads(error.read())["error"]
    except (ValueError, KeyError, TypeError):
        return Failed(ExitCode.REFUSED, f"the control plane answered {error.code} {error.reason}")
    lines = [f"{found['message']} [{found['code']}]"]
    if found.get("target"):
        lines.append(f"  field: {found['target']}")
    lines += [
        f"  {detail['target']}: {detail['message']}" for detail in found.get("details") or () if detail.get("target")
    ]
    code = ExitCode.NOT_SIGNED_IN if error.code == 401 else ExitCode.REFUSED
    return Failed(code, "\n".join(dict.fromkeys(lines)))
