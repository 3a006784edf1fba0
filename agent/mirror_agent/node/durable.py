"""The node's durable state in two checksummed slots, written alternately and flushed.

Guarantee: after a crash at any moment `load` returns the newest state whose write was complete; a torn write costs the
newer slot, never both. `save` returns only when the state would survive a power cut.
Limits: one writer. The state is small (MAX_BYTES); it is never a record of data, only of what this node may claim.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from mirror_agent.core.model import Durable
from mirror_agent.paths import SECRET_FILE_MODE, private_directory, replace_file
from mirror_agent.platform import HOST

MAX_BYTES: Final = 4096
_DURABLE: Final = TypeAdapter(Durable)


class DurableError(Exception):
    """The state on disk cannot be used; the message names the file and the remedy."""


class DurableStore:
    """`boot_id` tells a restart of the agent from a restart of the machine."""

    def __init__(self, directory: Path, *, boot_id: str) -> None:
        self._slots = (directory / "node-state.0", directory / "node-state.1")
        self._boot_id = boot_id
        self._generation = 0
        private_directory(directory)

    def load(self) -> Durable | None:
        """The newest complete state, or None on a node that never had one.

        A machine that restarted without an orderly stop comes back with `trusted=False`.
        Raises `DurableError` when slots exist and none of them is readable: guessing is not allowed here.
        """
        candidates: list[tuple[int, Durable]] = []
        present = [slot for slot in self._slots if slot.exists()]
        for slot in present:
            parsed = self._parse(slot)
            if parsed is not None:
                candidates.append(parsed)
        if not candidates:
            if present:
                raise DurableError(
                    f"neither {self._slots[0]} nor {self._slots[1]} is readable; if this node's data is not needed, "
                    "remove both and let it resynchronise from the peer"
                )
            return None
        self._generation, durable = max(candidates, key=lambda entry: entry[0])
        return durable

    def _parse(self, slot: Path) -> tuple[int, Durable] | None:
        raw = slot.read_bytes()
        if len(raw) > MAX_BYTES:
            return None
        checksum, _, body = raw.partition(b"\n")
        if checksum != b"%08x" % zlib.crc32(body):
            return None
        try:
            content = json.loads(body)
            durable = _DURABLE.validate_python(content["durable"])
            same_boot = content["boot_id"] == self._boot_id
            orderly = bool(content["orderly"])
            generation = int(content["generation"])
        except (KeyError, TypeError, ValueError, ValidationError):
            return None
        return generation, durable if same_boot or orderly else replace(durable, trusted=False)

    def save(self, durable: Durable, *, orderly: bool = False) -> None:
        """Write and flush. `orderly`: everything on this node is flushed, a restart of the machine loses nothing."""
        generation = self._generation + 1
        content = {
            "generation": generation,
            "boot_id": self._boot_id,
            "orderly": orderly,
            "durable": asdict(durable),
        }
        body = json.dumps(content, separators=(",", ":")).encode()
        raw = b"%08x\n" % zlib.crc32(body) + body
        assert len(raw) <= MAX_BYTES, "the durable state grew over its limit"
        replace_file(self._slots[generation % 2], raw, SECRET_FILE_MODE)
        self._generation = generation


def boot_id() -> str:
    """The kernel's identity of this boot."""
    return HOST.boot_id()


def sync_all() -> None:
    """Flush every file system of the machine."""
    HOST.sync_all()
