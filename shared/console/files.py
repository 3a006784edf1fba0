"""The console's static files: which there are, how they are served.

The look, the words and the small library are those of the nodes' console and lie in the agent's package (`SHARED`);
`console/` holds what is the control plane's own.

Guarantees: only files that were there when the process started are served, found by their exact name, so no
path can leave the directory; every answer forbids foreign origins, inline code, framing and sniffing; a file that the
browser has already costs a 304. The files hold no data: what they show they ask the API for, with the user's token.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Final

DIRECTORY: Final = Path(__file__).resolve().parents[2] / "console"
PAGE: Final = "index.html"
SHARED: Final = ("dom.js", "words.js", "dialog.js", "live.js", "console.css", "mark.svg")
CONTENT_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Asked for again each time, answered 304 while it is the same: a new release is never mixed with an old one.
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True)
class StaticFile:
    content: bytes
    content_type: str
    etag: str


@dataclass(frozen=True)
class StaticAnswer:
    status: int
    headers: Mapping[str, str]
    content: bytes = b""
    content_type: str = CONTENT_TYPES[".html"]


def load(directory: Path = DIRECTORY) -> Mapping[str, StaticFile]:
    """All files below the directory by their path, such as `pages/fleet.js`, and the shared ones. Raises ValueError for
    an unknown kind, FileNotFoundError when the agent's package lacks a shared one."""
    shared = resources.files("mirror_agent").joinpath("web", "pages")
    found = {name: _file(name, shared.joinpath(name).read_bytes()) for name in SHARED}
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            name = path.relative_to(directory).as_posix()
            found[name] = _file(name, path.read_bytes())
    return found


def _file(name: str, content: bytes) -> StaticFile:
    kind = PurePosixPath(name).suffix
    if kind not in CONTENT_TYPES:
        raise ValueError(f"console/{name}: files of kind {kind!r} are not served; see CONTENT_TYPES")
    return StaticFile(content, CONTENT_TYPES[kind], f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def answer(files: Mapping[str, StaticFile], name: str, if_none_match: str) -> StaticAnswer:
    file = files.get(name)
    if file is None:
        return StaticAnswer(404, HEADERS)
    headers = {**HEADERS, "ETag": file.etag}
    if file.etag in (tag.strip().removeprefix("W/") for tag in if_none_match.split(",")):
        return StaticAnswer(304, headers, b"", file.content_type)
    return StaticAnswer(200, headers, file.content, file.content_type)
