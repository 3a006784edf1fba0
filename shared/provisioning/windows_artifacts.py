"""Whether this control plane makes Windows clusters, and what a bare Windows Server has to fetch before an agent runs.

Both are app settings, because neither is a matter of code alone: no part of this has been run on Windows or on Azure
(docs/windows.md says what was seen instead), so it is refused until somebody says `preview` for this installation; and
Python, pip and WinFsp come from where that installation takes its programs, named with their SHA-256.
Guarantee: without both settings nothing of a Windows cluster is made; a cluster that exists is repaired and deleted
whatever became of the first, and repaired only while the second is there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

GATE: Final = "MIRRORPLANE_WINDOWS"
ARTIFACTS: Final = "MIRRORPLANE_WINDOWS_ARTIFACTS"
PREVIEW: Final = "preview"
REFUSED: Final = (
    f"Windows clusters are a preview that never ran on Azure or on Windows itself (docs/windows.md says what was seen "
    f"instead); the app setting {GATE}={PREVIEW} allows them, {ARTIFACTS} names what their nodes download"
)
UPGRADE_REFUSED: Final = (
    "the agent of a Windows node cannot be exchanged in place yet; give the control plane the new agent and replace "
    "the nodes one after the other, the redundant one first (delete its VM: it is made anew)"
)
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_EXAMPLE: Final = '{"python": {"url": "https://…", "sha256": "…"}, "pip": {…}, "winfsp": {…}}'


@dataclass(frozen=True, slots=True)
class Artifact:
    """Something a node downloads. Raises ValueError without https or a SHA-256."""

    url: str
    sha256: str

    def __post_init__(self) -> None:
        if not self.url.startswith("https://"):
            raise ValueError(f"{self.url!r} is not https; a node downloads nothing else")
        if set("\"'`$") & set(self.url) or not self.url.isascii() or not self.url.isprintable():
            raise ValueError(f"{self.url!r} holds characters that have to be written as %XX")
        if not _SHA256.fullmatch(self.sha256):
            raise ValueError(f"{self.url}: {self.sha256!r} is no SHA-256 (64 small hexadecimal digits)")


@dataclass(frozen=True, slots=True)
class WindowsArtifacts:
    """The embeddable package of Python, a wheel of pip, the installer of WinFsp."""

    python: Artifact
    pip: Artifact
    winfsp: Artifact


def read_windows(environment: Mapping[str, str]) -> WindowsArtifacts | None:
    """What Windows nodes download; None where Windows clusters are refused. Raises ValueError naming the setting."""
    gate, text = environment.get(GATE, ""), environment.get(ARTIFACTS, "")
    if gate == "":
        return None
    if gate != PREVIEW:
        raise ValueError(f"{GATE} is {gate!r}; valid: {PREVIEW!r}, or absent")
    if not text:
        raise ValueError(f"{GATE} is {PREVIEW!r}, so {ARTIFACTS} must name what the nodes download: {_EXAMPLE}")
    try:
        return _artifacts(json.loads(text))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{ARTIFACTS}: {error}; it looks like {_EXAMPLE}") from None


def _artifacts(document: Any) -> WindowsArtifacts:
    names = [field.name for field in fields(WindowsArtifacts)]
    if not isinstance(document, dict) or set(document) != set(names):
        raise ValueError(f"it has to name exactly {', '.join(names)}")
    found = {}
    for name in names:
        entry = document[name]
        strings = isinstance(entry, dict) and all(isinstance(value, str) for value in entry.values())
        if not strings or set(entry) != {"url", "sha256"}:
            raise ValueError(f"{name} has to be an object of url and sha256")
        found[name] = Artifact(**entry)
    return WindowsArtifacts(**found)
