"""The fleet on one page, as the last audit left it: written whole, read in one query.

One partition. `change|NAME` notes that a cluster was made or removed since; `head` names the run whose text is valid;
`part|RUN|000…` hold that text, compressed. A run writes its parts under its own name, then the head, then removes the
parts of others: a reader in between finds the old text or the new one, or nothing (and reads the long way), never a
mixture. An audit removes the notes it has seen, under their ETags, once its text is there.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from itertools import islice
from typing import Final

from shared.store.keys import checked_key
from shared.store.ports import Changed, Noted, Posted
from shared.store.rows import MAX_TEXT_CHARS, Row, Rows, StoredRow, Value

BOARD: Final = "fleetboard"
_PARTITION: Final = "board"
_CHANGE: Final = "change|"
_HEAD: Final = "head"
_PART: Final = "part|"
_CHUNKS: Final = 14  # of a row: 14 x 32,768 characters of UTF-16 stay below the 1 MiB of an entity
_MAX_NOTES: Final = 20_000
_NOTES_REMOVED: Final = 200  # by one audit: one that is left repeats what the text says
_MAX_ROWS: Final = _MAX_NOTES + 200


def note(name: str, exists: bool) -> Row:
    """The row that tells of a cluster made or removed. The text decides nothing but that the row's ETag is another."""
    return Row(_PARTITION, checked_key(f"{_CHANGE}{name}"), {"exists": exists})


class TableBoard:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def noted(self) -> Noted:
        rows = await self._rows.scan(BOARD, _PARTITION, _MAX_NOTES, before=_PART)
        head = next((row for row in rows if row.key == _HEAD), None)
        etags = {row.key: row.etag for row in rows if row.key.startswith(_CHANGE)}
        return Noted("" if head is None else str(head.properties["digest"]), etags)

    async def post(self, run_id: str, text: str, noted: Noted) -> None:
        """`noted` was read before the clusters that `text` tells of. The same text again costs nothing."""
        digest = hashlib.sha256(text.encode()).hexdigest()
        if digest != noted.digest:
            parts = _parts(run_id, text)
            for part in parts:
                await self._rows.upsert(BOARD, [part])
            head: dict[str, Value] = {"digest": digest, "run": run_id, "parts": len(parts)}
            await self._rows.upsert(BOARD, [Row(_PARTITION, _HEAD, head)])
            keys = {key for _, key in await self._rows.scan_keys(BOARD, _PARTITION, f"{_PARTITION}!", _MAX_ROWS)}
            old = sorted(key for key in keys - {part.key for part in parts} if key.startswith(_PART))
            await self._rows.delete(BOARD, _PARTITION, old)
        for key, etag in islice(noted.etags.items(), _NOTES_REMOVED):
            try:
                await self._rows.delete_if(BOARD, _PARTITION, key, etag)
            except Changed:
                continue  # the cluster changed again meanwhile: the next audit's affair

    async def read(self) -> Posted | None:
        """None where nothing is posted, or a run is just posting."""
        rows = {row.key: row for row in await self._rows.scan(BOARD, _PARTITION, _MAX_ROWS)}
        head = rows.get(_HEAD)
        if head is None:
            return None
        prefix = f"{_PART}{head.properties['run']}|"
        parts = [row for key, row in sorted(rows.items()) if key.startswith(prefix)]
        if len(parts) != head.properties["parts"]:
            return None
        changes = {
            key.removeprefix(_CHANGE): bool(row.properties["exists"])
            for key, row in rows.items()
            if key.startswith(_CHANGE)
        }
        return Posted(_text(parts), str(head.properties["digest"]), changes)


def _parts(run_id: str, text: str) -> list[Row]:
    packed = base64.b64encode(zlib.compress(text.encode(), 1)).decode()
    chunks = [packed[start : start + MAX_TEXT_CHARS] for start in range(0, len(packed), MAX_TEXT_CHARS)]
    return [
        Row(
            _PARTITION,
            f"{_PART}{run_id}|{number:03d}",
            {f"doc{index}": chunk for index, chunk in enumerate(chunks[start : start + _CHUNKS])},
        )
        for number, start in enumerate(range(0, len(chunks), _CHUNKS))
    ]


def _text(parts: list[StoredRow]) -> str:
    packed = "".join(str(part.properties[f"doc{index}"]) for part in parts for index in range(_count(part)))
    return zlib.decompress(base64.b64decode(packed)).decode()


def _count(part: StoredRow) -> int:
    return sum(name.startswith("doc") for name in part.properties)
