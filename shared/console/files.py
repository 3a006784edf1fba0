"""The console's static files: which there are, how they are served.

Guarantees: only files that lay in `console/` when the process started are served, found by their exact name, so no
path can leave the directory; every answer forbids foreign origins, inline code, framing and sniffing; a file that the
browser has already costs a 304. The files hold no data: what they show they ask the API for, with the user's token.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DIRECTORY: Final = Path(__file__).resolve().parents[2] / "console"
PAGE: Final = "index.html"
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
    """All files below the directory by their path, such as `pages/fleet.js`. Raises ValueError for an unknown kind."""
    found: dict[str, StaticFile] = {}
    for path in sorted(directory.rglob("*")):
        if not path.is_file():
            continue
        name = path.relative_to(directory).as_posix()
        if path.suffix not in CONTENT_TYPES:
            raise ValueError(f"console/{name}: files of kind {path.suffix!r} are not served; see CONTENT_TYPES")
        content = path.read_bytes()
        etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        found[name] = StaticFile(content, CONTENT_TYPES[path.suffix], etag)
    return found


def answer(files: Mapping[str, StaticFile], name: str, if_none_match: str) -> StaticAnswer:
    file = files.get(name)
    if file is None:
        return StaticAnswer(404, HEADERS)
    headers = {**HEADERS, "ETag": file.etag}
    if file.etag in (tag.strip().removeprefix("W/") for tag in if_none_match.split(",")):
        return StaticAnswer(304, headers, b"", file.content_type)
    return StaticAnswer(200, headers, file.content, file.content_type)
