"""What people ordered on this node past the control plane, kept until that has it in its journal.

Problem: orders of the node's console and of `mirrorctl` are done at once, whether or not the control plane can be
reached; its journal and the cluster's story must hold them all the same, each once, in order.
Guarantee: every order the event log tells of becomes one note with a number that grows by one; notes are on the disk
before they are sent, and go only when the control plane said that it has recorded them. One that was begun when the
agent died becomes a note with the outcome `unknown`. Orders the control plane itself brought, and those the other node
has written down, are not noted.
Limits: MAX_KEPT notes; then the oldest refused one makes room, or the oldest; one that the control plane refuses by
itself is given up; the gap in the numbers tells of it. A disk that refuses to write is logged, and the notes are sent
all the same: only a restart could lose them then.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from mirror_agent.clock import BOOT_CLOCK, Clock
from mirror_agent.contract import MAX_ORDERS_PER_POST, MAX_SENTENCE_CHARS, OrderNote
from mirror_agent.eventlog import Event, RecordEvent
from mirror_agent.paths import SECRET_FILE_MODE, replace_file
from mirror_agent.web.actions import CONTROL_PLANE

MAX_KEPT: Final = 500
MAX_OPEN: Final = 64
RETRY_S: Final = 5.0
LOST_MESSAGE: Final = "the agent ended while it was carried out; look at the node's state"
Outcome = Literal["succeeded", "accepted", "refused", "failed", "unknown"]
_OUTCOMES: Final[dict[object, Outcome]] = {
    "succeeded": "succeeded",
    "accepted": "accepted",
    "refused": "refused",
    "failed": "failed",
}


class _Kept(BaseModel):
    """`open`: begun and not ended, by the order's identity."""

    model_config = ConfigDict(extra="forbid")

    series: str
    last: int = 0
    notes: list[OrderNote] = []
    open: dict[str, OrderNote] = {}


class OrderOutbox:
    """Used on the loop only; `save` writes in a thread."""

    def __init__(self, path: Path, log: RecordEvent, *, changed: Callable[[], None], clock: Clock = BOOT_CLOCK) -> None:
        """`changed`: there is a note to send."""
        self._path = path
        self._log = log
        self._changed = changed
        self._clock = clock
        self._failure = ""
        self._dirty = asyncio.Event()
        self._saving = asyncio.Lock()
        self._kept = _load(path, log)
        for note in self._kept.open.values():
            self._number(note.model_copy(update={"outcome": "unknown", "message": LOST_MESSAGE}))
        self._kept.open.clear()

    @property
    def series(self) -> str:
        return self._kept.series

    def hear(self, event: Event) -> None:
        """Every event of the log; most are none of ours."""
        match event["kind"]:
            case "command.begun" if event.get("principal") != CONTROL_PLANE:
                if len(self._kept.open) < MAX_OPEN:
                    self._kept.open[str(event.get("order"))] = _note(event, "unknown")
                    self._dirty.set()
            case "command.ended" if event.get("principal") != CONTROL_PLANE:
                self._kept.open.pop(str(event.get("order")), None)
                self._add(_note(event, _OUTCOMES.get(event.get("status"), "failed")))
            case "console.refused" if "action" in event:
                self._add(_note(event, "refused"))
            case "console.passed-on" if event.get("noted") is False:
                refused = event.get("status") == 401
                self._add(_note(event, "refused" if refused else "unknown"))

    def pending(self) -> tuple[OrderNote, ...]:
        """The oldest ones, as many as go into a post."""
        return tuple(self._kept.notes[:MAX_ORDERS_PER_POST])

    def recorded(self, through: int) -> None:
        left = [note for note in self._kept.notes if note.number > through]
        if len(left) != len(self._kept.notes):
            self._kept.notes = left
            self._dirty.set()

    def give_up(self, number: int, reason: str) -> None:
        """A note that would be refused for ever holds up no later one; the gap in the numbers tells of it."""
        for note in self._kept.notes:
            if note.number == number:
                self._kept.notes.remove(note)
                self._log("orders.given-up", number=number, action=note.action, who=note.who, reason=reason)
                self._dirty.set()
                return

    async def run(self) -> None:
        """Until cancelled: what changed is put on the disk at once, whether or not it can be sent."""
        while True:
            await self._dirty.wait()
            if not await self.save():
                await self._clock.sleep(RETRY_S)

    async def save(self) -> bool:
        """Puts on the disk what has changed; False if the disk refuses."""
        async with self._saving:
            if not self._dirty.is_set():
                return True
            self._dirty.clear()
            content = self._kept.model_dump_json().encode()
            try:
                await asyncio.to_thread(replace_file, self._path, content, SECRET_FILE_MODE)
            except OSError as error:
                self._dirty.set()
                failure = error.strerror or str(error)
                if failure != self._failure:
                    self._log("orders.not-written", path=str(self._path), error=failure)
                self._failure = failure
                return False
            self._failure = ""
            return True

    def _add(self, note: OrderNote) -> None:
        self._number(note)
        self._changed()

    def _number(self, note: OrderNote) -> None:
        kept = self._kept
        if len(kept.notes) >= MAX_KEPT:
            refused = next((index for index, one in enumerate(kept.notes) if one.code), 0)
            given_up = kept.notes.pop(refused)
            self._log("orders.given-up", number=given_up.number, action=given_up.action, who=given_up.who)
        kept.last += 1
        kept.notes.append(note.model_copy(update={"number": kept.last}))
        self._dirty.set()


def _note(event: Event, outcome: Outcome) -> OrderNote:
    def text(name: str, limit: int = MAX_SENTENCE_CHARS) -> str:
        """Half a surrogate pair, which JSON may bring, becomes a question mark: it could neither be stored nor sent."""
        return str(event.get(name) or "").encode("utf-8", "replace").decode()[:limit]

    return OrderNote(
        number=1,
        at_utc=text("utc", 40),
        action=text("action", 64),
        principal=text("principal", 200),
        who=text("who", 300),
        reason=text("why"),
        outcome=outcome,
        code=text("code", 64),
        message=text("message"),
    )


def _load(path: Path, log: RecordEvent) -> _Kept:
    """With nothing left to tell a new series begins, so that numbers the disk may have missed mean nothing."""
    fresh = _Kept(series=secrets.token_hex(8))
    try:
        kept = _Kept.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return fresh
    except ValidationError as error:
        aside = path.with_name(f"{path.name}.damaged")
        path.replace(aside)
        log("orders.damaged", path=str(aside), errors=error.error_count())
        return fresh
    return kept if kept.notes or kept.open else fresh
