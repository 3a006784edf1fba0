"""The files of the node's console, read once from the package; found by exact name, so that no path leaves it.

The control plane's console uses the look and the small library from here (`shared.console.files`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

DIRECTORY: Final = Path(__file__).with_name("pages")
PAGE: Final = "index.html"
CONTENT_TYPES: Final = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True)
class StaticFile:
    content: bytes
    content_type: str
    etag: str


@cache
def static_files() -> Mapping[str, StaticFile]:
    found: dict[str, StaticFile] = {}
    for path in sorted(DIRECTORY.iterdir()):
        if path.suffix in CONTENT_TYPES:
            content = path.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            found[path.name] = StaticFile(content, CONTENT_TYPES[path.suffix], etag)
    return found
