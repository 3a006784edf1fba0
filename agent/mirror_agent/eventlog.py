"""The agent's structured event log: one JSON object a line, in a file of bounded size and on standard error.

Problem: the supervisor must never wait for a disk, because a stalled disk must not silence heartbeats.
Guarantee: `record` only appends to memory; one thread writes. Events of `record_decision` (role changes, witness
writes, operator requests) are flushed to the disk by that thread at once; `flush` waits for that, with a deadline.
Events carry `seq`, which grows for the life of the file set, also over restarts, so a reader can ask for what is new.
Limits: at most MAX_QUEUED events wait; further ones are counted and the count is reported by the next one written.
The event log explains; it is never the only record of a safety fact (that is the witness record and the epoch store).
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol, TextIO

from mirror_agent.redaction import redact

MAX_FILE_BYTES: Final = 8 * 1024 * 1024
KEPT_FILES: Final = 3
MAX_EVENT_BYTES: Final = 16 * 1024
MAX_QUEUED: Final = 4096
MAX_IN_MEMORY: Final = 1000
_LOADED_BYTES: Final = 1024 * 1024
assert MAX_EVENT_BYTES * 8 < MAX_FILE_BYTES, "a file must hold many events"

Event = dict[str, object]


class RecordEvent(Protocol):
    """What the parts of the agent need of the log."""

    def __call__(self, kind: str, /, **fields: object) -> None: ...


class EventLog:
    """Use `record` for what happened and `record_decision` for what was decided; `close` at the end."""

    def __init__(
        self, path: Path, *, stderr: TextIO | None = None, max_file_bytes: int = MAX_FILE_BYTES, kept: int = KEPT_FILES
    ) -> None:
        self._path = path
        self._stderr = sys.stderr if stderr is None else stderr
        self._max_file_bytes = max_file_bytes
        self._kept = kept
        self._changed = threading.Condition()
        self._queue: deque[tuple[Event, bool]] = deque()
        self._recent: deque[Event] = deque(_load(path), maxlen=MAX_IN_MEMORY)
        last = self._recent[-1]["seq"] if self._recent else 0
        self._seq = last if isinstance(last, int) else 0
        self._written = self._seq
        self._dropped = 0
        self._closing = False
        self._file_error: str | None = None
        self._listeners: list[Callable[[Event], None]] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        self._thread = threading.Thread(target=self._write_all, name="eventlog", daemon=True)
        self._thread.start()

    def record(self, kind: str, /, **fields: object) -> None:
        self._append(kind, fields, durable=False)

    def record_decision(self, kind: str, /, **fields: object) -> None:
        """As `record`, and the writer flushes it to the disk before it goes on."""
        self._append(kind, fields, durable=True)

    def listen(self, heard: Callable[[Event], None]) -> None:
        """`heard` gets every event from now on, also one the file has no room for, in the thread that records it."""
        self._listeners.append(heard)

    def tail(self, limit: int = 100) -> list[Event]:
        """The newest `limit` events, oldest first."""
        with self._changed:
            recent = list(self._recent)
        return recent[-limit:] if limit > 0 else []

    def after(self, seq: int, limit: int = 100) -> list[Event]:
        """At most `limit` events that came after `seq`, oldest first."""
        with self._changed:
            newer = [event for event in self._recent if isinstance(event["seq"], int) and event["seq"] > seq]
        return newer[:limit]

    def flush(self, deadline_s: float = 5.0) -> bool:
        """Wait until everything recorded so far was handed to the disk; False when that took longer."""
        with self._changed:
            target = self._seq
            return self._changed.wait_for(lambda: self._written >= target, timeout=deadline_s)

    def close(self, deadline_s: float = 5.0) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout=deadline_s)

    def _append(self, kind: str, fields: Mapping[str, object], *, durable: bool) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        clean = {name: redact(value, name) for name, value in fields.items()}
        for heard in self._listeners:
            heard({"utc": now, "kind": kind, **clean})
        with self._changed:
            if len(self._queue) >= MAX_QUEUED:
                self._dropped += 1
                return
            self._seq += 1
            event: Event = {"seq": self._seq, "utc": now, "kind": kind, **clean}
            if self._dropped:
                event["events_dropped_before"] = self._dropped
                self._dropped = 0
            self._queue.append((event, durable))
            self._recent.append(event)
            self._changed.notify_all()

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._queue) or self._closing)
                batch = list(self._queue)
                self._queue.clear()
                if not batch:
                    return
            lines = [_line(event) for event, _ in batch]
            self._to_file(lines, durable=any(durable for _, durable in batch))
            self._to_stderr(lines)
            with self._changed:
                last = batch[-1][0]["seq"]
                self._written = last if isinstance(last, int) else self._written
                self._changed.notify_all()

    def _to_file(self, lines: list[bytes], *, durable: bool) -> None:
        """A full or broken disk costs the file, never the agent: standard error still gets every line."""
        try:
            if self._path.exists() and self._path.stat().st_size > self._max_file_bytes:
                self._rotate()
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "ab") as stream:
                stream.write(b"".join(lines))
                stream.flush()
                if durable:
                    os.fsync(stream.fileno())
            self._file_error = None
        except OSError as error:
            if self._file_error is None:
                self._to_stderr([_line({"kind": "eventlog.file-failed", "path": str(self._path), "error": str(error)})])
            self._file_error = str(error)

    def _to_stderr(self, lines: list[bytes]) -> None:
        try:
            self._stderr.write(b"".join(lines).decode())
            self._stderr.flush()
        except (OSError, ValueError) as error:  # closed by whoever started us; the file is the log then
            self._file_error = self._file_error or f"standard error: {error}"

    def _rotate(self) -> None:
        for number in range(self._kept - 1, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            if older.exists():
                older.replace(self._path.with_name(f"{self._path.name}.{number + 1}"))
        self._path.replace(self._path.with_name(f"{self._path.name}.1"))


def _line(event: Event) -> bytes:
    text = json.dumps(event, separators=(",", ":"), ensure_ascii=False)
    if len(text.encode()) > MAX_EVENT_BYTES:
        short = {name: event[name] for name in ("seq", "utc", "kind") if name in event}
        text = json.dumps({**short, "cut": text[: MAX_EVENT_BYTES // 8]}, separators=(",", ":"), ensure_ascii=False)
    return text.encode(errors="replace") + b"\n"


def _load(path: Path) -> list[Event]:
    """The newest events of an earlier life; a torn last line (power loss) is left out."""
    lines: list[bytes] = []
    for candidate in (path.with_name(f"{path.name}.1"), path):
        if not candidate.exists():
            continue
        with candidate.open("rb") as stream:
            stream.seek(max(0, candidate.stat().st_size - _LOADED_BYTES))
            lines += stream.read().splitlines()
    events: list[Event] = []
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and isinstance(event.get("seq"), int):
            events.append(event)
    return events
