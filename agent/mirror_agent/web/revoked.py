"""The client certificates this node refuses, as the control plane last told it. Kept over restarts.

A file that cannot be read refuses nobody and is said: the next heartbeat answer, seconds away, brings the list again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from mirror_agent.eventlog import RecordEvent
from mirror_agent.paths import replace_file

_MODE: Final = 0o600


class RevokedSerials:
    """Serials in upper-case hex without leading zeros, as `ssl.SSLSocket.getpeercert` gives them."""

    def __init__(self, file: Path, log: RecordEvent) -> None:
        self._file = file
        self._log = log
        self._serials = self._load()

    def __contains__(self, serial: object) -> bool:
        return isinstance(serial, str) and serial.lstrip("0") in self._serials

    def take(self, serials: tuple[str, ...] | None) -> None:
        """The whole list of a heartbeat answer; None says nothing. OSError of a full disk is logged, not raised:
        the list holds in memory and is written at the next change."""
        if serials is None:
            return
        wanted = frozenset(serial.lstrip("0") for serial in serials)
        if wanted == self._serials:
            return
        added = len(wanted - self._serials)
        self._serials = wanted
        self._log("console.revoked-list", serials=len(wanted), added=added)
        try:
            replace_file(self._file, json.dumps(sorted(wanted)).encode(), _MODE)
        except OSError as error:
            self._log("console.revoked-list-not-kept", error=str(error))

    def _load(self) -> frozenset[str]:
        try:
            return frozenset(str(serial) for serial in json.loads(self._file.read_bytes()))
        except FileNotFoundError:
            return frozenset()
        except (OSError, ValueError, TypeError) as error:
            self._log("console.revoked-list-unreadable", error=str(error))
            return frozenset()
