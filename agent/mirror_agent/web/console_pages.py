"""What the node's console shows to everybody: its static files, the test page, and the headers of every answer."""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from html import escape
from typing import Final

from aiohttp import web

from mirror_agent.web.probe import ProbeAnswer
from mirror_agent.web.static import static_files

HEADERS: Final = {
    "Server": "mirrorplane",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000",
}
TEST_PAGE_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 0; display: grid; place-items: center; min-height: 100vh;
  background: #f4f5f7; color: #1a1d21 }
main { background: #fff; border-radius: 12px; padding: 2rem 3rem; box-shadow: 0 2px 12px rgb(0 0 0 / .12) }
h1 { font-size: 1rem; font-weight: 500; margin: 0; color: #5a626b }
p.node { font-size: 4rem; font-weight: 700; line-height: 1.1; margin: .2em 0 }
dl { display: grid; grid-template-columns: auto auto; gap: .2rem 1.5rem; margin: 0 }
dt { color: #5a626b }
dd { margin: 0; font-variant-numeric: tabular-nums }
@media (prefers-color-scheme: dark) { body { background: #14171a; color: #e8eaed } main { background: #1f2328 }
  h1, dt { color: #9aa3ad } }
"""


async def protect(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)


def test_page(cluster: str, node: str, answer: ProbeAnswer) -> web.Response:
    """Which server answered, and its epoch. Closes the connection, so that the next one goes through the load
    balancer anew."""
    rows = {
        "Server": socket.gethostname(),
        "Role": answer.role.value,
        "Epoch": str(answer.epoch),
        "Time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    listing = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows.items())
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Mirrorplane test page</title>'
        '<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/mosaic.css">'
        '<link rel="icon" href="/console/mark.svg" type="image/svg+xml"></head>'
        f"<body><main><h1>Cluster {escape(cluster)} was answered by node</h1>"
        f'<p class="node">{escape(node)}</p><dl>{listing}</dl></main></body></html>\n'
    )
    return web.Response(text=page, content_type="text/html", headers={"Connection": "close"})


def static(name: str, request: web.Request) -> web.Response:
    """A file of the console: for everybody, since it holds nothing; what it shows it asks the API for."""
    file = static_files().get(name)
    if file is None:
        raise web.HTTPNotFound(text=f"there is no page {name!r}")
    if request.headers.get("If-None-Match") == file.etag:
        return web.Response(status=304, headers={"ETag": file.etag})
    return web.Response(body=file.content, content_type=file.content_type, charset="utf-8", headers={"ETag": file.etag})


def error(status: int, code: str, message: str) -> web.Response:
    """Every error has this shape."""
    return web.json_response({"error": {"code": code, "message": message}}, status=status)
