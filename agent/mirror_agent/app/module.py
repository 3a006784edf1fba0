"""The files of the application module on this node, and whether `prepare` has run for them.

Guarantee: a file is replaced atomically and only when its content or mode differs; a file of an earlier configuration
that is no longer listed is removed, a file somebody else put there is left alone. `prepare` is due once per content
(script, files, packages, environment): its hash is remembered only after it succeeded.
Limits: what an earlier `prepare` did outside the module directory is not undone.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mirror_agent.contract import Application
from mirror_agent.paths import replace_file
from mirror_agent.platform import HOST

OWN_DIRECTORY: Final = ".mirrorplane"
PREPARE: Final = "prepare"
START_PRIM: Final = "start_prim"
STOP_PRIM: Final = "stop_prim"
_SCRIPT_MODE: Final = 0o700
_NOTE_MODE: Final = 0o600


@dataclass(frozen=True)
class Module:
    """The installed module; `script` gives the path of one of its three scripts."""

    directory: Path
    content_hash: str

    def script(self, name: str) -> Path:
        return self.directory / OWN_DIRECTORY / f"{name}{HOST.SCRIPT_SUFFIX}"

    @property
    def _note(self) -> Path:
        return self.directory / OWN_DIRECTORY / "prepared"

    @property
    def is_prepared(self) -> bool:
        return self._note.exists() and self._note.read_text().strip() == self.content_hash

    def remember_prepared(self) -> None:
        replace_file(self._note, f"{self.content_hash}\n".encode(), _NOTE_MODE)


def content_hash(application: Application) -> str:
    """What `prepare` depends on."""
    body = {
        "prepare": application.prepare,
        "files": sorted((entry.path, entry.mode, entry.content) for entry in application.files),
        "packages": sorted(application.packages),
        "environment": dict(sorted(application.environment.items())),
    }
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def install(application: Application, directory: Path) -> Module:
    """Bring the module directory to the configuration; OSError when the disk refuses."""
    own = directory / OWN_DIRECTORY
    own.mkdir(parents=True, exist_ok=True)
    listing = own / "files.json"
    earlier: list[str] = json.loads(listing.read_text()) if listing.exists() else []
    current = [entry.path for entry in application.files]
    # The list first, as the union: a crash in the middle leaves no file behind that nobody knows.
    replace_file(listing, json.dumps(sorted({*earlier, *current})).encode(), _NOTE_MODE)
    for entry in application.files:
        _put(directory / entry.path, entry.content.encode(), int(entry.mode, 8))
    for vanished in set(earlier) - set(current):
        (directory / vanished).unlink(missing_ok=True)
    replace_file(listing, json.dumps(sorted(current)).encode(), _NOTE_MODE)
    module = Module(directory, content_hash(application))
    for name, text in (
        (PREPARE, application.prepare),
        (START_PRIM, application.start_prim),
        (STOP_PRIM, application.stop_prim),
    ):
        _put(module.script(name), HOST.script_bytes(text), _SCRIPT_MODE)
    return module


def _put(path: Path, content: bytes, mode: int) -> None:
    if path.is_file() and HOST.has_mode(path, mode) and path.read_bytes() == content:
        return
    replace_file(path, content, mode)
