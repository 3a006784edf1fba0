"""What the control plane asks of Azure Resource Manager, seen at the wire: the SDK's own requests, answered from here.

The clients, their pipelines and the code above them are the real ones; only the last step, the socket, is replaced.
`action_of` says which permission a request needs, by ARM's rule: the method names the verb, the path the resource type.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import requests
from azure.core.credentials import AccessToken
from azure.core.pipeline.transport import RequestsTransport

from shared.azure.session import AzureSession
from shared.azure.settings import AzureSettings

SUBSCRIPTION: Final = "00000000-0000-4000-8000-000000000001"
_VERBS: Final = {"GET": "read", "PUT": "write", "PATCH": "write", "DELETE": "delete"}


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    api_version: str
    body: Any


class _Wire(requests.adapters.BaseAdapter):
    """Every request succeeds, with nothing in the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Request] = []

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        parts = urlsplit(str(request.url))
        version = parse_qs(parts.query).get("api-version", [""])[0]
        body = json.loads(request.body) if isinstance(request.body, str | bytes) else None
        self.seen.append(Request(str(request.method), parts.path, version, body))
        answer = requests.Response()
        answer.status_code = 200
        answer.headers["Content-Type"] = "application/json"
        answer.raw = io.BytesIO(b"{}")
        answer.request = request
        answer.url = str(request.url)
        return answer

    def close(self) -> None:
        pass


class _Identity:
    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        return AccessToken("token-of-nobody", 4_102_444_800)


class RecordedSession(AzureSession):
    """The production session on a wire that remembers."""

    def __init__(self) -> None:
        super().__init__(AzureSettings(SUBSCRIPTION), _Identity())
        self._wire = _Wire()

    @property
    def seen(self) -> list[Request]:
        return self._wire.seen

    def _options(self) -> dict[str, Any]:
        session = requests.Session()
        session.mount("https://", self._wire)
        return {**super()._options(), "transport": RequestsTransport(session=session, session_owner=False)}


def action_of(request: Request) -> str:
    """`GET …/virtualMachines/x/instanceView` → Microsoft.Compute/virtualMachines/instanceView/read."""
    parts = [part for part in request.path.split("/") if part]
    if "providers" in parts:
        last = len(parts) - 1 - parts[::-1].index("providers")
        namespace, rest = parts[last + 1], parts[last + 2 :]
    else:
        # /subscriptions/S/resourceGroups/G[/resources]: ARM's own types, subscriptions included.
        namespace, rest = "Microsoft.Resources", parts
    kinds = rest[0::2]
    if request.method == "POST":
        return f"{namespace}/{'/'.join(kinds)}/action"
    if len(rest) % 2 == 0 and rest[-1] == "current":  # resource health's own name for "now" is part of the action
        kinds = [*kinds, "current"]
    return f"{namespace}/{'/'.join(kinds)}/{_VERBS[request.method]}"
