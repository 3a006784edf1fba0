"""What Windows nodes download, as far as the lab has it: files that stand in for Python, pip and WinFsp, and say so.

Served over TLS beside the control plane, named with their SHA-256 in its app settings, as an installation names its
own. The agent's wheel is not among them: it comes from the control plane, and is the real one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from aiohttp import web

# The lab makes Windows clusters where its environment has the control plane's own setting.
GATE: Final = "MIRRORPLANE_WINDOWS"
_FILES: Final[Mapping[str, str]] = MappingProxyType(
    {"python": "python-embed-amd64.zip", "pip": "pip-py3-none-any.whl", "winfsp": "winfsp.msi"}
)


def _content(name: str) -> bytes:
    return f"{name}: this file stands in for the real one; nothing in the lab runs it\n".encode()


def artifacts_app() -> web.Application:
    async def send(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in _FILES.values():
            raise web.HTTPNotFound
        return web.Response(body=_content(name), content_type="application/octet-stream")

    application = web.Application()
    application.router.add_get("/{name}", send)
    return application


def artifact_settings(url: str, gate: str) -> dict[str, str]:
    """The app settings of a control plane that may make Windows clusters."""
    named = {
        word: {"url": f"{url}/{name}", "sha256": hashlib.sha256(_content(name)).hexdigest()}
        for word, name in _FILES.items()
    }
    return {GATE: gate, "MIRRORPLANE_WINDOWS_ARTIFACTS": json.dumps(named)}
